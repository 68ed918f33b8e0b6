//! A [`Memory`] in one file, by `redb` (registry-v1 §5).

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use redb::{Database, ReadableTable, TableDefinition, WriteTransaction};

use kvcap::{Code, Error, Lock, Memory, MemoryTable, Result, Transaction};

type Name = [u8; 32];

/// One number: the latest time seen.
const CLOCK: TableDefinition<(), u64> = TableDefinition::new("kvcap v1 clock");
/// Root to version and digest.
const REGISTRIES: TableDefinition<[u8; 16], (u64, Name)> =
    TableDefinition::new("kvcap v1 registries");
/// Names of capsules whose one use is over, to when they may be forgotten.
const USED: TableDefinition<Name, u64> = TableDefinition::new("kvcap v1 used");
/// The same by time, so that forgetting reads nothing else.
const FORGET: TableDefinition<(u64, Name), ()> = TableDefinition::new("kvcap v1 forget");
/// Names of sessions, to their highest number.
const SESSIONS: TableDefinition<Name, u64> = TableDefinition::new("kvcap v1 sessions");

/// A memory in a file, made where there is none. Whoever holds it is alone among all processes: the
/// others wait in [`RedbMemory::open`]. Take the time after that, not before.
pub(crate) struct RedbMemory {
    database: Database,
    path: PathBuf,
    /// Let go last.
    _lock: Lock,
}

impl RedbMemory {
    /// Opens the memory at `path`, and holds `path.lock` until it is dropped.
    ///
    /// # Errors
    /// KVC-940 where the file cannot be opened or is no memory: it is then not replaced by an empty one.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let lock = Lock::of(path)?;
        let failed = |error: redb::Error| wrong(path, &error);
        if !path
            .try_exists()
            .map_err(|error| Error::io(&error, path.display()))?
        {
            create(path)?;
        }
        Ok(Self {
            database: Database::open(path).map_err(|error| failed(error.into()))?,
            path: path.to_owned(),
            _lock: lock,
        })
    }
}

/// Made under another name and then renamed: a file that is there is whole.
fn create(path: &Path) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let name = PathBuf::from(name);
    let io = |error: std::io::Error| Error::io(&error, path.display());
    match fs::remove_file(&name) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let make = || -> Result<(), redb::Error> {
        let database = Database::create(&name)?;
        let transaction = database.begin_write()?;
        transaction.open_table(CLOCK)?.insert((), 0)?;
        Ok(transaction.commit()?)
    };
    make().map_err(|error| wrong(path, &error))?;
    fs::rename(&name, path).map_err(io)?;
    #[cfg(unix)]
    {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))
            .and_then(|folder| folder.sync_all())
            .map_err(io)?;
    }
    Ok(())
}

fn wrong(path: &Path, error: &redb::Error) -> Error {
    Error::new(
        Code::LocalIo,
        format!("the state file cannot be used: {error}"),
    )
    .at(path.display())
}

impl Memory for RedbMemory {
    fn transaction(&self, step: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        let wrong = |error: redb::Error| wrong(&self.path, &error);
        let transaction = self.database.begin_write();
        let mut tables = Tables {
            transaction: transaction.map_err(|error| wrong(error.into()))?,
            path: &self.path,
            changed: false,
        };
        step(&mut tables)?;
        // dropped without commit, a transaction changes nothing
        match tables.changed {
            true => tables
                .transaction
                .commit()
                .map_err(|error| wrong(error.into())),
            false => Ok(()),
        }
    }
}

/// The tables of one transaction.
struct Tables<'a> {
    transaction: WriteTransaction,
    path: &'a Path,
    changed: bool,
}

impl Tables<'_> {
    fn run<T>(&self, step: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T> {
        step(&self.transaction).map_err(|error| wrong(self.path, &error))
    }
}

impl Transaction for Tables<'_> {
    fn get(&self, table: MemoryTable, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let number = |number: u64| number.to_be_bytes().to_vec();
        self.run(|tables| {
            Ok(match table {
                MemoryTable::Clock => tables
                    .open_table(CLOCK)?
                    .get(())?
                    .map(|v| number(v.value())),
                MemoryTable::Registries => {
                    let table = tables.open_table(REGISTRIES)?;
                    let mark = table.get(part(key, 0))?;
                    mark.map(|mark| {
                        let (version, digest) = mark.value();
                        [&number(version)[..], &digest].concat()
                    })
                }
                MemoryTable::Used => {
                    let table = tables.open_table(USED)?;
                    table.get(part::<32>(key, 0))?.map(|v| number(v.value()))
                }
                MemoryTable::Forget => {
                    let table = tables.open_table(FORGET)?;
                    table.get(due(key))?.map(|_| Vec::new())
                }
                MemoryTable::Sessions => {
                    let table = tables.open_table(SESSIONS)?;
                    table.get(part::<32>(key, 0))?.map(|v| number(v.value()))
                }
            })
        })
    }

    fn first(&self, table: MemoryTable) -> Result<Option<Vec<u8>>> {
        self.run(|tables| {
            Ok(match table {
                MemoryTable::Clock => {
                    let table = tables.open_table(CLOCK)?;
                    table.first()?.map(|_| Vec::new())
                }
                MemoryTable::Registries => {
                    let table = tables.open_table(REGISTRIES)?;
                    table.first()?.map(|row| row.0.value().to_vec())
                }
                MemoryTable::Used => {
                    let table = tables.open_table(USED)?;
                    table.first()?.map(|row| row.0.value().to_vec())
                }
                MemoryTable::Forget => tables.open_table(FORGET)?.first()?.map(|row| {
                    let (until, name) = row.0.value();
                    [&until.to_be_bytes()[..], &name].concat()
                }),
                MemoryTable::Sessions => {
                    let table = tables.open_table(SESSIONS)?;
                    table.first()?.map(|row| row.0.value().to_vec())
                }
            })
        })
    }

    fn put(&mut self, table: MemoryTable, key: &[u8], value: &[u8]) -> Result<()> {
        self.changed = true;
        let number = u64::from_be_bytes(part(value, 0));
        self.run(|tables| {
            match table {
                MemoryTable::Clock => drop(tables.open_table(CLOCK)?.insert((), number)?),
                MemoryTable::Registries => {
                    let mark = (number, part(value, 8));
                    tables
                        .open_table(REGISTRIES)?
                        .insert(part::<16>(key, 0), mark)?;
                }
                MemoryTable::Used => {
                    let mut table = tables.open_table(USED)?;
                    table.insert(part::<32>(key, 0), number)?;
                }
                MemoryTable::Forget => {
                    let mut table = tables.open_table(FORGET)?;
                    table.insert(due(key), ())?;
                }
                MemoryTable::Sessions => {
                    let mut table = tables.open_table(SESSIONS)?;
                    table.insert(part::<32>(key, 0), number)?;
                }
            }
            Ok(())
        })
    }

    fn remove(&mut self, table: MemoryTable, key: &[u8]) -> Result<()> {
        self.changed = true;
        self.run(|tables| {
            match table {
                MemoryTable::Clock => drop(tables.open_table(CLOCK)?.remove(())?),
                MemoryTable::Registries => {
                    let mut table = tables.open_table(REGISTRIES)?;
                    table.remove(part::<16>(key, 0))?;
                }
                MemoryTable::Used => {
                    let mut table = tables.open_table(USED)?;
                    table.remove(part::<32>(key, 0))?;
                }
                MemoryTable::Forget => {
                    let mut table = tables.open_table(FORGET)?;
                    table.remove(due(key))?;
                }
                MemoryTable::Sessions => {
                    let mut table = tables.open_table(SESSIONS)?;
                    table.remove(part::<32>(key, 0))?;
                }
            }
            Ok(())
        })
    }
}

/// `N` bytes of a key or value of a ledger, whose widths are fixed.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let part = bytes.get(at..).and_then(|rest| rest.first_chunk());
    part.copied().unwrap_or([0; N])
}

fn due(key: &[u8]) -> (u64, Name) {
    (u64::from_be_bytes(part(key, 0)), part(key, 8))
}

impl std::fmt::Debug for RedbMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.path.display())
    }
}
