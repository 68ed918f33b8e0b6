//! `kvcap-bench`: what everything costs on this machine, beside memcpy in the same process.

#![forbid(unsafe_code)]

mod capsule;
mod codecs;
#[cfg(feature = "shared")]
mod edge;
mod encodings;
#[cfg(feature = "shared")]
mod growth;
mod headers;
mod passes;
mod report;
mod server;
mod sessions;
mod stages;
mod start;
mod state;
mod stream;
mod suites;
mod timing;

use std::{
    hint::black_box,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use kvcap::{Error, Result, Suite};

use self::report::Report;

/// Measures codecs, suites, and whole capsules
///
/// Least times of several rounds count. GB/s are of plain bytes, beside memcpy in the same process.
#[derive(Debug, Parser)]
#[command(name = "kvcap-bench", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    what: What,
    /// Print one JSON object instead of text
    #[arg(long, global = true, display_order = 900)]
    json: bool,
    /// Write the JSON object into this file as well, for plot.py
    #[arg(long, global = true, value_name = "FILE", display_order = 901)]
    facts: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    Codecs(codecs::Args),
    Encodings(encodings::Args),
    Suites(suites::Args),
    Capsule(capsule::Args),
    State(state::Args),
    Stream(stream::Args),
    Sessions(sessions::Args),
    #[cfg(feature = "shared")]
    Growth(growth::Args),
    #[cfg(feature = "shared")]
    Edge(edge::Args),
    Start(start::Args),
    Server(server::Args),
    Timing(timing::Args),
    #[command(hide = true)]
    Sink(server::SinkArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = measure(&cli.what).and_then(|report| tell(&cli, &report));
    let Err(error) = done else {
        return ExitCode::SUCCESS;
    };
    let _closed = writeln!(
        io::stderr(),
        "kvcap-bench: error[{}]: {error}",
        error.code()
    );
    ExitCode::FAILURE
}

fn measure(what: &What) -> Result<Report> {
    match what {
        What::Codecs(args) => codecs::run(args),
        What::Encodings(args) => encodings::run(args),
        What::Suites(args) => suites::run(args),
        What::Capsule(args) => capsule::run(args),
        What::State(args) => state::run(args),
        What::Stream(args) => stream::run(args),
        What::Sessions(args) => sessions::run(args),
        #[cfg(feature = "shared")]
        What::Growth(args) => growth::run(args),
        #[cfg(feature = "shared")]
        What::Edge(args) => edge::run(args),
        What::Start(args) => start::run(args),
        What::Server(args) => server::run(args),
        What::Timing(args) => timing::run(args),
        What::Sink(args) => server::run_sink(args),
    }
}

fn tell(cli: &Cli, report: &Report) -> Result<()> {
    if let Some(path) = &cli.facts {
        std::fs::write(path, report.json()).map_err(|error| Error::io(&error, path.display()))?;
    }
    let text = match cli.json {
        true => report.json(),
        false => report.text(),
    };
    let written = io::stdout().write_all(text.as_bytes());
    written.map_err(|error| Error::io(&error, "stdout"))
}

/// A suite by its name.
fn suite(name: &str) -> std::result::Result<Suite, String> {
    let found = Suite::ALL.into_iter().find(|suite| suite.name() == name);
    found.ok_or_else(|| format!("a suite is {}", Suite::ALL.map(Suite::name).join(" or ")))
}

/// The time that `work` takes.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let done = black_box(work()?);
    Ok((done, start.elapsed()))
}

/// What is measured several times.
trait Least {
    /// Keeps the lesser of each figure.
    fn least(&mut self, other: &Self);
}

/// Measures as often in a row as a pass runs, so that what is needed is as much in cache.
///
/// # Errors
/// The first of `once`.
fn in_a_row<T: Least>(times: u64, mut once: impl FnMut() -> Result<T>) -> Result<T> {
    let mut least = once()?;
    for _ in 1..times {
        least.least(&once()?);
    }
    Ok(least)
}

impl Least for f64 {
    fn least(&mut self, other: &Self) {
        *self = self.min(*other);
    }
}

/// The same keys in the same order.
impl<K, T: Least> Least for Vec<(K, T)> {
    fn least(&mut self, other: &Self) {
        for ((_, ours), (_, theirs)) in self.iter_mut().zip(other) {
            ours.least(theirs);
        }
    }
}

/// A structure's least is that of each of its fields; all must be named.
macro_rules! least_of_each {
    ($of:ident: $($field:ident),+) => {
        impl Least for $of {
            fn least(&mut self, other: &Self) {
                let Self { $($field),+ } = self;
                $($field.least(&other.$field);)+
            }
        }
    };
}
use least_of_each;

/// Seconds that copying `from` takes at least, in `rounds`.
fn memcpy(from: &[u8], to: &mut Vec<u8>, rounds: u32) -> f64 {
    to.resize(from.len(), 0);
    let times = (0..rounds).map(|_| {
        let start = Instant::now();
        to.copy_from_slice(black_box(from));
        black_box(&to);
        start.elapsed()
    });
    times.min().unwrap_or_default().as_secs_f64()
}

/// 10⁹ bytes a second.
fn speed(bytes: f64, seconds: f64) -> f64 {
    bytes / seconds.max(f64::MIN_POSITIVE) / 1e9
}

/// A length, to divide by.
#[expect(clippy::cast_precision_loss, reason = "a length is far below 2^53")]
fn number(len: usize) -> f64 {
    len as f64
}
