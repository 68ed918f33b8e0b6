//! Codecs for the banks of a KV capsule.
//!
//! This crate knows numbers: element types, block layouts and codecs. It knows nothing of files,
//! keys or I/O. The format is `spec/codecs-v1.md`.
//!
//! A bank is cut into frames ([`BankShape`]); a [`Codec`] encodes and decodes one frame at a time:
//!
//! ```
//! # #[cfg(not(feature = "encode"))]
//! # fn main() {}
//! # #[cfg(feature = "encode")]
//! # fn main() -> Result<(), kvcap_codecs::CodecError> {
//! use kvcap_codecs::{BankShape, Codec, Dtype, FrameContext, Scratch};
//!
//! let shape = BankShape::Tokens { heads: 2, tokens: 3, dim: 64 };
//! let plain = vec![0x3c; 2 * 3 * 64 * 2]; // f16, little-endian, [head][token][dim]
//! let codec = Codec::Affine { bits: 8, group: 64 };
//!
//! let mut scratch = Scratch::new(); // one a worker, reused for every frame
//! let frame = FrameContext::new(&shape, Dtype::F16, 0)?;
//! let (mut encoded, mut decoded) = (Vec::new(), vec![0; frame.plain_len()]);
//! codec.encode_frame(&frame, &plain, &mut encoded, &mut scratch)?;
//! codec.decode_frame(&frame, &encoded, &mut decoded, &mut scratch)?;
//! # assert_eq!(plain, decoded);
//! # Ok(())
//! # }
//! ```
//!
//! What a manifest says of its banks and every length that follows from it need no codec at all:
//! without the default feature `encode` the crate is those facts, and depends on nothing.

mod layout;

#[cfg(feature = "encode")]
mod codec;
#[cfg(feature = "encode")]
mod coefficients;
#[cfg(feature = "encode")]
mod frame;
#[cfg(feature = "encode")]
mod kernels;
#[cfg(feature = "encode")]
mod preset;
#[cfg(feature = "encode")]
mod profile;
#[cfg(feature = "encode")]
mod quality;
#[cfg(feature = "encode")]
mod rope;
#[cfg(feature = "encode")]
mod scratch;
#[cfg(feature = "encode")]
mod stream;
#[cfg(feature = "encode")]
mod values;

// What a manifest says: types, shapes, codecs, lengths.
pub use layout::{
    AffineParams, BLOCK_TOKENS, BankShape, Codec, CodecError, Content, Dtype, ErrorKind, Padding,
    Pairing, ParamDtype, Place, Quality, WHOLE_FRAME_BYTES,
};

// Frames and streams, encoded and decoded.
#[cfg(feature = "encode")]
pub use {
    codec::CodedFrame,
    frame::FrameContext,
    profile::{BankProfile, Point, Profile},
    rope::{Angles, Positions, Rotation},
    scratch::{Accelerator, Scratch, accelerate, accelerator, aligned},
    stream::packed,
};

// What a lossy codec costs, and the choice of one.
#[cfg(feature = "encode")]
pub use {
    preset::{Choice, Guard, Preset, Reason, choose},
    quality::{FrameQuality, Measurement},
};

// Elements and bytes outside frames.
#[cfg(feature = "encode")]
pub use {
    kernels::cpu::copy_streaming,
    values::{from_f32, hadamard, to_f32},
};
