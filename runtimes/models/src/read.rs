//! A model's profile read from a model folder, a GGUF file or a `.kvid` file (model-id-v1).

use std::path::{Path, PathBuf};

use kvcap::{
    Code, Error, Result,
    binding::{Adapter, F64Bits, Model},
};

use crate::{
    kvid,
    model_id::{HashCache, Progress, adapter_digest, hash_all, model_id, weights_digest},
    options::RuntimeOptions,
    profile::ModelProfile,
    source::{file::first_bytes, folder, split},
};

/// Most adapters (capsule-v1 §10).
const ADAPTERS: usize = 64;

impl ModelProfile {
    /// Reads a model folder, a GGUF file (any of its splits) or a `.kvid` file.
    ///
    /// Each adapter is a file or a folder with an `adapter_config.json`, with the factor that it is
    /// applied with, in the order of application; those of a `.kvid` file come before. `progress`
    /// is told bytes hashed and bytes in all.
    ///
    /// # Errors
    ///
    /// 930 for a malformed file, 931 for a model that cannot be bound, 932 for a missing file, 940
    /// for one that cannot be read, 944 for options that do not go with the model.
    pub fn read(
        path: &Path,
        adapters: &[(PathBuf, f64)],
        options: &RuntimeOptions,
        cache: &HashCache,
        progress: Progress<'_>,
    ) -> Result<Self> {
        let mut profile = if path.is_dir() {
            Self::from_facts(folder::read(path)?, cache, progress)?
        } else if path
            .extension()
            .is_some_and(|extension| extension == "kvid")
        {
            // a profile is taken at its word, so that its name says it: no file becomes one by its bytes
            kvid::read(path)?
        } else if first_bytes(path)?.as_slice() == b"GGUF" {
            Self::from_facts(split::read(path)?, cache, progress)?
        } else {
            let what = "this is neither a model folder nor a gguf file, nor named *.kvid";
            return Err(Error::new(Code::ModelMalformed, what).at(path.display()));
        };
        if adapters.len() + profile.model.adapters.len() > ADAPTERS
            || !adapters.iter().all(|(_, scale)| scale.is_finite())
        {
            return Err(Error::new(
                Code::LocalUsage,
                "there are more than 64 adapters, or one is applied with no finite factor",
            ));
        }
        for (path, scale) in adapters {
            profile.model.adapters.push(Adapter {
                digest: adapter_digest(path, cache)?,
                scale: F64Bits(scale.to_bits()),
            });
        }
        profile.model.id = profile.id();
        profile.rope = options.apply(profile.rope, &profile.geometry)?;
        Ok(profile)
    }

    fn from_facts(facts: folder::Facts, cache: &HashCache, progress: Progress<'_>) -> Result<Self> {
        let weights = hash_all(&facts.weights, cache, progress)?;
        let digest = weights_digest(&weights);
        Ok(Self {
            model: Model {
                id: model_id(&weights, facts.config, &[]),
                weights: digest,
                config: facts.config,
                adapters: Vec::new(),
                name: facts.name,
            },
            weights,
            tokenizer: facts.tokenizer,
            rope: facts.rope,
            geometry: facts.geometry,
        })
    }
}
