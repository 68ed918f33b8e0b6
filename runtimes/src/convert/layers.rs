//! The layers of a capsule that can become another state: keys and values of one sequence, every
//! position from the first.

use kvcap::{BankEntry, Code, Context, Error, Result, Role, RowsEntry};
use kvcap_codecs::BankShape;

/// The banks of one layer, each with its stream.
pub(super) struct Layer<'a> {
    pub(super) keys: (usize, &'a BankEntry),
    pub(super) values: (usize, &'a BankEntry),
}

pub(super) fn refused(what: &'static str) -> Error {
    Error::new(Code::StateUnsupported, what)
}

impl<'a> Layer<'a> {
    /// Keys and values of every layer.
    ///
    /// # Errors
    /// KVC-922 naming what else the capsule holds.
    pub(super) fn all(context: &'a Context) -> Result<Vec<Self>> {
        if let Some((_, bank)) = context.banks().find(|(_, bank)| unfit(bank).is_some()) {
            let place = format!("layer {}", bank.layer);
            return Err(refused(unfit(bank).unwrap_or_default()).at(place));
        }
        (0..context.layers)
            .map(|layer| {
                let of = |role| {
                    let mut banks = context.banks();
                    banks.find(|(_, bank)| bank.layer == layer && bank.role == role)
                };
                of(Role::Key)
                    .zip(of(Role::Value))
                    .map(|(keys, values)| Self { keys, values })
                    .ok_or_else(|| {
                        refused("a layer holds no keys and values")
                            .at(format_args!("layer {layer}"))
                    })
            })
            .collect()
    }

    pub(super) fn banks(&self) -> [(usize, &'a BankEntry); 2] {
        [self.keys, self.values]
    }
}

/// Why a bank has no counterpart in another state.
fn unfit(bank: &BankEntry) -> Option<&'static str> {
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
        (_, RowsEntry::From(0), BankShape::Tokens { .. }) => None,
        _ => Some("the rows are not the positions from 0 on, in order"),
    }
}
