//! Models, as far as their KV cache depends on them: identity, tokenizer, rotary embedding, geometry.
//!
//! [`ModelProfile::read`] takes a model folder, a GGUF file or a `.kvid` file, and gives what a capsule is bound
//! to. Weights are hashed once and remembered ([`HashCache`]). The rules are `spec/model-id-v1.md`.
//!
//! ```no_run
//! use kvcap_models::{HashCache, ModelProfile, RuntimeOptions};
//!
//! # fn main() -> kvcap::Result<()> {
//! let (options, cache) = (RuntimeOptions::default(), HashCache::user());
//! let profile = ModelProfile::read("model.gguf".as_ref(), &[], &options, &cache, &|_, _| {})?;
//! println!("{} has {} layers", profile.model.id, profile.geometry.layers.len());
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod equate;
mod families;
mod geometry;
mod json;
mod kvid;
mod model_id;
mod options;
mod profile;
mod read;
mod rope;
pub mod safetensors;
mod source;
mod tokenizer;

// a model's facts
pub use geometry::{Geometry, LayerGeometry};
pub use options::{RuntimeOptions, ScalingKind, hadamard_block, parse_adapter};
pub use profile::ModelProfile;
pub use rope::{Change, attention_factor, inverse_frequencies};
// its identity
pub use equate::{Equated, equate};
pub use model_id::{HashCache, Progress, WeightsFile, model_id, weights_digest};
