//! A folder of wrapping keys, one for each tenant and day (registry-v1 §6).
//!
//! A key's file is `DAY.TENANT.ID.key`; what is left of a destroyed one is `DAY.TENANT.ID.destroyed`. A
//! key that has such a record counts as destroyed, whether or not its file is gone yet.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use kvcap::{Code, Error, KeyId, Result, WrappingKey};
use zeroize::Zeroizing;

use crate::{
    Passphrases, key_file,
    lock::{Lock, Wait},
    output::{self, Readers},
    private,
    time::{self, Day},
};

/// Longest name of a tenant in a file's name.
const LONGEST_NAME: usize = 150;

/// Most slots that an error names.
const MOST_NAMED: usize = 20;

/// A key, or what is left of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Slot {
    /// The day of the capsules that are sealed for it.
    pub day: Day,
    /// As in the file's name.
    pub tenant: String,
    /// The key's id, in hexadecimal.
    pub id: String,
    /// True if a record says that it was destroyed.
    pub destroyed: bool,
}

impl Slot {
    /// The slot of a file's name; `None` for what has not the form of one.
    fn parse(name: &str) -> Result<Option<Self>> {
        let parts: Vec<&str> = name.split('.').collect();
        let [day, tenant, id, kind @ ("key" | "destroyed")] = *parts else {
            return Ok(None);
        };
        match (Day::parse(day), KeyId::from_hex(id)) {
            (Some(day), Some(key)) if key.to_string() == id => Ok(Some(Self {
                day,
                tenant: tenant.to_owned(),
                id: id.to_owned(),
                destroyed: kind == "destroyed",
            })),
            _ => {
                let what = "the name of a key's file is not DAY.TENANT.ID.key";
                Err(Error::new(Code::LocalKeyMalformed, what).at(name))
            }
        }
    }

    fn path(&self, folder: &Path, suffix: &str) -> PathBuf {
        let Self {
            day, tenant, id, ..
        } = self;
        folder.join(format!("{day}.{tenant}.{id}.{suffix}"))
    }

    /// Refuses the text of another key than the file's name says.
    fn check(&self, key: &WrappingKey, path: &Path) -> Result<()> {
        match key.id().to_string() {
            id if id == self.id => Ok(()),
            id => {
                let what = "the file holds another key than its name says";
                let error = Error::new(Code::LocalKeyMalformed, what).at(path.display());
                Err(error.sides(&self.id, id))
            }
        }
    }
}

/// Choice of keys of a folder.
#[derive(Clone, Copy, Debug)]
pub enum Meant<'a> {
    /// Those with these ids.
    Ids(&'a [String]),
    /// Those of a tenant, or of capsules without one.
    Tenant {
        /// Its name as in capsules.
        tenant: Option<&'a str>,
        /// Only those of days before this one.
        before: Option<Day>,
        /// True if `before` may take in the keys of today and later.
        including_today: bool,
    },
}

/// Returns all keys of a folder, sorted; a key that has a record is destroyed.
///
/// # Errors
/// KVC-940; 942 for a file that is nearly named as a key.
pub fn slots(folder: &Path) -> Result<Vec<Slot>> {
    let failed = |error| Error::source(&error, folder.display());
    let mut slots = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let slot = name.to_str().map(Slot::parse).transpose();
        slots.extend(slot.map_err(|error| error.at(folder.display()))?.flatten());
    }
    let records = slots.iter().filter(|slot| slot.destroyed);
    let destroyed: BTreeSet<String> = records.map(|slot| slot.id.clone()).collect();
    for slot in &mut slots {
        slot.destroyed = destroyed.contains(&slot.id);
    }
    slots.sort();
    slots.dedup();
    Ok(slots)
}

/// Returns the keys of a folder that are meant, at least one.
///
/// # Errors
/// KVC-809 where the folder has no key with an id; 944 where it has none of the tenant and days, and for a
/// `before` that would take in today's key by oversight; 940, 942.
pub fn select(folder: &Path, meant: Meant<'_>, now: u64) -> Result<Vec<Slot>> {
    let known = slots(folder)?;
    let usage = |what| Error::new(Code::LocalUsage, what).at(folder.display());
    let (tenant, before) = match meant {
        Meant::Ids(ids) => {
            let absent = |id: &&String| known.iter().all(|slot| slot.id != **id);
            if let Some(id) = ids.iter().find(absent) {
                return Err(Error::new(Code::BodyNoKey, "the key folder has no such key").at(id));
            }
            return Ok(known
                .into_iter()
                .filter(|slot| ids.contains(&slot.id))
                .collect());
        }
        Meant::Tenant {
            before: Some(day),
            including_today: false,
            ..
        } if day > Day::of(now) => {
            let what = "the days before this one take in today: it has to be asked for by name";
            let today = format!("at most {}, today in UTC", Day::of(now));
            return Err(usage(what).sides(today, day));
        }
        Meant::Tenant { tenant, before, .. } => (tenant_name(tenant)?, before),
    };
    let early = |slot: &Slot| before.is_none_or(|day| slot.day < day);
    let meant = |slot: &&Slot| slot.tenant == tenant && early(slot);
    let chosen: Vec<Slot> = known.iter().filter(meant).cloned().collect();
    if !chosen.is_empty() {
        return Ok(chosen);
    }
    let named: BTreeSet<String> = known
        .iter()
        .map(|slot| format!("{} {}", slot.tenant, slot.day))
        .collect();
    let mut there: Vec<&str> = named.iter().map(String::as_str).take(MOST_NAMED).collect();
    if named.len() > MOST_NAMED {
        there.push("and more");
    }
    if there.is_empty() {
        there.push("no key");
    }
    let asked = before.map_or(tenant.clone(), |day| format!("{tenant} before {day}"));
    let what = "the key folder has no key of this tenant and these days";
    Err(usage(what).sides(there.join(", "), asked))
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

/// Returns the tenant's key of the day, made where there is none.
///
/// # Errors
/// KVC-940, 942, 943; 944 for a name that is too long.
pub fn key_of_the_day(folder: &Path, tenant: Option<&str>, now: u64) -> Result<WrappingKey> {
    let (day, tenant) = (Day::of(now), tenant_name(tenant)?);
    let _lock = Lock::of(&folder.join("keys"), Wait::default())?;
    let todays = |slot: &&Slot| !slot.destroyed && slot.day == day && slot.tenant == tenant;
    if let Some(slot) = slots(folder)?.iter().find(todays) {
        return read(folder, slot);
    }
    let key = WrappingKey::generate()?;
    let id = key.id().to_string();
    let line = key.to_secret_text().unwrap_or_default();
    let text = Zeroizing::new(format!(
        "# kvcap secret wrapping key {id} of tenant {tenant}, {day}: share it with nobody\n{}\n",
        *line
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
/// As [`key_file::wrapping_key`]; KVC-942 where the file holds another key than its name says.
pub fn read(folder: &Path, slot: &Slot) -> Result<WrappingKey> {
    let path = slot.path(folder, "key");
    // keys of a folder are made by machines: nobody would be asked
    let key = key_file::wrapping_key(&path, &Passphrases::none())?;
    slot.check(&key, &path)?;
    Ok(key)
}

/// Destroys keys (REG-X-3): records it, overwrites and removes their files. What a killed run left over is
/// finished. Nothing is destroyed before every file was opened and is found to be the key that its name says.
///
/// # Errors
/// KVC-940, also where a file is a link or is not there and no record says why; 942 for another key than the
/// file's name says.
pub fn shred(folder: &Path, slots: &[Slot], now: u64) -> Result<()> {
    let _lock = Lock::of(&folder.join("keys"), Wait::default())?;
    let files: Vec<Option<File>> = slots
        .iter()
        .map(|slot| key_to_erase(folder, slot))
        .collect::<Result<_>>()?;
    for (slot, file) in slots.iter().zip(files) {
        let record = slot.path(folder, "destroyed");
        if fs::symlink_metadata(&record).is_err() {
            let text = format!(
                "# kvcap wrapping key {} of tenant {}, {}\ndestroyed {}\n",
                slot.id,
                slot.tenant,
                slot.day,
                time::show_instant(now)
            );
            output::write(&record, false, Readers::Umask, text.as_bytes())?;
        }
        if let Some(file) = file {
            let path = slot.path(folder, "key");
            erase(file, &path).map_err(|error| Error::sink(&error, path.display()))?;
        }
    }
    output::sync_folder(folder).map_err(|error| Error::sink(&error, folder.display()))
}

/// The key's file, open for writing; `None` where it is gone and a record says so.
fn key_to_erase(folder: &Path, slot: &Slot) -> Result<Option<File>> {
    let path = slot.path(folder, "key");
    let recorded = fs::symlink_metadata(slot.path(folder, "destroyed")).is_ok();
    let file = match private::open(&path, OpenOptions::new().read(true).write(true)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && recorded => return Ok(None),
        opened => opened.map_err(|error| Error::sink(&error, path.display()))?,
    };
    let text = key_file::read(&path, &file)?;
    // a run that was killed while it erased the file
    if !(recorded && text.bytes().all(|byte| byte == 0)) {
        let key = WrappingKey::from_text(&text).map_err(|error| error.at(path.display()))?;
        slot.check(&key, &path)?;
    }
    Ok(Some(file))
}

fn erase(mut file: File, path: &Path) -> std::io::Result<()> {
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&vec![0; len.min(1 << 20)])?;
    file.sync_all()?;
    fs::remove_file(path)
}
