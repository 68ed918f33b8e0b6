//! Integer facts: element types, shapes, the registry of codecs and every length, as they can be
//! computed from the signed manifest, without a float and without data (codecs-v1 §2, §3 and §8).
//!
//! This room is the whole crate where the feature `encode` is off.

mod codec;
mod content;
mod dtype;
mod error;
mod lengths;
mod padding;
mod pairing;
mod quality;
mod shape;

pub use codec::Codec;
#[cfg(feature = "encode")]
pub(crate) use codec::JOINT_CHANNELS;
pub use content::Content;
pub use dtype::{AffineParams, Dtype, ParamDtype};
pub use error::{CodecError, ErrorKind, Place};
#[cfg(feature = "encode")]
pub(crate) use lengths::{GROUP_TOKENS, INDEX_ENTRY, TRANSFORM_HEADER};
pub use padding::Padding;
pub use pairing::Pairing;
pub use quality::Quality;
pub use shape::{BLOCK_TOKENS, BankShape, WHOLE_FRAME_BYTES};
