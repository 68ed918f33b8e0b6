//! Any plain bytes through every codec: all paths encode to the same bytes, exact codecs give every
//! bit back, and what is encoded can be decoded and measured.

#![no_main]

use kvcap_codecs::{CodecError, FrameContext, FrameQuality, Pairing, Positions, Rotation, Scratch};
use kvcap_fuzz::{Frame, Input};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut script = Input::new(data);
    let frame = Frame::read(&mut script);
    let codec = frame.codec;
    let start = i64::from(script.u16());
    let pattern = script.rest();
    let Ok(mut told) = FrameContext::new(&frame.shape, frame.dtype, 0) else {
        return;
    };
    if told.plain_len() > 64 << 10 {
        return;
    }
    let profile = frame.profile(pattern.first().copied().unwrap_or(0));
    if let Some(bank) = profile.as_ref().and_then(|profile| profile.bank(0, 0)) {
        told = told.with_profile(bank);
    }
    let frequencies: Vec<f64> = (0..frame.pairs)
        .map(|pair| 0.7_f64.powi(pair as i32))
        .collect();
    if frame.pairs > 0 {
        let rotation = Rotation {
            pairing: Pairing::Half,
            inv_freq: &frequencies,
        };
        told = told.with_rotation(rotation, Positions::From(start));
    }
    let byte = |at: usize| pattern.get(at % pattern.len().max(1)).copied().unwrap_or(0);
    let plain: Vec<u8> = (0..told.plain_len()).map(byte).collect();
    let mut first: Option<Result<Vec<u8>, CodecError>> = None;
    for path in Scratch::paths() {
        let mut scratch = Scratch::with_path(path).expect("a path of this machine");
        let mut encoded = Vec::new();
        let result = codec
            .encode_frame(&told, &plain, &mut encoded, &mut scratch)
            .map(|()| encoded);
        match &first {
            None => first = Some(result),
            Some(other) => assert!(result == *other, "{path} differs for {codec}"),
        }
    }
    let Some(Ok(encoded)) = first else {
        return;
    };
    let most = codec.max_encoded_frame_len(&frame.shape, frame.dtype, 0);
    assert!(most.is_some_and(|most| encoded.len() as u64 <= most));
    let mut scratch = Scratch::new();
    let mut decoded = vec![0; plain.len()];
    codec
        .decode_frame(&told, &encoded, &mut decoded, &mut scratch)
        .expect("what was encoded can be decoded");
    if codec.is_exact() {
        assert_eq!(decoded, plain);
    } else {
        let measured = FrameQuality::measure(&told, &plain, &decoded, &mut scratch);
        assert!(measured.is_ok() || !frame.rotates(), "{measured:?}");
    }
});
