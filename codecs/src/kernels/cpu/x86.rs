//! AVX2 with F16C and BMI2, and AVX-512.

use std::{arch::x86_64::*, mem::transmute};

use super::{
    compiled_for,
    isa::{Isa, Line, Place, WIDE, WIDTH},
    lanes, products, transposed,
};
use crate::{
    coefficients::{LANES, Slots, Table},
    kernels::BLOCK,
};

pub(super) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt")
}

pub(super) fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
}

compiled_for!(AVX2, "avx2", Avx2, "avx2,f16c,bmi2,popcnt");
compiled_for!(
    AVX512,
    "avx512",
    Avx512,
    "avx2,f16c,bmi2,popcnt,avx512f,avx512bw,avx512vl,avx512dq"
);

struct Avx2;
struct Avx512;

/// A method whose body is intrinsics and copies between arrays and vectors of the same size.
macro_rules! method {
    ($($name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {
        $(#[inline(always)]
        fn $name($($arg: $type),*) $(-> $result)? {
            // SAFETY: the features of this instruction set were detected: the methods are reached
            // only through its table. `transmute` is between arrays and vectors of numbers, for
            // which any bits are valid; the compiler checks that their sizes are equal.
            unsafe { $body }
        })*
    };
}

/// Rounds binary32 to bfloat16, half to even, in the low halves of 32-bit lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn bf16_lanes(v: __m256) -> __m256i {
    let bits = _mm256_castps_si256(v);
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let rounding = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, rounding))
}

/// Two vectors of 32-bit lanes below 65536 to one of 16-bit lanes, in order.
#[inline]
#[target_feature(enable = "avx2")]
fn low_halves(a: __m256i, b: __m256i) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(a, b))
}

impl Isa for Avx2 {
    type V = [__m256; 2];
    type D = [__m256d; 2];

    #[inline(always)]
    fn take_symbols(
        states: &mut [u32; LANES],
        slots: &Slots,
        table: Table,
        out: &mut [i16; LANES],
    ) {
        // SAFETY: AVX2 was detected: this is reached through the table of this instruction set alone.
        unsafe { lanes::take_symbols(states, slots, table, out) }
    }
    #[inline(always)]
    fn take_words(states: &mut [u32; LANES], words: &[[u8; 2]]) -> usize {
        let Some(words) = words.first_chunk() else {
            return 0;
        };
        // SAFETY: AVX2 and with it POPCNT were detected.
        unsafe { lanes::take_words(states, words) }
    }
    #[inline(always)]
    fn transposed(columns: &[[i16; WIDTH]; WIDTH]) -> [[i16; WIDTH]; WIDTH] {
        // SAFETY: every machine of this architecture has SSE2.
        unsafe { transposed::transposed(columns) }
    }
    #[inline(always)]
    fn products(blocks: &[[i32; BLOCK]], weights: &[i32], stride: usize, sums: &mut [i32]) {
        // SAFETY: AVX2 was detected.
        unsafe { products::avx2(blocks, weights, stride, sums) }
    }

    method! {
        widen(v: Self::V) -> [Self::D; 2] {
            v.map(|v| {
                let high = _mm256_extractf128_ps::<1>(v);
                [_mm256_cvtps_pd(_mm256_castps256_ps128(v)), _mm256_cvtps_pd(high)]
            })
        }
        wide_load(numbers: &[f64; WIDE]) -> Self::D { transmute(*numbers) }
        wide_store(v: Self::D, numbers: &mut [f64; WIDE]) { *numbers = transmute::<Self::D, _>(v); }
        wide_add(a: Self::D, b: Self::D) -> Self::D {
            [_mm256_add_pd(a[0], b[0]), _mm256_add_pd(a[1], b[1])]
        }
        wide_sub(a: Self::D, b: Self::D) -> Self::D {
            [_mm256_sub_pd(a[0], b[0]), _mm256_sub_pd(a[1], b[1])]
        }
        wide_mul(a: Self::D, b: Self::D) -> Self::D {
            [_mm256_mul_pd(a[0], b[0]), _mm256_mul_pd(a[1], b[1])]
        }
        wide_max_abs(a: Self::D, b: Self::D) -> Self::D {
            // gives its second operand unless the first is greater
            let sign = _mm256_set1_pd(-0.0);
            [
                _mm256_max_pd(_mm256_andnot_pd(sign, a[0]), b[0]),
                _mm256_max_pd(_mm256_andnot_pd(sign, a[1]), b[1]),
            ]
        }
        splat(x: f32) -> Self::V { [_mm256_set1_ps(x); 2] }
        load(floats: &[f32; WIDTH]) -> Self::V { transmute(*floats) }
        store(v: Self::V, floats: &mut [f32; WIDTH]) { *floats = transmute::<Self::V, _>(v); }
        add(a: Self::V, b: Self::V) -> Self::V {
            [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])]
        }
        sub(a: Self::V, b: Self::V) -> Self::V {
            [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])]
        }
        mul(a: Self::V, b: Self::V) -> Self::V {
            [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])]
        }
        div(a: Self::V, b: Self::V) -> Self::V {
            [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])]
        }
        min(a: Self::V, b: Self::V) -> Self::V {
            [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])]
        }
        max(a: Self::V, b: Self::V) -> Self::V {
            [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])]
        }
        from_f16(bytes: &[u8; 2 * WIDTH]) -> Self::V {
            let [a, b]: [__m128i; 2] = transmute(*bytes);
            [_mm256_cvtph_ps(a), _mm256_cvtph_ps(b)]
        }
        from_bf16(bytes: &[u8; 2 * WIDTH]) -> Self::V {
            let [a, b]: [__m128i; 2] = transmute(*bytes);
            let a = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(a));
            let b = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(b));
            [_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)]
        }
        to_f16(v: Self::V, bytes: &mut [u8; 2 * WIDTH]) {
            let a = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[0]);
            let b = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[1]);
            *bytes = transmute::<[__m128i; 2], _>([a, b]);
        }
        to_bf16(v: Self::V, bytes: &mut [u8; 2 * WIDTH]) {
            let halves = low_halves(bf16_lanes(v[0]), bf16_lanes(v[1]));
            *bytes = transmute::<__m256i, _>(halves);
        }
        from_codes(codes: [u8; WIDTH]) -> Self::V {
            let codes: __m128i = transmute(codes);
            let a = _mm256_cvtepu8_epi32(codes);
            let b = _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(codes));
            [_mm256_cvtepi32_ps(a), _mm256_cvtepi32_ps(b)]
        }
        to_codes(v: Self::V) -> [u8; WIDTH] {
            // The default rounding of the machine, which Rust never changes, is half to even.
            let halves = low_halves(_mm256_cvtps_epi32(v[0]), _mm256_cvtps_epi32(v[1]));
            let (low, high) = (
                _mm256_castsi256_si128(halves),
                _mm256_extracti128_si256::<1>(halves),
            );
            transmute(_mm_packus_epi16(low, high))
        }
        gather_bits(word: u64, mask: u64) -> u64 { _pext_u64(word, mask) }
        spread_bits(word: u64, mask: u64) -> u64 { _pdep_u64(word, mask) }
    }
}

impl Isa for Avx512 {
    const STREAMS: bool = true;
    type V = __m512;
    type D = __m512d;

    #[inline(always)]
    fn take_symbols(
        states: &mut [u32; LANES],
        slots: &Slots,
        table: Table,
        out: &mut [i16; LANES],
    ) {
        // SAFETY: AVX2 was detected: this is reached through the table of this instruction set alone.
        unsafe { lanes::take_symbols(states, slots, table, out) }
    }
    #[inline(always)]
    fn take_words(states: &mut [u32; LANES], words: &[[u8; 2]]) -> usize {
        let Some(words) = words.first_chunk() else {
            return 0;
        };
        // SAFETY: AVX2 and with it POPCNT were detected.
        unsafe { lanes::take_words(states, words) }
    }
    #[inline(always)]
    fn transposed(columns: &[[i16; WIDTH]; WIDTH]) -> [[i16; WIDTH]; WIDTH] {
        // SAFETY: every machine of this architecture has SSE2.
        unsafe { transposed::transposed(columns) }
    }
    #[inline(always)]
    fn products(blocks: &[[i32; BLOCK]], weights: &[i32], stride: usize, sums: &mut [i32]) {
        if is_x86_feature_detected!("avx512vnni") {
            // SAFETY: it and AVX-512 were detected.
            return unsafe { products::vnni(blocks, weights, stride, sums) };
        }
        // SAFETY: AVX-512 was detected.
        unsafe { products::avx512(blocks, weights, stride, sums) }
    }

    method! {
        widen(v: Self::V) -> [Self::D; 2] {
            let high = _mm512_extractf32x8_ps::<1>(v);
            [_mm512_cvtps_pd(_mm512_castps512_ps256(v)), _mm512_cvtps_pd(high)]
        }
        wide_load(numbers: &[f64; WIDE]) -> Self::D { transmute(*numbers) }
        wide_store(v: Self::D, numbers: &mut [f64; WIDE]) { *numbers = transmute::<Self::D, _>(v); }
        wide_add(a: Self::D, b: Self::D) -> Self::D { _mm512_add_pd(a, b) }
        wide_sub(a: Self::D, b: Self::D) -> Self::D { _mm512_sub_pd(a, b) }
        wide_mul(a: Self::D, b: Self::D) -> Self::D { _mm512_mul_pd(a, b) }
        // gives its second operand unless the first is greater
        wide_max_abs(a: Self::D, b: Self::D) -> Self::D { _mm512_max_pd(_mm512_abs_pd(a), b) }
        splat(x: f32) -> Self::V { _mm512_set1_ps(x) }
        load(floats: &[f32; WIDTH]) -> Self::V { transmute(*floats) }
        store(v: Self::V, floats: &mut [f32; WIDTH]) { *floats = transmute::<Self::V, _>(v); }
        add(a: Self::V, b: Self::V) -> Self::V { _mm512_add_ps(a, b) }
        sub(a: Self::V, b: Self::V) -> Self::V { _mm512_sub_ps(a, b) }
        mul(a: Self::V, b: Self::V) -> Self::V { _mm512_mul_ps(a, b) }
        exact_mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V { _mm512_fmadd_ps(a, b, c) }
        div(a: Self::V, b: Self::V) -> Self::V { _mm512_div_ps(a, b) }
        min(a: Self::V, b: Self::V) -> Self::V { _mm512_min_ps(a, b) }
        max(a: Self::V, b: Self::V) -> Self::V { _mm512_max_ps(a, b) }
        from_f16(bytes: &[u8; 2 * WIDTH]) -> Self::V { _mm512_cvtph_ps(transmute(*bytes)) }
        from_bf16(bytes: &[u8; 2 * WIDTH]) -> Self::V {
            let wide = _mm512_cvtepu16_epi32(transmute(*bytes));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
        to_f16(v: Self::V, bytes: &mut [u8; 2 * WIDTH]) {
            let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v);
            *bytes = transmute::<__m256i, _>(halves);
        }
        two_to_f16(v: [Self::V; 2], bytes: &mut [u8; 4 * WIDTH]) {
            let [a, b] = v.map(|v| _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v));
            let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b);
            *bytes = transmute::<__m512i, _>(both);
        }
        to_bf16(v: Self::V, bytes: &mut [u8; 2 * WIDTH]) {
            let bits = _mm512_castps_si512(v);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded));
            *bytes = transmute::<__m256i, _>(halves);
        }
        two_to_bf16(v: [Self::V; 2], bytes: &mut [u8; 4 * WIDTH]) {
            // the upper half of each lane of both: cheaper than to narrow each
            const UPPER: [u16; 32] = {
                let mut upper = [0; 32];
                let (mut lane, mut half) = (0, 1);
                while lane < upper.len() {
                    upper[lane] = half;
                    (lane, half) = (lane + 1, half + 2);
                }
                upper
            };
            let [a, b] = v.map(|v| {
                let bits = _mm512_castps_si512(v);
                let odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
                let rounded = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
                _mm512_mask_add_epi32(rounded, odd, rounded, _mm512_set1_epi32(1))
            });
            *bytes = transmute::<__m512i, _>(_mm512_permutex2var_epi16(a, transmute(UPPER), b));
        }
        from_codes(codes: [u8; WIDTH]) -> Self::V {
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(transmute(codes)))
        }
        to_codes(v: Self::V) -> [u8; WIDTH] {
            transmute(_mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)))
        }
        gather_bits(word: u64, mask: u64) -> u64 { _pext_u64(word, mask) }
        spread_bits(word: u64, mask: u64) -> u64 { _pdep_u64(word, mask) }
        join(a: Line, b: Line, from: usize) -> Line {
            const WORDS: [i32; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
            let first = _mm512_set1_epi32(i32::from((from / 4).to_le_bytes()[0]));
            let which = _mm512_add_epi32(first, transmute(WORDS));
            transmute(_mm512_permutex2var_epi32(transmute(a), which, transmute(b)))
        }
        stream(bytes: Line, place: &mut Place) {
            // the place is aligned, being a line
            _mm512_stream_si512((&raw mut place.0).cast(), transmute(bytes));
        }
        lowest(v: Self::V) -> f32 { _mm512_reduce_min_ps(v) }
        highest(v: Self::V) -> f32 { _mm512_reduce_max_ps(v) }
    }
}
