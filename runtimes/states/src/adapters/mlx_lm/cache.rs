//! The classes of `mlx_lm.models.cache` and what their state holds (runtimes-v1 §2.2).

use crate::adapters::tensors::heads_rows_dim;
use kvcap::Result;

use super::{layout::Value, ring::Ring, tree::Tree};
use kvcap_models::safetensors::{Tensor, malformed, shown, unsupported};

/// Caches inside a `CacheList`, and lists inside lists.
const MAX_NESTING: usize = 2;

/// One cache, from either layout.
#[derive(Debug)]
pub(super) enum Cache<'a> {
    /// `KVCache` and `ConcatenateKVCache`: keys and values, of which `offset` rows hold tokens.
    Plain { pair: Pair<'a>, offset: u64 },
    /// `QuantizedKVCache`: codes, scales and biases of each.
    Quantized {
        keys: [&'a Tensor; 3],
        values: [&'a Tensor; 3],
        offset: u64,
        group: i64,
        bits: i64,
    },
    /// `RotatingKVCache`; `rows` of the ring are not known before the tensors are looked at.
    Rotating { pair: Pair<'a>, ring: Ring },
    /// `ChunkedKVCache`: the rows from position `start` on.
    Chunked {
        pair: Pair<'a>,
        offset: u64,
        start: u64,
        chunk: u64,
    },
    /// `ArraysCache`: tensors without a token axis.
    Arrays(Vec<Option<&'a Tensor>>),
    /// `CacheList`.
    List(Vec<(String, Cache<'a>)>),
    /// A cache that was made and never filled.
    Empty,
}

/// Keys and values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    pub keys: &'a Tensor,
    pub values: &'a Tensor,
}

impl<'a> Cache<'a> {
    /// The cache of this class from its state; `info` is its `meta_state` in the older layout.
    pub(super) fn new(
        class: &str,
        state: &Tree<Value<'a>>,
        info: Option<&Tree<&str>>,
    ) -> Result<Self> {
        Self::nested(class, state, info, 0)
    }

    fn nested(
        class: &str,
        state: &Tree<Value<'a>>,
        info: Option<&Tree<&str>>,
        depth: usize,
    ) -> Result<Self> {
        let wrong = || malformed("the state is not one of its class").at(shown(class));
        let fields = state.list().ok_or_else(wrong)?;
        if let Some(Tree::Leaf(text)) = info
            && !text.is_empty()
        {
            return Err(wrong());
        }
        match (class, fields, info) {
            ("KVCache", [keys, values, offset], None) => {
                let offset = number(offset)?;
                match pair(keys, values)? {
                    Some(pair) => Ok(Self::Plain { pair, offset }),
                    None => empty(offset),
                }
            }
            ("KVCache", [keys, values], Some(Tree::Leaf(_)))
            | ("ConcatenateKVCache", [keys, values], None | Some(Tree::Leaf(_))) => {
                match pair(keys, values)? {
                    Some(pair) => Ok(Self::Plain {
                        pair,
                        offset: heads_rows_dim(pair.keys)?.1,
                    }),
                    None => Ok(Self::Empty),
                }
            }
            ("QuantizedKVCache", [keys, values, offset, group, bits], None) => {
                Self::quantized(keys, values, number(offset)?, signed(group)?, signed(bits)?)
            }
            ("QuantizedKVCache", [keys, values], Some(info)) => {
                let [offset, group, bits] = texts(info)?;
                Self::quantized(keys, values, unsigned(offset)?, group, bits)
            }
            ("RotatingKVCache", [keys, values, offset, keep, max_size, idx], None) => {
                let (offset, keep) = (number(offset)?, number(keep)?);
                Self::rotating(keys, values, offset, keep, number(max_size)?, number(idx)?)
            }
            ("RotatingKVCache", [keys, values], Some(info)) => {
                let [keep, max_size, offset, idx] = texts(info)?;
                Self::rotating(
                    keys,
                    values,
                    unsigned(offset)?,
                    unsigned(keep)?,
                    unsigned(max_size)?,
                    unsigned(idx)?,
                )
            }
            ("ChunkedKVCache", [keys, values, offset, chunk, start], None) => {
                let (offset, chunk) = (number(offset)?, number(chunk)?);
                let start = number(start)?;
                match pair(keys, values)? {
                    Some(pair) => Ok(Self::Chunked {
                        pair,
                        offset,
                        start,
                        chunk,
                    }),
                    None => empty(offset),
                }
            }
            ("ChunkedKVCache", [keys, values], Some(info)) => {
                let [chunk, start] = texts(info)?;
                if start != 0 {
                    return Err(unsupported(
                        "a chunked cache past its first chunk: this layout does not say how many rows hold tokens",
                    ));
                }
                let pair = pair(keys, values)?.ok_or_else(wrong)?;
                Ok(Self::Chunked {
                    pair,
                    offset: heads_rows_dim(pair.keys)?.1,
                    start: 0,
                    chunk: unsigned(chunk)?,
                })
            }
            ("ArraysCache", [Tree::List(arrays), left_padding, lengths], None) => {
                for array in [left_padding, lengths] {
                    if let Some(tensor) = array_or_none(array)?
                        && tensor.shape != [1]
                    {
                        return Err(unsupported("several sequences in one state")
                            .at(shown(&tensor.name))
                            .sides("batch 1", format_args!("shape {:?}", tensor.shape)));
                    }
                }
                Self::arrays(arrays)
            }
            ("ArraysCache", arrays, Some(Tree::Leaf(_))) => Self::arrays(arrays),
            ("CacheList", list, info) if depth < MAX_NESTING => {
                let caches = match info {
                    None => list
                        .iter()
                        .map(|cache| match cache.list() {
                            Some([state, Tree::Leaf(Value::Text(class))]) => {
                                let cache = Self::nested(class, state, None, depth + 1)?;
                                Ok((class.clone(), cache))
                            }
                            _ => Err(wrong()),
                        })
                        .collect::<Result<Vec<_>>>(),
                    Some(info) => {
                        let Some([Tree::List(classes), Tree::List(infos)]) = info.list() else {
                            return Err(wrong());
                        };
                        if classes.len() != list.len() || infos.len() != list.len() {
                            return Err(wrong());
                        }
                        list.iter()
                            .zip(classes.iter().zip(infos))
                            .map(|(state, (class, info))| {
                                let class = class.leaf().ok_or_else(wrong)?;
                                let cache = Self::nested(class, state, Some(info), depth + 1)?;
                                Ok(((*class).to_owned(), cache))
                            })
                            .collect()
                    }
                };
                Ok(Self::List(caches?))
            }
            (
                "KVCache" | "ConcatenateKVCache" | "QuantizedKVCache" | "RotatingKVCache"
                | "ChunkedKVCache" | "ArraysCache",
                ..,
            ) => Err(wrong()),
            ("BatchKVCache" | "BatchRotatingKVCache", ..) => {
                Err(unsupported("a batch of sequences in one state").at(shown(class)))
            }
            _ => Err(unsupported("a class of cache that no adapter carries").at(shown(class))),
        }
    }

    fn quantized(
        keys: &Tree<Value<'a>>,
        values: &Tree<Value<'a>>,
        offset: u64,
        group: i64,
        bits: i64,
    ) -> Result<Self> {
        if let (Tree::Leaf(Value::None), Tree::Leaf(Value::None)) = (keys, values) {
            return empty(offset);
        }
        Ok(Self::Quantized {
            keys: triplet(keys)?,
            values: triplet(values)?,
            offset,
            group,
            bits,
        })
    }

    fn rotating(
        keys: &Tree<Value<'a>>,
        values: &Tree<Value<'a>>,
        offset: u64,
        keep: u64,
        max_size: u64,
        idx: u64,
    ) -> Result<Self> {
        let Some(pair) = pair(keys, values)? else {
            return empty(offset);
        };
        let ring = Ring {
            rows: heads_rows_dim(pair.keys)?.1,
            offset,
            keep,
            max_size,
            idx,
        };
        Ok(Self::Rotating { pair, ring })
    }

    fn arrays(arrays: &[Tree<Value<'a>>]) -> Result<Self> {
        let arrays = arrays
            .iter()
            .map(array_or_none)
            .collect::<Result<Vec<_>>>()?;
        Ok(if arrays.iter().all(Option::is_none) {
            Self::Empty
        } else {
            Self::Arrays(arrays)
        })
    }
}

fn empty<'a>(offset: u64) -> Result<Cache<'a>> {
    if offset != 0 {
        return Err(malformed("a cache without tensors claims tokens").sides(0, offset));
    }
    Ok(Cache::Empty)
}

fn pair<'a>(keys: &Tree<Value<'a>>, values: &Tree<Value<'a>>) -> Result<Option<Pair<'a>>> {
    match (array_or_none(keys)?, array_or_none(values)?) {
        (Some(keys), Some(values)) => Ok(Some(Pair { keys, values })),
        (None, None) => Ok(None),
        _ => Err(malformed("a cache has keys or values alone")),
    }
}

fn triplet<'a>(tree: &Tree<Value<'a>>) -> Result<[&'a Tensor; 3]> {
    match tree.list() {
        Some(
            [
                Tree::Leaf(Value::Array(codes)),
                Tree::Leaf(Value::Array(scales)),
                Tree::Leaf(Value::Array(biases)),
            ],
        ) => Ok([codes, scales, biases]),
        _ => Err(unsupported(
            "quantized keys or values that are not codes, scales and biases",
        )),
    }
}

fn array_or_none<'a>(tree: &Tree<Value<'a>>) -> Result<Option<&'a Tensor>> {
    match tree {
        Tree::Leaf(Value::Array(tensor)) => Ok(Some(tensor)),
        Tree::Leaf(Value::None) => Ok(None),
        _ => Err(malformed("a tensor was expected")),
    }
}

fn signed(tree: &Tree<Value<'_>>) -> Result<i64> {
    match tree {
        Tree::Leaf(Value::Number(number)) => Ok(*number),
        _ => Err(malformed("a whole number was expected")),
    }
}

fn number(tree: &Tree<Value<'_>>) -> Result<u64> {
    unsigned(signed(tree)?)
}

fn unsigned(number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|_| malformed("a number is negative").sides("at least 0", number))
}

/// The numbers of a `meta_state`, as many as its class has.
fn texts<const N: usize>(info: &Tree<&str>) -> Result<[i64; N]> {
    let texts = info.list().unwrap_or_default();
    let numbers = texts
        .iter()
        .map(|text| text.leaf()?.parse().ok())
        .collect::<Option<Vec<i64>>>();
    numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| malformed("the metadata does not hold the numbers of the class"))
}
