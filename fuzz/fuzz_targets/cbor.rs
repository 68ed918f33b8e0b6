//! The strict CBOR scan of a payload accepts exactly what a general decoder reads, encodes to the
//! same bytes again, and an independent walk finds to be in the profile.

#![no_main]

use kvcap::{Code, Error, Limits, Untrusted};
use kvcap_fuzz::{header_for, is_canonical};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let file = header_for(data.to_vec());
    let Ok(header) = Untrusted::read(&mut &*file, &Limits::default()) else {
        return; // lengths that no file can have
    };
    let code = header.outline().as_ref().map_err(Error::code).err();
    let refused = code.is_some_and(|code| (201..=206).contains(&code.number()));
    assert_eq!(refused, !is_canonical(data), "{code:?}");
    // of what is one whole item, only the form can be wrong
    let mut rest = data;
    let decoded = ciborium::from_reader::<ciborium::Value, _>(&mut rest);
    if code == Some(Code::CborTrailing) {
        assert!(decoded.is_err() || !rest.is_empty());
    }
});
