//! A [`Memory`] in one file (registry-v1 §5, REG-U-7).
//!
//! The whole file is read, and its digest compared, before anything is believed: a flipped bit in a database
//! could hide a use. It is replaced by renaming, so that it is always the one before a change or the one after.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::OpenOptions,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use kvcap::{Error, Memory, MemoryTable, Result, Transaction};

use crate::{
    lock::{Lock, Wait},
    memory_image::{Changes, Image, LONGEST},
    output::{self, Readers},
    private,
};

/// A memory in a file, made where there is none. Whoever holds it is alone among all processes: the
/// others wait in [`MemoryFile::open`]. Take the time after that, not before.
pub(crate) struct MemoryFile {
    image: Mutex<Image>,
    path: PathBuf,
    /// Let go last.
    _lock: Lock,
}

impl MemoryFile {
    /// Opens the memory at `path`, and holds `path.lock` until it is dropped.
    ///
    /// # Errors
    /// KVC-940 where the file cannot be opened, is damaged or no memory: it is then not replaced by an
    /// empty one. 943 where others may open it.
    pub(crate) fn open(path: &Path, wait: Wait) -> Result<Self> {
        let lock = Lock::of(path, wait)?;
        let image = match read(path)? {
            Some(content) => Image::parse(content).map_err(|error| error.at(path.display()))?,
            None => {
                let image = Image::empty();
                write(path, &image)?;
                image
            }
        };
        Ok(Self {
            image: Mutex::new(image),
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Returns the keys of a table.
    pub(crate) fn keys(&self, table: MemoryTable) -> Vec<Vec<u8>> {
        let image = self.image();
        image.keys(number(table), 0).map(<[u8]>::to_vec).collect()
    }

    fn image(&self) -> MutexGuard<'_, Image> {
        self.image.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The content of the file; `None` where there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let failed = |error| Error::source(&error, path.display());
    let file = match private::open(path, OpenOptions::new().read(true)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    private::check(&file, path)?;
    private::check_one_name(&file, path)?;
    let mut content = Vec::new();
    // one byte more is no memory any more
    let longest = u64::try_from(LONGEST).unwrap_or(u64::MAX);
    file.take(longest.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(failed)?;
    Ok(Some(content))
}

fn write(path: &Path, image: &Image) -> Result<()> {
    output::write(path, true, Readers::Owner, image.content())
}

impl Memory for MemoryFile {
    fn transaction(&self, step: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        let mut image = self.image();
        let mut tables = Tables {
            image: &image,
            put: BTreeMap::new(),
            removed: BTreeSet::new(),
            hidden: BTreeMap::new(),
        };
        step(&mut tables)?;
        let removed = tables.removed.into_iter().map(|name| (name, None));
        let put = tables.put.into_iter();
        let put = put.map(|(name, value)| (name, Some(value)));
        let changes: Changes = removed.chain(put).collect();
        if !changes.is_empty() {
            let changed = image.changed(&changes)?;
            write(&self.path, &changed)?;
            *image = changed;
        }
        Ok(())
    }
}

/// A table's number, and a key.
type Name = (u8, Vec<u8>);

/// The tables within one transaction: an image, and what is changed in it.
struct Tables<'a> {
    image: &'a Image,
    put: BTreeMap<Name, Vec<u8>>,
    removed: BTreeSet<Name>,
    /// The number of keys at the beginning of each table that were removed, and need not be looked at again.
    hidden: BTreeMap<u8, usize>,
}

impl Transaction for Tables<'_> {
    fn get(&self, table: MemoryTable, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let name = (number(table), key.to_vec());
        Ok(match self.put.get(&name) {
            Some(value) => Some(value.clone()),
            None if self.removed.contains(&name) => None,
            None => self.image.get(name.0, key).map(<[u8]>::to_vec),
        })
    }

    fn first(&self, table: MemoryTable) -> Result<Option<Vec<u8>>> {
        let table = number(table);
        let skip = self.hidden.get(&table).copied().unwrap_or(0);
        let there = |key: &&[u8]| !self.removed.contains(&(table, key.to_vec()));
        let old = self.image.keys(table, skip).find(there);
        let range = (table, Vec::new())..(table + 1, Vec::new());
        let new = self.put.range(range).next().map(|(name, _)| &*name.1);
        Ok(old.into_iter().chain(new).min().map(<[u8]>::to_vec))
    }

    fn registries(&self) -> Result<Vec<Vec<u8>>> {
        let table = number(MemoryTable::Registries);
        let there = |key: &&[u8]| !self.removed.contains(&(table, key.to_vec()));
        let old = self.image.keys(table, 0).filter(there);
        let new = self.put.range((table, Vec::new())..(table + 1, Vec::new()));
        let all: BTreeSet<&[u8]> = old.chain(new.map(|(name, _)| &*name.1)).collect();
        Ok(all.into_iter().map(<[u8]>::to_vec).collect())
    }

    fn put(&mut self, table: MemoryTable, key: &[u8], value: &[u8]) -> Result<()> {
        if self.get(table, key)?.as_deref() != Some(value) {
            let name = (number(table), key.to_vec());
            self.removed.remove(&name);
            self.put.insert(name, value.to_vec());
        }
        Ok(())
    }

    fn remove(&mut self, table: MemoryTable, key: &[u8]) -> Result<()> {
        let table = number(table);
        let name = (table, key.to_vec());
        self.put.remove(&name);
        self.removed.insert(name);
        let hidden = self.hidden.entry(table).or_default();
        if self.image.keys(table, *hidden).next() == Some(key) {
            *hidden += 1;
        }
        Ok(())
    }
}

/// A table's number in the file.
fn number(table: MemoryTable) -> u8 {
    match table {
        MemoryTable::Clock => 1,
        MemoryTable::Registries => 2,
        MemoryTable::Used => 3,
        MemoryTable::Forget => 4,
        MemoryTable::Sessions => 5,
        MemoryTable::Forgotten => 6,
        MemoryTable::Roots => 7,
    }
}

#[cfg(test)]
mod tests {
    use kvcap::InMemory;

    use super::*;

    /// The same steps on a memory in the process give the same answers, also after opening the file again.
    #[test]
    fn a_file_is_the_memory_that_a_process_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory");
        let model = InMemory::default();
        let mut seed = 1_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for round in 0..60_u64 {
            let steps: Vec<[u64; 3]> = (0..12).map(|_| [random(4), random(2), random(9)]).collect();
            let step = |tables: &mut dyn Transaction| {
                let mut answers = Vec::new();
                for [what, table, key] in &steps {
                    let table =
                        [MemoryTable::Forget, MemoryTable::Sessions][usize::from(*table > 0)];
                    let key = key.to_be_bytes();
                    match what {
                        0 => tables.put(table, &key, &round.to_be_bytes())?,
                        1 => tables.remove(table, &key)?,
                        2 => {
                            if let Some(first) = tables.first(table)? {
                                tables.remove(table, &first)?;
                            }
                        }
                        _ => answers.push(tables.get(table, &key)?),
                    }
                    answers.push(tables.first(table)?);
                }
                Ok(answers)
            };
            let mut both = Vec::new();
            let file = MemoryFile::open(&path, Wait::default()).unwrap();
            let memories: [&dyn Memory; 2] = [&model, &file];
            for memory in memories {
                memory
                    .transaction(&mut |tables| {
                        both.push(step(tables)?);
                        Ok(())
                    })
                    .unwrap();
            }
            assert_eq!(both[0], both[1]);
        }
    }

    #[test]
    fn a_step_that_fails_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory");
        let memory = MemoryFile::open(&path, Wait::default()).unwrap();
        let before = std::fs::read(&path).unwrap();
        let failed = memory.transaction(&mut |tables| {
            tables.put(MemoryTable::Clock, &[], &[1; 8])?;
            Err(Error::new(kvcap::Code::ClaimsReplayed, "no"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert!(memory.keys(MemoryTable::Clock).is_empty());
    }
}
