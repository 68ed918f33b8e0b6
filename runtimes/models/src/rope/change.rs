//! From the basis of one rotary embedding into that of another (runtimes-v1 §7.2).

use kvcap::{
    Code, Error, Result, Role,
    binding::{KeyBasis, Pairing, Rope, Scaling},
};

use super::{attention_factor, inverse_frequencies};

/// Change of each row of a bank from one basis into another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Block of the Hadamard rotation that is on the rows.
    pub undo: usize,
    /// Elements whose pairing changes, and what it becomes.
    pub pairs: Option<(usize, Pairing)>,
    /// Block of the Hadamard rotation to put on.
    pub apply: usize,
}

impl Change {
    /// Returns the change from `old` to `new`, the ropes of one layer in two states, whose context lengths are
    /// `contexts`, and whose runtimes rotate the bank by the Hadamard `blocks`, 0 for none.
    ///
    /// # Errors
    /// KVC-603 where they do not turn keys by the same angles; KVC-922 for multi-axis positions and other
    /// bases that no conversion serves.
    pub fn between(
        role: Role,
        dim: u64,
        old: Option<&Rope>,
        new: Option<&Rope>,
        contexts: [u64; 2],
        blocks: [u32; 2],
    ) -> Result<Self> {
        let pairs = match (old, new) {
            (None, None) => None,
            (Some(old), Some(new)) if role == Role::Key => {
                same_angles(dim, old, new, contexts)?;
                let rotary = usize::try_from(new.rotary_dims).unwrap_or(0);
                (old.pairing != new.pairing && rotary > 2).then_some((rotary, new.pairing))
            }
            (Some(_), Some(_)) => None,
            _ => return Err(differ("one of the models has no rotary embedding here")),
        };
        let [undo, apply] = blocks.map(|block| usize::try_from(block).unwrap_or(usize::MAX));
        Ok(match (undo == apply, pairs) {
            (true, None) => Self::default(),
            _ => Self { undo, pairs, apply },
        })
    }

    /// Returns whether rows stay as they are.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::default()
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

fn refused(what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Code::StateUnsupported, what)
}
