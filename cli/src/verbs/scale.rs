//! `kvcap scale`: how large capsules of a model will be, and how long they take here.

use std::path::PathBuf;

use kvcap::{Result, Suite, Workers};
use kvcap_codecs::Preset;
use kvcap_states::{Elements, Encoding, Predicted, RuntimeKind, Sample, predict};
use serde_json::json;

use super::{
    calibrate::{Calibration, LEAST, Rate},
    open_target::parsed,
};
use kvcap_store::input;

use crate::{
    flags::{Common, ModelArgs, suite},
    ui::{Report, bytes, grouped, table},
};

/// Predicts size, seal and open time of capsules of a model, for each encoding and window
///
/// The size is what sealing such a state would set aside, from the model's geometry; of layers that do not
/// follow from it (recurrent ones) it is that of a state that is given. Compressed capsules are not
/// predicted: how small they become is in their content. Times are those of this machine without its
/// disk, from a short measurement in memory.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model: a model folder, GGUF file or .kvid file
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    #[command(flatten)]
    model_args: ModelArgs,
    /// Tokens of the states: numbers, or thousands of 1,024 as 16K
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "16K,24K,32K,64K", value_parser = tokens)]
    windows: Vec<u64>,
    /// The runtime that saves them: mlx-lm, llama-cpp or hf
    #[arg(long, value_name = "RUNTIME", default_value = "mlx-lm", value_parser = parsed::<RuntimeKind>)]
    runtime: RuntimeKind,
    /// Element type of its cache: f16, bf16, f32, q8_g64, q8_0, …
    #[arg(long, value_name = "TYPE", default_value = "bf16", value_parser = parsed::<Elements>)]
    kv_type: Elements,
    /// A state of the model that the runtime saved, of any length: layers whose size is not in the model's
    /// geometry, recurrent ones, are counted as it holds them
    #[arg(long, value_name = "STATE")]
    state: Option<PathBuf>,
    /// The suite of algorithms
    #[arg(long, value_name = "NAME", default_value = "chacha20-poly1305", value_parser = suite)]
    suite: Suite,
    /// Bytes of the made state that is sealed and opened to measure this machine
    #[arg(long, value_name = "BYTES", default_value_t = 32 << 20, value_parser = clap::value_parser!(u64).range(LEAST..=1 << 34))]
    calibrate: u64,
}

/// One encoding at one window.
struct Point {
    encoding: &'static str,
    size: Predicted,
    /// Seconds.
    seal: f64,
    open: f64,
}

/// # Errors
/// 93x for the model; as [`predict`].
pub(crate) fn run(args: &Args, common: &Common) -> Result<Report> {
    let profile = args.model_args.read(&args.model, common)?;
    let sample = args.state.as_deref().map(|path| {
        let file = input::file(path)?;
        let sample = Sample::read(&profile, args.runtime, &file);
        sample.map_err(|error| input::at(error, path))
    });
    let sample = sample.transpose()?;
    let codec_profile = args.model_args.find_profiles(None)?;
    let mut calibration = Calibration::new(args.calibrate)?;
    let mut rates = Vec::new();
    for (preset, name) in Preset::ALL {
        // without a guard, which would encode lossy banks twice
        let encoding = Encoding {
            preset,
            ..Encoding::EXACT
        };
        let rate = calibration.rate(args.suite, encoding, Workers::all(), 3)?;
        // what is measured is of a made model, without a profile
        let encoding = Encoding {
            profile: codec_profile,
            ..encoding
        };
        rates.push((name, encoding, rate));
    }
    let mut windows = args.windows.clone();
    windows.sort_unstable();
    windows.dedup();
    let mut points = Vec::new();
    for window in windows {
        for (name, encoding, rate) in &rates {
            let size = predict(
                &profile,
                args.runtime,
                args.kv_type,
                *encoding,
                args.suite,
                window,
                sample.as_ref(),
            )?;
            points.push(Point {
                encoding: name,
                size,
                seal: seconds(size.plain_len, rate.seal),
                open: seconds(size.plain_len, rate.open),
            });
        }
    }
    Ok(report(args, &points, &rates))
}

fn report(args: &Args, points: &[Point], rates: &[(&str, Encoding, Rate)]) -> Report {
    let mut report = Report::new();
    let rows = points.iter().map(|point| {
        let Predicted {
            tokens,
            plain_len,
            file_len,
            ..
        } = point.size;
        vec![
            grouped(tokens),
            point.encoding.to_owned(),
            grouped(file_len),
            format!("{:.3}", ratio(file_len, plain_len)),
            format!("{:.1} ms", point.seal * 1e3),
            format!("{:.1} ms", point.open * 1e3),
        ]
    });
    let head = [
        ("tokens", '>'),
        ("encoding", '<'),
        ("capsule, bytes", '>'),
        ("of plain", '>'),
        ("seal", '>'),
        ("open", '>'),
    ];
    for line in table::lines(&head, &rows.collect::<Vec<_>>()) {
        report.line(line);
    }
    report.line("");
    report.line(format_args!(
        "times without the disk, from a state of {} sealed and opened in memory",
        bytes(args.calibrate)
    ));
    let uncounted = points.iter().map(|p| p.size.uncounted).max().unwrap_or(0);
    if uncounted > 0 {
        report.line(format_args!(
            "{uncounted} layers keep a state whose size is not in the model's geometry: not counted (--state)"
        ));
    }
    let rows = points.iter().map(|point| {
        json!({
            "tokens": point.size.tokens,
            "encoding": point.encoding,
            "plain_bytes": point.size.plain_len,
            "file_bytes": point.size.file_len,
            "header_bytes": point.size.header_len,
            "seal_seconds": point.seal,
            "open_seconds": point.open,
        })
    });
    report.fact("runtime", args.runtime.runtime());
    report.fact("suite", args.suite.name());
    report.fact("uncounted_layers", uncounted);
    report.fact("calibrated_on_bytes", args.calibrate);
    let rate = |(name, _, rate): &(&str, Encoding, Rate)| {
        json!({
            "encoding": name,
            "seal_bytes_per_second": 1.0 / rate.seal,
            "open_bytes_per_second": 1.0 / rate.open,
        })
    };
    report.fact("rates", rates.iter().map(rate).collect::<Vec<_>>());
    report.fact("predicted", rows.collect::<Vec<_>>());
    report
}

#[expect(clippy::cast_precision_loss, reason = "lengths are far below 2^53")]
fn seconds(len: u64, rate: f64) -> f64 {
    len as f64 * rate
}

#[expect(clippy::cast_precision_loss, reason = "lengths are far below 2^53")]
fn ratio(one: u64, other: u64) -> f64 {
    one as f64 / other.max(1) as f64
}

/// `16K`, `1M` or a number.
fn tokens(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.strip_suffix(['K', 'k']) {
        Some(digits) => (digits, 1024),
        None => match text.strip_suffix(['M', 'm']) {
            Some(digits) => (digits, 1 << 20),
            None => (text, 1),
        },
    };
    let number: Option<u64> = digits.parse().ok();
    let tokens = number.and_then(|number| number.checked_mul(unit));
    tokens
        .filter(|tokens| (1..=1 << 24).contains(tokens))
        .ok_or_else(|| "a window is a number of tokens up to 16M, as 16K or 16384".to_owned())
}
