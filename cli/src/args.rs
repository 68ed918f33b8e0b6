//! The command line: what every verb shares.

use std::{ops::Range, path::Path, str::FromStr};

use clap::{Parser, Subcommand, ValueEnum};
use kvcap::{Suite, Workers};
use kvcap_codecs::Padding;

use crate::{cmd, time};

/// Seals a language model's saved attention state (KV cache) into a signed, encrypted capsule.
///
/// Anyone with the issuer's public key can verify every byte of a capsule; only a holder of a
/// wrapping key can open it, and only into the model that it was made by.
#[derive(Debug, Parser)]
#[command(
    name = "kvcap",
    version,
    after_help = EXIT_CODES,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

pub(crate) const EXIT_CODES: &str = "\
Exit status:
  0  accepted          1  refused          2  the request is not usable
  3  malformed input, or over a limit      4  a file could not be read or written

Errors are one line on stderr, `kvcap: error[KVC-402]: …`, and a hint; the codes are listed in
spec/errors.md. With --json, stdout gets one object: {\"schema\": 1, \"ok\": true, …}, or
{\"schema\": 1, \"ok\": false, \"error\": {\"code\": 402, …}}. With `-o -` stdout is the output's, and
the report goes to stderr.";

/// What every verb takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Print one JSON object instead of text
    #[arg(long, global = true, help_heading = "Everywhere", display_order = 900)]
    pub(crate) json: bool,
    /// Print nothing but errors and data that was asked for
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Everywhere",
        display_order = 901
    )]
    pub(crate) quiet: bool,
}

/// How many threads share the work.
#[derive(Debug, clap::Args)]
pub(crate) struct Threads {
    /// Threads that share the work, which gives the same bytes whatever their number [default: all
    /// cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl Threads {
    pub(crate) fn workers(&self) -> Workers {
        self.threads
            .map_or_else(Workers::all, |threads| Workers::new(threads.into()))
    }
}

/// Whether and how exact banks are compressed.
#[derive(Debug, clap::Args)]
pub(crate) struct Compress {
    /// Compress exact banks without loss. Their padded lengths then depend on the prompt; padme if not
    /// said otherwise
    #[arg(
        long,
        value_enum,
        value_name = "PADDING",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "padme"
    )]
    compress: Option<Ladder>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Ladder {
    /// Lengths tell how repetitive the state is, and hardly more
    Padme,
    /// About 1 % smaller, and lengths can tell known prompts apart
    Fine,
}

impl Compress {
    pub(crate) fn padding(&self) -> Option<Padding> {
        self.compress.map(|ladder| match ladder {
            Ladder::Padme => Padding::Padme,
            Ladder::Fine => Padding::Fine,
        })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Keygen(cmd::keygen::Args),
    ModelId(cmd::model_id::Args),
    Seal(Box<cmd::seal::Args>),
    Verify(Box<cmd::verify::Args>),
    /// The former name of `verify --timings`
    #[command(hide = true)]
    ValidateSession(Box<cmd::verify::Args>),
    Open(Box<cmd::open::Args>),
    Renew(cmd::renew::Args),
    Rewrap(cmd::rewrap::Args),
    Compact(cmd::compact::Args),
    Truncate(cmd::truncate::Args),
    Log(cmd::log::Args),
    Diff(cmd::diff::Args),
    #[command(alias = "receipt")]
    CheckRestore(cmd::check_restore::Args),
    Inspect(cmd::inspect::Args),
    Shred(cmd::shred::Args),
    Registry(cmd::registry::Args),
    Bench(cmd::bench::Args),
    Scale(Box<cmd::scale::Args>),
    Selftest(cmd::selftest::Args),
    Demo(cmd::demo::Args),
    Completions(cmd::completions::Args),
    Man(cmd::man::Args),
}

impl Verb {
    /// Where the verb's output goes, if it has one.
    pub(crate) fn output(&self) -> Option<&Path> {
        match self {
            Self::ModelId(args) => args.output.as_deref(),
            Self::Seal(args) => Some(&args.output),
            Self::Open(args) => Some(&args.output),
            Self::Compact(args) => Some(args.output()),
            Self::Truncate(args) => Some(args.output()),
            Self::Renew(args) => Some(args.output()),
            Self::Rewrap(args) => Some(args.output()),
            _ => None,
        }
    }
}

/// `A..B`, from A to before B.
pub(crate) fn range<T: FromStr + PartialOrd>(text: &str) -> Result<Range<T>, String> {
    let ends = text
        .split_once("..")
        .map(|(start, end)| (start.parse(), end.parse()));
    match ends {
        Some((Ok(start), Ok(end))) if start < end => Ok(start..end),
        _ => Err("a range is written A..B, with A below B".to_owned()),
    }
}

/// A length of time: `90s`, `15m`, `24h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<u64, String> {
    time::parse_duration(text)
        .ok_or_else(|| "a length of time is written 90s, 15m, 24h or 7d".to_owned())
}

/// A point in time: `2026-11-21T00:32:13Z`, or seconds since 1970.
pub(crate) fn instant(text: &str) -> Result<u64, String> {
    time::parse_instant(text).ok_or_else(|| {
        "a time is written 2026-11-21T00:32:13Z, or as seconds since 1970".to_owned()
    })
}

/// A suite by its name.
pub(crate) fn suite(name: &str) -> Result<Suite, String> {
    let found = Suite::ALL.into_iter().find(|suite| suite.name() == name);
    found.ok_or_else(|| {
        let names = Suite::ALL.map(Suite::name);
        format!("a suite is {}", names.join(" or "))
    })
}
