//! Beginning and sweeping: what is kept is read from the files, and what has served its time goes (http-v1 §8).

use std::{
    fs::{self, File},
    sync::{Mutex, PoisonError},
};

use kvcap::{Code, Result, Untrusted, binding::Digest};

use super::{
    Relay,
    index::{Entry, Name, Tag},
};

/// Digest of the registries that all capsules were last held against.
#[derive(Debug, Default)]
pub(super) struct Swept(Mutex<Option<Digest>>);

impl Relay {
    /// Reads the headers of what is kept. A file that is no whole capsule is not listed, and not touched.
    pub(super) fn load(&self) -> Result<()> {
        self.blobs.sweep()?;
        for name in self.blobs.list()? {
            if let Some(entry) = self.entry(name) {
                self.index.add(name, entry);
            }
        }
        Ok(())
    }

    fn untrusted(&self, name: Name) -> Option<(Untrusted, u64)> {
        let file = File::open(self.blobs.path(name.0, name.1)).ok()?;
        let len = file.metadata().ok()?.len();
        let untrusted = Untrusted::read(&mut &file, &self.policy().limits.reader()).ok()?;
        (untrusted.file_len() == len).then_some((untrusted, len))
    }

    fn entry(&self, name: Name) -> Option<Entry> {
        let (untrusted, bytes) = self.untrusted(name)?;
        let terms = &untrusted.claims().terms;
        let outline = untrusted.outline().ok()?;
        Some(Entry {
            tag: self.tag(name)?,
            bytes,
            expires: terms.expires,
            tenant: terms.tenant.clone(),
            lineage: untrusted.lineage().ok()?,
            parent: outline.parent.as_deref().and_then(Digest::from_hex),
            sha256: None,
        })
    }

    fn tag(&self, name: Name) -> Option<Tag> {
        use std::io::Read;
        let mut file = File::open(self.blobs.path(name.0, name.1)).ok()?;
        let mut header = Vec::new();
        let mut push = kvcap::PushHeader::new(&self.policy().limits.reader());
        let mut piece = [0; 4096];
        loop {
            // headers are whole pages
            file.read_exact(&mut piece).ok()?;
            header.extend_from_slice(&piece);
            match push.feed(&mut &piece[..]).ok()? {
                kvcap::Fed::More(more) => push = more,
                kvcap::Fed::Header(_) => return Some(Tag::of(&header)),
            }
        }
    }

    /// Removes what has served its time. Returns the number of capsules that went.
    pub(crate) fn sweep(&self) -> Result<usize> {
        self.uploads.sweep(self.policy().limits.resumable);
        self.blobs.sweep()?;
        let verifier = self.verifier();
        let now = verifier.judge()?.now();
        let registries = self.registries();
        let mut swept = self.swept.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = *swept == registries;
        let mut removed = 0;
        for (name, expires) in self.index.all() {
            if now >= expires || (!same && self.is_void(name)?) {
                // what cannot be removed now is tried again
                removed += usize::from(self.remove(name).unwrap_or(false));
            }
        }
        *swept = registries;
        Ok(removed)
    }

    /// The registries as they are, so that a change is seen.
    fn registries(&self) -> Option<Digest> {
        let verifier = self.verifier();
        let files = verifier.trust.registries.iter();
        let contents: Vec<Vec<u8>> = files.filter_map(|path| fs::read(path).ok()).collect();
        let parts: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        Some(Digest::labelled("kvcap relay registries", &parts))
    }

    /// Whether nobody will accept a capsule again: it is revoked, or its key is compromised.
    fn is_void(&self, name: Name) -> Result<bool> {
        let Some((untrusted, _)) = self.untrusted(name) else {
            return Ok(false);
        };
        let verifier = self.verifier();
        let terms = untrusted.claims().terms.clone();
        let judge = verifier.judge()?.danger_as_stated(&terms);
        let void = [
            Code::ClaimsExpired,
            Code::ClaimsRevoked,
            Code::KeyCompromised,
        ];
        let refused = judge.verify(untrusted).err();
        Ok(refused.is_some_and(|error| void.contains(&error.code())))
    }
}
