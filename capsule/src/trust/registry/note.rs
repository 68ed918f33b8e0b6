//! Versions of a registry as signed notes (C2SP signed-note), which logs and people pass on: two of them show a split view
//! (registry-v1 §9).

use sha2::{Digest as _, Sha256};

use crate::{
    digest::Digest,
    error::{Code, Error, Result},
    keys::{KeyId, PublicKey},
    trust::registry::{Mark, Registry, RootKey, root::root_id},
};

const ORIGIN: &str = "kvcap.registry/";
const NAME: &str = "kvcap.root/";
/// Begins a line of a signature: an em dash and a space.
const DASH: &str = "\u{2014} ";
/// Kind of a signature: Ed25519.
const ED25519: u8 = 1;
/// Longest note, in bytes.
const LONGEST: usize = 4096;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl Registry {
    /// The note of this version, by a root or by a key for timestamps.
    ///
    /// # Errors
    /// KVC-308 for another key; 948.
    pub fn note(&self, key: &RootKey) -> Result<String> {
        let public = key.key().public();
        let named = match self.roots() {
            Some(roots) => roots.names(&public),
            None => self.mark.root == key.public_id(),
        };
        if !named {
            let what = "the registry's roots do not name this key";
            return Err(super::unsigned(what).at(key.public_id()));
        }
        let text = text(&self.mark);
        let signature = key.key().sign(text.as_bytes())?;
        let name = name(&public);
        let bytes = [&key_hash(&name, &public)[..], &signature].concat();
        Ok(format!("{text}\n{DASH}{name} {}\n", base64(&bytes)))
    }

    /// Reads notes of versions of this registry, signed by its roots or keys for timestamps, and compares them with it and
    /// with one another.
    ///
    /// # Errors
    /// KVC-313 for another form; 308 where none of the keys has signed one; 309 where one is of another registry, and where
    /// two of one version differ: somebody was shown another registry.
    pub fn check_notes(&self, notes: &[&str]) -> Result<Vec<Mark>> {
        let keys: Vec<PublicKey> = match self.roots() {
            Some(roots) => {
                let listed = roots.roots.iter().map(|root| root.key);
                listed.chain(roots.timestamp_keys.iter().copied()).collect()
            }
            None => self.root_key.into_iter().collect(),
        };
        let mut marks = vec![self.mark];
        for note in notes {
            let mark = read(note, &keys)?;
            if mark.root != self.mark.root {
                let what = "the note is of another registry";
                let error = Error::new(Code::RegistryVersion, what);
                return Err(error.sides(self.mark.root, mark.root));
            }
            let same = |seen: &&Mark| seen.version == mark.version && seen.digest != mark.digest;
            if let Some(other) = marks.iter().find(same) {
                let what = "a split view: two registries of one version were signed";
                let error = Error::new(Code::RegistryVersion, what);
                return Err(error.sides(other.digest, mark.digest));
            }
            marks.push(mark);
        }
        Ok(marks.split_off(1))
    }
}

fn text(mark: &Mark) -> String {
    let (root, version) = (mark.root, mark.version);
    format!("{ORIGIN}{root}\n{version}\n{}\n", base64(&mark.digest.0))
}

fn name(key: &PublicKey) -> String {
    format!("{NAME}{}", root_id(key))
}

fn key_hash(name: &str, key: &PublicKey) -> [u8; 4] {
    let mut hasher = Sha256::new();
    hasher.update(name.as_bytes());
    hasher.update([b'\n', ED25519]);
    hasher.update(key.to_bytes());
    let [a, b, c, d, ..]: [u8; 32] = hasher.finalize().into();
    [a, b, c, d]
}

/// REG-N-1, REG-N-2.
fn read(note: &str, keys: &[PublicKey]) -> Result<Mark> {
    let malformed = || Error::new(Code::RegistryMalformed, "this is no note of a registry");
    if note.len() > LONGEST {
        return Err(malformed());
    }
    let (text, signatures) = note.split_once("\n\n").ok_or_else(malformed)?;
    let lines: Vec<&str> = text.split('\n').collect();
    let [origin, version, digest] = lines.as_slice() else {
        return Err(malformed());
    };
    let mark = Mark {
        root: origin
            .strip_prefix(ORIGIN)
            .and_then(KeyId::from_hex)
            .ok_or_else(malformed)?,
        version: version.parse().map_err(|_| malformed())?,
        digest: Digest(
            unbase64(digest)
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or_else(malformed)?,
        ),
    };
    let text = self::text(&mark);
    if note
        .strip_prefix(&text)
        .is_none_or(|rest| !rest.starts_with('\n'))
    {
        return Err(malformed());
    }
    let mut signed = false;
    for line in signatures.split_terminator('\n') {
        let (signer, signature) = line
            .strip_prefix(DASH)
            .and_then(|line| line.split_once(' '))
            .ok_or_else(malformed)?;
        let bytes = unbase64(signature).ok_or_else(malformed)?;
        // whoever else has signed is not looked at
        let Some(key) = keys.iter().find(|key| name(key) == signer) else {
            continue;
        };
        let (hash, signature) = bytes.split_first_chunk::<4>().ok_or_else(malformed)?;
        if *hash != key_hash(signer, key) {
            continue;
        }
        let signature = signature.try_into().map_err(|_| malformed())?;
        key.verify(text.as_bytes(), signature).map_err(|error| {
            Error::new(Code::RegistryUnsigned, error.what().to_owned()).at("note")
        })?;
        signed = true;
    }
    match signed {
        true => Ok(mark),
        false => Err(super::unsigned(
            "none of the registry's keys has signed the note",
        )),
    }
}

/// RFC 4648 §4, with padding.
fn base64(bytes: &[u8]) -> String {
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let number = (0..3).fold(0_u32, |number, at| {
            number << 8 | u32::from(group.get(at).copied().unwrap_or(0))
        });
        for at in 0..4 {
            let index = usize::try_from(number >> (18 - 6 * at) & 63).unwrap_or(0);
            let digit = ALPHABET.get(index).copied().map_or('=', char::from);
            out.push(if at <= group.len() { digit } else { '=' });
        }
    }
    out
}

/// The inverse, of its one form.
fn unbase64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let (mut out, mut number, mut bits) = (Vec::new(), 0_u32, 0_u32);
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|known| *known == digit)?;
        number = number << 6 | u32::try_from(value).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(number >> bits & 255).ok()?);
            number &= (1 << bits) - 1;
        }
    }
    (base64(&out) == text).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::registry::UntrustedRegistry;

    const NOW: u64 = 1_800_000_000;

    fn root() -> RootKey {
        RootKey::from_seed(&[7; 32])
    }

    fn registry(expires: u64) -> Registry {
        let bytes = Registry::first(&root(), NOW, expires).unwrap();
        let untrusted = UntrustedRegistry::read(&bytes).unwrap();
        untrusted.verify_at_any_time(&root().public()).unwrap()
    }

    /// RFC 4648 §10.
    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), text);
            assert_eq!(unbase64(text).unwrap(), plain.as_bytes());
        }
        for wrong in ["Zg", "Zg=", "Zh==", "Zg===", "Z g=", "Zm9v\n"] {
            assert!(unbase64(wrong).is_none(), "{wrong}");
        }
    }

    /// The specification's example, which the Python implementation reads too.
    #[test]
    fn the_specifications_example_is_read() {
        let page = include_str!("../../../../spec/registry-v1.md");
        let begin = page.find(&format!("{ORIGIN}9db6")).unwrap();
        let (note, _) = page[begin..].split_once("```").unwrap();
        let mark = read(note, &[root().key().public()]).unwrap();
        assert_eq!((mark.root, mark.version), (root().public_id(), 3));
        assert_eq!(
            mark.digest.0,
            std::array::from_fn(|at| u8::try_from(at).unwrap())
        );
        let own = root().key().sign(text(&mark).as_bytes()).unwrap();
        assert!(
            note.contains(&base64(&own[2..])),
            "one key signs a text in one way"
        );
    }

    /// REG-N-1.
    #[test]
    fn a_note_says_which_version_a_registry_is() {
        let one = registry(NOW + 9);
        let note = one.note(&root()).unwrap();
        assert_eq!(one.check_notes(&[&note]).unwrap(), [one.mark()]);
        // another's signature is not looked at
        let more = format!("{note}{DASH}example.org AAAAAA==\n");
        assert_eq!(one.check_notes(&[&more]).unwrap(), [one.mark()]);
        assert!(one.note(&RootKey::from_seed(&[8; 32])).is_err());
        // another's name may be as long as there is room
        let name = |len: usize| "x".repeat(len - more.len());
        let long = |len| more.replacen("example", &format!("example{}", name(len)), 1);
        assert_eq!(one.check_notes(&[&long(LONGEST)]).unwrap(), [one.mark()]);
        assert!(one.check_notes(&[&long(LONGEST + 1)]).is_err());
    }

    /// REG-N-3.
    #[test]
    fn two_registries_of_one_version_are_a_split_view() {
        let (one, two) = (registry(NOW + 9), registry(NOW + 10));
        let (first, second) = (one.note(&root()).unwrap(), two.note(&root()).unwrap());
        // a registry and a note, and two notes beside a registry of another version
        let next = one.next(&[], &root(), NOW, NOW + 9).unwrap();
        let next = UntrustedRegistry::read(&next).unwrap();
        let next = next.verify_at_any_time(&root().public()).unwrap();
        assert!(next.check_notes(&[&first]).is_ok() && next.check_notes(&[&second]).is_ok());
        for (registry, notes) in [(&one, &[&*second][..]), (&next, &[&first, &second])] {
            let error = registry.check_notes(notes).unwrap_err();
            assert_eq!(error.code(), Code::RegistryVersion);
            assert!(error.to_string().contains("split view"), "{error}");
        }
    }

    /// REG-N-2.
    #[test]
    fn what_is_no_note_is_refused() {
        let one = registry(NOW + 9);
        let note = one.note(&root()).unwrap();
        let code = |note: &str| one.check_notes(&[note]).unwrap_err().code().number();
        let unsigned = note.split(DASH).next().unwrap();
        assert_eq!(code(unsigned), 308);
        assert_eq!(code(&note.replacen("\n1\n", "\n2\n", 1)), 308);
        for wrong in [
            note.replacen("\n1\n", "\n01\n", 1),
            note.replacen("kvcap.registry/", "kvcap.registry", 1),
            note.replacen("\n\n", "\n", 1),
            note.replacen('\n', "\r\n", 1),
            note.replacen(DASH, "- ", 1),
            "x".repeat(LONGEST + 1),
        ] {
            assert_eq!(code(&wrong), 313, "{wrong}");
        }
    }
}
