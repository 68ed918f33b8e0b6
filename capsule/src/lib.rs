//! The KV capsule: a language model's attention state, signed, encrypted and bound to the model,
//! tokenizer, positions and time that it is valid for. The format is `spec/capsule-v1.md`.
//!
//! Trust is a type, and each step consumes the one before:
//!
//! ```text
//! bytes ─read→ Untrusted ─verify(Policy)→ Verified ─open(WrappingKey)→ Opened
//!              may show     may show           may read
//!              Claims       its Manifest,      banks and sections
//!                           check its body
//! ```
//!
//! A capsule that continues another one is verified with its ancestors as a [`Chain`], and opens as one.
//!
//! [`Sealer`] is the other direction. This crate knows bytes: encoding and decoding of banks is
//! `kvcap-codecs`, runtimes' state files are `kvcap-runtimes`.
//!
//! ```
//! use kvcap::{Expected, Limits, Policy, SigningKey, Trust, Untrusted};
//!
//! # fn main() -> kvcap::Result<()> {
//! let trust = Trust::from(SigningKey::generate()?.public());
//! let policy = Policy::new(&trust, 1_800_000_000, "local", Expected::danger_any_model());
//! let refused = Untrusted::read(&mut &b"not a capsule"[..], &Limits::default())
//!     .and_then(|capsule| capsule.verify(&policy));
//! assert_eq!(refused.unwrap_err().code().number(), 101);
//! # Ok(())
//! # }
//! ```
//!
//! A capsule that is not verified has no manifest, and one that is not opened has no banks:
//!
//! ```compile_fail,E0599
//! fn peek(capsule: kvcap::Untrusted) { capsule.manifest(); }
//! ```
//!
//! ```compile_fail,E0599
//! fn peek(capsule: kvcap::Verified) { capsule.stream(0); }
//! ```
//!
//! Verifying consumes, so that nothing is verified twice or against two policies:
//!
//! ```compile_fail,E0382
//! fn twice(capsule: kvcap::Untrusted, policy: &kvcap::Policy<'_>) {
//!     let _ = capsule.verify(policy);
//!     let _ = capsule.verify(policy);
//! }
//! ```

#![forbid(unsafe_code)]

mod aead;
mod bank;
pub mod binding;
mod body;
mod cbor;
mod chain;
mod cose;
mod cut;
mod envelope;
mod equivalence;
mod error;
pub mod hazmat;
mod hpke;
mod io;
mod keys;
mod ledger;
mod limits;
mod link;
mod lock;
mod manifest;
mod open;
mod outline;
mod policy;
mod prefix;
mod prologue;
mod recipient;
mod registry;
mod reissue;
mod schedule;
mod seal;
mod step;
#[cfg(feature = "store")]
mod store;
mod table;
mod trust;
mod verify;
mod workers;
mod wrapping;

// what banks are
pub use bank::{Bank, Role, Rows};
// keys and trust
pub use keys::{CapsuleId, KeyId, PublicKey, SigningKey};
pub use registry::{
    Change, Listing, Mark, Registry, Revoked, RootKey, RootPublic, UntrustedRegistry,
};
pub use trust::{Purpose, Status, Trust, TrustedKey};
pub use wrapping::{PrefixKey, Recipient, RecipientKey, RecipientKind, WrappingKey};
// what a verifier remembers
pub use ledger::{Ledger, Usage};
pub use lock::Lock;
#[cfg(feature = "store")]
pub use store::Store;
// sealing
pub use cut::Cut;
pub use envelope::Terms;
pub use seal::{Draft, Sealed, Sealer};
// verifying and opening
pub use body::BodyChecked;
pub use chain::{Chain, Members, OpenedChain, Part};
pub use envelope::Claims;
pub use limits::{Limits, MAX_CHUNK, MAX_LIFETIME, MAX_REGISTRY, MIN_CHUNK};
pub use open::{Opened, StreamReader};
pub use outline::{Outline, OutlineStream};
pub use policy::{Expected, MAX_SKEW, Policy, RESTORE};
pub use prefix::PrefixValue;
pub use step::Step;
pub use verify::{Untrusted, Verified};
// a new header over the same body
pub use reissue::{Header, Reissuer, Renewal, Rewrap};
// the manifest
pub use manifest::{
    BankEntry, CaptureFlags, Context, Fallback, Manifest, Measured, Parent, Prefix, RotationTable,
    RowsEntry, Section, SectionKind, Stream, Suite,
};
// models in two formats
pub use equivalence::Equivalence;
// errors and access
pub use error::{Code, Error, Outcome, Result};
pub use io::{Buffer, ReadAt, Seekable, WriteAt};
pub use workers::{Turn, Workers};
