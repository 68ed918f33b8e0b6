//! Any bytes as the zstd frame of a plane: one bounded frame of exactly the plane's length, or a
//! refusal; what is accepted, a used decoder and a fresh one decode to the same bytes.

#![no_main]

use kvcap_codecs::{BankShape, Codec, Dtype, FrameContext, Scratch};
use kvcap_fuzz::Input;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut script = Input::new(data);
    let (codec, dtype) = script.pick(&[
        (Codec::Planes16, Dtype::F16),
        (Codec::Planes16, Dtype::Bf16),
        (Codec::Planes32, Dtype::F32),
    ]);
    let elements = u64::from(script.u16()) + 1;
    let frame = script.rest();
    let shape = BankShape::Tokens {
        heads: 1,
        tokens: 1,
        dim: elements,
    };
    let told = FrameContext::new(&shape, dtype, 0).expect("a small frame");
    let low = told.plain_len() - told.plain_len() / if codec == Codec::Planes16 { 2 } else { 4 };
    let mut encoded = vec![1];
    encoded.resize(1 + low, 0);
    encoded.extend_from_slice(frame);
    let mut scratch = Scratch::new();
    let mut out = vec![0; told.plain_len()];
    if codec
        .decode_frame(&told, &encoded, &mut out, &mut scratch)
        .is_ok()
    {
        // nothing of one frame is visible in the next
        let mut again = vec![0xFF; told.plain_len()];
        let mut fresh = Scratch::new();
        codec
            .decode_frame(&told, &encoded, &mut again, &mut fresh)
            .expect("the same frame");
        assert_eq!(out, again);
    }
});
