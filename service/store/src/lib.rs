//! Files of capsules and keys, and the one [`Verifier`] that decides what is accepted.
//!
//! The program, the server and the bindings call it and add no rule of their own:
//!
//! ```text
//! TrustSources ─┐
//! Ledger ───────┼─ Verifier ─judge→ Judge ─verify(Untrusted)→ Verdict ─with_ancestors→ Verdict
//! audience, … ──┘                                  the body is at hand ─conclude→ Accepted ─open→ Admitted
//! ```
//!
//! - [`Verifier`], [`Judge`], [`Verdict`], [`Accepted`]: verification as its operator has set it up, and what
//!   was left [`Unchecked`] (capsule-v1 §3.2).
//! - [`TrustSources`], [`RegistryFile`], [`LedgerSource`]: whom it trusts, and what it remembers (registry-v1 §§4, 5).
//! - [`Ancestors`]: where the capsules are that an increment continues (lineage-v1 §2).
//! - [`SealingKeys`], [`Sealer`], [`Parties`]: who seals a capsule, and for whom.
//! - [`key_file`], where a helper program may hold the secret (helper-v1), [`Passphrases`], [`key_folder`], [`WrapKeys`]: keys in files, a key a tenant and day, and their end
//!   (registry-v1 §6).
//! - [`profile`]: what a person would else say with flags every day.
//! - [`CapsuleStore`]: capsules that are kept for others, each put once; [`FolderStore`], in a folder;
//!   with the feature `shared` `Shared`, for many servers: a bucket and PostgreSQL, and an [`Edge`] before them.
//! - [`input`], [`output`]: inputs that may be pipes, outputs that appear whole or not at all; [`operation`]: what
//!   these do to the disk, for tests that crash in between; [`private`]: files and folders of one user;
//!   [`core_dumps`]: none.

#![forbid(unsafe_code)]

mod ahead;
mod ancestors;
mod budget;
mod capsule_store;
#[cfg(feature = "client")]
pub mod client;
mod continuation;
pub mod core_dumps;
mod edge;
mod folder_store;
mod fresh_key;
mod helper;
pub mod input;
pub mod key_file;
pub mod key_folder;
mod ledger_file;
mod lock;
mod memory_file;
mod memory_image;
pub mod operation;
pub mod output;
mod passphrase;
pub mod private;
pub mod profile;
pub mod prune;
mod registry_file;
mod registry_writing;
mod resealed;
mod revocation;
mod sealing_keys;
#[cfg(feature = "shared")]
mod shared;
mod signals;
mod spool;
pub mod time;
#[cfg(feature = "tls")]
pub mod tls;
mod trust;
mod unchecked;
mod verdict;
mod verifier;
mod version_store;
mod wrap_keys;

// verifying
pub use ancestors::{Ancestors, capsules_in};
pub use budget::default_budget;
pub use continuation::Continuation;
pub use kvcap::Unchecked;
pub use registry_file::{RegistryFile, choose_root, roots};
pub use registry_writing::{Changed, NextVersion, StatedBy};
pub use resealed::resealed_terms;
pub use revocation::revocable_id;
pub use trust::TrustSources;
pub use verdict::{Accepted, Admitted, Verdict};
pub use verifier::{Judge, Verifier};
// keeping for others
pub use ahead::{Ahead, Piece};
pub use capsule_store::{Arriving, CapsuleStore, Claimed, Coming, Entry, Name, Space, Stored, Tag};
pub use edge::{Edge, EdgeOutcomes, EdgeSettings, Measure, Told};
pub use folder_store::FolderStore;
#[cfg(feature = "shared")]
pub use shared::Shared;
pub use version_store::{MOST_VERSIONS, Version, VersionPut, VersionStore, is_sealed_version};
// remembering
pub use ledger_file::{LedgerFile, LedgerSource, Remembered};
pub use lock::{Lock, Wait};
// keys
pub use fresh_key::FreshKey;
pub use passphrase::{Ask, Passphrases, passphrase_in};
pub use sealing_keys::{Parties, Sealer, SealingKeys};
pub use wrap_keys::WrapKeys;
