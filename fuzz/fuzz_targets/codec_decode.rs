//! Any encoded frame, by every codec, for every element type: all paths of the machine give the same
//! bytes or the same refusal, none writes beyond its destination, and rows decoded in two parts are the same.

#![no_main]

use kvcap_codecs::{CodecError, FrameContext, Pairing, Positions, Rotation, Scratch, packed};
use kvcap_fuzz::{Frame, Input};
use libfuzzer_sys::fuzz_target;

/// Plain bytes of a frame, at most.
const PLAIN: usize = 256 << 10;

fuzz_target!(|data: &[u8]| {
    let mut script = Input::new(data);
    let frame = Frame::read(&mut script);
    let (fit, at) = (script.byte() & 1 == 0, script.byte());
    let start = i64::from_le_bytes(script.u64().to_le_bytes());
    let frequency = f64::from_bits(script.u64());
    let mut encoded = script.rest().to_vec();
    let (codec, shape, dtype) = (frame.codec, &frame.shape, frame.dtype);

    // a stream of frames: its index and padding
    let index_len = packed::index_len(shape.frames(dtype).unwrap_or(0)).unwrap_or(0);
    let index_at = encoded
        .len()
        .saturating_sub(usize::try_from(index_len).unwrap_or(0));
    let parsed = packed::Index::parse(
        codec,
        shape,
        dtype,
        &encoded[index_at..],
        encoded.len() as u64,
    );
    if let Ok(index) = parsed {
        let mut end = 0;
        for number in 0..index.frames() {
            let range = index.frame(number).expect("it counts its frames");
            assert!(range.start == end && range.end > range.start);
            end = range.end;
        }
        let padding = index.padding();
        assert!(padding.start == end && padding.end == index_at as u64);
        let _ = packed::check_padding(&encoded[padding.start as usize..padding.end as usize]);
    }

    let Ok(mut told) = FrameContext::new(shape, dtype, u64::from(at % 4)) else {
        return;
    };
    if told.plain_len() > PLAIN {
        return;
    }
    let profile = frame.profile(at);
    if let Some(bank) = profile.as_ref().and_then(|profile| profile.bank(0, 0)) {
        told = told.with_profile(bank);
    }
    let frequencies = vec![frequency; frame.pairs];
    if frame.pairs > 0 {
        let rotation = Rotation {
            pairing: if at & 4 == 0 {
                Pairing::Half
            } else {
                Pairing::Interleaved
            },
            inv_freq: &frequencies,
        };
        told = told.with_rotation(rotation, Positions::From(start));
    }
    let fixed = codec.encoded_frame_len(shape, dtype, u64::from(at % 4));
    if let Some(len) = fixed
        .and_then(|len| usize::try_from(len).ok())
        .filter(|len| fit && *len <= PLAIN)
    {
        let pattern = encoded.clone();
        encoded.resize(len, 0);
        for (index, byte) in encoded.iter_mut().enumerate().skip(pattern.len()) {
            *byte = pattern
                .get(index % pattern.len().max(1))
                .copied()
                .unwrap_or(0);
        }
    }
    let mut first: Option<Result<Vec<u8>, CodecError>> = None;
    for path in Scratch::paths() {
        let mut scratch = Scratch::with_path(path).expect("a path of this machine");
        let mut out = vec![0xA5; told.plain_len()];
        let decoded = codec
            .decode_frame(&told, &encoded, &mut out, &mut scratch)
            .map(|()| out);
        if let Some(row) = told
            .row_len()
            .filter(|row| *row > 0 && codec.decodes_rows(&scratch))
        {
            let rows = told.plain_len() / row;
            let cut = usize::from(at) % (rows + 1);
            let mut parts = vec![0xA5; told.plain_len()];
            let (low, high) = parts.split_at_mut(cut * row);
            let low = codec.decode_rows(&told, &encoded, 0..cut, low, true, &mut scratch);
            let high = codec.decode_rows(&told, &encoded, cut..rows, high, true, &mut scratch);
            // of several faults another may be named
            let parts = low.and(high).map(|()| parts).ok();
            assert!(
                parts == decoded.as_ref().ok().cloned(),
                "{path}: rows of {codec} differ"
            );
        }
        match &first {
            None => first = Some(decoded),
            Some(other) => assert!(decoded == *other, "{path} differs for {codec}"),
        }
    }
});
