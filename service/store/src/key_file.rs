//! Key files: read with their mode checked, never printed, never on the command line; a secret key may be under a
//! passphrase.

use std::{fs::File, path::Path};

use kvcap::{
    Code, Error, KeyId, PublicKey, Recipient, RecipientPublicKey, Result, RootKey, RootPublic,
    SigningKey, TrustedKey, WrappingKey,
};
use zeroize::Zeroizing;

use crate::{
    helper::Helper,
    passphrase::{LOCKED, Passphrases},
    private,
};

/// Longest key file, in bytes.
pub(crate) const LONGEST: u64 = 4096;

/// What the text of every secret key begins with.
pub(crate) const SECRET: &str = "KVCAP-SECRET-";

/// Reads a secret signing key.
///
/// # Errors
/// KVC-940, 942; 943 where others may read a secret key's file.
pub fn signing(path: &Path, passphrases: &Passphrases<'_>) -> Result<SigningKey> {
    held(path, passphrases, SigningKey::from_text, Helper::signing)
}

/// Refuses to sign in the name of another issuer than the key's file names. A key whose file names none signs
/// for whom a registry has given it to.
///
/// # Errors
/// KVC-312.
pub fn check_issuer(signer: &SigningKey, issuer: &str) -> Result<()> {
    match signer.named_issuer() {
        Some(own) if own != issuer => Err(Error::new(
            Code::KeyIssuer,
            "the signing key belongs to another issuer",
        )
        .sides(format_args!("{own:?}"), format_args!("{issuer:?}"))),
        _ => Ok(()),
    }
}

/// Reads secret wrapping keys.
///
/// # Errors
/// KVC-940, 942; 943 where others may read a secret key's file.
pub fn wrapping(
    paths: &[impl AsRef<Path>],
    passphrases: &Passphrases<'_>,
) -> Result<Vec<WrappingKey>> {
    let read = |path: &_| wrapping_key(AsRef::as_ref(path), passphrases);
    paths.iter().map(read).collect()
}

/// Reads a secret wrapping key.
///
/// # Errors
/// KVC-940, 942; 943 where others may read a secret key's file.
pub fn wrapping_key(path: &Path, passphrases: &Passphrases<'_>) -> Result<WrappingKey> {
    held(path, passphrases, WrappingKey::from_text, Helper::wrapping)
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

/// Returns whether this is a public key's text or that of its whole file, and no file's name: by the argument
/// alone. Which kind of key it is, its caller has said, and every other kind is refused.
pub(crate) fn is_text(key: &str) -> bool {
    let tags = [
        "kvcap-pub-",
        "kvcap-root-",
        "kvcap-roots-",
        "kvcap-hpke-",
        "kvcap-xwing-",
    ];
    let tagged = |line: &str| tags.iter().any(|tag| line.starts_with(tag));
    key.lines().any(tagged)
}

/// Reads a public key: a file, or the key's text itself.
///
/// # Errors
/// KVC-940, 942; 943 where others may read a secret key's file.
pub fn public(key: &str) -> Result<PublicKey> {
    text_of(key, PublicKey::from_text)
}

/// Reads a public key and the issuer that it speaks for, which its file names: a file, or the key's text, which
/// speaks for itself alone.
///
/// # Errors
/// KVC-940, 942; 943 where others may read a secret key's file.
pub fn trusted(key: &str) -> Result<TrustedKey> {
    text_of(key, TrustedKey::from_text)
}

/// Gives a key that names no issuer to `issuer`.
///
/// # Errors
/// KVC-312 where it names another.
pub fn given_to(key: TrustedKey, issuer: Option<&str>) -> Result<TrustedKey> {
    match issuer {
        Some(issuer) if key.issuer != issuer && key.issuer != key.key.own_issuer() => {
            let error = Error::new(Code::KeyIssuer, "the key belongs to another issuer");
            Err(error.names(&[&key.issuer], Some(issuer)))
        }
        Some(issuer) => Ok(TrustedKey {
            issuer: issuer.to_owned(),
            ..key
        }),
        None => Ok(key),
    }
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
pub fn root(path: &Path, passphrases: &Passphrases<'_>) -> Result<RootKey> {
    held(path, passphrases, RootKey::from_text, Helper::root)
}

fn text_of<T>(key: &str, parse: fn(&str) -> Result<T>) -> Result<T> {
    if is_text(key) {
        return parse(key);
    }
    let text = read(Path::new(key), &open(Path::new(key))?)?;
    parse(&text).map_err(|error| error.at(key))
}

/// The key of a file that only its owner may read, who is the user or root: its secret, or who holds that.
fn held<T>(
    path: &Path,
    passphrases: &Passphrases<'_>,
    here: fn(&str) -> Result<T>,
    elsewhere: fn(Helper) -> Result<T>,
) -> Result<T> {
    let file = open(path)?;
    let text = read(path, &file)?;
    let at = |error: Error| error.at(path.display());
    match Helper::named_in(&text).map_err(at)? {
        Some(helper) => {
            private::check(&file, path)?;
            elsewhere(helper).map_err(at)
        }
        None => here(&secret(path, &file, text, passphrases)?).map_err(at),
    }
}

/// The text of a secret key's file; of a locked key, with its own line in the locked one's place.
fn secret(
    path: &Path,
    file: &File,
    text: Zeroizing<String>,
    passphrases: &Passphrases<'_>,
) -> Result<Zeroizing<String>> {
    // another kind of file, a public key for one, is its reader's to name: its mode is no secret's
    if text.contains(SECRET) {
        private::check(file, path)?;
    }
    let locked = |line: &&str| line.starts_with(LOCKED);
    let Some(line) = text.lines().find(locked) else {
        return Ok(text);
    };
    let key = passphrases.unlock(line.trim_end(), path);
    let key = key.map_err(|error| error.at(path.display()))?;
    Ok(Zeroizing::new(text.replacen(line, &key, 1)))
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| Error::source(&error, path.display()))
}

pub(crate) fn read(path: &Path, file: &File) -> Result<Zeroizing<String>> {
    private::text(file, path, LONGEST, Code::LocalKeyMalformed)
}
