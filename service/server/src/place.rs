//! Where a relay keeps what it keeps (http-v1 §8).

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use kvcap::{Code, Error, Limits, Result};
use kvcap_store::{
    CapsuleStore, Edge, EdgeSettings, FolderStore, LedgerSource, VersionStore, Wait, private,
};

/// A place where capsules are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Folder of this machine, for one relay.
    Folder(PathBuf),
    /// Bucket and database, for any number of relays.
    Shared {
        /// Private file with the database's address.
        database: PathBuf,
        /// URL of the bucket.
        bucket: String,
        /// Cache before both, if there is one.
        edge: Option<EdgeSettings>,
    },
}

/// A place that is open.
pub(crate) struct Open {
    /// What is kept.
    pub(crate) store: Arc<dyn CapsuleStore>,
    /// In which order it is sessions' versions.
    pub(crate) order: Arc<dyn VersionStore>,
    /// What all relays of it remember, if it is shared.
    pub(crate) ledger: Option<Arc<dyn LedgerSource>>,
    /// What is before it, if something is.
    pub(crate) edge: Option<Arc<dyn Edge>>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Shared { bucket, .. } => f.write_str(bucket),
        }
    }
}

impl Place {
    /// Makes sure that a folder that is there is one of one user.
    ///
    /// # Errors
    /// KVC-945, 940.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::Folder(folder) if folder.symlink_metadata().is_ok() => private::folder(folder),
            _ => Ok(()),
        }
    }

    /// Makes the index of a bucket again, by the headers of its capsules. Returns the number of capsules that were not in
    /// it.
    ///
    /// # Errors
    /// KVC-944 for a folder, whose files are read each time; as for opening it.
    pub fn rebuild(&self, limits: &crate::Limits) -> Result<usize> {
        match self {
            Self::Folder(_) => {
                let what = "a folder has no index: its files are read when a relay begins";
                Err(Error::new(Code::LocalUsage, what))
            }
            Self::Shared {
                database, bucket, ..
            } => rebuild(database, bucket, &limits.reader()),
        }
    }

    /// Opens it.
    ///
    /// # Errors
    /// Those of its kind; KVC-944 where this program was built without what relays share.
    pub(crate) fn open(&self, limits: &Limits) -> Result<Open> {
        match self {
            Self::Folder(folder) => {
                let store = Arc::new(FolderStore::open(folder, Wait::default(), limits)?);
                Ok(Open {
                    store: Arc::<FolderStore>::clone(&store),
                    order: store,
                    ledger: None,
                    edge: None,
                })
            }
            Self::Shared {
                database,
                bucket,
                edge,
            } => open_shared(database, bucket, edge.as_ref()),
        }
    }
}

#[cfg(feature = "shared")]
fn open_shared(database: &Path, bucket: &str, edge: Option<&EdgeSettings>) -> Result<Open> {
    let mut shared = kvcap_store::Shared::connect(database, bucket)?;
    if let Some(edge) = edge {
        shared = shared.with_edge(edge)?;
    }
    Ok(Open {
        store: shared.store(),
        order: shared.versions(),
        edge: shared.edge(),
        ledger: Some(Arc::new(shared)),
    })
}

#[cfg(feature = "shared")]
fn rebuild(database: &Path, bucket: &str, limits: &Limits) -> Result<usize> {
    kvcap_store::Shared::connect(database, bucket)?.rebuild(limits)
}

#[cfg(not(feature = "shared"))]
fn open_shared(_database: &Path, _bucket: &str, _edge: Option<&EdgeSettings>) -> Result<Open> {
    Err(unbuilt())
}

#[cfg(not(feature = "shared"))]
fn rebuild(_database: &Path, _bucket: &str, _limits: &Limits) -> Result<usize> {
    Err(unbuilt())
}

#[cfg(not(feature = "shared"))]
fn unbuilt() -> Error {
    let what = "this program was built without what relays share: the feature `shared`";
    Error::new(Code::LocalUsage, what)
}
