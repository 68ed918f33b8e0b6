//! Frames that break codecs-v1, sealed and signed by whoever holds the keys: found at decoding.

use kvcap::{Role, Stream};
use kvcap_codecs::{Codec, Dtype, Padding};

use crate::{
    case::Made,
    cases,
    decode::pack,
    fixture::{self, Capsule},
};

/// Elements of the planes bank: 64 tokens of 64.
const ELEMENTS: usize = 4096;
const MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// A capsule whose keys are these encoded bytes under `codec`.
pub(super) fn keys_of(codec: Codec, encoded: Vec<u8>, receipt: Option<[u8; 32]>) -> Capsule {
    let mut context = fixture::context();
    context.positions = 0..64;
    context.streams = vec![
        Stream::Bank(kvcap::BankEntry {
            codec,
            ..fixture::rows(Role::Key, 0, Dtype::F16, 1, 64, 64)
        }),
        Stream::Bank(fixture::rows(Role::Value, 0, Dtype::F16, 1, 64, 8)),
        fixture::section(kvcap::SectionKind::Prefix, 32),
    ];
    let mut plain = fixture::contents(&context);
    plain[0] = encoded;
    fixture::seal(
        "codec",
        fixture::terms(),
        context,
        plain,
        &[receipt],
        &[fixture::WRAP_KEY],
        Vec::new(),
    )
}

/// Everything is given out by the capsule's layer, and refused by the codec's.
fn decoded(capsule: Capsule) -> Made {
    let all = capsule.plain.iter().map(Vec::len).sum();
    Made::of(capsule).after(all)
}

/// A frame of planes whose exponents are this zstd frame.
fn frame(zstd: &[u8]) -> Vec<u8> {
    [&[1][..], &fixture::noise("low plane", ELEMENTS), zstd].concat()
}

fn packed(frame: Vec<u8>, padding: Padding) -> Vec<u8> {
    let entry = (frame.len() as u32).to_le_bytes();
    pack(frame, &entry, padding)
}

fn planes(zstd: &[u8]) -> Made {
    decoded(keys_of(
        Codec::Planes16,
        packed(frame(zstd), Padding::Padme),
        None,
    ))
}

/// The packed stream of a good frame, changed.
fn stream(change: impl FnOnce(&mut Vec<u8>)) -> Made {
    let mut bytes = good_stream(Padding::Padme);
    change(&mut bytes);
    decoded(keys_of(Codec::Planes16, bytes, None))
}

/// A block's header.
fn block(last: bool, kind: u32, size: usize) -> Vec<u8> {
    let header = (size as u32) << 3 | kind << 1 | u32::from(last);
    header.to_le_bytes()[..3].to_vec()
}

fn run(last: bool, size: usize) -> Vec<u8> {
    [block(last, 1, size), vec![0x7A]].concat()
}

/// Magic, descriptor and what follows it, blocks.
fn zstd(head: &[u8], blocks: &[u8]) -> Vec<u8> {
    [&MAGIC[..], head, blocks].concat()
}

/// One segment of this declared size, in two bytes.
fn sized(declared: usize, blocks: &[u8]) -> Vec<u8> {
    let size = (declared - 256) as u16;
    zstd(&[&[0x60][..], &size.to_le_bytes()].concat(), blocks)
}

/// The right frame: one run of 4,096 bytes.
pub(super) fn good() -> Vec<u8> {
    sized(ELEMENTS, &run(true, ELEMENTS))
}

/// The good planes stream.
pub(super) fn good_stream(padding: Padding) -> Vec<u8> {
    packed(frame(&good()), padding)
}

/// Keys under q8 in groups of 64: codes, then scales, then biases.
fn affine(change: impl FnOnce(&mut [u8])) -> Made {
    let mut bytes = [
        fixture::noise("codes", ELEMENTS),
        [0x00, 0x2C].repeat(64),
        [0x00, 0xBC].repeat(64),
    ]
    .concat();
    change(&mut bytes);
    let codec = Codec::Affine { bits: 8, group: 64 };
    decoded(keys_of(codec, bytes, Some([0; 32])))
}

cases! {
    /// runs that give 33 times the declared size
    zstd_ratio_bomb: R 904 Decode ["codecs-v1 §5.3" "COD-P-8" "CAP-A-3"] = planes(&sized(ELEMENTS, &[run(false, ELEMENTS), run(true, 128 << 10)].concat()));
    /// a window of 2³¹ bytes
    zstd_window_31: R 904 Decode ["codecs-v1 §5.3" "COD-P-4"] = planes(&zstd(&[0x40, 21 << 3, 0x00, 0x0F], &run(true, ELEMENTS)));
    /// two frames
    zstd_two_frames: R 902 Decode ["codecs-v1 §5.3" "COD-P-7"] = planes(&[good(), good()].concat());
    /// a skippable frame first
    zstd_skippable_frame: R 902 Decode ["codecs-v1 §5.3" "COD-P-2"] = planes(&[&[0x50, 0x2A, 0x4D, 0x18, 0, 0, 0, 0][..], &good()].concat());
    /// a byte after the frame
    zstd_trailing: R 902 Decode ["codecs-v1 §5.3" "COD-P-7"] = planes(&[good(), vec![0]].concat());
    /// no content size
    zstd_no_content_size: R 902 Decode ["codecs-v1 §5.3" "COD-P-5"] = planes(&zstd(&[0x00, 2 << 3], &run(true, ELEMENTS)));
    /// a declared size one too high
    zstd_size_lies_high: R 903 Decode ["codecs-v1 §5.3" "COD-P-5"] = planes(&sized(ELEMENTS + 1, &run(true, ELEMENTS)));
    /// a declared size one too low
    zstd_size_lies_low: R 903 Decode ["codecs-v1 §5.3" "COD-P-5"] = planes(&sized(ELEMENTS - 1, &run(true, ELEMENTS)));
    /// a run one byte short of the declared size
    zstd_short: R 902 Decode ["codecs-v1 §5.3" "COD-P-8"] = planes(&sized(ELEMENTS, &run(true, ELEMENTS - 1)));
    /// a dictionary id
    zstd_dict_id: R 902 Decode ["codecs-v1 §5.3" "COD-P-3"] = planes(&zstd(&[0x61, 0x07, 0x00, 0x0F], &run(true, ELEMENTS)));
    /// a checksum
    zstd_checksum: R 902 Decode ["codecs-v1 §5.3" "COD-P-3"] = planes(&[zstd(&[0x64, 0x00, 0x0F], &run(true, ELEMENTS)), vec![0; 4]].concat());
    /// the magic of zstd 0.7
    zstd_legacy_v07: R 902 Decode ["codecs-v1 §5.3" "COD-P-2"] = planes(&[&[0x27][..], &good()[1..]].concat());
    /// a block of the reserved type
    zstd_reserved_block: R 902 Decode ["codecs-v1 §5.3" "COD-P-6"] = planes(&sized(ELEMENTS, &[block(true, 3, 1), vec![0]].concat()));
    /// the frame ends inside a block
    zstd_cut: R 902 Decode ["codecs-v1 §5.3" "COD-P-6"] = planes(&sized(ELEMENTS, &[block(true, 0, ELEMENTS), vec![0; 16]].concat()));
    /// mode 2
    planes_mode: R 902 Decode ["codecs-v1 §5" "COD-P-1"] = stream(|bytes| bytes[0] = 2);
    /// a byte of the stream's padding is not zero
    pad_nonzero: R 902 Decode ["codecs-v1 §8" "COD-I-3"] = stream(|bytes| {
        let at = bytes.len() - 5;
        bytes[at] = 1;
    });
    /// the frame's length in the index is 0
    index_zero: R 904 Decode ["codecs-v1 §8" "COD-I-1"] = stream(|bytes| {
        let at = bytes.len() - 4;
        bytes[at..].fill(0);
    });
    /// the frame's length in the index is over its codec's worst case
    index_over: R 904 Decode ["codecs-v1 §8" "COD-I-1"] = stream(|bytes| {
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&8194_u32.to_le_bytes());
    });
    /// the frames of the index do not give the stream's length
    index_sum: R 903 Decode ["codecs-v1 §8" "COD-I-2"] = stream(|bytes| {
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&2048_u32.to_le_bytes());
    });
    /// the stream is padded to a length between the two: 4224 bytes, with one bit more kept than by Padmé's 4352
    padding_between: R 903 Decode ["codecs-v1 §8.2" "COD-I-2"] = stream(|bytes| {
        let at = bytes.len() - 4;
        bytes.drain(at - 128..at);
    });
    /// a scale that is NaN
    quant_scale_nan: R 905 Decode ["codecs-v1 §6" "COD-A-3" "CAP-A-3"] = affine(|bytes| bytes[ELEMENTS..ELEMENTS + 2].copy_from_slice(&[0x00, 0x7E]));
    /// a bias that is infinite
    quant_bias_infinite: R 905 Decode ["codecs-v1 §6" "COD-A-3"] = affine(|bytes| bytes[ELEMENTS + 128..ELEMENTS + 130].copy_from_slice(&[0x00, 0x7C]));
}
