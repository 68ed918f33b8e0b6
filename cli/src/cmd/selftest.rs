//! `kvcap selftest`: whether MLX gives the CPU's bits here, and the choice of who does the codecs.

use kvcap::Result;
use kvcap_codecs_mlx::{choose, selftest};
use serde_json::json;

use crate::report::{Report, usage};

/// Compares the codecs of MLX, on Metal where there is one, with the CPU's bit for bit
///
/// With KVCAP_BACKEND=mlx in the environment every verb has the codecs that pass done by MLX, and says
/// so; without it, or where one differs, the CPU does them. The files are the same either way.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> Report {
    let found = selftest();
    let mut report = Report::new();
    for line in found.to_string().lines() {
        report.line(line);
    }
    let cases = found.cases.iter().map(|case| {
        json!({
            "codec": case.codec.name(),
            "type": case.dtype.name(),
            "passed": case.passed,
            "differs": case.differs,
        })
    });
    report.fact("device", found.device);
    report.fact("passed", found.passed());
    report.fact("cases", cases.collect::<Vec<_>>());
    report
}

/// Lets MLX do the codecs where the environment asks for it, and says what came of that.
///
/// # Errors
/// 944 for a backend that there is not.
pub(crate) fn backend() -> Result<Option<String>> {
    match std::env::var("KVCAP_BACKEND").as_deref() {
        Err(_) | Ok("" | "cpu") => Ok(None),
        Ok("mlx") => {
            let (accelerator, report) = choose();
            if let Some(accelerator) = accelerator {
                kvcap_codecs::accelerate(accelerator);
            }
            Ok(Some(report.to_string()))
        }
        Ok(_) => usage("a backend is cpu or mlx", "KVCAP_BACKEND"),
    }
}
