//! What is kept and what is coming: put once, and counted for its tenant (http-v1 §§5, 8, 9). The files are the
//! truth, and all of it is read from them when a relay begins.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::http::StatusCode;
use kvcap::{CapsuleId, Code, Error, binding::Digest};
use kvcap_store::Space;

use crate::refusal::{Answer, Refusal};

/// A capsule's name in the store.
pub(super) type Name = (Space, CapsuleId);

/// An entity tag, without its quotation marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag([u8; 16]);

impl Tag {
    /// The tag of the file that begins with this header.
    pub(super) fn of(header: &[u8]) -> Self {
        let digest = Digest::labelled("kvcap v1 entity", &[header]);
        Self(*digest.0.first_chunk().unwrap_or(&[0; 16]))
    }

    /// As a header field has it.
    pub(super) fn quoted(self) -> String {
        format!("\"{}\"", CapsuleId(self.0))
    }
}

/// A capsule that is kept.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) tag: Tag,
    pub(super) bytes: u64,
    pub(super) expires: u64,
    pub(super) tenant: Option<String>,
    pub(super) lineage: Digest,
    pub(super) parent: Option<Digest>,
    /// SHA-256 of the file, once somebody has asked for it.
    pub(super) sha256: Option<[u8; 32]>,
}

#[derive(Debug, Default)]
pub(super) struct Index(Mutex<Shelves>);

#[derive(Debug, Default)]
struct Shelves {
    kept: HashMap<Name, Entry>,
    /// By the digest that a child names, in its space.
    lineages: HashMap<(Space, Digest), CapsuleId>,
    coming: HashSet<Name>,
    /// Bytes of each tenant, of what is coming too.
    used: HashMap<Option<String>, u64>,
    bytes: u64,
}

/// A name that nobody else puts, and room for its bytes; both are given back where nothing comes of it.
#[derive(Debug)]
pub(super) struct Claim {
    index: Arc<Index>,
    name: Name,
    tenant: Option<String>,
    bytes: u64,
}

/// A claim, or what is there already.
#[derive(Debug)]
pub(super) enum Claimed {
    New(Claim),
    /// It takes the place of one of its lineage that expires sooner.
    Later(Claim),
    Kept,
}

/// A capsule that is coming.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coming<'a> {
    pub(super) tag: Tag,
    pub(super) lineage: Digest,
    pub(super) expires: u64,
    pub(super) tenant: Option<&'a String>,
    pub(super) bytes: u64,
}

impl Index {
    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, name: Name) -> Option<Entry> {
        self.shelves().kept.get(&name).cloned()
    }

    /// Adds what was found in the folder.
    pub(super) fn add(&self, name: Name, entry: Entry) {
        let mut shelves = self.shelves();
        *shelves.used.entry(entry.tenant.clone()).or_default() += entry.bytes;
        shelves.put(name, entry);
    }

    /// Claims a name for a file, if its tenant has room under `quota`.
    pub(super) fn claim(
        self: &Arc<Self>,
        name: Name,
        coming: Coming<'_>,
        quota: u64,
    ) -> Answer<Claimed> {
        let Coming { tenant, bytes, .. } = coming;
        let mut shelves = self.shelves();
        let kept = shelves.kept.get(&name);
        if kept.is_some_and(|kept| kept.tag == coming.tag) {
            return Ok(Claimed::Kept);
        }
        let later = |kept: &Entry| kept.lineage == coming.lineage && kept.expires < coming.expires;
        if kept.is_some_and(|kept| !later(kept)) {
            let what = "another capsule of this id is kept";
            return Err(Error::new(Code::LocalExists, what).into());
        }
        let claimed = match kept {
            None => Claimed::New,
            Some(_) => Claimed::Later,
        };
        if shelves.coming.contains(&name) {
            let what = "the capsule is being uploaded";
            return Err(Error::new(Code::LocalBusy, what).into());
        }
        let used = shelves.used.entry(tenant.cloned()).or_default();
        match used.checked_add(bytes).filter(|sum| *sum <= quota) {
            Some(sum) => *used = sum,
            None => return Err(Refusal::Status(StatusCode::INSUFFICIENT_STORAGE)),
        }
        shelves.coming.insert(name);
        drop(shelves);
        Ok(claimed(Claim {
            index: Arc::clone(self),
            name,
            tenant: tenant.cloned(),
            bytes,
        }))
    }

    /// Takes a capsule out.
    pub(super) fn remove(&self, name: Name) {
        let mut shelves = self.shelves();
        if let Some(entry) = shelves.kept.remove(&name) {
            shelves.lineages.remove(&(name.0, entry.lineage));
            shelves.bytes = shelves.bytes.saturating_sub(entry.bytes);
            shelves.give_back(&entry.tenant, entry.bytes);
        }
    }

    /// The ids of the ancestors that are kept in a space, from a parent on.
    pub(super) fn ancestors(&self, space: Space, parent: Digest, most: usize) -> Vec<CapsuleId> {
        let shelves = self.shelves();
        let (mut ids, mut wanted) = (Vec::new(), Some(parent));
        while let Some(lineage) = wanted
            && let Some(id) = shelves.lineages.get(&(space, lineage))
            && ids.len() < most
        {
            ids.push(*id);
            wanted = shelves
                .kept
                .get(&(space, *id))
                .and_then(|entry| entry.parent);
        }
        ids
    }

    /// All names, with the times at which they expire.
    pub(super) fn all(&self) -> Vec<(Name, u64)> {
        let shelves = self.shelves();
        let entries = shelves.kept.iter();
        entries
            .map(|(name, entry)| (*name, entry.expires))
            .collect()
    }

    /// Capsules, and their bytes.
    pub(super) fn counts(&self) -> (usize, u64) {
        let shelves = self.shelves();
        (shelves.kept.len(), shelves.bytes)
    }

    /// Remembers a digest that took long.
    pub(super) fn set_sha256(&self, name: Name, tag: Tag, digest: [u8; 32]) {
        if let Some(entry) = self.shelves().kept.get_mut(&name)
            && entry.tag == tag
        {
            entry.sha256 = Some(digest);
        }
    }
}

impl Shelves {
    fn put(&mut self, name: Name, entry: Entry) {
        self.bytes = self.bytes.saturating_add(entry.bytes);
        self.lineages.insert((name.0, entry.lineage), name.1);
        // what is replaced is no longer counted
        if let Some(old) = self.kept.insert(name, entry) {
            self.bytes = self.bytes.saturating_sub(old.bytes);
            self.give_back(&old.tenant, old.bytes);
        }
    }

    fn give_back(&mut self, tenant: &Option<String>, bytes: u64) {
        if let Some(used) = self.used.get_mut(tenant) {
            *used = used.saturating_sub(bytes);
            if *used == 0 {
                self.used.remove(tenant);
            }
        }
    }
}

impl Claim {
    /// The capsule is durable, and kept from now on.
    pub(super) fn keep(mut self, entry: Entry) {
        let mut shelves = self.index.shelves();
        shelves.coming.remove(&self.name);
        shelves.put(self.name, entry);
        drop(shelves);
        // its bytes stay counted
        self.bytes = 0;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut shelves = self.index.shelves();
        if self.bytes > 0 {
            shelves.coming.remove(&self.name);
            shelves.give_back(&self.tenant, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: u64, tag: Tag) -> Entry {
        Entry {
            tag,
            bytes,
            expires: 1,
            tenant: Some("acme".to_owned()),
            lineage: Digest([1; 32]),
            parent: None,
            sha256: None,
        }
    }

    fn name(id: u8) -> Name {
        (Space::of(Some("acme"), None), CapsuleId([id; 16]))
    }

    #[test]
    fn what_comes_counts_and_is_given_back() {
        let index = Arc::new(Index::default());
        let tenant = "acme".to_owned();
        let (tag, other) = (Tag([1; 16]), Tag([2; 16]));
        let coming = |tag, bytes| Coming {
            tag,
            lineage: Digest([1; 32]),
            expires: 1,
            tenant: Some(&tenant),
            bytes,
        };
        let claim = |id, tag, bytes| index.claim(name(id), coming(tag, bytes), 100);
        let Ok(Claimed::New(first)) = claim(1, tag, 60) else {
            unreachable!("nothing is there");
        };
        assert!(
            matches!(claim(1, tag, 1), Err(Refusal::Code(error)) if error.code().number() == 947)
        );
        assert!(matches!(claim(2, tag, 41), Err(Refusal::Status(status)) if status == 507));
        drop(first);
        let Ok(Claimed::New(first)) = claim(1, tag, 60) else {
            unreachable!("it was given back");
        };
        first.keep(entry(60, tag));
        assert!(matches!(claim(1, tag, 60), Ok(Claimed::Kept)));
        assert!(
            matches!(claim(1, other, 60), Err(Refusal::Code(error)) if error.code().number() == 941)
        );
        assert!(matches!(claim(2, tag, 41), Err(Refusal::Status(_))));
        assert!(matches!(claim(2, tag, 40), Ok(Claimed::New(_))));
        assert_eq!(index.counts(), (1, 60));
        // one that lives longer takes its place, and counts beside it until then
        let longer = |lineage, bytes| {
            let coming = Coming {
                lineage: Digest([lineage; 32]),
                expires: 2,
                ..coming(other, bytes)
            };
            index.claim(name(1), coming, 100)
        };
        assert!(matches!(longer(2, 40), Err(Refusal::Code(error)) if error.code().number() == 941));
        assert!(matches!(longer(1, 41), Err(Refusal::Status(status)) if status == 507));
        let Ok(Claimed::Later(second)) = longer(1, 40) else {
            unreachable!("it has room");
        };
        second.keep(entry(40, other));
        assert_eq!(index.counts(), (1, 40));
        assert!(matches!(claim(2, tag, 60), Ok(Claimed::New(_))));
        index.remove(name(1));
        assert_eq!(index.counts(), (0, 0));
        assert!(index.shelves().used.is_empty());
    }
}
