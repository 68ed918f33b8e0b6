//! What an instruction set does its own way: arithmetic on 16 binary32 at a time.
//!
//! Methods are `#[inline(always)]`, so that they take on the instruction set of the function that
//! they end up in (see `compiled_for!`). Products and sums are contracted only where the product is exact.

use crate::{
    coefficients::{LANES, RENORM, Slots, Table},
    kernels::BLOCK,
};

/// The bytes of a cache line.
pub(super) type Line = [u8; 64];

/// Where a cache line lies.
#[repr(C, align(64))]
pub(super) struct Place(pub(super) Line);

/// Elements in a vector.
pub(super) const WIDTH: usize = 16;

/// Elements in a vector of binary64.
pub(super) const WIDE: usize = 8;

/// Operations on vectors of [`WIDTH`] binary32, and the few on [`WIDE`] binary64 that receipts need.
pub(super) trait Isa {
    /// Whether [`Self::join`] and [`Self::stream`] make stores past the cache worth while.
    const STREAMS: bool = false;
    /// The vector.
    type V: Copy;
    /// The vector of binary64.
    type D: Copy;

    fn splat(x: f32) -> Self::V;
    fn load(floats: &[f32; WIDTH]) -> Self::V;
    fn store(v: Self::V, floats: &mut [f32; WIDTH]);

    fn add(a: Self::V, b: Self::V) -> Self::V;
    fn sub(a: Self::V, b: Self::V) -> Self::V;
    fn mul(a: Self::V, b: Self::V) -> Self::V;
    fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c` where the product is exact, so that it may be fused.
    #[inline(always)]
    fn exact_mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        Self::add(Self::mul(a, b), c)
    }
    /// The lesser of each two finite numbers; of two zeros either.
    fn min(a: Self::V, b: Self::V) -> Self::V;
    /// The greater, likewise.
    fn max(a: Self::V, b: Self::V) -> Self::V;

    /// Little-endian binary16, which it holds exactly.
    fn from_f16(bytes: &[u8; 2 * WIDTH]) -> Self::V;
    /// Little-endian bfloat16.
    fn from_bf16(bytes: &[u8; 2 * WIDTH]) -> Self::V;
    /// To binary16, half to even, where every number is within its range.
    fn to_f16(v: Self::V, bytes: &mut [u8; 2 * WIDTH]);
    /// To bfloat16, likewise.
    fn to_bf16(v: Self::V, bytes: &mut [u8; 2 * WIDTH]);
    /// Two vectors, one after the other, to binary16.
    #[inline(always)]
    fn two_to_f16(v: [Self::V; 2], bytes: &mut [u8; 4 * WIDTH]) {
        let (halves, _) = bytes.as_chunks_mut();
        for (v, bytes) in v.into_iter().zip(halves) {
            Self::to_f16(v, bytes);
        }
    }
    /// Two vectors, one after the other, to bfloat16.
    #[inline(always)]
    fn two_to_bf16(v: [Self::V; 2], bytes: &mut [u8; 4 * WIDTH]) {
        let (halves, _) = bytes.as_chunks_mut();
        for (v, bytes) in v.into_iter().zip(halves) {
            Self::to_bf16(v, bytes);
        }
    }

    fn from_codes(codes: [u8; WIDTH]) -> Self::V;
    /// The nearest integers, half to even, of numbers in `0..=255`.
    fn to_codes(v: Self::V) -> [u8; WIDTH];

    /// The first and the last [`WIDE`] elements.
    fn widen(v: Self::V) -> [Self::D; 2];
    fn wide_load(numbers: &[f64; WIDE]) -> Self::D;
    fn wide_store(v: Self::D, numbers: &mut [f64; WIDE]);
    fn wide_add(a: Self::D, b: Self::D) -> Self::D;
    fn wide_sub(a: Self::D, b: Self::D) -> Self::D;
    fn wide_mul(a: Self::D, b: Self::D) -> Self::D;
    /// `|a|` where that is greater than `b`, else `b`.
    fn wide_max_abs(a: Self::D, b: Self::D) -> Self::D;

    /// The bits of `word` at the ones of `mask`, moved together to the low end.
    fn gather_bits(word: u64, mask: u64) -> u64;
    /// The low bits of `word`, spread to the ones of `mask`.
    fn spread_bits(word: u64, mask: u64) -> u64;

    /// Bytes `from..from + 64` of `a` and `b` in a row; `from` is a multiple of 4.
    #[inline(always)]
    fn join(a: Line, b: Line, from: usize) -> Line {
        let mut joined = b;
        joined.rotate_left(from % 64);
        let kept = 64 - from % 64;
        joined[..kept].copy_from_slice(&a[64 - kept..]);
        joined
    }

    /// Stores past the cache.
    #[inline(always)]
    fn stream(bytes: Line, place: &mut Place) {
        place.0 = bytes;
    }

    /// The next symbol of every lane, above its low bits.
    #[inline(always)]
    fn take_symbols(
        states: &mut [u32; LANES],
        slots: &Slots,
        table: Table,
        out: &mut [i16; LANES],
    ) {
        for (state, q) in states.iter_mut().zip(out) {
            *q = slots.take(state, table);
        }
    }
    /// Gives words in order to the lanes that need one; how many were taken. `words` are enough.
    #[inline(always)]
    fn take_words(states: &mut [u32; LANES], words: &[[u8; 2]]) -> usize {
        let mut taken = 0;
        for state in states {
            let word = words.get(taken).copied().unwrap_or_default();
            let fuller = *state << 16 | u32::from(u16::from_le_bytes(word));
            let needs = *state < RENORM;
            *state = if needs { fuller } else { *state };
            taken += usize::from(needs);
        }
        taken
    }

    /// Sums over pairs of components of the products of both, modulo 2^32: for each of [`BLOCK`] tokens, of
    /// whose coefficients a block is made, a row of `stride` sums.
    #[inline(always)]
    fn products(blocks: &[[i32; BLOCK]], weights: &[i32], stride: usize, sums: &mut [i32]) {
        sums.fill(0);
        for (block, weights) in blocks.iter().zip(weights.chunks_exact(stride)) {
            for (pair, sums) in block.iter().zip(sums.chunks_exact_mut(stride)) {
                add_products(sums, *pair, weights);
            }
        }
    }

    /// Rows out of columns.
    #[inline(always)]
    fn transposed(columns: &[[i16; WIDTH]; WIDTH]) -> [[i16; WIDTH]; WIDTH] {
        std::array::from_fn(|row| columns.map(|column| column[row]))
    }

    /// The smallest element.
    #[inline(always)]
    fn lowest(v: Self::V) -> f32 {
        let mut floats = [0.0; WIDTH];
        Self::store(v, &mut floats);
        fold(floats, |a, b| if b < a { b } else { a })
    }

    /// The largest element.
    #[inline(always)]
    fn highest(v: Self::V) -> f32 {
        let mut floats = [0.0; WIDTH];
        Self::store(v, &mut floats);
        fold(floats, |a, b| if b > a { b } else { a })
    }
}

/// Adds the products of a pair and pairs of weights, both of each, modulo 2^32.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the low half is the first of the pair"
)]
pub(super) fn add_products(sums: &mut [i32], pair: i32, weights: &[i32]) {
    let (low, high) = (i32::from(pair as i16), pair >> 16);
    for (sum, weight) in sums.iter_mut().zip(weights) {
        let (first, second) = (i32::from(*weight as i16), *weight >> 16);
        let both = (low * first).wrapping_add(high * second);
        *sum = sum.wrapping_add(both);
    }
}

/// Halves again and again, so that the compiler can use shorter vectors.
#[inline(always)]
fn fold(mut floats: [f32; WIDTH], pick: impl Fn(f32, f32) -> f32) -> f32 {
    let mut step = WIDTH / 2;
    while step > 0 {
        for lane in 0..step {
            floats[lane] = pick(floats[lane], floats[lane + step]);
        }
        step /= 2;
    }
    floats[0]
}

/// Plain loops over arrays, which any machine runs.
pub(super) struct Portable;

#[inline(always)]
fn each(a: [f32; WIDTH], b: [f32; WIDTH], f: impl Fn(f32, f32) -> f32) -> [f32; WIDTH] {
    let mut out = [0.0; WIDTH];
    for lane in 0..WIDTH {
        out[lane] = f(a[lane], b[lane]);
    }
    out
}

#[inline(always)]
fn halves(bytes: &[u8; 2 * WIDTH]) -> [u32; WIDTH] {
    let mut out = [0; WIDTH];
    for (half, two) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *half = u32::from(u16::from_le_bytes(*two));
    }
    out
}

#[inline(always)]
fn each_wide(a: [f64; WIDE], b: [f64; WIDE], f: impl Fn(f64, f64) -> f64) -> [f64; WIDE] {
    let mut out = [0.0; WIDE];
    for lane in 0..WIDE {
        out[lane] = f(a[lane], b[lane]);
    }
    out
}

impl Isa for Portable {
    type V = [f32; WIDTH];
    type D = [f64; WIDE];

    #[inline(always)]
    fn widen(v: Self::V) -> [Self::D; 2] {
        let mut out = [[0.0; WIDE]; 2];
        for (out, v) in out.iter_mut().zip(v.as_chunks::<WIDE>().0) {
            *out = v.map(f64::from);
        }
        out
    }
    #[inline(always)]
    fn wide_load(numbers: &[f64; WIDE]) -> Self::D {
        *numbers
    }
    #[inline(always)]
    fn wide_store(v: Self::D, numbers: &mut [f64; WIDE]) {
        *numbers = v;
    }
    #[inline(always)]
    fn wide_add(a: Self::D, b: Self::D) -> Self::D {
        each_wide(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn wide_sub(a: Self::D, b: Self::D) -> Self::D {
        each_wide(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn wide_mul(a: Self::D, b: Self::D) -> Self::D {
        each_wide(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn wide_max_abs(a: Self::D, b: Self::D) -> Self::D {
        each_wide(a, b, |a, b| if a.abs() > b { a.abs() } else { b })
    }

    #[inline(always)]
    fn splat(x: f32) -> Self::V {
        [x; WIDTH]
    }
    #[inline(always)]
    fn load(floats: &[f32; WIDTH]) -> Self::V {
        *floats
    }
    #[inline(always)]
    fn store(v: Self::V, floats: &mut [f32; WIDTH]) {
        *floats = v;
    }
    #[inline(always)]
    fn add(a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn min(a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn max(a: Self::V, b: Self::V) -> Self::V {
        each(a, b, |a, b| if a > b { a } else { b })
    }

    /// The exponent is moved and then re-biased by an exact product with 2^112, which also serves
    /// subnormals. Infinities become 65536 and up; who needs to know asks the bytes.
    #[inline(always)]
    fn from_f16(bytes: &[u8; 2 * WIDTH]) -> Self::V {
        let mut out = [0.0; WIDTH];
        for (x, half) in out.iter_mut().zip(halves(bytes)) {
            let magnitude = f32::from_bits((half & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
            *x = f32::from_bits(magnitude.to_bits() | (half & 0x8000) << 16);
        }
        out
    }
    #[inline(always)]
    fn from_bf16(bytes: &[u8; 2 * WIDTH]) -> Self::V {
        halves(bytes).map(|half| f32::from_bits(half << 16))
    }
    /// Normal results are rounded as integers, subnormal ones by an addition that moves their last
    /// place to where binary32 rounds.
    #[inline(always)]
    fn to_f16(v: Self::V, bytes: &mut [u8; 2 * WIDTH]) {
        for (two, x) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(v) {
            let bits = x.to_bits();
            let magnitude = bits & 0x7fff_ffff;
            let normal = magnitude.wrapping_add(0xc800_0fff + (magnitude >> 13 & 1)) >> 13;
            let moved = (f32::from_bits(magnitude) + 0.5).to_bits();
            let small = moved.wrapping_sub(0x3f00_0000);
            let half = if magnitude < 0x3880_0000 {
                small
            } else {
                normal
            };
            *two = low_half(half | bits >> 16 & 0x8000);
        }
    }
    #[inline(always)]
    fn to_bf16(v: Self::V, bytes: &mut [u8; 2 * WIDTH]) {
        for (two, x) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(v) {
            let bits = x.to_bits();
            *two = low_half(bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16);
        }
    }
    #[inline(always)]
    fn from_codes(codes: [u8; WIDTH]) -> Self::V {
        codes.map(f32::from)
    }
    /// Adding 2^23 rounds, and leaves the integer in the low bits.
    #[inline(always)]
    fn to_codes(v: Self::V) -> [u8; WIDTH] {
        v.map(|x| (x + 8_388_608.0).to_bits().to_le_bytes()[0])
    }
    #[inline(always)]
    fn gather_bits(word: u64, mask: u64) -> u64 {
        let bits = mask.trailing_ones();
        let bytes = word.to_le_bytes();
        bytes
            .iter()
            .rev()
            .fold(0, |all, code| all << bits | u64::from(*code))
    }
    #[inline(always)]
    fn spread_bits(word: u64, mask: u64) -> u64 {
        let bits = mask.trailing_ones();
        (0..8).fold(0, |all, at| {
            all | (word >> (at * bits) & mask & 0xff) << (8 * at)
        })
    }
}

#[inline(always)]
fn low_half(bits: u32) -> [u8; 2] {
    let [a, b, ..] = bits.to_le_bytes();
    [a, b]
}
