//! `kvcap-bench stream`: a state larger than memory and disk.

use std::{
    io,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use kvcap::{
    Error, Expected, Limits, Policy, ReadAt, Result, SigningKey, SourceFile, Suite, Trust,
    TrustedKey, Untrusted, Workers, WrappingKey, WriteAt,
};
use kvcap_states::{Hints, RuntimeKind, SealRequest, open_state, parse, seal_state};

use super::{
    capsule, number, passes,
    report::{Report, bytes},
    speed,
    stages::Encode,
    timed,
};

/// Seals, verifies and opens a state that is stored nowhere, however large
///
/// The state is made while it is read, and compared, where the encoding is exact, while it is opened.
/// Only the capsule needs disk, and with --no-capsule nothing does: it is sealed into nowhere.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Length of the state
    #[arg(long, value_name = "N", default_value_t = 4 << 30, value_parser = clap::value_parser!(u64).range(kvcap_testkit::LEAST..=1 << 40))]
    bytes: u64,
    /// Encoding: exact, compress, q8, k8v4, q4 or q4c
    #[arg(long, value_name = "NAME", default_value = "exact", value_parser = capsule::encode)]
    encoding: Encode,
    /// The suite
    #[arg(long, value_name = "SUITE", default_value = "aes-256-gcm", value_parser = super::suite)]
    suite: Suite,
    /// Where the capsule lies meanwhile [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR", conflicts_with = "no_capsule")]
    folder: Option<PathBuf>,
    /// Seal into nowhere, and no more
    #[arg(long)]
    no_capsule: bool,
    /// Threads that share the work [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// Rows before they repeat: not a multiple of those of a frame, so that frames differ.
const ROWS: u64 = 8191;

/// # Errors
/// KVC-940 for the disk, or where what is opened is not what was sealed.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let workers = args
        .threads
        .map_or_else(Workers::all, |threads| Workers::new(threads.into()));
    let made = Made::new(args.bytes)?;
    let profile = kvcap_testkit::profile();
    let state = parse(RuntimeKind::MlxLm, &made, Hints::Model(&profile.geometry))?;
    let (signer, wrap) = (SigningKey::generate()?, WrappingKey::generate()?);
    let folder = args.folder.clone().unwrap_or_else(std::env::temp_dir);
    let file = match args.no_capsule {
        true => None,
        false => {
            let file = tempfile::tempfile_in(&folder);
            Some(file.map_err(|error| Error::io(&error, folder.display()))?)
        }
    };
    let nowhere = Counted::default();
    let out: &dyn WriteAt = match &file {
        Some(file) => file,
        None => &nowhere,
    };

    let mut report = Report::new();
    report.row("state", bytes(args.bytes));
    report.row("threads", workers.count());
    let mut pass = |name: &'static str, seconds: f64| {
        let rate = speed(number(usize::try_from(args.bytes).unwrap_or(0)), seconds);
        report.row(name, format_args!("{seconds:.2} s, {rate:.2} GB/s"));
        report.fact(&format!("{name}_seconds"), seconds);
    };
    let ((_, sealed), time) = timed(|| {
        let (capture, terms) = (
            passes::capture(args.suite),
            kvcap_testkit::terms(passes::NOW),
        );
        let encoding = args.encoding.encoding();
        seal_state(
            out,
            SealRequest::new(&state, &made, &profile, capture, terms, &signer)
                .to(&[&wrap])
                .encoding(encoding)
                .workers(workers),
            &mut |_| {},
        )
    })?;
    pass("seal", time.as_secs_f64());
    if let Some(file) = file {
        let file = SourceFile::new(file).map_err(|error| Error::io(&error, "capsule"))?;
        let trust = Trust::from(TrustedKey::new(signer.public(), "tests"));
        let expected = Expected::danger_any_model();
        let policy = Policy::new(&trust, passes::NOW, "tests", expected);
        let (verified, time) = timed(|| {
            let verified = Untrusted::read_at(&file, &Limits::default())?.verify(&policy)?;
            verified.check_body_at(&file, workers, &mut |_| {})?;
            Ok(verified)
        })?;
        pass("verify", time.as_secs_f64());
        let opened = verified.open(file, &wrap)?.release()?;
        let out = Compared {
            made: args.encoding.is_exact().then_some(&made),
            written: Counted::default(),
        };
        let (_, time) = timed(|| open_state(&opened, &out, workers, &mut |_| {}))?;
        pass("open", time.as_secs_f64());
        let written = out.written.0.into_inner();
        let same = match args.encoding.is_exact() {
            true => "each as it was sealed",
            false => "not compared: the encoding is lossy",
        };
        report.row("written", format_args!("{}, {same}", bytes(written)));
        report.fact("written", written);
    }
    report.row("capsule", bytes(sealed.sealed.file_len));
    report.fact("bytes", args.bytes);
    report.fact("capsule_bytes", sealed.sealed.file_len);
    if let Some(peak) = peak() {
        report.row("memory", format_args!("{} resident at most", bytes(peak)));
        report.fact("peak_bytes", peak);
    }
    Ok(report)
}

/// A state of rows that are made once and repeat.
struct Made {
    start: Vec<u8>,
    rows: Vec<u8>,
    len: u64,
}

impl Made {
    fn new(len: u64) -> Result<Self> {
        Ok(Self {
            start: kvcap_testkit::start(len)?.1,
            rows: kvcap_testkit::keys(ROWS),
            len,
        })
    }

    /// As many bytes from `offset` on as lie together, at most `len`.
    fn piece(&self, offset: u64, len: usize) -> &[u8] {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let from = match start.checked_sub(self.start.len()) {
            None => self.start.get(start..),
            Some(at) => self.rows.get(at % self.rows.len().max(1)..),
        };
        let from = from.unwrap_or_default();
        from.get(..len).unwrap_or(from)
    }
}

impl ReadAt for Made {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            let piece = self.piece(offset, buf.len());
            let (now, later) = buf.split_at_mut(piece.len());
            if offset >= self.len || now.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            now.copy_from_slice(piece);
            offset += u64::try_from(now.len()).unwrap_or(u64::MAX);
            buf = later;
        }
        Ok(())
    }
}

/// An output that keeps nothing but the number of bytes.
#[derive(Default)]
struct Counted(AtomicU64);

impl WriteAt for Counted {
    fn write_all_at(&self, _: u64, buf: &[u8]) -> io::Result<()> {
        let len = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        self.0.fetch_add(len, Ordering::Relaxed);
        Ok(())
    }
}

/// An output that keeps nothing, and refuses what is not in `made`.
struct Compared<'a> {
    made: Option<&'a Made>,
    written: Counted,
}

impl WriteAt for Compared<'_> {
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let mut rest = buf;
        let mut at = offset;
        while let Some(made) = self.made
            && !rest.is_empty()
        {
            let piece = made.piece(at, rest.len());
            let (now, later) = rest.split_at(piece.len());
            if now != piece || now.is_empty() {
                return Err(io::Error::other("what is opened is not what was sealed"));
            }
            at += u64::try_from(now.len()).unwrap_or(u64::MAX);
            rest = later;
        }
        self.written.write_all_at(offset, buf)
    }
}

/// The most memory that this process has held, where the system tells.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
