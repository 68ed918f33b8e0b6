//! Numbers as keys and values have them, the same in every run.

use kvcap_codecs::Dtype;

/// Normal deviates, drawn from 65,536 that were made once: as fast as memory.
pub struct Normal {
    table: Vec<f64>,
    random: Random,
    /// Random bits that are left.
    bits: u64,
}

struct Random(u64);

impl Random {
    /// xorshift64*: any seed but 0.
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// In (0, 1].
    fn unit(&mut self) -> f64 {
        let high = u32::try_from(self.next() >> 32).unwrap_or(0);
        (f64::from(high) + 1.0) / 4_294_967_296.0
    }
}

impl Default for Normal {
    fn default() -> Self {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        // Box and Muller
        let mut deviate = || {
            let radius = (-2.0 * random.unit().ln()).sqrt();
            radius * (std::f64::consts::TAU * random.unit()).cos()
        };
        Self {
            table: (0..1 << 16).map(|_| deviate()).collect(),
            random,
            bits: 0,
        }
    }
}

impl Normal {
    /// The next deviate.
    pub fn deviate(&mut self) -> f64 {
        self.bits >>= 16;
        if self.bits == 0 {
            self.bits = self.random.next() | 1 << 63;
        }
        let at = usize::try_from(self.bits & 0xFFFF).unwrap_or(0);
        self.table.get(at).copied().unwrap_or_default()
    }
}

/// Appends a number as an element.
pub fn push(dtype: Dtype, number: f64, out: &mut Vec<u8>) {
    match dtype {
        Dtype::F16 => out.extend_from_slice(&half::f16::from_f64(number).to_le_bytes()),
        Dtype::Bf16 => out.extend_from_slice(&half::bf16::from_f64(number).to_le_bytes()),
        _ => out.extend_from_slice(&narrow(number).to_le_bytes()),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding is what is wanted"
)]
const fn narrow(number: f64) -> f32 {
    number as f32
}
