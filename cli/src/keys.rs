//! Key files: read with their mode checked, never printed, never on the command line.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use kvcap::{
    Code, Error, PublicKey, Recipient, RecipientKey, Result, RootKey, RootPublic, SigningKey,
    Verified, WrappingKey,
};
use zeroize::Zeroizing;

use crate::key_folder;

/// Longest key file, in bytes.
const LONGEST: u64 = 4096;

/// A secret signing key.
pub(crate) fn signing(path: &Path) -> Result<SigningKey> {
    let text = secret(path)?;
    SigningKey::from_text(&text).map_err(|error| error.at(path.display()))
}

/// Secret wrapping keys.
pub(crate) fn wrapping(paths: &[impl AsRef<Path>]) -> Result<Vec<WrappingKey>> {
    paths
        .iter()
        .map(|path| wrapping_key(path.as_ref()))
        .collect()
}

/// A secret wrapping key.
pub(crate) fn wrapping_key(path: &Path) -> Result<WrappingKey> {
    WrappingKey::from_text(&secret(path)?).map_err(|error| error.at(path.display()))
}

/// What `--wrap-key` names: keys, and folders of keys.
pub(crate) struct WrapKeys<'a> {
    keys: Vec<WrappingKey>,
    folders: Vec<&'a Path>,
}

impl<'a> WrapKeys<'a> {
    /// Reads the keys; folders are looked into once it is known what for.
    ///
    /// # Errors
    /// KVC-940, 942, 943.
    pub(crate) fn read(paths: &'a [PathBuf]) -> Result<Self> {
        let (folders, files): (Vec<&Path>, Vec<&Path>) = paths
            .iter()
            .map(PathBuf::as_path)
            .partition(|path| path.is_dir());
        let keys = wrapping(&files)?;
        Ok(Self { keys, folders })
    }

    /// The keys to seal for: those of the folders are the tenant's of the day.
    ///
    /// # Errors
    /// As [`key_folder::key_of_the_day`].
    pub(crate) fn sealing(mut self, tenant: Option<&str>, now: u64) -> Result<Vec<WrappingKey>> {
        for folder in self.folders {
            self.keys
                .push(key_folder::key_of_the_day(folder, tenant, now)?);
        }
        Ok(self.keys)
    }

    /// The keys to open these capsules with.
    ///
    /// # Errors
    /// KVC-811 where all that is left of a capsule's key is the record of its end.
    pub(crate) fn opening<'v>(
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

/// Public keys of recipients: each a file, or the key's text itself.
pub(crate) fn recipients(keys: &[String]) -> Result<Vec<RecipientKey>> {
    let read = |key: &String| text_of(key, RecipientKey::from_text);
    keys.iter().map(read).collect()
}

/// Those whose secret keys are at hand, and those whose public keys are.
pub(crate) fn all<'k>(secret: &'k [WrappingKey], public: &'k [RecipientKey]) -> Vec<Recipient<'k>> {
    let secret = secret.iter().map(Recipient::from);
    secret.chain(public.iter().map(Recipient::from)).collect()
}

/// Whether this is a key's text, and no file's name.
pub(crate) fn is_text(key: &str) -> bool {
    let tags = ["kvcap-pub-", "kvcap-root-", "kvcap-hpke-", "kvcap-xwing-"];
    tags.iter().any(|tag| key.starts_with(tag))
}

/// A public key: a file, or the key's text itself.
pub(crate) fn public(key: &str) -> Result<PublicKey> {
    text_of(key, PublicKey::from_text)
}

/// A root's public key: a file, or the key's text itself.
pub(crate) fn root_public(key: &str) -> Result<RootPublic> {
    text_of(key, RootPublic::from_text)
}

/// A secret root key.
pub(crate) fn root(path: &Path) -> Result<RootKey> {
    RootKey::from_text(&secret(path)?).map_err(|error| error.at(path.display()))
}

fn text_of<T>(key: &str, parse: fn(&str) -> Result<T>) -> Result<T> {
    if is_text(key) {
        return parse(key);
    }
    let text = read(Path::new(key), &open(Path::new(key))?)?;
    parse(&text).map_err(|error| error.at(key))
}

/// The text of a file that only its owner may read.
fn secret(path: &Path) -> Result<Zeroizing<String>> {
    let file = open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let meta = file
            .metadata()
            .map_err(|error| Error::io(&error, path.display()))?;
        let mode = meta.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let what = "the secret key file can be read by others";
            return Err(Error::new(Code::LocalKeyMode, what)
                .at(path.display())
                .sides("mode 0600", format_args!("{mode:04o}")));
        }
    }
    read(path, &file)
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| Error::io(&error, path.display()))
}

fn read(path: &Path, file: &File) -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(512));
    let read = file.take(LONGEST + 1).read_to_string(&mut text);
    let malformed = |what| Error::new(Code::LocalKeyMalformed, what).at(path.display());
    match read {
        Ok(_) if u64::try_from(text.len()).is_ok_and(|len| len > LONGEST) => {
            Err(malformed("the file is too long for a key"))
        }
        Ok(_) => Ok(text),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Err(malformed("the file is not a key's text"))
        }
        Err(error) => Err(Error::io(&error, path.display())),
    }
}
