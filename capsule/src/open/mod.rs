//! Reading what is verified: an opened capsule, its streams, and chains of capsules (capsule-v1 §3.3, lineage-v1 §2).

pub(crate) mod chain;
pub(crate) mod lineage;
pub(crate) mod opened;
pub(crate) mod reader;
mod sections;
pub(crate) mod unlocked;

use std::sync::{OnceLock, atomic::AtomicU64};

use crate::{
    crypto::{chunk::Extent, wrapping_key::WrappingKey},
    error::{Code, Error, Result},
    io::{ReadAt, usize_of},
    verify::{
        body::check_len,
        untrusted::{Verified, check_zero},
    },
};
use lineage::parent_absent;
use opened::Opened;
use unlocked::Unlocked;

impl Verified {
    /// Unwraps the content key with `key` and makes ready to read from `source`, the same file.
    /// Nothing that is sealed is given out by this; the sealed prefix value is compared with its commitment.
    ///
    /// # Errors
    /// KVC-106, 107, 108, 807 for the file's length and padding; 701 for a capsule with a parent, which
    /// opens as a [`crate::Chain`]; 809, 803, 804 for the key; 605 for the prefix; 801, 805, 806 for what was read.
    pub fn open<S: ReadAt>(self, source: S, key: &WrappingKey) -> Result<Unlocked<S>> {
        if let Some(parent) = &self.manifest.context.parent {
            return Err(parent_absent(parent));
        }
        self.open_member(source, key).map(Unlocked)
    }

    /// The same for one capsule of a chain, whose parent is seen to by the chain.
    pub(crate) fn open_member<S: ReadAt>(self, source: S, key: &WrappingKey) -> Result<Opened<S>> {
        self.check_extent(&source)?;
        let (_, root) = self.unlock(key)?;
        let extents = Extent::all(&self.manifest, self.prologue);
        let opened = Opened {
            tables: extents.iter().map(|_| OnceLock::new()).collect(),
            extents,
            verified: self,
            source,
            root,
            prefix_key: key.prefix_key()?,
            read: AtomicU64::new(0),
        };
        opened.check_prefix()?;
        Ok(opened)
    }

    /// CAP-F-4, CAP-F-5, CAP-F-6 for a source of known length.
    fn check_extent(&self, source: &impl ReadAt) -> Result<()> {
        let prologue = self.prologue;
        check_len(prologue, source.len())?;
        let extents = Extent::all(&self.manifest, prologue);
        let mut at = extents.last().map_or(prologue.tables_at(), |last| {
            last.table_at + last.table_len()
        });
        let mut piece = [0; 4096];
        while at < prologue.body_at() {
            let take = usize_of(prologue.body_at() - at).min(piece.len());
            let part = piece.get_mut(..take).unwrap_or_default();
            source
                .read_exact_at(at, part)
                .map_err(|error| Error::source(&error, "capsule"))?;
            check_zero(part)?;
            at += u64::try_from(take).unwrap_or(0);
        }
        Ok(())
    }
}

fn out_of_range(
    what: &'static str,
    have: impl std::fmt::Display,
    asked: impl std::fmt::Display,
) -> Error {
    Error::new(Code::BodyRange, "the range lies outside the capsule")
        .at(what)
        .sides(format_args!("at most {have}"), asked)
}
