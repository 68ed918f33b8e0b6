//! mlx-lm prompt caches, in the layouts up to 0.31 and from 0.32 on (runtimes-v1 §2).

mod cache;
mod layout;
mod ring;
mod tree;

use crate::adapters::tensors::{heads_rows_dim, rows, whole};
use std::{collections::BTreeMap, sync::Arc};

use kvcap::{Bank, Code, Error, Result, Role, Rows};
use kvcap_codecs::{AffineParams, BankShape, Dtype, ParamDtype};

use self::{
    cache::{Cache, Info, Pair},
    layout::Layout,
    ring::{Held, Ring},
};
use crate::state::{Hints, Placed, ReadAt, Region, State, runs};
use kvcap_models::{
    LayerGeometry,
    safetensors::{Header, Tensor, malformed, shown, unsupported},
};

/// Whether the file's metadata is that of a prompt cache.
pub(crate) fn recognise(file: &dyn ReadAt) -> bool {
    Header::read(file).is_ok_and(|header| layout::is_032(&header).is_some())
}

pub(crate) fn parse(file: &dyn ReadAt, hints: Hints<'_>) -> Result<State> {
    let header = Header::read(file)?;
    let layout = Layout::read(&header, file)?;
    let mut banks = Banks {
        known: match hints {
            Hints::Banks(banks) => Some(banks),
            Hints::None | Hints::Model(_) => None,
        },
        ..Banks::default()
    };
    let mut stateless = Vec::new();
    let mut classes = Vec::with_capacity(layout.classes.len());
    for (layer, (class, state)) in (0..).zip(layout.classes.iter().zip(&layout.states)) {
        let place = |error: Error| error.at(format_args!("layer {layer}"));
        let info = match &layout.infos {
            None => Info::InState,
            Some(infos) => {
                let info = usize::try_from(layer).ok().and_then(|at| infos.get(at));
                Info::Meta(info.ok_or_else(|| malformed("a cache without numbers"))?)
            }
        };
        let cache = Cache::new(class, state, info).map_err(place)?;
        banks.latent = latent(hints, layer);
        let before = banks.placed.len();
        classes.push(banks.add(layer, class, &cache).map_err(place)?);
        if banks.placed.len() == before {
            stateless.push(layer);
        }
    }
    let mut notes = Vec::new();
    if !stateless.is_empty() {
        notes.push(format!(
            "{} of {} caches were never filled",
            stateless.len(),
            classes.len()
        ));
    }
    if banks.offset.is_none() && !banks.placed.is_empty() {
        notes.push("the file does not say how many tokens its recurrent state covers".to_owned());
    }
    Ok(State {
        runtime: "mlx-lm",
        format: layout.format,
        facts: vec![("caches".to_owned(), runs(&classes))],
        banks: banks.placed,
        layers: u32::try_from(classes.len())
            .map_err(|_| Error::new(Code::StateLimit, "too many layers"))?,
        stateless,
        positions: 0..banks.offset.map_or(0, |(offset, _)| offset),
        tokens: None,
        notes,
        file_len: file.len(),
    })
}

/// The two sizes of a latent-attention layer, which the file alone does not tell from keys and values.
fn latent(hints: Hints<'_>, layer: u32) -> Option<(u64, u64)> {
    match hints {
        Hints::None => None,
        Hints::Model(geometry) => match geometry.layers.get(usize::try_from(layer).ok()?)? {
            LayerGeometry::Latent { rank, rope_dim } => Some((*rank, *rope_dim)),
            _ => None,
        },
        Hints::Banks(banks) => {
            let dim = |role| {
                let mut found = banks.iter().filter(|b| b.layer == layer && b.role == role);
                match found.next()?.shape {
                    BankShape::Tokens { dim, .. } => Some(dim),
                    BankShape::Whole { .. } => None,
                }
            };
            Some((dim(Role::Latent)?, dim(Role::RopeKey)?))
        }
    }
}

/// The banks found so far.
#[derive(Default)]
struct Banks<'a> {
    placed: Vec<Placed>,
    /// The banks of the manifest, where the file is a residue.
    known: Option<&'a [Bank]>,
    /// Banks of each layer and role.
    counts: BTreeMap<(u32, Role), u32>,
    /// Tokens that the caches cover, and the first layer that said so.
    offset: Option<(u64, u32)>,
    /// Rank and rotated size, if the layer at hand is one of latent attention.
    latent: Option<(u64, u64)>,
}

impl Banks<'_> {
    /// Adds a cache's banks, and says its class with the numbers that any restored state must share.
    fn add(&mut self, layer: u32, class: &str, cache: &Cache<'_>) -> Result<String> {
        match cache {
            Cache::Plain { pair, offset } => {
                self.pair(layer, *pair, *offset, &Rows::From(0), 0)?;
                self.covers(layer, *offset)?;
            }
            Cache::Chunked {
                pair,
                offset,
                start,
                chunk,
            } => {
                let tokens = offset.checked_sub(*start).ok_or_else(|| {
                    contradiction("a chunked cache starts after its end").sides(start, offset)
                })?;
                self.pair(layer, *pair, tokens, &Rows::From(*start), *chunk)?;
                self.covers(layer, *offset)?;
                return Ok(format!("{class}(chunk_size={chunk})"));
            }
            Cache::Rotating { pair, ring, step } => {
                // Before a list of positions is made, so that it is no longer than the file.
                attention(pair.keys)?;
                let (tokens, held) = ring.positions()?;
                let rows = self.ring_rows(*ring, held)?;
                self.pair(layer, *pair, tokens, &rows, ring.max_size)?;
                self.covers(layer, ring.offset)?;
                return Ok(format!(
                    "{class}(keep={},max_size={}{})",
                    ring.keep,
                    ring.max_size,
                    grows_by(*step)
                ));
            }
            Cache::Quantized {
                keys,
                values,
                offset,
                group,
                bits,
                step,
            } => {
                for (role, triplet) in [(Role::Key, keys), (Role::Value, values)] {
                    self.triplet(layer, role, *triplet, *offset, (*bits, *group))?;
                }
                let (keys, values) = (&keys[0].shape, &values[0].shape);
                if keys.get(..3) != values.get(..3) {
                    return Err(contradiction("keys and values differ in heads or tokens")
                        .sides(format_args!("{keys:?}"), format_args!("{values:?}")));
                }
                self.covers(layer, *offset)?;
                let step = grows_by(*step);
                return Ok(format!("{class}(bits={bits},group_size={group}{step})"));
            }
            Cache::Arrays(arrays) => self.arrays(layer, arrays)?,
            Cache::List(caches) => {
                let parts = caches
                    .iter()
                    .map(|(class, cache)| self.add(layer, class, cache))
                    .collect::<Result<Vec<_>>>()?;
                return Ok(format!("{class}({})", parts.join("+")));
            }
            Cache::Empty => {}
        }
        Ok(class.to_owned())
    }

    /// The positions of a ring's rows. Those of a residue are compared with the manifest's list, which is
    /// shared: how many rows there are is only claimed.
    fn ring_rows(&self, ring: Ring, held: Held) -> Result<Rows> {
        let (Held::Wrapped, Some(known)) = (held, self.known) else {
            return Ok(match held {
                Held::From(start) => Rows::From(start),
                Held::Wrapped => Rows::Listed(ring.wrapped().collect()),
            });
        };
        match known.get(self.placed.len()).map(|bank| &bank.rows) {
            Some(Rows::Listed(list)) if list.iter().copied().eq(ring.wrapped()) => {
                Ok(Rows::Listed(Arc::clone(list)))
            }
            _ => Err(contradiction(
                "the ring's positions are not those that the capsule lists",
            )),
        }
    }

    /// All caches of one state cover the same tokens.
    fn covers(&mut self, layer: u32, offset: u64) -> Result<()> {
        let (first, first_layer) = *self.offset.get_or_insert((offset, layer));
        if first != offset {
            return Err(
                contradiction("the layers' caches cover different numbers of tokens")
                    .sides(format_args!("{first} as in layer {first_layer}"), offset),
            );
        }
        Ok(())
    }

    fn pair(
        &mut self,
        layer: u32,
        pair: Pair<'_>,
        tokens: u64,
        rows: &Rows,
        window: u64,
    ) -> Result<()> {
        let (heads, held, key_dim) = attention(pair.keys)?;
        let (value_heads, value_held, value_dim) = heads_rows_dim(pair.values)?;
        if (heads, held) != (value_heads, value_held) {
            return Err(
                contradiction("keys and values differ in heads or tokens").sides(
                    format_args!("{heads} × {held}"),
                    format_args!("{value_heads} × {value_held}"),
                ),
            );
        }
        let [key, value] = self.roles(layer, heads, key_dim, value_dim);
        for (role, tensor, dim) in [(key, pair.keys, key_dim), (value, pair.values, value_dim)] {
            // An indexer has keys alone, its values have no elements; an older file may have no rows.
            if tensor.len == 0 {
                continue;
            }
            attention(tensor)?;
            let row_bytes = tensor
                .dtype
                .row_bytes(dim)
                .ok_or_else(|| too_long(tensor))?;
            self.push(Placed {
                bank: Bank {
                    role,
                    layer,
                    index: 0,
                    dtype: tensor.dtype,
                    shape: BankShape::Tokens { heads, tokens, dim },
                    rows: rows.clone(),
                    window,
                },
                parts: vec![rows_within(tensor, held, tokens, row_bytes)?],
                hadamard: None,
            });
        }
        Ok(())
    }

    /// What a cache's two tensors are.
    fn roles(&self, layer: u32, heads: u64, key_dim: u64, value_dim: u64) -> [Role; 2] {
        let first = !self.counts.contains_key(&(layer, Role::Latent));
        match self.latent {
            _ if value_dim == 0 => [Role::IndexKey, Role::IndexKey],
            Some(sizes) if heads == 1 && (first || sizes == (key_dim, value_dim)) => {
                [Role::Latent, Role::RopeKey]
            }
            Some(_) if heads == 1 => [Role::IndexKey, Role::IndexKey],
            _ => [Role::Key, Role::Value],
        }
    }

    /// An affine triplet: `[1, heads, rows, dim · bits / 32]` codes, `[1, heads, rows, dim / group]`
    /// scales and biases.
    fn triplet(
        &mut self,
        layer: u32,
        role: Role,
        [codes, scales, biases]: [&Tensor; 3],
        tokens: u64,
        (bits, group): (i64, i64),
    ) -> Result<()> {
        let params = ParamDtype::from_dtype(scales.dtype)
            .zip(u8::try_from(bits).ok().zip(u16::try_from(group).ok()))
            .and_then(|(dtype, (bits, group))| AffineParams::new(bits, group, dtype))
            .ok_or_else(|| {
                unsupported("a quantized cache of these parameters").sides(
                    "3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128",
                    format_args!("{bits} bits in groups of {group}, {}", scales.dtype.name()),
                )
            })?;
        let (heads, held, words) = heads_rows_dim(codes)?;
        let (_, _, groups) = heads_rows_dim(scales)?;
        let dim = groups.checked_mul(u64::from(params.group));
        let sections = dim.and_then(|dim| Some((dim, params.row_sections(dim)?)));
        let (dim, (code_bytes, param_bytes)) = sections.ok_or_else(|| too_long(scales))?;
        let alike = scales.shape == [1, heads, held, groups]
            && biases.shape == scales.shape
            && biases.dtype == scales.dtype
            && codes.dtype == Dtype::U32
            && words.checked_mul(4) == Some(code_bytes)
            && heads > 0
            && dim > 0;
        if !alike {
            return Err(
                contradiction("codes, scales and biases do not belong together")
                    .at(shown(&codes.name))
                    .sides(
                        format_args!("{bits}-bit codes of {groups} groups of {group}"),
                        format_args!("{:?}, {:?}, {:?}", codes.shape, scales.shape, biases.shape),
                    ),
            );
        }
        self.push(Placed {
            bank: Bank {
                role,
                layer,
                index: 0,
                dtype: Dtype::MlxAffine(params),
                shape: BankShape::Tokens { heads, tokens, dim },
                rows: Rows::From(0),
                window: 0,
            },
            parts: vec![
                rows_within(codes, held, tokens, code_bytes)?,
                rows_within(scales, held, tokens, param_bytes)?,
                rows_within(biases, held, tokens, param_bytes)?,
            ],
            hadamard: None,
        });
        Ok(())
    }

    /// A recurrent layer's tensors: two are convolution taps and a recurrent state, any other list is
    /// the runtime's own.
    fn arrays(&mut self, layer: u32, arrays: &[Option<&Tensor>]) -> Result<()> {
        let dims = |slot: usize| arrays.get(slot).copied().flatten().map(|t| t.shape.len());
        let taps = arrays.len() == 2 && matches!((dims(0), dims(1)), (Some(3), None | Some(3..)));
        for (slot, tensor) in arrays.iter().enumerate() {
            let Some(tensor) = tensor else { continue };
            if tensor.shape.first() != Some(&1) {
                return Err(unsupported("several sequences in one state")
                    .at(shown(&tensor.name))
                    .sides("batch 1", format_args!("shape {:?}", tensor.shape)));
            }
            if tensor.len == 0 {
                return Err(unsupported("a state without elements").at(shown(&tensor.name)));
            }
            let role = if taps && slot == 0 {
                Role::Convolution
            } else {
                Role::Recurrent
            };
            let (shape, region) = whole(tensor);
            self.push(Placed {
                bank: Bank {
                    role,
                    layer,
                    index: 0,
                    dtype: tensor.dtype,
                    shape,
                    rows: Rows::None,
                    window: 0,
                },
                parts: vec![region],
                hadamard: None,
            });
        }
        Ok(())
    }

    /// Adds a bank as the next of its layer and role.
    fn push(&mut self, mut placed: Placed) {
        let count = self
            .counts
            .entry((placed.bank.layer, placed.bank.role))
            .or_default();
        placed.bank.index = *count;
        *count += 1;
        self.placed.push(placed);
    }
}

/// The step in which a cache grows, which only some versions write, and then read.
fn grows_by(step: Option<i64>) -> String {
    step.map_or_else(String::new, |step| format!(",step={step}"))
}

/// Heads, rows and head size of a tensor of floats that is not empty.
fn attention(tensor: &Tensor) -> Result<(u64, u64, u64)> {
    let (heads, rows, dim) = heads_rows_dim(tensor)?;
    if !matches!(tensor.dtype, Dtype::F16 | Dtype::Bf16 | Dtype::F32) {
        return Err(unsupported("keys or values of this element type")
            .at(shown(&tensor.name))
            .sides("f16, bf16 or f32", tensor.dtype.name()));
    }
    if heads == 0 || dim == 0 {
        return Err(malformed("keys without elements").at(shown(&tensor.name)));
    }
    Ok((heads, rows, dim))
}

/// The first `tokens` of the `held` rows of a tensor.
fn rows_within(tensor: &Tensor, held: u64, tokens: u64, row_bytes: u64) -> Result<Region> {
    if tokens == 0 {
        let what = "a cache whose tokens were all rolled back";
        return Err(unsupported(what).at(shown(&tensor.name)));
    }
    if tokens > held {
        return Err(contradiction("the offset is past the stored rows")
            .at(shown(&tensor.name))
            .sides(format_args!("at most {held}"), tokens));
    }
    rows(tensor, held, row_bytes)
}

fn too_long(tensor: &Tensor) -> Error {
    malformed("the shape overflows").at(shown(&tensor.name))
}

fn contradiction(what: &'static str) -> Error {
    Error::new(Code::StateContradiction, what)
}
