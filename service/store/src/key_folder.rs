//! A folder of wrapping keys, one for each tenant and day (registry-v1 §6).
//!
//! A key's file is `DAY.TENANT.ID.key`; what is left of a destroyed one is `DAY.TENANT.ID.destroyed`. A
//! key that has such a record counts as destroyed, whether or not its file is gone yet.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use kvcap::{Code, Error, Lock, Result, WrappingKey};
use zeroize::Zeroizing;

use crate::{
    key_file,
    output::{self, Readers},
    time,
};

/// Longest name of a tenant in a file's name.
const LONGEST_NAME: usize = 150;

/// A key, or what is left of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Slot {
    /// `2026-11-21`.
    pub day: String,
    /// As in the file's name.
    pub tenant: String,
    /// The key's id, in hexadecimal.
    pub id: String,
    /// Whether a record says that it was destroyed.
    pub destroyed: bool,
}

impl Slot {
    fn parse(name: &str) -> Option<Self> {
        let (rest, destroyed) = match name.strip_suffix(".key") {
            Some(rest) => (rest, false),
            None => (name.strip_suffix(".destroyed")?, true),
        };
        let (day, rest) = rest.split_once('.')?;
        let (tenant, id) = rest.split_once('.')?;
        Some(Self {
            day: day.to_owned(),
            tenant: tenant.to_owned(),
            id: id.to_owned(),
            destroyed,
        })
    }

    fn path(&self, folder: &Path, suffix: &str) -> PathBuf {
        let Self {
            day, tenant, id, ..
        } = self;
        folder.join(format!("{day}.{tenant}.{id}.{suffix}"))
    }
}

/// Returns all keys of a folder, sorted; a key that has a record is destroyed.
///
/// # Errors
/// KVC-940.
pub fn slots(folder: &Path) -> Result<Vec<Slot>> {
    let failed = |error| Error::io(&error, folder.display());
    let mut slots = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        slots.extend(name.to_str().and_then(Slot::parse));
    }
    // a key's file sorts before its record, which is the one that counts
    slots.sort();
    slots.reverse();
    slots.dedup_by(|a, b| a.id == b.id && b.destroyed);
    slots.reverse();
    Ok(slots)
}

/// Renders a tenant's name so that only small letters, digits, `_` and `%XX` remain; no tenant is `-`.
///
/// # Errors
/// KVC-944 for a name that is too long.
pub fn tenant_name(tenant: Option<&str>) -> Result<String> {
    let Some(tenant) = tenant else {
        return Ok("-".to_owned());
    };
    let name: String = tenant
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02x}"),
        })
        .collect();
    match name.len() <= LONGEST_NAME {
        true => Ok(name),
        false => {
            let what = "the tenant's name is too long for a key folder";
            Err(Error::new(Code::LocalUsage, what))
        }
    }
}

/// Returns the day of a time, in UTC.
#[must_use]
pub fn day(now: u64) -> String {
    time::show_instant(now).chars().take(10).collect()
}

/// Returns the tenant's key of the day, made where there is none.
///
/// # Errors
/// KVC-940, 943; 944 for a name that is too long.
pub fn key_of_the_day(folder: &Path, tenant: Option<&str>, now: u64) -> Result<WrappingKey> {
    let (day, tenant) = (day(now), tenant_name(tenant)?);
    let _lock = Lock::of(&folder.join("keys"))?;
    let todays = |slot: &&Slot| !slot.destroyed && slot.day == day && slot.tenant == tenant;
    if let Some(slot) = slots(folder)?.iter().find(todays) {
        return key_file::wrapping_key(&slot.path(folder, "key"));
    }
    let key = WrappingKey::generate()?;
    let id = key.id().to_string();
    let text = Zeroizing::new(format!(
        "# kvcap secret wrapping key {id} of tenant {tenant}, {day}: share it with nobody\n{}\n",
        *key.to_secret_text()
    ));
    let slot = Slot {
        day,
        tenant,
        id,
        destroyed: false,
    };
    let path = slot.path(folder, "key");
    output::write(&path, false, Readers::Owner, text.as_bytes())?;
    Ok(key)
}

/// Reads the key of a slot.
///
/// # Errors
/// As [`key_file::wrapping_key`].
pub fn read(folder: &Path, slot: &Slot) -> Result<WrappingKey> {
    key_file::wrapping_key(&slot.path(folder, "key"))
}

/// Destroys the keys that are `meant`: records it, overwrites and removes their files. What a killed run
/// left over is finished. Gives their slots.
///
/// # Errors
/// KVC-940.
pub fn shred(folder: &Path, meant: impl Fn(&Slot) -> bool, now: u64) -> Result<Vec<Slot>> {
    let _lock = Lock::of(&folder.join("keys"))?;
    let slots: Vec<Slot> = slots(folder)?.into_iter().filter(meant).collect();
    for slot in &slots {
        if !slot.destroyed {
            let text = format!(
                "# kvcap wrapping key {} of tenant {}, {}\ndestroyed {}\n",
                slot.id,
                slot.tenant,
                slot.day,
                time::show_instant(now)
            );
            let record = slot.path(folder, "destroyed");
            output::write(&record, false, Readers::Umask, text.as_bytes())?;
        }
        let path = slot.path(folder, "key");
        if path.exists() {
            erase(&path).map_err(|error| Error::io(&error, path.display()))?;
        }
    }
    output::sync_folder(folder).map_err(|error| Error::io(&error, folder.display()))?;
    Ok(slots)
}

fn erase(path: &Path) -> std::io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).open(path)?;
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    file.write_all(&vec![0; len.min(1 << 20)])?;
    file.sync_all()?;
    fs::remove_file(path)
}
