//! The canonical bytes of values (model-id-v1 §2): deterministic CBOR in which every number is the 8 bytes of
//! its binary64.

/// What canonical bytes are appended to: a buffer, or a hasher that keeps none of them.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Sink for blake3::Hasher {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

/// Appends the head of a CBOR array.
pub(crate) fn array(out: &mut impl Sink, len: usize) {
    head(out, 0x80, len);
}

/// Appends a CBOR text string.
pub(crate) fn text(out: &mut impl Sink, value: &str) {
    head(out, 0x60, value.len());
    out.put(value.as_bytes());
}

/// Appends a CBOR byte string.
pub(crate) fn bytes(out: &mut impl Sink, value: &[u8]) {
    head(out, 0x40, value.len());
    out.put(value);
}

/// The one NaN. A platform's own, and what a NaN becomes when it is widened, may have other bits.
const NAN: u64 = 0x7ff8_0000_0000_0000;

/// Appends a number: the bytes of its binary64.
pub(crate) fn number(out: &mut impl Sink, value: f64) {
    let bits = if value.is_nan() { NAN } else { value.to_bits() };
    bytes(out, &bits.to_be_bytes());
}

/// Appends a CBOR unsigned integer.
pub(crate) fn uint(out: &mut impl Sink, value: u64) {
    shortest(out, 0x00, value);
}

pub(crate) fn head(out: &mut impl Sink, major: u8, len: usize) {
    // A length in memory always fits in 64 bits.
    shortest(out, major, u64::try_from(len).unwrap_or(u64::MAX));
}

fn shortest(out: &mut impl Sink, major: u8, value: u64) {
    if let Ok(small) = u8::try_from(value) {
        if small < 24 {
            out.put(&[major | small]);
        } else {
            out.put(&[major | 24, small]);
        }
    } else if let Ok(value) = u16::try_from(value) {
        out.put(&[major | 25]);
        out.put(&value.to_be_bytes());
    } else if let Ok(value) = u32::try_from(value) {
        out.put(&[major | 26]);
        out.put(&value.to_be_bytes());
    } else {
        out.put(&[major | 27]);
        out.put(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_one_form() {
        for (value, bits) in [
            (f64::NAN, "7ff8000000000000"),
            (-f64::NAN, "7ff8000000000000"),
            (f64::from(f32::from_bits(0xffc0_0001)), "7ff8000000000000"),
            (-0.0, "8000000000000000"),
            (1e-5, "3ee4f8b588e368f1"),
        ] {
            let mut out = Vec::new();
            number(&mut out, value);
            let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, format!("48{bits}"));
        }
    }
}
