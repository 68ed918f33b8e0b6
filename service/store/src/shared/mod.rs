//! One store and one ledger for many servers (http-v1 §8): bytes in a bucket of any object store, all else in
//! PostgreSQL; before both, where there is one, an edge that may forget all it has.
//!
//! ```text
//! claim: a lease on the name, in the database ─→ bytes to an object of this lease ─→ verified ─→ the object appears
//!                                                                                  ─→ lease out, row in: one transaction
//! ```
//!
//! An object has a key that no other ever has, and its content never changes. A row names an object only after it is
//! whole, and a lease that was lost cannot end in a row. Whatever dies in between leaves an object without a row, which
//! the lease or the list of garbage names, and [`CapsuleStore::sweep`] removes.

use std::{
    fmt::{self, Debug},
    fs::OpenOptions,
    path::Path,
    sync::Arc,
};

use kvcap::{Code, Error, Ledger, Limits, Result};
use zeroize::Zeroizing;

use self::{
    blocking::Blocking, bucket::Bucket, database::Database, edge::ValkeyEdge, ledger::SharedMemory,
    store::SharedStore, valkey::Valkey, versions::SharedOrder,
};
use crate::{
    CapsuleStore, LedgerSource, VersionStore,
    edge::{Edge, EdgeSettings},
    private,
};

mod blocking;
mod bucket;
mod catalog;
mod database;
mod edge;
mod ledger;
mod store;
mod tls;
mod valkey;
mod versions;

/// Longest file of an address, in bytes.
const LONGEST: u64 = 4096;

/// A bucket and a database that servers share.
#[derive(Clone)]
pub struct Shared {
    bucket: Arc<Bucket>,
    database: Arc<Database>,
    edge: Option<Arc<ValkeyEdge>>,
}

impl Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    /// Connects to the database that the private file `database` gives the address of
    /// (`postgres://USER:PASSWORD@HOST/NAME`, or `host=… user=…`), and to a bucket by its URL: `s3://`, `gs://`, `az://`,
    /// `file://`. Who it is to the bucket, the environment says, in the variables of that service's own tools. Makes the
    /// tables where there are none.
    ///
    /// # Errors
    /// KVC-943 where others can read the file; 945 for an address that is none; 940 where one of the two cannot be
    /// reached.
    pub fn connect(database: &Path, bucket: &str) -> Result<Self> {
        let blocking = Blocking::new()?;
        let address = read(database)?;
        let database = Database::connect(&address, blocking.clone())
            .map_err(|error| error.at(database.display()))?;
        Ok(Self {
            bucket: Arc::new(Bucket::at(bucket, blocking)?),
            database: Arc::new(database),
            edge: None,
        })
    }

    /// Puts an edge before bucket and database: a Valkey, or a Redis from version 6 on. One that cannot be reached now is
    /// asked later.
    ///
    /// # Errors
    /// KVC-943 where others can read the file; 945 for an address that is none; 940 for file and database.
    pub fn with_edge(self, settings: &EdgeSettings) -> Result<Self> {
        let address = read(&settings.address)?;
        let valkey = Valkey::at(&address, self.database.blocking.clone())
            .map_err(|error| error.at(settings.address.display()))?;
        let edge = ValkeyEdge::new(valkey, self.database.edge_key()?, settings);
        Ok(Self {
            edge: Some(Arc::new(edge)),
            ..self
        })
    }

    /// Returns the edge, if there is one.
    #[must_use]
    pub fn edge(&self) -> Option<Arc<dyn Edge>> {
        self.edge.clone().map(|edge| edge as Arc<dyn Edge>)
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> Arc<dyn CapsuleStore> {
        Arc::new(self.as_store())
    }

    /// Returns the order of sessions' versions.
    #[must_use]
    pub fn versions(&self) -> Arc<dyn VersionStore> {
        Arc::new(SharedOrder(Arc::clone(&self.database)))
    }

    fn as_store(&self) -> SharedStore {
        SharedStore {
            bucket: Arc::clone(&self.bucket),
            database: Arc::clone(&self.database),
            edge: self.edge.clone(),
        }
    }

    /// Returns the number of objects in the bucket.
    ///
    /// # Errors
    /// KVC-940.
    pub fn objects(&self) -> Result<u64> {
        let objects = self.bucket.list()?;
        Ok(u64::try_from(objects.len()).unwrap_or(u64::MAX))
    }

    /// Makes rows for all objects that have none, by their headers: the index, from the bucket alone. Returns their
    /// number. An object that is no whole capsule within `limits` is left as it is. What was deleted, and not yet removed
    /// from the bucket when the index was lost, comes back.
    ///
    /// # Errors
    /// KVC-940.
    pub fn rebuild(&self, limits: &Limits) -> Result<usize> {
        self.as_store().rebuild(limits)
    }
}

/// The ledger that all servers of one database have.
impl LedgerSource for Shared {
    fn open(&self) -> Result<Ledger> {
        Ok(Ledger::new(SharedMemory(Arc::clone(&self.database))))
    }
}

/// The content of a private file of one line.
fn read(path: &Path) -> Result<Zeroizing<String>> {
    let failed = |error| Error::source(&error, path.display());
    let file = private::open(path, OpenOptions::new().read(true)).map_err(failed)?;
    private::check(&file, path)?;
    let text = private::text(&file, path, LONGEST, Code::LocalConfig)?;
    match text.trim().is_empty() {
        true => Err(Error::new(Code::LocalConfig, "the file is empty").at(path.display())),
        false => Ok(Zeroizing::new(text.trim().to_owned())),
    }
}
