//! `kvcap selftest`: whether MLX gives the CPU's bits here, and the choice of who does the codecs.

use kvcap::{Code, Error, Result};
use kvcap_codecs_mlx::{self as mlx, choose, selftest};
use serde_json::json;

use crate::ui::{Report, usage};

/// Compares the codecs of MLX, on Metal where there is one, with the CPU's bit for bit
///
/// With KVCAP_BACKEND=mlx in the environment every verb has the codecs that pass done by MLX, and says
/// so; without it, or where one differs, the CPU does them. The files are the same either way.
///
/// Exit status 1 where a codec differs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// # Errors
/// KVC-907 naming what differs.
pub(crate) fn run(_args: &Args) -> Result<Report> {
    report(&selftest())
}

fn report(found: &mlx::Report) -> Result<Report> {
    let differing = found.cases.iter().filter_map(|case| {
        let how = case.differs.as_ref()?;
        Some(format!("{} {}: {how}", case.codec, case.dtype.name()))
    });
    let differing: Vec<String> = differing.collect();
    if !differing.is_empty() {
        return Err(Error::new(
            Code::CodecBackend,
            "the backend does not give the cpu's bits",
        )
        .at(format_args!("mlx on the {}", found.device.unwrap_or("cpu")))
        .sides("all codecs equal", differing.join("; ")));
    }
    let mut report = Report::new();
    for line in found.to_string().lines() {
        report.line(line);
    }
    let cases = found.cases.iter().map(|case| {
        json!({
            "codec": case.codec.name(),
            "dtype": case.dtype.name(),
            "compared": case.passed,
            "differs": case.differs,
        })
    });
    report.fact("device", found.device);
    report.fact("available", found.passed());
    report.fact("cases", cases.collect::<Vec<_>>());
    Ok(report)
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

#[cfg(test)]
mod tests {
    use kvcap::Outcome;
    use kvcap_codecs::{Codec, Dtype};

    use super::*;

    #[test]
    fn a_backend_with_other_bits_is_refused() {
        let case = |differs: Option<&str>| mlx::Case {
            codec: Codec::KeyChannel,
            dtype: Dtype::F16,
            passed: 3,
            differs: differs.map(str::to_owned),
        };
        let found = |cases| mlx::Report {
            device: Some("gpu"),
            cases,
        };
        let equal = report(&found(vec![case(None), case(None)])).unwrap();
        assert_eq!(equal.to_json()["available"], true);
        let error = report(&found(vec![case(None), case(Some("ties: byte 7"))])).unwrap_err();
        assert_eq!(error.code(), Code::CodecBackend);
        assert_eq!(error.code().outcome(), Outcome::Refused);
        assert_eq!(error.found(), Some("q4c f16: ties: byte 7"));
        // nothing to compare is no difference
        assert_eq!(
            report(&mlx::Report::ABSENT).unwrap().to_json()["available"],
            false
        );
    }
}
