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
//! A round trip: seal what one section holds, verify it with the public key alone, open it with the reader's.
//!
//! ```
//! use kvcap::{
//!     Context, Draft, Expected, Limits, Policy, Sealer, Section, SectionKind, SigningKey, Terms, Trust,
//!     Untrusted, Workers, WrappingKey,
//!     binding::{Digest, Model, Runtime, Tokenizer},
//! };
//!
//! # fn main() -> kvcap::Result<()> {
//! let signer = SigningKey::generate()?.speaking_for("prefill.example.com")?;
//! let reader = WrappingKey::generate()?;
//! let of = |what: &str| Digest::labelled("an example", &[what.as_bytes()]);
//! let model = Model::new(of("model"), of("weights"), of("config"));
//! let tokenizer = Tokenizer::new(of("vocabulary"), 32_000);
//!
//! // what it is of, for whom and until when; then the bytes of its streams, in order
//! let note = b"tests failed; retry step 7";
//! let streams = vec![Section::new(SectionKind::AgentState, 26).into()];
//! let runtime = Runtime::new("raw", "safetensors");
//! let context = Context::new(model.clone(), tokenizer.clone(), runtime, 0..1, 1, streams);
//! let (now, hour) = (1_800_000_000, 3600);
//! let terms = Terms::new(&signer.issuer(), "cache.example.com", now, now + hour);
//! let out = std::sync::Mutex::new(Vec::new());
//! let sealer = Sealer::new(out, Draft::new(terms, context), &signer, &[&reader])?;
//! sealer.write(note)?;
//! sealer.end_stream()?;
//! let file = sealer.finish()?.0.into_inner().unwrap_or_default();
//!
//! let trust = Trust::from(&signer);
//! let expected = Expected::of(&model, &tokenizer, &[]);
//! let policy = Policy::new(&trust, now, "cache.example.com", expected);
//! let verified = Untrusted::read_at(&file, &Limits::default())?.verify(&policy)?;
//! verified.check_body_at(&file, Workers::ONE, &mut |_| {})?;
//!
//! let opened = verified.open(file, &reader)?.release()?;
//! assert_eq!(opened.section(&SectionKind::AgentState)?.as_deref(), Some(&note[..]));
//! # Ok(())
//! # }
//! ```
//!
//! - `examples/seal_open.rs` seals banks of a layer and reads them back; `examples/receive.rs` is a server that
//!   receives an upload: [`PushHeader`], then [`Verified::push_body`].
//! - A capsule that continues another one is verified with its ancestors as a [`Chain`], and opens as one.
//! - This crate knows bytes. Encoding and decoding of banks is `kvcap-codecs`, what a model is `kvcap-models`,
//!   runtimes' state files are `kvcap-states`, and policy over files and ledgers is `kvcap-store`.
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
pub mod text;
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
    external::{ExternalUnwrapper, WrappedContent},
    recipient::Recipient,
    recipient_key::RecipientPublicKey,
    wrapping_key::WrappingKey,
};
pub use keys::{CapsuleId, KeyId, PublicKey, SigningKey, external::ExternalSigner};
pub use manifest::RecipientKind;
pub use trust::{
    Purpose, Status, Trust, TrustedKey,
    registry::{
        Change, Listing, Mark, Proposal, Registry, Revoked, Root, RootKey, RootPublic, Roots,
        UntrustedRegistry,
    },
};
// what a verifier remembers
pub use trust::ledger::{InMemory, Ledger, Memory, MemoryTable, Transaction, Usage};
// sealing
pub use seal::{Cut, Draft, Sealed, Sealer};
pub use wire::claims::{Session, Terms};
// verifying and opening
pub use binding::PrefixValue;
pub use limits::{Limits, MAX_CHUNK, MAX_LIFETIME, MAX_REGISTRY, MAX_SKEW, MIN_CHUNK};
pub use manifest::{Outline, OutlineRope, OutlineStream, OutlineValue};
pub use open::{
    chain::{Chain, Members, OpenedChain, Part, UnlockedChain},
    opened::Opened,
    reader::StreamReader,
    unlocked::Unlocked,
};
pub use verify::{
    body::BodyChecked,
    policy::{ByRuntime, Expected, ExpectedSession, Needs, Policy, RESTORE},
    push::{Arrived, Fed, PausedBody, PushBody, PushHeader},
    step::Step,
    unchecked::{Stated, Unchecked},
    untrusted::{Untrusted, Verified},
};
pub use wire::claims::Claims;
// a new header over the same body
pub use seal::renew::{Reissued, Reissuer, Renewal, Rewrap};
// the manifest
pub use manifest::{
    BankEntry, CaptureFlags, Context, Manifest, Parent, Prefix, RotationTable, RowsEntry, Section,
    SectionKind, Stream, StreamDigest,
};
pub use suite::Suite;
// measuring
#[cfg(feature = "hazmat")]
pub use crypto::steps::{ChunkSteps, SecretSteps};
// models in two formats
pub use trust::equivalence::Equivalence;
// the CBOR profile, for what else is sealed
pub use wire::cbor::check_cbor;
// errors and access
pub use error::{Code, Error, IoSide, Outcome, Public, Result};
#[cfg(any(unix, windows))]
pub use io::SourceFile;
pub use io::{ReadAt, Seekable, WriteAt};
pub use workers::{Ticket, Workers};
