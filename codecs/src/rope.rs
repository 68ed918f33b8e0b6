//! Rotary position embedding as the codecs use it: angles, sine and cosine by prescribed arithmetic
//! (codecs-v1 §7.2), so that every implementation turns a key by the same bits.

use crate::layout::{CodecError, ErrorKind, Pairing};

/// Rotation of a bank's keys: one inverse frequency a pair; the elements after the pairs pass
/// through.
///
/// A factor on rotated vectors (YaRN, LongRoPE) is not part of it: quantization for each channel
/// commutes with a factor, so the codec leaves it in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotation<'a> {
    /// Elements that form a pair.
    pub pairing: Pairing,
    /// Radians a position, one for each pair, after any scaling of frequencies. Empty where keys
    /// are stored un-rotated.
    pub inv_freq: &'a [f64],
}

/// The positions of a bank's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions<'a> {
    /// Row r has position `start + r`.
    From(i64),
    /// Row r has the r-th position.
    Listed(&'a [i64]),
}

/// The angles of a frame's rows by their cosines and sines, as the format prescribes them
/// (codecs-v1 §7.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Angles<'a> {
    /// Elements that form a pair.
    pub pairing: Pairing,
    /// Pairs of a row; 0 where keys are stored un-rotated.
    pub pairs: usize,
    /// For each token of the frame the cosines of its pairs and then their sines.
    pub table: &'a [f32],
}

/// The largest angle, in radians, for which the range reduction is prescribed.
pub(crate) const MAX_ANGLE: f64 = 1_073_741_824.0;

const TWO_OVER_PI: f64 = f64::from_bits(0x3fe4_5f30_6dc9_c883);
/// Adding and subtracting 1.5 · 2^52 rounds to the nearest integer, ties to even.
const ROUNDER: f64 = f64::from_bits(0x4338_0000_0000_0000);
/// π/2 in three parts; the first two have 22 bits, so that their products with the count of
/// quarter turns are exact.
const HALF_PI: [f64; 3] = [
    f64::from_bits(0x3ff9_21fb_0000_0000),
    f64::from_bits(0x3e95_110b_0000_0000),
    f64::from_bits(0x3d31_8469_898c_c517),
];
/// Coefficients of r³, r⁵, … and of r⁴, r⁶, … on ±π/4.
const SINE: [f64; 6] = [
    f64::from_bits(0xbfc5_5555_5555_5549),
    f64::from_bits(0x3f81_1111_1110_f8a6),
    f64::from_bits(0xbf2a_01a0_19c1_61d5),
    f64::from_bits(0x3ec7_1de3_57b1_fe7d),
    f64::from_bits(0xbe5a_e5e6_8a2b_9ceb),
    f64::from_bits(0x3de5_d93a_5acf_d57c),
];
const COSINE: [f64; 6] = [
    f64::from_bits(0x3fa5_5555_5555_554c),
    f64::from_bits(0xbf56_c16c_16c1_5177),
    f64::from_bits(0x3efa_01a0_19cb_1590),
    f64::from_bits(0xbe92_7e4f_809c_52ad),
    f64::from_bits(0x3e21_ee9e_bdb4_b1c4),
    f64::from_bits(0xbda8_fae9_be88_38d4),
];

/// Sine and cosine of `angle`, |angle| ≤ [`MAX_ANGLE`], in this order of operations and no other.
#[inline(always)]
pub(crate) fn sin_cos(angle: f64) -> (f64, f64) {
    let shifted = angle * TWO_OVER_PI + ROUNDER;
    let turns = shifted - ROUNDER;
    let quadrant = shifted.to_bits();
    let r = ((angle - turns * HALF_PI[0]) - turns * HALF_PI[1]) - turns * HALF_PI[2];
    let z = r * r;
    let tail = |c: &[f64; 6]| c[0] + z * (c[1] + z * (c[2] + z * (c[3] + z * (c[4] + z * c[5]))));
    let sine = r + (r * z) * tail(&SINE);
    let cosine = (1.0 - z * 0.5) + (z * z) * tail(&COSINE);
    let odd = quadrant & 1 != 0;
    let (s, c) = if odd { (cosine, sine) } else { (sine, cosine) };
    let flip = |x: f64, sign: u64| f64::from_bits(x.to_bits() ^ ((sign & 2) << 62));
    (flip(s, quadrant), flip(c, quadrant.wrapping_add(1)))
}

impl Rotation<'_> {
    pub(crate) const fn pairs(&self) -> usize {
        self.inv_freq.len()
    }
}

impl Positions<'_> {
    /// The position of row `row`, exactly as a binary64.
    #[allow(
        clippy::cast_precision_loss,
        reason = "magnitudes over 2^53 are refused"
    )]
    fn at(&self, row: u64) -> Option<f64> {
        let position = match self {
            Self::From(start) => start.checked_add(i64::try_from(row).ok()?)?,
            Self::Listed(list) => *list.get(usize::try_from(row).ok()?)?,
        };
        (position.unsigned_abs() <= 1 << 53).then_some(position as f64)
    }
}

/// Checks that every angle of rows `first..first + tokens` is within the prescribed range, and
/// writes their positions.
pub(crate) fn positions(
    rotation: &Rotation<'_>,
    positions: &Positions<'_>,
    dim: usize,
    first: u64,
    tokens: usize,
    out: &mut Vec<f64>,
) -> Result<(), CodecError> {
    if rotation.pairs() > dim / 2 {
        return Err(CodecError::new(
            ErrorKind::Length,
            "more rotary dimensions than the head has",
        ));
    }
    if !rotation.inv_freq.iter().all(|f| f.is_finite()) {
        return Err(CodecError::new(
            ErrorKind::NonFinite,
            "an inverse frequency is not finite",
        ));
    }
    let highest = rotation
        .inv_freq
        .iter()
        .fold(0.0_f64, |m, f| m.max(f.abs()));
    out.clear();
    for (row, _) in (first..).zip(0..tokens) {
        let position = positions.at(row).ok_or(CodecError::new(
            ErrorKind::Length,
            "a row has no position, or one beyond 2^53",
        ))?;
        if position.abs() * highest > MAX_ANGLE {
            return Err(CodecError::new(
                ErrorKind::Bounds,
                "an angle is beyond the range of the prescribed sine",
            ));
        }
        out.push(position);
    }
    Ok(())
}
