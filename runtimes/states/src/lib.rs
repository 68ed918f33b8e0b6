//! Adapters between runtimes' saved KV state and KV capsules.
//!
//! [`detect`] says which runtime wrote a file, [`parse`] names its banks and where their bytes lie
//! ([`State`]). From there on all runtimes are alike: [`Placed::read_frame`] takes a bank's frames
//! out of the file, [`residue()`] what is left of it, and on the way back [`Skeleton::state`] finds
//! the same places in the residue for [`Placed::write_frame`]. The formats are in
//! `spec/runtimes-v1.md`.

#![forbid(unsafe_code)]

mod adapters;
mod installed;
mod pipeline;
mod predict;
mod profiles;
mod restore_check;
mod state;
mod token_ids;
mod transform;

// state files
pub use adapters::{RuntimeKind, detect, parse};
pub use installed::installed_version;
pub use pipeline::{Skeleton, residue};
pub use state::{Hints, Leftover, Order, Placed, ReadAt, Region, State, WriteAt};
// prompts
pub use token_ids::TokensFormat;
// sealing
pub use pipeline::{
    Capture, Choice, Chosen, Continued, Encoding, Fallback, Lineage, Plan, Prompt, SealReport,
    SealRequest, Source, seal_state,
};
// opening
pub use pipeline::{
    Arena, Buffer, OpenReport, Receipt, check_quality, check_rotation, open_state, receipts,
    state_len,
};
pub use restore_check::RestoreCheck;
// profiles of codecs
pub use profiles::{
    KnownProfile, look_for_profiles_beside, look_for_profiles_in, offer_profile, profile_bytes,
    profile_file_name, read_profile,
};
// into other states
pub use transform::{
    Elements, Extracted, Layer, Selection, Target, TargetRuntime, as_sealed, can_be_cut, extract,
    layers, open_as, open_layer, reopen, truncate_state,
};
// sizes before anything is sealed
pub use predict::{Predicted, Sample, predict};
