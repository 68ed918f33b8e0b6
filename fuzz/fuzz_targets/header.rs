//! Prologue and envelope of any bytes: what is accepted and the code of what is refused do not
//! depend on how the bytes arrive.

#![no_main]

use kvcap::{Error, Limits, Untrusted};
use kvcap_fuzz::Ragged;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = Limits::default();
    let slice = Untrusted::read_at(data, &limits);
    let pieces = Untrusted::read(&mut Ragged::new(data), &limits);
    let shown = |result: &kvcap::Result<Untrusted>| {
        let header = result.as_ref().map_err(Error::code)?;
        Ok::<_, kvcap::Code>((header.claims().clone(), header.file_len()))
    };
    assert_eq!(shown(&slice), shown(&pieces));
    if let Ok(header) = slice {
        let _ = header.outline();
    }
});
