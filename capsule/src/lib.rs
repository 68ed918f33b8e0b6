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
//! A server that receives an upload feeds it as it comes: [`PushHeader`], then [`Verified::push_body`]
//! (`examples/receive.rs` is a full round trip).
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

// the ground floor
mod digest;
mod error;
pub mod hazmat;
mod io;
mod keys;
mod limits;
mod suite;
mod workers;

// the rooms, in the order of capsule-v1; each knows those above it
mod wire;

pub mod binding;

mod manifest;

mod crypto;

mod trust;

mod verify;

mod open;
mod seal;

// what banks are
pub use manifest::{Bank, Role, Rows};
// keys and trust
pub use binding::PrefixKey;
pub use crypto::{
    recipient::Recipient, recipient_key::RecipientPublicKey, wrapping_key::WrappingKey,
};
pub use keys::{CapsuleId, KeyId, PublicKey, SigningKey};
pub use manifest::RecipientKind;
pub use trust::{
    Purpose, Status, Trust, TrustedKey,
    registry::{Change, Listing, Mark, Registry, Revoked, RootKey, RootPublic, UntrustedRegistry},
};
// what a verifier remembers
pub use trust::{
    ledger::{InMemory, Ledger, Memory, MemoryTable, Transaction, Usage},
    lock::Lock,
};
// sealing
pub use seal::{Cut, Draft, Sealed, Sealer};
pub use wire::claims::Terms;
// verifying and opening
pub use binding::PrefixValue;
pub use limits::{Limits, MAX_CHUNK, MAX_LIFETIME, MAX_REGISTRY, MAX_SKEW, MIN_CHUNK};
pub use manifest::{Outline, OutlineStream};
pub use open::{
    chain::{Chain, Members, OpenedChain, Part},
    opened::Opened,
    reader::StreamReader,
};
pub use verify::{
    body::BodyChecked,
    policy::{ByRuntime, Expected, Needs, Policy, RESTORE},
    push::{Fed, PushBody, PushHeader},
    step::Step,
    untrusted::{Untrusted, Verified},
};
pub use wire::claims::Claims;
// a new header over the same body
pub use seal::renew::{Reissued, Reissuer, Renewal, Rewrap};
// the manifest
pub use manifest::{
    BankEntry, CaptureFlags, Context, Fallback, Manifest, Parent, Prefix, RotationTable, RowsEntry,
    Section, SectionKind, Stream, StreamDigest,
};
pub use suite::Suite;
// measuring
#[cfg(feature = "hazmat")]
pub use crypto::steps::ChunkSteps;
// models in two formats
pub use trust::equivalence::Equivalence;
// errors and access
pub use error::{Code, Error, IoSide, Outcome, Public, Result};
pub use io::{ReadAt, Seekable, SourceFile, WriteAt};
pub use workers::{Ticket, Workers};
