//! Wrapping keys by file and by folder.

use std::path::{Path, PathBuf};

use kvcap::{Code, Error, Result, Verified, WrappingKey};

use crate::{Passphrases, key_file, key_folder};

/// Wrapping keys that an operator names: key files, and key folders (registry-v1 §6).
#[derive(Debug)]
pub struct WrapKeys<'a> {
    keys: Vec<WrappingKey>,
    folders: Vec<&'a Path>,
}

impl<'a> WrapKeys<'a> {
    /// Reads the key files; folders are looked into once it is known what for. A path that is not there is
    /// neither, and nothing is made of it. Whether it is a file or a folder raises no trust: a key opens
    /// what names it as its recipient, and who can put a folder in a file's place can put another key there.
    ///
    /// # Errors
    /// KVC-940, 942, 943; 946 for a passphrase.
    pub fn read(paths: &'a [PathBuf], passphrases: &Passphrases<'_>) -> Result<Self> {
        let (folders, files): (Vec<&Path>, Vec<&Path>) = paths
            .iter()
            .map(PathBuf::as_path)
            .partition(|path| path.is_dir());
        let keys = key_file::wrapping(&files, passphrases)?;
        Ok(Self { keys, folders })
    }

    /// Returns the keys to seal for: those of the folders are the tenant's of the day.
    ///
    /// # Errors
    /// As [`key_folder::key_of_the_day`].
    pub fn sealing(mut self, tenant: Option<&str>, now: u64) -> Result<Vec<WrappingKey>> {
        for folder in self.folders {
            self.keys
                .push(key_folder::key_of_the_day(folder, tenant, now)?);
        }
        Ok(self.keys)
    }

    /// Returns the keys to open these capsules with.
    ///
    /// # Errors
    /// KVC-811 where all that is left of a capsule's key is the record of its end.
    pub fn opening<'v>(
        mut self,
        capsules: impl IntoIterator<Item = &'v Verified>,
    ) -> Result<Vec<WrappingKey>> {
        for capsule in capsules {
            let recipients: Vec<String> =
                capsule.recipients().map(|(id, _)| id.to_string()).collect();
            let held = |keys: &[WrappingKey]| {
                keys.iter()
                    .any(|key| recipients.contains(&key.id().to_string()))
            };
            let mut destroyed = None;
            for folder in &self.folders {
                let mut slots = key_folder::slots(folder)?;
                slots.retain(|slot| recipients.contains(&slot.id));
                for slot in slots {
                    match slot.destroyed {
                        true => destroyed = Some(slot),
                        false if held(&self.keys) => {}
                        false => self.keys.push(key_folder::read(folder, &slot)?),
                    }
                }
            }
            if let Some(slot) = destroyed.filter(|_| !held(&self.keys)) {
                let what = "the key that the capsule was sealed for was destroyed";
                return Err(Error::new(Code::BodyKeyDestroyed, what).at(slot.id));
            }
        }
        Ok(self.keys)
    }
}
