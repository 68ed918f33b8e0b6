//! Rows of a bank from one basis into another (runtimes-v1 §7.2).

use kvcap::binding::Pairing;
use kvcap_codecs::hadamard;
use kvcap_models::Change;

/// Changes `values`, rows of `dim` elements.
pub(super) fn apply(change: Change, values: &mut [f32], dim: usize) {
    if change.undo > 0 {
        hadamard(values, change.undo);
    }
    if let Some((rotary, pairing)) = change.pairs
        && dim > 0
    {
        let mut old = vec![0.0; rotary.min(dim)];
        for row in values.chunks_exact_mut(dim) {
            let row = &mut row[..rotary.min(dim)];
            old.copy_from_slice(row);
            let (low, high) = old.split_at(old.len() / 2);
            match pairing {
                Pairing::Interleaved => {
                    for (pair, (a, b)) in row.chunks_exact_mut(2).zip(low.iter().zip(high)) {
                        pair.copy_from_slice(&[*a, *b]);
                    }
                }
                Pairing::Half => {
                    let (low, high) = row.split_at_mut(old.len() / 2);
                    for (pair, (a, b)) in old.chunks_exact(2).zip(low.iter_mut().zip(high)) {
                        (*a, *b) = (pair[0], pair[1]);
                    }
                }
            }
        }
    }
    if change.apply > 0 {
        hadamard(values, change.apply);
    }
}
