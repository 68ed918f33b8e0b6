//! Any text as a `.kvid` file: what is read is written and read again as the same profile.

#![no_main]

use std::{cell::LazyCell, fs};

use kvcap_fuzz::read_model;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static FOLDER: LazyCell<tempfile::TempDir> = LazyCell::new(|| tempfile::tempdir().unwrap());
}

fuzz_target!(|data: &[u8]| {
    let path = FOLDER.with(|folder| folder.path().join("model.kvid"));
    fs::write(&path, [b"{", data].concat()).unwrap();
    if let Ok(profile) = read_model(&path) {
        fs::write(&path, profile.to_kvid()).unwrap();
        assert_eq!(read_model(&path).ok(), Some(profile));
    }
});
