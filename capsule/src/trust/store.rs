//! A [`Ledger`] in one file, by `redb` (registry-v1 §5).

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use redb::{
    Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction,
};

use crate::{
    digest::Digest,
    error::{Error, Result},
    keys::KeyId,
    trust::{
        ledger::{self, Ledger, Usage},
        lock::Lock,
        registry::{Mark, Registry},
    },
};

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
/// others wait in [`Store::open`]. Take the time after that, not before.
pub struct Store {
    database: Database,
    path: PathBuf,
    /// Let go last.
    _lock: Lock,
}

impl Store {
    /// Opens the memory at `path`, and holds `path.lock` until it is dropped.
    ///
    /// # Errors
    /// KVC-940 where the file cannot be opened or is no memory: it is then not replaced by an empty one.
    pub fn open(path: &Path) -> Result<Self> {
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

    fn change<T>(&self, step: impl FnOnce(&WriteTransaction) -> Result<T, Stop>) -> Result<T> {
        // dropped without commit, a transaction changes nothing
        let run = || {
            let transaction = self.database.begin_write()?;
            let value = step(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(|stop| self.refusal(stop))
    }

    fn refusal(&self, stop: Stop) -> Error {
        match stop {
            Stop::Refused(error) => error,
            Stop::Failed(error) => wrong(&self.path, &error),
        }
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

/// Why a step did not go through.
enum Stop {
    Refused(Error),
    Failed(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

fn refused(error: Error) -> Stop {
    Stop::Refused(error)
}

fn wrong(path: &Path, error: &redb::Error) -> Error {
    Error::new(
        crate::error::Code::LocalIo,
        format!("the state file cannot be used: {error}"),
    )
    .at(path.display())
}

impl Ledger for Store {
    fn observe(&self, now: u64) -> Result<u64> {
        self.change(|transaction| {
            let mut clock = transaction.open_table(CLOCK)?;
            let latest = clock.get(())?.map_or(0, |latest| latest.value());
            let time = ledger::clock(now, latest).map_err(refused)?;
            clock.insert((), time)?;
            Ok(time)
        })
    }

    fn seen(&self, root: KeyId) -> Result<Option<Mark>> {
        let read = || {
            let transaction = self.database.begin_read()?;
            let table = match transaction.open_table(REGISTRIES) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            let mark = table.get(root.0)?.map(|mark| mark.value());
            Ok(mark.map(|(version, digest)| Mark {
                root,
                version,
                digest: Digest(digest),
            }))
        };
        read().map_err(|stop| self.refusal(stop))
    }

    fn follow(&self, registry: &Registry) -> Result<()> {
        let mark = registry.mark();
        self.change(|transaction| {
            let mut table = transaction.open_table(REGISTRIES)?;
            let seen = table.get(mark.root.0)?.map(|seen| seen.value());
            if let Some((version, digest)) = seen {
                let seen = Mark {
                    root: mark.root,
                    version,
                    digest: Digest(digest),
                };
                registry.follows(&seen).map_err(refused)?;
            }
            table.insert(mark.root.0, (mark.version, mark.digest.0))?;
            Ok(())
        })
    }

    fn check(&self, usage: &Usage) -> Result<()> {
        let transaction = self.database.begin_write();
        let look = || check(&transaction?, usage);
        look().map_err(|stop| self.refusal(stop))
    }

    fn record(&self, usage: &Usage) -> Result<()> {
        self.change(|transaction| {
            check(transaction, usage)?;
            let mut used = transaction.open_table(USED)?;
            let mut forget = transaction.open_table(FORGET)?;
            let over = (0, [0; 32])..=(usage.now, [0xFF; 32]);
            for entry in forget.extract_from_if(over, |_, ()| true)? {
                let (_, name) = entry?.0.value();
                used.remove(name)?;
            }
            if let Some((name, until)) = usage.once {
                used.insert(name.0, until)?;
                forget.insert((until, name.0), ())?;
            }
            if let Some((session, number)) = usage.sequence {
                transaction
                    .open_table(SESSIONS)?
                    .insert(session.0, number)?;
            }
            Ok(())
        })
    }
}

fn check(transaction: &WriteTransaction, usage: &Usage) -> Result<(), Stop> {
    if let Some((name, _)) = usage.once
        && transaction.open_table(USED)?.get(name.0)?.is_some()
    {
        return Err(refused(ledger::used()));
    }
    if let Some((session, number)) = usage.sequence {
        let sessions = transaction.open_table(SESSIONS)?;
        let highest = sessions
            .get(session.0)?
            .map_or(0, |highest| highest.value());
        ledger::sequence(number, highest).map_err(refused)?;
    }
    Ok(())
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.path.display())
    }
}
