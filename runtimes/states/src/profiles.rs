//! Profiles of codecs that this process knows, by their digest (codecs-v1 §12.7).
//!
//! A profile's digest stands in the signed manifest, so that it does not matter where its bytes came from.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kvcap::{Bank, BankEntry, Code, Context, Error, Result, Role, binding::Digest};
use kvcap_codecs::{BankProfile, BankShape, Profile};

/// The context string of a profile's digest.
const LABEL: &str = "kvcap v1 codec profile";
/// Files of a folder that are read to find a profile.
const FILES: usize = 64;

/// A profile, and the digest that names it.
#[derive(Debug)]
pub struct KnownProfile {
    digest: Digest,
    profile: Profile,
}

#[derive(Debug)]
struct Known {
    profiles: Vec<Arc<KnownProfile>>,
    folders: Vec<PathBuf>,
}

static KNOWN: Mutex<Known> = Mutex::new(Known {
    profiles: Vec::new(),
    folders: Vec::new(),
});

impl KnownProfile {
    /// Its digest.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The profile.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Refuses it for another model than its own.
    ///
    /// # Errors
    /// KVC-909.
    pub fn check_model(&self, model: &Digest) -> Result<()> {
        let own = Digest(*self.profile.model());
        if own == *model {
            return Ok(());
        }
        let what = "the profile was made for another model";
        Err(Error::new(Code::CodecProfile, what).sides(model, own))
    }

    /// The part about a bank.
    pub(crate) fn of_bank(&self, bank: &BankEntry) -> Result<&BankProfile> {
        let found = role(bank.role).and_then(|role| self.profile.bank(bank.layer.into(), role));
        found.filter(|_| bank.index == 0).ok_or_else(|| {
            let what = "the profile has not the bank";
            Error::new(Code::CodecProfile, what).at(format_args!(
                "layer {} {}",
                bank.layer,
                bank.role.name()
            ))
        })
    }

    /// The part about a bank that is to be sealed, and its place, where there is one.
    pub(crate) fn for_bank(&self, bank: &Bank) -> Option<(usize, &BankProfile)> {
        let at = self.profile.at(bank.layer.into(), role(bank.role)?)?;
        let found = self.profile.banks().get(at).filter(|_| bank.index == 0)?;
        let BankShape::Tokens { heads, dim, .. } = bank.shape else {
            return None;
        };
        let extent = found.extent().map(|n| u64::try_from(n).unwrap_or(u64::MAX));
        (extent == [heads, dim]).then_some((at, found))
    }
}

/// The number of a role that a profile may have (capsule-v1 §7.1).
const fn role(role: Role) -> Option<u8> {
    match role {
        Role::Key => Some(0),
        Role::Value => Some(1),
        Role::Latent => Some(2),
        Role::RopeKey => Some(3),
        _ => None,
    }
}

/// Makes a profile known to this process, by its file's bytes.
///
/// # Errors
/// KVC-909 where they break a rule.
pub fn offer_profile(bytes: &[u8]) -> Result<Arc<KnownProfile>> {
    let digest = Digest::labelled(LABEL, &[bytes]);
    if let Some(known) = known(&digest) {
        return Ok(known);
    }
    let profile = Profile::parse(bytes);
    let profile = profile.map_err(|error| Error::new(Code::CodecProfile, error.to_string()))?;
    let offered = Arc::new(KnownProfile { digest, profile });
    lock().profiles.push(Arc::clone(&offered));
    Ok(offered)
}

/// Makes a profile's file known to this process.
///
/// # Errors
/// KVC-940 where it cannot be read; 909 as [`offer_profile`].
pub fn read_profile(path: &Path) -> Result<Arc<KnownProfile>> {
    let refused = |error: &io::Error| Error::source(error, path.display());
    let file = File::open(path).map_err(|error| refused(&error))?;
    let mut bytes = Vec::new();
    // one byte more than there may be, so that the reader refuses it
    let read = file.take(Profile::MAX_LEN + 1).read_to_end(&mut bytes);
    read.map_err(|error| refused(&error))?;
    offer_profile(&bytes).map_err(|error| error.at(path.display()))
}

/// Looks for profiles in a folder too, from now on, when one is needed that is not known.
pub fn look_for_profiles_in(folder: &Path) {
    let mut known = lock();
    if !known.folders.iter().any(|known| known == folder) {
        known.folders.push(folder.to_owned());
    }
}

/// The profiles of a model in a folder, unreadable files left out.
#[must_use]
pub fn profiles_beside(folder: &Path, model: &Digest) -> Vec<Arc<KnownProfile>> {
    let files = files(folder).into_iter();
    let read = files.filter_map(|path| read_profile(&path).ok());
    read.filter(|found| found.check_model(model).is_ok())
        .collect()
}

/// The profile that a capsule's banks decode with; `None` where they need none.
///
/// # Errors
/// KVC-908 where it is not known and in no folder; 909 where it is another model's.
pub(crate) fn needed(context: &Context) -> Result<Option<Arc<KnownProfile>>> {
    let Some(digest) = &context.profile else {
        return Ok(None);
    };
    let found = with_digest(digest)?;
    found.check_model(&context.model.id)?;
    Ok(Some(found))
}

/// The profile of a digest.
///
/// # Errors
/// KVC-908 where it is not known and in no folder.
pub(crate) fn with_digest(digest: &Digest) -> Result<Arc<KnownProfile>> {
    if let Some(known) = known(digest) {
        return Ok(known);
    }
    let folders = lock().folders.clone();
    for path in folders.iter().flat_map(|folder| files(folder)) {
        if let Some(found) = read_profile(&path).ok().filter(|p| p.digest == *digest) {
            return Ok(found);
        }
    }
    let what = "the capsule's codecs need a profile that is not here";
    Err(Error::new(Code::CodecNoProfile, what).at(digest))
}

fn known(digest: &Digest) -> Option<Arc<KnownProfile>> {
    let known = lock();
    let found = known.profiles.iter().find(|known| known.digest == *digest);
    found.cloned()
}

fn lock() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Files of a folder that are profiles by their suffix, in order of their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut found: Vec<_> = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|suffix| suffix == Profile::SUFFIX)
        })
        .collect();
    found.sort();
    found.truncate(FILES);
    found
}
