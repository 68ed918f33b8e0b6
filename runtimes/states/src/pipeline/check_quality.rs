//! Signed quality receipts held against the original state (codecs-v1 §10).

use kvcap::{Code, Error, Members, ReadAt, Result};
use kvcap_codecs::{FrameQuality, Measurement, Quality, Scratch};

use crate::{
    adapters::parse,
    pipeline::{
        bank_io::{Buffers, codec_error},
        open::{banks, kind},
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
    let (mut buffers, mut scratch) = (Buffers::default(), Scratch::default());
    let mut plain = Vec::new();
    let mut checked = 0;
    for piece in pieces(&whole, &state)? {
        let measured = piece
            .part
            .capsule
            .manifest()
            .measured
            .get(piece.part.stream);
        let Some(receipt) = measured.and_then(|measured| measured.receipt) else {
            continue;
        };
        let codec = codec(&piece.part)?;
        let mut reader = piece.part.capsule.stream(piece.part.stream)?;
        let mut measurement = Measurement::new();
        codec.decode(
            &mut buffers,
            &mut reader,
            0..codec.frames(),
            |at, decoded| {
                piece.placed.read_frame(original, at, &mut plain)?;
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
