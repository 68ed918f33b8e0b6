//! The lossy codecs of KV capsules on Metal, through MLX.
//!
//! The arithmetic is the format's own (`spec/codecs-v1.md` §6 and §7), written as MLX's eager binary32
//! primitives, so that a capsule sealed on a GPU has the same bytes as one sealed on any server. Of `tc` (§12) the CPU
//! decodes the coefficients, and MLX makes the rows of them: the same bits too. MLX's
//! `quantize` and `dequantize` are not used: their bits differ between its backends. `docs/explanation/mlx.md` says
//! what was executed where.
//!
//! [`choose`] runs a self-test against the CPU and gives an [`Accelerator`] that serves what passed. A
//! runtime that holds its cache in MLX's arrays uses `arrays`, and `blocks` for exact banks and paged caches, and never
//! copies to the host.
//!
//! MLX is part of this crate on Apple silicon, and on Linux where `linux/setup` turned it on; elsewhere
//! [`choose`] gives `None` and [`selftest`] says so.

#![forbid(unsafe_code)]

use kvcap_codecs::Accelerator;

mod report;

#[cfg(any(all(target_os = "macos", target_arch = "aarch64"), kvcap_mlx_linux))]
mod mlx;
#[cfg(any(all(target_os = "macos", target_arch = "aarch64"), kvcap_mlx_linux))]
pub use mlx::{Error, Mlx, arrays, blocks, vectors};

/// What a build without MLX has of it.
#[cfg(not(any(all(target_os = "macos", target_arch = "aarch64"), kvcap_mlx_linux)))]
mod mlx {
    pub(crate) fn tested() -> (
        Option<&'static dyn kvcap_codecs::Accelerator>,
        crate::Report,
    ) {
        (None, crate::Report::ABSENT)
    }
}

pub use report::{Case, Report};

/// MLX as this process's accelerator, for [`kvcap_codecs::accelerate`], and what its self-test found.
///
/// The test runs once a process. MLX serves only the codecs and element types that gave the CPU's
/// bits; `None` where there are none, or MLX is not in this build: the CPU then does everything.
#[must_use]
pub fn choose() -> (Option<&'static dyn Accelerator>, Report) {
    mlx::tested()
}

/// The self-test alone: every codec and element type against the CPU's plain loops, bit for bit.
#[must_use]
pub fn selftest() -> Report {
    choose().1
}
