//! `kvcap-bench server`: what a relay costs, beside a plain sink of the same framework that keeps the same bytes.

pub(crate) mod capsules;
pub(crate) mod client;
mod process;
mod sink;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use kvcap::{Code, Error, Result, SigningKey};
use serde_json::json;

use self::{
    capsules::Maker,
    client::{Connection, upload},
    process::Process,
};
use super::report::{Report, bytes};

pub(crate) use sink::{Args as SinkArgs, run as run_sink};

/// Measures uploads, refusals and memory of a relay in a process of its own
///
/// Uploads are beside those to a plain sink of the same framework, in turn; medians of the rounds count.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The kvcap that is measured, with the server
    #[arg(long, value_name = "PATH")]
    program: PathBuf,
    /// Length of a capsule that is uploaded
    #[arg(long, value_name = "N", default_value_t = 200_000_000, value_parser = clap::value_parser!(u64).range(1..=1 << 34))]
    bytes: u64,
    /// Rounds of relay and sink
    #[arg(long, value_name = "N", default_value_t = 9)]
    rounds: usize,
    /// Refusals of a header
    #[arg(long, value_name = "N", default_value_t = 1000)]
    refusals: usize,
    /// Connections beside them, each with an upload that goes on slowly
    #[arg(long, value_name = "N", default_value_t = 200)]
    connections: usize,
    /// Uploads at once while memory is measured
    #[arg(long, value_name = "N", default_value_t = 64)]
    at_once: usize,
    /// Length of each of these; twice as much room is needed
    #[arg(long, value_name = "N", default_value_t = 200_000_000)]
    at_once_bytes: u64,
    /// Where capsules are made and kept [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Bytes and pause of an upload that goes on slowly.
const TRICKLE: (usize, Duration) = (512, Duration::from_millis(50));

/// Connections that one thread feeds.
const OF_A_THREAD: usize = 50;

/// # Errors
/// KVC-940 for disk, network and processes; KVC-947 where a relay answers something else than it should.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let above = args.folder.clone().unwrap_or_else(std::env::temp_dir);
    let home = tempfile::tempdir_in(&above).map_err(failed(&above))?;
    let home = home.path();
    let signer = SigningKey::generate()?;
    let maker = Maker::new(home, &signer);
    let mut report = Report::new();
    let relay = Process::relay(&args.program, home, &signer)?;
    uploads(args, &maker, &relay, &Process::sink(home)?, &mut report)?;
    refusals(args, &maker, &relay, &mut report)?;
    drop(relay);
    memory(
        args,
        &maker,
        &Process::relay(&args.program, home, &signer)?,
        &mut report,
    )?;
    Ok(report)
}

/// An upload to each in turn.
fn uploads(
    args: &Args,
    maker: &Maker<'_>,
    relay: &Process,
    sink: &Process,
    report: &mut Report,
) -> Result<()> {
    let (mut ours, mut plain, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=args.rounds {
        let (file, path) = maker.file(args.bytes)?;
        let one = |process: &Process| -> Result<f64> {
            let took = upload(process.address, &process.token, &file)?;
            let mut connection = Connection::open(process.address)?;
            connection.expect("DELETE", &path, &process.token, 204)?;
            Ok(took.as_secs_f64())
        };
        // who is second finds the disk as the first has left it
        let (first, second) = match round % 2 {
            0 => (one(relay)?, one(sink)?),
            _ => {
                let second = one(sink)?;
                (one(relay)?, second)
            }
        };
        std::fs::remove_file(&file).map_err(failed(&file))?;
        // the first is for both to warm up
        if round > 0 {
            ours.push(first);
            plain.push(second);
            ratios.push(second / first);
        }
    }
    let (ours, plain, ratio) = (
        quantile(&mut ours, 0.5),
        quantile(&mut plain, 0.5),
        quantile(&mut ratios, 0.5),
    );
    #[expect(clippy::cast_precision_loss, reason = "a length is far below 2^53")]
    let speed = |seconds: f64| args.bytes as f64 / seconds / 1e6;
    report.row("capsule", bytes(args.bytes));
    report.row(
        "to the relay",
        format!("{ours:.3} s, {:.0} MB/s, verified and durable", speed(ours)),
    );
    report.row(
        "to the plain sink",
        format!("{plain:.3} s, {:.0} MB/s, durable", speed(plain)),
    );
    let (least, most) = (quantile(&mut ratios, 0.0), quantile(&mut ratios, 1.0));
    report.row(
        "speed of the relay's",
        format!(
            "{ratio:.2} of the sink's; median of {}, {least:.2} to {most:.2}",
            args.rounds
        ),
    );
    report.fact(
        "upload",
        json!({ "bytes": args.bytes, "seconds": ours, "plain_seconds": plain, "ratio": ratio }),
    );
    Ok(())
}

/// Headers that are refused, beside uploads that go on.
fn refusals(args: &Args, maker: &Maker<'_>, relay: &Process, report: &mut Report) -> Result<()> {
    let small: Vec<Vec<u8>> = (0..args.connections)
        .map(|_| maker.bytes(4 << 20))
        .collect::<Result<_>>()?;
    let expired = maker.expired()?;
    let ended = AtomicBool::new(false);
    let begun = Barrier::new(small.chunks(OF_A_THREAD).len() + 1);
    let mut times = thread::scope(|scope| {
        for files in small.chunks(OF_A_THREAD) {
            scope.spawn(|| {
                let opened: Result<Vec<_>> = files.iter().map(|file| begin(relay, file)).collect();
                begun.wait();
                trickle(opened.unwrap_or_default(), files, &ended);
            });
        }
        begun.wait();
        let times: Result<Vec<f64>> = (0..args.refusals)
            .map(|_| refuse(relay, &expired))
            .collect();
        ended.store(true, Ordering::SeqCst);
        times
    })?;
    let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| quantile(&mut times, share) * 1e3);
    let what = format!(
        "{p50:.2} ms, 99 % {p99:.2} ms, most {most:.2} ms; {} beside {} uploads",
        args.refusals, args.connections
    );
    report.row("a header refused", what);
    report.fact(
        "refusal_ms",
        json!({ "p50": p50, "p99": p99, "most": most, "connections": args.connections }),
    );
    Ok(())
}

fn begin(relay: &Process, file: &[u8]) -> Result<(Connection, usize)> {
    let mut connection = Connection::open(relay.address)?;
    connection.head("POST", "/v1/capsules", &relay.token, file.len())?;
    let first = capsules::header(file).len();
    connection.send(file.get(..first).unwrap_or_default())?;
    Ok((connection, first))
}

fn trickle(mut opened: Vec<(Connection, usize)>, files: &[Vec<u8>], ended: &AtomicBool) {
    while !ended.load(Ordering::SeqCst) {
        for ((connection, at), file) in opened.iter_mut().zip(files) {
            let piece = file.get(*at..*at + TRICKLE.0).unwrap_or_default();
            if connection.send(piece).is_ok() {
                *at += piece.len();
            }
        }
        thread::sleep(TRICKLE.1);
    }
}

/// From before a header is sent until its refusal is there; the connection stands already.
fn refuse(relay: &Process, expired: &[u8]) -> Result<f64> {
    let mut connection = Connection::open(relay.address)?;
    connection.head("POST", "/v1/capsules", &relay.token, expired.len())?;
    let since = Instant::now();
    connection.send(capsules::header(expired))?;
    let status = connection.status()?;
    let took = since.elapsed().as_secs_f64();
    match status {
        403 => Ok(took),
        other => Err(unexpected(other)),
    }
}

/// The most memory of a relay that many upload to at once.
fn memory(args: &Args, maker: &Maker<'_>, relay: &Process, report: &mut Report) -> Result<()> {
    let files: Vec<PathBuf> = (0..args.at_once)
        .map(|_| Ok(maker.file(args.at_once_bytes)?.0))
        .collect::<Result<_>>()?;
    let before = relay.memory()?.0;
    let uploaded: Result<Vec<Duration>> = thread::scope(|scope| {
        let threads: Vec<_> = files
            .iter()
            .map(|file| scope.spawn(|| upload(relay.address, &relay.token, file)))
            .collect();
        let broken = || Error::new(Code::LocalIo, "a thread has broken off");
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| broken())?)
            .collect()
    });
    let slowest = uploaded?
        .into_iter()
        .max()
        .unwrap_or_default()
        .as_secs_f64();
    let most = relay.memory()?.1;
    let what = format!(
        "{} MB at most, {} MB before; {} uploads of {} at once, {slowest:.1} s",
        most / 1_000_000,
        before / 1_000_000,
        args.at_once,
        bytes(args.at_once_bytes)
    );
    report.row("memory", what);
    report.fact("memory", json!({ "most": most, "before": before, "uploads": args.at_once, "bytes": args.at_once_bytes, "seconds": slowest }));
    Ok(())
}

/// The value below which a share of all lie.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index within the values"
    )]
    let at = (share * values.len().saturating_sub(1) as f64).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}

fn failed(place: &Path) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::io(&error, place.display())
}

fn broken(address: SocketAddr) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::io(&error, address)
}

fn unexpected(status: u16) -> Error {
    Error::new(Code::LocalBusy, "the answer is another than expected").at(status)
}
