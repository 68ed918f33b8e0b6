//! Any bytes as a GGUF model.

#![no_main]

use std::{cell::LazyCell, fs};

use kvcap_fuzz::read_model;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static FOLDER: LazyCell<tempfile::TempDir> = LazyCell::new(|| tempfile::tempdir().unwrap());
}

fuzz_target!(|data: &[u8]| {
    let path = FOLDER.with(|folder| folder.path().join("model.gguf"));
    fs::write(&path, [b"GGUF", data].concat()).unwrap();
    if let Ok(mut profile) = read_model(&path) {
        // which a .kvid file does not hold (model-id-v1 §10)
        profile.geometry.architecture = None;
        let path = path.with_extension("kvid");
        fs::write(&path, profile.to_kvid()).unwrap();
        assert_eq!(
            read_model(&path).ok(),
            Some(profile),
            "what was read can be kept"
        );
    }
});
