//! Wrong inputs for the demo: another model, and capsules with a changed body.

use std::path::Path;

use kvcap::{Limits, Result, Untrusted, binding::Digest};
use kvcap_models::{HashCache, ModelProfile, RuntimeOptions, model_id, weights_digest};

use super::faulty;

/// The same model with other weights, as a fine-tune has.
pub(crate) fn other_weights(model: &Path) -> Result<String> {
    let options = RuntimeOptions::default();
    let mut profile = ModelProfile::read(model, &[], &options, &HashCache::off(), &|_, _| {})?;
    if let Some(file) = profile.weights.first_mut() {
        file.digest = Digest([0xA5; 32]);
    }
    let model = &mut profile.model;
    model.weights = weights_digest(&profile.weights);
    model.id = model_id(&profile.weights, model.config, &model.adapters);
    model.name = "a fine-tune of it".to_owned();
    Ok(profile.to_kvid())
}

/// The capsule with one bit of its first bank flipped, and with its first two keys' chunks swapped.
pub(crate) fn tampered(capsule: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let untrusted = Untrusted::read_at(capsule, &Limits::default())?;
    let outline = untrusted.outline()?;
    let body: u64 = outline
        .streams
        .iter()
        .map(|stream| stream.encoded_len)
        .sum();
    let mut at = untrusted.file_len().saturating_sub(body);
    let mut keys = Vec::new();
    for stream in &outline.streams {
        let end = at.saturating_add(stream.encoded_len);
        if stream.kind == "key" {
            keys.push((usize::try_from(at), usize::try_from(end)));
        }
        at = end;
    }
    let [(Ok(first), Ok(first_end)), (Ok(second), Ok(second_end)), ..] = keys.as_slice() else {
        return Err(faulty("the demo's state has no two banks of keys"));
    };
    let mut flipped = capsule.to_vec();
    if let Some(byte) = flipped.get_mut(*first) {
        *byte ^= 1;
    }
    let mut swapped = capsule.to_vec();
    let parts = swapped
        .split_at_mut_checked(*second)
        .and_then(|(low, high)| {
            let one = low.get_mut(*first..*first_end)?;
            let two = high.get_mut(..second_end.checked_sub(*second)?)?;
            (one.len() == two.len()).then(|| one.swap_with_slice(two))
        });
    match parts {
        Some(()) => Ok((flipped, swapped)),
        None => Err(faulty("the demo's banks of keys differ in length")),
    }
}
