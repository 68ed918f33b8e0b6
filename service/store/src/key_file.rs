//! Key files: read with their mode checked, never printed, never on the command line.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::Path,
};

use kvcap::{
    Code, Error, KeyId, PublicKey, Recipient, RecipientPublicKey, Result, RootKey, RootPublic,
    SigningKey, WrappingKey,
};
use zeroize::Zeroizing;

/// Longest key file, in bytes.
const LONGEST: u64 = 4096;

/// Reads a secret signing key.
///
/// # Errors
/// KVC-940, 942; 943 where others may read a secret key's file.
pub fn signing(path: &Path) -> Result<SigningKey> {
    let text = secret(path)?;
    SigningKey::from_text(&text).map_err(|error| error.at(path.display()))
}

/// Reads secret wrapping keys.
///
/// # Errors
/// KVC-940, 942; 943 where others may read a secret key's file.
pub fn wrapping(paths: &[impl AsRef<Path>]) -> Result<Vec<WrappingKey>> {
    paths
        .iter()
        .map(|path| wrapping_key(path.as_ref()))
        .collect()
}

/// Reads a secret wrapping key.
///
/// # Errors
/// KVC-940, 942; 943 where others may read a secret key's file.
pub fn wrapping_key(path: &Path) -> Result<WrappingKey> {
    WrappingKey::from_text(&secret(path)?).map_err(|error| error.at(path.display()))
}

/// Reads public keys of recipients: each a file, or the key's text itself.
///
/// # Errors
/// KVC-940, 942; 943 where others may read a secret key's file.
pub fn recipients(keys: &[String]) -> Result<Vec<RecipientPublicKey>> {
    let read = |key: &String| text_of(key, RecipientPublicKey::from_text);
    keys.iter().map(read).collect()
}

/// Returns the recipients whose secret keys are at hand, and those whose public keys are.
#[must_use]
pub fn all<'k>(secret: &'k [WrappingKey], public: &'k [RecipientPublicKey]) -> Vec<Recipient<'k>> {
    let secret = secret.iter().map(Recipient::from);
    secret.chain(public.iter().map(Recipient::from)).collect()
}

/// Returns whether this is a key's text, and no file's name.
#[must_use]
pub fn is_text(key: &str) -> bool {
    let tags = ["kvcap-pub-", "kvcap-root-", "kvcap-hpke-", "kvcap-xwing-"];
    tags.iter().any(|tag| key.starts_with(tag))
}

/// Reads a public key: a file, or the key's text itself.
///
/// # Errors
/// KVC-940, 942; 943 where others may read a secret key's file.
pub fn public(key: &str) -> Result<PublicKey> {
    text_of(key, PublicKey::from_text)
}

/// Returns the key id that `text` names: the id itself in hexadecimal, a public key's file, or its text.
///
/// # Errors
/// KVC-940, 942.
pub fn key_id(text: &str) -> Result<KeyId> {
    match KeyId::from_hex(text) {
        Some(id) => Ok(id),
        None => public(text).map(|key| key.id()),
    }
}

/// Reads a root's public key: a file, or the key's text itself.
///
/// # Errors
/// KVC-940, 942; 943 where others may read a secret key's file.
pub fn root_public(key: &str) -> Result<RootPublic> {
    text_of(key, RootPublic::from_text)
}

/// Reads a secret root key.
///
/// # Errors
/// KVC-940, 942; 943 where others may read a secret key's file.
pub fn root(path: &Path) -> Result<RootKey> {
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
