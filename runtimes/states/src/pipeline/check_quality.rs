//! Signed quality receipts held against the original state (codecs-v1 §10).

use std::sync::{Mutex, PoisonError};

use kvcap::{Code, Error, Members, Part, ReadAt, Result, Workers};
use kvcap_codecs::{FrameQuality, Measurement, Quality, Scratch};

use crate::{
    adapters::parse,
    pipeline::{
        bank_io::codec_error,
        frames::{Wanted, each_frame, lock},
        open::{banks, kind},
        receipts::receipts,
        whole::{codec, pieces, whole_banks},
    },
    state::Hints,
};

/// Measures every lossy bank of a capsule again, against the state file that it was sealed from, and
/// gives how many there were.
///
/// # Errors
/// KVC-906 naming a bank whose signed receipt is not what is measured; 923 where `original` has other
/// banks; otherwise as [`crate::open_state`] and [`crate::parse`].
pub fn check_quality<M: Members>(opened: &M, original: &dyn ReadAt) -> Result<usize> {
    let whole = whole_banks(opened)?;
    let described = banks(&whole);
    let kind = kind(&opened.tip().manifest().context)?;
    let state = parse(kind, original, Hints::Banks(&described))?;
    if !state.banks.iter().map(|placed| &placed.bank).eq(&described) {
        return Err(Error::new(
            Code::StateContradiction,
            "the original does not hold the banks of the capsule",
        ));
    }
    let mut checked = 0;
    for piece in pieces(&whole, &state)? {
        let part = piece.part;
        let Some(signed) = receipt_of(&part)? else {
            continue;
        };
        let name = codec(&part)?.name();
        let measurement = Mutex::new(Measurement::new());
        // one worker: the sums are of frames in their order
        each_frame(
            &[Wanted::all(part)],
            Workers::ONE,
            <(Vec<u8>, Vec<u8>, Scratch)>::default,
            |(plain, decoded, scratch), frame| {
                piece.placed.read_frame(original, frame.index, plain)?;
                let decoded = frame
                    .codec
                    .plain(frame.index, frame.encoded, decoded, scratch)?;
                let shape = frame.codec.frame(frame.index)?;
                let quality = FrameQuality::measure(&shape, plain, decoded, scratch);
                lock(&measurement).add(&quality.map_err(|error| codec_error(&error))?);
                Ok(())
            },
        )?;
        let measurement = measurement
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let found = measurement.finish();
        if found.to_bytes() != signed.to_bytes() {
            return Err(Error::new(
                Code::CodecReceipt,
                "the measured quality is not the signed one",
            )
            .at(name)
            .sides(shown(&signed), shown(&found)));
        }
        checked += 1;
    }
    Ok(checked)
}

/// What the capsule of a part says of it.
fn receipt_of<S: ReadAt>(part: &Part<'_, S>) -> Result<Option<Quality>> {
    let banks = part.capsule.manifest().context.banks();
    let all = receipts(part.capsule)?;
    let mut found = banks
        .zip(all)
        .filter(|((stream, _), _)| *stream == part.stream);
    Ok(found.next().and_then(|(_, receipt)| receipt.quality))
}

fn shown(quality: &Quality) -> String {
    format!(
        "relative RMSE {:e}, largest error {:e}, cosine {}, centred key error {:e}",
        quality.relative_rmse, quality.max_abs_error, quality.cosine, quality.centred_key_error
    )
}
