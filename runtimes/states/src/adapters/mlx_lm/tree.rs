//! Trees that mlx's `tree_flatten` wrote as dotted paths.

use kvcap::Result;

use kvcap_models::safetensors::{malformed, shown, unsupported};

/// Deepest path; a nested cache list's quantized keys have six numbers.
const MAX_DEPTH: usize = 12;

/// A list by position, or what stands at the end of a path.
#[derive(Debug)]
pub(crate) enum Tree<L> {
    Leaf(L),
    List(Vec<Tree<L>>),
}

impl<L> Tree<L> {
    /// The tree of dotted numbers; every list is whole and starts at 0.
    pub(crate) fn unflatten<'a>(items: impl Iterator<Item = (&'a str, L)>) -> Result<Self> {
        let mut root = Self::List(Vec::new());
        let mut paths = items
            .map(|(path, leaf)| Ok((numbers(path)?, path, leaf)))
            .collect::<Result<Vec<_>>>()?;
        // Ascending, so that each list grows at its end.
        paths.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (numbers, path, leaf) in paths {
            root.push(&numbers, leaf).ok_or_else(|| {
                malformed("the names do not form lists without gaps").at(shown(path))
            })?;
        }
        Ok(root)
    }

    fn push(&mut self, path: &[usize], leaf: L) -> Option<()> {
        let (first, rest) = path.split_first()?;
        let Self::List(list) = self else { return None };
        if list.len() == *first {
            if rest.is_empty() {
                list.push(Self::Leaf(leaf));
                return Some(());
            }
            list.push(Self::List(Vec::new()));
        }
        // A path that ends where another ended or goes on is refused by the recursion.
        match list.len().checked_sub(1) {
            Some(last) if last == *first => list.last_mut()?.push(rest, leaf),
            _ => None,
        }
    }

    /// The elements of a list.
    pub(crate) fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(list) => Some(list),
            Self::Leaf(_) => None,
        }
    }

    /// The leaf.
    pub(crate) fn leaf(&self) -> Option<&L> {
        match self {
            Self::Leaf(leaf) => Some(leaf),
            Self::List(_) => None,
        }
    }
}

/// The numbers of a dotted path, each as Python writes it.
pub(super) fn numbers(path: &str) -> Result<Vec<usize>> {
    let refuse = || unsupported("a name is not a path of numbers").at(shown(path));
    let mut numbers = Vec::new();
    for part in path.split('.') {
        let canonical = part == "0" || !part.starts_with('0');
        if numbers.len() == MAX_DEPTH
            || !canonical
            || !part.bytes().all(|byte| byte.is_ascii_digit())
        {
            return Err(refuse());
        }
        numbers.push(part.parse().map_err(|_| refuse())?);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::Tree;

    fn unflatten(paths: &[&str]) -> Option<Tree<()>> {
        Tree::unflatten(paths.iter().map(|path| (*path, ()))).ok()
    }

    #[test]
    fn whole_lists_become_trees_and_everything_else_is_refused() {
        let tree = unflatten(&["1", "0.1", "0.0", "2.0.0"]).unwrap();
        let list = tree.list().unwrap();
        assert_eq!(list.len(), 3);
        assert_eq!(list[0].list().unwrap().len(), 2);
        assert!(list[1].leaf().is_some());
        for wrong in [
            &["1"][..],
            &["0", "2"],
            &["0", "0"],
            &["0", "0.0"],
            &["0.0", "0"],
            &["00"],
            &["0."],
            &["", "0"],
            &["+0"],
            &["0.0.0.0.0.0.0.0.0.0.0.0.0"],
            &["99999999999999999999999"],
        ] {
            assert!(unflatten(wrong).is_none(), "{wrong:?}");
        }
    }
}
