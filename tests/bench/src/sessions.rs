//! `kvcap-bench sessions`: what sessions of a device cost, beside plain work on the same disk.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use kvcap::{CapsuleId, Code, Error, Result, WriteAt};
use kvcap_session::{
    Body, Cause, Description, Event, Kind, Names, Record, Session,
    files::{Artefact, DeviceTier, Write},
    replay_plainly,
};
use serde_json::{Value, json};

use super::{
    in_a_row,
    report::{Report, bytes},
    timed,
};

/// Measures lists, appends and checkpoints of sessions, beside plain work on the same disk
///
/// Sessions are made in a temporary folder. A status is beside a walk that looks at as many files; an append and a
/// checkpoint are beside plain writes of the same bytes with as few syncs as can make them durable.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Sessions
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// Length of the capsule of a checkpoint
    #[arg(long, value_name = "N", default_value_t = 46 << 20, value_parser = clap::value_parser!(u64).range(1..=1 << 34))]
    bytes: u64,
    /// Events of the long log
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    events: u32,
    /// Rounds, of which the least counts
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: u64,
    /// A kvcap to time as well, as a process
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Where sessions are made [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Bytes written at a time.
const STEP: usize = 1 << 20;

/// # Errors
/// KVC-940 for the disk; 95x where sessions are not as they were made.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let above = args.folder.clone().unwrap_or_else(std::env::temp_dir);
    let made = tempfile::tempdir_in(&above).map_err(failed(&above))?;
    let home = made.path().join("kvcap");
    let tier = DeviceTier::at(home.join("sessions"));
    let mut report = Report::new();
    report.row("sessions", args.count);
    report.row("capsule", bytes(args.bytes));
    report.line("");
    let mut rows = Vec::new();
    let mut row = |name: &str, cost: Cost| {
        let ratio = cost.ours / cost.plain.max(f64::MIN_POSITIVE);
        rows.push((name.to_owned(), cost, ratio));
    };
    for at in 0..args.count {
        make(&tier, at)?;
    }
    if tier.changed()?.len() as u64 != u64::from(args.count) {
        return Err(wrong());
    }
    let walk = || Ok(timed(|| walk(&home))?.1.as_secs_f64());
    let plain = in_a_row(args.rounds, walk)?;
    let ours = in_a_row(args.rounds, || Ok(timed(|| status(&tier))?.1.as_secs_f64()))?;
    row("status of the last one", Cost { ours, plain });
    if let Some(program) = &args.program {
        let once = || Ok(timed(|| process(program, made.path()))?.1.as_secs_f64());
        let ours = in_a_row(args.rounds, once)?;
        row("`kvcap status`, a process", Cost { ours, plain });
    }
    for (name, events) in [
        ("an event more, of 10", 10),
        ("an event more, of many", args.events),
    ] {
        row(name, append(&tier, made.path(), events, args.rounds)?);
    }
    row("a checkpoint", checkpoint(&tier, made.path(), args)?);

    let head = [("", '<'), ("seconds", '>'), ("plain", '>'), ("ratio", '>')];
    let cells = |(name, cost, ratio): &(String, Cost, f64)| {
        vec![
            name.clone(),
            format!("{:.5}", cost.ours),
            format!("{:.5}", cost.plain),
            format!("{ratio:.2}"),
        ]
    };
    report.table(&head, &rows.iter().map(cells).collect::<Vec<_>>());
    let facts = rows.iter().map(|(name, cost, ratio)| {
        json!({ "what": name, "seconds": cost.ours, "plain_seconds": cost.plain, "ratio": ratio })
    });
    report.fact("sessions", args.count);
    report.fact("capsule_bytes", args.bytes);
    report.fact("log_events", args.events);
    report.fact("costs", facts.collect::<Vec<Value>>());
    Ok(report)
}

/// Seconds of ours, and of plain work.
struct Cost {
    ours: f64,
    plain: f64,
}

fn names(at: u32) -> Names {
    Names::of(&format!("session-{at:06}"))
}

/// Makes a session with two events and a checkpoint, without waiting for the disk.
fn make(tier: &DeviceTier, at: u32) -> Result<()> {
    let names = names(at);
    let origin = Record::origin(&names, &names)?;
    let mut record = origin;
    let mut log = String::new();
    for (kind, text) in [
        (Kind::User, "What is left to do?"),
        (Kind::Assistant, "The tests."),
    ] {
        let event: Event = record
            .log_head()
            .next(1_800_000_000, kind, Body::from(text))?;
        log += &event.to_json()?;
        log.push('\n');
        record = replay_plainly(&record, [event])?;
    }
    (record.version, record.at, record.cause) = (1, 1_800_000_000, Cause::Asked);
    let folder = tier.folder(&names)?;
    fs::create_dir_all(&folder).map_err(failed(&folder))?;
    let description = Description::new(&names, 1_800_000_000).to_json()?;
    for (artefact, text) in [
        (Artefact::Session, description),
        (Artefact::Event(1), log),
        (Artefact::Checkpoint(1), record.to_json()?),
    ] {
        private(&folder.join(artefact.file_name()), text.as_bytes())?;
    }
    Ok(())
}

fn status(tier: &DeviceTier) -> Result<()> {
    let last = tier.last(None, None)?;
    let status = Session::load(tier, &last)?.status()?;
    match (status.events, status.checkpoints) {
        (2, 1) => Ok(()),
        _ => Err(wrong()),
    }
}

fn wrong() -> Error {
    Error::new(Code::SessionMissing, "a session is not as it was made")
}

/// Looks at the folders and logs of all sessions.
fn walk(home: &Path) -> Result<u64> {
    let owned = home.join("sessions/-/-");
    let mut seen = 0;
    for entry in fs::read_dir(&owned).map_err(failed(&owned))? {
        let folder = entry.map_err(failed(&owned))?.path();
        for path in [folder.join("log.jsonl"), folder] {
            seen += path.symlink_metadata().map_err(failed(&path))?.len();
        }
    }
    Ok(seen)
}

/// `kvcap status` in a process of its own.
fn process(program: &Path, state: &Path) -> Result<()> {
    let mut command = Command::new(program);
    let command = command
        .args(["status", "--json", "--profile", "none"])
        .env("XDG_STATE_HOME", state);
    let output = command.output().map_err(failed(program))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Error::new(Code::LocalIo, "the program refuses").at(program.display())),
    }
}

/// An event more in a log of so many, beside a plain line that is synced.
fn append(tier: &DeviceTier, folder: &Path, events: u32, rounds: u64) -> Result<Cost> {
    let names = Names::of(&format!("log-{events}"));
    let mut session = Session::load_or_create(tier, &names, 1_800_000_000)?;
    let mut record = Record::origin(&names, &names)?;
    let mut log = String::new();
    for _ in 0..events {
        let event =
            record
                .log_head()
                .next(1_800_000_000, Kind::User, Body::from("What is left to do?"))?;
        log += &event.to_json()?;
        log.push('\n');
        record.replay_cursor = event.seq;
        record.head = event.digest()?;
    }
    private(&tier.folder(&names)?.join("log.jsonl"), log.as_bytes())?;
    let path = folder.join(format!("plain-{events}"));
    let mut plain = File::create(&path).map_err(failed(&path))?;
    plain
        .write_all(log.as_bytes())
        .and_then(|()| plain.sync_all())
        .map_err(failed(&path))?;
    let line = log.lines().next().unwrap_or_default();
    let once = || {
        let body = Body::from("What is left to do?");
        let (_, ours) = timed(|| session.append(1_800_000_000, Kind::User, body))?;
        let (_, plain) = timed(|| {
            let mut file = File::options()
                .append(true)
                .open(&path)
                .map_err(failed(&path))?;
            writeln!(file, "{line}")
                .and_then(|()| file.sync_all())
                .map_err(failed(&path))
        })?;
        Ok(vec![
            ("ours", ours.as_secs_f64()),
            ("plain", plain.as_secs_f64()),
        ])
    };
    Ok(cost(&in_a_row(rounds, once)?))
}

/// A checkpoint with a capsule, beside its bytes in a plain file that is synced, and its folder.
fn checkpoint(tier: &DeviceTier, folder: &Path, args: &Args) -> Result<Cost> {
    let names = Names::of("checkpoints");
    Session::load_or_create(tier, &names, 1_800_000_000)?;
    let record = tier.folder(&self::names(0))?.join("1.json");
    let record = fs::read(&record).map_err(failed(&record))?;
    let piece = vec![0x5A; STEP];
    let path = folder.join("plain");
    let mut version = 0;
    let once = || {
        version += 1;
        let id = CapsuleId([version; 16]);
        let (_, ours) = timed(|| {
            let mut writer = tier.writer(&names)?;
            let output = writer.begin(version.into())?;
            pieces(&piece, args.bytes, |at, piece| {
                output.write_all_at(at, piece)
            })
            .map_err(failed(&path))?;
            writer.finish(output, version.into(), id)?;
            writer.put(Artefact::Checkpoint(version.into()), &record)
        })?;
        tier.writer(&names)?
            .remove(Artefact::Capsule(version.into(), id))?;
        let (_, plain) = timed(|| {
            let mut file = File::create(&path).map_err(failed(&path))?;
            pieces(&piece, args.bytes, |_, piece| file.write_all(piece))
                .and_then(|()| file.sync_all())
                .and_then(|()| File::open(folder)?.sync_all())
                .map_err(failed(&path))
        })?;
        fs::remove_file(&path).map_err(failed(&path))?;
        Ok(vec![
            ("ours", ours.as_secs_f64()),
            ("plain", plain.as_secs_f64()),
        ])
    };
    Ok(cost(&in_a_row(args.rounds.min(255), once)?))
}

/// Writes so many bytes in pieces.
fn pieces(
    piece: &[u8],
    bytes: u64,
    mut write: impl FnMut(u64, &[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut at = 0;
    while at < bytes {
        let len = usize::try_from(bytes - at).map_or(piece.len(), |left| left.min(piece.len()));
        write(at, piece.get(..len).unwrap_or_default())?;
        at += len as u64;
    }
    Ok(())
}

fn cost(least: &[(&str, f64)]) -> Cost {
    let of = |name| {
        least
            .iter()
            .find(|(found, _)| *found == name)
            .map_or(0.0, |(_, time)| *time)
    };
    Cost {
        ours: of("ours"),
        plain: of("plain"),
    }
}

/// Writes a file of its owner's alone.
fn private(path: &Path, content: &[u8]) -> Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path);
    file.and_then(|mut file| file.write_all(content))
        .map_err(failed(path))
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    |error| Error::io(&error, path.display())
}
