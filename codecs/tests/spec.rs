//! The worked examples of `spec/codecs-v1.md` are what the code gives. `KVCAP_BLESS=1` rewrites them.
#![allow(clippy::unwrap_used)]

#[path = "../../tests/testkit/src/profile.rs"]
#[allow(unreachable_pub, reason = "of a crate that shares it")]
mod made_profile;

use std::fmt::Write as _;

use kvcap_codecs::{
    BankShape, Codec, Dtype, FrameContext, FrameQuality, Measurement, Pairing, Positions, Profile,
    Rotation, Scratch,
};
use made_profile::{Entry, made};

const SPEC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/codecs-v1.md");

fn hex(text: &mut String, label: &str, bytes: &[u8]) {
    for (at, line) in bytes.chunks(24).enumerate() {
        let digits: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let label = if at == 0 { label } else { "" };
        writeln!(text, "{label:<8} {}", digits.join(" ")).unwrap();
    }
}

fn example(codec: &str, shape: &BankShape, values: &[f32], cuts: [usize; 2]) -> String {
    let codec = Codec::from_name(codec).unwrap();
    let rotation = Rotation {
        pairing: Pairing::Half,
        inv_freq: &[1.0, 0.5],
    };
    let mut ctx = FrameContext::new(shape, Dtype::F16, 0).unwrap();
    if codec == Codec::KeyChannel {
        ctx = ctx.with_rotation(rotation, Positions::From(3));
    }
    let plain: Vec<u8> = values
        .iter()
        .flat_map(|x| half::f16::from_f32_const(*x).to_le_bytes())
        .collect();
    let mut scratch = Scratch::new();
    let (mut encoded, mut decoded) = (Vec::new(), vec![0; plain.len()]);
    codec
        .encode_frame(&ctx, &plain, &mut encoded, &mut scratch)
        .unwrap();
    codec
        .decode_frame(&ctx, &encoded, &mut decoded, &mut scratch)
        .unwrap();
    let mut measurement = Measurement::new();
    measurement.add(&FrameQuality::measure(&ctx, &plain, &decoded, &mut scratch).unwrap());
    let mut text = String::from("```\n");
    hex(&mut text, "plain", &plain);
    hex(&mut text, "codes", &encoded[..cuts[0]]);
    hex(&mut text, "scales", &encoded[cuts[0]..cuts[1]]);
    hex(&mut text, "biases", &encoded[cuts[1]..]);
    hex(&mut text, "decoded", &decoded);
    hex(&mut text, "receipt", &measurement.finish().to_bytes());
    text.push_str("```\n");
    text
}

/// A frame of the codec of one length, field by field, and the profile that it is coded with.
fn transform(transform: u8) -> String {
    let mut text = String::from("```\n");
    let shape = BankShape::Tokens {
        heads: 1,
        tokens: 3,
        dim: 2,
    };
    let codec = Codec::Transform {
        transform,
        rate: 1024,
    };
    let mut ctx = FrameContext::new(&shape, Dtype::F16, 0).unwrap();
    let entry = Entry {
        shifts: vec![1, 0],
        ..Entry::new(0, 1, 1, 1, 2)
    };
    let file = made([7; 32], &[entry], &[]);
    let profile = Profile::parse(&file).unwrap();
    if transform > 0 {
        ctx = ctx.with_profile(profile.bank(0, 1).unwrap());
        hex(&mut text, "profile", &file);
    }
    let values = [8.0, 0.5, 1.0, -1.0, 1.5, -0.75];
    let plain: Vec<u8> = values
        .iter()
        .flat_map(|x| half::f16::from_f32_const(*x).to_le_bytes())
        .collect();
    let mut scratch = Scratch::new();
    let (mut encoded, mut decoded) = (Vec::new(), vec![0; plain.len()]);
    codec
        .encode_frame(&ctx, &plain, &mut encoded, &mut scratch)
        .unwrap();
    codec
        .decode_frame(&ctx, &encoded, &mut decoded, &mut scratch)
        .unwrap();
    let offsets = 138 + usize::from(encoded[3]).div_ceil(4);
    let stored = offsets + 4 * usize::from(encoded[2]);
    let words = stored + 2 * usize::from(encoded[4]);
    hex(&mut text, "plain", &plain);
    hex(&mut text, "header", &encoded[..8]);
    hex(&mut text, "states", &encoded[8..136]);
    hex(&mut text, "tables", &encoded[136..138]);
    hex(&mut text, "offsets", &encoded[138..offsets]);
    hex(&mut text, "stored", &encoded[offsets..stored]);
    hex(&mut text, "escapes", &encoded[stored..words]);
    hex(&mut text, "words", &encoded[words..]);
    hex(&mut text, "decoded", &decoded);
    text.push_str("```\n");
    text
}

#[test]
fn examples_are_fresh() {
    let row = |tokens, dim| BankShape::Tokens {
        heads: 1,
        tokens,
        dim,
    };
    let mut values = vec![-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0];
    values.resize(32, 0.25);
    let affine = example("q4_g32", &row(1, 32), &values, [16, 18]);
    let keys = [1.0, 2.0, 3.0, 4.0, 2.0, 0.0, -1.0, 0.5];
    let q4c = example("q4c", &row(2, 4), &keys, [4, 12]);
    let mut spec = std::fs::read_to_string(SPEC).unwrap();
    let mut fresh = true;
    for (name, text) in [
        ("affine", affine),
        ("q4c", q4c),
        ("tc", transform(0)),
        ("profile", transform(1)),
    ] {
        let marker = format!("<!-- example: {name} -->\n");
        let start = spec.find(&marker).unwrap() + marker.len();
        let end = start + spec[start..].find("\n#").unwrap();
        let expected = format!("\n{text}");
        if spec[start..end] != expected {
            fresh = false;
            spec.replace_range(start..end, &expected);
        }
    }
    if std::env::var_os("KVCAP_BLESS").is_some() {
        std::fs::write(SPEC, spec).unwrap();
    } else {
        assert!(fresh, "examples are stale: run with KVCAP_BLESS=1");
    }
}
