//! Lanes of entropy-coded coefficients with AVX2.

use std::{arch::x86_64::*, mem::transmute};

use crate::coefficients::{ESCAPE, LANES, SLOTS, Slots, Table};

/// Lanes of a vector.
const EIGHT: usize = 8;

/// For each set of lanes that need a word, which of the next words each of them takes.
const TAKEN: [[u8; EIGHT]; 256] = {
    let mut taken = [[0; EIGHT]; 256];
    let mut needs = 0;
    while needs < 256 {
        let (mut lane, mut next) = (0, 0);
        while lane < EIGHT {
            taken[needs][lane] = next;
            if needs >> lane & 1 == 1 {
                next += 1;
            }
            lane += 1;
        }
        needs += 1;
    }
    taken
};

/// As `Isa::take_symbols`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn take_symbols(
    states: &mut [u32; LANES],
    slots: &Slots,
    table: Table,
    out: &mut [i16; LANES],
) {
    let low = _mm256_set1_epi32(0xfff);
    let shift = _mm_cvtsi32_si128(i32::from(table.bits));
    let half = _mm256_set1_epi32(i32::from(table.half()));
    let taken = states.as_chunks_mut::<EIGHT>().0.iter_mut().map(|eight| {
        // SAFETY: any bits are eight numbers.
        let state = unsafe { transmute::<[u32; EIGHT], __m256i>(*eight) };
        let slot = _mm256_and_si256(state, low);
        const { assert!(SLOTS == 0x1000, "a slot has 12 bits") };
        // SAFETY: each index has 12 bits, and there are as many slots.
        let entry = unsafe { _mm256_i32gather_epi32::<4>(slots.0.as_ptr().cast(), slot) };
        let frequency = _mm256_and_si256(entry, low);
        let within = _mm256_and_si256(_mm256_srli_epi32::<12>(entry), low);
        let product = _mm256_mullo_epi32(frequency, _mm256_srli_epi32::<12>(state));
        let state = _mm256_add_epi32(product, within);
        // SAFETY: as above.
        *eight = unsafe { transmute::<__m256i, [u32; EIGHT]>(state) };
        let number = _mm256_srli_epi32::<24>(entry);
        let symbol = _mm256_sub_epi32(number, _mm256_set1_epi32(32));
        let coefficient = _mm256_sub_epi32(_mm256_sll_epi32(symbol, shift), half);
        let escape = _mm256_cmpeq_epi32(number, _mm256_set1_epi32(127));
        _mm256_blendv_epi8(coefficient, _mm256_set1_epi32(ESCAPE.into()), escape)
    });
    let mut halves = out.as_chunks_mut::<{ 2 * EIGHT }>().0.iter_mut();
    let mut first = None;
    for eight in taken {
        match first.take() {
            None => first = Some(eight),
            Some(first) => {
                let both =
                    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(first, eight));
                if let Some(sixteen) = halves.next() {
                    // SAFETY: as above.
                    *sixteen = unsafe { transmute::<__m256i, [i16; 2 * EIGHT]>(both) };
                }
            }
        }
    }
}

/// As `Isa::take_words`, where there is a word for every lane.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
pub(super) fn take_words(states: &mut [u32; LANES], words: &[[u8; 2]; LANES]) -> usize {
    let mut taken = 0_usize;
    for eight in states.as_chunks_mut::<EIGHT>().0 {
        let Some(next) = words[taken..].first_chunk::<EIGHT>() else {
            return taken;
        };
        // SAFETY: any bits are eight numbers.
        let (state, next) = unsafe {
            (
                transmute::<[u32; EIGHT], __m256i>(*eight),
                transmute::<[[u8; 2]; EIGHT], __m128i>(*next),
            )
        };
        let needs = _mm256_cmpeq_epi32(_mm256_srli_epi32::<16>(state), _mm256_setzero_si256());
        let mask = _mm256_movemask_ps(_mm256_castsi256_ps(needs)).cast_unsigned();
        let order = u64::from_le_bytes(TAKEN[mask as usize % 256]).cast_signed();
        let order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(order));
        let word = _mm256_permutevar8x32_epi32(_mm256_cvtepu16_epi32(next), order);
        let fuller = _mm256_or_si256(_mm256_slli_epi32::<16>(state), word);
        let state = _mm256_blendv_epi8(state, fuller, needs);
        // SAFETY: as above.
        *eight = unsafe { transmute::<__m256i, [u32; EIGHT]>(state) };
        taken += mask.count_ones() as usize;
    }
    taken
}
