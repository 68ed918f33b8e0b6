//! The backend itself; the same lines on macOS and on Linux.

mod affine;
pub mod arrays;
pub mod blocks;
mod error;
mod host;
mod keys;
mod pack;
mod selftest;
mod transform;
pub mod vectors;

pub use error::Error;
pub use host::Mlx;
pub(crate) use selftest::tested;
