//! Whose layers a section lists, which the file does not say, and what the model makes of a row.

use kvcap::{Bank, Code, Error, Result, Role, Rows};
use kvcap_codecs::BankShape;

use super::section::{Attention, Recurrent, Section, Stream, Tensor};
use crate::state::Hints;
use kvcap_models::{Geometry, LayerGeometry};

/// Hands out the numbers of the layers that each section lists.
pub(super) struct Layers<'a> {
    geometry: Option<&'a Geometry>,
    /// Attention caches in the file, and how many are labelled.
    caches: usize,
    labelled: usize,
    /// The window layers' cache is the one at work.
    windowed: bool,
    /// Next number, where nothing tells the real ones.
    next: u32,
    total: u32,
    /// Nothing but the file tells how many layers there are and whether they keep values.
    blind: bool,
}

impl<'a> Layers<'a> {
    pub(super) fn new(sections: &[Section], hints: Hints<'a>) -> Result<Self> {
        let caches = || {
            sections.iter().filter_map(|section| match section {
                Section::Attention(cache) => Some(cache),
                Section::Recurrent(_) => None,
            })
        };
        if caches().skip(1).any(Attention::lacks_values) {
            let what = "a second cache without values (an indexer's keys)";
            return Err(unsupported(what));
        }
        let geometry = match hints {
            Hints::Model(geometry) => Some(geometry),
            Hints::None | Hints::Banks(_) => None,
        };
        let count = caches().count();
        if let Some(geometry) = geometry {
            let has = |want: fn(&LayerGeometry) -> bool| geometry.layers.iter().any(want);
            if has(is_attention) && count == 0 {
                let what = "the model has attention layers and the file has no attention cache";
                return Err(Error::new(Code::StateContradiction, what));
            }
            if has(|layer| *layer == LayerGeometry::Recurrent) && sections.len() == count {
                let what = "the model has recurrent layers and the file has no recurrent state";
                return Err(Error::new(Code::StateContradiction, what));
            }
        }
        let known = geometry.map_or(0, |geometry| geometry.layers.len());
        Ok(Self {
            geometry,
            caches: count,
            labelled: 0,
            windowed: false,
            next: 0,
            total: u32::try_from(known)
                .map_err(|_| contradiction("the model has too many layers"))?,
            blind: matches!(hints, Hints::None),
        })
    }

    /// Layers of the model, as far as anything tells.
    pub(super) fn total(&self) -> u32 {
        self.total
    }

    /// Passes over a cache without cells, which lists no layers.
    pub(super) fn skip_cache(&mut self) {
        self.labelled += 1;
    }

    /// Layers of the next attention cache: all, or of two caches the full ones, then the windowed.
    pub(super) fn attention(&mut self, count: usize) -> Result<Vec<u32>> {
        let nth = self.labelled;
        self.labelled += 1;
        self.windowed = nth == 1;
        match (self.caches, nth) {
            (2, 0) => self.choose(count, "layers with full attention", |layer| {
                is_attention(layer) && window(layer) == 0
            }),
            (2, _) => self.choose(count, "layers with a sliding window", |layer| {
                window(layer) > 0
            }),
            _ => self.choose(count, "attention layers", is_attention),
        }
    }

    /// Layers of the recurrent states.
    pub(super) fn recurrent(&mut self, recurrent: &Recurrent) -> Result<Vec<u32>> {
        let (count, n_layer) = (recurrent.convolution.len(), recurrent.n_layer);
        let rows =
            [&recurrent.convolution, &recurrent.state].map(|half| half.first().map(Tensor::row));
        if self.blind && rows[0] == rows[1] {
            let what =
                "recurrent tensors of one size, which only their model tells from a cut file";
            return Err(unsupported(what));
        }
        self.total = self.total.max(n_layer);
        let layers = self.choose(count, "recurrent layers", |layer| {
            *layer == LayerGeometry::Recurrent
        })?;
        if let Some(&last) = layers.last().filter(|&&last| last >= n_layer) {
            return Err(
                contradiction("the file has fewer layers than the model").sides(
                    format_args!("a recurrent layer {last}"),
                    format_args!("{n_layer} layers"),
                ),
            );
        }
        Ok(layers)
    }

    /// The layers of the model that `want` names, where they are `count`; otherwise with those of
    /// an unknown kind.
    fn choose(
        &mut self,
        count: usize,
        what: &str,
        want: impl Fn(&LayerGeometry) -> bool,
    ) -> Result<Vec<u32>> {
        let Some(geometry) = self.geometry else {
            let count = u32::try_from(count).map_err(|_| contradiction("too many layers"))?;
            let start = self.next;
            self.next = start.saturating_add(count);
            return Ok((start..self.next).collect());
        };
        let select = |and_unknown: bool| -> Vec<u32> {
            (0..)
                .zip(&geometry.layers)
                .filter(|(_, layer)| {
                    want(layer) || (and_unknown && **layer == LayerGeometry::Unknown)
                })
                .map(|(number, _)| number)
                .collect()
        };
        let found = [select(false), select(true)]
            .into_iter()
            .find(|layers| layers.len() == count);
        found.ok_or_else(|| {
            contradiction("the file and the model differ in the number of layers").sides(
                format_args!("{} {what}", select(false).len()),
                format_args!("{count} in the file"),
            )
        })
    }

    /// The bank of a layer's keys or values, split into heads as the model says.
    pub(super) fn row_bank(
        &self,
        layer: u32,
        is_key: bool,
        stream: &Stream,
        tensor: &Tensor,
        rows: &Rows,
    ) -> Result<Bank> {
        let mut role = if is_key { Role::Key } else { Role::Value };
        let has_values = !stream.values.is_empty();
        let mut split = (1, tensor.elements);
        let mut keeps = 0;
        let geometry = self.geometry.and_then(|geometry| {
            let index = usize::try_from(layer).ok()?;
            geometry.layers.get(index)
        });
        match geometry {
            Some(&LayerGeometry::Attention {
                kv_heads,
                key_dim,
                value_dim,
                window,
            }) => {
                if !has_values {
                    return Err(contradiction("the file ends without values")
                        .at(format_args!("layer {layer}"))
                        .sides(format_args!("{kv_heads} heads of values"), "keys only"));
                }
                let dim = if is_key { key_dim } else { value_dim };
                if kv_heads.checked_mul(dim) != Some(tensor.elements) {
                    let name = if is_key { "keys" } else { "values" };
                    return Err(
                        contradiction("the file and the model differ in a row's size")
                            .at(format_args!("layer {layer} {name}"))
                            .sides(
                                format_args!("{kv_heads} heads of {dim}"),
                                format_args!("{} elements", tensor.elements),
                            ),
                    );
                }
                // blocks may run across heads
                if tensor.dtype.row_bytes(dim).is_some() {
                    split = (kv_heads, dim);
                }
                keeps = if self.windowed { window } else { 0 };
            }
            Some(&LayerGeometry::Latent { rank, rope_dim }) if !has_values => {
                if rank.checked_add(rope_dim) != Some(tensor.elements) {
                    return Err(
                        contradiction("the file and the model differ in a latent's size")
                            .at(format_args!("layer {layer}"))
                            .sides(
                                format_args!("{rank} + {rope_dim}"),
                                format_args!("{} elements", tensor.elements),
                            ),
                    );
                }
                role = Role::Latent;
            }
            _ if !has_values && (self.blind || self.geometry.is_some()) => {
                let what = "keys without values, which only a model with latent attention explains";
                return Err(unsupported(what));
            }
            _ => {}
        }
        Ok(Bank {
            role,
            layer,
            index: 0,
            dtype: tensor.dtype,
            shape: BankShape::Tokens {
                heads: split.0,
                tokens: tensor.cells,
                dim: split.1,
            },
            rows: rows.clone(),
            window: keeps,
        })
    }
}

fn is_attention(layer: &LayerGeometry) -> bool {
    matches!(
        layer,
        LayerGeometry::Attention { .. } | LayerGeometry::Latent { .. }
    )
}

fn window(layer: &LayerGeometry) -> u64 {
    match layer {
        LayerGeometry::Attention { window, .. } => *window,
        _ => 0,
    }
}

fn unsupported(what: &'static str) -> Error {
    Error::new(Code::StateUnsupported, what)
}

pub(super) fn contradiction(what: &'static str) -> Error {
    Error::new(Code::StateContradiction, what)
}
