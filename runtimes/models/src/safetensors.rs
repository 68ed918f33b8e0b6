//! A strict reader of safetensors headers (runtimes-v1 §1.4).
//!
//! The public format leaves overlaps, holes and repeated names to the reader, and runtimes' loaders
//! accept them; here the tensors must cover the data exactly and every name stands once.

use std::{borrow::Cow, collections::BTreeMap, io, ops::Range};

use kvcap::{Code, Error, ReadAt, Result};
use kvcap_codecs::{BankShape, Dtype};

use crate::json::document::{Document, Json};

/// Longest header, as the format's own reader has it.
const MAX_HEADER: u64 = 100_000_000;

/// Most tensors, and most entries of metadata.
const MAX_ENTRIES: usize = 1 << 16;

/// Most characters of a file's text in a message.
const SHOWN: usize = 120;

/// Most dimensions of a tensor.
const MAX_DIMS: usize = 8;

/// Most JSON values of a header: as many as the most tensors have, of the most dimensions.
const MAX_VALUES: u32 = 1 << 20;

/// Contents of a header, checked against the file's length; no data is read.
#[derive(Debug)]
pub struct Header {
    /// The free metadata.
    pub metadata: BTreeMap<String, String>,
    /// Tensors in the order of their data.
    pub tensors: Vec<Tensor>,
}

/// A tensor and its place in the file.
#[derive(Debug)]
pub struct Tensor {
    /// Name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// First byte, from the start of the file.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

impl Header {
    /// Reads and checks the header of `file`.
    pub fn read(file: &dyn ReadAt) -> Result<Self> {
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
        let mut text = read_all(file, 8..8 + len)?;
        let blanks = text.iter().rev().take_while(|byte| **byte == b' ').count();
        text.truncate(text.len() - blanks);
        if text.first() != Some(&b'{') || text.last() != Some(&b'}') {
            return Err(malformed("the header is not one JSON object"));
        }
        let document = Document::parse(text, MAX_VALUES).map_err(|error| wrong(error.what()))?;
        let base = 8 + len;
        let (metadata, mut tensors) = entries(document.root(), base, data_len)?;
        drop(document);
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
        Ok(Self { metadata, tensors })
    }
}

/// Renders a name from the file, fit for one line of a message.
#[must_use]
pub fn shown(name: &str) -> String {
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

/// Returns the error for a file that breaks a known layout (KVC-921).
pub fn malformed(what: impl Into<Cow<'static, str>>) -> Error {
    Error::new(Code::StateMalformed, what)
}

/// Returns the error for what a file may hold and nobody carries (KVC-922).
pub fn unsupported(what: impl Into<Cow<'static, str>>) -> Error {
    Error::new(Code::StateUnsupported, what)
}

type Metadata = BTreeMap<String, String>;

fn wrong(what: &str) -> Error {
    malformed(format!("the header is malformed: {}", shown(what)))
}

/// The metadata, and the tensors, whose data begins at `base` of the file.
fn entries(root: Json<'_>, base: u64, data_len: u64) -> Result<(Metadata, Vec<Tensor>)> {
    let members = || {
        let members = root.as_map();
        members.ok_or_else(|| malformed("the header is not one JSON object"))
    };
    let texts = root.get("__metadata__").map(|value| {
        let texts = value.as_map();
        texts.ok_or_else(|| wrong("the metadata is not an object"))
    });
    let count = match root.get("__metadata__").and_then(Json::as_map) {
        Some(texts) => members()?.count().saturating_sub(1).max(texts.count()),
        None => members()?.count(),
    };
    if count > MAX_ENTRIES {
        let what = "too many tensors or metadata entries";
        return Err(
            Error::new(Code::StateLimit, what).sides(format_args!("at most {MAX_ENTRIES}"), count)
        );
    }
    let mut metadata = Metadata::new();
    for (key, value) in texts.transpose()?.into_iter().flatten() {
        let (key, text) = (key.as_text(), value.as_text());
        let (key, text) = key.zip(text).ok_or_else(|| wrong("metadata is text"))?;
        metadata.insert(key.into_owned(), text.into_owned());
    }
    let mut tensors = Vec::new();
    for (name, entry) in members()? {
        let name = name.as_text().unwrap_or_default();
        if name != "__metadata__" {
            tensors.push(tensor(name.into_owned(), entry, base, data_len)?);
        }
    }
    Ok((metadata, tensors))
}

/// Reads a range of the file, piece by piece: a claimed length alone allocates nothing.
fn read_all(file: &dyn ReadAt, range: Range<u64>) -> Result<Vec<u8>> {
    const STEP: u64 = 1 << 16;
    let mut bytes = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let piece = (range.end - at).min(STEP);
        let start = bytes.len();
        bytes.resize(start + usize::try_from(piece).unwrap_or(0), 0);
        read_at(file, at, bytes.get_mut(start..).unwrap_or_default())?;
        at += piece;
    }
    Ok(bytes)
}

/// Checks one tensor's entry, whose data begins at `base` of the file.
fn tensor(name: String, entry: Json<'_>, base: u64, data_len: u64) -> Result<Tensor> {
    let place = |error: Error| error.at(shown(&name));
    let (dtype, shape, [start, end]) = fields(entry).ok_or_else(|| {
        let what = "a tensor has a dtype, a shape of at most 8 dimensions and two data_offsets";
        place(malformed(what))
    })?;
    let dtype = element(&dtype).map_err(place)?;
    let dims = shape.clone();
    let want = BankShape::Whole { dims }
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

/// Returns the three members of a tensor's entry, which has no others.
fn fields(entry: Json<'_>) -> Option<(Cow<'_, str>, Vec<u64>, [u64; 2])> {
    let others = entry.as_map()?.nth(3);
    let numbers = |name: &str| -> Option<Vec<u64>> {
        let numbers = entry.get(name)?.as_array()?.take(MAX_DIMS + 1);
        numbers.map(Json::as_u64).collect()
    };
    let shape = numbers("shape").filter(|dims| dims.len() <= MAX_DIMS)?;
    let offsets = numbers("data_offsets")?.try_into().ok()?;
    let dtype = entry.get("dtype")?.as_text()?;
    others.is_none().then_some((dtype, shape, offsets))
}

fn read_at(file: &dyn ReadAt, offset: u64, buf: &mut [u8]) -> Result<()> {
    let read = file.read_exact_at(offset, buf);
    read.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => malformed("the state file ends early"),
        _ => Error::source(&error, "state file"),
    })
}

/// Returns the element type of a safetensors name.
fn element(name: &str) -> Result<Dtype> {
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

/// Returns the safetensors name of an element type; block types have none.
#[must_use]
pub fn tensor_dtype(dtype: Dtype) -> Option<&'static str> {
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
