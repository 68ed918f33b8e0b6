//! The classes of `mlx_lm.models.cache` and what their state holds (runtimes-v1 §2.2).

use crate::adapters::tensors::heads_rows_dim;
use kvcap::{Error, Result};

use super::{layout::Value, ring::Ring, tree::Tree};
use kvcap_models::safetensors::{Tensor, malformed, shown, unsupported};

/// Caches inside a `CacheList`, and lists inside lists.
const MAX_NESTING: usize = 2;

/// Arrays of one cache.
const MAX_SLOTS: usize = 64;

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
        /// Tokens by which it grows, where the file says it.
        step: Option<i64>,
    },
    /// `RotatingKVCache`; `rows` of the ring are not known before the tensors are looked at.
    Rotating {
        pair: Pair<'a>,
        ring: Ring,
        step: Option<i64>,
    },
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

/// The numbers of a cache in the layout up to 0.31: its `meta_state`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Info<'t, 'a> {
    /// From 0.32 on they are in the state itself.
    InState,
    /// A tree of the metadata; a file without any of this cache has an empty text.
    Meta(&'t Tree<&'a str>),
}

impl<'a> Cache<'a> {
    /// The cache of this class from its state.
    pub(super) fn new(class: &str, state: &Tree<Value<'a>>, info: Info<'_, '_>) -> Result<Self> {
        Self::nested(class, state, info, 0)
    }

    fn nested(
        class: &str,
        state: &Tree<Value<'a>>,
        info: Info<'_, '_>,
        depth: usize,
    ) -> Result<Self> {
        let fields = state.list().ok_or_else(|| unknown(class))?;
        match info {
            Info::InState => Self::in_state(class, fields, depth),
            Info::Meta(Tree::List(parts)) if parts.iter().any(|part| part.list().is_some()) => {
                Self::python_list(class, fields, parts, depth)
            }
            Info::Meta(meta) => Self::beside(class, fields, &words(meta), depth),
        }
    }

    /// From 0.32 on.
    fn in_state(class: &str, fields: &[Tree<Value<'a>>], depth: usize) -> Result<Self> {
        match (class, fields) {
            ("KVCache", [keys, values, offset]) => {
                let offset = number(offset)?;
                match pair(keys, values)? {
                    Some(pair) => Ok(Self::Plain { pair, offset }),
                    None => empty(offset),
                }
            }
            ("ConcatenateKVCache", [keys, values]) => Self::plain(keys, values),
            ("QuantizedKVCache", [keys, values, offset, group, bits]) => {
                let numbers = [number(offset)?.cast_signed(), signed(group)?, signed(bits)?];
                Self::quantized(keys, values, numbers, None)
            }
            ("RotatingKVCache", [keys, values, offset, keep, max_size, idx]) => {
                let numbers = [
                    signed(keep)?,
                    signed(max_size)?,
                    signed(offset)?,
                    signed(idx)?,
                ];
                Self::rotating(keys, values, numbers, None)
            }
            ("ChunkedKVCache", [keys, values, offset, chunk, start]) => {
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
            ("ArraysCache", [Tree::List(arrays), left_padding, lengths]) => {
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
            ("CacheList", list) if depth < MAX_NESTING => {
                let caches = list.iter().map(|cache| match cache.list() {
                    Some([state, Tree::Leaf(Value::Text(class))]) => {
                        let cache = Self::nested(class, state, Info::InState, depth + 1)?;
                        Ok((class.clone(), cache))
                    }
                    _ => Err(unknown("CacheList")),
                });
                Ok(Self::List(caches.collect::<Result<_>>()?))
            }
            _ => Err(unknown(class)),
        }
    }

    /// Up to 0.31, with the numbers of the class beside the state. mlx-swift-lm's are always a list.
    fn beside(
        class: &str,
        fields: &[Tree<Value<'a>>],
        meta: &[&str],
        depth: usize,
    ) -> Result<Self> {
        match (class, fields, meta) {
            // mlx-swift-lm saves a cache that was never filled with its numbers alone
            (
                "KVCache" | "KVCacheSimple" | "QuantizedKVCache" | "RotatingKVCache"
                | "ChunkedKVCache",
                [],
                _,
            ) => Ok(Self::Empty),
            ("KVCache" | "KVCacheSimple" | "ConcatenateKVCache", [keys, values], []) => {
                Self::plain(keys, values)
            }
            // up to 0.27, and in mlx-swift-lm, the numbers begin with the step in which the cache grows
            ("QuantizedKVCache", [keys, values], [offset, group, bits]) => {
                Self::quantized(keys, values, texts(&[offset, group, bits])?, None)
            }
            ("QuantizedKVCache", [keys, values], [step, offset, group, bits]) => {
                let numbers = texts(&[offset, group, bits])?;
                Self::quantized(keys, values, numbers, Some(parse(step)?))
            }
            ("QuantizedKVCache", fields, [step, offset, group, bits]) if fields.len() == 6 => {
                let numbers = texts(&[offset, group, bits])?;
                let (keys, values) = fields.split_at(3);
                Self::triplets(
                    triplet(keys)?,
                    triplet(values)?,
                    numbers,
                    Some(parse(step)?),
                )
            }
            ("RotatingKVCache", [keys, values], [keep, max_size, offset, idx]) => {
                let numbers = texts(&[keep, max_size, offset, idx])?;
                Self::rotating(keys, values, numbers, None)
            }
            ("RotatingKVCache", [keys, values], [keep, max_size, step, offset, idx]) => {
                let numbers = texts(&[keep, max_size, offset, idx])?;
                Self::rotating(keys, values, numbers, Some(parse(step)?))
            }
            ("ChunkedKVCache", [keys, values], [chunk, start]) => {
                if parse(start)? != 0 {
                    return Err(unsupported(
                        "a chunked cache past its first chunk: this layout does not say how many rows hold tokens",
                    ));
                }
                let pair = pair(keys, values)?.ok_or_else(|| unknown(class))?;
                Ok(Self::Chunked {
                    pair,
                    offset: heads_rows_dim(pair.keys)?.1,
                    start: 0,
                    // mlx-swift-lm's way to say that there is none
                    chunk: if *chunk == "None" {
                        0
                    } else {
                        unsigned(parse(chunk)?)?
                    },
                })
            }
            ("ArraysCache" | "MambaCache", arrays, []) => Self::arrays(arrays),
            ("ArraysCache" | "MambaCache", arrays, [slots, filled, batch @ ..]) => {
                Self::slots(arrays, slots, filled, batch)
            }
            ("CacheList", [_, ..], []) => Err(unsupported(
                "a CacheList as it was saved up to mlx-lm 0.30, which no version reads back: it does not say which caches it holds",
            )),
            ("CacheList", fields, [count, children @ ..]) if depth < MAX_NESTING => {
                Self::swift_list(fields, parse(count)?, children, depth)
            }
            _ => Err(unknown(class)),
        }
    }

    /// A `CacheList` of mlx-lm 0.31: classes, then their numbers.
    fn python_list(
        class: &str,
        fields: &[Tree<Value<'a>>],
        parts: &[Tree<&str>],
        depth: usize,
    ) -> Result<Self> {
        let ("CacheList", [Tree::List(classes), Tree::List(infos)]) = (class, parts) else {
            return Err(unknown(class));
        };
        if classes.len() != fields.len() || infos.len() != fields.len() || depth >= MAX_NESTING {
            return Err(unknown(class));
        }
        let caches = fields.iter().zip(classes.iter().zip(infos));
        let caches = caches.map(|(state, (class, info))| {
            let class = class.leaf().ok_or_else(|| unknown("CacheList"))?;
            let cache = Self::nested(class, state, Info::Meta(info), depth + 1)?;
            Ok(((*class).to_owned(), cache))
        });
        Ok(Self::List(caches.collect::<Result<_>>()?))
    }

    /// A `CacheList` of mlx-swift-lm, of `count` children: one list of tensors; for each child its class, how
    /// many tensors and how many numbers it has, and these numbers.
    fn swift_list(
        mut fields: &[Tree<Value<'a>>],
        count: i64,
        mut children: &[&str],
        depth: usize,
    ) -> Result<Self> {
        let mut caches = Vec::new();
        while let [class, tensors, numbers, rest @ ..] = children {
            let size =
                |text: &str| Ok(usize::try_from(unsigned(parse(text)?)?).unwrap_or(usize::MAX));
            let meta = rest.split_at_checked(size(numbers)?);
            let state = fields.split_at_checked(size(tensors)?);
            let (Some((meta, after)), Some((state, left))) = (meta, state) else {
                return Err(malformed("a CacheList names more than it holds"));
            };
            let cache = Self::beside(class, state, plain_words(meta), depth + 1)?;
            caches.push(((*class).to_owned(), cache));
            (children, fields) = (after, left);
        }
        if !children.is_empty() || !fields.is_empty() {
            return Err(malformed("a CacheList holds more than it names"));
        }
        if usize::try_from(count) != Ok(caches.len()) {
            return Err(
                malformed("a CacheList has another number of caches than it says")
                    .sides(count, caches.len()),
            );
        }
        Ok(Self::List(caches))
    }

    /// mlx-swift-lm's arrays, without those that are not filled: `slots` in all, `filled` where they belong.
    fn slots(
        arrays: &[Tree<Value<'a>>],
        slots: &str,
        filled: &str,
        batch: &[&str],
    ) -> Result<Self> {
        if batch.len() > 2 || batch.iter().any(|text| text.contains(',')) {
            return Err(unsupported("several sequences in one state"));
        }
        let slots = usize::try_from(parse(slots)?).unwrap_or(usize::MAX);
        if slots > MAX_SLOTS {
            return Err(unsupported("so many arrays in one cache").sides(MAX_SLOTS, slots));
        }
        let filled = match filled {
            "" => Vec::new(),
            places => places.split(',').map(parse).collect::<Result<_>>()?,
        };
        let mut placed = vec![None; slots];
        if filled.len() != arrays.len() {
            return Err(malformed("the metadata names other arrays than there are")
                .sides(filled.len(), arrays.len()));
        }
        for (slot, array) in filled.iter().zip(arrays) {
            let slot = usize::try_from(*slot)
                .ok()
                .and_then(|slot| placed.get_mut(slot));
            match slot {
                Some(slot @ None) => *slot = array_or_none(array)?,
                _ => return Err(malformed("two arrays are in one place, or one in none")),
            }
        }
        Ok(match placed.iter().all(Option::is_none) {
            true => Self::Empty,
            false => Self::Arrays(placed),
        })
    }

    /// All rows hold tokens.
    fn plain(keys: &Tree<Value<'a>>, values: &Tree<Value<'a>>) -> Result<Self> {
        match pair(keys, values)? {
            Some(pair) => Ok(Self::Plain {
                pair,
                offset: heads_rows_dim(pair.keys)?.1,
            }),
            None => Ok(Self::Empty),
        }
    }

    /// `numbers` are offset, group size and bits.
    fn quantized(
        keys: &Tree<Value<'a>>,
        values: &Tree<Value<'a>>,
        numbers: [i64; 3],
        step: Option<i64>,
    ) -> Result<Self> {
        if let (Tree::Leaf(Value::None), Tree::Leaf(Value::None)) = (keys, values) {
            return empty(unsigned(numbers[0])?);
        }
        let parts = |tree: &Tree<Value<'a>>| triplet(tree.list().unwrap_or_default());
        Self::triplets(parts(keys)?, parts(values)?, numbers, step)
    }

    fn triplets(
        keys: [&'a Tensor; 3],
        values: [&'a Tensor; 3],
        [offset, group, bits]: [i64; 3],
        step: Option<i64>,
    ) -> Result<Self> {
        Ok(Self::Quantized {
            keys,
            values,
            offset: unsigned(offset)?,
            group,
            bits,
            step,
        })
    }

    /// `numbers` are keep, max_size, offset and the row to write next.
    fn rotating(
        keys: &Tree<Value<'a>>,
        values: &Tree<Value<'a>>,
        [keep, max_size, offset, idx]: [i64; 4],
        step: Option<i64>,
    ) -> Result<Self> {
        let Some(pair) = pair(keys, values)? else {
            return empty(unsigned(offset)?);
        };
        let ring = Ring {
            rows: heads_rows_dim(pair.keys)?.1,
            offset: unsigned(offset)?,
            keep: unsigned(keep)?,
            max_size: unsigned(max_size)?,
            idx: unsigned(idx)?,
        };
        Ok(Self::Rotating { pair, ring, step })
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

fn triplet<'a>(parts: &[Tree<Value<'a>>]) -> Result<[&'a Tensor; 3]> {
    match parts {
        [
            Tree::Leaf(Value::Array(codes)),
            Tree::Leaf(Value::Array(scales)),
            Tree::Leaf(Value::Array(biases)),
        ] => Ok([codes, scales, biases]),
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

/// A `meta_state` of texts.
fn words<'a>(meta: &Tree<&'a str>) -> Vec<&'a str> {
    let words: Vec<_> = match meta {
        Tree::Leaf(text) => vec![*text],
        Tree::List(list) => list
            .iter()
            .filter_map(|text| text.leaf().copied())
            .collect(),
    };
    plain_words(&words).to_vec()
}

/// One empty text stands for no numbers.
fn plain_words<'t, 'a>(words: &'t [&'a str]) -> &'t [&'a str] {
    match words {
        [""] => &[],
        words => words,
    }
}

fn texts<const N: usize>(texts: &[&str]) -> Result<[i64; N]> {
    let numbers = texts
        .iter()
        .map(|text| parse(text))
        .collect::<Result<Vec<_>>>()?;
    numbers
        .try_into()
        .map_err(|_| malformed("the metadata does not hold the numbers of the class"))
}

fn parse(text: &str) -> Result<i64> {
    text.parse().map_err(|_| {
        malformed("the metadata holds no number where its class has one").at(shown(text))
    })
}

/// What a version that is not known may well have written.
fn unknown(class: &str) -> Error {
    match class {
        "KVCache" | "ConcatenateKVCache" | "QuantizedKVCache" | "RotatingKVCache"
        | "ChunkedKVCache" | "ArraysCache" | "MambaCache" | "CacheList" | "KVCacheSimple" => {
            unsupported("a state that no known version gives this class").at(shown(class))
        }
        "BatchKVCache" | "BatchRotatingKVCache" => {
            unsupported("a batch of sequences in one state").at(shown(class))
        }
        _ => unsupported("a class of cache that no adapter carries").at(shown(class)),
    }
}
