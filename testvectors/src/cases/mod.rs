//! The cases, by what they break.

pub mod accept;
pub mod accept_banks;
pub mod binding;
pub mod body;
pub mod cbor;
pub mod chain;
pub mod claims;
pub mod codec;
pub mod cose;
pub mod framing;
pub mod full_size;
pub mod header;
pub mod keys;
pub mod limits;
pub mod manifest;
pub mod memory;
pub mod recipients;
pub mod registry;
pub mod reissued;
pub mod resealed;
pub mod roots;
pub mod salamander;
pub mod signature;
pub mod streams;

use crate::case::Case;

/// Every case with the name of its file here.
pub fn all() -> impl Iterator<Item = (&'static str, &'static Case)> {
    [
        ("accept", accept::CASES),
        ("accept_banks", accept_banks::CASES),
        ("framing", framing::CASES),
        ("cose", cose::CASES),
        ("cbor", cbor::CASES),
        ("header", header::CASES),
        ("keys", keys::CASES),
        ("signature", signature::CASES),
        ("claims", claims::CASES),
        ("limits", limits::CASES),
        ("full_size", full_size::CASES),
        ("manifest", manifest::CASES),
        ("streams", streams::CASES),
        ("binding", binding::CASES),
        ("body", body::CASES),
        ("resealed", resealed::CASES),
        ("salamander", salamander::CASES),
        ("codec", codec::CASES),
        ("chain", chain::CASES),
        ("registry", registry::CASES),
        ("roots", roots::CASES),
        ("memory", memory::CASES),
        ("recipients", recipients::CASES),
        ("reissued", reissued::CASES),
    ]
    .into_iter()
    .flat_map(|(group, cases)| cases.iter().map(move |case| (group, case)))
}
