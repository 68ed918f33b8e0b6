//! `kvcap-bench state`: a made prompt cache of any length, and the model that goes with it.

use std::{fs, path::PathBuf};

use kvcap::{Error, Result};
use kvcap_testkit::LEAST;

use super::report::{Report, bytes};

/// Writes a made prompt cache of mlx-lm of exactly so many bytes, for benches
///
/// The shape of Llama 3.2 1B: 16 layers, 8 heads of 64, bf16. Normal numbers, keys with channels of
/// different scale and offset; the same bytes in every run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Length of the file
    #[arg(long, value_name = "N", default_value_t = 415_047_224, value_parser = clap::value_parser!(u64).range(LEAST..=1 << 40))]
    pub(crate) bytes: u64,
    /// The state to write
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// The model's facts (.kvid) to write
    #[arg(long, value_name = "OUT")]
    pub(crate) model: PathBuf,
}

/// # Errors
/// KVC-940 for the files.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let failed = |error, path: &PathBuf| Error::io(&error, path.display());
    let output = fs::File::create(&args.output).map_err(|error| failed(error, &args.output))?;
    let tokens = kvcap_testkit::state(args.bytes, &output)?;
    fs::write(&args.model, kvcap_testkit::profile().to_kvid())
        .map_err(|error| failed(error, &args.model))?;
    let mut report = Report::new();
    report.row(
        "written",
        format_args!("{}, {}", args.output.display(), bytes(args.bytes)),
    );
    report.row("tokens", tokens);
    report.fact("bytes", args.bytes);
    report.fact("tokens", tokens);
    Ok(report)
}
