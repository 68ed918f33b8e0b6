//! What `renew` and `rewrap` share: a capsule verified, and a new header over its body.

use std::{path::PathBuf, time::Instant};

use kvcap::{Claims, Reissued, Reissuer, Result, SigningKey, SourceFile, Trust, Verified};
use kvcap_store::{
    Passphrases, Verifier,
    input::{self, Capsule},
    key_file,
    output::{self, Output, Readers},
    time,
};

use crate::{
    flags::{TrustArgs, duration, instant},
    ui::{Report, bytes},
    verbs::inspect,
};

/// The capsule, and who signs its new header.
#[derive(Debug, clap::Args)]
pub(super) struct ReissueArgs {
    /// The capsule; - for stdin
    capsule: PathBuf,
    /// The capsule to write, which may be the same file with --force; - for stdout
    #[arg(short, long, value_name = "OUT")]
    pub(super) output: PathBuf,
    /// Replace OUT if it exists
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    trust: TrustArgs,
    /// The secret signing key's file, of the same issuer: a key that --trust or --registry accepts too
    #[arg(long, value_name = "KEY")]
    sign_key: PathBuf,
    /// Longest lifetime to accept
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = duration)]
    max_lifetime: u64,
    /// Judge and sign as of this time instead of now: for audits and tests
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<u64>,
}

/// A verified capsule, and what a new header over it is signed with.
pub(super) struct Ready {
    pub(super) verified: Verified,
    pub(super) now: u64,
    pub(super) body: SourceFile,
    signer: SigningKey,
    trust: Trust,
    max_lifetime: u64,
}

impl Ready {
    pub(super) fn by(&self) -> Reissuer<'_> {
        let mut by = Reissuer::new(&self.signer, &self.trust, self.now);
        by.max_lifetime = self.max_lifetime;
        by
    }
}

impl ReissueArgs {
    /// Reads the capsule and verifies its header. For whom the capsule is was the issuer's to say.
    pub(super) fn ready(&self, passphrases: &Passphrases<'_>) -> Result<Ready> {
        output::check_absent(&self.output, self.force)?;
        let signer = key_file::signing(&self.sign_key, passphrases)?;
        let verifier = Verifier {
            max_lifetime: self.max_lifetime,
            ..self.trust.verifier(self.at)?
        };
        let judge = verifier.judge()?;
        let (untrusted, body) = Capsule::read(&self.capsule)?.split();
        let mut judge = judge.danger_as_stated(&untrusted.claims().terms);
        let verdict = judge.verify(untrusted)?;
        let body = body.fetch(verdict.tip().file_len())?;
        Ok(Ready {
            verified: judge.conclude(verdict)?.into_tip(),
            now: judge.now(),
            body,
            signer,
            trust: judge.trust().clone(),
            max_lifetime: self.max_lifetime,
        })
    }

    /// Writes the new capsule, and says what it is.
    pub(super) fn write(&self, body: &SourceFile, header: &Reissued) -> Result<Report> {
        let started = Instant::now();
        let output = Output::create(&self.output, self.force, Readers::Umask)?;
        header
            .write(&mut body.file(), &mut output.file())
            .map_err(|error| output.at(input::at(error, &self.capsule)))?;
        output.commit()?;
        let verified = header.verified();
        let Claims { id, key, terms, .. } = &verified.manifest().claims;
        let mut report = Report::new();
        report.row("capsule", id);
        report.row(
            "signed by",
            format_args!("key {key}, issuer {:?}", terms.issuer),
        );
        report.row(
            "valid",
            format_args!("until {}", time::show_instant(terms.expires)),
        );
        report.row(
            "renewable",
            format_args!("until {}", time::show_instant(terms.renew_until)),
        );
        report.row("scope", format_args!("{:?}", terms.scope));
        report.row("audience", format_args!("{:?}", terms.audience));
        let recipients: Vec<(String, &str)> = verified
            .recipients()
            .map(|(key, kind)| (key.to_string(), kind.name()))
            .collect();
        report.row("wrapped for", inspect::keys_and_kinds(&recipients));
        report.row(
            "written",
            format_args!("{}, {}", self.output.display(), bytes(verified.file_len())),
        );
        report.row("took", format_args!("{:.1?}", started.elapsed()));
        report.fact("capsule_id", id.to_string());
        report.fact("key_id", key.to_string());
        report.fact("issuer", terms.issuer.as_str());
        report.fact("expires", terms.expires);
        report.fact("renew_until", terms.renew_until);
        report.fact("scope", terms.scope.as_str());
        report.fact("audience", terms.audience.as_str());
        report.fact("recipients", inspect::recipients(&recipients));
        report.fact("lineage", verified.lineage().to_string());
        report.fact("output", self.output.display().to_string());
        report.fact("file_bytes", verified.file_len());
        report.fact("seconds", started.elapsed().as_secs_f64());
        Ok(report)
    }
}
