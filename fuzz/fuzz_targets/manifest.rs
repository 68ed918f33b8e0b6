//! A manifest of any bytes in a signed header: shown to people and verified by the same rules.

#![no_main]

use kvcap::{Error, Limits, Untrusted};
use kvcap_fuzz::header_for;
use kvcap_testvectors::context::Context;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let file = header_for(data.to_vec());
    let read = || Untrusted::read(&mut &*file, &Limits::default());
    let (Ok(shown), Ok(signed)) = (read(), read()) else {
        return;
    };
    let context = Context::default();
    let trust = context.trust().expect("the vectors' key is strong");
    let verified = context.with_policy(&trust, context.now, |policy| signed.verify(policy));
    match (shown.outline(), verified) {
        (Ok(outline), Ok(verified)) => {
            assert_eq!(
                outline.streams.len(),
                verified.manifest().context.streams.len()
            );
        }
        (Err(shown), verified) => {
            assert_eq!(
                Some(shown.code()),
                verified.as_ref().map_err(Error::code).err()
            );
        }
        (Ok(_), Err(_)) => {} // lawful, and not what was expected
    }
});
