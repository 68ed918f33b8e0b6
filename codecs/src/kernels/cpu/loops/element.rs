//! Element types of plain bytes.

use crate::kernels::cpu::isa::{Isa, WIDTH};

/// An element type: how a vector of it is read and written.
pub(in super::super) trait Element {
    const BYTES: usize;
    const LARGEST: f32;
    /// `bytes` are those of one vector.
    fn load<I: Isa>(bytes: &[u8]) -> I::V;
    /// The numbers of `v` are within ±[`Self::LARGEST`].
    fn store<I: Isa>(v: I::V, bytes: &mut [u8]);
    /// The same for two vectors, one after the other.
    #[inline(always)]
    fn store_two<I: Isa>(v: [I::V; 2], bytes: &mut [u8]) {
        let halves = bytes.chunks_exact_mut(WIDTH * Self::BYTES);
        for (v, bytes) in v.into_iter().zip(halves) {
            Self::store::<I>(v, bytes);
        }
    }
    /// Whether every element is finite.
    fn finite(bytes: &[u8]) -> bool;
}

pub(in super::super) struct F16;
pub(in super::super) struct Bf16;
pub(in super::super) struct F32;

/// One vector of 16-bit elements; callers cut slices to that length.
#[inline(always)]
fn vector(bytes: &[u8]) -> [u8; 2 * WIDTH] {
    bytes.first_chunk().copied().unwrap_or([0; 2 * WIDTH])
}

/// Whether in no chunk all the bits of `exponent` are set in the last two bytes.
#[inline(always)]
fn exponents_below<const STEP: usize>(bytes: &[u8], exponent: u16) -> bool {
    let mut highest = 0;
    for chunk in bytes.as_chunks::<STEP>().0 {
        let x = u16::from_le_bytes([chunk[STEP - 2], chunk[STEP - 1]]) & exponent;
        highest = highest.max(x);
    }
    highest != exponent
}

impl Element for F16 {
    const BYTES: usize = 2;
    const LARGEST: f32 = 65504.0;
    #[inline(always)]
    fn load<I: Isa>(bytes: &[u8]) -> I::V {
        I::from_f16(&vector(bytes))
    }
    #[inline(always)]
    fn store<I: Isa>(v: I::V, bytes: &mut [u8]) {
        if let Some(bytes) = bytes.first_chunk_mut() {
            I::to_f16(v, bytes);
        }
    }
    #[inline(always)]
    fn store_two<I: Isa>(v: [I::V; 2], bytes: &mut [u8]) {
        if let Some(bytes) = bytes.first_chunk_mut() {
            I::two_to_f16(v, bytes);
        }
    }
    #[inline(always)]
    fn finite(bytes: &[u8]) -> bool {
        exponents_below::<2>(bytes, 0x7c00)
    }
}

impl Element for Bf16 {
    const BYTES: usize = 2;
    const LARGEST: f32 = f32::from_bits(0x7f7f_0000);
    #[inline(always)]
    fn load<I: Isa>(bytes: &[u8]) -> I::V {
        I::from_bf16(&vector(bytes))
    }
    #[inline(always)]
    fn store<I: Isa>(v: I::V, bytes: &mut [u8]) {
        if let Some(bytes) = bytes.first_chunk_mut() {
            I::to_bf16(v, bytes);
        }
    }
    #[inline(always)]
    fn store_two<I: Isa>(v: [I::V; 2], bytes: &mut [u8]) {
        if let Some(bytes) = bytes.first_chunk_mut() {
            I::two_to_bf16(v, bytes);
        }
    }
    #[inline(always)]
    fn finite(bytes: &[u8]) -> bool {
        exponents_below::<2>(bytes, 0x7f80)
    }
}

impl Element for F32 {
    const BYTES: usize = 4;
    const LARGEST: f32 = f32::MAX;
    #[inline(always)]
    fn load<I: Isa>(bytes: &[u8]) -> I::V {
        let mut floats = [0.0; WIDTH];
        for (x, four) in floats.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *x = f32::from_le_bytes(*four);
        }
        I::load(&floats)
    }
    #[inline(always)]
    fn store<I: Isa>(v: I::V, bytes: &mut [u8]) {
        let mut floats = [0.0; WIDTH];
        I::store(v, &mut floats);
        for (x, four) in floats.iter().zip(bytes.as_chunks_mut::<4>().0) {
            *four = x.to_le_bytes();
        }
    }
    #[inline(always)]
    fn finite(bytes: &[u8]) -> bool {
        exponents_below::<4>(bytes, 0x7f80)
    }
}

/// Within the range of the element type.
#[inline(always)]
pub(super) fn saturate<I: Isa, E: Element>(v: I::V) -> I::V {
    I::max(I::min(v, I::splat(E::LARGEST)), I::splat(-E::LARGEST))
}

/// Converts any number of elements.
#[inline(always)]
pub(super) fn load_row<I: Isa, E: Element>(bytes: &[u8], row: &mut [f32]) {
    let (chunks, rest) = row.as_chunks_mut::<WIDTH>();
    let (whole, tail) = bytes.split_at(chunks.len() * WIDTH * E::BYTES);
    for (chunk, bytes) in chunks.iter_mut().zip(whole.chunks_exact(WIDTH * E::BYTES)) {
        I::store(E::load::<I>(bytes), chunk);
    }
    if !rest.is_empty() {
        let (mut padded, mut last) = ([0; WIDTH * 4], [0.0; WIDTH]);
        padded[..tail.len()].copy_from_slice(tail);
        I::store(E::load::<I>(&padded[..WIDTH * E::BYTES]), &mut last);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// Converts any number of elements, saturating.
#[inline(always)]
pub(super) fn store_row<I: Isa, E: Element>(row: &[f32], bytes: &mut [u8]) {
    let (chunks, rest) = row.as_chunks::<WIDTH>();
    let (whole, tail) = bytes.split_at_mut(chunks.len() * WIDTH * E::BYTES);
    for (chunk, bytes) in chunks.iter().zip(whole.chunks_exact_mut(WIDTH * E::BYTES)) {
        E::store::<I>(saturate::<I, E>(I::load(chunk)), bytes);
    }
    if !rest.is_empty() {
        let (mut padded, mut last) = ([0; WIDTH * 4], [0.0; WIDTH]);
        last[..rest.len()].copy_from_slice(rest);
        let v = saturate::<I, E>(I::load(&last));
        E::store::<I>(v, &mut padded[..WIDTH * E::BYTES]);
        tail.copy_from_slice(&padded[..tail.len()]);
    }
}
