//! The part of a profile that is about one bank.

use std::{fmt, sync::OnceLock};

use crate::kernels::padded;

/// Transform of one bank: its means and matrices.
pub struct BankProfile {
    pub(super) layer: u32,
    pub(super) role: u8,
    pub(super) transform: u8,
    pub(super) heads: usize,
    pub(super) dim: usize,
    pub(super) means: Vec<f32>,
    pub(super) shifts: Vec<u8>,
    pub(super) synthesis: Vec<i8>,
    pub(super) scales: Vec<f32>,
    pub(super) analysis: Vec<i16>,
    /// As the kernels take it, made when it is first needed.
    pub(super) weights: OnceLock<Vec<i32>>,
}

/// Components and the channels that they make: those of one head, or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Components {
    /// Heads whose components are transformed together.
    pub(crate) heads: usize,
    /// Components of such a group.
    pub(crate) count: usize,
}

impl BankProfile {
    /// Layer.
    #[must_use]
    pub const fn layer(&self) -> u32 {
        self.layer
    }

    /// Number of the role (capsule-v1 §7.1).
    #[must_use]
    pub const fn role(&self) -> u8 {
        self.role
    }

    /// Transform: 1, each head by itself; 2, all heads together.
    #[must_use]
    pub const fn transform(&self) -> u8 {
        self.transform
    }

    /// Heads and elements of a head.
    #[must_use]
    pub const fn extent(&self) -> [usize; 2] {
        [self.heads, self.dim]
    }

    pub(super) const fn key(&self) -> (u32, u8) {
        (self.layer, self.role)
    }

    pub(crate) const fn components(&self) -> Components {
        let heads = if self.transform == 1 { 1 } else { self.heads };
        Components {
            heads,
            count: heads * self.dim,
        }
    }

    /// Numbers of a matrix of all heads.
    pub(super) const fn matrix_len(&self) -> usize {
        self.heads * self.dim * self.components().count
    }

    /// Mean of each channel, `[head][dim]`.
    #[must_use]
    pub fn means(&self) -> &[f32] {
        &self.means
    }

    /// Shift of each component, at most 8: a weight is `synthesis · 2^shift`.
    #[must_use]
    pub fn shifts(&self) -> &[u8] {
        &self.shifts
    }

    /// Weights W of the synthesis, none of them -128: `[head][component][dim]` with transform 1,
    /// `[component][head][dim]` with transform 2.
    #[must_use]
    pub fn synthesis(&self) -> &[i8] {
        &self.synthesis
    }

    /// Scales of the analysis of each component.
    pub(crate) fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// Rows of the analysis of a group: of each component a number for each channel of the group.
    pub(crate) fn analysis(&self, group: usize) -> &[i16] {
        let count = self.components().count;
        &self.analysis[group * count * count..][..count * count]
    }

    /// Weight of component `component` of its group, which is head `head`'s, for an element of that head.
    pub(crate) fn weight(&self, head: usize, component: usize, element: usize) -> i16 {
        let Components { heads, count } = self.components();
        let (group, within) = (head / heads, head % heads);
        let row = group * count + component;
        let weight = self.synthesis[row * count + within * self.dim + element];
        i16::from(weight) << self.shifts[row]
    }

    /// Largest sum that components of at most these magnitudes have with the weights of an element.
    pub(crate) fn largest_sum(&self, magnitudes: &[f64]) -> f64 {
        let count = self.components().count;
        let mut most = 0.0_f64;
        let mut sums = [0.0_f64; super::file::MAX_DIM];
        let groups = magnitudes.chunks_exact(count).enumerate();
        for (group, magnitudes) in groups {
            let sums = &mut sums[..count];
            sums.fill(0.0);
            for (component, magnitude) in magnitudes.iter().enumerate() {
                let row = group * count + component;
                let factor = magnitude * f64::from(1_u16 << self.shifts[row]);
                let weights = &self.synthesis[row * count..][..count];
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += factor * f64::from(weight.unsigned_abs());
                }
            }
            most = sums.iter().fold(most, |most, sum| most.max(*sum));
        }
        most
    }

    /// Weights of the components of a head's group for its elements: of each pair of components a row of
    /// `padded(dim)` pairs, the first component's in the low half.
    pub(crate) fn weights(&self, head: usize) -> &[i32] {
        let all = self.weights.get_or_init(|| {
            let pairs = self.components().count.div_ceil(2);
            let mut all = Vec::with_capacity(self.heads * pairs * padded(self.dim));
            for head in 0..self.heads {
                for pair in 0..pairs {
                    all.extend((0..padded(self.dim)).map(|element| {
                        let of = |component| {
                            let inside = component < self.components().count && element < self.dim;
                            if inside {
                                self.weight(head, component, element)
                            } else {
                                0
                            }
                        };
                        paired(of(2 * pair), of(2 * pair + 1))
                    }));
                }
            }
            all
        });
        let len = all.len() / self.heads.max(1);
        &all[head * len..][..len]
    }
}

/// Two numbers in one, the first in the low half.
pub(crate) fn paired(low: i16, high: i16) -> i32 {
    i32::from(high) << 16 | i32::from(low.cast_unsigned())
}

impl fmt::Debug for BankProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BankProfile")
            .field("layer", &self.layer)
            .field("role", &self.role)
            .field("transform", &self.transform)
            .field("extent", &self.extent())
            .finish_non_exhaustive()
    }
}
