//! What a capsule's issuer has signed about its banks (capsule-v1 §6, §7).
//!
//! `decode` reads it, `encode` writes it, `check` holds its statements against each other. A
//! [`Manifest`] in a reader's hands has passed all of that and a trusted key's signature.

mod bank;
mod check;
mod context;
mod decode;
mod encode;
mod outline;
mod outline_rope;
mod recipient;
mod stream;

use crate::wire::claims::Claims;

pub use bank::{Bank, BankEntry, Role, Rows, RowsEntry};
pub use context::{CaptureFlags, Context, Parent, Prefix, RotationTable};
pub(crate) use decode::decode;
pub(crate) use encode::{encode, encode_context, encode_keys};
pub use outline::{Outline, OutlineStream};
pub use outline_rope::{OutlineRope, OutlineValue};
pub use recipient::RecipientKind;
pub(crate) use recipient::{Keys, WrappedKey};
pub use stream::{Section, SectionKind, Stream, StreamDigest};

/// A verified capsule's statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The claims of its header, signed as well.
    pub claims: Claims,
    /// Banks, and what they are bound to.
    pub context: Context,
    /// Lengths and digests, one a stream.
    pub measured: Vec<StreamDigest>,
    pub(crate) keys: Keys,
    pub(crate) tables_len: u64,
    pub(crate) extensions: Vec<(u64, Vec<u8>)>,
}
