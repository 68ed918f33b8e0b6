//! The two layouts of a prompt cache file, as one tree of values and a class a layer.
//!
//! Up to mlx-lm 0.31 a cache's numbers stand in the metadata as text; from 0.32 on they are 0-d
//! tensors, and a table in the metadata says which tensors are numbers, text or nothing.

use std::collections::BTreeMap;

use kvcap::Result;
use kvcap_codecs::Dtype;

use super::tree::{Tree, numbers};
use crate::state::{
    ReadAt,
    file::{read_at, size},
};
use kvcap_models::safetensors::{Header, Tensor, malformed, shown, unsupported};

/// Longest text that a state holds: the name of a class.
const MAX_TEXT: u64 = 64;

/// What stands at a path of the state.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Array(&'a Tensor),
    Number(i64),
    Text(String),
    None,
    /// A scalar of another type than a whole number.
    Other,
}

/// The layout's name, and for each cache its class, state and numbers.
pub(super) struct Layout<'a> {
    pub format: &'static str,
    pub classes: Vec<String>,
    pub states: Vec<Tree<Value<'a>>>,
    /// `meta_state` of every cache; only up to 0.31.
    pub infos: Option<Vec<Tree<&'a str>>>,
}

/// Whether the metadata is a prompt cache's, and of which layout.
pub(super) fn is_032(header: &Header) -> Option<bool> {
    // 0.32 opens its third list with an empty text; up to 0.31 it holds the classes.
    let first = header.metadata.get("2.0")?;
    let class = if first.is_empty() { "1.0" } else { "2.0" };
    let class = header.metadata.get(class)?;
    let named = class.contains("Cache");
    named.then_some(first.is_empty())
}

impl<'a> Layout<'a> {
    pub(super) fn read(header: &'a Header, file: &dyn ReadAt) -> Result<Self> {
        let Some(new) = is_032(header) else {
            return Err(unsupported(
                "the metadata is not that of a known prompt cache layout",
            ));
        };
        let mut parts: [BTreeMap<&str, &str>; 3] = Default::default();
        for (key, value) in &header.metadata {
            let part = key
                .split_once('.')
                .and_then(|(part, rest)| match part {
                    "0" => Some((0, rest)),
                    "1" => Some((1, rest)),
                    "2" => Some((2, rest)),
                    _ => None,
                })
                .ok_or_else(|| unsupported("unknown metadata").at(shown(key)))?;
            parts[part.0].insert(part.1, value);
        }
        let [first, second, third] = parts;
        let (kinds, classes, infos) = if new {
            (kinds(&third)?, second, None)
        } else {
            (BTreeMap::new(), third, Some(first))
        };
        let classes = elements(Tree::unflatten(classes.into_iter())?)?
            .into_iter()
            .map(|class| match class {
                Tree::Leaf(name) => Ok(name.to_owned()),
                Tree::List(_) => Err(malformed("a class is not a name").at("metadata")),
            })
            .collect::<Result<Vec<_>>>()?;
        let mut kinds = kinds;
        let mut values = Vec::with_capacity(header.tensors.len());
        for tensor in &header.tensors {
            let value = match kinds.remove(tensor.name.as_str()) {
                None => Value::Array(tensor),
                Some(kind) => value(kind, tensor, file)?,
            };
            values.push((tensor.name.as_str(), value));
        }
        if let Some((path, _)) = kinds.pop_first() {
            return Err(malformed("the metadata names a tensor that is not there").at(shown(path)));
        }
        let Some(infos) = infos else {
            let states = elements(Tree::unflatten(values.into_iter())?)?;
            if states.len() != classes.len() {
                return Err(malformed("classes and states are not equally many")
                    .sides(classes.len(), states.len()));
            }
            return Ok(Self {
                format: "mlx-lm-0.32",
                classes,
                states,
                infos: None,
            });
        };
        let swift = is_swift(&infos, &classes, header);
        if infos.is_empty() && !swift {
            return Err(unsupported(
                "no numbers of the caches are there, as in early versions of mlx-swift-lm",
            ));
        }
        let states = by_cache(values.into_iter(), classes.len(), swift)?;
        let infos = by_cache(infos.into_iter(), classes.len(), swift)?;
        Ok(Self {
            format: if swift { "mlx-swift-lm" } else { "mlx-lm-0.31" },
            classes,
            states,
            infos: Some(infos),
        })
    }
}

/// Whether mlx-swift-lm wrote the metadata: it lists the numbers of every cache, also of one that has none
/// (early versions leave those out), and the parts of quantized keys and values side by side.
fn is_swift(infos: &BTreeMap<&str, &str>, classes: &[String], header: &Header) -> bool {
    let lists = infos.keys().all(|path| path.matches('.').count() == 1);
    let own = |(layer, class): (usize, &String)| match class.as_str() {
        "RotatingKVCache" => false,
        "QuantizedKVCache" => header
            .tensors
            .iter()
            .any(|t| t.name == format!("{layer}.5")),
        "ChunkedKVCache" => infos.get(format!("{layer}.0").as_str()) == Some(&"None"),
        _ => true,
    };
    lists && (0..).zip(classes).any(own)
}

/// The trees of dotted paths by their first number, one for each of `count` caches; a cache that has no
/// path is an empty list where `gaps` are allowed.
fn by_cache<'p, L>(
    items: impl Iterator<Item = (&'p str, L)>,
    count: usize,
    gaps: bool,
) -> Result<Vec<Tree<L>>> {
    if !gaps {
        let trees = elements(Tree::unflatten(items)?)?;
        return match trees.len() == count {
            true => Ok(trees),
            false => Err(
                malformed("classes, states and their numbers are not equally many")
                    .sides(count, trees.len()),
            ),
        };
    }
    let mut groups: Vec<Vec<(&str, L)>> = (0..count).map(|_| Vec::new()).collect();
    for (path, leaf) in items {
        let cache = numbers(path)?.first().copied();
        let group = cache.and_then(|at| groups.get_mut(at));
        match (group, path.split_once('.')) {
            (Some(group), Some((_, rest))) => group.push((rest, leaf)),
            _ => return Err(malformed("a path names no cache").at(shown(path))),
        }
    }
    groups
        .into_iter()
        .map(|group| Tree::unflatten(group.into_iter()))
        .collect()
}

fn elements<L>(tree: Tree<L>) -> Result<Vec<Tree<L>>> {
    match tree {
        Tree::List(list) => Ok(list),
        Tree::Leaf(_) => Err(malformed("a list was expected")),
    }
}

/// Which tensors are not arrays: `2.<j>.0` names one, `2.<j>.1` says what it is.
fn kinds<'a>(third: &BTreeMap<&'a str, &'a str>) -> Result<BTreeMap<&'a str, &'a str>> {
    let tree = Tree::unflatten(third.iter().map(|(path, text)| (*path, *text)))?;
    let mut kinds = BTreeMap::new();
    for pair in elements(tree)?.iter().skip(1) {
        let Some([Tree::Leaf(path), Tree::Leaf(kind)]) = pair.list() else {
            return Err(malformed("an entry of the table of scalars is not a pair"));
        };
        if kinds.insert(*path, *kind).is_some() {
            return Err(malformed("a tensor stands twice in the table of scalars").at(shown(path)));
        }
    }
    Ok(kinds)
}

/// Reads a tensor that is a number, a text or nothing.
fn value<'a>(kind: &str, tensor: &Tensor, file: &dyn ReadAt) -> Result<Value<'a>> {
    let wrong =
        || malformed("a tensor is not what the table of scalars says").at(shown(&tensor.name));
    match kind {
        "scalar" if tensor.shape.is_empty() => match tensor.dtype {
            Dtype::I32 => {
                let mut bytes = [0; 4];
                read_at(file, tensor.offset, &mut bytes)?;
                Ok(Value::Number(i32::from_le_bytes(bytes).into()))
            }
            Dtype::I64 => {
                let mut bytes = [0; 8];
                read_at(file, tensor.offset, &mut bytes)?;
                Ok(Value::Number(i64::from_le_bytes(bytes)))
            }
            _ => Ok(Value::Other),
        },
        "none" if tensor.shape == [0] => Ok(Value::None),
        "string" if tensor.dtype == Dtype::I32 && tensor.len <= 4 * MAX_TEXT => {
            let mut bytes = vec![0; size(tensor.len)?];
            read_at(file, tensor.offset, &mut bytes)?;
            let (chars, _) = bytes.as_chunks::<4>();
            chars
                .iter()
                .map(|code| char::from_u32(u32::from_le_bytes(*code)))
                .collect::<Option<String>>()
                .map(Value::Text)
                .ok_or_else(wrong)
        }
        "scalar" | "none" | "string" => Err(wrong()),
        other => Err(unsupported("an unknown kind of scalar").at(shown(other))),
    }
}
