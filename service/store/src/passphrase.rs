//! Secret keys under a passphrase (capsule-v1 §7).

use std::{cell::RefCell, fmt, fs::File, path::Path};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit,
    aead::{Aead, Payload},
};
use kvcap::{Code, Error, Result};
use zeroize::Zeroizing;

use crate::private;

/// What a locked key's line begins with; its bytes are the associated data.
pub(crate) const LOCKED: &str = "KVCAP-SECRET-LOCKED-1";

/// Memory in KiB, passes and lanes of Argon2id: RFC 9106 §4, the second recommended option.
const COST: (u32, u32, u32) = (64 << 10, 3, 4);

const SALT: usize = 16;

/// Longest file of a passphrase, in bytes.
const LONGEST: u64 = 4096;

/// Asks for the passphrase of the key in a file.
pub type Ask<'a> = &'a dyn Fn(&Path) -> Result<Zeroizing<String>>;

/// Passphrases that are known, and somebody to ask for more: of several keys under one, it is asked for once.
pub struct Passphrases<'a> {
    ask: Option<Ask<'a>>,
    known: RefCell<Vec<Zeroizing<String>>>,
}

impl fmt::Debug for Passphrases<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrases")
    }
}

impl<'a> Passphrases<'a> {
    /// Returns nobody to ask: locked keys are refused.
    #[must_use]
    pub fn none() -> Self {
        let known = RefCell::default();
        Self { ask: None, known }
    }

    /// Asks as `ask` does.
    #[must_use]
    pub fn asking(ask: Ask<'a>) -> Self {
        let known = RefCell::default();
        let ask = Some(ask);
        Self { ask, known }
    }

    /// Returns the key's line under a locked one, of the file at `path`.
    ///
    /// # Errors
    /// KVC-946 where no passphrase fits; 942.
    pub(crate) fn unlock(&self, line: &str, path: &Path) -> Result<Zeroizing<String>> {
        for known in self.known.borrow().iter() {
            if let Some(key) = open(line, known)? {
                return Ok(key);
            }
        }
        let refused = |what| Error::new(Code::LocalPassphrase, what);
        let Some(ask) = self.ask else {
            return Err(refused("the key is under a passphrase"));
        };
        let passphrase = ask(path)?;
        let Some(key) = open(line, &passphrase)? else {
            return Err(refused(
                "the passphrase does not fit the key, or the file is damaged",
            ));
        };
        self.known.borrow_mut().push(passphrase);
        Ok(key)
    }
}

/// Reads a passphrase: the first line of a file that is its user's alone, or of a pipe (`/dev/fd/3`).
///
/// # Errors
/// KVC-943 where others may read the file; 946 where it holds none, or is longer than 4096 bytes; 940.
pub fn passphrase_in(path: &Path) -> Result<Zeroizing<String>> {
    let io = |error| Error::source(&error, path.display());
    let file = File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.is_file() {
        private::check(&file, path)?;
    }
    let text = private::text(&file, path, LONGEST, Code::LocalPassphrase)?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Zeroizing::new(line.to_owned())),
        _ => Err(
            Error::new(Code::LocalPassphrase, "the file holds no passphrase").at(path.display()),
        ),
    }
}

/// Returns the line of a key file that holds `key`, the line of a secret key, under a passphrase.
///
/// # Errors
/// KVC-946 for an empty passphrase; 940 where the system gives no randomness or memory.
pub(crate) fn lock(key: &str, passphrase: &str) -> Result<Zeroizing<String>> {
    if passphrase.is_empty() {
        return Err(Error::new(Code::LocalPassphrase, "the passphrase is empty"));
    }
    let mut bytes = vec![0; SALT];
    getrandom::fill(&mut bytes)
        .map_err(|_| Error::new(Code::LocalIo, "the system gives no randomness"))?;
    let sealed = cipher(&bytes, passphrase)?
        .encrypt(&[0; 12].into(), payload(key.as_bytes()))
        .map_err(|_| Error::new(Code::LocalIo, "the key cannot be encrypted"))?;
    bytes.extend(sealed);
    let mut line = Zeroizing::new(String::from(LOCKED));
    for byte in bytes {
        line.push_str(&format!("{byte:02X}"));
    }
    Ok(line)
}

/// `None` where the passphrase does not fit.
fn open(line: &str, passphrase: &str) -> Result<Option<Zeroizing<String>>> {
    let malformed = || Error::new(Code::LocalKeyMalformed, "the locked key is malformed");
    let hex = line.strip_prefix(LOCKED).ok_or_else(malformed)?;
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(malformed()),
    };
    let pairs = hex.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Ok(digit(*high)? << 4 | digit(*low)?),
        _ => Err(malformed()),
    });
    let bytes = pairs.collect::<Result<Vec<u8>>>()?;
    let (salt, sealed) = bytes.split_at_checked(SALT).ok_or_else(malformed)?;
    // one salt encrypts one key, so that the nonce is never used twice
    let Ok(key) = cipher(salt, passphrase)?.decrypt(&[0; 12].into(), payload(sealed)) else {
        return Ok(None);
    };
    let key = Zeroizing::new(key);
    let text = std::str::from_utf8(&key).map_err(|_| malformed())?;
    Ok(Some(Zeroizing::new(text.to_owned())))
}

fn payload(msg: &[u8]) -> Payload<'_, '_> {
    let aad = LOCKED.as_bytes();
    Payload { msg, aad }
}

fn cipher(salt: &[u8], passphrase: &str) -> Result<ChaCha20Poly1305> {
    let failed = |_| Error::new(Code::LocalIo, "a key cannot be derived from the passphrase");
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, Some(32)).map_err(failed)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, &mut *key)
        .map_err(failed)?;
    Ok(ChaCha20Poly1305::new(&(*key).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the specification shows.
    const EXAMPLE: &str = include_str!("../../../spec/capsule-v1.md");

    #[test]
    fn the_specifications_example_opens() {
        let shown = |line: &&str| line.starts_with(LOCKED) && !line.contains('<');
        let line = EXAMPLE.lines().find(shown).unwrap();
        let key = open(line, "correct horse battery staple").unwrap().unwrap();
        kvcap::WrappingKey::from_text(&key).unwrap();
    }

    #[test]
    fn a_locked_key_opens_with_its_passphrase_alone() {
        let key = "KVCAP-SECRET-WRAP-1ABCD";
        let line = lock(key, "correct horse").unwrap();
        assert!(line.starts_with(LOCKED) && !line.contains("ABCD"));
        assert_eq!(*open(&line, "correct horse").unwrap().unwrap(), key);
        assert!(open(&line, "correct horsE").unwrap().is_none());
        assert_ne!(line, lock(key, "correct horse").unwrap());
        let mut wrong = line.to_string();
        let last = if wrong.pop() == Some('0') { '1' } else { '0' };
        wrong.push(last);
        assert!(open(&wrong, "correct horse").unwrap().is_none());
        for malformed in [
            "",
            "KVCAP-SECRET-LOCKED-1",
            "KVCAP-SECRET-LOCKED-1ab",
            "KVCAP-SECRET-LOCKED-1A",
        ] {
            assert_eq!(
                open(malformed, "x").unwrap_err().code(),
                Code::LocalKeyMalformed
            );
        }
    }

    #[test]
    fn a_passphrase_is_the_first_line_of_its_file() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("passphrase");
        let read = |text: &str| {
            let mut options = std::fs::OpenOptions::new();
            let options = options.write(true).create(true).truncate(true);
            let mut file = private::open(&path, options).unwrap();
            std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
            passphrase_in(&path).map_err(|error| error.code())
        };
        assert_eq!(
            read("correct horse\nbattery"),
            Ok(Zeroizing::new("correct horse".to_owned()))
        );
        let long = "x".repeat(4096);
        assert_eq!(read(&long), Ok(Zeroizing::new(long.clone())));
        // no part of a passphrase is one
        for none in ["", "\n", "\ncorrect horse", &(long + "x")] {
            assert_eq!(read(none), Err(Code::LocalPassphrase));
        }
    }
}
