//! Any file against one trusted key: nothing passes but what that key's holder signed, whole.

#![no_main]

use std::sync::LazyLock;

use kvcap_fuzz::check_all;
use kvcap_testvectors::fixture;
use libfuzzer_sys::fuzz_target;

static SIGNED: LazyLock<[Vec<u8>; 2]> =
    LazyLock::new(|| [fixture::base().file, fixture::other().file]);

fuzz_target!(|data: &[u8]| {
    let known = SIGNED.iter().any(|file| file == data);
    assert_eq!(check_all(data).is_ok(), known);
});
