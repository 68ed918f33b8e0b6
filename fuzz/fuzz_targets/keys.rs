//! Any text as a key file: what is read is written again as the same key.

#![no_main]

use kvcap::{PublicKey, RecipientPublicKey, SigningKey, WrappingKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(key) = PublicKey::from_text(text) {
        assert!(text.contains(&key.to_text()));
        assert_eq!(PublicKey::from_bytes(&key.to_bytes()).ok(), Some(key));
    }
    if let Ok(key) = RecipientPublicKey::from_text(text) {
        assert!(text.contains(&key.to_text()));
        let again = RecipientPublicKey::from_bytes(key.kind(), key.as_bytes());
        assert_eq!(again.ok(), Some(key));
    }
    if let Ok(key) = SigningKey::from_text(text) {
        assert!(text.contains(key.to_secret_text().expect("it is here").as_str()));
    }
    if let Ok(key) = WrappingKey::from_text(text) {
        assert!(text.contains(key.to_secret_text().expect("it is here").as_str()));
    }
});
