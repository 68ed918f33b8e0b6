//! `kvcap-bench start`: how long a program takes from its start to its end where it has little to do.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use kvcap::{Code, Error, Result};
use serde_json::json;

use super::{
    encodings::quartiles,
    report::{Report, bytes},
    timed,
};

/// Measures how long a program takes to start, beside one that does nothing
///
/// Each round starts all in turn, and waits for their end: `true`, `kvcap --version`, and `kvcap verify` of a small capsule.
/// Times are medians of the rounds, with the quartiles.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The kvcap that is measured
    #[arg(long, value_name = "PATH")]
    program: PathBuf,
    /// Length of the state in the capsule
    #[arg(long, value_name = "N", default_value_t = 1 << 16, value_parser = clap::value_parser!(u64).range(kvcap_testkit::LEAST..=1 << 30))]
    bytes: u64,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
}

/// What is run in the folder where a capsule is made.
const MADE: [&str; 3] = [
    "keygen sign -o sign.key",
    "keygen wrap -o wrap.key",
    "seal made -o made.kvcap --model made.kvid --sign-key sign.key --wrap-key wrap.key --ttl 1h --danger-no-prefix",
];
const VERIFIED: &str = "verify made.kvcap --trust sign.key.pub --model made.kvid";

/// # Errors
/// KVC-940 where a program cannot be started, or fails.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let folder = tempfile::tempdir().map_err(|error| Error::io(&error, "a temporary folder"))?;
    let folder = folder.path();
    let program = std::fs::canonicalize(&args.program)
        .map_err(|error| Error::io(&error, args.program.display()))?;
    let state = super::state::Args {
        bytes: args.bytes,
        output: folder.join("made"),
        model: folder.join("made.kvid"),
    };
    super::state::run(&state)?;
    for line in MADE {
        start(&program, line, folder)?;
    }
    let all = [
        ("true", Path::new("true"), ""),
        ("kvcap --version", &program, "--version"),
        ("kvcap verify", &program, VERIFIED),
    ];
    let mut seconds = all.map(|_| Vec::new());
    // the first round brings the files into memory, and does not count
    for round in 0..=args.rounds {
        for ((_, program, line), seconds) in all.iter().zip(&mut seconds) {
            let (_, took) = timed(|| start(program, line, folder))?;
            if round > 0 {
                seconds.push(took.as_secs_f64());
            }
        }
    }
    let measured = all.iter().zip(seconds);
    let measured = measured.map(|((name, ..), seconds)| (*name, quartiles(seconds.into_iter())));
    let measured: Vec<(&str, [f64; 3])> = measured.collect();

    let mut report = Report::new();
    report.row("state", bytes(args.bytes));
    report.row("rounds", args.rounds);
    report.line("");
    let head = [
        ("", '<'),
        ("median", '>'),
        ("quartiles", '<'),
        ("beyond true", '>'),
    ];
    let nothing = measured
        .first()
        .map_or(f64::NAN, |(_, [median, ..])| *median);
    let cells = measured.iter().map(|(name, [median, low, high])| {
        vec![
            (*name).to_owned(),
            format!("{:.2} ms", median * 1e3),
            format!("{:.2} to {:.2}", low * 1e3, high * 1e3),
            format!("{:.2} ms", (median - nothing) * 1e3),
        ]
    });
    report.table(&head, &cells.collect::<Vec<_>>());
    report.fact("state_bytes", args.bytes);
    report.fact("rounds", args.rounds);
    let facts = measured
        .iter()
        .map(|(name, seconds)| json!({ "what": name, "seconds": seconds }));
    report.fact("starts", facts.collect::<Vec<_>>());
    Ok(report)
}

/// Starts a program with words, and waits for its end.
fn start(program: &Path, line: &str, folder: &Path) -> Result<()> {
    let mut command = Command::new(program);
    let command = command
        .args(line.split_whitespace())
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // no profile of the user's
        .env("XDG_CONFIG_HOME", folder);
    let output = command.output();
    let output = output.map_err(|error| Error::io(&error, program.display()))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let told = String::from_utf8_lossy(&output.stderr);
            let place = format!("{} {line}: {told}", program.display());
            Err(Error::new(Code::LocalIo, "the program fails").at(place))
        }
    }
}
