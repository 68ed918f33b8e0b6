//! Which layer, heads and role each tensor of the file has: from the model's geometry, from a
//! manifest's banks, or just in order.

use kvcap::{Bank, Code, Error, Result, Role, Rows};
use kvcap_codecs::BankShape;

use super::section::{Attention, Cells, Recurrent, Section, Stream, Tensor};
use crate::state::{Geometry, Hints, LayerGeometry, Order, Placed, Placement};

/// Banks in the order of the file, and the number of layers.
pub(super) struct Labelled {
    pub(super) banks: Vec<Placed>,
    pub(super) layers: u32,
}

/// Labels every tensor that has bytes.
///
/// # Errors
/// [`Code::StateContradiction`] where the file and the hints disagree,
/// [`Code::StateUnsupported`] for keys without values that nothing says are MLA's.
pub(super) fn label(sections: &[Section], hints: Hints<'_>) -> Result<Labelled> {
    let mut layers = Layers::new(sections, hints)?;
    let mut banks: Vec<Placed> = Vec::new();
    for section in sections {
        match section {
            Section::Attention(cache) => {
                let Some(first) = cache.used().next() else {
                    layers.skip_cache();
                    continue;
                };
                let numbers = layers.attention(first.keys.len())?;
                for stream in cache.used() {
                    let rows = rows(&stream.cells)?;
                    for (tensors, is_key) in [(&stream.keys, true), (&stream.values, false)] {
                        for (tensor, &layer) in tensors.iter().zip(&numbers) {
                            let bank = layers.row_bank(layer, is_key, stream, tensor, &rows)?;
                            banks.push(placed(bank, tensor)?);
                        }
                    }
                }
            }
            Section::Recurrent(recurrent) => {
                let numbers = layers.recurrent(recurrent)?;
                let halves = [
                    (&recurrent.convolution, Role::Convolution),
                    (&recurrent.state, Role::Recurrent),
                ];
                for (tensors, role) in halves {
                    for (tensor, &layer) in tensors.iter().zip(&numbers) {
                        if tensor.row_bytes > 0 && tensor.cells > 0 {
                            banks.push(placed(whole_bank(role, layer, tensor), tensor)?);
                        }
                    }
                }
            }
        }
    }
    number(&mut banks);
    if let Hints::Banks(hinted) = hints {
        adopt(&mut banks, hinted)?;
    }
    let named = banks.iter().map(|p| p.bank.layer.saturating_add(1)).max();
    Ok(Labelled {
        layers: layers.total.max(named.unwrap_or(0)),
        banks,
    })
}

/// Hands out the numbers of the layers that each section lists.
struct Layers<'a> {
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
    fn new(sections: &[Section], hints: Hints<'a>) -> Result<Self> {
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

    fn skip_cache(&mut self) {
        self.labelled += 1;
    }

    /// Layers of the next attention cache: all, or of two caches the full ones, then the windowed.
    fn attention(&mut self, count: usize) -> Result<Vec<u32>> {
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

    fn recurrent(&mut self, recurrent: &Recurrent) -> Result<Vec<u32>> {
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
    fn row_bank(
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

fn whole_bank(role: Role, layer: u32, tensor: &Tensor) -> Bank {
    Bank {
        role,
        layer,
        index: 0,
        dtype: tensor.dtype,
        shape: BankShape::Whole {
            dims: vec![tensor.cells, tensor.elements],
        },
        rows: Rows::None,
        window: 0,
    }
}

/// Numbers the banks of one role in one layer (streams of the cache) from 0.
fn number(banks: &mut [Placed]) {
    let mut seen = std::collections::BTreeMap::new();
    for Placed { bank, .. } in banks {
        let next: &mut u32 = seen.entry((bank.role, bank.layer)).or_default();
        bank.index = *next;
        *next = next.saturating_add(1);
    }
}

/// Takes role, layer, index, heads and window from a manifest's banks, in the order of the file.
fn adopt(banks: &mut [Placed], hinted: &[Bank]) -> Result<()> {
    if banks.len() != hinted.len() {
        return Err(
            contradiction("the file and the manifest differ in the number of banks")
                .sides(hinted.len(), banks.len()),
        );
    }
    for (Placed { bank, parts }, hint) in banks.iter_mut().zip(hinted) {
        let size = |bank: &Bank| bank.shape.plain_len(bank.dtype);
        let tokens = |bank: &Bank| match bank.shape {
            BankShape::Tokens { tokens, .. } => Some(tokens),
            BankShape::Whole { .. } => None,
        };
        if (bank.dtype, size(bank), tokens(bank)) != (hint.dtype, size(hint), tokens(hint)) {
            let facts = |bank: &Bank| format!("{} {:?}", bank.dtype.name(), bank.shape);
            return Err(contradiction("the file and the manifest differ in a bank")
                .at(format_args!("layer {} {:?}", hint.layer, hint.role))
                .sides(facts(hint), facts(bank)));
        }
        let transposed = parts
            .iter()
            .any(|part| matches!(part.order, Order::Transposed { .. }));
        bank.role = hint.role;
        bank.layer = hint.layer;
        bank.index = hint.index;
        bank.window = hint.window;
        bank.shape = hint.shape.clone();
        for part in parts {
            part.order = order(bank, transposed)?;
        }
    }
    Ok(())
}

fn placed(bank: Bank, tensor: &Tensor) -> Result<Placed> {
    let part = Placement {
        offset: tensor.offset,
        len: tensor.row_bytes.saturating_mul(tensor.cells),
        order: order(&bank, tensor.transposed)?,
    };
    Ok(Placed {
        bank,
        parts: vec![part],
    })
}

/// Rows lie token by token with their heads side by side; transposed values channel by channel.
fn order(bank: &Bank, transposed: bool) -> Result<Order> {
    let BankShape::Tokens { heads, tokens, dim } = bank.shape else {
        return Ok(Order::Contiguous);
    };
    let order = || {
        let row_bytes = bank.dtype.row_bytes(dim)?;
        if transposed {
            let element = bank.dtype.row_bytes(1)?;
            let dim_stride = tokens.checked_mul(element)?;
            return Some(Order::Transposed {
                element,
                head_stride: dim.checked_mul(dim_stride)?,
                dim_stride,
            });
        }
        Some(Order::Rows {
            row_bytes,
            head_stride: row_bytes,
            token_stride: row_bytes.checked_mul(heads)?,
        })
    };
    order().ok_or_else(|| contradiction("a row is not a whole number of its type's blocks"))
}

/// Positions of the rows, in the order of the cells.
fn rows(cells: &Cells) -> Result<Rows> {
    let first = cells.positions.first().copied().unwrap_or(0);
    let contiguous = (i64::from(first)..)
        .zip(&cells.positions)
        .all(|(want, &position)| want == i64::from(position));
    if contiguous {
        let start = u64::try_from(first).map_err(|_| contradiction("a position is negative"))?;
        return Ok(Rows::From(start));
    }
    Ok(Rows::Listed(
        cells.positions.iter().map(|&p| i64::from(p)).collect(),
    ))
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

fn contradiction(what: &'static str) -> Error {
    Error::new(Code::StateContradiction, what)
}

fn unsupported(what: &'static str) -> Error {
    Error::new(Code::StateUnsupported, what)
}
