//! Key registries that are written (registry-v1).

use std::{ffi::c_char, path::Path};

use kvcap_calls::{self as library, Edit, Root};

use crate::{
    facts::{Facts, kvcap_facts},
    given::{list, number, some_text, text},
    status::{Failed, Out, ending, kvcap_error, usage},
};

/// A change to a registry.
#[repr(C)]
pub struct kvcap_change {
    /// `add` lists a key; `retire` ends its signing now, and what it signed before stays good; `compromise` voids everything
    /// that it has ever signed; `revoke` revokes a capsule.
    pub kind: *const c_char,
    /// The key: its id, a file of a public key, or its text. The capsule: a file, which a key of the registry has signed, or
    /// an id, which nobody verifies.
    pub what: *const c_char,
    /// The issuer that a key is listed for; NULL for the one that its file names.
    pub issuer: *const c_char,
}

impl kvcap_change {
    fn edit(&self) -> Result<Edit, Failed> {
        let what = text(self.what, "what")?;
        Ok(match text(self.kind, "kind")?.as_str() {
            "add" => Edit::Add(what, some_text(self.issuer, "issuer")?),
            "retire" => Edit::Retire(what),
            "compromise" => Edit::Compromise(what),
            "revoke" => Edit::Revoke(what),
            _ => {
                let known = "a change is add, retire, compromise or revoke";
                return Err(usage(known, "kind"));
            }
        })
    }
}

/// Makes a root key in the file `path` and its public key in `path.pub`. Facts of a key.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_new_root_key(
    path: *const c_char,
    passphrase: *const c_char,
    facts: Out<'_, kvcap_facts>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let (path, passphrase) = (text(path, "path")?, some_text(passphrase, "passphrase")?);
        let key = library::new_root_key(Path::new(&path), passphrase)?;
        Facts::from(key).put(facts);
        Ok(())
    })
}

/// Makes version 1 of a registry in the file `path`, which lists nothing and is valid for `ttl` seconds; `root_key` is the
/// secret root key's file, `passphrase` its own or NULL.
///
/// Facts of a registry: version, root, issued_at, expires, keys, revoked.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_registry_create(
    path: *const c_char,
    root_key: *const c_char,
    passphrase: *const c_char,
    ttl: u64,
    facts: Out<'_, kvcap_facts>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let (path, key) = (text(path, "path")?, text(root_key, "root_key")?);
        let root = Root {
            path: Path::new(&key),
            passphrase: some_text(passphrase, "passphrase")?,
        };
        let made = library::create_registry(Path::new(&path), root, ttl)?;
        Facts::from(made).put(facts);
        Ok(())
    })
}

/// Writes the next version of a registry, with all of the changes or none; without one it only lives longer. It is valid for
/// `ttl` seconds; where that is NULL, as long as the one before. Facts of a registry.
#[unsafe(no_mangle)]
pub extern "C" fn kvcap_registry_change(
    path: *const c_char,
    root_key: *const c_char,
    passphrase: *const c_char,
    changes: *const kvcap_change,
    count: usize,
    ttl: *const u64,
    facts: Out<'_, kvcap_facts>,
    error: Out<'_, kvcap_error>,
) -> i32 {
    ending(error, || {
        let (path, key) = (text(path, "path")?, text(root_key, "root_key")?);
        let root = Root {
            path: Path::new(&key),
            passphrase: some_text(passphrase, "passphrase")?,
        };
        let edits = list(changes, count).iter().map(kvcap_change::edit);
        let edits = edits.collect::<Result<Vec<_>, _>>()?;
        let next = library::change_registry(Path::new(&path), root, &edits, number(ttl))?;
        Facts::from(next).put(facts);
        Ok(())
    })
}
