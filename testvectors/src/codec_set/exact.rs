//! Codecs that give every bit back: raw for each element type, planes.

use kvcap_codecs::{AffineParams, BankShape, Codec, Dtype, Padding};

use super::{
    PARAMS, Subject, Vector,
    bytes::Bytes,
    edges::{self, DIM},
};
use crate::decode::pack;

const ALL: u16 = 0x8000;
/// Scatters patterns: odd, so that each comes once.
pub(super) const SCATTER: u16 = 40_503;

fn dtypes() -> impl Iterator<Item = Dtype> {
    let triplets = PARAMS.into_iter().flat_map(|params| {
        [3, 4, 5, 6, 8].into_iter().flat_map(move |bits| {
            [32, 64, 128]
                .into_iter()
                .filter_map(move |group| AffineParams::new(bits, group, params))
        })
    });
    Dtype::plain().chain(triplets.map(Dtype::MlxAffine))
}

fn raw(dtype: Dtype) -> [Vector; 2] {
    let name = dtype.name();
    [
        (
            BankShape::Tokens {
                heads: 2,
                tokens: 3,
                dim: 128,
            },
            "rows",
        ),
        (BankShape::Whole { dims: vec![3, 128] }, "whole"),
    ]
    .map(|(shape, what)| {
        let len = shape.plain_len(dtype).unwrap() as usize;
        let plain = Bytes::halves(SCATTER, len / 2, ALL);
        Subject::new(dtype, Codec::Raw, shape).encoding(&format!("raw_{name}_{what}"), plain)
    })
}

/// All 65,536 patterns in one frame: by hand, its exponents as runs; and stored.
fn every_pattern(dtype: Dtype) -> [Vector; 2] {
    let subject = Subject::rows(dtype, Codec::Planes16, [1, 256, 256]);
    let low = |sign: u8| (0..128).map(|n| n << 1 | sign).collect::<Vec<u8>>();
    let mut zstd = vec![0x28, 0xB5, 0x2F, 0xFD, 0xA0, 0, 0, 1, 0];
    for run in 0..512_u32 {
        let header = 128 << 3 | 1 << 1 | u32::from(run == 511);
        zstd.extend_from_slice(&header.to_le_bytes()[..3]);
        zstd.push(run as u8);
    }
    let frame = 1 + 65_536 + zstd.len();
    let tail = pack(
        vec![0; frame],
        &(frame as u32).to_le_bytes(),
        Padding::Padme,
    )
    .split_off(frame);
    let half = |sign| Bytes::Repeat(Box::new(Bytes::full(&low(sign))), 256);
    let runs = Bytes::Concat(vec![
        Bytes::full(&[1]),
        half(0),
        half(1),
        Bytes::full(&[zstd, tail].concat()),
    ]);
    let frame = 1 + 131_072;
    let tail = pack(
        vec![0; frame],
        &(frame as u32).to_le_bytes(),
        Padding::Padme,
    )
    .split_off(frame);
    let plain = Bytes::halves(1, 65_536, ALL);
    let stored = Bytes::Concat(vec![Bytes::full(&[0]), plain.clone(), Bytes::full(&tail)]);
    let given = |what: &str, encoded| {
        let vector = subject.decoding(&format!("planes16_{}_{what}", dtype.name()), encoded);
        Vector {
            plain: Some(plain.clone()),
            decoded: None,
            free: true,
            ..vector
        }
    };
    [
        given("every_pattern", runs),
        given("every_pattern_stored", stored),
    ]
}

pub(super) fn vectors() -> Vec<Vector> {
    let mut all: Vec<Vector> = dtypes().flat_map(raw).collect();
    for dtype in [Dtype::F16, Dtype::Bf16] {
        all.extend(every_pattern(dtype));
    }
    for (dtype, codec) in [
        (Dtype::F16, Codec::Planes16),
        (Dtype::Bf16, Codec::Planes16),
        (Dtype::F32, Codec::Planes32),
    ] {
        let (code, kind) = (codec.name(), dtype.name());
        let params = kvcap_codecs::ParamDtype::from_dtype(dtype).unwrap();
        let rows = edges::rows(params);
        let plain = edges::elements(dtype, rows.concat());
        let tokens = rows.len() as u64;
        let edges = Subject::rows(dtype, codec, [1, tokens, DIM as u64]);
        all.push(edges.encoding(&format!("{code}_{kind}_edges"), Bytes::full(&plain)));
        // patterns that are not finite among them, in two frames
        let frames = Subject::rows(dtype, codec, [2, 300, 4]);
        let count = 2400 * if dtype == Dtype::F32 { 2 } else { 1 };
        let plain = Bytes::halves(SCATTER, count, ALL);
        all.push(frames.encoding(&format!("{code}_{kind}_frames"), plain));
        let whole = Subject::new(dtype, codec, BankShape::Whole { dims: vec![7, 13] });
        let plain = Bytes::halves(1, count / 2400 * 91, ALL);
        all.push(whole.encoding(&format!("{code}_{kind}_whole"), plain));
    }
    all
}
