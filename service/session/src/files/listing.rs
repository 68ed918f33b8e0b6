//! Which sessions a device has: the list, the last one, and one by the beginning of its id.

use std::{fs, io, path::Path, time::SystemTime};

use kvcap::{Code, Error, Result, text::printable};

use super::{
    device::{DeviceTier, LOG},
    name,
    tier::Artefact,
};
use crate::Names;

/// Most sessions that a refusal names.
const NAMED: usize = 8;

impl DeviceTier {
    /// Returns the sessions of all owners with the time of their last change, newest first. What is no session's folder is
    /// passed over.
    ///
    /// # Errors
    /// KVC-940.
    pub fn changed(&self) -> Result<Vec<(Names, SystemTime)>> {
        let mut found = Vec::new();
        for tenant in folders(&self.root)? {
            for subject in folders(&self.root.join(&tenant))? {
                found.extend(self.below(&tenant, &subject)?);
            }
        }
        newest_first(&mut found);
        Ok(found)
    }

    /// Returns the session of a tenant and a subject that was last written to.
    ///
    /// # Errors
    /// KVC-955 where they have none; 940, 950.
    pub fn last(&self, tenant: Option<&str>, subject: Option<&str>) -> Result<Names> {
        let mut found = self.owned(tenant, subject)?;
        newest_first(&mut found);
        let mut names = found.into_iter().map(|(names, _)| names);
        // a folder without a description is what a writer that was stopped has left
        let last = names.find(|names| self.is_there(names));
        let none = || Error::new(Code::SessionMissing, "there is no session yet");
        last.ok_or_else(none)
    }

    /// Returns the session of these names, or else the only one of the same tenant and subject whose id begins with that
    /// of `names`.
    ///
    /// # Errors
    /// KVC-955 where there is none; 944 where there are several, which are named; 940, 950.
    pub fn find(&self, names: &Names) -> Result<Names> {
        names.check()?;
        if self.is_there(names) {
            return Ok(names.clone());
        }
        let mut found = self.owned(names.tenant.as_deref(), names.subject.as_deref())?;
        found
            .retain(|(found, _)| found.session.starts_with(&names.session) && self.is_there(found));
        newest_first(&mut found);
        match &*found {
            [] => {
                let error = Error::new(Code::SessionMissing, "there is no such session");
                Err(error.at(printable(&names.session)))
            }
            [(only, _)] => Ok(only.clone()),
            several => {
                let ids = several.iter().take(NAMED);
                let mut ids: Vec<_> = ids.map(|(names, _)| printable(&names.session)).collect();
                let more = format!("{} more", several.len().saturating_sub(NAMED));
                if several.len() > NAMED {
                    ids.push(more.into());
                }
                let what = "more than one session begins so";
                Err(Error::new(Code::LocalUsage, what).at(ids.join(", ")))
            }
        }
    }

    /// The sessions of a tenant and a subject, with the time of their last change.
    fn owned(
        &self,
        tenant: Option<&str>,
        subject: Option<&str>,
    ) -> Result<Vec<(Names, SystemTime)>> {
        let any = Names {
            tenant: tenant.map(str::to_owned),
            subject: subject.map(str::to_owned),
            ..Names::of("any")
        };
        let [tenant, subject, _] = name::folders(&any)?;
        self.below(&tenant, &subject)
    }

    /// The sessions in the folder of an owner.
    fn below(&self, tenant: &str, subject: &str) -> Result<Vec<(Names, SystemTime)>> {
        let owned = self.root.join(tenant).join(subject);
        let mut found = Vec::new();
        for id in folders(&owned)? {
            if let Some(names) = name::names(tenant, subject, &id) {
                found.push((names, last_change(&owned.join(&id))));
            }
        }
        Ok(found)
    }

    fn is_there(&self, names: &Names) -> bool {
        let folder = self.folder(names);
        let description = folder.map(|folder| folder.join(Artefact::Session.file_name()));
        description.is_ok_and(|path| path.symlink_metadata().is_ok())
    }
}

fn newest_first(found: &mut [(Names, SystemTime)]) {
    found.sort_by(|(one, at), (other, time)| time.cmp(at).then_with(|| one.cmp(other)));
}

/// The names of the folders in a folder, links left out; none where there is no such folder.
fn folders(folder: &Path) -> Result<Vec<String>> {
    let failed = |error| Error::source(&error, folder.display());
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            found.extend(entry.file_name().into_string());
        }
    }
    Ok(found)
}

/// The time of the last file that came or went, or of the last event.
fn last_change(folder: &Path) -> SystemTime {
    let of = |path: &Path| {
        let meta = fs::symlink_metadata(path);
        meta.and_then(|meta| meta.modified()).ok()
    };
    let times = [of(folder), of(&folder.join(LOG))];
    times
        .into_iter()
        .flatten()
        .max()
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
