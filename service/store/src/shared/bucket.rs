//! Objects in a bucket: written once under a key of their own, read in ranges.

use std::{
    fmt,
    io::{self, Seek, SeekFrom, Write},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use futures_util::TryStreamExt;
use kvcap::{Code, Error, ReadAt, Result};
use object_store::{
    MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, path::Path,
};
use tokio::{sync::Semaphore, task::JoinHandle};
use url::Url;

use super::{
    blocking::Blocking,
    edge::{AtEdge, Found},
};
use crate::ahead::{Ahead, Piece};

/// Bytes of a part: no service takes less but for the last.
const PART: usize = 8 << 20;

/// Parts that all uploads together have in memory.
const PARTS: usize = 8;

/// Schemes of buckets.
const SCHEMES: [&str; 4] = ["s3", "gs", "az", "file"];

pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    root: Path,
    parts: Arc<Semaphore>,
    blocking: Blocking,
}

impl Bucket {
    pub(super) fn at(url: &str, blocking: Blocking) -> Result<Self> {
        let wrong = |what: &'static str| Error::new(Code::LocalConfig, what).at(url);
        let parsed = Url::parse(url).map_err(|_| wrong("the bucket's URL is none"))?;
        if !SCHEMES.contains(&parsed.scheme()) {
            return Err(wrong(
                "a bucket's URL begins with s3://, gs://, az:// or file://",
            ));
        }
        super::tls::use_ring();
        // who it is to the service, and where that is
        let variables = std::env::vars().map(|(name, value)| (name.to_ascii_lowercase(), value));
        let (store, root) = object_store::parse_url_opts(&parsed, variables)
            .map_err(|error| Error::new(Code::LocalConfig, error.to_string()).at(url))?;
        Ok(Self {
            store: Arc::from(store),
            root,
            parts: Arc::new(Semaphore::new(PARTS)),
            blocking,
        })
    }

    fn path(&self, object: &str) -> Path {
        let parts = self.root.parts();
        Path::from_iter(parts.chain(Path::from(object).parts().collect::<Vec<_>>()))
    }

    /// Makes sure that it answers.
    pub(super) fn check(&self) -> Result<()> {
        let path = self.path("check");
        match self.blocking.wait(self.store.head(&path)) {
            Err(object_store::Error::NotFound { .. }) | Ok(_) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Begins an object of a key that no other has.
    pub(super) fn begin(&self, object: &str) -> Result<Upload> {
        let spool = tempfile::tempfile()
            .map_err(|error| Error::sink(&error, std::env::temp_dir().display()))?;
        Ok(Upload {
            store: Arc::clone(&self.store),
            parts: Arc::clone(&self.parts),
            blocking: self.blocking.clone(),
            path: self.path(object),
            spool: Some(spool),
            len: 0,
            sent: 0,
            multipart: None,
            sending: None,
        })
    }

    /// Opens an object; what an edge has of it is read there.
    pub(super) fn open(&self, object: &str, len: u64, edge: Option<AtEdge>) -> Object {
        Object {
            store: Arc::clone(&self.store),
            blocking: self.blocking.clone(),
            path: self.path(object),
            len,
            edge,
            ahead: Ahead::default(),
        }
    }

    /// Removes an object; one that is not there is removed.
    pub(super) async fn remove(&self, object: &str) -> Result<()> {
        match self.store.delete(&self.path(object)).await {
            Err(object_store::Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// The keys of all objects, and their lengths.
    pub(super) fn list(&self) -> Result<Vec<(String, u64)>> {
        let depth = self.root.parts().count();
        let listed = self.store.list(Some(&self.root)).map_ok(|found| {
            let key: Vec<String> = found
                .location
                .parts()
                .skip(depth)
                .map(|part| part.as_ref().to_owned())
                .collect();
            (key.join("/"), found.size)
        });
        self.blocking.wait(listed.try_collect()).map_err(failed)
    }
}

/// An object in the making. Its bytes wait in an unnamed file, and follow in parts while more come; dropped before it
/// is whole, it does not appear.
pub(super) struct Upload {
    store: Arc<dyn ObjectStore>,
    parts: Arc<Semaphore>,
    blocking: Blocking,
    path: Path,
    spool: Option<std::fs::File>,
    len: u64,
    /// Bytes that are in parts.
    sent: u64,
    multipart: Option<Box<dyn MultipartUpload>>,
    sending: Option<JoinHandle<object_store::Result<()>>>,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({})", self.path)
    }
}

impl Upload {
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let failed = |error: io::Error| Error::sink(&error, "capsule");
        self.spool()?.write_all(bytes).map_err(failed)?;
        self.len += length(bytes.len());
        // one part at a time is on its way, where there is room for it
        let idle = self.sending.as_ref().is_none_or(JoinHandle::is_finished);
        if idle
            && self.len - self.sent > length(PART)
            && let Ok(room) = Arc::clone(&self.parts).try_acquire_owned()
        {
            self.arrived()?;
            self.send(PART, room)?;
        }
        Ok(())
    }

    /// Makes the object appear.
    pub(super) fn finish(&mut self) -> Result<()> {
        if self.multipart.is_none() && self.len <= length(PART) {
            let content = self.read(self.len)?;
            let create = PutOptions::from(PutMode::Create);
            let put = self
                .store
                .put_opts(&self.path, PutPayload::from(content), create);
            self.blocking.wait(put).map_err(failed)?;
            return Ok(());
        }
        while self.sent < self.len {
            let room = self.blocking.wait(Arc::clone(&self.parts).acquire_owned());
            let room = room.map_err(|_| Error::sink(&io::Error::other("closed"), "bucket"))?;
            self.arrived()?;
            let left = usize::try_from(self.len - self.sent).unwrap_or(PART);
            self.send(left.min(PART), room)?;
        }
        self.arrived()?;
        if let Some(mut multipart) = self.multipart.take() {
            self.blocking.wait(multipart.complete()).map_err(failed)?;
        }
        Ok(())
    }

    /// The file that an object was put together in.
    pub(super) fn into_file(mut self) -> Option<std::fs::File> {
        self.spool.take()
    }

    /// Waits for the part that is on its way.
    fn arrived(&mut self) -> Result<()> {
        match self.sending.take() {
            None => Ok(()),
            Some(sending) => match self.blocking.wait(sending) {
                Ok(sent) => sent.map_err(failed),
                Err(_) => Err(Error::sink(&io::Error::other("a part was lost"), "bucket")),
            },
        }
    }

    fn send(&mut self, len: usize, room: tokio::sync::OwnedSemaphorePermit) -> Result<()> {
        let part = self.read(length(len))?;
        if self.multipart.is_none() {
            let begun = self.store.put_multipart(&self.path);
            self.multipart = Some(self.blocking.wait(begun).map_err(failed)?);
        }
        if let Some(multipart) = &mut self.multipart {
            let part = multipart.put_part(PutPayload::from(part));
            self.sending = Some(self.blocking.task(async move {
                let _room = room;
                part.await
            }));
        }
        Ok(())
    }

    /// The next bytes that were not sent.
    fn read(&mut self, len: u64) -> Result<Vec<u8>> {
        use std::io::Read;
        let failed = |error: io::Error| Error::source(&error, "capsule");
        let (from, end) = (self.sent, self.len);
        let spool = self.spool()?;
        let mut bytes = Vec::new();
        spool.seek(SeekFrom::Start(from)).map_err(failed)?;
        Read::by_ref(spool)
            .take(len)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        spool.seek(SeekFrom::Start(end)).map_err(failed)?;
        self.sent += length(bytes.len());
        Ok(bytes)
    }

    fn spool(&mut self) -> Result<&mut std::fs::File> {
        let gone = || Error::sink(&io::Error::other("the upload has ended"), "capsule");
        self.spool.as_mut().ok_or_else(gone)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(mut multipart) = self.multipart.take() {
            let sending = self.sending.take();
            self.blocking.spawn(async move {
                if let Some(sending) = sending {
                    let _whatever = sending.await;
                }
                // what cannot be told to the service, its own rule for parts that were never completed removes
                let _in_vain = multipart.abort().await;
            });
        }
    }
}

/// An object that is kept, read in ranges: what is asked for alone, in longer pieces where a reader has said what he reads
/// next.
pub(super) struct Object {
    store: Arc<dyn ObjectStore>,
    blocking: Blocking,
    path: Path,
    len: u64,
    edge: Option<AtEdge>,
    ahead: Ahead<Bytes>,
}

impl ReadAt for Object {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(length(buf.len()));
        if end.is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let fetch = |wanted, until| self.blocking.wait(self.fetch(wanted, until));
        self.ahead.read(offset, buf, fetch)
    }

    fn will_read(&self, range: Range<u64>) {
        self.ahead.will_read(range.start..range.end.min(self.len));
    }
}

impl Object {
    /// Reads `wanted` and what is ahead of it up to `until`, from the edge if it is there.
    async fn fetch(&self, wanted: Range<u64>, until: u64) -> io::Result<Piece<Bytes>> {
        let found = match &self.edge {
            Some(edge) => edge.find(wanted.clone(), until).await,
            None => Found::Nothing,
        };
        let (range, is_missing) = match found {
            Found::Whole(range, bytes) => {
                let start = range.start;
                return Ok(Piece { start, bytes });
            }
            Found::Missing(range) => (range, true),
            Found::Nothing => (wanted.start..until, false),
        };
        let start = range.start;
        let read = self.store.get_range(&self.path, range).await;
        let bytes = read.map_err(|error| match error {
            object_store::Error::NotFound { .. } => io::Error::from(io::ErrorKind::NotFound),
            error => io::Error::other(error.to_string()),
        })?;
        if let Some(edge) = self.edge.as_ref().filter(|_| is_missing) {
            edge.bring(start, bytes.clone());
        }
        Ok(Piece { start, bytes })
    }
}

fn failed(error: object_store::Error) -> Error {
    Error::sink(&io::Error::other(error.to_string()), "bucket")
}

fn length(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
