//! Behind the signature: a capsule whose header and manifest a script changes before the trusted key
//! signs them again, with its body as it was or sealed anew to match.

#![no_main]

use kvcap_fuzz::{Input, base, check_all, edit_bytes, edit_value, parse_value, resign};
use kvcap_testvectors::raw;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut parts = base();
    let mut script = Input::new(data);
    let flags = script.byte();
    let mut left = 16;
    while !script.is_empty() && left > 0 {
        left -= 1;
        let kind = script.byte();
        let target = match kind & 1 {
            0 => &mut parts.payload,
            _ => &mut parts.header,
        };
        match parse_value(target).filter(|_| kind & 2 == 0) {
            Some(mut value) => {
                edit_value(&mut value, &mut script);
                *target = raw::encode(&value);
            }
            None => edit_bytes(target, &mut script),
        }
    }
    let _ = check_all(&resign(&mut parts, flags & 1 == 0));
});
