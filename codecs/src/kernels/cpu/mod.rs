//! Vector paths, chosen at run time.
//!
//! This is the one place of the workspace with `unsafe`: calls of functions and intrinsics that are
//! compiled for an instruction set, made only after the machine was asked whether it has it. No
//! pointer is made but to borrowed lines of the cache: vectors are copied from and to arrays of their size.

#![allow(
    unsafe_code,
    clippy::inline_always,
    clippy::missing_transmute_annotations,
    reason = "calls of #[target_feature] functions after detection"
)]

mod isa;
mod loops;
mod portable;
mod stream;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod products;
#[cfg(target_arch = "x86_64")]
mod transposed;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use stream::copy_streaming;

use std::sync::OnceLock;

use super::{Kernels, reference};

/// `$call::<E, G, BITS>($arguments)` for the element type, group and bits that `$p` names.
macro_rules! by_params {
    ($p:expr, $call:ident($($argument:expr),*)) => {
        match $p.params {
            ParamDtype::F16 => by_params!(@group $p, F16, $call($($argument),*)),
            ParamDtype::Bf16 => by_params!(@group $p, Bf16, $call($($argument),*)),
            ParamDtype::F32 => by_params!(@group $p, F32, $call($($argument),*)),
        }
    };
    (@group $p:expr, $e:ty, $call:ident($($argument:expr),*)) => {
        match $p.group {
            32 => by_params!(@bits $p, $e, 32, $call($($argument),*)),
            64 => by_params!(@bits $p, $e, 64, $call($($argument),*)),
            _ => by_params!(@bits $p, $e, 128, $call($($argument),*)),
        }
    };
    (@bits $p:expr, $e:ty, $g:literal, $call:ident($($argument:expr),*)) => {
        match $p.bits {
            3 => $call::<$e, $g, 3>($($argument),*),
            4 => $call::<$e, $g, 4>($($argument),*),
            5 => $call::<$e, $g, 5>($($argument),*),
            6 => $call::<$e, $g, 6>($($argument),*),
            _ => $call::<$e, $g, 8>($($argument),*),
        }
    };
}

/// `$call::<E>($arguments)` for an element type.
macro_rules! by_dtype {
    ($dtype:expr, $call:ident($($argument:expr),*)) => {
        match $dtype {
            Dtype::F16 => $call::<F16>($($argument),*),
            Dtype::Bf16 => $call::<Bf16>($($argument),*),
            _ => $call::<F32>($($argument),*),
        }
    };
}

/// A table of [`Kernels`] over `$isa`, each function of [`loops`] compiled with `$features` once
/// for each element type (and group and bits), so that the compiler sees small functions.
///
/// With features, the table must be reachable only where the machine has them.
macro_rules! compiled_for {
    ($table:ident, $name:literal, $isa:ty $(, $features:literal)?) => {
        pub(super) static $table: $crate::kernels::Kernels = {
            use $crate::{
                coefficients::{Lanes, Table},
                layout::{Dtype, ParamDtype},
                kernels::{
                    Coefficients, KeyHead, Kernels, Moments, Sections, SectionsMut, Sums, Synthesis,
                    cpu::{by_dtype, by_params, loops::{self, Bf16, Element, F16, F32}},
                },
            };

            #[inline(never)] // else the portable table becomes one function of all, which takes long to compile
            $(#[target_feature(enable = $features)])?
            fn affine_encode<E: Element, const G: usize, const BITS: usize>(
                x: &[u8],
                out: SectionsMut<'_>,
            ) -> bool {
                loops::affine_encode::<$isa, E, G, BITS>(x, out)
            }
            #[inline(never)] // else the portable table becomes one function of all, which takes long to compile
            $(#[target_feature(enable = $features)])?
            fn affine_decode<E: Element, const G: usize, const BITS: usize>(
                x: Sections<'_>,
                out: &mut [u8],
                past_cache: bool,
            ) -> bool {
                loops::affine_decode::<$isa, E, G, BITS>(x, out, past_cache)
            }
            $(#[target_feature(enable = $features)])?
            fn split(width: usize, x: &[u8], low: &mut [u8], top: &mut [u8]) {
                loops::split(width, x, low, top);
            }
            $(#[target_feature(enable = $features)])?
            fn merge(width: usize, low: &[u8], top: &[u8], out: &mut [u8]) {
                loops::merge(width, low, top, out);
            }
            $(#[target_feature(enable = $features)])?
            fn turn(frequencies: &[f64], position: f64, out: &mut [f32]) {
                loops::turn(frequencies, position, out);
            }
            $(#[target_feature(enable = $features)])?
            fn keys_encode<E: Element>(
                head: KeyHead<'_>,
                x: &[u8],
                out: SectionsMut<'_>,
                scratch: &mut [f32],
            ) -> bool {
                loops::keys_encode::<$isa, E>(head, x, out, scratch)
            }
            $(#[target_feature(enable = $features)])?
            fn keys_decode<E: Element>(
                head: KeyHead<'_>,
                x: Sections<'_>,
                out: &mut [u8],
                scratch: &mut [f32],
            ) -> bool {
                loops::keys_decode::<$isa, E>(head, x, out, scratch)
            }
            $(#[target_feature(enable = $features)])?
            fn sums<E: Element>(x: &[u8], y: &[u8]) -> Sums {
                loops::sums::<$isa, E>(x, y)
            }
            $(#[target_feature(enable = $features)])?
            fn key_moments<E: Element>(
                head: KeyHead<'_>,
                x: &[u8],
                out: Moments<'_>,
                scratch: &mut [f32],
            ) {
                loops::key_moments::<$isa, E>(head, x, out, scratch);
            }

            $(#[target_feature(enable = $features)])?
            fn coefficients_decode(lanes: &mut Lanes<'_>, table: Table, out: &mut [i16]) -> bool {
                loops::coefficients_decode::<$isa>(lanes, table, out)
            }
            $(#[target_feature(enable = $features)])?
            fn coefficients_rows<E: Element>(
                head: KeyHead<'_>,
                x: Coefficients<'_>,
                out: &mut [u8],
                scratch: &mut [f32],
            ) {
                loops::coefficients_rows::<$isa, E>(head, x, out, scratch);
            }
            $(#[target_feature(enable = $features)])?
            fn synthesis_rows<E: Element>(
                head: KeyHead<'_>,
                x: Synthesis<'_>,
                out: &mut [u8],
                sums: &mut [i32],
                scratch: &mut [f32],
            ) {
                loops::synthesis_rows::<$isa, E>(head, x, out, sums, scratch);
            }
            $(#[target_feature(enable = $features)])?
            fn analysis(
                columns: &[f32],
                rows: &[i16],
                scales: &[f32],
                tokens: usize,
                out: &mut [f32],
            ) {
                loops::analysis::<$isa>(columns, rows, scales, tokens, out);
            }
            $(#[target_feature(enable = $features)])?
            fn rows_load<E: Element>(head: KeyHead<'_>, x: &[u8], out: &mut [f32]) {
                loops::rows_load::<$isa, E>(head, x, out);
            }

            #[allow(unused_unsafe, reason = "the portable table has no features")]
            Kernels {
                name: $name,
                // SAFETY: `paths` hands this table out only where the machine has its features.
                affine_encode: |p, x, out| unsafe { by_params!(p, affine_encode(x, out)) },
                // SAFETY: `paths` hands this table out only where the machine has its features.
                affine_decode: |p, x, out, past_cache| unsafe {
                    by_params!(p, affine_decode(x, out, past_cache))
                },
                // SAFETY: `paths` hands this table out only where the machine has its features.
                split: |width, x, low, top| unsafe { split(width, x, low, top) },
                // SAFETY: `paths` hands this table out only where the machine has its features.
                merge: |width, low, top, out| unsafe { merge(width, low, top, out) },
                // SAFETY: `paths` hands this table out only where the machine has its features.
                turn: |frequencies, position, out| unsafe { turn(frequencies, position, out) },
                // SAFETY: `paths` hands this table out only where the machine has its features.
                keys_encode: |head, x, out, scratch| unsafe {
                    by_dtype!(head.dtype, keys_encode(head, x, out, scratch))
                },
                // SAFETY: `paths` hands this table out only where the machine has its features.
                keys_decode: |head, x, out, scratch| unsafe {
                    by_dtype!(head.dtype, keys_decode(head, x, out, scratch))
                },
                // SAFETY: `paths` hands this table out only where the machine has its features.
                sums: |dtype, x, y| unsafe { by_dtype!(dtype, sums(x, y)) },
                // SAFETY: `paths` hands this table out only where the machine has its features.
                key_moments: |head, x, out, scratch| unsafe {
                    by_dtype!(head.dtype, key_moments(head, x, out, scratch))
                },
                // SAFETY: `paths` hands this table out only where the machine has its features.
                coefficients_decode: |lanes, table, out| unsafe {
                    coefficients_decode(lanes, table, out)
                },
                // SAFETY: `paths` hands this table out only where the machine has its features.
                coefficients_rows: |head, x, out, scratch| unsafe {
                    by_dtype!(head.dtype, coefficients_rows(head, x, out, scratch))
                },
                // SAFETY: `paths` hands this table out only where the machine has its features.
                synthesis_rows: |head, x, out, sums, scratch| unsafe {
                    by_dtype!(head.dtype, synthesis_rows(head, x, out, sums, scratch))
                },
                // SAFETY: `paths` hands this table out only where the machine has its features.
                analysis: |columns, rows, scales, tokens, out| unsafe {
                    analysis(columns, rows, scales, tokens, out)
                },
                // SAFETY: `paths` hands this table out only where the machine has its features.
                rows_load: |head, x, out| unsafe { by_dtype!(head.dtype, rows_load(head, x, out)) },
            }
        };
    };
}
use by_dtype;
use by_params;
use compiled_for;

/// The paths that this machine has, slowest first.
pub(crate) fn paths() -> impl Iterator<Item = &'static Kernels> {
    let mut paths = [None; 4];
    paths[0] = Some(&reference::KERNELS);
    paths[1] = Some(&portable::PORTABLE);
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_avx2() {
            paths[2] = Some(&x86::AVX2);
        }
        if x86::has_avx512() {
            paths[3] = Some(&x86::AVX512);
        }
    }
    #[cfg(target_arch = "aarch64")]
    if neon::has_neon() {
        paths[2] = Some(&neon::NEON);
    }
    paths.into_iter().flatten()
}

/// The path that `KVCAP_CPU` names, if the machine has it, or else the fastest.
pub(crate) fn selected() -> &'static Kernels {
    static SELECTED: OnceLock<&Kernels> = OnceLock::new();
    SELECTED.get_or_init(|| {
        let named = std::env::var("KVCAP_CPU").ok();
        paths()
            .find(|path| named.as_deref() == Some(path.name))
            .or_else(|| paths().last())
            .unwrap_or(&reference::KERNELS)
    })
}
