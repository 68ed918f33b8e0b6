//! `kvcap registry`: the signed list of keys and revocations (registry-v1).

use std::path::{Path, PathBuf};

use clap::Subcommand;
use kvcap::{CapsuleId, Change, Purpose, Registry, Result, Suite, TrustedKey};
use kvcap_store::{RegistryFile, input::Capsule, key_file, time};

use crate::{
    flags::{duration, instant},
    ui::Report,
    verbs::registry_show,
};

/// Keeps a key registry: which keys may seal, and which capsules are revoked
///
/// A registry is one file, signed by a root key that is needed for changes alone and best kept offline.
/// Each change writes the next version; the version before stays beside it as FILE.N, so that verifiers
/// that remember one (--ledger) can follow. Publish FILE, and give verifiers ROOT.pub once.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Makes version 1, which lists nothing
    Init {
        /// The registry to make
        file: PathBuf,
        /// The secret root key's file (kvcap keygen root)
        #[arg(long, value_name = "KEY")]
        root_key: PathBuf,
        /// How long it is valid without a next version
        #[arg(long, value_name = "TIME", default_value = "90d", value_parser = duration)]
        ttl: u64,
    },
    /// Lists a key
    Add {
        #[command(flatten)]
        edit: Edit,
        /// The public key: a KEY.pub file, or its text
        key: String,
        /// The only issuer whose capsules it signs
        #[arg(long, value_name = "NAME", default_value = "local")]
        issuer: String,
        /// What it signs
        #[arg(long, value_parser = ["capsules", "statements"], default_value = "capsules")]
        purpose: String,
        /// The suites that it signs for [default: all]
        #[arg(long, value_parser = ["chacha20-poly1305", "aes-256-gcm"])]
        suite: Vec<String>,
        /// The first second at which what it signs counts [default: any]
        #[arg(long, value_name = "TIME", value_parser = instant)]
        not_before: Option<u64>,
        /// The first second at which it signs no more
        #[arg(long, value_name = "TIME", value_parser = instant)]
        sign_until: Option<u64>,
        /// The first second at which nothing that it signed is accepted
        #[arg(long, value_name = "TIME", value_parser = instant)]
        verify_until: Option<u64>,
    },
    /// Ends a key's signing; what it signed before stays good
    Retire {
        #[command(flatten)]
        edit: Edit,
        /// The key: its id, a KEY.pub file, or its text
        key: String,
        /// The first second at which it signs no more [default: now]
        #[arg(long, value_name = "TIME", value_parser = instant)]
        sign_until: Option<u64>,
        /// The first second at which nothing that it signed is accepted
        #[arg(long, value_name = "TIME", value_parser = instant)]
        verify_until: Option<u64>,
    },
    /// Voids everything that a key has ever signed, whatever date it bears
    Compromise {
        #[command(flatten)]
        edit: Edit,
        /// The key: its id, a KEY.pub file, or its text
        key: String,
    },
    /// Revokes capsules
    Revoke {
        #[command(flatten)]
        edit: Edit,
        /// Each a capsule's file, or its id
        #[arg(required = true)]
        capsule: Vec<String>,
    },
    /// Changes nothing, and lives longer
    Renew {
        #[command(flatten)]
        edit: Edit,
    },
    /// Shows a registry
    Show(registry_show::Args),
    /// Verifies a registry: its root's signature, its validity, and that it follows what was seen before
    Verify(registry_show::VerifyArgs),
}

/// What every change needs.
#[derive(Debug, clap::Args)]
struct Edit {
    /// The registry
    file: PathBuf,
    /// The secret root key's file
    #[arg(long, value_name = "KEY")]
    root_key: PathBuf,
    /// How long the next version is valid [default: as long as this one]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    ttl: Option<u64>,
}

/// # Errors
/// KVC-3xx for what cannot be changed, 94x for files.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let now = time::now();
    match &args.verb {
        Verb::Init {
            file,
            root_key,
            ttl,
        } => {
            let root = key_file::root(root_key)?;
            let registry = RegistryFile::at(file).create(&root, now, *ttl)?;
            Ok(written(file, &registry))
        }
        Verb::Add {
            edit,
            key,
            issuer,
            purpose,
            suite,
            not_before,
            sign_until,
            verify_until,
        } => {
            let mut entry = TrustedKey {
                issuer: Some(issuer.clone()),
                not_before: not_before.unwrap_or(0),
                sign_until: sign_until.unwrap_or(TrustedKey::NO_END),
                verify_until: verify_until.unwrap_or(TrustedKey::NO_END),
                ..TrustedKey::new(key_file::public(key)?)
            };
            if purpose == Purpose::Statements.name() {
                entry.purpose = Purpose::Statements;
            }
            if !suite.is_empty() {
                let known = [Suite::ChaCha20Poly1305, Suite::Aes256Gcm];
                let named = known
                    .into_iter()
                    .filter(|s| suite.iter().any(|n| n == s.name()));
                entry.suites = named.map(Suite::number).collect();
            }
            edit.write(&[Change::Add(Box::new(entry))], now)
        }
        Verb::Retire {
            edit,
            key,
            sign_until,
            verify_until,
        } => {
            let change = Change::Retire {
                key: key_file::key_id(key)?,
                sign_until: sign_until.unwrap_or(now),
                verify_until: verify_until.unwrap_or(TrustedKey::NO_END),
            };
            edit.write(&[change], now)
        }
        Verb::Compromise { edit, key } => {
            edit.write(&[Change::Compromise(key_file::key_id(key)?)], now)
        }
        Verb::Revoke { edit, capsule } => {
            let ids: Vec<CapsuleId> = capsule
                .iter()
                .map(|c| capsule_id(c))
                .collect::<Result<_>>()?;
            let changes: Vec<Change> = ids.iter().map(|id| Change::Revoke(*id)).collect();
            let mut report = edit.write(&changes, now)?;
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            report.row("revoked", ids.join(", "));
            Ok(report)
        }
        Verb::Renew { edit } => edit.write(&[], now),
        Verb::Show(args) => registry_show::show(args),
        Verb::Verify(args) => registry_show::verify(args),
    }
}

impl Edit {
    /// Writes the next version.
    fn write(&self, changes: &[Change], now: u64) -> Result<Report> {
        let root = key_file::root(&self.root_key)?;
        let registry = RegistryFile::at(&self.file).change(changes, &root, now, self.ttl)?;
        Ok(written(&self.file, &registry))
    }
}

fn written(file: &Path, registry: &Registry) -> Report {
    let mut report = Report::new();
    registry_show::describe(&mut report, registry.listing(), registry.mark().root);
    report.row("written", file.display());
    report.fact("output", file.display().to_string());
    report
}

/// A capsule's id, or the one that its file states.
fn capsule_id(text: &str) -> Result<CapsuleId> {
    if let Some(id) = CapsuleId::from_hex(text) {
        return Ok(id);
    }
    let (untrusted, _) = Capsule::read(Path::new(text))?.split();
    Ok(untrusted.claims().id)
}
