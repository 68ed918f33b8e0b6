//! Keys, ciphers, chunks and their tables (capsule-v1 §4, §7.4, §9).

mod aead;
pub(crate) mod chunk;
pub(crate) mod external;
mod hpke;
pub(crate) mod recipient;
pub(crate) mod recipient_key;
pub(crate) mod schedule;
#[cfg(feature = "hazmat")]
pub(crate) mod steps;
pub(crate) mod table;
pub(crate) mod wrapping_key;
