//! A helper program that holds keys in files of its own (spec/helper-v1.md): what one for a PKCS#11 token or a key
//! service begins as. The label of a key is the path of its secret key's file, which may be under a passphrase
//! (`KVCAP_PASSPHRASE_FILE`).

#![forbid(unsafe_code)]

use std::{
    env,
    io::{Read, Write},
    path::Path,
    process::ExitCode,
};

use kvcap::{
    Code, Error, ExternalSigner, ExternalUnwrapper, RecipientKind, Result, WrappedContent,
};
use kvcap_store::{Passphrases, key_file, passphrase_in};

/// Longest request: a header of a capsule at its limit, in hexadecimal, and what stands around it.
const LONGEST: u64 = 64 << 20;

fn main() -> ExitCode {
    let mut request = String::new();
    let read = std::io::stdin()
        .take(LONGEST)
        .read_to_string(&mut request)
        .map_err(|error| Error::io(&error, "standard input"));
    let answer = match read.and_then(|_| answer(&request)) {
        Ok((name, value)) => format!("kvcap-helper 1 ok\n{name} {value}\nend\n"),
        Err(error) => format!("kvcap-helper 1 refused {error}\n"),
    };
    match std::io::stdout().write_all(answer.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The name and the value of the answer's line.
fn answer(request: &str) -> Result<(&'static str, String)> {
    let mut lines = request.lines();
    let head = lines.next().unwrap_or_default();
    let fields: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(' ')).collect();
    if !request.ends_with("\nend\n") {
        return Err(malformed("the request has no end"));
    }
    let field = |name: &'static str| {
        let found = fields.iter().find(|(key, _)| *key == name);
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| malformed("the request lacks a field").at(name))
    };
    let (id, file) = (field("key")?, Path::new(field("label")?));
    let passphrases = Passphrases::asking(&|path| match env::var_os("KVCAP_PASSPHRASE_FILE") {
        Some(from) => passphrase_in(from.as_ref()),
        None => {
            let what = "KVCAP_PASSPHRASE_FILE names no passphrase";
            Err(Error::new(Code::LocalPassphrase, what).at(path.display()))
        }
    });
    match head {
        "kvcap-helper 1 sign" => {
            let message = unhex(field("message")?)?;
            // a signing key, or a root's
            let signature = match key_file::signing(file, &passphrases) {
                Ok(key) => check(id, key.public().id())
                    .and_then(|()| ExternalSigner::sign(&key, &message))?,
                Err(_) => {
                    let root = key_file::root(file, &passphrases)?;
                    check(id, root.public().id())?;
                    root.sign(&message)?
                }
            };
            Ok(("signature", hex(&signature)))
        }
        "kvcap-helper 1 unwrap" => {
            let key = key_file::wrapping_key(file, &passphrases)?;
            check(id, key.id())?;
            let (info, aad, enc) = (field("info")?, field("aad")?, field("enc")?);
            let wrapped = unhex(field("wrapped")?)?;
            let content = key.unwrap(&WrappedContent {
                kind: match field("kem")? {
                    "x25519" => RecipientKind::X25519,
                    "x-wing" => RecipientKind::XWing,
                    _ => return Err(malformed("the kem is not known")),
                },
                info: &unhex(info)?,
                aad: &unhex(aad)?,
                enc: &unhex(enc)?,
                wrapped: wrapped
                    .as_array()
                    .ok_or_else(|| malformed("the wrapped key is not 48 bytes"))?,
            })?;
            Ok(("content", hex(&*content)))
        }
        "kvcap-helper 1 prefix" => {
            let key = key_file::wrapping_key(file, &passphrases)?;
            check(id, key.id())?;
            let prefix = ExternalUnwrapper::prefix_key(&key)?;
            let prefix = prefix.ok_or_else(|| malformed("the key has no prefix key"))?;
            Ok(("prefix", hex(&*prefix)))
        }
        _ => Err(malformed("the request is of another version or kind")),
    }
}

fn check(asked: &str, held: kvcap::KeyId) -> Result<()> {
    match asked == held.to_string() {
        true => Ok(()),
        false => Err(malformed("the label names another key").at(held)),
    }
}

fn malformed(what: &'static str) -> Error {
    Error::new(Code::LocalHelper, what)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Result<Vec<u8>> {
    let wrong = || malformed("a field is not hexadecimal");
    let pairs = digits.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        u8::from_str_radix(pair, 16).map_err(|_| wrong())
    });
    match digits.len() % 2 {
        0 => pairs.collect(),
        _ => Err(wrong()),
    }
}
