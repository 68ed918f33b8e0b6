//! Sums of products of components and weights, with AVX2 and AVX-512.

use std::{arch::x86_64::*, mem::transmute};

use super::isa::WIDTH;
use crate::kernels::BLOCK;

/// Sums of a vector of elements.
type Row = [i32; WIDTH];

/// As `Isa::products`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn avx2(blocks: &[[i32; BLOCK]], weights: &[i32], stride: usize, sums: &mut [i32]) {
    /// Tokens that are summed side by side: as many as there are registers for.
    const FEW: usize = 4;
    for element in (0..stride).step_by(WIDTH) {
        for first in (0..BLOCK).step_by(FEW) {
            let mut few = [[_mm256_setzero_si256(); 2]; FEW];
            for (block, weights) in blocks.iter().zip(weights.chunks_exact(stride)) {
                let Some(weights) = weights[element..].first_chunk::<WIDTH>() else {
                    continue;
                };
                // SAFETY: any bits are sixteen numbers.
                let weights = unsafe { transmute::<Row, [__m256i; 2]>(*weights) };
                for (sum, pair) in few.iter_mut().zip(&block[first..first + FEW]) {
                    let pair = _mm256_set1_epi32(*pair);
                    for (sum, weights) in sum.iter_mut().zip(weights) {
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pair, weights));
                    }
                }
            }
            let rows = sums.chunks_exact_mut(stride).skip(first);
            for (sum, row) in few.into_iter().zip(rows) {
                if let Some(row) = row[element..].first_chunk_mut() {
                    // SAFETY: as above.
                    *row = unsafe { transmute::<[__m256i; 2], Row>(sum) };
                }
            }
        }
    }
}

/// As `Isa::products`, with `$add` to add the products of pairs to a sum.
macro_rules! avx512 {
    ($name:ident, $features:literal, $add:expr) => {
        #[inline]
        #[target_feature(enable = $features)]
        pub(super) fn $name(
            blocks: &[[i32; BLOCK]],
            weights: &[i32],
            stride: usize,
            sums: &mut [i32],
        ) {
            for element in (0..stride).step_by(WIDTH) {
                let mut all = [_mm512_setzero_si512(); BLOCK];
                for (block, weights) in blocks.iter().zip(weights.chunks_exact(stride)) {
                    let Some(weights) = weights[element..].first_chunk::<WIDTH>() else {
                        continue;
                    };
                    // SAFETY: any bits are sixteen numbers.
                    let weights = unsafe { transmute::<Row, __m512i>(*weights) };
                    for (sum, pair) in all.iter_mut().zip(block) {
                        *sum = $add(*sum, _mm512_set1_epi32(*pair), weights);
                    }
                }
                for (sum, row) in all.into_iter().zip(sums.chunks_exact_mut(stride)) {
                    if let Some(row) = row[element..].first_chunk_mut() {
                        // SAFETY: as above.
                        *row = unsafe { transmute::<__m512i, Row>(sum) };
                    }
                }
            }
        }
    };
}

avx512!(avx512, "avx512f,avx512bw", |sum, pair, weights| {
    _mm512_add_epi32(sum, _mm512_madd_epi16(pair, weights))
});
avx512!(vnni, "avx512f,avx512bw,avx512vnni", _mm512_dpwssd_epi32);
