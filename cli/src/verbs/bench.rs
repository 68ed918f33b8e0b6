//! `kvcap bench`: what everything costs on this machine, beside memcpy in the same process.

mod calibrate;
mod capsule;
mod codecs;
mod headers;
mod made;
mod normal;
mod passes;
mod plot;
mod stages;
mod stream;
mod suites;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use clap::Subcommand;
use kvcap::Result;

pub(super) use self::{
    calibrate::{Rate, rates},
    made::LEAST,
};
use crate::{flags::Common, ui::Report};

/// Measures this machine: codecs (where nothing else is asked for), suites, whole capsules
///
/// Least times of several rounds count. GB/s are of plain bytes, beside memcpy in the same process.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[group(skip)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    codecs: codecs::Args,
}

#[derive(Debug, Subcommand)]
enum What {
    Codecs(codecs::Args),
    Suites(suites::Args),
    Capsule(capsule::Args),
    State(made::Args),
    Stream(stream::Args),
}

/// # Errors
/// As what is measured.
pub(crate) fn run(args: &Args, common: &Common) -> Result<Report> {
    match &args.what {
        None => codecs::run(&args.codecs, common),
        Some(What::Codecs(args)) => codecs::run(args, common),
        Some(What::Suites(args)) => suites::run(args),
        Some(What::Capsule(args)) => capsule::run(args),
        Some(What::State(args)) => made::run(args),
        Some(What::Stream(args)) => stream::run(args),
    }
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
