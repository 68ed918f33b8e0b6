//! `kvcap registry show` and `verify`: a registry for people.

use std::path::{Path, PathBuf};

use kvcap::{Code, Error, KeyId, Listing, Registry, Result, Roots, TrustedKey};
use kvcap_store::{LedgerSource, RegistryFile, choose_root, input, roots, time};
use serde_json::{Value, json};

use crate::{
    flags::{WaitArgs, instant},
    ui::{Report, quoted, table, time::show_distance},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The registry
    file: PathBuf,
    /// The root that must have signed it; without it, what is shown is unverified
    #[arg(long, value_name = "PUB")]
    registry_root: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// The registry
    file: PathBuf,
    /// The root that must have signed it: a ROOT.pub file, or its text
    #[arg(long, value_name = "PUB", required = true)]
    registry_root: Vec<String>,
    /// Notes of its versions, from others: two of one version that differ are refused
    #[arg(long, value_name = "FILE")]
    note: Vec<PathBuf>,
    /// Judge as of this time instead of now
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<u64>,
    /// The ledger that remembers the newest version seen, and is to remember this one
    #[arg(
        long = "ledger",
        alias = "state",
        value_name = "FILE",
        conflicts_with = "at"
    )]
    state: Option<PathBuf>,
    #[command(flatten)]
    wait: WaitArgs,
}

/// # Errors
/// KVC-2xx and 3xx for the registry; 94x for files.
pub(crate) fn show(args: &Args) -> Result<Report> {
    let untrusted = RegistryFile::at(&args.file).read()?;
    let signer = untrusted.signer();
    let roots = roots(&args.registry_root)?;
    let said = untrusted.danger_unverified_roots().cloned();
    let mut report = Report::new();
    let mut registry = None;
    let listing = match roots.as_slice() {
        [] => {
            report.line("UNVERIFIED: nobody has vouched for this registry (see --registry-root)");
            untrusted.danger_unverified_listing()
        }
        roots => choose_root(roots, &untrusted)
            .and_then(|root| untrusted.verify_at_any_time(root))
            .map(|verified| registry.insert(verified).listing().clone()),
    };
    let listing = listing.map_err(|error| error.at(args.file.display()))?;
    describe(&mut report, &listing, signer);
    if let Some(said) = &said {
        describe_roots(&mut report, said, registry.as_ref());
    }
    report.fact(
        "verified",
        match roots.is_empty() {
            true => "nothing",
            false => "signature",
        },
    );
    Ok(report)
}

/// # Errors
/// KVC-2xx and 3xx for the registry, 412; 94x for files.
pub(crate) fn verify(args: &VerifyArgs) -> Result<Report> {
    let roots = roots(&args.registry_root)?;
    let file = RegistryFile::at(&args.file);
    let held = args.state.clone().map(|path| args.wait.ledger(path));
    let held = held.as_ref().map(LedgerSource::hold).transpose()?;
    let remembered = held.as_ref().map(|(_, now)| *now);
    let now = args.at.or(remembered).unwrap_or_else(time::now);
    let registry = file.verify(&roots, now)?;
    let notes = args.note.iter().map(|path| {
        let bytes = input::small(path, 4096)?;
        String::from_utf8(bytes)
            .map_err(|_| Error::new(Code::RegistryMalformed, "a note is text").at(path.display()))
    });
    let notes = notes.collect::<Result<Vec<String>>>()?;
    registry.check_notes(&notes.iter().map(String::as_str).collect::<Vec<_>>())?;
    if let Some((ledger, _)) = &held {
        file.follow(ledger, &registry, &roots)?;
    }
    let mut report = Report::new();
    describe(&mut report, registry.listing(), registry.mark().root);
    if let Some(roots) = registry.roots() {
        describe_roots(&mut report, roots, Some(&registry));
    }
    report.row("verdict", "accepted");
    report.fact("verified", "signature");
    Ok(report)
}

/// Rows and facts of a registry that was written.
pub(super) fn written(file: &Path, registry: &Registry) -> Report {
    let mut report = Report::new();
    describe(&mut report, registry.listing(), registry.mark().root);
    if let Some(roots) = registry.roots() {
        describe_roots(&mut report, roots, Some(registry));
    }
    report.row("written", file.display());
    report.fact("output", file.display().to_string());
    report
}

/// Rows and facts of a registry.
pub(crate) fn describe(report: &mut Report, listing: &Listing, root: KeyId) {
    let now = time::now();
    report.row(
        "registry",
        format_args!("version {}, root {root}", listing.version),
    );
    report.row(
        "valid",
        format_args!(
            "{} until {} ({})",
            time::show_instant(listing.issued_at),
            time::show_instant(listing.expires),
            show_distance(now, listing.expires)
        ),
    );
    report.row("keys", listing.keys.len());
    let rows: Vec<Vec<String>> = listing.keys.iter().map(row).collect();
    if !rows.is_empty() {
        let head = [
            "key",
            "status",
            "issuer",
            "signs",
            "from",
            "until",
            "verified until",
        ];
        for line in table::lines(&head.map(|name| (name, '<')), &rows) {
            report.line(line);
        }
    }
    report.row("revoked capsules", listing.revoked.len());
    for entry in &listing.revoked {
        report.line(format_args!(
            "  {}  {}",
            entry.capsule,
            time::show_instant(entry.at)
        ));
    }
    report.fact("version", listing.version);
    report.fact("root_id", root.to_string());
    report.fact("issued_at", listing.issued_at);
    report.fact("expires", listing.expires);
    report.fact(
        "previous",
        listing.previous.map(|digest| digest.to_string()),
    );
    report.fact("keys", listing.keys.iter().map(entry).collect::<Vec<_>>());
    let revoked = listing.revoked.iter();
    let revoked = revoked.map(|r| json!({"capsule_id": r.capsule.to_string(), "at": r.at}));
    report.fact("revoked", revoked.collect::<Vec<_>>());
}

/// Rows and facts of a registry's roots; of one that was verified also what a verifier may be given.
pub(crate) fn describe_roots(report: &mut Report, roots: &Roots, verified: Option<&Registry>) {
    let now = time::now();
    report.row(
        "roots",
        format_args!(
            "statement {}: {} of {} sign, until {} ({})",
            roots.version,
            roots.threshold,
            roots.roots.len(),
            time::show_instant(roots.expires),
            show_distance(now, roots.expires)
        ),
    );
    for root in &roots.roots {
        let issuers = root.issuers.as_ref().map(|names| {
            let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
            names.join(", ")
        });
        let issuers = issuers.unwrap_or_else(|| "all issuers".to_owned());
        report.line(format_args!("  {}  {issuers}", root.id()));
    }
    if !roots.timestamp_keys.is_empty() {
        let until = verified.and_then(Registry::fresh_until);
        report.row(
            "timestamps",
            until.map_or("wanted".to_owned(), |until| {
                format!(
                    "until {} ({})",
                    time::show_instant(until),
                    show_distance(now, until)
                )
            }),
        );
        report.fact("fresh_until", until);
    }
    let digest = verified.and_then(Registry::root_public);
    if let Some(digest) = &digest {
        report.row("for new verifiers", digest.to_text());
    }
    report.fact(
        "roots",
        json!({
            "version": roots.version,
            "threshold": roots.threshold,
            "issued_at": roots.issued_at,
            "expires": roots.expires,
            "roots": roots.roots.iter().map(|root| json!({
                "root_id": root.id().to_string(),
                "issuers": root.issuers,
            })).collect::<Vec<_>>(),
            "timestamps": !roots.timestamp_keys.is_empty(),
            "statement": digest.map(|digest| digest.to_text()),
        }),
    );
}

fn end(time: u64) -> Option<u64> {
    (time != TrustedKey::NO_END).then_some(time)
}

fn row(key: &TrustedKey) -> Vec<String> {
    let until = |time| end(time).map_or_else(|| "no end".to_owned(), time::show_instant);
    vec![
        key.key.id().to_string(),
        key.status.name().to_owned(),
        quoted(&key.issuer),
        key.purpose.name().to_owned(),
        time::show_instant(key.not_before),
        until(key.sign_until),
        until(key.verify_until),
    ]
}

fn entry(key: &TrustedKey) -> Value {
    json!({
        "key_id": key.key.id().to_string(),
        "public_key": key.key.to_text(),
        "purpose": key.purpose.name(),
        "issuer": key.issuer,
        "suites": key.suites,
        "not_before": key.not_before,
        "sign_until": end(key.sign_until),
        "verify_until": end(key.verify_until),
        "status": key.status.name(),
    })
}
