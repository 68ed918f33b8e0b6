//! Limits that a caller lowers to what the base capsule needs, and to one less (capsule-v1 §10).

use crate::{
    case::{Made, given},
    cases, fixture,
    parts::lengths,
};

/// Each limit by name, as low as the base capsule allows.
fn least() -> [(&'static str, u64); 8] {
    let (envelope, tables, body) = lengths(&fixture::base().file);
    [
        ("envelope", envelope as u64),
        ("tables", tables as u64),
        ("streams", 4),
        ("recipients", 1),
        ("layers", 1),
        ("adapters", 1),
        ("dimensions", 3),
        // exact and raw: as many plain bytes as the body has
        ("budget", body as u64),
    ]
}

/// One limit, one below what is needed.
fn below(name: &str) -> Made {
    given(|context| {
        let found = least().into_iter().find(|(own, _)| *own == name);
        let (own, least) = found.unwrap();
        context.limits.insert(own.to_owned(), least - 1);
    })
}

cases! {
    /// every limit is exactly what the capsule needs
    limits_exact: A 0 Accept ["§10"] = given(|context| {
        context.limits.extend(least().map(|(name, least)| (name.to_owned(), least)));
    });
    /// an envelope one byte over the caller's limit
    limit_envelope: C 105 Header ["CAP-F-3" "§10"] = below("envelope");
    /// tables one byte over the caller's limit
    limit_tables: C 105 Header ["CAP-F-3" "§10"] = below("tables");
    /// a stream too many for the caller
    limit_streams: C 503 Verify ["CAP-M-3" "§10"] = below("streams");
    /// a recipient too many for the caller
    limit_recipients: C 503 Verify ["CAP-M-3" "§10"] = below("recipients");
    /// a layer too many for the caller
    limit_layers: C 503 Verify ["CAP-M-3" "§10"] = below("layers");
    /// an adapter too many for the caller
    limit_adapters: C 503 Verify ["CAP-M-3" "§10"] = below("adapters");
    /// a dimension too many for the caller
    limit_dimensions: C 503 Verify ["CAP-M-3" "§10"] = below("dimensions");
}
