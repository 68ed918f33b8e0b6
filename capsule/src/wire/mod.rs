//! Bytes outside the manifest: prologue, CBOR profile, COSE_Sign1, COSE_Sign, envelope, claims (capsule-v1 §2, §5).

pub(crate) mod cbor;
pub(crate) mod claims;
pub(crate) mod cose;
pub(crate) mod cose_sign;
pub(crate) mod envelope;
pub(crate) mod prologue;
