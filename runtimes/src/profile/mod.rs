//! A model's identity and the facts that its cache depends on, from a model folder, a GGUF file or
//! a `.kvid` file (model-id-v1).

mod cache;
mod config;
mod equate;
mod families;
mod folder;
mod gguf;
mod gguf_model;
mod hash;
mod json;
mod kvid;
mod kvid_fields;
mod kvid_scaling;
mod options;
mod rope;
mod split;
mod tensors;
mod tokenizer;
mod value;

use std::path::{Path, PathBuf};

use kvcap::{
    Code, Error, Result, Role,
    binding::{Adapter, Digest, F64Bits, Model, Pairing, Rope, Tokenizer},
};

pub use cache::HashCache;
pub use equate::{Equated, equate};
pub use hash::{Progress, WeightsFile, model_id, weights_digest};
pub use options::{RuntimeOptions, ScalingKind, hadamard_block};
pub use rope::{attention_factor, inverse_frequencies};

use crate::state::{Geometry, LayerGeometry};

/// Most adapters (capsule-v1 §10).
const ADAPTERS: usize = 64;

/// What a capsule is bound to on the model's side.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelProfile {
    /// Weights, config and adapters, and the id over them.
    pub model: Model,
    /// The weights files, sorted by name; with `model` they give the id again.
    pub weights: Vec<WeightsFile>,
    /// How text becomes token ids.
    pub tokenizer: Tokenizer,
    /// Rotary embeddings by groups of layers; none for models without.
    pub rope: Vec<Rope>,
    /// What each layer keeps.
    pub geometry: Geometry,
}

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
        } else {
            match hash::first_bytes(path)?.as_slice() {
                b"GGUF" => Self::from_facts(split::read(path)?, cache, progress)?,
                [b'{' | b' ' | b'\n' | b'\r' | b'\t', ..] => kvid::read(path)?,
                _ => {
                    return Err(Error::new(
                        Code::ModelMalformed,
                        "this is neither a model folder nor a gguf or kvid file",
                    )
                    .at(path.display()));
                }
            }
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
        let weights = hash::hash_all(&facts.weights, cache, progress)?;
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

    /// The model id that the parts give.
    fn id(&self) -> Digest {
        model_id(&self.weights, self.model.config, &self.model.adapters)
    }

    /// The content of a `.kvid` file that holds this profile (model-id-v1 §10).
    #[must_use]
    pub fn to_kvid(&self) -> String {
        kvid::write(self)
    }

    /// The banks that a state of this model needs, whichever runtime saved it: keys and values of
    /// every layer of attention.
    #[must_use]
    pub fn needed_banks(&self) -> Vec<(Role, u32)> {
        let attention = |layer: &LayerGeometry| matches!(layer, LayerGeometry::Attention { .. });
        self.layers_that(attention)
            .flat_map(|layer| [(Role::Key, layer), (Role::Value, layer)])
            .collect()
    }

    /// The layers of which a state of this model needs some bank, where runtimes differ in which:
    /// latent attention and recurrent layers.
    #[must_use]
    pub fn needed_layers(&self) -> Vec<u32> {
        let kept = |layer: &LayerGeometry| {
            matches!(
                layer,
                LayerGeometry::Latent { .. } | LayerGeometry::Recurrent
            )
        };
        self.layers_that(kept).collect()
    }

    fn layers_that(&self, kind: fn(&LayerGeometry) -> bool) -> impl Iterator<Item = u32> {
        (0..)
            .zip(&self.geometry.layers)
            .filter(move |(_, layer)| kind(layer))
            .map(|(number, _)| number)
    }

    /// The ropes as a runtime stores keys with them: mlx-lm interleaves the rotated part of a
    /// latent's keys, whatever the folder's own implementation does.
    #[must_use]
    pub fn rope_in(&self, runtime: &str) -> Vec<Rope> {
        let mut ropes = self.rope.clone();
        if runtime == "mlx-lm" {
            for rope in &mut ropes {
                let latent = rope.layers.iter().any(|layer| {
                    let kept = usize::try_from(*layer)
                        .ok()
                        .and_then(|i| self.geometry.layers.get(i));
                    matches!(kept, Some(LayerGeometry::Latent { .. }))
                });
                if latent {
                    rope.pairing = Pairing::Interleaved;
                }
            }
        }
        ropes
    }
}

/// The digest of an adapter's file, or of its folder's config and weights.
fn adapter_digest(path: &Path, cache: &HashCache) -> Result<Digest> {
    let source = |name: &str, path: PathBuf| hash::Source {
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
    let files = hash::hash_all(&sources, cache, &|_, _| {})?;
    let mut out = Vec::new();
    hash::canonical_files(&mut out, &files);
    Ok(Digest::labelled("kvcap v1 adapter", &[&out]))
}
