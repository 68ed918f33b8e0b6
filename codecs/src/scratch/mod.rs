//! Buffers that are reused from frame to frame.

mod accelerator;

pub use accelerator::{Accelerator, accelerate, accelerator};

use std::fmt;

use crate::{
    coefficients::Buffers,
    kernels::{Kernels, cpu},
    stream::zstd_frame::Zstd,
};

/// Buffers and contexts of one worker. Nothing of one frame is visible in the next; after the first
/// frames of a size no call allocates.
pub struct Scratch {
    pub(crate) kernels: &'static Kernels,
    pub(crate) accelerator: Option<&'static dyn Accelerator>,
    pub(crate) zstd: Zstd,
    pub(crate) bytes: Vec<u8>,
    pub(crate) floats: Vec<f32>,
    pub(crate) table: Vec<f32>,
    pub(crate) positions: Vec<f64>,
    pub(crate) coefficients: Buffers,
}

impl Scratch {
    /// Buffers of a worker that uses the machine's best path, or the one that the environment
    /// variable `KVCAP_CPU` names, if the machine has it; and before it the process's accelerator,
    /// if one was chosen ([`crate::accelerate`]).
    #[must_use]
    pub fn new() -> Self {
        Self {
            accelerator: accelerator(),
            ..Self::with(cpu::selected())
        }
    }

    /// Buffers of a worker that uses the path `name`: `reference`, `portable`, `avx2`, `avx512` or
    /// `neon`, and no accelerator; `None` where this machine does not have it. Every path gives the
    /// same bits.
    #[must_use]
    pub fn with_path(name: &str) -> Option<Self> {
        cpu::paths().find(|path| path.name == name).map(Self::with)
    }

    /// The paths that this machine has, slowest first.
    #[must_use]
    pub fn paths() -> Vec<&'static str> {
        cpu::paths().map(|path| path.name).collect()
    }

    /// The path in use.
    #[must_use]
    pub const fn path(&self) -> &'static str {
        self.kernels.name
    }

    const fn with(kernels: &'static Kernels) -> Self {
        Self {
            kernels,
            accelerator: None,
            zstd: Zstd::new(),
            bytes: Vec::new(),
            floats: Vec::new(),
            table: Vec::new(),
            positions: Vec::new(),
            coefficients: Buffers::new(),
        }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch")
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

/// `len` elements of `buffer`, which grows to hold them, from the start of a cache line on: loads and
/// stores of whole vectors are then not cut in two, which makes codecs faster by up to a quarter, and as
/// fast wherever the allocator puts a buffer. The contents are unspecified.
pub fn aligned<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    const LINE: usize = 64;
    let spare = LINE / size_of::<T>().max(1);
    if buffer.len() < len + spare {
        buffer.resize(len + spare, T::default());
    }
    let start = buffer.as_ptr().align_offset(LINE).min(spare);
    &mut buffer[start..start + len]
}
