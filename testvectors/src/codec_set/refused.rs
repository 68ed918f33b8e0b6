//! What no encoder expresses, and what no decoder accepts: each with its code.

use kvcap_codecs::{Codec, Dtype, Padding, Pairing};

use super::{Subject, Vector, edges::elements, lossy::frequencies};
use crate::decode::pack;

const Q4: Codec = Codec::Affine { bits: 4, group: 32 };

fn f16(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    elements(Dtype::F16, values)
}

/// 64 elements with these bits at element 40.
fn with(dtype: Dtype, bits: &[u8]) -> Vec<u8> {
    let mut plain = elements(dtype, (0_u8..64).map(f32::from));
    plain[40 * bits.len()..41 * bits.len()].copy_from_slice(bits);
    plain
}

fn values() -> Vec<Vector> {
    let mut all = Vec::new();
    for (dtype, what, bits) in [
        (Dtype::F16, "infinite", &[0x00, 0x7C][..]),
        (Dtype::F16, "minus_infinite", &[0x00, 0xFC]),
        (Dtype::F16, "nan", &[0x01, 0x7E]),
        (Dtype::F16, "signalling_nan", &[0x01, 0x7C]),
        (Dtype::Bf16, "infinite", &[0x80, 0x7F]),
        (Dtype::Bf16, "nan", &[0x81, 0xFF]),
        (Dtype::F32, "infinite", &[0, 0, 0x80, 0x7F]),
        (Dtype::F32, "nan", &[1, 0, 0x80, 0x7F]),
    ] {
        for (codec, what) in [
            (Q4, format!("q4_{what}")),
            (Codec::KeyChannel, format!("q4k_{what}")),
        ] {
            let mut subject = Subject::rows(dtype, codec, [1, 2, 32]);
            if codec == Codec::KeyChannel {
                subject = subject.turned(Pairing::Half, frequencies(8), 5);
            }
            let name = format!("{what}_{}", dtype.name());
            all.push(subject.not_encoded(&name, &with(dtype, bits), 905));
        }
    }
    let wide = elements(
        Dtype::F32,
        (0_u8..32).map(|n| if n < 16 { f32::MAX } else { -f32::MAX }),
    );
    all.push(Subject::rows(Dtype::F32, Q4, [1, 1, 32]).not_encoded(
        "q4_range_overflows",
        &wide,
        905,
    ));
    let large = elements(Dtype::F32, [65_520.0; 4]);
    all.push(keys(Dtype::F32, [1, 1, 4]).not_encoded("q4k_bias_over_f16", &large, 905));
    all
}

fn keys(dtype: Dtype, extent: [u64; 3]) -> Subject {
    Subject::rows(dtype, Codec::KeyChannel, extent).turned(Pairing::Half, frequencies(1), 0)
}

/// One row of 33 elements in groups of 32: the second group holds one.
fn affine() -> Vec<Vector> {
    let subject = Subject::rows(Dtype::F16, Q4, [1, 1, 33]);
    let good = [
        vec![0x21; 16],
        vec![1],
        vec![0; 15],
        f16([0.5, 1.0]),
        f16([-1.0, 2.0]),
    ]
    .concat();
    let case = |name: &str, code, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        subject.not_decoded(name, &bytes, code)
    };
    vec![
        case("q4_short", 903, &|bytes| bytes.truncate(39)),
        case("q4_long", 903, &|bytes| bytes.push(0)),
        case("q4_empty", 903, &Vec::clear),
        case("q4_code_after_the_last", 902, &|bytes| bytes[16] = 0x11),
        case("q4_last_code_not_zero", 902, &|bytes| bytes[31] = 0x10),
        case("q4_scale_infinite", 905, &|bytes| bytes[33] = 0x7C),
        case("q4_scale_nan", 905, &|bytes| bytes[35] = 0x7E),
        case("q4_bias_infinite", 905, &|bytes| bytes[37] = 0xFC),
        case("q4_bias_nan", 905, &|bytes| bytes[39] = 0xFF),
    ]
}

/// One row of five elements, 3 bytes of codes.
fn q4c() -> Vec<Vector> {
    let subject = keys(Dtype::F16, [1, 1, 5]);
    let good = [vec![0x21, 0x43, 0x05], f16([0.5; 5]), f16([-1.0; 5])].concat();
    let case = |name: &str, code, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        subject.not_decoded(name, &bytes, code)
    };
    let turned = |name: &str, code, frequencies: Vec<f64>, start| {
        let subject = Subject::rows(Dtype::F16, Codec::KeyChannel, [1, 1, 5]);
        subject
            .turned(Pairing::Half, frequencies, start)
            .not_decoded(name, &good, code)
    };
    let two =
        Subject::rows(Dtype::F16, Codec::KeyChannel, [1, 2, 5]).turned(Pairing::Half, vec![1.0], 0);
    let rows = [[0x21, 0x43, 0x05].repeat(2), f16([0.5; 5]), f16([-1.0; 5])].concat();
    vec![
        case("q4k_short", 903, &|bytes| bytes.truncate(22)),
        case("q4k_long", 903, &|bytes| bytes.push(0)),
        case("q4k_odd_row", 902, &|bytes| bytes[2] = 0x15),
        case("q4k_scale_nan", 905, &|bytes| bytes[4] = 0x7E),
        case("q4k_bias_infinite", 905, &|bytes| bytes[22] = 0x7C),
        turned("q4k_three_pairs_of_five", 903, vec![1.0; 3], 0),
        turned("q4k_frequency_infinite", 905, vec![f64::INFINITY], 0),
        turned("q4k_frequency_nan", 905, vec![f64::NAN], 0),
        turned("q4k_angle_over", 904, vec![1.0], (1 << 30) + 1),
        turned("q4k_position_over", 903, vec![0.0], (1 << 53) + 1),
        two.listed(vec![7])
            .not_decoded("q4k_row_without_position", &rows, 903),
    ]
}

/// Two elements of f16: a stored frame has five bytes.
fn planes() -> Vec<Vector> {
    let subject = Subject::rows(Dtype::F16, Codec::Planes16, [1, 1, 2]);
    let stream = |frame: &[u8]| {
        pack(
            frame.to_vec(),
            &(frame.len() as u32).to_le_bytes(),
            Padding::Padme,
        )
    };
    let case = |name: &str, code, frame: &[u8]| subject.not_decoded(name, &stream(frame), code);
    let mut sum = stream(&[0, 1, 2, 3, 4]);
    sum.insert(5, 0);
    vec![
        case("planes16_mode", 902, &[2, 1, 2, 3, 4]),
        case("planes16_stored_short", 903, &[0, 1, 2, 3]),
        case("planes16_inside_a_plane", 902, &[1, 1]),
        case("planes16_longer_than_plain", 904, &[1, 1, 2, 3, 4]),
        case("planes16_empty_frame", 904, &[]),
        case("planes16_frame_over", 904, &[0, 1, 2, 3, 4, 5]),
        subject.not_decoded("planes16_length_of_the_stream", &sum, 903),
        subject.not_decoded("planes16_no_index", &[0, 0], 903),
    ]
}

pub(super) fn vectors() -> Vec<Vector> {
    [values(), affine(), q4c(), planes()].concat()
}
