//! NEON.
//!
//! Conversions of binary16 and of bits are the portable ones: the intrinsics for the first are not
//! stable, and NEON has none for the second.

use std::{arch::aarch64::*, mem::transmute};

use super::{
    compiled_for,
    isa::{Isa, Portable, WIDE, WIDTH},
};

pub(super) fn has_neon() -> bool {
    std::arch::is_aarch64_feature_detected!("neon")
}

compiled_for!(NEON, "neon", Neon, "neon");

struct Neon;

type V = [float32x4_t; 4];

/// A method whose body is intrinsics and copies between arrays and vectors of the same size.
macro_rules! method {
    ($($name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {
        $(#[inline(always)]
        fn $name($($arg: $type),*) $(-> $result)? {
            // SAFETY: NEON was detected: the methods are reached only through its table.
            // `transmute` is between arrays and vectors of numbers, for which any bits are valid;
            // the compiler checks that their sizes are equal.
            unsafe { $body }
        })*
    };
}

/// `f` on each of four vectors.
macro_rules! each {
    ($f:ident($a:expr $(, $b:expr)?)) => {
        [
            $f($a[0] $(, $b[0])?),
            $f($a[1] $(, $b[1])?),
            $f($a[2] $(, $b[2])?),
            $f($a[3] $(, $b[3])?),
        ]
    };
}

impl Isa for Neon {
    type V = V;
    type D = [float64x2_t; 4];

    method! {
        widen(v: V) -> [Self::D; 2] {
            let pair = |a, b| {
                [
                    vcvt_f64_f32(vget_low_f32(a)),
                    vcvt_high_f64_f32(a),
                    vcvt_f64_f32(vget_low_f32(b)),
                    vcvt_high_f64_f32(b),
                ]
            };
            [pair(v[0], v[1]), pair(v[2], v[3])]
        }
        wide_load(numbers: &[f64; WIDE]) -> Self::D { transmute(*numbers) }
        wide_store(v: Self::D, numbers: &mut [f64; WIDE]) { *numbers = transmute::<Self::D, _>(v); }
        wide_add(a: Self::D, b: Self::D) -> Self::D { each!(vaddq_f64(a, b)) }
        wide_sub(a: Self::D, b: Self::D) -> Self::D { each!(vsubq_f64(a, b)) }
        wide_mul(a: Self::D, b: Self::D) -> Self::D { each!(vmulq_f64(a, b)) }
        wide_max_abs(a: Self::D, b: Self::D) -> Self::D {
            let sizes = each!(vabsq_f64(a));
            each!(vmaxnmq_f64(sizes, b))
        }
        splat(x: f32) -> V { [vdupq_n_f32(x); 4] }
        load(floats: &[f32; WIDTH]) -> V { transmute(*floats) }
        store(v: V, floats: &mut [f32; WIDTH]) { *floats = transmute::<V, _>(v); }
        add(a: V, b: V) -> V { each!(vaddq_f32(a, b)) }
        sub(a: V, b: V) -> V { each!(vsubq_f32(a, b)) }
        mul(a: V, b: V) -> V { each!(vmulq_f32(a, b)) }
        div(a: V, b: V) -> V { each!(vdivq_f32(a, b)) }
        min(a: V, b: V) -> V { each!(vminq_f32(a, b)) }
        max(a: V, b: V) -> V { each!(vmaxq_f32(a, b)) }
        from_codes(codes: [u8; WIDTH]) -> V {
            let codes: uint8x16_t = transmute(codes);
            let (low, high) = (vmovl_u8(vget_low_u8(codes)), vmovl_high_u8(codes));
            let wide = [
                vmovl_u16(vget_low_u16(low)),
                vmovl_high_u16(low),
                vmovl_u16(vget_low_u16(high)),
                vmovl_high_u16(high),
            ];
            each!(vcvtq_f32_u32(wide))
        }
        to_codes(v: V) -> [u8; WIDTH] {
            // The nearest integers, half to even.
            let wide = each!(vcvtnq_u32_f32(v));
            let low = vcombine_u16(vmovn_u32(wide[0]), vmovn_u32(wide[1]));
            let high = vcombine_u16(vmovn_u32(wide[2]), vmovn_u32(wide[3]));
            transmute(vcombine_u8(vmovn_u16(low), vmovn_u16(high)))
        }
        lowest(v: V) -> f32 {
            vminvq_f32(vminq_f32(vminq_f32(v[0], v[1]), vminq_f32(v[2], v[3])))
        }
        highest(v: V) -> f32 {
            vmaxvq_f32(vmaxq_f32(vmaxq_f32(v[0], v[1]), vmaxq_f32(v[2], v[3])))
        }
        from_f16(bytes: &[u8; 2 * WIDTH]) -> V { transmute(Portable::from_f16(bytes)) }
        from_bf16(bytes: &[u8; 2 * WIDTH]) -> V { transmute(Portable::from_bf16(bytes)) }
        to_f16(v: V, bytes: &mut [u8; 2 * WIDTH]) { Portable::to_f16(transmute(v), bytes); }
        to_bf16(v: V, bytes: &mut [u8; 2 * WIDTH]) { Portable::to_bf16(transmute(v), bytes); }
    }

    #[inline(always)]
    fn gather_bits(word: u64, mask: u64) -> u64 {
        Portable::gather_bits(word, mask)
    }
    #[inline(always)]
    fn spread_bits(word: u64, mask: u64) -> u64 {
        Portable::spread_bits(word, mask)
    }
}
