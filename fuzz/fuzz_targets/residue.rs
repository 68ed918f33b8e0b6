//! Any bytes as a residue: a skeleton, written and parsed by every adapter.

#![no_main]

use kvcap::Bank;
use kvcap_fuzz::Memory;
use kvcap_states::{Hints, RuntimeKind, Skeleton, parse, residue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(skeleton) = Skeleton::parse(data) else {
        return;
    };
    let len = match usize::try_from(skeleton.file_len()) {
        Ok(len) if len <= 1 << 20 => len,
        _ => return,
    };
    let file = Memory::zeros(len);
    skeleton.write(&file).expect("segments lie in the file");
    let file = file.0.into_inner().unwrap();
    for kind in RuntimeKind::ALL {
        let Ok(found) = parse(kind, &file, Hints::None) else {
            continue;
        };
        let banks: Vec<Bank> = found
            .banks
            .iter()
            .map(|placed| placed.bank.clone())
            .collect();
        if let Ok(state) = skeleton.state(kind, &banks) {
            let again = residue(&state, &file).expect("segments lie in the file");
            assert_eq!(again, data, "a residue has one form");
        }
    }
});
