//! Where capsules and keys are kept, and the one [`Verifier`] that decides what is accepted.
//!
//! The program, the server and the bindings call it and add no rule of their own:
//!
//! ```text
//! TrustSources ─┐
//! Ledger ───────┼─ Verifier ─judge(Expected)→ Judge ─verify(Untrusted)→ Verdict ─with_ancestors→ Verdict
//! audience, … ──┘                                                       names what was not checked
//! ```
//!
//! - [`Verifier`], [`Judge`], [`Verdict`]: verification as its operator has set it up (capsule-v1 §11.2).
//! - [`TrustSources`], [`RegistryFile`], [`LedgerFile`]: whom it trusts, and what it remembers (registry-v1 §§4, 5).
//! - [`Ancestors`]: where the capsules are that an increment continues (capsule-v1 §9).
//! - [`key_file`], [`key_folder`], [`WrapKeys`]: keys in files, a key a tenant and day, and their end (registry-v1 §6).
//! - [`input`], [`output`]: inputs that may be pipes, outputs that appear whole or not at all.

#![forbid(unsafe_code)]

mod ancestors;
pub mod input;
pub mod key_file;
pub mod key_folder;
mod ledger_file;
pub mod output;
mod redb_memory;
mod registry_file;
mod resealed;
pub mod time;
mod trust;
mod verifier;
mod wrap_keys;

// verifying
pub use ancestors::{Ancestors, capsules_in};
pub use registry_file::{RegistryFile, choose_root, roots};
pub use resealed::resealed_terms;
pub use trust::TrustSources;
pub use verifier::{Admitted, Judge, Unchecked, Verdict, Verifier};
// remembering
pub use ledger_file::LedgerFile;
// keys
pub use wrap_keys::WrapKeys;
