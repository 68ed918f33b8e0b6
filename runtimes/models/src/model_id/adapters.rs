//! The digest of an adapter (model-id-v1 §4).

use std::path::{Path, PathBuf};

use kvcap::{Code, Error, Result, binding::Digest};

use super::{HashCache, canonical_files, hash_all};
use crate::source::file::Source;

/// The digest of an adapter's file, or of its folder's config and weights.
pub(crate) fn adapter_digest(path: &Path, cache: &HashCache) -> Result<Digest> {
    let source = |name: &str, path: PathBuf| Source {
        name: name.to_owned(),
        path,
    };
    let sources = if path.is_dir() {
        let weights: Vec<_> = ["adapter_model.safetensors", "adapters.safetensors"]
            .into_iter()
            .filter(|name| path.join(name).is_file())
            .collect();
        let [weights] = weights.as_slice() else {
            return Err(Error::new(
                Code::ModelMissing,
                "the adapter folder holds none or several files of weights",
            )
            .at(path.display()));
        };
        ["adapter_config.json", weights]
            .map(|name| source(name, path.join(name)))
            .to_vec()
    } else {
        vec![source("adapter", path.to_owned())]
    };
    let files = hash_all(&sources, cache, &|_, _| {})?;
    let mut out = Vec::new();
    canonical_files(&mut out, &files);
    Ok(Digest::labelled("kvcap v1 adapter", &[&out]))
}
