//! Behind the cipher, under a tight cap: a capsule of a few bytes whose residue claims a file of any length.
//! What opening it holds is bounded by what is really there, whatever it is refused with.

#![no_main]

use kvcap_fuzz::{Input, capped, claims, edit_bytes, scratch_file};
use kvcap_states::open_state;
use libfuzzer_sys::fuzz_target;

/// Chunks and frames of two workers, and what is there once.
const CONSTANT: usize = 4 << 20;

/// Of each byte of a section (runtimes-v1 RUN-R-13).
const TIMES: usize = 16;

fuzz_target!(|data: &[u8]| {
    let mut script = Input::new(data);
    let mut seed = claims(&mut script);
    if script.byte() & 1 != 0
        && let Some(residue) = seed.streams.last_mut()
    {
        edit_bytes(residue, &mut script);
    }
    seed.fit_sections();
    let held: usize = seed.streams.iter().map(Vec::len).sum();
    let _ = seed.open(&mut |opened| {
        capped(CONSTANT + TIMES * held, || {
            let _ = open_state(opened, &scratch_file(), kvcap::Workers::new(2), &mut |_| {});
        });
    });
});
