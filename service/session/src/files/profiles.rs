//! Profiles of codecs that stand beside no model: `DIGEST.kvtc` in a folder beside the sessions (codecs-v1 §12.7).

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use kvcap::{Error, Limits, Result, SourceFile, Untrusted, binding::Digest};
use kvcap_states::{
    KnownProfile, look_for_profiles_in, offer_profile, profile_file_name, read_profile,
};
use kvcap_store::{
    capsules_in,
    operation::{self, Operation},
    output::{self, Output, Readers},
    private,
    profile::{Environment, state_folder},
};

use super::{DeviceTier, Tier, fill, tier::Artefact};

/// Time in which a profile that no capsule names stays after it was added: its first capsule is still to be made.
const FRESH: Duration = Duration::from_secs(86_400);

/// A folder of profiles that no model's folder holds.
#[derive(Clone, Debug)]
pub struct CodecProfiles {
    root: PathBuf,
}

/// A profile's file in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProfileFile {
    /// Digest of the profile.
    pub digest: Digest,
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

impl CodecProfiles {
    /// Returns the profiles of a folder, which is made with the first.
    #[must_use]
    pub const fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Returns those of a user, `$XDG_STATE_HOME/kvcap/codec-profiles`; `None` where there is no home.
    #[must_use]
    pub fn of_user(env: Environment<'_>) -> Option<Self> {
        state_folder(env).map(|folder| Self::at(folder.join("codec-profiles")))
    }

    /// Has codecs of this process find them.
    pub fn look_here(&self) {
        look_for_profiles_in(&self.root);
    }

    /// Keeps a copy of a profile's file. One that is there already stays as it is.
    ///
    /// # Errors
    /// KVC-909 for what is no profile; 943, 945 where others can change the folder; 940.
    pub fn add(&self, file: &Path) -> Result<(Arc<KnownProfile>, ProfileFile)> {
        let bytes = kvcap_states::profile_bytes(file)?;
        let known = offer_profile(&bytes).map_err(|error| error.at(file.display()))?;
        private::folder(&self.root)?;
        let path = self.root.join(profile_file_name(&known.digest()));
        // what was cut or changed is replaced
        if read_profile(&path).map(|there| there.digest()).ok() != Some(known.digest()) {
            let output = Output::create(&path, true, Readers::Owner)?;
            fill(&output, &bytes, &path)?;
            output.commit()?;
        }
        let file = ProfileFile {
            digest: known.digest(),
            path,
            bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        };
        Ok((known, file))
    }

    /// Returns the files, by their digests.
    ///
    /// # Errors
    /// KVC-940.
    pub fn list(&self) -> Result<Vec<ProfileFile>> {
        let failed = |error| Error::source(&error, self.root.display());
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let named = name.to_str().and_then(|name| name.split_once('.'));
            let digest = named.and_then(|(stem, _)| Digest::from_hex(stem));
            let Some(digest) = digest.filter(|digest| *name == *profile_file_name(digest)) else {
                continue;
            };
            let meta = entry.metadata().map_err(failed)?;
            if meta.is_file() {
                found.push(ProfileFile {
                    digest,
                    path: entry.path(),
                    bytes: meta.len(),
                });
            }
        }
        found.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(found)
    }

    /// Returns those that no capsule of the sessions, or of these folders, names, and that were not added within a day.
    /// A capsule counts whatever its times and its signature say.
    ///
    /// # Errors
    /// Of a capsule that cannot be read, which may name any of them; KVC-940.
    pub fn unneeded(&self, sessions: &DeviceTier, folders: &[PathBuf]) -> Result<Vec<ProfileFile>> {
        // before the capsules, so that one that is added meanwhile is none of them
        let all = self.list()?;
        let mut named = BTreeSet::new();
        for names in sessions.sessions()? {
            let folder = sessions.folder(&names)?;
            for part in sessions.parts(&names)? {
                if let Artefact::Capsule(..) = part {
                    named.extend(named_by(&folder.join(part.file_name()))?);
                }
            }
        }
        for folder in folders {
            for path in capsules_in(folder)? {
                named.extend(named_by(&path)?);
            }
        }
        let now = SystemTime::now();
        let is_fresh = |file: &ProfileFile| {
            let changed = fs::metadata(&file.path).and_then(|meta| meta.modified());
            // a time to come is one of just now
            changed.is_ok_and(|at| now.duration_since(at).unwrap_or_default() < FRESH)
        };
        let goes =
            |file: &ProfileFile| !named.contains(&file.digest.to_string()) && !is_fresh(file);
        Ok(all.into_iter().filter(goes).collect())
    }

    /// Removes a file of these.
    ///
    /// # Errors
    /// KVC-940.
    pub fn remove(&self, file: &ProfileFile) -> Result<()> {
        let removed = operation::before(Operation::Remove(&file.path))
            .and_then(|()| fs::remove_file(&file.path))
            .and_then(|()| output::sync_folder(&self.root));
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::sink(&error, file.path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// The profile that a capsule names, in hexadecimal; none where the capsule has gone since.
fn named_by(path: &Path) -> Result<Option<String>> {
    if let Err(error) = fs::metadata(path)
        && error.kind() == io::ErrorKind::NotFound
    {
        return Ok(None);
    }
    let read = || -> Result<_> {
        let file = SourceFile::open(path)?;
        Untrusted::read_at(&file, &Limits::default())?.outline()
    };
    let outline = read().map_err(|error| error.at(path.display()))?;
    Ok(outline.codec_profile)
}
