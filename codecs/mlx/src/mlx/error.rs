//! What MLX refused, or was not asked to do.

use std::fmt;

use kvcap_codecs::CodecError;
use mlx_rs::error::{AsSliceError, Exception};

/// Reason that MLX gave no result. Nothing of MLX aborts the process.
#[derive(Debug)]
pub enum Error {
    /// Codec, element type or shape is not one that this crate does.
    Unserved(&'static str),
    /// A rule of the codec is broken: a value that is not finite, or malformed codes.
    Broken(&'static str),
    /// The frame's description is not usable.
    Codec(CodecError),
    /// MLX's own words.
    Mlx(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unserved(what) | Self::Broken(what) => f.write_str(what),
            Self::Codec(error) => error.fmt(f),
            Self::Mlx(what) => write!(f, "mlx: {what}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Exception> for Error {
    fn from(error: Exception) -> Self {
        Self::Mlx(error.what().to_owned())
    }
}

impl From<AsSliceError> for Error {
    fn from(error: AsSliceError) -> Self {
        Self::Mlx(error.to_string())
    }
}

impl From<CodecError> for Error {
    fn from(error: CodecError) -> Self {
        Self::Codec(error)
    }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// A length as MLX counts.
pub(crate) fn size(n: usize) -> Result<i32> {
    i32::try_from(n).map_err(|_| Error::Unserved("more elements than an array of MLX holds"))
}
