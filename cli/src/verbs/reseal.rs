//! What `compact` and `truncate` share: a capsule opened with its ancestors, and sealed again as one.

use std::{path::PathBuf, time::Instant};

use kvcap::{Members, OpenedChain, Result, SigningKey, SourceFile, Terms, WrappingKey};
use kvcap_codecs::Preset;
use kvcap_states::{Encoding, SealRequest, State, as_sealed, seal_state};
use kvcap_store::{
    WrapKeys,
    input::{self, Capsule},
    key_file,
    output::{self, Output, Readers},
    resealed_terms,
};

use crate::{
    flags::{Budget, ChainArgs, Common, Compress, Threads, TrustArgs, duration, preset},
    ui::{Report, passphrases, progress},
    verbs::seal_report,
};

/// The capsule, and who seals it again.
#[derive(Debug, clap::Args)]
pub(super) struct ResealArgs {
    /// The capsule; - for stdin
    capsule: PathBuf,
    /// The capsule to write; - for stdout
    #[arg(short, long, value_name = "OUT")]
    pub(super) output: PathBuf,
    /// Replace OUT if it exists
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    trust: TrustArgs,
    /// The issuer's secret signing key's file
    #[arg(long, value_name = "KEY")]
    sign_key: PathBuf,
    /// A secret wrapping key's file: what opens the capsules, and will open the new one. Several may be
    /// given
    #[arg(long, value_name = "KEY", required = true)]
    wrap_key: Vec<PathBuf>,
    /// A shorter life than the old capsules have left
    #[arg(long, value_name = "TIME", value_parser = duration)]
    ttl: Option<u64>,
    /// How banks are encoded. What was sealed with loss is kept as it opens: exact adds none;
    /// tc:RATE takes at most RATE bits a value
    #[arg(long, value_name = "ENCODING", default_value = "exact", value_parser = preset())]
    encoding: Preset,
    #[command(flatten)]
    compress: Compress,
    #[command(flatten)]
    budget: Budget,
    #[command(flatten)]
    threads: Threads,
}

/// An opened chain, and what its new capsule is sealed with.
pub(super) struct Ready {
    pub(super) opened: OpenedChain<SourceFile>,
    /// The tip's terms, ending with the first of the chain.
    terms: Terms,
    signer: SigningKey,
    keys: Vec<WrappingKey>,
}

impl ResealArgs {
    /// Verifies and opens. For whom the capsule is was the issuer's to say.
    pub(super) fn ready(&self) -> Result<Ready> {
        output::check_absent(&self.output, self.force)?;
        let passphrases = passphrases();
        let signer = key_file::signing(&self.sign_key, &passphrases)?;
        let keys = WrapKeys::read(&self.wrap_key, &passphrases)?;
        let verifier = self.budget.of(self.trust.verifier(None)?);
        let judge = verifier.judge()?;
        let (untrusted, body) = Capsule::read(&self.capsule)?.split();
        let mut judge = judge.danger_as_stated(&untrusted.claims().terms);
        let of = |error| input::at(error, &self.capsule);
        let verdict = judge.verify(untrusted).map_err(of)?;
        let source = body.fetch(verdict.tip().file_len())?;
        let verdict = verdict.with_source(source);
        let verdict = judge.with_ancestors(verdict, &self.chain.of(&self.capsule), |file| file)?;
        let accepted = judge.conclude(verdict).map_err(of)?;
        let now = judge.now();
        let terms = resealed_terms(accepted.chain(), now, self.ttl)?;
        key_file::check_issuer(&signer, &terms.issuer)?;
        let opening = WrapKeys::read(&self.wrap_key, &passphrases)?;
        Ok(Ready {
            opened: judge
                .open(accepted, opening, None, self.threads.workers())?
                .opened,
            keys: keys.sealing(terms.tenant.as_deref(), now)?,
            terms,
            signer,
        })
    }

    pub(super) fn threads(&self) -> &Threads {
        &self.threads
    }

    /// Seals `state`, whose bytes are in `file`, as what the tip says it is.
    pub(super) fn seal(
        &self,
        ready: &Ready,
        state: &State,
        file: &SourceFile,
        common: &Common,
    ) -> Result<Report> {
        let started = Instant::now();
        let (profile, capture) = as_sealed(&ready.opened, state)?;
        let output = Output::create(&self.output, self.force, Readers::Umask)?;
        let plain = state.banks.iter().filter_map(|placed| {
            let bank = &placed.bank;
            bank.shape.plain_len(bank.dtype)
        });
        let bar = progress::bar(common.shows_progress(), "seal", plain.sum());
        let sealed = seal_state(
            &output,
            SealRequest::new(
                state,
                file,
                &profile,
                capture,
                ready.terms.clone(),
                &ready.signer,
            )
            .to(&ready.keys.iter().collect::<Vec<_>>())
            .encoding(self.encoding())
            .workers(self.threads.workers()),
            &mut |done| bar.inc(done),
        );
        bar.finish();
        let (_, sealed) = sealed.map_err(|error| output.at(error))?;
        output.commit()?;
        let mut report = seal_report::of(
            state,
            &sealed,
            &profile,
            &ready.terms,
            None,
            started.elapsed(),
        );
        report.row("written", self.output.display());
        report.fact("output", self.output.display().to_string());
        let old = ready.opened.ancestors().iter().chain([ready.opened.tip()]);
        let old = old.map(|member| member.manifest().claims.id.to_string());
        report.fact("made_of", old.collect::<Vec<_>>());
        Ok(report)
    }

    fn encoding(&self) -> Encoding {
        Encoding {
            compress: self.compress.padding(),
            ..Encoding::of(self.encoding)
        }
    }
}
