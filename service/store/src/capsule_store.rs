//! Where a relay keeps capsules for others (http-v1 §§5, 7, 8): each put once, counted for its tenant, whole or not
//! at all.
//!
//! ```text
//! claim ─→ Arriving ─append…→ keep     durable, then listed
//!              └ dropped               nothing is left, and its room is given back
//! ```

use std::{fmt::Debug, path::PathBuf};

use kvcap::{CapsuleId, Code, Error, Limits, ReadAt, Result, Untrusted, binding::Digest};

/// The capsules of one tenant and one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Space(pub [u8; 16]);

impl Space {
    /// Returns the space of a tenant and a subject, where absent names are names of their own.
    #[must_use]
    pub fn of(tenant: Option<&str>, subject: Option<&str>) -> Self {
        let mut parts: Vec<&[u8]> = Vec::new();
        let len = |name: &str| u64::try_from(name.len()).unwrap_or(u64::MAX);
        let lengths = [tenant, subject].map(|name| name.map_or(0, len).to_le_bytes());
        for (name, len) in [tenant, subject].into_iter().zip(&lengths) {
            match name {
                None => parts.push(&[0]),
                Some(name) => parts.extend([&[1][..], len, name.as_bytes()]),
            }
        }
        let digest = Digest::labelled("kvcap store space", &parts);
        Self(*digest.0.first_chunk().unwrap_or(&[0; 16]))
    }

    /// Returns its name in paths: 32 hexadecimal digits, which name neither tenant nor subject.
    #[must_use]
    pub fn name(self) -> String {
        CapsuleId(self.0).to_string()
    }

    /// Returns the space of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        CapsuleId::from_hex(name).map(|id| Self(id.0))
    }
}

/// Name of a capsule that is kept.
pub type Name = (Space, CapsuleId);

/// Entity tag of a capsule's file: two files of one tag have the same bytes, since the header binds every chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub [u8; 16]);

impl Tag {
    /// Returns the tag of the file that begins with this header.
    #[must_use]
    pub fn of(header: &[u8]) -> Self {
        let digest = Digest::labelled("kvcap v1 entity", &[header]);
        Self(*digest.0.first_chunk().unwrap_or(&[0; 16]))
    }

    /// Returns the tag as a header field has it, in quotation marks (RFC 9110 §8.8.3).
    #[must_use]
    pub fn quoted(self) -> String {
        format!("\"{}\"", CapsuleId(self.0))
    }
}

/// Facts of a capsule that a store knows without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its tag.
    pub tag: Tag,
    /// Length of its file.
    pub bytes: u64,
    /// Unix time at which it expires.
    pub expires: u64,
    /// Tenant for whom its bytes count.
    pub tenant: Option<String>,
    /// Digest by which an increment names it (lineage-v1 §2).
    pub lineage: Digest,
    /// Lineage of the capsule that it continues.
    pub parent: Option<Digest>,
    /// SHA-256 of the file, once somebody has asked for it.
    pub sha256: Option<[u8; 32]>,
}

/// Bytes in which most headers lie.
const HEADER: u64 = 64 << 10;

impl Entry {
    /// Returns the entry of a capsule that nobody has verified yet: what is kept was verified when it came.
    ///
    /// # Errors
    /// Those of a header that is no capsule's, and KVC-940.
    pub fn read(source: &(impl ReadAt + ?Sized), limits: &Limits) -> Result<Self> {
        source.will_read(0..HEADER.min(source.len()));
        let untrusted = Untrusted::read_at(source, limits)?;
        if untrusted.file_len() != source.len() {
            return Err(Error::new(Code::FramingLength, "the file is not whole"));
        }
        let terms = &untrusted.claims().terms;
        Ok(Self {
            tag: Tag::of(&header(source, limits)?),
            bytes: untrusted.file_len(),
            expires: terms.expires,
            tenant: terms.tenant.clone(),
            lineage: untrusted.lineage()?,
            parent: untrusted
                .outline()?
                .parent
                .as_deref()
                .and_then(Digest::from_hex),
            sha256: None,
        })
    }
}

/// The bytes before the sections.
fn header(source: &(impl ReadAt + ?Sized), limits: &Limits) -> Result<Vec<u8>> {
    let mut push = kvcap::PushHeader::new(limits);
    let mut header = Vec::new();
    // headers are whole pages
    let mut page = [0; 4096];
    loop {
        let at = u64::try_from(header.len()).unwrap_or(u64::MAX);
        let read = source.read_exact_at(at, &mut page);
        read.map_err(|error| Error::source(&error, "capsule"))?;
        header.extend_from_slice(&page);
        match push.feed(&mut &page[..])? {
            kvcap::Fed::More(more) => push = more,
            kvcap::Fed::Header(_) => return Ok(header),
        }
    }
}

/// A capsule that is about to come.
#[derive(Clone, Copy, Debug)]
pub struct Coming<'a> {
    /// Its tag.
    pub tag: Tag,
    /// Digest by which an increment names it.
    pub lineage: Digest,
    /// Unix time at which it expires.
    pub expires: u64,
    /// Tenant for whom its bytes count.
    pub tenant: Option<&'a str>,
    /// Length of its file.
    pub bytes: u64,
}

impl Coming<'_> {
    /// Returns whether it may take the place of what is kept: a renewal that lives longer (http-v1 HTTP-U-10).
    #[must_use]
    pub fn renews(&self, kept: &Entry) -> bool {
        kept.lineage == self.lineage && kept.expires < self.expires
    }
}

/// Answer to a claim.
#[derive(Debug)]
pub enum Claimed {
    /// Its caller's to put: nobody else does now.
    New(Box<dyn Arriving>),
    /// Nothing to bring: the same file is kept already.
    Kept,
    /// No room, of its tenant or on the disk.
    Full,
}

/// A capsule on its way into a store. Dropped, it leaves nothing, and gives its room back.
pub trait Arriving: Debug + Send {
    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// KVC-947 where the claim was lost to another; 940.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes the file durable, and then lists it. Until this returns, nobody sees it.
    ///
    /// # Errors
    /// KVC-941 where another capsule of its id has come in the meantime; 947 where the claim was lost; 940, after which
    /// it may be kept or not.
    fn keep(self: Box<Self>, entry: Entry) -> Result<()>;
}

/// Place where capsules are kept for others.
pub trait CapsuleStore: Debug + Send + Sync {
    /// Makes sure that it can be read and written.
    ///
    /// # Errors
    /// KVC-940.
    fn check(&self) -> Result<()>;

    /// Returns what is known of a capsule that is kept.
    ///
    /// # Errors
    /// KVC-940.
    fn get(&self, name: Name) -> Result<Option<Entry>>;

    /// Claims a name for a file, if its tenant has room under `quota` bytes.
    ///
    /// # Errors
    /// KVC-941 where another capsule of this id is kept, 947 where it is coming; 940.
    fn claim(&self, name: Name, coming: Coming<'_>, quota: u64) -> Result<Claimed>;

    /// Opens the file of a capsule that is kept, and returns what is known of it.
    ///
    /// # Errors
    /// KVC-940.
    fn open(&self, name: Name) -> Result<Option<(Entry, Box<dyn Stored>)>>;

    /// Returns the path of a capsule that is kept, where it is a file of this machine.
    fn path(&self, name: Name) -> Option<PathBuf> {
        let _elsewhere = name;
        None
    }

    /// Removes a capsule for good; false where it is not kept. Who has it open may read on.
    ///
    /// # Errors
    /// KVC-940.
    fn remove(&self, name: Name) -> Result<bool>;

    /// Returns the ids of the ancestors that are kept in a space, from a parent on.
    ///
    /// # Errors
    /// KVC-940.
    fn ancestors(&self, space: Space, parent: Digest, most: usize) -> Result<Vec<CapsuleId>>;

    /// Returns what is kept and has expired by `now`: all of it, or some that is to be removed before the rest.
    ///
    /// # Errors
    /// KVC-940.
    fn expired(&self, now: u64) -> Result<Vec<Name>>;

    /// Calls `each` for every capsule that is kept.
    ///
    /// # Errors
    /// Those of `each`; KVC-940.
    fn each(&self, each: &mut dyn FnMut(Name) -> Result<()>) -> Result<()>;

    /// Returns the number of capsules, and their bytes.
    ///
    /// # Errors
    /// KVC-940.
    fn counts(&self) -> Result<(u64, u64)>;

    /// Remembers a digest that took long.
    ///
    /// # Errors
    /// KVC-940.
    fn set_sha256(&self, name: Name, tag: Tag, digest: [u8; 32]) -> Result<()>;

    /// Removes what killed processes have left. Returns the number of files.
    ///
    /// # Errors
    /// KVC-940.
    fn sweep(&self) -> Result<usize>;
}

/// File that is kept, open.
pub trait Stored: ReadAt + Send + Sync {}

impl<T: ReadAt + Send + Sync> Stored for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_owners_share_a_space() {
        let names = [None, Some(""), Some("a"), Some("ab"), Some("b")];
        let mut spaces: Vec<Space> = names
            .iter()
            .flat_map(|tenant| names.map(|subject| Space::of(*tenant, subject)))
            .collect();
        spaces.sort();
        spaces.dedup();
        assert_eq!(spaces.len(), names.len() * names.len());
        let space = Space::of(Some("acme"), None);
        assert_eq!(Space::parse(&space.name()), Some(space));
    }
}
