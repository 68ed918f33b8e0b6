//! Frames of `tc` that no encoder writes (codecs-v1 §12.2).
#![allow(clippy::cast_possible_truncation, reason = "a word is cut off a state")]

/// A frame of `tc` for 40 tokens of 128 components, without the zeros after its last word. Every other token is an
/// escape as large as they are, the others the symbol 0 of table 0.
#[must_use]
pub fn beyond_32_bits() -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(0_i16.to_le_bytes());
    frame.extend([0, 16]);
    frame.extend((20 * 128_u32).to_le_bytes());
    let start = frame.len();
    frame.extend([0; 128]);
    frame.extend([0; 96]);
    for at in 0..128_i16 {
        frame.extend((at * 255 - 0x4000).to_le_bytes());
    }
    for at in 0..20 * 128 {
        frame.extend(if at % 3 == 0 { i16::MIN } else { i16::MAX }.to_le_bytes());
    }
    // words follow from running the coder backwards
    let mut states = [1_u32 << 16; 32];
    let mut words: Vec<u16> = Vec::new();
    for _ in 0..128 {
        for step in [8, 32] {
            for (lane, state) in states[..step].iter_mut().enumerate().rev() {
                let (frequency, first) = if lane % 2 == 0 { (1, 4095) } else { (4077, 9) };
                if *state >= frequency << 20 {
                    words.push((*state & 0xffff) as u16);
                    *state >>= 16;
                }
                *state = ((*state / frequency) << 12) + *state % frequency + first;
            }
        }
    }
    for (lane, state) in states.iter().enumerate() {
        frame[start + 4 * lane..][..4].copy_from_slice(&state.to_le_bytes());
    }
    frame.extend(words.iter().rev().flat_map(|word| word.to_le_bytes()));
    frame
}
