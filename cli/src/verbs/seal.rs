//! `kvcap seal`: a runtime's state file into a capsule.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use kvcap::{MAX_LIFETIME, Result, SectionKind, Session, Terms};
use kvcap_codecs::Padding;
use kvcap_states::Continued;
use kvcap_store::{
    Continuation, input,
    output::{self, Output, Readers},
};

use super::{seal_report, sealing::How};
use crate::{
    flags::{ChainArgs, Common, SourcesArgs},
    ui::{self, Report, usage},
};

/// Longest section that is sealed beside the banks.
const LONGEST_SECTION: u64 = 1 << 30;

/// Seals a runtime's saved state into a capsule
///
/// STATE is an mlx-lm prompt cache, a llama.cpp sequence, session, slot or blob file, a Hugging Face
/// cache as safetensors, or (with --runtime raw) any safetensors file. With --encoding exact the file
/// comes back byte for byte, save for rows past the cache's offset, which come back as zeros.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The saved state; - for stdin
    state: PathBuf,
    /// The capsule to write; - for stdout [default: STATE.kvcap]
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,
    /// Replace OUT if it exists
    #[arg(short, long, requires = "output")]
    force: bool,
    #[command(flatten)]
    how: How,
    /// The session that it is a checkpoint of, which --session-version and --replay-cursor tell more of
    #[arg(long, value_name = "ID", requires_all = ["session_version", "replay_cursor"])]
    session: Option<String>,
    /// The version of the checkpoint
    #[arg(long, value_name = "N", requires = "session")]
    session_version: Option<u64>,
    /// The number of the last event that the state has seen
    #[arg(long, value_name = "N", requires = "session")]
    replay_cursor: Option<u64>,
    /// Its number within its session: a verifier with a ledger refuses a lower one than it has seen
    #[arg(long, value_name = "N")]
    seq: Option<u64>,
    /// A capsule that the state goes on from: only what is new is sealed, once the rest is seen to be
    /// the same. Its ancestors are found in its folder, or where --chain says. The signing key may have
    /// signed it, and who is named by --trust or --registry
    #[arg(long, value_name = "CAPSULE")]
    parent: Option<PathBuf>,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    trust: SourcesArgs,
    /// A curated start state that many sessions continue: has no subject
    #[arg(long, conflicts_with = "subject")]
    base: bool,
    /// The conversation, sealed beside the state
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// The agent's own state, sealed beside the state
    #[arg(long, value_name = "FILE")]
    agent_state: Option<PathBuf>,
}

/// # Errors
/// 92x for the state, 93x for the model, 94x for keys, files and arguments; 9xx for values that a
/// lossy encoding cannot carry; 401, 5xx for statements that a reader would refuse.
pub(crate) fn run(args: &Args, common: &Common) -> Result<Report> {
    let out = args.output()?;
    output::check_absent(&out, args.force)?;
    let passphrases = ui::passphrases();
    let mut prepared = args.how.prepare(&args.state, &passphrases, common)?;
    args.amend(&mut prepared.parties.terms);
    let mut capture = prepared.capture(&args.how, args.sections()?)?;
    capture.lineage.base = args.base;
    let mut chain = None;
    if let Some(parent) = &args.parent {
        let (ancestors, trust) = (args.chain.of(parent), args.trust.sources());
        let parties = &prepared.parties;
        let opened = args.how.opened(&ancestors, trust, parties, &passphrases)?;
        chain = Some(Continuation::of(&opened, &parties.terms));
        capture.lineage.continued = Some(Continued::check(
            &prepared.state,
            &prepared.source,
            &opened,
            args.how.threads.workers(),
            &mut |_| {},
        )?);
    }

    let output = Output::create(&out, args.force, Readers::Umask)?;
    let started = Instant::now();
    let terms = &prepared.parties.terms;
    let sealed = prepared.seal(&args.how, capture, terms.clone(), &output, common)?;
    output.commit()?;
    let (chain, took) = (chain.as_ref(), started.elapsed());
    let report = seal_report::of(
        &prepared.state,
        &sealed,
        &prepared.profile,
        terms,
        chain,
        took,
    );
    Ok(args.note(report, &out, terms))
}

impl Args {
    /// Where the capsule goes: beside the state where nobody says.
    fn output(&self) -> Result<PathBuf> {
        match &self.output {
            Some(path) => Ok(path.clone()),
            None if input::is_stdin(&self.state) => usage(
                "a state from stdin has no name: say where the capsule goes",
                "-o",
            ),
            None => {
                let mut name = self.state.clone().into_os_string();
                name.push(".kvcap");
                Ok(name.into())
            }
        }
    }

    /// Says of the terms what this capsule is among others.
    fn amend(&self, terms: &mut Terms) {
        terms.sequence = self.seq;
        if let (Some(id), Some(version), Some(replay_cursor)) =
            (&self.session, self.session_version, self.replay_cursor)
        {
            terms.session = Some(Session {
                id: id.clone(),
                version,
                replay_cursor,
            });
        }
    }

    fn sections(&self) -> Result<Vec<(SectionKind, Vec<u8>)>> {
        let mut sections = Vec::new();
        for (kind, path) in [
            (SectionKind::History, &self.history),
            (SectionKind::AgentState, &self.agent_state),
        ] {
            if let Some(path) = path {
                sections.push((kind, input::small(path, LONGEST_SECTION)?));
            }
        }
        Ok(sections)
    }

    /// What the person who seals should hear of.
    fn note(&self, mut report: Report, out: &Path, terms: &Terms) -> Report {
        report.row("written", out.display());
        report.fact("output", out.display().to_string());
        if let Some(padding) = self.how.compress.padding() {
            report.note(match padding {
                Padding::Padme => {
                    "compressed, padded by Padmé: lengths tell how repetitive the state is, and hardly more"
                }
                Padding::Fine => "compressed, finely padded: lengths can tell known prompts apart",
            });
        }
        if self.how.danger_no_prefix {
            report.note("bound to no prompt: nothing tells if it is restored under another one");
        }
        if terms.expires - terms.issued_at > MAX_LIFETIME {
            report.note("lives longer than the 30 days that verifiers accept by default");
        }
        report
    }
}
