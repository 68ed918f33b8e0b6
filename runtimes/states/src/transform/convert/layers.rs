//! The layers of a capsule or chain that can become another state: keys and values of one sequence,
//! every position from the first.

use kvcap::{Bank, Code, Error, Members, ReadAt, Result, Role, Rows};
use kvcap_codecs::BankShape;

use crate::pipeline::whole::{WholeBank, whole_banks};

/// The banks of one layer.
pub(super) struct Layer<'a, S> {
    pub(super) keys: WholeBank<'a, S>,
    pub(super) values: WholeBank<'a, S>,
}

pub(super) fn refused(what: &'static str) -> Error {
    Error::new(Code::StateUnsupported, what)
}

impl<'a, S: ReadAt> Layer<'a, S> {
    /// Keys and values of every layer.
    ///
    /// # Errors
    /// KVC-922 naming what else the capsule holds; 704 where an ancestor lacks a bank.
    pub(super) fn all<M: Members<Source = S>>(opened: &'a M) -> Result<Vec<Self>> {
        let context = &opened.tip().manifest().context;
        let mut banks = whole_banks(opened)?;
        if let Some((bank, why)) = banks.iter().find_map(|w| Some((&w.bank, unfit(&w.bank)?))) {
            return Err(refused(why).at(format_args!("layer {}", bank.layer)));
        }
        let mut take = |layer, role| {
            let of = |held: &WholeBank<'_, S>| (held.bank.layer, held.bank.role) == (layer, role);
            let at = banks.iter().position(of)?;
            Some(banks.swap_remove(at))
        };
        (0..context.layers)
            .map(|layer| {
                let pair = take(layer, Role::Key).zip(take(layer, Role::Value));
                pair.map(|(keys, values)| Self { keys, values })
                    .ok_or_else(|| {
                        refused("a layer holds no keys and values")
                            .at(format_args!("layer {layer}"))
                    })
            })
            .collect()
    }

    pub(super) fn banks(&self) -> [&WholeBank<'a, S>; 2] {
        [&self.keys, &self.values]
    }
}

/// Why a bank has no counterpart in another state.
fn unfit(bank: &Bank) -> Option<&'static str> {
    match (bank.role, &bank.rows, &bank.shape) {
        (Role::Recurrent | Role::Convolution, ..) => {
            Some("a recurrent or convolution state is its own runtime's alone")
        }
        (Role::Latent | Role::RopeKey | Role::IndexKey, ..) => {
            Some("latent attention is carried only within its runtime and element type")
        }
        (Role::Opaque, ..) => Some("an opaque bank is its own runtime's alone"),
        _ if bank.index > 0 => Some("several sequences or streams in one state"),
        _ if bank.window > 0 => {
            Some("a layer with a sliding window keeps its rows as its own runtime does")
        }
        (_, Rows::From(0), BankShape::Tokens { .. }) => None,
        _ => Some("the rows are not the positions from 0 on, in order"),
    }
}
