//! Reading banks: unwrap, compare the commitment, and release bytes whose chunk's digest and tag have passed
//! (capsule-v1 §3.3).

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    binding::PrefixKey,
    crypto::{chunk::Extent, schedule::Root, table::Table},
    digest::Digest,
    error::Result,
    io::{ReadAt, borrow_or_read, usize_of},
    manifest::Manifest,
    open::out_of_range,
    verify::untrusted::Verified,
};

/// A capsule that may be read: its content key is unwrapped and the one committed to, and its use is recorded
/// where it has to be ([`crate::Unlocked`]). Banks and sections can be read whole or in part; every byte that it
/// gives has passed its signed chunk digest and its tag.
pub struct Opened<S> {
    pub(super) verified: Verified,
    pub(super) source: S,
    pub(super) root: Root,
    pub(super) prefix_key: Option<PrefixKey>,
    pub(super) extents: Vec<Extent>,
    pub(super) tables: Vec<OnceLock<Table>>,
    pub(super) read: AtomicU64,
}

impl<S: ReadAt> Opened<S> {
    /// Returns what the issuer has signed.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.verified.manifest
    }

    /// The digest by which a child names this capsule (lineage-v1 §2).
    #[must_use]
    pub fn lineage(&self) -> Digest {
        self.verified.lineage()
    }

    /// Bytes of tables and body read from the source so far.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(super) fn table(&self, stream: usize, extent: Extent) -> Result<&Table> {
        let slot = self
            .tables
            .get(stream)
            .ok_or_else(|| out_of_range("streams", self.tables.len(), stream))?;
        if let Some(table) = slot.get() {
            return Ok(table);
        }
        let len = usize_of(extent.table_len());
        let rows = self.fetch(extent.table_at, len, &mut Vec::new())?.to_vec();
        let table = self.verified.table(stream, rows)?;
        Ok(slot.get_or_init(|| table))
    }

    /// Bytes of the file, where they lie or in `buffer`.
    pub(super) fn fetch<'b>(
        &'b self,
        at: u64,
        len: usize,
        buffer: &'b mut Vec<u8>,
    ) -> Result<&'b [u8]> {
        let bytes = borrow_or_read(&self.source, at, len, buffer)?;
        let len = u64::try_from(len).unwrap_or(0);
        self.read.fetch_add(len, Ordering::Relaxed);
        Ok(bytes)
    }
}
