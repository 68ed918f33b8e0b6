//! Calls that the bindings to other languages share: each once, over files and memory, with values that any language has.
//!
//! ```text
//! bindings/{python,node,c}: types and lifetimes → here: one call each → kvcap-store's Verifier, kvcap-states' adapters
//! ```
//!
//! No policy and no format: whom to trust, whose keys and which model is a [`Profile`]'s, and what is accepted the one
//! verifier's. No `unsafe`: a binding lends memory of its language by a [`ReadAt`](kvcap::ReadAt) of its own.

#![forbid(unsafe_code)]

mod keys;
mod model;
mod open;
mod profile;
mod progress;
mod registry;
mod seal;
mod session;
mod source;
mod terms;
mod verdict;
mod verify;

pub use keys::{Key, new_signing_key, new_wrapping_key, read_public_key};
pub use model::{Claims, Model, inspect, model_id};
pub use open::{Opened, open, open_to_file};
pub use profile::{Given, Profile, begin};
pub use progress::Progress;
pub use registry::{Edit, Registry, Root, change_registry, create_registry, new_root_key};
pub use seal::{Said, Sealed, seal, seal_to_file};
pub use session::{Checkpoint, Resumed, Session, SessionManager};
pub use source::{Bytes, Source};
pub use terms::{Asked, Terms};
pub use verdict::Verdict;
pub use verify::{Verifying, verify};
