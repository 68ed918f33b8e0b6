//! `kvcap open`: a capsule back into its runtime's state file.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    time::Instant,
};

#[cfg(feature = "sync")]
use kvcap::CapsuleId;
use kvcap::{
    Chain, Code, Error, Members, Opened, OpenedChain, ReadAt, Result, Stream, Untrusted, WriteAt,
};
use kvcap_codecs::Quality;
use kvcap_session::check_state;
#[cfg(feature = "sync")]
use kvcap_session::sync::Relay;
use kvcap_states::{Selection, check_quality, extract, open_state, receipts};

use super::open_target::TargetArgs;
use kvcap_store::{
    Admitted, Judge, Verdict, WrapKeys,
    input::{self, Capsule},
    output::{self, Output, Readers},
};

use crate::{
    flags::{
        Budget, ChainArgs, CheckpointArgs, Common, PolicyArgs, RelayArgs, Threads, TokensArgs,
        range,
    },
    ui::{Report, bytes, passphrases, progress, quality, usage, verdict},
};

/// Bytes of a section written at a time.
const STEP: u64 = 1 << 20;

/// Verifies a capsule and opens it
///
/// Writes the runtime's own state file again, or one section of the capsule. Every byte is checked
/// before it is written, and the output appears only once all of it is: a refused capsule leaves
/// nothing behind. An increment opens with the capsules that it continues. The state is readable by its owner alone (0600).
///
/// With --relay the capsule is one that a relay keeps, and so are those of --chain, named by their ids. It is fetched
/// in ranges: of a part of the state no more than that part needs, its layers one after the other.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The capsule; - for stdin; its id with --relay
    capsule: PathBuf,
    #[command(flatten)]
    relay: RelayArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    /// A secret wrapping key's file, or a key folder. Several may be given
    #[arg(long, value_name = "KEY", required = true)]
    wrap_key: Vec<PathBuf>,
    /// The state file to write; - for stdout [default: the capsule's name without .kvcap]
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,
    /// Replace OUT if it exists
    #[arg(short, long, requires = "output")]
    force: bool,
    #[command(flatten)]
    tokens: TokensArgs,
    /// Measure the lossy banks again against the state file that was sealed, and refuse unless each
    /// signed quality receipt is what is measured
    #[arg(long, value_name = "ORIGINAL")]
    check_quality: Option<PathBuf>,
    /// Write this section instead: tokens, history, agent-state, …
    #[arg(long, value_name = "NAME")]
    section: Option<String>,
    /// Write these layers alone, as plain tensors (safetensors), reading no more than they need
    #[arg(long, value_name = "A..B", conflicts_with = "section", value_parser = range::<u32>)]
    layers: Option<Range<u32>>,
    /// Write these positions alone, as plain tensors (safetensors)
    #[arg(long, value_name = "A..B", conflicts_with = "section", value_parser = range::<u64>)]
    positions: Option<Range<u64>>,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    budget: Budget,
    #[command(flatten)]
    threads: Threads,
    #[command(flatten)]
    target: TargetArgs,
}

/// # Errors
/// What capsule-v1 §3.2 and §3.3 refuse, and the codecs; with a relay its refusals, and KVC-940.
pub(crate) fn run(args: &Args, common: &Common) -> Result<Report> {
    let out = args.output()?;
    output::check_absent(&out, args.force)?;
    if args.target.any()
        && (args.section.is_some() || args.layers.is_some() || args.positions.is_some())
    {
        return usage("a part of a capsule is written as it is", "--to, --kv-type");
    }
    #[cfg(feature = "sync")]
    if let Some(relay) = args.relay.read()? {
        return args.kept_by(&relay, &out, common);
    }
    #[cfg(not(feature = "sync"))]
    if args.relay.is_named() {
        return crate::flags::without_relays();
    }
    let (untrusted, body) = Capsule::read(&args.capsule)?.split();
    let ancestors = args.chain.of(&args.capsule);
    open(
        args,
        common,
        &out,
        untrusted,
        |len| body.fetch(len),
        |judge, verdict| judge.with_ancestors(verdict, &ancestors, |file| file),
    )
}

/// Opens the capsule of a header; `fetch` gets its body, of so many bytes, and `complete` the capsules that it continues.
fn open<S: ReadAt>(
    args: &Args,
    common: &Common,
    out: &Path,
    untrusted: Untrusted,
    fetch: impl FnOnce(u64) -> Result<S>,
    complete: impl FnOnce(&Judge<'_>, Verdict<S>) -> Result<Verdict<S>>,
) -> Result<Report> {
    let keys = WrapKeys::read(&args.wrap_key, &passphrases())?;
    let tokens = args.tokens.read()?;
    let verifier = args.budget.of(args.policy.verifier()?);
    let model = args.policy.model(common)?;
    let mut judge = args
        .policy
        .judge(&verifier, model.as_ref(), args.checkpoint.expected())?;
    let verdict = judge.verify(untrusted)?;
    args.policy.check_rotation(verdict.tip().manifest())?;
    if args.section.is_none() {
        check_state(verdict.tip().manifest())?;
    }
    let mut report = Report::new();
    verdict::describe(&verdict, &mut report);
    let single_use = verdict.tip().manifest().claims.terms.single_use;
    // before the body is asked for: an output that cannot be made is known early
    let output = Output::create(out, args.force, Readers::Owner)?;
    let source = fetch(verdict.tip().file_len())?;
    let verdict = complete(&judge, verdict.with_source(source))?;
    verdict::describe_chain(verdict.chain(), &mut report);
    let accepted = judge.conclude(verdict)?;
    if single_use {
        // a use is not spent on an output that there is no room for
        output.require(args.least(accepted.chain()))?;
    }
    let Admitted {
        opened, unchecked, ..
    } = judge.open(accepted, keys, tokens.as_deref(), args.threads.workers())?;
    verdict::describe_unchecked(&judge, &unchecked, &mut report);
    report.row(
        "prompt",
        match &tokens {
            Some(_) => "the expected one",
            None => "not compared (no --tokens)",
        },
    );
    report.fact("prompt_compared", tokens.is_some());

    if let Some(original) = &args.check_quality {
        let checked = check_quality(&opened, &input::file(original)?)?;
        report.row(
            "quality",
            format_args!("{checked} signed receipts measured again: all true"),
        );
        report.fact("receipts_checked", checked);
    }
    let mut worst = None;
    for member in opened.ancestors().iter().chain([opened.tip()]) {
        for quality in receipts(member)?
            .into_iter()
            .filter_map(|receipt| receipt.quality)
        {
            worst = Some(worst.map_or(quality, |worst: Quality| worst.worse(&quality)));
        }
    }
    quality::describe(worst.as_ref(), &mut report);
    let started = Instant::now();
    let written = match &args.section {
        Some(name) => section(opened.tip(), name, &output),
        None if args.layers.is_some() || args.positions.is_some() => {
            let selection = Selection {
                layers: args.layers.clone(),
                positions: args.positions.clone(),
            };
            extract(
                &opened,
                &selection,
                &output,
                args.threads.workers(),
                &mut |_| {},
            )
            .map(|part| part.len)
        }
        None => args.state(&opened, &output, &judge, common, &mut report),
    };
    let written = written.map_err(|error| output.at(error))?;
    output.commit()?;
    report.row(
        "written",
        format_args!("{}, {}", out.display(), bytes(written)),
    );
    report.row("took", format_args!("{:.1?}", started.elapsed()));
    if single_use {
        report
            .note("single use: recorded, and refused from now on wherever this --ledger is asked");
    }
    report.fact("output", out.display().to_string());
    report.fact("output_bytes", written);
    report.fact("read_bytes", opened.bytes_read());
    report.fact("section", args.section.clone());
    report.fact("single_use", single_use);
    report.fact("seconds", started.elapsed().as_secs_f64());
    Ok(report)
}

impl Args {
    /// Opens a capsule that a relay keeps, and reads no more of it than is needed.
    #[cfg(feature = "sync")]
    fn kept_by(&self, relay: &Relay, out: &Path, common: &Common) -> Result<Report> {
        let kept = |path: &Path| {
            let id = path.to_str().and_then(CapsuleId::from_hex);
            let Some(id) = id else {
                return usage("a relay knows a capsule by its id", path.display());
            };
            let gone = || Error::new(Code::LocalIo, "the relay keeps no such capsule").at(id);
            relay.open(id)?.ok_or_else(gone)
        };
        let (untrusted, source) = kept(&self.capsule)?;
        let given = self.chain.given().iter().map(|path| kept(path));
        open(
            self,
            common,
            out,
            untrusted,
            |_| Ok(source),
            |judge, verdict| {
                judge.with_given_ancestors(verdict, given.collect::<Result<Vec<_>>>()?)
            },
        )
    }

    /// Where the state goes: beside the capsule, under the name that `kvcap seal` made the capsule's from.
    fn output(&self) -> Result<PathBuf> {
        if let Some(path) = &self.output {
            return Ok(path.clone());
        }
        let part = self.section.is_some() || self.layers.is_some() || self.positions.is_some();
        let stem = self.capsule.file_stem().filter(|_| !part);
        match (stem, self.capsule.extension()) {
            (Some(stem), Some(end)) if end == "kvcap" => Ok(self.capsule.with_file_name(stem)),
            _ => usage("nothing says how the output is called", "-o"),
        }
    }

    /// Bytes that the output will have at least, as far as the headers tell: of a part or another element type they
    /// do not.
    fn least<S>(&self, chain: &Chain<S>) -> u64 {
        if self.layers.is_some() || self.positions.is_some() || self.target.any() {
            return 0;
        }
        let tip = chain.tip().manifest();
        if let Some(name) = &self.section {
            let mut sections = tip.context.streams.iter();
            return sections
                .find_map(|stream| match stream {
                    Stream::Section(section) if section.kind.name() == name => Some(section.len),
                    _ => None,
                })
                .unwrap_or(0);
        }
        let members = chain.members();
        let banks = members.flat_map(|(member, _)| member.manifest().context.banks());
        banks
            .filter_map(|(_, bank)| bank.shape.plain_len(bank.dtype))
            .fold(0, u64::saturating_add)
    }

    fn state<S: ReadAt>(
        &self,
        opened: &OpenedChain<S>,
        output: &Output,
        judge: &Judge<'_>,
        common: &Common,
        report: &mut Report,
    ) -> Result<u64> {
        let cache = self.policy.model_args.cache();
        let tip = opened.tip();
        let model = self.target.model(tip, judge, &cache, common, report)?;
        let members = opened.ancestors().iter().chain([opened.tip()]);
        let plain = members
            .flat_map(|member| member.manifest().context.banks())
            .filter_map(|(_, bank)| bank.shape.plain_len(bank.dtype));
        let bar = progress::bar(common.shows_progress(), "open", plain.sum());
        let mut told = |done| bar.inc(done);
        let workers = self.threads.workers();
        let written = match self.target.any() {
            true => {
                let model = model.as_ref();
                self.target.write(opened, output, model, workers, &mut told)
            }
            false => open_state(opened, output, workers, &mut told),
        };
        bar.finish();
        Ok(written?.state_len)
    }
}

fn section<S: ReadAt>(opened: &Opened<S>, name: &str, output: &Output) -> Result<u64> {
    let streams = &opened.manifest().context.streams;
    let names = || {
        streams.iter().filter_map(|stream| match stream {
            Stream::Section(section) => Some(section.kind.name()),
            Stream::Bank(_) => None,
        })
    };
    let is_it = |stream: &Stream| matches!(stream, Stream::Section(s) if s.kind.name() == name);
    let index = streams.iter().position(is_it).ok_or_else(|| {
        let held: Vec<&str> = names().collect();
        Error::new(Code::BodyRange, "the capsule has no such section").sides(held.join(", "), name)
    })?;
    let mut reader = opened.stream(index)?;
    let mut piece = Vec::new();
    let mut at = 0;
    while at < reader.len() {
        let end = reader.len().min(at + STEP);
        piece.clear();
        reader.read(at..end, &mut piece)?;
        output
            .write_all_at(at, &piece)
            .map_err(|error| Error::sink(&error, "output"))?;
        at = end;
    }
    Ok(at)
}
