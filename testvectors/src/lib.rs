//! Test vectors of the KV capsule format.
//!
//! Each vector is a file, a context, and what a reader must make of the two. `cases` has one small
//! function a vector; `parts` takes a capsule to pieces and writes wrong ones at any layer, signed
//! and sealed again where the fault is the signer's; `generate` writes the files and `manifest.json`,
//! whose form is described in this crate's README. All of it is there with the feature `hazmat` alone.

#![cfg(feature = "hazmat")]
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a fault in making a vector stops the generator; sizes are small"
)]

pub mod annotate;
pub mod beside_set;
pub mod case;
pub mod cases;
pub mod codec_set;
pub mod context;
pub mod decode;
pub mod example;
pub mod fixture;
pub mod frozen;
pub mod generate;
pub mod hex;
pub mod lineage;
pub mod model;
pub mod operations;
pub mod parts;
pub mod raw;
pub mod reader;
pub mod roots;
pub mod rows;
pub mod schedule;
pub mod session_set;
