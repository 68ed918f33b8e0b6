//! `kvcap registry`: the signed list of keys and revocations (registry-v1).

use std::path::{Path, PathBuf};

use clap::Subcommand;
use kvcap::{CapsuleId, Change, Purpose, Registry, Result, Suite, TrustedKey};
use kvcap_store::{RegistryFile, key_file, revocable_id, time};

use crate::{
    flags::{duration, instant},
    ui::{self, Report, confirm},
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
        /// The only issuer whose capsules it signs [default: the one that the key's file names]
        #[arg(long, value_name = "NAME")]
        issuer: Option<String>,
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
        /// Do it without a question, also where it voids what the key has signed
        #[arg(long)]
        yes: bool,
    },
    /// Voids everything that a key has ever signed, whatever date it bears
    Compromise {
        #[command(flatten)]
        edit: Edit,
        /// The key: its id, a KEY.pub file, or its text
        key: String,
        /// Do it without a question
        #[arg(long)]
        yes: bool,
    },
    /// Revokes capsules
    Revoke {
        #[command(flatten)]
        edit: Edit,
        /// Each a capsule's file, which a key of this registry has signed, or its id, which nobody verifies
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
            let root = key_file::root(root_key, &ui::passphrases())?;
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
            let key = key_file::trusted(key)?;
            let root = key_file::root(&edit.root_key, &ui::passphrases())?;
            let mut entry = TrustedKey {
                not_before: not_before.unwrap_or(0),
                sign_until: sign_until.unwrap_or(TrustedKey::NO_END),
                verify_until: verify_until.unwrap_or(TrustedKey::NO_END),
                ..RegistryFile::at(&edit.file).entry(key, issuer.as_deref(), &root)?
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
            yes,
        } => {
            let key = key_file::key_id(key)?;
            if [*sign_until, *verify_until]
                .iter()
                .flatten()
                .any(|until| *until < now)
            {
                confirm(*yes, &format!("void what key {key} has signed until now"))?;
            }
            let change = Change::Retire {
                key,
                sign_until: sign_until.unwrap_or(now),
                verify_until: verify_until.unwrap_or(TrustedKey::NO_END),
            };
            edit.write(&[change], now)
        }
        Verb::Compromise { edit, key, yes } => {
            let key = key_file::key_id(key)?;
            confirm(*yes, &format!("void everything that key {key} has signed"))?;
            edit.write(&[Change::Compromise(key)], now)
        }
        Verb::Revoke { edit, capsule } => {
            let root = key_file::root(&edit.root_key, &ui::passphrases())?;
            let id_of = |capsule: &String| revocable_id(&edit.file, &root, capsule);
            let ids = capsule.iter().map(id_of).collect::<Result<Vec<_>>>()?;
            let by_hand = capsule.iter().filter_map(|text| CapsuleId::from_hex(text));
            let unverified: Vec<String> = by_hand.map(|id| id.to_string()).collect();
            let changes: Vec<Change> = ids.iter().map(|id| Change::Revoke(*id)).collect();
            let mut report = edit.write(&changes, now)?;
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            report.row("revoked", ids.join(", "));
            if !unverified.is_empty() {
                let ids = unverified.join(", ");
                report.row(
                    "not verified",
                    format_args!("{ids}: no capsule was looked at"),
                );
            }
            report.fact("not_looked_at", unverified);
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
        let root = key_file::root(&self.root_key, &ui::passphrases())?;
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
