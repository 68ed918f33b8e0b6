//! Signed quality receipts held against the original state (codecs-v1 §10).

use kvcap::{Code, Error, Opened, ReadAt, Result};
use kvcap_codecs::{FrameQuality, Measurement, Quality, Scratch};

use crate::{
    Hints, RuntimeKind,
    bank_io::{BankCodec, Buffers, codec_error, listed_rows},
    open::described_banks,
    parse,
};

/// Measures every lossy bank of a capsule again, against the state file that it was sealed from, and
/// gives how many there were.
///
/// # Errors
/// KVC-906 naming a bank whose signed receipt is not what is measured; 923 where `original` has other
/// banks; otherwise as [`crate::open_state`] and [`crate::parse`].
pub fn check_quality<S: ReadAt>(opened: &Opened<S>, original: &dyn ReadAt) -> Result<usize> {
    let manifest = opened.manifest();
    let context = &manifest.context;
    let kind = RuntimeKind::from_runtime(&context.runtime.name).ok_or_else(|| {
        Error::new(
            Code::StateUnsupported,
            "the capsule is of a runtime that is not known",
        )
    })?;
    let described = described_banks(opened, context)?;
    let state = parse(kind, original, Hints::Banks(&described))?;
    if !state.banks.iter().map(|placed| &placed.bank).eq(&described) {
        return Err(Error::new(
            Code::StateContradiction,
            "the original does not hold the banks of the capsule",
        ));
    }
    let (mut buffers, mut scratch) = (Buffers::default(), Scratch::default());
    let mut plain = Vec::new();
    let mut checked = 0;
    for ((stream, entry), placed) in context.banks().zip(&state.banks) {
        let measured = manifest.measured.get(stream);
        let Some(receipt) = measured.and_then(|measured| measured.receipt) else {
            continue;
        };
        let codec = BankCodec::new(entry, &context.rotations, listed_rows(opened, entry)?);
        let mut reader = opened.stream(stream)?;
        let mut measurement = Measurement::new();
        codec.decode(
            &mut buffers,
            &mut reader,
            0..codec.frames(),
            |at, decoded| {
                placed.read_frame(original, at, &mut plain)?;
                let quality =
                    FrameQuality::measure(&codec.frame(at)?, &plain, decoded, &mut scratch);
                measurement.add(&quality.map_err(|error| codec_error(&error))?);
                Ok(())
            },
        )?;
        let found = measurement.finish();
        if found.to_bytes() != receipt {
            let signed = Quality::from_bytes(&receipt).map_err(|error| codec_error(&error))?;
            return Err(Error::new(
                Code::CodecReceipt,
                "the measured quality is not the signed one",
            )
            .at(codec.name())
            .sides(shown(&signed), shown(&found)));
        }
        checked += 1;
    }
    Ok(checked)
}

fn shown(quality: &Quality) -> String {
    format!(
        "relative RMSE {:e}, largest error {:e}, cosine {}, centred key error {:e}",
        quality.relative_rmse, quality.max_abs_error, quality.cosine, quality.centred_key_error
    )
}
