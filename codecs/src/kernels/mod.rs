//! Where the arithmetic is done. The normative results are those of [`reference`]; every
//! path gives the same bits.

pub(crate) mod cpu;
mod reference;

use crate::{
    coefficients::{Lanes, Table},
    layout::{AffineParams, Dtype, Pairing},
};

/// Bytes of one group's or head's three sections.
#[derive(Clone, Copy)]
pub(crate) struct Sections<'a> {
    pub(crate) codes: &'a [u8],
    pub(crate) scales: &'a [u8],
    pub(crate) biases: &'a [u8],
}

/// The same, to be written.
pub(crate) struct SectionsMut<'a> {
    pub(crate) codes: &'a mut [u8],
    pub(crate) scales: &'a mut [u8],
    pub(crate) biases: &'a mut [u8],
}

/// One head of a frame of keys, and how it is rotated.
#[derive(Clone, Copy)]
pub(crate) struct KeyHead<'a> {
    pub(crate) dtype: Dtype,
    pub(crate) dim: usize,
    pub(crate) pairing: Pairing,
    /// For each row the cosines and then the sines of its pairs; empty for no rotation.
    pub(crate) table: &'a [f32],
    pub(crate) pairs: usize,
}

/// The quantized coefficients of one head (codecs-v1 §12.4).
#[derive(Clone, Copy)]
pub(crate) struct Coefficients<'a> {
    /// `[channel][token]`.
    pub(crate) quantized: &'a [i16],
    /// Of each channel, in eighths of a step.
    pub(crate) offsets: &'a [i16],
    /// An eighth of a step.
    pub(crate) unit: f32,
}

/// The components of one head's group, and what makes its rows of them (codecs-v1 §12.4).
#[derive(Clone, Copy)]
pub(crate) struct Synthesis<'a> {
    /// Coefficients of each block of [`BLOCK`] tokens, of each pair of components, of each token: the first
    /// component's in the low half.
    pub(crate) coefficients: &'a [i32],
    /// Pairs of components.
    pub(crate) pairs: usize,
    /// Of each pair of components a row of `padded(dim)` pairs of weights.
    pub(crate) weights: &'a [i32],
    /// Offsets of each pair of components, in eighths of a step.
    pub(crate) offsets: &'a [i32],
    /// Of each element of the head.
    pub(crate) means: &'a [f32],
    /// An eighth of a step.
    pub(crate) unit: f32,
}

/// Tokens whose coefficients lie together.
pub(crate) const BLOCK: usize = 16;

/// Sums over a frame from which its receipt is made (codecs-v1 §10.2).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sums {
    pub(crate) error2: f64,
    pub(crate) original2: f64,
    pub(crate) decoded2: f64,
    pub(crate) product: f64,
    pub(crate) max_error: f64,
}

/// Sum and sum of squares of each channel of one head.
pub(crate) struct Moments<'a> {
    pub(crate) sums: &'a mut [f64],
    pub(crate) squares: &'a mut [f64],
}

/// Columns, rows of the analysis, the scale of each, the number of tokens, and of each component its tokens.
pub(crate) type Analysis = fn(&[f32], &[i16], &[f32], usize, &mut [f32]);

/// Sections to plain elements; the last argument asks for stores past the cache.
pub(crate) type AffineDecode = fn(AffineParams, Sections<'_>, &mut [u8], bool) -> bool;

/// One implementation of the inner loops. Slices have matching lengths: the callers cut them.
///
/// The functions that return `bool` return false where a value, scale or bias is not finite; what
/// they wrote is then meaningless.
pub(crate) struct Kernels {
    pub(crate) name: &'static str,
    /// Whole groups of plain elements to sections.
    pub(crate) affine_encode: fn(AffineParams, &[u8], SectionsMut<'_>) -> bool,
    /// Sections to whole groups of plain elements; past the cache where that is asked and helps.
    pub(crate) affine_decode: AffineDecode,
    /// Elements of 2 or 4 bytes, rotated left by one bit, to their low bytes (plane after plane)
    /// and their top byte.
    pub(crate) split: fn(usize, &[u8], &mut [u8], &mut [u8]),
    /// The inverse of `split`.
    pub(crate) merge: fn(usize, &[u8], &[u8], &mut [u8]),
    /// Inverse frequencies and a position to cosines and sines.
    pub(crate) turn: fn(&[f64], f64, &mut [f32]),
    /// One head of keys to sections; the last argument is scratch of `(tokens + 2) · padded(dim)`.
    pub(crate) keys_encode: fn(KeyHead<'_>, &[u8], SectionsMut<'_>, &mut [f32]) -> bool,
    /// Sections to one head of keys; the last argument is scratch of `3 · padded(dim)`.
    pub(crate) keys_decode: fn(KeyHead<'_>, Sections<'_>, &mut [u8], &mut [f32]) -> bool,
    /// Original and decoded elements of a frame to its sums.
    pub(crate) sums: fn(Dtype, &[u8], &[u8]) -> Sums,
    /// Adds one head of original keys, un-rotated, to its moments; the last argument is scratch of
    /// `padded(dim)` for each of its rows, or of [`MOMENT_ROWS`].
    pub(crate) key_moments: fn(KeyHead<'_>, &[u8], Moments<'_>, &mut [f32]),
    /// The next coefficients, those of one channel, from their lanes; false where words run out.
    pub(crate) coefficients_decode: fn(&mut Lanes<'_>, Table, &mut [i16]) -> bool,
    /// Coefficients of a head to its rows, turned; the last argument is scratch of `16 · padded(dim)`.
    pub(crate) coefficients_rows: fn(KeyHead<'_>, Coefficients<'_>, &mut [u8], &mut [f32]),
    /// Components of a head to its rows, turned; the last arguments are scratch of `16 · padded(dim)`.
    pub(crate) synthesis_rows: fn(KeyHead<'_>, Synthesis<'_>, &mut [u8], &mut [i32], &mut [f32]),
    /// Columns of whole vectors to components.
    pub(crate) analysis: Analysis,
    /// Rows of a head, turned back, each to `padded(dim)` numbers.
    pub(crate) rows_load: fn(KeyHead<'_>, &[u8], &mut [f32]),
}

/// Rows that [`Kernels::key_moments`] un-rotates before it adds them: few enough that they stay in
/// the nearest cache, enough that moments are rarely fetched and put back.
pub(crate) const MOMENT_ROWS: usize = 16;

/// The length of a row in scratch: whole vectors of any instruction set.
pub(crate) const fn padded(dim: usize) -> usize {
    dim.next_multiple_of(16)
}

/// Lanes over which sums are spread: element i of a frame adds to lane i mod 8.
pub(crate) const LANES: usize = 8;

/// The sum of the lanes, in the order that codecs-v1 §10.2 gives.
pub(crate) fn fold_lanes(l: [f64; LANES]) -> f64 {
    ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}
