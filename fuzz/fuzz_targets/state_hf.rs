//! Any bytes by the adapter of Hugging Face caches: what it accepts comes back byte for byte.

#![no_main]

use kvcap_fuzz::parse_state;
use kvcap_states::RuntimeKind;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| parse_state(RuntimeKind::HuggingFace, data));
