//! The bytes of a memory's file (registry-v1 REG-U-7), and what stands in them.
//!
//! ```text
//! "kvcap memory 1\n" ‖ entries ‖ B3("kvcap v1 memory", all before)
//! entry = table (1) ‖ length of key (1) ‖ length of value (1) ‖ key ‖ value, ascending by table and key
//! ```

use std::collections::BTreeMap;

use kvcap::{Code, Error, Result, binding::Digest};

const MAGIC: &[u8] = b"kvcap memory 1\n";
const DIGEST: usize = 32;

/// Longest file of a memory: some six million sessions.
pub(crate) const LONGEST: usize = 256 << 20;

/// Entries that are set, or removed where there is no value.
pub(crate) type Changes = BTreeMap<(u8, Vec<u8>), Option<Vec<u8>>>;

/// A whole memory, held as its file, whose digest has been compared.
#[derive(Debug)]
pub(crate) struct Image {
    content: Vec<u8>,
    /// Where each entry begins.
    starts: Vec<usize>,
}

#[derive(Clone, Copy)]
struct Entry<'a> {
    table: u8,
    key: &'a [u8],
    value: &'a [u8],
}

impl Image {
    /// The image of a memory that holds nothing.
    pub(crate) fn empty() -> Self {
        let mut image = Self::begun();
        image.end();
        image
    }

    /// # Errors
    /// KVC-940 where a bit is not as it was written.
    pub(crate) fn parse(content: Vec<u8>) -> Result<Self> {
        let damaged = || {
            let what = "the file is no memory of a verifier, or is damaged";
            Error::new(Code::LocalIo, what)
        };
        let (body, sum) = content
            .split_last_chunk::<DIGEST>()
            .filter(|(body, _)| body.starts_with(MAGIC))
            .ok_or_else(damaged)?;
        if digest(body) != *sum {
            return Err(damaged());
        }
        let (mut at, mut starts) = (MAGIC.len(), Vec::new());
        let mut last: Option<Entry<'_>> = None;
        while at < body.len() {
            let entry = entry(body, at).ok_or_else(damaged)?;
            if last.is_some_and(|last| last.name() >= entry.name()) {
                return Err(damaged());
            }
            starts.push(at);
            at += entry.len();
            last = Some(entry);
        }
        Ok(Self { content, starts })
    }

    /// The bytes of the file.
    pub(crate) fn content(&self) -> &[u8] {
        &self.content
    }

    pub(crate) fn get(&self, table: u8, key: &[u8]) -> Option<&[u8]> {
        let index = self.starts.partition_point(|at| {
            self.entry(*at)
                .is_some_and(|entry| entry.name() < (table, key))
        });
        let entry = self.entry(*self.starts.get(index)?)?;
        (entry.name() == (table, key)).then_some(entry.value)
    }

    /// The keys of a table, from the one numbered `skip` on.
    pub(crate) fn keys(&self, table: u8, skip: usize) -> impl Iterator<Item = &[u8]> {
        let before = |at: &usize| self.entry(*at).is_some_and(|entry| entry.table < table);
        let first = self.starts.partition_point(before);
        let rest = self.starts.get(first.saturating_add(skip)..);
        let entries = rest.unwrap_or_default().iter();
        entries
            .filter_map(|at| self.entry(*at))
            .take_while(move |entry| entry.table == table)
            .map(|entry| entry.key)
    }

    /// # Errors
    /// KVC-940 where the ledger is full.
    pub(crate) fn changed(&self, changes: &Changes) -> Result<Self> {
        let mut image = Self::begun();
        let mut changes = changes
            .iter()
            .map(|((table, key), value)| ((*table, key.as_slice()), value.as_deref()))
            .peekable();
        let set = |image: &mut Self, (table, key), value: Option<&[u8]>| match value {
            Some(value) => image.push(Entry { table, key, value }),
            None => Ok(()),
        };
        for old in self.starts.iter().filter_map(|at| self.entry(*at)) {
            while let Some((name, value)) = changes.next_if(|(name, _)| *name < old.name()) {
                set(&mut image, name, value)?;
            }
            match changes.next_if(|(name, _)| *name == old.name()) {
                Some((name, value)) => set(&mut image, name, value)?,
                None => image.push(old)?,
            }
        }
        for (name, value) in changes {
            set(&mut image, name, value)?;
        }
        image.end();
        Ok(image)
    }

    /// An image without its digest.
    fn begun() -> Self {
        Self {
            content: MAGIC.to_vec(),
            starts: Vec::new(),
        }
    }

    fn push(&mut self, entry: Entry<'_>) -> Result<()> {
        let full = |_| Error::new(Code::LocalIo, "an entry is too long for the ledger");
        let key = u8::try_from(entry.key.len()).map_err(full)?;
        let value = u8::try_from(entry.value.len()).map_err(full)?;
        if self.content.len() + entry.len() + DIGEST > LONGEST {
            return Err(Error::new(Code::LocalIo, "the ledger is full"));
        }
        self.starts.push(self.content.len());
        self.content.extend([entry.table, key, value]);
        self.content.extend_from_slice(entry.key);
        self.content.extend_from_slice(entry.value);
        Ok(())
    }

    fn end(&mut self) {
        let sum = digest(&self.content);
        self.content.extend(sum);
    }

    fn entry(&self, at: usize) -> Option<Entry<'_>> {
        entry(&self.content, at)
    }
}

impl<'a> Entry<'a> {
    fn name(self) -> (u8, &'a [u8]) {
        (self.table, self.key)
    }

    fn len(self) -> usize {
        3 + self.key.len() + self.value.len()
    }
}

fn entry(content: &[u8], at: usize) -> Option<Entry<'_>> {
    let (&[table, key, value], rest) = content.get(at..)?.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(key.into())?;
    let (value, _) = rest.split_at_checked(value.into())?;
    Some(Entry { table, key, value })
}

fn digest(body: &[u8]) -> [u8; DIGEST] {
    Digest::labelled("kvcap v1 memory", &[body]).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(changes: &mut Changes, table: u8, key: &[u8], value: Option<&[u8]>) {
        changes.insert((table, key.to_vec()), value.map(<[u8]>::to_vec));
    }

    #[test]
    fn changes_are_merged_in_order() {
        let mut changes = Changes::new();
        for (table, key) in [(3, "b"), (1, "z"), (3, "d"), (2, "")] {
            set(&mut changes, table, key.as_bytes(), Some(key.as_bytes()));
        }
        let image = Image::empty().changed(&changes).unwrap();
        let mut changes = Changes::new();
        set(&mut changes, 3, b"a", Some(b"1"));
        set(&mut changes, 3, b"b", None);
        set(&mut changes, 3, b"d", Some(b"4"));
        set(&mut changes, 3, b"e", Some(b"5"));
        set(&mut changes, 9, b"never there", None);
        let image = image.changed(&changes).unwrap();
        let again = Image::parse(image.content().to_vec()).unwrap();
        assert_eq!(again.starts, image.starts);
        assert_eq!(again.keys(3, 0).collect::<Vec<_>>(), [b"a", b"d", b"e"]);
        assert_eq!(again.keys(3, 2).collect::<Vec<_>>(), [b"e"]);
        assert_eq!(again.keys(4, 0).count() + again.keys(3, 9).count(), 0);
        assert_eq!(again.get(3, b"d"), Some(&b"4"[..]));
        assert_eq!(again.get(1, b"z"), Some(&b"z"[..]));
        assert_eq!(again.get(2, b""), Some(&b""[..]));
        assert_eq!(again.get(3, b"b"), None);
        assert_eq!(again.get(9, b"never there"), None);
    }

    #[test]
    fn only_its_own_form_is_a_memory() {
        let seal = |body: &[u8]| {
            [
                &[MAGIC, body].concat()[..],
                &digest(&[MAGIC, body].concat()),
            ]
            .concat()
        };
        assert!(Image::parse(seal(b"")).is_ok());
        assert!(Image::parse(seal(&[1, 0, 1, 7])).is_ok());
        for body in [
            &[1][..],
            &[1, 0, 2, 7],
            &[2, 0, 0, 1, 0, 0],
            &[1, 0, 0, 1, 0, 0],
        ] {
            assert!(Image::parse(seal(body)).is_err(), "{body:?}");
        }
    }
}
