//! tc: frames of one length, whose encoder is free, so that what is written here is decoded alone.

use kvcap_codecs::{Codec, Dtype, Pairing, Scratch};

use super::{
    Subject, Vector,
    bytes::Bytes,
    lossy::{frequencies, smooth},
};

const fn codec(rate: u16) -> Codec {
    Codec::Transform { transform: 0, rate }
}

/// `plain`, what the oracle makes of it, and what comes back.
pub(super) fn free(subject: &Subject, name: &str, plain: &[u8]) -> Vector {
    let vector = subject.encoding(name, Bytes::full(plain));
    let encoded = subject
        .coding()
        .encode(plain, &mut Scratch::with_path("reference").unwrap());
    Vector {
        encoded: Some(Bytes::full(&encoded.unwrap())),
        free: true,
        ..vector
    }
}

fn accepted() -> Vec<Vector> {
    let mut all = Vec::new();
    for dtype in [Dtype::F16, Dtype::Bf16, Dtype::F32] {
        let kind = dtype.name();
        // two frames, an odd row, 44 tokens after whole lanes
        let shape = [2, 300, 11];
        for rate in [40, 192, 640, 1024] {
            let subject = Subject::rows(dtype, codec(rate), shape);
            let name = format!("tc_{kind}_r{rate}_frames");
            all.push(free(&subject, &name, &smooth(dtype, shape)));
        }
        for (pairing, what) in [
            (Pairing::Half, "half"),
            (Pairing::Interleaved, "interleaved"),
        ] {
            let shape = [2, 70, 9];
            let subject = Subject::rows(dtype, codec(300), shape);
            let subject = subject.turned(pairing, frequencies(4), 1_000_000);
            all.push(free(
                &subject,
                &format!("tc_{kind}_{what}"),
                &smooth(dtype, shape),
            ));
        }
    }
    let shape = [1, 256, 64];
    let subject = Subject::rows(Dtype::F16, codec(192), shape);
    all.push(free(&subject, "tc_whole_frame", &smooth(Dtype::F16, shape)));
    all.push(free(&subject, "tc_zeros", &[0; 256 * 64 * 2]));
    let mut outliers = smooth(Dtype::F16, shape);
    for at in [4001, 9999, 20_001] {
        outliers[at] = 0x7b;
    }
    all.push(free(&subject, "tc_escapes", &outliers));
    let one = Subject::rows(Dtype::F16, codec(1024), [1, 1, 3]);
    all.push(free(&one, "tc_one_row", &[0, 0x3c, 0, 0x40, 0, 0xc4]));
    all
}

/// A frame of 33 tokens, of 4 channels: the header is followed by 3 bytes of tables.
fn refused() -> Vec<Vector> {
    let shape = [1, 33, 4];
    let subject = Subject::rows(Dtype::F16, codec(1024), shape);
    let mut scratch = Scratch::with_path("reference").unwrap();
    let coding = subject.coding();
    let good = coding
        .encode(&smooth(Dtype::F16, shape), &mut scratch)
        .unwrap();
    let stored = 139 + usize::from(good[3]).div_ceil(2);
    let words = stored + 8 * usize::from(good[2]) + 2 * usize::from(good[4]);
    assert_eq!(good[2], 1, "a row is stored");
    let case = |name: &str, code, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        subject.not_decoded(&format!("tc_{name}"), &bytes, code)
    };
    let step = |name: &str, step: i16| {
        case(name, 904, &|bytes| {
            bytes[..2].copy_from_slice(&step.to_le_bytes())
        })
    };
    vec![
        case("short", 903, &|bytes| bytes.truncate(good.len() - 1)),
        case("long", 903, &|bytes| bytes.push(0)),
        step("step_too_small", -3201),
        step("step_too_large", 4097),
        case("stored_rows_over", 904, &|bytes| bytes[2] = 17),
        case("offset_bits_over", 904, &|bytes| bytes[3] = 17),
        case("escapes_over", 904, &|bytes| bytes[4] = 129),
        case("escapes_past_the_frame", 904, &|bytes| {
            bytes[2..5].copy_from_slice(&[16, 16, 68])
        }),
        case("escape_too_many", 902, &|bytes| bytes[4] += 1),
        case("state_small", 902, &|bytes| bytes[10..12].fill(0)),
        case("state_other", 902, &|bytes| bytes[11] ^= 0x40),
        case("table_unknown", 902, &|bytes| bytes[136] |= 63),
        case("stored_infinite", 905, &|bytes| bytes[stored + 1] = 0x7c),
        case("stored_nan", 905, &|bytes| bytes[stored + 7] = 0xfe),
        case("words_gone", 902, &|bytes| bytes[words..].fill(0)),
        case("byte_after_the_words", 902, &|bytes| {
            *bytes.last_mut().unwrap() = 1
        }),
    ]
}

pub(super) fn vectors() -> Vec<Vector> {
    [accepted(), refused()].concat()
}
