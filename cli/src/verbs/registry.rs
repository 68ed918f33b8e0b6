//! `kvcap registry`: the signed list of keys and revocations (registry-v1).

use std::path::PathBuf;

use clap::Subcommand;
use kvcap::{CapsuleId, Change, Purpose, Registry, Result, Root, Roots, Suite, TrustedKey};
use kvcap_store::{
    NextVersion, RegistryFile, key_file,
    output::{self, Readers},
    revocable_id, roots, time,
};

use crate::{
    flags::{duration, instant},
    ui::{self, Report, confirm},
    verbs::{
        registry_show,
        registry_show::written,
        registry_signing::{By, Signers, changed, named_root, summary},
    },
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
    /// Puts the registry under other roots, of which several sign
    ///
    /// The roots before and the new ones agree: each group signs by its threshold. Roots whose .pub file names
    /// issuers speak for these alone. Where more roots have to sign than are at hand, what they are to sign lies in
    /// FILE.proposed: they run kvcap registry sign.
    Roots {
        #[command(flatten)]
        edit: Edit,
        /// Each root from now on: its ROOT.pub file, or its text
        #[arg(long, value_name = "PUB", required = true)]
        root: Vec<String>,
        /// How many of them sign
        #[arg(long, value_name = "N")]
        threshold: u64,
        /// Keys that sign timestamps: with any, verifiers want a timestamp (kvcap registry timestamp)
        #[arg(long, value_name = "PUB")]
        timestamp_key: Vec<String>,
        /// How long this is valid without another statement about roots
        #[arg(long, value_name = "TIME", default_value = "365d", value_parser = duration)]
        roots_ttl: u64,
        /// Do it without a question
        #[arg(long)]
        yes: bool,
    },
    /// Signs what lies in FILE.proposed; with the last signature it is the next version
    ///
    /// Look at it first: kvcap registry show FILE.proposed.
    Sign {
        #[command(flatten)]
        by: By,
        /// Sign without a question
        #[arg(long)]
        yes: bool,
        /// Remove what is proposed, and sign nothing
        #[arg(long)]
        withdraw: bool,
    },
    /// Says that the version is the newest, for the next hours
    Timestamp {
        /// The registry
        file: PathBuf,
        /// The secret key that its roots name for timestamps
        #[arg(long, value_name = "KEY")]
        key: PathBuf,
        /// Root under which the registry is verified first: a ROOT.pub file, or its text
        #[arg(long, value_name = "PUB", required = true)]
        registry_root: Vec<String>,
        /// For how long, at most 7 days
        #[arg(long, value_name = "TIME", default_value = "12h", value_parser = duration)]
        ttl: u64,
    },
    /// Writes the note of the version: a few signed lines, to pass on or to keep in a log
    Note {
        /// The registry
        file: PathBuf,
        /// A secret root key, or one that the roots name for timestamps
        #[arg(long, value_name = "KEY")]
        key: PathBuf,
        /// Root under which the registry is verified first: a ROOT.pub file, or its text
        #[arg(long, value_name = "PUB", required = true)]
        registry_root: Vec<String>,
        /// Where to write it; `-` is standard output
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// Overwrite the output
        #[arg(short, long)]
        force: bool,
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
    #[command(flatten)]
    by: By,
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
            let signers = edit.by.read()?;
            let file = signers.file();
            let mut entry = TrustedKey {
                not_before: not_before.unwrap_or(0),
                sign_until: sign_until.unwrap_or(TrustedKey::NO_END),
                verify_until: verify_until.unwrap_or(TrustedKey::NO_END),
                ..file.entry(key, issuer.as_deref(), &signers.under)?
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
            edit.write(&signers, &[Change::Add(Box::new(entry))], now)
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
            edit.write(&edit.by.read()?, &[change], now)
        }
        Verb::Compromise { edit, key, yes } => {
            let key = key_file::key_id(key)?;
            confirm(*yes, &format!("void everything that key {key} has signed"))?;
            edit.write(&edit.by.read()?, &[Change::Compromise(key)], now)
        }
        Verb::Revoke { edit, capsule } => {
            let signers = edit.by.read()?;
            let id_of = |capsule: &String| revocable_id(&edit.by.file, &signers.under, capsule);
            let ids = capsule.iter().map(id_of).collect::<Result<Vec<_>>>()?;
            let by_hand = capsule.iter().filter_map(|text| CapsuleId::from_hex(text));
            let unverified: Vec<String> = by_hand.map(|id| id.to_string()).collect();
            let changes: Vec<Change> = ids.iter().map(|id| Change::Revoke(*id)).collect();
            let mut report = edit.write(&signers, &changes, now)?;
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
        Verb::Roots {
            edit,
            root,
            threshold,
            timestamp_key,
            roots_ttl,
            yes,
        } => {
            let signers = edit.by.read()?;
            let named = root.iter().map(|text| named_root(text));
            let named = named.collect::<Result<Vec<Root>>>()?;
            let stamps = timestamp_key.iter().map(|text| named_root(text));
            let stamps = stamps.map(|root| root.map(|root| root.key));
            let stamps = stamps.collect::<Result<Vec<_>>>()?;
            let ids: Vec<String> = named.iter().map(|root| root.id().to_string()).collect();
            let to = format!("{threshold} of {}", ids.join(", "));
            confirm(*yes, &format!("put the registry under {to}"))?;
            let expires = now.saturating_add(*roots_ttl);
            let next = |before: &Registry| {
                Roots::next(
                    before,
                    *threshold,
                    named.clone(),
                    stamps.clone(),
                    now,
                    expires,
                )
            };
            let version = edit.next(&signers, &[], now);
            changed(&signers, signers.file().propose_roots(version, &next)?)
        }
        Verb::Sign { by, yes, withdraw } => {
            let signers = by.read()?;
            let proposal = signers.file().proposal(&signers.under)?;
            if *withdraw {
                confirm(*yes, "remove what is proposed")?;
                signers.file().withdraw()?;
                let mut report = Report::new();
                report.row("withdrawn", by.file.display());
                report.fact("output", by.file.display().to_string());
                return Ok(report);
            }
            confirm(*yes, &format!("sign {}", summary(&proposal)?))?;
            let done = signers
                .file()
                .sign(&proposal, &signers.keys, &signers.under)?;
            changed(&signers, done)
        }
        Verb::Timestamp {
            file,
            key,
            registry_root,
            ttl,
        } => {
            let key = key_file::root(key, &ui::passphrases())?;
            let stamped = RegistryFile::at(file).stamp(&key, &roots(registry_root)?, now, *ttl)?;
            Ok(written(file, &stamped))
        }
        Verb::Note {
            file,
            key,
            registry_root,
            output,
            force,
        } => {
            let key = key_file::root(key, &ui::passphrases())?;
            let registry = RegistryFile::at(file).verify(&roots(registry_root)?, now)?;
            let note = registry.note(&key)?;
            output::write(output, *force, Readers::Umask, note.as_bytes())?;
            let mut report = Report::new();
            report.row("version", registry.mark().version);
            report.row("digest", registry.mark().digest);
            if !output::is_stdout(output) {
                report.row("written", output.display());
            }
            report.fact("version", registry.mark().version);
            report.fact("digest", registry.mark().digest.to_string());
            report.fact("output", output.display().to_string());
            Ok(report)
        }
        Verb::Renew { edit } => edit.write(&edit.by.read()?, &[], now),
        Verb::Show(args) => registry_show::show(args),
        Verb::Verify(args) => registry_show::verify(args),
    }
}

impl Edit {
    fn next<'n>(&self, by: &'n Signers<'_>, changes: &'n [Change], now: u64) -> NextVersion<'n> {
        NextVersion {
            changes,
            keys: &by.keys,
            under: &by.under,
            now,
            ttl: self.ttl,
        }
    }

    /// Writes the next version, or proposes it to the other roots.
    fn write(&self, by: &Signers<'_>, changes: &[Change], now: u64) -> Result<Report> {
        changed(by, by.file().propose(self.next(by, changes, now))?)
    }
}
