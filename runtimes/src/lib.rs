//! Adapters between runtimes' saved KV state and KV capsules.
//!
//! [`detect`] says which runtime wrote a file, [`parse`] names its banks and where their bytes lie
//! ([`State`]). From there on all runtimes are alike: [`Placed::read_frame`] takes a bank's frames
//! out of the file, [`residue()`] what is left of it, and on the way back [`Skeleton::state`] finds
//! the same places in the residue for [`Placed::write_frame`]. The formats are in
//! `spec/runtimes-v1.md`.

#![forbid(unsafe_code)]

mod arena;
mod bank_io;
mod check;
mod check_quality;
mod continued;
mod convert;
mod effect;
mod encoding;
mod extract;
mod file;
mod frames;
mod geometry;
mod hf;
mod kind;
mod layers;
mod llama_cpp;
mod mlx_lm;
mod open;
mod placement;
mod plan;
mod profile;
mod raw;
mod reseal;
mod residue;
mod safetensors;
mod scale;
mod seal;
mod state;
mod truncate;
mod whole;

pub use arena::Arena;
pub use check::Leftover;
pub use check_quality::check_quality;
pub use continued::Continued;
pub use convert::{Elements, Target, TargetRuntime, open_as};
pub use effect::EffectReceipt;
pub use encoding::Encoding;
pub use extract::{Extracted, Selection, extract};
pub use kind::{RuntimeKind, detect, parse};
pub use layers::{Layer, layers, open_layer};
pub use open::{OpenReport, open_state};
pub use plan::{Capture, Choice, Lineage, Plan, Prompt, Source};
pub use profile::{
    Equated, HashCache, ModelProfile, Progress, RuntimeOptions, ScalingKind, WeightsFile,
    attention_factor, equate, hadamard_block, inverse_frequencies, model_id, weights_digest,
};
pub use reseal::{as_sealed, reopen};
pub use residue::{Skeleton, residue};
pub use scale::{Predicted, Sample, predict};
pub use seal::{SealReport, seal_state};
pub use state::{Geometry, Hints, LayerGeometry, Order, Placed, Placement, ReadAt, State, WriteAt};
pub use truncate::truncate_state;
