//! Any state file through a capsule and back: sealed, verified, opened; byte for byte where the
//! codec is exact, and held against its receipts where it is not.

#![no_main]

use std::io::{Read, Seek};

use kvcap::{Suite, Workers};
use kvcap_codecs::{Guard, Padding, Preset};
use kvcap_fuzz::{Input, open, scratch_file, seal};
use kvcap_states::{Encoding, Hints, RuntimeKind, check_quality, open_state, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut script = Input::new(data);
    let kind = script.pick(&RuntimeKind::ALL);
    let preset = script.pick(&[
        Preset::Exact,
        Preset::Q8,
        Preset::K8V4,
        Preset::Q4,
        Preset::Q4c,
    ]);
    let options = script.byte();
    let suite = [Suite::ChaCha20Poly1305, Suite::Aes256Gcm][usize::from(options & 1)];
    let encoding = Encoding {
        compress: (options & 2 != 0).then_some(match options & 8 {
            0 => Padding::Padme,
            _ => Padding::Fine,
        }),
        guard: (options & 4 != 0).then(Guard::default),
        ..Encoding::of(preset)
    };
    let state = script.rest();
    let Ok(file) = seal(state, kind, encoding, suite) else {
        return;
    };
    open(&file, &mut |opened| {
        let mut out = scratch_file();
        open_state(opened, &out, Workers::new(2), &mut |_| {}).expect("the state file comes back");
        let mut back = Vec::new();
        out.rewind().expect("a temporary file");
        out.read_to_end(&mut back).expect("a temporary file");
        assert_eq!(back.len(), state.len());
        let exact = opened
            .manifest()
            .context
            .banks()
            .all(|(_, bank)| bank.codec.is_exact());
        if exact {
            let parsed = parse(kind, &state, Hints::None).expect("it has been parsed before");
            let leftovers = parsed
                .padding_nonzero(&state)
                .expect("regions lie in the file");
            assert_eq!(back == state, leftovers.is_empty());
        } else {
            check_quality(opened, &state).expect("a receipt holds against the original");
        }
    })
    .expect("what was sealed verifies and opens");
});
