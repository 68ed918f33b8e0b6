//! The loops for any machine.

use super::{isa::Portable, kernels};
use crate::backend::Kernels;

pub(super) static PORTABLE: Kernels = Kernels {
    name: "portable",
    affine_encode: kernels::affine_encode::<Portable>,
    affine_decode: kernels::affine_decode::<Portable>,
    split: kernels::split,
    merge: kernels::merge,
    turn: kernels::turn,
    keys_encode: kernels::keys_encode::<Portable>,
    keys_decode: kernels::keys_decode::<Portable>,
    sums: kernels::sums::<Portable>,
    key_moments: kernels::key_moments::<Portable>,
};
