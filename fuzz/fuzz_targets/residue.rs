//! Any bytes as a residue: a skeleton of a claimed length, parsed by every adapter and written.

#![no_main]

use kvcap::Bank;
use kvcap_fuzz::Memory;
use kvcap_states::{Hints, ReadAt, RuntimeKind, Skeleton, parse, residue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(skeleton) = Skeleton::parse(data) else {
        return;
    };
    for kind in RuntimeKind::ALL {
        let Ok(found) = parse(kind, &skeleton, Hints::None) else {
            continue;
        };
        let banks: Vec<Bank> = found
            .banks
            .iter()
            .map(|placed| placed.bank.clone())
            .collect();
        if let Ok(state) = skeleton.state(kind, &banks) {
            let again = residue(&state, &skeleton).expect("segments lie in the skeleton");
            assert_eq!(again, data, "a residue has one form");
        }
    }
    if let Ok(len) = usize::try_from(ReadAt::len(&skeleton))
        && len <= 1 << 20
    {
        skeleton
            .write(&Memory::zeros(len))
            .expect("segments lie in the file");
    }
});
