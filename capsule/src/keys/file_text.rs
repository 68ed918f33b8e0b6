//! Keys as lines of a key file: a tag, hexadecimal digits, four check bytes (capsule-v1 §8).

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    digest::Digest,
    error::{Code, Error, Result},
};

pub(super) const SIGN_TEXT: &str = "KVCAP-SECRET-SIGN-1";
pub(super) const PUBLIC_TEXT: &str = "kvcap-pub-1";
pub(super) const ISSUER: &str = "issuer: ";

/// The issuer that a signing key's file names, secret or public, in a line of its own: `issuer: NAME`.
///
/// # Errors
/// KVC-942 where it names two, or one that no capsule can state.
pub(crate) fn issuer_in(text: &str) -> Result<Option<String>> {
    let mut named = lines(text).filter_map(|line| line.strip_prefix(ISSUER));
    match (named.next(), named.next()) {
        (name, None) => name.map(checked_issuer).transpose(),
        _ => Err(malformed_issuer("the key file names two issuers")),
    }
}

/// The issuers that a root's public file names, each in a line of its own.
///
/// # Errors
/// KVC-942 for one that no capsule can state.
pub(crate) fn issuers_in(text: &str) -> Result<Vec<String>> {
    let named = lines(text).filter_map(|line| line.strip_prefix(ISSUER));
    named.map(checked_issuer).collect()
}

pub(super) fn checked_issuer(issuer: &str) -> Result<String> {
    let fits = (1..=1024).contains(&issuer.len()) && !issuer.contains(char::is_control);
    match fits && issuer.trim() == issuer {
        true => Ok(issuer.to_owned()),
        false => Err(malformed_issuer(
            "the issuer's name is not one that a capsule can state",
        )),
    }
}

fn malformed_issuer(what: &'static str) -> Error {
    Error::new(Code::LocalKeyMalformed, what).at("issuer")
}

fn checksum(tag: &str, key: &[u8]) -> [u8; 4] {
    let digest = Digest::labelled("kvcap v1 key file", &[tag.as_bytes(), key]);
    let [a, b, c, d, ..] = digest.0;
    [a, b, c, d]
}

pub(crate) fn write_text(tag: &str, key: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(tag.len() + 2 * key.len() + 8));
    text.push_str(tag);
    for byte in key.iter().chain(&checksum(tag, key)) {
        for digit in [byte >> 4, byte & 15] {
            text.push(
                char::from_digit(digit.into(), 16)
                    .unwrap_or('0')
                    .to_ascii_uppercase(),
            );
        }
    }
    text
}

/// What a line of a key file is.
fn kind_of(line: &str) -> &'static str {
    [
        (SIGN_TEXT, "a secret signing key"),
        (PUBLIC_TEXT, "a public signing key"),
        ("KVCAP-SECRET-ROOT-", "a secret root key"),
        ("kvcap-root-", "a public root key"),
        ("kvcap-roots-", "a statement about roots"),
        ("KVCAP-SECRET-LOCKED-", "a secret key under a passphrase"),
        ("KVCAP-SECRET-", "a secret wrapping key"),
        ("kvcap-hpke-", "a public wrapping key"),
        ("kvcap-xwing-", "a public wrapping key"),
    ]
    .into_iter()
    .find(|(tag, _)| line.starts_with(tag))
    .map_or("no key", |(_, kind)| kind)
}

pub(crate) fn parse_text<const N: usize>(
    text: &str,
    tag: &str,
    kind: &'static str,
) -> Result<Zeroizing<[u8; N]>> {
    let bad = |what: &'static str| Error::new(Code::LocalKeyMalformed, what).at(kind);
    let line = key_line(text)
        .ok_or_else(|| bad("a key file holds exactly one line that is not a comment"))?;
    let Some(hex) = line.strip_prefix(tag) else {
        let what = "the file holds another kind of key, or none";
        return Err(Error::new(Code::LocalKeyMalformed, what).sides(kind, kind_of(line)));
    };
    let lower = !tag.starts_with("KVCAP");
    let mut bytes = Zeroizing::new(vec![0_u8; N + 4]);
    let digits = hex.as_bytes();
    let cased = |digit: &u8| !digit.is_ascii_alphabetic() || digit.is_ascii_lowercase() == lower;
    if digits.len() != 2 * bytes.len() || !digits.iter().all(cased) {
        return Err(bad("the key has another length or case"));
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair
            .iter()
            .try_fold(0_u8, |value, digit| {
                let digit = u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
                Some(value << 4 | digit)
            })
            .ok_or_else(|| bad("the key is not hexadecimal"))?;
    }
    let (key, check) = bytes.split_at(N);
    let mut out = Zeroizing::new([0; N]);
    out.copy_from_slice(key);
    if !bool::from(checksum(tag, &*out).ct_eq(check)) {
        return Err(bad("the key's check digits are wrong"));
    }
    Ok(out)
}

/// The lines of a key file that are no comment.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim_end);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The one line of a key file that is a key.
pub(crate) fn key_line(text: &str) -> Option<&str> {
    let mut lines = lines(text).filter(|line| !line.starts_with(ISSUER));
    match (lines.next(), lines.next()) {
        (Some(line), None) => Some(line),
        _ => None,
    }
}
