//! Profiles of codecs: found by their digest to decode, by their model to encode (codecs-v1 §12.7).
//!
//! A profile's digest stands in the signed manifest, so that it does not matter where its bytes came from. The process
//! holds those that were given to it or needed; of the other files of its folders it remembers whose they are.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
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
    /// Those that were given, and those that were needed.
    profiles: Vec<Arc<KnownProfile>>,
    /// Where others are looked for, the first first.
    folders: Vec<PathBuf>,
    /// What files hold that were looked into.
    seen: BTreeMap<PathBuf, Seen>,
}

/// What a file holds whose length and time of change are these.
#[derive(Clone, Copy, Debug)]
struct Seen {
    state: (u64, Option<SystemTime>),
    named: Option<Named>,
}

/// Which profile it is, and of which model.
#[derive(Clone, Copy, Debug)]
struct Named {
    digest: Digest,
    model: Digest,
}

static KNOWN: Mutex<Known> = Mutex::new(Known {
    profiles: Vec::new(),
    folders: Vec::new(),
    seen: BTreeMap::new(),
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
    let offered = Arc::new(parsed(bytes, digest)?);
    lock().profiles.push(Arc::clone(&offered));
    Ok(offered)
}

/// Makes a profile's file known to this process.
///
/// # Errors
/// KVC-940 where it cannot be read; 909 as [`offer_profile`].
pub fn read_profile(path: &Path) -> Result<Arc<KnownProfile>> {
    offer_profile(&profile_bytes(path)?).map_err(|error| error.at(path.display()))
}

/// Reads a profile's file, whose bytes nothing is known of yet: at most one more than a profile may have.
///
/// # Errors
/// KVC-940.
pub fn profile_bytes(path: &Path) -> Result<Vec<u8>> {
    let refused = |error: &io::Error| Error::source(error, path.display());
    let file = File::open(path).map_err(|error| refused(&error))?;
    let mut bytes = Vec::new();
    let read = file.take(Profile::MAX_LEN + 1).read_to_end(&mut bytes);
    read.map_err(|error| refused(&error))?;
    Ok(bytes)
}

/// Looks for profiles in a folder too, from now on, and there before those that were named earlier. Nothing is read until
/// one is needed.
pub fn look_for_profiles_in(folder: &Path) {
    let folders = &mut lock().folders;
    folders.retain(|known| known != folder);
    folders.insert(0, folder.to_owned());
}

/// Looks for profiles beside a model too, as [`look_for_profiles_in`]: in its folder, or in the folder of its file.
pub fn look_for_profiles_beside(model: &Path) {
    let beside = model.parent().filter(|_| !model.is_dir());
    let folder = beside.map(|folder| match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    });
    look_for_profiles_in(folder.unwrap_or(model));
}

/// The profile that banks of a model are encoded with where none is named: that of the first folder that has one.
///
/// # Errors
/// KVC-944 where a folder has several.
pub(crate) fn of_model(model: &Digest) -> Result<Option<Arc<KnownProfile>>> {
    for folder in folders() {
        let mut found: Option<(PathBuf, Digest)> = None;
        for path in files(&folder) {
            let Some(named) = looked_into(&path).filter(|named| named.model == *model) else {
                continue;
            };
            match &found {
                Some((_, digest)) if *digest != named.digest => {
                    let what = "several profiles of the model lie there, and none of them is named";
                    return Err(Error::new(Code::LocalUsage, what).at(folder.display()));
                }
                Some(_) => {}
                None => found = Some((path, named.digest)),
            }
        }
        // one that has gone or become another since is none
        if let Some(known) = found.and_then(|(path, digest)| take(&path, &digest)) {
            return Ok(Some(known));
        }
    }
    Ok(None)
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
    let folders = folders();
    let name = profile_file_name(digest);
    let mut named = folders.iter().map(|folder| folder.join(&name));
    if let Some(found) = named.find_map(|path| take(&path, digest)) {
        return Ok(found);
    }
    for path in folders.iter().flat_map(|folder| files(folder)) {
        let is_it = looked_into(&path).is_some_and(|named| named.digest == *digest);
        if let Some(found) = is_it.then(|| take(&path, digest)).flatten() {
            return Ok(found);
        }
    }
    let what = "the capsule's codecs need a profile that is not here";
    Err(Error::new(Code::CodecNoProfile, what).at(digest))
}

/// Returns the name of the file under which a folder of many profiles holds this one: it is found at once.
#[must_use]
pub fn profile_file_name(digest: &Digest) -> String {
    format!("{digest}.{}", Profile::SUFFIX)
}

/// A profile out of a file, made known, where the file holds this one.
fn take(path: &Path, digest: &Digest) -> Option<Arc<KnownProfile>> {
    let bytes = profile_bytes(path).ok()?;
    let is_it = Digest::labelled(LABEL, &[&bytes]) == *digest;
    is_it.then(|| offer_profile(&bytes).ok()).flatten()
}

/// Which profile a file holds, and of which model; `None` where it holds none. A file that was not changed is read once.
fn looked_into(path: &Path) -> Option<Named> {
    let meta = fs::metadata(path).ok()?;
    let state = (meta.len(), meta.modified().ok());
    let seen = lock().seen.get(path).copied();
    if let Some(seen) = seen.filter(|seen| seen.state == state) {
        return seen.named;
    }
    let named = profile_bytes(path).ok().and_then(|bytes| {
        let known = parsed(&bytes, Digest::labelled(LABEL, &[&bytes])).ok()?;
        Some(Named {
            digest: known.digest,
            model: Digest(*known.profile.model()),
        })
    });
    lock().seen.insert(path.to_owned(), Seen { state, named });
    named
}

fn parsed(bytes: &[u8], digest: Digest) -> Result<KnownProfile> {
    let profile = Profile::parse(bytes);
    let profile = profile.map_err(|error| Error::new(Code::CodecProfile, error.to_string()))?;
    Ok(KnownProfile { digest, profile })
}

fn known(digest: &Digest) -> Option<Arc<KnownProfile>> {
    let known = lock();
    let found = known.profiles.iter().find(|known| known.digest == *digest);
    found.cloned()
}

fn folders() -> Vec<PathBuf> {
    lock().folders.clone()
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
