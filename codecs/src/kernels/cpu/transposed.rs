//! Rows out of columns of whole numbers, with SSE2, which every x86-64 has.

use std::{arch::x86_64::*, mem::transmute};

use super::isa::WIDTH;

/// Numbers of a vector.
const EIGHT: usize = 8;

/// As `Isa::transposed`.
#[inline]
#[target_feature(enable = "sse2")]
pub(super) fn transposed(columns: &[[i16; WIDTH]; WIDTH]) -> [[i16; WIDTH]; WIDTH] {
    let mut rows = [[0; WIDTH]; WIDTH];
    for down in (0..WIDTH).step_by(EIGHT) {
        for across in (0..WIDTH).step_by(EIGHT) {
            let load = |at: usize| {
                let eight = columns[down + at][across..].first_chunk::<EIGHT>();
                // SAFETY: any bits are eight numbers.
                unsafe { transmute::<[i16; EIGHT], __m128i>(*eight.unwrap_or(&[0; EIGHT])) }
            };
            for (at, eight) in eight(std::array::from_fn(load)).into_iter().enumerate() {
                if let Some(row) = rows[across + at][down..].first_chunk_mut::<EIGHT>() {
                    // SAFETY: as above.
                    *row = unsafe { transmute::<__m128i, [i16; EIGHT]>(eight) };
                }
            }
        }
    }
    rows
}

/// Eight rows out of eight columns: pairs of numbers are brought together, then pairs of pairs, then halves.
#[inline]
#[target_feature(enable = "sse2")]
fn eight(c: [__m128i; EIGHT]) -> [__m128i; EIGHT] {
    let twos = |a, b| [_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b)];
    let fours = |a, b| [_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b)];
    let eights = |a, b| [_mm_unpacklo_epi64(a, b), _mm_unpackhi_epi64(a, b)];
    let [[a0, a1], [b0, b1]] = [twos(c[0], c[1]), twos(c[2], c[3])];
    let [[c0, c1], [d0, d1]] = [twos(c[4], c[5]), twos(c[6], c[7])];
    let [[e0, e1], [e2, e3]] = [fours(a0, b0), fours(a1, b1)];
    let [[f0, f1], [f2, f3]] = [fours(c0, d0), fours(c1, d1)];
    let rows = [
        eights(e0, f0),
        eights(e1, f1),
        eights(e2, f2),
        eights(e3, f3),
    ];
    let [[r0, r1], [r2, r3], [r4, r5], [r6, r7]] = rows;
    [r0, r1, r2, r3, r4, r5, r6, r7]
}
