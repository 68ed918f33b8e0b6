//! Entropy coding of quantized coefficients: frequencies, tables and lanes (codecs-v1 §12.3).
//!
//! Everything here is whole numbers, so that every machine finds the same.

mod cost;
mod frequencies;
mod lanes;
mod writer;

use std::ops::RangeInclusive;

pub(crate) use cost::{Costs, log2};
pub(crate) use lanes::{ESCAPE, LANES, Lanes, RENORM, SLOTS, Slots, Table, slots};
pub(crate) use writer::{symbols, write};

/// Buffers of a frame's coefficients.
pub(crate) struct Buffers {
    /// `[channel][token]`; while a frame is decoded of one head.
    pub(crate) quantized: Vec<i16>,
    /// Of each channel.
    pub(crate) tables: Vec<Table>,
    /// Of each channel, in eighths of a step.
    pub(crate) offsets: Vec<i16>,
    /// Mean and mean square about it of each channel that is encoded.
    pub(crate) moments: Vec<(f64, f64)>,
    pub(crate) words: Vec<u16>,
    /// Bits of an offset.
    pub(crate) offset_bits: u8,
    /// Logarithm to base 2 of each channel's width, in 1/256.
    pub(crate) widths: Vec<i32>,
    /// Largest magnitude of each component.
    pub(crate) largest: Vec<f64>,
    /// As [`Synthesis`](crate::kernels::Synthesis) has them.
    pub(crate) blocks: Vec<i32>,
    pub(crate) paired_offsets: Vec<i32>,
    pub(crate) sums: Vec<i32>,
}

impl Buffers {
    pub(crate) const fn new() -> Self {
        Self {
            quantized: Vec::new(),
            tables: Vec::new(),
            offsets: Vec::new(),
            moments: Vec::new(),
            words: Vec::new(),
            offset_bits: 0,
            widths: Vec::new(),
            largest: Vec::new(),
            blocks: Vec::new(),
            paired_offsets: Vec::new(),
            sums: Vec::new(),
        }
    }
}

/// An eighth of the step 2^(k/32), in which values are counted (codecs-v1 §12.4).
pub(crate) fn unit(k: i16) -> f32 {
    let power = i32::from(k.div_euclid(32)) - 3;
    let index = usize::try_from(k.rem_euclid(32)).unwrap_or(0);
    // A power of two within the normal numbers: k is at least −3200 and at most 4096.
    let scale = f32::from_bits(u32::try_from(power + 127).unwrap_or(0) << 23);
    f32::from_bits(STEPS[index]) * scale
}

/// The steps that a frame may have, by their k: those of a transform are whole, not eighths.
pub(crate) const fn steps(transform: u8) -> RangeInclusive<i16> {
    -3200..=if transform == 0 { 4096 } else { 4064 }
}

/// 2^(i/32) as binary32, by its bits.
const STEPS: [u32; 32] = [
    0x3f80_0000,
    0x3f82_cd87,
    0x3f85_aac3,
    0x3f88_980f,
    0x3f8b_95c2,
    0x3f8e_a43a,
    0x3f91_c3d3,
    0x3f94_f4f0,
    0x3f98_37f0,
    0x3f9b_8d3a,
    0x3f9e_f532,
    0x3fa2_7043,
    0x3fa5_fed7,
    0x3fa9_a15b,
    0x3fad_583f,
    0x3fb1_23f6,
    0x3fb5_04f3,
    0x3fb8_fbaf,
    0x3fbd_08a4,
    0x3fc1_2c4d,
    0x3fc5_672a,
    0x3fc9_b9be,
    0x3fce_248c,
    0x3fd2_a81e,
    0x3fd7_44fd,
    0x3fdb_fbb8,
    0x3fe0_ccdf,
    0x3fe5_b907,
    0x3fea_c0c7,
    0x3fef_e4ba,
    0x3ff5_257d,
    0x3ffa_83b3,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_powers_of_two_and_what_lies_between() {
        for k in steps(0) {
            let exact = (f64::from(k) / 32.0 - 3.0).exp2();
            assert!((f64::from(unit(k)) / exact - 1.0).abs() < 6e-8, "{k}");
        }
    }
}
