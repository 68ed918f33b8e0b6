//! What lossy encodings lost, for people: of receipts that only who seals or opens has.

use kvcap_codecs::Quality;
use serde_json::json;

use super::Report;

/// The row and the fact of the worst of each number, where any bank is lossy.
pub(crate) fn describe(worst: Option<&Quality>, report: &mut Report) {
    if let Some(worst) = worst {
        report.row(
            "quality",
            format_args!(
                "at worst: relative RMSE {:.5}, largest error {:.5}, cosine {:.6}, centred key error {:.5}",
                worst.relative_rmse, worst.max_abs_error, worst.cosine, worst.centred_key_error,
            ),
        );
    }
    report.fact(
        "worst_receipt",
        worst.map(|worst| {
            json!({
                "relative_rmse": worst.relative_rmse,
                "max_abs_error": worst.max_abs_error,
                "cosine": worst.cosine,
                "centred_key_error": worst.centred_key_error,
            })
        }),
    );
}
