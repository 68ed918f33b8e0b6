//! The test that MLX passes before it is used.

use std::sync::OnceLock;

use kvcap_codecs::{Accelerator, Codec, Dtype};
use mlx_rs::{Device, DeviceType};

use super::{Mlx, vectors};
use crate::{Case, Report};

/// The codecs of the presets and of their guard. Others are the CPU's.
const CODECS: [Codec; 7] = [
    Codec::Affine { bits: 8, group: 64 },
    Codec::Affine { bits: 6, group: 64 },
    Codec::Affine { bits: 4, group: 64 },
    Codec::KeyChannel,
    transform(0),
    transform(1),
    transform(2),
];

/// `tc` at 3 bits.
const fn transform(transform: u8) -> Codec {
    Codec::Transform {
        transform,
        rate: 192,
    }
}

/// The vectors that `tc` runs: MLX makes its rows of whole numbers, which are alike for all.
const CODED: [&str; 1] = ["normal"];

/// MLX for what passed, and the report; the test runs once a process.
pub(crate) fn tested() -> (Option<&'static dyn Accelerator>, Report) {
    static TESTED: OnceLock<(Mlx, Report)> = OnceLock::new();
    let (mlx, report) = TESTED.get_or_init(|| {
        let report = run();
        (Mlx::with(report.clone()), report)
    });
    let any = report.cases.iter().any(|case| case.differs.is_none());
    (any.then_some(mlx), report.clone())
}

fn run() -> Report {
    let mut cases = Vec::new();
    for dtype in [Dtype::F16, Dtype::Bf16, Dtype::F32] {
        let vectors = vectors::all(dtype);
        for codec in CODECS {
            let mut passed = 0;
            let runs = |name| !matches!(codec, Codec::Transform { .. }) || CODED.contains(&name);
            let differs = vectors
                .iter()
                .filter(|vector| runs(vector.name))
                .find_map(|vector| match vector.compare(codec) {
                    Ok(_) => {
                        passed += 1;
                        None
                    }
                    Err(how) => Some(format!("{}: {how}", vector.name)),
                });
            cases.push(Case {
                codec,
                dtype,
                passed,
                differs,
            });
        }
    }
    Report {
        device: Some(device()),
        cases,
    }
}

fn device() -> &'static str {
    match Device::try_default().and_then(|device| device.get_type()) {
        Ok(DeviceType::Gpu) => "gpu",
        _ => "cpu",
    }
}
