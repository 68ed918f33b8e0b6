//! Key files: read with their mode checked, never printed, never on the command line.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::Path,
};

use kvcap::{
    Code, Error, PublicKey, Recipient, RecipientKey, Result, RootKey, RootPublic, SigningKey,
    Trust, TrustedKey, WrappingKey,
};
use zeroize::Zeroizing;

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

/// The public keys that are trusted: each a file, or the key's text itself.
pub(crate) fn trust(keys: &[String]) -> Result<Trust> {
    let mut trust = Trust::none();
    for key in keys {
        let key = public(key)?;
        // one key named twice is one key
        if trust.ids().all(|id| id != key.id()) {
            trust.add(TrustedKey::new(key))?;
        }
    }
    Ok(trust)
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
