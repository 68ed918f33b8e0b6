//! Affine codecs and q4c.

use kvcap_codecs::{Codec, Dtype, Pairing, ParamDtype};

use super::{
    PARAMS, Subject, Vector,
    bytes::Bytes,
    edges::{self, DIM},
    exact::SCATTER,
};

/// Bits of the exponent: patterns below them are finite.
fn finite(dtype: Dtype) -> u16 {
    if dtype == Dtype::Bf16 { 0x7F80 } else { 0x7C00 }
}

fn affine() -> impl Iterator<Item = (Codec, ParamDtype)> {
    PARAMS.into_iter().flat_map(|params| {
        [3, 4, 5, 6, 8].into_iter().flat_map(move |bits| {
            [32, 64, 128].map(move |group| (Codec::Affine { bits, group }, params))
        })
    })
}

fn affine_edges(codec: Codec, params: ParamDtype) -> Vector {
    let dtype = params.dtype();
    let rows = edges::rows(params);
    let plain = edges::elements(dtype, rows.concat());
    let subject = Subject::rows(dtype, codec, [2, rows.len() as u64 / 2, DIM as u64]);
    let name = format!("{}_{}_edges", codec.name(), dtype.name());
    subject.encoding(&name, Bytes::full(&plain))
}

/// Every finite pattern, in order (narrow groups), and scattered (wide ones).
fn affine_patterns(codec: Codec, dtype: Dtype) -> [Vector; 2] {
    // the range of two bf16 of the largest exponents and opposite signs overflows binary32
    let wide = if dtype == Dtype::Bf16 { 0x7E80 } else { 0x7C00 };
    [("in_order", 1, finite(dtype)), ("scattered", SCATTER, wide)].map(|(what, step, below)| {
        let tokens = u64::from(below) * 2 / 256;
        let name = format!("{}_{}_{what}", codec.name(), dtype.name());
        Subject::rows(dtype, codec, [1, tokens, 256])
            .encoding(&name, Bytes::halves(step, 65_536, below))
    })
}

/// Every finite pattern as a scale, and in another order as a bias, under codes of every value.
fn every_scale(bits: u8, dtype: Dtype) -> Vector {
    let codec = Codec::Affine { bits, group: 32 };
    let below = finite(dtype);
    let groups = usize::from(below) * 2;
    let tokens = 256;
    let dim = groups as u64 * 32 / tokens;
    let codes = Bytes::halves(SCATTER, groups * 2 * usize::from(bits), 0x8000);
    let encoded = Bytes::Concat(vec![
        codes,
        Bytes::halves(1, 65_536, below),
        Bytes::halves(SCATTER, 65_536, below),
    ]);
    let name = format!("q{bits}_g32_{}_every_scale_and_bias", dtype.name());
    Subject::rows(dtype, codec, [1, tokens, dim]).decoding(&name, encoded)
}

/// Frequencies whose bits follow from division alone.
pub(super) fn frequencies(pairs: u32) -> Vec<f64> {
    (0..pairs).map(|n| 1.0 / f64::from(1 + 3 * n * n)).collect()
}

/// Channels with offsets of their own, and noise.
pub(super) fn smooth(dtype: Dtype, [heads, tokens, dim]: [u64; 3]) -> Vec<u8> {
    let values = (0..heads * tokens * dim).map(|at| {
        let (row, channel) = ((at / dim) as u16, (at % dim) as u16);
        let noise = f32::from(row.wrapping_mul(SCATTER) ^ channel.wrapping_mul(25_173)) / 65_536.0;
        f32::from(channel % 7) - 3.0 + noise
    });
    edges::elements(dtype, values)
}

/// Cases of edges, one a channel, over a whole and a partial group of tokens.
fn channels(params: ParamDtype) -> Vector {
    let dtype = params.dtype();
    // q4c's scales and biases are f16 whatever the element type
    let rows: Vec<Vec<f32>> = edges::rows(params)
        .into_iter()
        .filter(|row| row.iter().all(|x| x.abs() < 65_504.0))
        .collect();
    let (tokens, dim) = (100, rows.len());
    let values = (0..tokens).flat_map(|token| rows.iter().map(move |row| row[token]));
    let plain = edges::elements(dtype, values.collect::<Vec<_>>());
    let name = format!("q4k_{}_edges", dtype.name());
    Subject::rows(dtype, Codec::KeyChannel, [1, tokens as u64, dim as u64])
        .turned(Pairing::Half, Vec::new(), 0)
        .encoding(&name, Bytes::full(&plain))
}

fn turned(params: ParamDtype, pairing: Pairing) -> [Vector; 2] {
    let dtype = params.dtype();
    let kind = if pairing == Pairing::Half {
        "half"
    } else {
        "interleaved"
    };
    let name = |what: &str| format!("q4k_{}_{kind}_{what}", dtype.name());
    // two frames, a partial group, an odd row, elements that are not turned
    let shape = [1, 330, 11];
    let frames =
        Subject::rows(dtype, Codec::KeyChannel, shape).turned(pairing, frequencies(4), 1_000_000);
    let plain = smooth(dtype, shape);
    let listed = [1, 70, 8];
    let positions = (0..70).map(|n| match n % 4 {
        0 => n,
        1 => -n,
        2 => 1 << 29,
        _ => 131_071 + n,
    });
    let order = Subject::rows(dtype, Codec::KeyChannel, listed)
        .turned(pairing, frequencies(4), 0)
        .listed(positions.collect());
    [
        frames.encoding(&name("frames"), Bytes::full(&plain)),
        order.encoding(&name("listed"), Bytes::full(&smooth(dtype, listed))),
    ]
}

/// Every pattern that stays within f16 when it is turned.
fn keys_patterns(dtype: Dtype) -> [Vector; 2] {
    let below = if dtype == Dtype::Bf16 { 0x4700 } else { 0x7800 };
    [("in_order", 1), ("scattered", SCATTER)].map(|(what, step)| {
        let name = format!("q4k_{}_{what}", dtype.name());
        Subject::rows(
            dtype,
            Codec::KeyChannel,
            [1, u64::from(below) * 2 / 128, 128],
        )
        .turned(Pairing::Half, frequencies(64), -100)
        .encoding(&name, Bytes::halves(step, 65_536, below))
    })
}

pub(super) fn vectors() -> Vec<Vector> {
    let mut all: Vec<Vector> = affine()
        .map(|(codec, params)| affine_edges(codec, params))
        .collect();
    for (codec, params) in affine().filter(|(_, params)| *params != ParamDtype::F32) {
        all.extend(affine_patterns(codec, params.dtype()));
    }
    for bits in [3, 4, 5, 6, 8] {
        all.extend([Dtype::F16, Dtype::Bf16].map(|dtype| every_scale(bits, dtype)));
    }
    for params in PARAMS {
        all.push(channels(params));
        all.extend(
            [Pairing::Half, Pairing::Interleaved]
                .into_iter()
                .flat_map(|p| turned(params, p)),
        );
    }
    all.extend(
        [Dtype::F16, Dtype::Bf16]
            .into_iter()
            .flat_map(keys_patterns),
    );
    all
}
