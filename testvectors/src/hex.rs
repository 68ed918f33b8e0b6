//! Bytes as lower-case hexadecimal text.

/// Bytes as lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of hexadecimal text.
#[must_use]
pub fn unhex<const N: usize>(text: &str) -> [u8; N] {
    unhex_any(text).try_into().unwrap()
}

/// Any number of bytes of hexadecimal text.
#[must_use]
pub fn unhex_any(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
