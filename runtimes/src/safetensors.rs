//! A strict reader of safetensors headers (runtimes-v1 §1.4).
//!
//! The public format leaves overlaps, holes and repeated names to the reader, and runtimes' loaders
//! accept them; here the tensors must cover the data exactly and every name stands once.

use std::{collections::BTreeMap, fmt};

use kvcap::{Code, Error, Result};
use kvcap_codecs::{BankShape, Dtype};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};

use crate::{
    file::{read_at, size},
    state::{Order, Placement, ReadAt},
};

/// Longest header, as the format's own reader has it.
const MAX_HEADER: u64 = 100_000_000;

/// Most tensors, and most entries of metadata.
const MAX_ENTRIES: usize = 1 << 16;

/// Most characters of a file's text in a message.
const SHOWN: usize = 120;

/// Most dimensions of a tensor.
const MAX_DIMS: usize = 8;

/// What a header says, checked against the file's length; no data is read.
#[derive(Debug)]
pub(crate) struct Header {
    /// The free metadata.
    pub metadata: BTreeMap<String, String>,
    /// Tensors in the order of their data.
    pub tensors: Vec<Tensor>,
}

/// A tensor and its place in the file.
#[derive(Debug)]
pub(crate) struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<u64>,
    /// First byte, from the start of the file.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

impl Header {
    /// Reads and checks the header of `file`.
    pub(crate) fn read(file: &dyn ReadAt) -> Result<Self> {
        let mut prefix = [0; 8];
        read_at(file, 0, &mut prefix)?;
        let len = u64::from_le_bytes(prefix);
        let data_len = file
            .len()
            .checked_sub(8)
            .and_then(|rest| rest.checked_sub(len))
            .ok_or_else(|| malformed("the header is longer than the file"))?;
        if len > MAX_HEADER {
            return Err(Error::new(Code::StateLimit, "the header is too long")
                .sides(format_args!("at most {MAX_HEADER}"), len));
        }
        let mut text = vec![0; size(len)?];
        read_at(file, 8, &mut text)?;
        let blanks = text.iter().rev().take_while(|byte| **byte == b' ').count();
        text.truncate(text.len() - blanks);
        if text.first() != Some(&b'{') || text.last() != Some(&b'}') {
            return Err(malformed("the header is not one JSON object"));
        }
        let raw: RawHeader = serde_json::from_slice(&text).map_err(|error| {
            malformed(format!(
                "the header is malformed: {}",
                shown(&error.to_string())
            ))
        })?;
        drop(text);
        if raw.entries > MAX_ENTRIES {
            return Err(
                Error::new(Code::StateLimit, "too many tensors or metadata entries")
                    .sides(format_args!("at most {MAX_ENTRIES}"), raw.entries),
            );
        }
        let base = 8 + len;
        let mut tensors = raw
            .tensors
            .into_iter()
            .map(|(name, entry)| entry.check(name, base, data_len))
            .collect::<Result<Vec<_>>>()?;
        tensors
            .sort_unstable_by(|a, b| (a.offset, a.len, &a.name).cmp(&(b.offset, b.len, &b.name)));
        let mut at = base;
        for tensor in &tensors {
            if tensor.offset != at {
                let what = if tensor.offset < at {
                    "overlaps another"
                } else {
                    "leaves a hole"
                };
                return Err(malformed(format!("the tensor's data {what}"))
                    .at(shown(&tensor.name))
                    .sides(at - base, tensor.offset - base));
            }
            at += tensor.len;
        }
        if at != file.len() {
            return Err(malformed("bytes follow the last tensor").sides(at, file.len()));
        }
        Ok(Self {
            metadata: raw.metadata,
            tensors,
        })
    }
}

impl Tensor {
    /// The whole tensor as a bank without a token axis.
    pub(crate) fn whole(&self) -> (BankShape, Placement) {
        let dims = self.shape.clone();
        (BankShape::Whole { dims }, self.placement(Order::Contiguous))
    }

    /// The tensor's bytes as a region with rows of this order.
    pub(crate) fn placement(&self, order: Order) -> Placement {
        Placement {
            offset: self.offset,
            len: self.len,
            order,
        }
    }

    /// A `[1, heads, rows, dim]` tensor's last three dimensions.
    pub(crate) fn heads_rows_dim(&self) -> Result<(u64, u64, u64)> {
        match *self.shape.as_slice() {
            [1, heads, rows, dim] => Ok((heads, rows, dim)),
            [batch, _, _, _] => Err(unsupported("several sequences in one state")
                .at(shown(&self.name))
                .sides("batch 1", batch)),
            _ => Err(malformed("the shape is not [1, heads, tokens, dim]")
                .at(shown(&self.name))
                .sides("4 dimensions", self.shape.len())),
        }
    }

    /// Rows of `row_bytes` in a `[1, heads, rows, …]` tensor.
    pub(crate) fn rows(&self, rows: u64, row_bytes: u64) -> Result<Placement> {
        let head_stride = rows
            .checked_mul(row_bytes)
            .ok_or_else(|| malformed("the shape overflows").at(shown(&self.name)))?;
        Ok(self.placement(Order::Rows {
            row_bytes,
            head_stride,
            token_stride: row_bytes,
        }))
    }
}

/// A name from the file, fit for one line of a message.
pub(crate) fn shown(name: &str) -> String {
    let mut text: String = name
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if name.chars().nth(SHOWN).is_some() {
        text.push('…');
    }
    text
}

pub(crate) fn malformed(what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Code::StateMalformed, what)
}

pub(crate) fn unsupported(what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Code::StateUnsupported, what)
}

/// The header before its offsets are checked; entries beyond the limit are counted, not kept.
#[derive(Default)]
struct RawHeader {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Entry>,
    entries: usize,
}

/// One tensor as the header has it. Derived, it would take an array for the object as well.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
struct Entry {
    dtype: String,
    shape: Dims,
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;

        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tensor's dtype, shape and data_offsets")
            }

            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Entry, A::Error> {
                Entry::deserialize(de::value::MapAccessDeserializer::new(access))
            }
        }

        deserializer.deserialize_map(EntryVisitor)
    }
}

impl Entry {
    fn check(self, name: String, base: u64, data_len: u64) -> Result<Tensor> {
        let place = |error: Error| error.at(shown(&name));
        let dtype = dtype(&self.dtype).map_err(place)?;
        let (start, end) = self.data_offsets;
        let shape = self.shape.0;
        let want = BankShape::Whole {
            dims: shape.clone(),
        }
        .plain_len(dtype)
        .ok_or_else(|| place(malformed("the shape overflows")))?;
        let len = end
            .checked_sub(start)
            .filter(|_| end <= data_len)
            .ok_or_else(|| {
                place(malformed("the data offsets leave the file").sides(
                    format_args!("0..{data_len}"),
                    format_args!("{start}..{end}"),
                ))
            })?;
        if len != want {
            let what = "the data is not as long as dtype and shape say";
            return Err(place(malformed(what).sides(want, len)));
        }
        Ok(Tensor {
            dtype,
            shape,
            offset: base + start,
            len,
            name,
        })
    }
}

fn dtype(name: &str) -> Result<Dtype> {
    Ok(match name {
        "BOOL" => Dtype::Bool,
        "U8" => Dtype::U8,
        "I8" => Dtype::I8,
        "F8_E4M3" => Dtype::F8E4M3,
        "F8_E5M2" => Dtype::F8E5M2,
        "U16" => Dtype::U16,
        "I16" => Dtype::I16,
        "F16" => Dtype::F16,
        "BF16" => Dtype::Bf16,
        "U32" => Dtype::U32,
        "I32" => Dtype::I32,
        "F32" => Dtype::F32,
        "U64" => Dtype::U64,
        "I64" => Dtype::I64,
        "F64" => Dtype::F64,
        other => {
            return Err(unsupported(format!(
                "no adapter carries element type {}",
                shown(other)
            )));
        }
    })
}

/// The safetensors name of an element type; block types have none.
pub(crate) fn tensor_dtype(dtype: Dtype) -> Option<&'static str> {
    Some(match dtype {
        Dtype::F16 => "F16",
        Dtype::Bf16 => "BF16",
        Dtype::F32 => "F32",
        Dtype::F64 => "F64",
        Dtype::F8E4M3 => "F8_E4M3",
        Dtype::F8E5M2 => "F8_E5M2",
        Dtype::Bool => "BOOL",
        Dtype::U8 => "U8",
        Dtype::I8 => "I8",
        Dtype::U16 => "U16",
        Dtype::I16 => "I16",
        Dtype::U32 => "U32",
        Dtype::I32 => "I32",
        Dtype::U64 => "U64",
        Dtype::I64 => "I64",
        _ => return None,
    })
}

/// A list of at most eight dimensions.
struct Dims(Vec<u64>);

impl<'de> Deserialize<'de> for Dims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DimsVisitor;

        impl<'de> Visitor<'de> for DimsVisitor {
            type Value = Dims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX_DIMS} dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Dims, A::Error> {
                let mut dims = Vec::new();
                while let Some(dim) = seq.next_element()? {
                    if dims.len() == MAX_DIMS {
                        return Err(de::Error::invalid_length(MAX_DIMS + 1, &self));
                    }
                    dims.push(dim);
                }
                Ok(Dims(dims))
            }
        }

        deserializer.deserialize_seq(DimsVisitor)
    }
}

/// A map of text whose keys stand once, and at most the limit of them.
#[derive(Default)]
struct TextMap {
    map: BTreeMap<String, String>,
    entries: usize,
}

impl<'de> Deserialize<'de> for TextMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = TextMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("metadata from text to text")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<TextMap, A::Error> {
                let mut text = TextMap::default();
                while let Some(key) = access.next_key::<String>()? {
                    let value = access.next_value::<String>()?;
                    text.entries += 1;
                    if text.entries <= MAX_ENTRIES {
                        insert_once(&mut text.map, key, value)?;
                    }
                }
                Ok(text)
            }
        }

        deserializer.deserialize_map(TextVisitor)
    }
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;

        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tensors by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader::default();
                let mut metadata = None;
                while let Some(key) = access.next_key::<String>()? {
                    if key == "__metadata__" {
                        if metadata.replace(access.next_value::<TextMap>()?).is_some() {
                            return Err(de::Error::duplicate_field("__metadata__"));
                        }
                        continue;
                    }
                    let entry = access.next_value::<Entry>()?;
                    header.entries += 1;
                    if header.entries <= MAX_ENTRIES {
                        insert_once(&mut header.tensors, key, entry)?;
                    }
                }
                let metadata = metadata.unwrap_or_default();
                header.metadata = metadata.map;
                header.entries = header.entries.max(metadata.entries);
                Ok(header)
            }
        }

        deserializer.deserialize_map(HeaderVisitor)
    }
}

fn insert_once<V, E: de::Error>(
    map: &mut BTreeMap<String, V>,
    key: String,
    value: V,
) -> Result<(), E> {
    if map.contains_key(&key) {
        return Err(E::custom(format_args!("duplicate name {}", shown(&key))));
    }
    map.insert(key, value);
    Ok(())
}
