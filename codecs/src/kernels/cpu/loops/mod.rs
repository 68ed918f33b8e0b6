//! The inner loops, written once over [`Isa`](super::isa::Isa) and compiled once for each
//! instruction set. The bits are those of [`crate::kernels::reference`].

#![allow(
    clippy::inline_always,
    reason = "loops take on the instruction set of the function that they end up in"
)]

mod affine;
mod coefficients;
mod element;
mod keys;
mod planes;
mod sums;

pub(super) use affine::{affine_decode, affine_encode};
pub(super) use coefficients::{
    analysis, coefficients_decode, coefficients_rows, rows_load, synthesis_rows,
};
pub(super) use element::{Bf16, Element, F16, F32};
pub(super) use keys::{key_moments, keys_decode, keys_encode, turn};
pub(super) use planes::{merge, split};
pub(super) use sums::sums;
