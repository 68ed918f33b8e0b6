//! In which basis rows are stored, and from one into another (runtimes-v1 §7.2).

use kvcap::{
    Code, Error, Result, Role,
    binding::{KeyBasis, Pairing, Rope, Scaling},
};
use kvcap_codecs::hadamard;

use super::layers::refused;
use crate::{attention_factor, inverse_frequencies};

/// What is to be done to each row of a bank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Block of the Hadamard rotation that is on the rows.
    undo: usize,
    /// Elements whose pairing changes, and what it becomes.
    pairs: Option<(usize, Pairing)>,
    /// Block of the Hadamard rotation to put on.
    apply: usize,
}

impl Change {
    /// From `old` to `new`, the ropes of one layer in two states, whose context lengths are `contexts`.
    ///
    /// # Errors
    /// KVC-603 where they do not turn keys by the same angles; KVC-922 for multi-axis positions and other
    /// bases that no conversion serves.
    pub(crate) fn between(
        role: Role,
        dim: u64,
        old: Option<&Rope>,
        new: Option<&Rope>,
        contexts: [u64; 2],
    ) -> Result<Self> {
        let (old, new) = match (old, new) {
            (None, None) => return Ok(Self::default()),
            (Some(old), Some(new)) => (old, new),
            _ => return Err(differ("one of the models has no rotary embedding here")),
        };
        if role == Role::Key {
            same_angles(dim, old, new, contexts)?;
        }
        let block = |rope: &Rope| {
            let block = match role {
                Role::Key => rope.hadamard_keys,
                _ => rope.hadamard_values,
            };
            usize::try_from(block).map_err(|_| refused("a rotation of an impossible size"))
        };
        let (undo, apply) = (block(old)?, block(new)?);
        let rotary = usize::try_from(new.rotary_dims).unwrap_or(0);
        let pairs = (role == Role::Key && old.pairing != new.pairing && rotary > 2)
            .then_some((rotary, new.pairing));
        Ok(match (undo == apply, pairs) {
            (true, None) => Self::default(),
            _ => Self { undo, pairs, apply },
        })
    }

    /// Whether rows stay as they are.
    pub(super) fn is_none(self) -> bool {
        self == Self::default()
    }

    /// Changes `values`, rows of `dim` elements.
    pub(super) fn apply(self, values: &mut [f32], dim: usize) {
        if self.undo > 0 {
            hadamard(values, self.undo);
        }
        if let Some((rotary, pairing)) = self.pairs
            && dim > 0
        {
            let mut old = vec![0.0; rotary.min(dim)];
            for row in values.chunks_exact_mut(dim) {
                let row = &mut row[..rotary.min(dim)];
                old.copy_from_slice(row);
                let (low, high) = old.split_at(old.len() / 2);
                match pairing {
                    Pairing::Interleaved => {
                        for (pair, (a, b)) in row.chunks_exact_mut(2).zip(low.iter().zip(high)) {
                            pair.copy_from_slice(&[*a, *b]);
                        }
                    }
                    Pairing::Half => {
                        let (low, high) = row.split_at_mut(old.len() / 2);
                        for (pair, (a, b)) in old.chunks_exact(2).zip(low.iter_mut().zip(high)) {
                            (*a, *b) = (pair[0], pair[1]);
                        }
                    }
                }
            }
        }
        if self.apply > 0 {
            hadamard(values, self.apply);
        }
    }
}

/// The largest relative difference of two frequencies that are meant to be one: a GGUF file states
/// them in binary32.
const TOLERANCE: f64 = 1e-6;

fn same_angles(dim: u64, old: &Rope, new: &Rope, contexts: [u64; 2]) -> Result<()> {
    for rope in [old, new] {
        match rope.scaling {
            Scaling::Multi { .. } => return Err(refused("positions on several axes")),
            Scaling::Proportional { .. } if old.pairing != new.pairing => {
                return Err(refused("a proportional rotary embedding of other pairs"));
            }
            _ => {}
        }
        if rope.keys != KeyBasis::PostRope || rope.offset != 0 {
            return Err(refused("keys that are stored unrotated or shifted"));
        }
    }
    if old.rotary_dims != new.rotary_dims {
        let error = differ("another part of a head is rotated");
        return Err(error.sides(old.rotary_dims, new.rotary_dims));
    }
    let turns = |rope| {
        inverse_frequencies(rope, dim)
            .ok_or_else(|| refused("a rotary embedding without fixed frequencies"))
    };
    let (a, b) = (turns(old)?, turns(new)?);
    let close = |a: f64, b: f64| (a - b).abs() <= TOLERANCE * a.abs();
    if a.len() != b.len() {
        return Err(differ("another number of pairs is rotated").sides(a.len(), b.len()));
    }
    if let Some((at, (a, b))) = (0..)
        .zip(a.iter().zip(&b))
        .find(|(_, (a, b))| !close(**a, **b))
    {
        let at: usize = at;
        return Err(differ("the frequencies differ")
            .at(format_args!("pair {at}"))
            .sides(a, b));
    }
    let factors = [
        attention_factor(old, contexts[0]),
        attention_factor(new, contexts[1]),
    ];
    match close(factors[0], factors[1]) {
        true => Ok(()),
        false => Err(differ("the factor on rotated vectors differs").sides(factors[0], factors[1])),
    }
}

fn differ(what: &'static str) -> Error {
    Error::new(Code::BindingRope, what)
}
