//! A second place of the newest capsule: beside a file of the tool's own (session-v1 §10).

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use kvcap::{CapsuleId, Claims, Code, Error, Limits, Result, SourceFile, Untrusted};
use kvcap_store::{
    output::{Output, Readers},
    private,
};

use super::{Session, capsule_id};
use crate::{
    files::{Artefact, fill},
    record::CapsuleEntry,
};

impl Session {
    /// Names a file of the tool's own, beside which the session's states are looked for too.
    #[must_use]
    pub fn with_beside(mut self, path: &Path) -> Self {
        self.beside = Some(beside(path));
        self
    }

    /// Refuses a file of the tool's own beside which something else stands than a capsule of this session.
    ///
    /// # Errors
    /// KVC-941 where it would be lost; 940.
    pub fn check_beside(&self, path: &Path) -> Result<()> {
        self.check_place(&beside(path))
    }

    /// Puts the newest checkpoint's capsule beside a file of the tool's own, in the place of an earlier one, and returns
    /// its path; `None` where the session has no state. When this returns, no crash loses it.
    ///
    /// # Errors
    /// KVC-941 where something else is there; 947, 95x, 94x.
    pub fn put_beside(&self, path: &Path) -> Result<Option<PathBuf>> {
        let _alone = self.tier.writer(&self.names())?;
        let Some(capsule) = self.newest()?.and_then(|record| record.capsule) else {
            return Ok(None);
        };
        let place = beside(path);
        self.check_place(&place)?;
        let own = self.own_place(&capsule)?;
        // a renewal is the same capsule under another header
        let renewed = claims(&own).is_some_and(|own| claims(&place) != Some(own));
        if is_it(&place, &capsule) && !renewed {
            return Ok(Some(place));
        }
        let source = SourceFile::open(own)?;
        let output = Output::create(&place, true, Readers::Owner)?;
        fill(&output, &source, &place)?;
        output.commit()?;
        Ok(Some(place))
    }

    /// Where a capsule of the session is.
    pub(super) fn place(&self, capsule: &CapsuleEntry) -> Result<PathBuf> {
        let own = self.own_place(capsule)?;
        let other = self.beside.iter().find(|place| is_it(place, capsule));
        Ok(match other {
            Some(other) if !is_it(&own, capsule) => other.clone(),
            _ => own,
        })
    }

    fn own_place(&self, capsule: &CapsuleEntry) -> Result<PathBuf> {
        let artefact = Artefact::Capsule(capsule.version, capsule_id(&capsule.id)?);
        Ok(self.tier.folder(&self.names())?.join(artefact.file_name()))
    }

    fn check_place(&self, place: &Path) -> Result<()> {
        let refused = || {
            let what = "what is there is no capsule of this session, and is not replaced";
            Err(Error::new(Code::LocalExists, what).at(place.display()))
        };
        if let Err(error) = place.symlink_metadata() {
            let folder = place.parent().filter(|path| !path.as_os_str().is_empty());
            return match error.kind() {
                ErrorKind::NotFound if folder.is_none_or(Path::is_dir) => Ok(()),
                _ => Err(Error::sink(&error, place.display())),
            };
        }
        let Some(claims) = claims(place) else {
            return refused();
        };
        let named = claims.terms.session.map(|session| session.id);
        match named.as_ref() == Some(&self.description.session) || self.names_it(claims.id)? {
            true => Ok(()),
            false => refused(),
        }
    }

    /// Whether a record names this capsule: of a branch it may be another session's.
    fn names_it(&self, id: CapsuleId) -> Result<bool> {
        let id = id.to_string();
        for version in self.versions()? {
            let capsule = self.record(version)?.capsule;
            if capsule.is_some_and(|capsule| capsule.id == id) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The place beside a file: its name, and `.kvcap`.
fn beside(path: &Path) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(".kvcap");
    name.into()
}

/// Whether a file says of itself that it is this capsule: who uses it verifies that.
fn is_it(place: &Path, capsule: &CapsuleEntry) -> bool {
    claims(place).is_some_and(|claims| claims.id.to_string() == capsule.id)
}

/// What a file claims that is a capsule.
fn claims(place: &Path) -> Option<Claims> {
    let file = private::open(place, OpenOptions::new().read(true)).ok()?;
    let file = SourceFile::new(file).ok()?;
    let untrusted = Untrusted::read_at(&file, &Limits::default()).ok()?;
    Some(untrusted.claims().clone())
}
