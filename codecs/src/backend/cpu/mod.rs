//! Vector paths, chosen at run time.
//!
//! This is the one place of the workspace with `unsafe`: calls of functions and intrinsics that are
//! compiled for an instruction set, made only after the machine was asked whether it has it. No
//! pointer is made: vectors are copied from and to arrays of their size.

#![allow(
    unsafe_code,
    clippy::inline_always,
    clippy::missing_transmute_annotations,
    reason = "calls of #[target_feature] functions after detection"
)]

mod isa;
mod kernels;
mod portable;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

use crate::{backend::Kernels, reference};

/// A table of [`Kernels`] whose functions are [`kernels`] compiled with `$features`.
///
/// The table must be reachable only where the machine has these features.
macro_rules! compiled_for {
    ($table:ident, $name:literal, $isa:ty, $features:literal) => {
        pub(super) static $table: $crate::backend::Kernels = {
            use $crate::{
                AffineParams, Dtype,
                backend::{KeyHead, Kernels, Moments, Sections, SectionsMut, Sums, cpu::kernels},
            };
            compiled_for!(@table $name, $features,
                affine_encode => affine_encode::<$isa>(p: AffineParams, x: &[u8], out: SectionsMut<'_>) -> bool;
                affine_decode => affine_decode::<$isa>(p: AffineParams, x: Sections<'_>, out: &mut [u8]) -> bool;
                split => split(width: usize, x: &[u8], low: &mut [u8], top: &mut [u8]) -> ();
                merge => merge(width: usize, low: &[u8], top: &[u8], out: &mut [u8]) -> ();
                turn => turn(f: &[f64], position: f64, out: &mut [f32]) -> ();
                keys_encode => keys_encode::<$isa>(h: KeyHead<'_>, x: &[u8], out: SectionsMut<'_>, s: &mut [f32]) -> bool;
                keys_decode => keys_decode::<$isa>(h: KeyHead<'_>, x: Sections<'_>, out: &mut [u8], s: &mut [f32]) -> bool;
                sums => sums::<$isa>(t: Dtype, x: &[u8], y: &[u8]) -> Sums;
                key_moments => key_moments::<$isa>(h: KeyHead<'_>, x: &[u8], out: Moments<'_>, s: &mut [f32]) -> ();
            )
        };
    };
    (@table $name:literal, $features:literal,
        $($field:ident => $kernel:ident $(::<$isa:ty>)? ($($arg:ident: $type:ty),*) -> $result:ty;)*
    ) => {
        Kernels {
            name: $name,
            $($field: {
                #[target_feature(enable = $features)]
                fn compiled($($arg: $type),*) -> $result {
                    kernels::$kernel $(::<$isa>)? ($($arg),*)
                }
                // SAFETY: `paths` hands this table out only after detecting `$features`.
                |$($arg),*| unsafe { compiled($($arg),*) }
            },)*
        }
    };
}
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
