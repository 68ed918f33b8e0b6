//! Whom a verifier trusts: public keys by themselves, and registries under their roots.

use std::path::{Path, PathBuf};

use clap::Args;
use kvcap::{
    Code, Error, KeyId, MAX_REGISTRY, PublicKey, Registry, Result, RootPublic, Trust, TrustedKey,
    UntrustedRegistry,
};

use crate::{input, keys, memory::Memory, report::usage, time};

/// Whom to trust.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// Who may have signed it: a KEY.pub file, the key's text, or a key registry (with
    /// --registry-root)
    #[arg(long, value_name = "PUB|REGISTRY", required = true)]
    trust: Vec<String>,
    /// The root whose signature a registry must have: a ROOT.pub file, or its text
    #[arg(long, value_name = "PUB")]
    registry_root: Vec<String>,
    /// What is remembered from one capsule to the next: the latest time and registry seen, single uses,
    /// sessions. Made where there is none
    #[arg(long = "ledger", alias = "state", value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
}

impl TrustArgs {
    /// The trusted keys, and the time to judge by: `at`, or now.
    ///
    /// # Errors
    /// KVC-3xx for keys and registries, 412 for the clock, 94x for files.
    pub(crate) fn load(&self, at: Option<u64>) -> Result<(Trust, u64)> {
        if at.is_some() && self.state.is_some() {
            return usage(
                "what was seen is not remembered as of another time",
                "--ledger, --at",
            );
        }
        let memory = self.memory()?;
        let remembered = memory.as_ref().map(|memory| memory.now);
        let now = at.or(remembered).unwrap_or_else(time::now);
        let trust = trusted(&self.trust, &self.registry_root, memory.as_ref(), now)?;
        Ok((trust, now))
    }

    /// The state file, if there is one, held until it is dropped.
    ///
    /// # Errors
    /// As [`Memory::open`].
    pub(crate) fn memory(&self) -> Result<Option<Memory>> {
        self.state.as_deref().map(Memory::open).transpose()
    }
}

/// The keys that `items` name as of `now`: public keys, and registries under `roots`.
///
/// # Errors
/// KVC-3xx for keys and registries, 94x for files.
pub(crate) fn trusted(
    items: &[String],
    roots_given: &[String],
    memory: Option<&Memory>,
    now: u64,
) -> Result<Trust> {
    let roots = roots(roots_given)?;
    let mut trust = Trust::none();
    for (index, item) in items.iter().enumerate() {
        match file_of(item)? {
            Some(bytes) => {
                let registry = verify(Path::new(item), &bytes, &roots, now)?;
                if let Some(memory) = memory {
                    memory.follow(Path::new(item), &registry, &roots)?;
                }
                trust.merge(registry.trust())?;
            }
            None => {
                let key = keys::public(item)?;
                // one key named twice is one key
                if !named_in(&items[..index], &key) {
                    trust.add(TrustedKey::new(key))?;
                }
            }
        }
    }
    Ok(trust)
}

fn named_in(items: &[String], key: &PublicKey) -> bool {
    let mut keys = items.iter().filter_map(|item| keys::public(item).ok());
    keys.any(|other| other == *key)
}

/// The roots of these files or texts.
///
/// # Errors
/// KVC-942, 940, 305.
pub(crate) fn roots(texts: &[String]) -> Result<Vec<RootPublic>> {
    texts.iter().map(|text| keys::root_public(text)).collect()
}

/// The bytes of a registry, where `item` names one.
fn file_of(item: &str) -> Result<Option<Vec<u8>>> {
    if keys::is_text(item) {
        return Ok(None);
    }
    let bytes = read(Path::new(item))?;
    // a key file is text
    Ok(bytes
        .first()
        .is_some_and(|first| !first.is_ascii())
        .then_some(bytes))
}

/// The bytes of a registry's file.
///
/// # Errors
/// KVC-940, 944.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    input::small(path, u64::try_from(MAX_REGISTRY).unwrap_or(u64::MAX))
}

/// Verifies a registry under whichever of the roots it names.
///
/// # Errors
/// As [`UntrustedRegistry::read`] and [`UntrustedRegistry::verify`]; 944 where no root was given.
pub(crate) fn verify(
    path: &Path,
    bytes: &[u8],
    roots: &[RootPublic],
    now: u64,
) -> Result<Registry> {
    let verified = UntrustedRegistry::read(bytes).and_then(|untrusted| {
        let root = choose(roots, untrusted.signer())?;
        untrusted.verify(root, now)
    });
    verified.map_err(|error| error.at(path.display()))
}

pub(crate) fn choose(roots: &[RootPublic], signer: KeyId) -> Result<&RootPublic> {
    if roots.is_empty() {
        return usage(
            "a registry is verified by its root: give the root's public key",
            "--registry-root",
        );
    }
    let known = || {
        let ids: Vec<String> = roots.iter().map(|root| root.id().to_string()).collect();
        ids.join(" or ")
    };
    roots
        .iter()
        .find(|root| root.id() == signer)
        .ok_or_else(|| {
            let what = "the registry is not signed by this root";
            Error::new(Code::RegistryUnsigned, what).sides(known(), signer)
        })
}

/// What a key is named by: its id, its public key's file, or its text.
///
/// # Errors
/// KVC-942, 940.
pub(crate) fn key_id(text: &str) -> Result<KeyId> {
    match hex16(text) {
        Some(id) => Ok(KeyId(id)),
        None => keys::public(text).map(|key| key.id()),
    }
}

/// The sixteen bytes of 32 hexadecimal digits.
pub(crate) fn hex16(text: &str) -> Option<[u8; 16]> {
    let mut id = [0; 16];
    if text.len() != 32 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(id)
}

/// The path beside `path` with more at the end of its name.
pub(crate) fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(more);
    name.into()
}
