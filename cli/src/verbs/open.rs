//! `kvcap open`: a capsule back into its runtime's state file.

use std::{ops::Range, path::PathBuf, time::Instant};

use kvcap::{Code, Error, Members, Opened, OpenedChain, Result, SourceFile, Stream, WriteAt};
use kvcap_states::{Selection, check_quality, extract, open_state};

use super::open_target::TargetArgs;
use kvcap_store::{
    Admitted, Judge, WrapKeys,
    input::{self, Capsule},
    output::{self, Output, Readers},
};

use crate::{
    flags::{ChainArgs, Common, PolicyArgs, Threads, range, tokens},
    ui::{Report, bytes, progress, usage, verdict},
};

/// Bytes of a section written at a time.
const STEP: u64 = 1 << 20;

/// Verifies a capsule and opens it
///
/// Writes the runtime's own state file again, or one section of the capsule. Every byte is checked
/// before it is written, and the output appears only once all of it is: a refused capsule leaves
/// nothing behind. An increment opens with the capsules that it continues. The state is readable by its owner alone (0600).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The capsule; - for stdin
    capsule: PathBuf,
    #[command(flatten)]
    policy: PolicyArgs,
    /// A secret wrapping key's file, or a key folder. Several may be given
    #[arg(long, value_name = "KEY", required = true)]
    wrap_key: Vec<PathBuf>,
    /// The state file to write; - for stdout
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// Replace OUT if it exists
    #[arg(short, long)]
    force: bool,
    /// Refuse unless the capsule is of this prompt: token ids as a JSON array, or u32 little-endian
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
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
    threads: Threads,
    #[command(flatten)]
    target: TargetArgs,
}

/// # Errors
/// What capsule-v1 §11.2 and §11.3 refuse, and the codecs.
pub(crate) fn run(args: &Args, common: &Common) -> Result<Report> {
    output::check_absent(&args.output, args.force)?;
    let keys = WrapKeys::read(&args.wrap_key)?;
    if args.target.any()
        && (args.section.is_some() || args.layers.is_some() || args.positions.is_some())
    {
        return usage("a part of a capsule is written as it is", "--to, --kv-type");
    }
    let tokens = args.tokens.as_deref().map(tokens).transpose()?;
    let (untrusted, body) = Capsule::read(&args.capsule)?.split();
    let verifier = args.policy.verifier()?;
    let judge = verifier.judge()?;
    let model = args.policy.model(common)?;
    let judge = judge.expecting(args.policy.expected(model.as_ref()));
    let verdict = judge.verify(untrusted)?;
    let mut report = Report::new();
    verdict::describe(&verdict, &mut report);
    let single_use = verdict.tip().manifest().claims.terms.single_use;
    // before the body is asked for: an output that cannot be made is known early
    let output = Output::create(&args.output, args.force, Readers::Owner)?;
    let source = body.fetch(verdict.tip().file_len())?;
    let verdict = verdict.with_source(source);
    let verdict = judge.with_ancestors(verdict, &args.chain.of(&args.capsule), |file| file)?;
    verdict::describe_chain(verdict.chain(), &mut report);
    let Admitted {
        opened, unchecked, ..
    } = judge.open(verdict, keys, tokens.as_deref(), args.threads.workers())?;
    verdict::describe_unchecked(&unchecked, &mut report);
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
    let started = Instant::now();
    let written = match &args.section {
        Some(name) => section(opened.tip(), name, &output)?,
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
            )?
            .len
        }
        None => args.state(&opened, &output, &judge, common, &mut report)?,
    };
    output.commit()?;
    report.row(
        "written",
        format_args!("{}, {}", args.output.display(), bytes(written)),
    );
    report.row("took", format_args!("{:.1?}", started.elapsed()));
    if single_use {
        report.row(
            "note",
            "single use: recorded, and refused from now on wherever this --ledger is asked",
        );
    }
    report.fact("output", args.output.display().to_string());
    report.fact("bytes", written);
    report.fact("bytes_read", opened.bytes_read());
    report.fact("section", args.section.clone());
    report.fact("single_use", single_use);
    report.fact("seconds", started.elapsed().as_secs_f64());
    Ok(report)
}

impl Args {
    fn state(
        &self,
        opened: &OpenedChain<SourceFile>,
        output: &Output,
        judge: &Judge<'_>,
        common: &Common,
        report: &mut Report,
    ) -> Result<u64> {
        let model = self.target.model(opened.tip(), judge, common, report)?;
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
        bar.finish_and_clear();
        Ok(written?.state_len)
    }
}

fn section(opened: &Opened<SourceFile>, name: &str, output: &Output) -> Result<u64> {
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
