//! What malformed frames and streams get: one fault, one code.
#![allow(clippy::unwrap_used)]

use kvcap_codecs::{
    BankShape, Codec, Content, Dtype, FrameContext, Padding, Pairing, Place, Positions, Rotation,
    Scratch, packed,
};

const SHAPE: BankShape = BankShape::Tokens {
    heads: 1,
    tokens: 4,
    dim: 64,
};
const ELEMENTS: usize = 256;

/// The code that decoding gives.
fn code(codec: Codec, shape: &BankShape, dtype: Dtype, encoded: &[u8]) -> Option<u16> {
    let ctx = FrameContext::new(shape, dtype, 0)
        .unwrap()
        .with_rotation(NO_ROTATION, Positions::From(0));
    let mut out = vec![0; ctx.plain_len()];
    let mut codes = Scratch::paths().into_iter().map(|path| {
        let mut scratch = Scratch::with_path(path).unwrap();
        codec
            .decode_frame(&ctx, encoded, &mut out, &mut scratch)
            .err()
            .map(|error| error.code())
    });
    let first = codes.next().unwrap();
    assert!(codes.all(|code| code == first), "paths disagree");
    first
}

const NO_ROTATION: Rotation<'static> = Rotation {
    pairing: Pairing::Half,
    inv_freq: &[],
};

/// A planes16 frame around a zstd frame.
fn planes(zstd: &[u8]) -> Option<u16> {
    let mut encoded = vec![1];
    encoded.extend([0x5a; ELEMENTS]);
    encoded.extend_from_slice(zstd);
    code(Codec::Planes16, &SHAPE, Dtype::F16, &encoded)
}

/// Magic, descriptor, fields, and a block header for `size` bytes of type `kind`, the last.
fn zstd(descriptor: u8, fields: &[u8], kind: u32, size: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, descriptor];
    frame.extend_from_slice(fields);
    frame.extend_from_slice(&(size << 3 | kind << 1 | 1).to_le_bytes()[..3]);
    frame.extend_from_slice(body);
    frame
}

const SINGLE: u8 = 0x60; // single segment, content size in two bytes less 256
const RUN: u32 = 1;

fn good() -> Vec<u8> {
    zstd(SINGLE, &[0, 0], RUN, 256, &[7])
}

#[test]
fn a_well_formed_zstd_frame_is_accepted() {
    assert_eq!(planes(&good()), None);
    // With a window of 8 MiB, and a content size of four bytes.
    assert_eq!(
        planes(&zstd(0x80, &[13 << 3, 0, 1, 0, 0], RUN, 256, &[7])),
        None
    );
}

#[test]
fn zstd_ratio_bomb() {
    assert_eq!(planes(&zstd(SINGLE, &[0, 0], RUN, 257, &[7])), Some(904));
    assert_eq!(
        planes(&zstd(SINGLE, &[0, 0], RUN, 1 << 20, &[7])),
        Some(904)
    );
    // A compressed block that gives more than is declared: only zstd can tell.
    let plain: Vec<u8> = (0..1000_u32)
        .map(|x| u8::try_from(x * x % 7).unwrap())
        .collect();
    let mut bomb = vec![0; 2000];
    let len = zstd::zstd_safe::compress(&mut bomb[..], &plain, 19).unwrap();
    bomb.truncate(len);
    assert_eq!(bomb[4] & 0xe0, SINGLE);
    bomb[5..7].copy_from_slice(&[0, 0]);
    assert_eq!(planes(&bomb), Some(904));
}

#[test]
fn zstd_window_31() {
    assert_eq!(
        planes(&zstd(0x40, &[21 << 3, 0, 0], RUN, 256, &[7])),
        Some(904)
    );
    assert_eq!(
        planes(&zstd(0x40, &[13 << 3 | 1, 0, 0], RUN, 256, &[7])),
        Some(904)
    );
}

#[test]
fn zstd_two_frames() {
    assert_eq!(planes(&[good(), good()].concat()), Some(902));
}

#[test]
fn zstd_skippable_frame() {
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    assert_eq!(planes(&[&skippable[..], &good()].concat()), Some(902));
    assert_eq!(planes(&[&good(), &skippable[..]].concat()), Some(902));
}

#[test]
fn zstd_trailing() {
    assert_eq!(planes(&[&good()[..], &[0]].concat()), Some(902));
}

#[test]
fn zstd_no_content_size() {
    assert_eq!(planes(&zstd(0x00, &[0], RUN, 256, &[7])), Some(902));
}

#[test]
fn zstd_size_lies() {
    assert_eq!(planes(&zstd(SINGLE, &[1, 0], RUN, 256, &[7])), Some(903)); // high
    assert_eq!(planes(&zstd(0x20, &[255], RUN, 255, &[7])), Some(903)); // low
    // Declared as expected, but the blocks give fewer.
    assert_eq!(planes(&zstd(SINGLE, &[0, 0], RUN, 255, &[7])), Some(902));
}

#[test]
fn zstd_dictionary_checksum_and_reserved_bit() {
    assert_eq!(
        planes(&zstd(SINGLE | 1, &[9, 0, 0], RUN, 256, &[7])),
        Some(902)
    );
    assert_eq!(
        planes(&zstd(SINGLE | 4, &[0, 0], RUN, 256, &[7, 0, 0, 0, 0])),
        Some(902)
    );
    assert_eq!(
        planes(&zstd(SINGLE | 8, &[0, 0], RUN, 256, &[7])),
        Some(902)
    );
}

#[test]
fn zstd_legacy_v07() {
    let mut legacy = good();
    legacy[0] = 0x27;
    assert_eq!(planes(&legacy), Some(902));
}

#[test]
fn zstd_blocks() {
    assert_eq!(planes(&zstd(SINGLE, &[0, 0], 3, 1, &[7])), Some(902)); // reserved type
    assert_eq!(planes(&zstd(SINGLE, &[0, 0], 2, 200, &[7])), Some(902)); // cut short
    assert_eq!(planes(&zstd(SINGLE, &[0, 0], 2, 2, &[7, 7])), Some(902)); // corrupt
    for cut in 0..good().len() {
        assert_eq!(planes(&good()[..cut]), Some(902), "cut at {cut}");
    }
}

#[test]
fn planes_modes_and_lengths() {
    let raw = [&[0][..], &[0; 512]].concat();
    let check = |encoded: &[u8]| code(Codec::Planes16, &SHAPE, Dtype::F16, encoded);
    assert_eq!(check(&raw), None);
    assert_eq!(check(&raw[..512]), Some(903));
    assert_eq!(check(&[&raw[..], &[0]].concat()), Some(903));
    assert_eq!(check(&[]), Some(902));
    assert_eq!(check(&[&[2][..], &[0; 512]].concat()), Some(902));
    assert_eq!(check(&[1; 256]), Some(902));
    assert_eq!(check(&[1; 513]), Some(904));
}

#[test]
fn codec_unknown() {
    for (id, params) in [
        (255, &[][..]),
        (256, &[]),
        (0, &[8, 64]),
        (2, &[]),
        (2, &[8]),
        (2, &[7, 64]),
        (2, &[8, 48]),
        (2, &[264, 64]),
        (2, &[8, 64, 0]),
        (5, &[]),
        (5, &[0, 15]),
        (5, &[0, 1025]),
        (5, &[3, 192]),
        (5, &[256, 192]),
        (5, &[0, 65_728]),
    ] {
        assert_eq!(Codec::from_id(id, params).unwrap_err().code(), 901);
    }
    for (id, params) in [
        (0, &[][..]),
        (1, &[]),
        (2, &[3, 32]),
        (3, &[]),
        (4, &[]),
        (5, &[0, 16]),
    ] {
        let codec = Codec::from_id(id, params).unwrap();
        assert_eq!((u64::from(codec.id()), &*codec.params()), (id, params));
        assert_eq!(Codec::from_name(&codec.name()), Some(codec));
    }
}

#[test]
fn a_codec_where_it_does_not_apply() {
    let whole = BankShape::Whole { dims: vec![64, 64] };
    let q8 = Codec::from_name("q8_g64").unwrap();
    for (codec, dtype, shape, content) in [
        (Codec::Planes16, Dtype::F32, &SHAPE, Content::Keys),
        (Codec::Planes32, Dtype::F16, &SHAPE, Content::Keys),
        (q8, Dtype::U16, &SHAPE, Content::Keys),
        (q8, Dtype::F16, &whole, Content::Keys),
        (q8, Dtype::F16, &SHAPE, Content::Other),
        (Codec::KeyChannel, Dtype::F16, &SHAPE, Content::Values),
    ] {
        assert_eq!(
            codec.applies(dtype, shape, content).unwrap_err().code(),
            903
        );
    }
    assert!(
        Codec::Planes32
            .applies(Dtype::F32, &whole, Content::Other)
            .is_ok()
    );
    assert_eq!(code(q8, &whole, Dtype::F16, &[0; 100]), Some(903));
    assert_eq!(
        code(Codec::Planes16, &SHAPE, Dtype::F32, &[0; 100]),
        Some(903)
    );
    let huge = BankShape::Tokens {
        heads: u64::MAX,
        tokens: u64::MAX,
        dim: 64,
    };
    assert_eq!(
        q8.applies(Dtype::F16, &huge, Content::Keys)
            .unwrap_err()
            .code(),
        903
    );
}

#[test]
fn quant_scale_nan() {
    let q4 = Codec::from_name("q4_g64").unwrap();
    let good = [0; 4 * 36];
    assert_eq!(code(q4, &SHAPE, Dtype::F16, &good), None);
    for (at, bits) in [
        (128, 0x7e00_u16),
        (134, 0x7c00),
        (136, 0xfc00),
        (142, 0xffff),
    ] {
        let mut bad = good;
        bad[at..at + 2].copy_from_slice(&bits.to_le_bytes());
        assert_eq!(code(q4, &SHAPE, Dtype::F16, &bad), Some(905));
    }
    let mut keys = [0; 128 + 256];
    assert_eq!(code(Codec::KeyChannel, &SHAPE, Dtype::F16, &keys), None);
    keys[128 + 254..].copy_from_slice(&0x7c00_u16.to_le_bytes());
    assert_eq!(
        code(Codec::KeyChannel, &SHAPE, Dtype::F16, &keys),
        Some(905)
    );
}

#[test]
fn quant_group_mismatch() {
    let q4 = Codec::from_name("q4_g64").unwrap();
    for len in [0, 143, 145, 4 * 40] {
        assert_eq!(code(q4, &SHAPE, Dtype::F16, &vec![0; len]), Some(903));
    }
    assert_eq!(
        code(Codec::KeyChannel, &SHAPE, Dtype::F16, &[0; 383]),
        Some(903)
    );
}

#[test]
fn pad_nonzero() {
    let odd = BankShape::Tokens {
        heads: 1,
        tokens: 2,
        dim: 35,
    };
    let q3 = Codec::from_name("q3_g32").unwrap();
    let row = 2 * 12;
    let encoded = vec![0; 2 * (row + 8)];
    assert_eq!(code(q3, &odd, Dtype::F16, &encoded), None);
    // 35 codes of 3 bits are 105 bits: bit 105 and all after it are padding.
    for bit in 96..2 * 96 {
        let mut encoded = encoded.clone();
        encoded[row + bit / 8] |= 1 << (bit % 8);
        let expected = (bit >= 105).then_some(902);
        assert_eq!(code(q3, &odd, Dtype::F16, &encoded), expected, "bit {bit}");
    }
    let mut keys = vec![0; 2 * 18 + 4 * 35];
    assert_eq!(code(Codec::KeyChannel, &odd, Dtype::F16, &keys), None);
    keys[35] = 0x10;
    assert_eq!(code(Codec::KeyChannel, &odd, Dtype::F16, &keys), Some(902));
    assert!(packed::check_padding(&[0; 9]).is_ok());
    assert_eq!(packed::check_padding(&[0, 0, 1]).unwrap_err().code(), 902);
}

#[test]
fn an_index_that_lies() {
    let shape = BankShape::Tokens {
        heads: 1,
        tokens: 700,
        dim: 64,
    };
    let parse = |lens: &[u32], stream: u64| {
        let index: Vec<u8> = lens.iter().flat_map(|len| len.to_le_bytes()).collect();
        packed::Index::parse(Codec::Planes16, &shape, Dtype::F16, &index, stream)
            .map_err(|error| error.code())
    };
    for (padding, stream) in [(Padding::Padme, 6656), (Padding::Fine, 6528)] {
        assert_eq!(padding.padded(6512), Some(stream));
        let index = parse(&[3000, 3000, 500], stream).unwrap();
        assert_eq!(index.frame(1), Some(3000..6000));
        assert_eq!(index.frame(3), None);
        assert_eq!(index.padding(), 6500..stream - 12);
    }
    let stream = 6656;
    assert_eq!(parse(&[3000, 3000], stream), Err(903));
    // Without padding; of an odd length; a fine step more; between the two; a step of Padmé's more.
    for other in [6512, 6529, 6560, 6592, 6657, 6912] {
        assert_eq!(parse(&[3000, 3000, 500], other), Err(903), "{other}");
    }
    assert_eq!(parse(&[3000, 3000, 0], stream), Err(904));
    assert_eq!(parse(&[3000, 256 * 128 + 2, 500], stream), Err(904));
    assert_eq!(parse(&[3000, 3000, u32::MAX], stream), Err(904));
}

#[test]
fn padding_is_a_ladder() {
    let steps = [
        (0, 0, 0),
        (1, 1, 1),
        (2, 2, 2),
        (3, 3, 3),
        (9, 10, 9),
        (128, 128, 128),
        (129, 144, 130),
        (257, 272, 258),
        (1000, 1024, 1000),
        (1001, 1024, 1004),
        (32_769, 34_816, 33_024),
        (65_537, 67_584, 65_792),
        (100_000, 100_352, 100_096),
        (1_000_000, 1_015_808, 1_001_472),
        (8_580_000, 8_650_752, 8_585_216),
    ];
    for (len, padme, fine) in steps {
        assert_eq!(Padding::Padme.padded(len), Some(padme), "{len}");
        assert_eq!(Padding::Fine.padded(len), Some(fine), "{len}");
    }
    let mut before = [0; 2];
    for len in 0..1 << 18 {
        let padded = [Padding::Padme, Padding::Fine].map(|padding| {
            let padded = padding.padded(len).unwrap();
            assert_eq!(padding.padded(padded), Some(padded));
            padded
        });
        let [padme, fine] = padded;
        assert!(before[0] <= padme && before[1] <= fine, "{len}");
        // What bounds the one bounds the other.
        assert!(len <= fine && fine <= padme, "{len}");
        assert!(padme * 100 <= len * 112, "{len}");
        // Under 2⁻⁷ more, and under 2⁻⁸ from 64 KiB on.
        let least = if len < 1 << 16 { 128 } else { 256 };
        assert!((fine - len) * least <= len, "{len}");
        before = padded;
    }
    for exponent in 7..63_u32 {
        for more in [1, 1 << (exponent - 1), (1 << exponent) - 1] {
            let len = (1_u64 << exponent) + more;
            assert!(Padding::Fine.padded(len) <= Padding::Padme.padded(len));
        }
        // Just above a power of two most is added.
        let len = (1_u64 << exponent) + 1;
        let added = |padding: Padding| padding.padded(len).unwrap() - len;
        let step = |kept| (1_u64 << (exponent - exponent.ilog2() - kept)) - 1;
        assert_eq!(added(Padding::Padme), step(1));
        assert_eq!(added(Padding::Fine), step(4));
    }
    assert_eq!(Padding::Padme.padded(u64::MAX), None);
    assert_eq!(Padding::Fine.padded(u64::MAX), None);
}

#[test]
fn values_that_are_not_finite_are_named() {
    let shape = BankShape::Tokens {
        heads: 3,
        tokens: 300,
        dim: 64,
    };
    // The second frame has tokens 256 to 299.
    let ctx = FrameContext::new(&shape, Dtype::F16, 1)
        .unwrap()
        .with_rotation(NO_ROTATION, Positions::From(0));
    let mut plain = vec![0; ctx.plain_len()];
    let at = ((44 + 7) * 64 + 9) * 2; // head 1, token 263, channel 9
    plain[at + 1] = 0x7c;
    for name in ["q8_g64", "q3_g128", "q4c"] {
        let codec = Codec::from_name(name).unwrap();
        let error = codec
            .encode_frame(&ctx, &plain, &mut Vec::new(), &mut Scratch::new())
            .unwrap_err();
        assert_eq!(error.code(), 905);
        let place = Place {
            token: 263,
            head: 1,
            channel: 9,
        };
        assert_eq!(error.place(), Some(place), "{name}");
    }
}

#[test]
fn rotations_out_of_bounds() {
    let encode = |inv_freq: &[f64], positions: Positions<'_>| {
        let rotation = Rotation {
            pairing: Pairing::Half,
            inv_freq,
        };
        let ctx = FrameContext::new(&SHAPE, Dtype::F16, 0)
            .unwrap()
            .with_rotation(rotation, positions);
        let result =
            Codec::KeyChannel.encode_frame(&ctx, &[0; 512], &mut Vec::new(), &mut Scratch::new());
        result.err().map(|error| error.code())
    };
    assert_eq!(encode(&[1.0; 32], Positions::From(1 << 30)), Some(904));
    assert_eq!(encode(&[1.0; 32], Positions::From((1 << 30) - 3)), None);
    assert_eq!(encode(&[1.0; 33], Positions::From(0)), Some(903));
    assert_eq!(encode(&[f64::NAN], Positions::From(0)), Some(905));
    assert_eq!(encode(&[f64::MAX, 1.0], Positions::From(9)), Some(904));
    assert_eq!(encode(&[0.0], Positions::From(i64::MAX)), Some(903));
    assert_eq!(encode(&[0.0], Positions::Listed(&[1, 2, 3])), Some(903));
    assert_eq!(encode(&[0.5], Positions::Listed(&[9, -2, 3, 4])), None);
}

#[test]
fn a_short_frame_of_planes_is_refused_before_its_plain_bytes_are_allocated() {
    let mut frame = vec![1];
    frame.extend([0x5a; ELEMENTS]);
    frame.extend(good());
    let told = FrameContext::new(&SHAPE, Dtype::F16, 0).unwrap();
    for mode in [0, 1, 2] {
        frame[0] = mode;
        for len in 0..=frame.len() {
            let checked = Codec::Planes16.check_frame(&told, &frame[..len]);
            let decoded = code(Codec::Planes16, &SHAPE, Dtype::F16, &frame[..len]);
            assert!(checked.is_ok() || checked.err().map(|e| e.code()) == decoded);
        }
    }
    let claimed = BankShape::Tokens {
        heads: 1,
        tokens: 1,
        dim: 1 << 50,
    };
    let told = FrameContext::new(&claimed, Dtype::F16, 0).unwrap();
    for (frame, want) in [(&[][..], 902), (&[0, 1, 2], 903), (&[1, 2, 3], 902)] {
        let error = Codec::Planes16.check_frame(&told, frame).unwrap_err();
        assert_eq!(error.code(), want);
    }
}

#[test]
fn rows_are_refused_as_their_frame_is() {
    let codec = Codec::Affine { bits: 8, group: 64 };
    let ctx = FrameContext::new(&SHAPE, Dtype::Bf16, 0).unwrap();
    let (rows, row) = (4, ctx.row_len().unwrap());
    let mut scratch = Scratch::new();
    let mut encoded = Vec::new();
    let plain = vec![0; ctx.plain_len()];
    codec
        .encode_frame(&ctx, &plain, &mut encoded, &mut scratch)
        .unwrap();
    // the scale of the last row
    let scale = ELEMENTS + 2 * (rows - 1);
    encoded[scale..][..2].copy_from_slice(&0x7f80_u16.to_le_bytes());
    let mut out = vec![0; ctx.plain_len()];
    let whole = codec
        .decode_frame(&ctx, &encoded, &mut out, &mut scratch)
        .unwrap_err();
    assert_eq!(whole.code(), 905);
    for past_cache in [false, true] {
        let mut decode = |codec: Codec, rows: std::ops::Range<usize>, len: usize| {
            let out = &mut out[..len];
            codec.decode_rows(&ctx, &encoded, rows, out, past_cache, &mut scratch)
        };
        decode(codec, 0..3, 3 * row).unwrap();
        assert_eq!(decode(codec, 2..4, 2 * row).unwrap_err(), whole);
        for (rows, len) in [
            (0..2, row),
            (0..1, 0),
            (3..5, 2 * row),
            (usize::MAX - 1..usize::MAX, row),
        ] {
            assert_eq!(decode(codec, rows, len).unwrap_err().code(), 903);
        }
        for other in [Codec::Raw, Codec::Planes16, Codec::KeyChannel] {
            assert_eq!(decode(other, 0..1, row).unwrap_err().code(), 903);
        }
    }
}
