//! A capsule of an mlx-lm cache, sealed with affine codecs, opened as the runtime's own quantized
//! cache: its triplets are the encoded frames, so that nothing is encoded again (runtimes-v1 §2.4).

use std::fs::File;

use kvcap::{
    BankEntry, Code, Error, Opened, ReadAt, Result, Role, RowsEntry, SectionKind, WriteAt,
};
use kvcap_codecs::{AffineParams, BLOCK_TOKENS, BankShape, Codec, Dtype, ParamDtype};
use serde_json::{Map, Value, json};

use crate::{
    Hints, OpenReport, RuntimeKind, Skeleton,
    bank_io::{BankCodec, Buffers},
    parse,
    safetensors::Header,
};

/// The caches of one layer, ready to be named.
struct Layer<'a> {
    keys: (usize, &'a BankEntry),
    values: (usize, &'a BankEntry),
}

/// Writes the state as mlx-lm's `QuantizedKVCache` of the same layout, into `out`, which is empty.
///
/// # Errors
/// KVC-922 where the capsule is not of plain mlx-lm caches whose keys and values have one affine codec
/// that MLX knows; otherwise as [`crate::open_state`].
pub fn open_quantized<S: ReadAt>(
    opened: &Opened<S>,
    out: &File,
    progress: &mut dyn FnMut(u64),
) -> Result<OpenReport> {
    let context = &opened.manifest().context;
    let format = context.runtime.format.as_str();
    let new = match format {
        "mlx-lm-0.32" => true,
        "mlx-lm-0.31" => false,
        _ => return Err(refused("the state is not mlx-lm's").at(format.to_owned())),
    };
    let layers = layers(opened)?;
    let residue = opened.section(&SectionKind::Residue)?.unwrap_or_default();
    let original = Header::read(&Skeleton::parse(&residue)?)?;
    let user = user_metadata(&original, new);
    let head = header(&layers, user, new)?;
    let io = |error: std::io::Error| Error::io(&error, "output");
    out.set_len(head.len).map_err(io)?;
    out.write_all_at(0, &head.bytes).map_err(io)?;
    for (at, number) in &head.numbers {
        out.write_all_at(head.data_at + at, &number.to_le_bytes())
            .map_err(io)?;
    }
    // the runtime's own parser says where each frame goes
    let state = parse(RuntimeKind::MlxLm, out, Hints::None)?;
    let mut buffers = Buffers::default();
    let mut plain_len = 0;
    let entries = layers.iter().flat_map(|layer| [layer.keys, layer.values]);
    for ((stream, entry), placed) in entries.zip(&state.banks) {
        let mut reader = opened.stream(stream)?;
        let codec = BankCodec::new(entry, &[], Vec::new());
        codec.encoded(
            &mut buffers,
            &mut reader,
            0..codec.frames(),
            |frame, encoded| {
                placed.write_frame(out, frame, encoded)?;
                let len = u64::try_from(encoded.len()).unwrap_or(0);
                plain_len += len;
                progress(len);
                Ok(())
            },
        )?;
    }
    Ok(OpenReport {
        state_len: head.len,
        banks: state.banks.len(),
        plain_len,
    })
}

fn refused(what: &'static str) -> Error {
    Error::new(Code::StateUnsupported, what)
}

/// Keys and values of every layer, all of one kind.
fn layers<S: ReadAt>(opened: &Opened<S>) -> Result<Vec<Layer<'_>>> {
    let context = &opened.manifest().context;
    let mut layers = Vec::new();
    for number in 0..context.layers {
        let of = |role| {
            let mut found = context.banks().filter(|(_, bank)| bank.layer == number);
            let bank = found.find(|(_, bank)| bank.role == role)?;
            let one = context.banks().filter(|(_, b)| b.layer == number).count() == 2;
            one.then_some(bank)
        };
        let (Some(keys), Some(values)) = (of(Role::Key), of(Role::Value)) else {
            return Err(refused("a layer is not a plain pair of keys and values")
                .at(format_args!("layer {number}")));
        };
        params(keys.1)?;
        if keys.1.codec != values.1.codec || params(values.1)? != params(keys.1)? {
            return Err(refused("mlx-lm quantizes keys and values alike")
                .at(format_args!("layer {number}"))
                .sides(keys.1.codec, values.1.codec));
        }
        layers.push(Layer { keys, values });
    }
    Ok(layers)
}

fn params(bank: &BankEntry) -> Result<AffineParams> {
    let plain = bank.rows == RowsEntry::From(0) && bank.window == 0;
    let Codec::Affine { bits, group } = bank.codec else {
        return Err(refused("a bank is not sealed with an affine codec")
            .at(format_args!("layer {}", bank.layer))
            .sides("q8 or q4", bank.codec));
    };
    let params = ParamDtype::from_dtype(bank.dtype)
        .filter(|_| plain)
        .and_then(|params| AffineParams::new(bits, group, params));
    let whole = params.filter(|params| Dtype::MlxAffine(*params).row_bytes(dim(bank)).is_some());
    whole.ok_or_else(|| {
        refused("mlx-lm has no quantized cache of such a bank")
            .at(format_args!("layer {}", bank.layer))
    })
}

fn dim(bank: &BankEntry) -> u64 {
    match bank.shape {
        BankShape::Tokens { dim, .. } => dim,
        BankShape::Whole { .. } => 0,
    }
}

/// The metadata that the user had saved with the cache, under its keys of the layout.
fn user_metadata(original: &Header, new: bool) -> Vec<(String, String)> {
    let part = if new { "0." } else { "1." };
    let metadata = original.metadata.iter();
    metadata
        .filter(|(key, _)| key.starts_with(part))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

struct Head {
    /// Length and text of the header.
    bytes: Vec<u8>,
    /// Numbers of caches as 0-d tensors, by their place in the data.
    numbers: Vec<(u64, i32)>,
    data_at: u64,
    /// Length of the whole file.
    len: u64,
}

/// mlx-lm's header for these layers: tensors of the codes, scales and biases, and a class a layer.
fn header(layers: &[Layer<'_>], user: Vec<(String, String)>, new: bool) -> Result<Head> {
    let overflow = || refused("the quantized cache is too large");
    let mut tensors = Map::new();
    let mut metadata: Map<String, Value> = user
        .into_iter()
        .map(|(key, value)| (key, Value::String(value)))
        .collect();
    let mut numbers = Vec::new();
    let mut at = 0_u64;
    if new {
        metadata.insert("2.0".to_owned(), json!(""));
    }
    for (layer, pair) in layers.iter().enumerate() {
        let mut offset = 0;
        for (slot, (_, bank)) in [pair.keys, pair.values].into_iter().enumerate() {
            let BankShape::Tokens { heads, tokens, dim } = bank.shape else {
                return Err(overflow());
            };
            let params = params(bank)?;
            offset = tokens;
            // 0.32 keeps whole blocks of rows
            let rows = if new {
                tokens.next_multiple_of(BLOCK_TOKENS)
            } else {
                tokens
            };
            let (codes, scales) = params.row_sections(dim).ok_or_else(overflow)?;
            let each = params.params.bytes();
            let of = match params.params {
                ParamDtype::F16 => "F16",
                ParamDtype::Bf16 => "BF16",
                ParamDtype::F32 => "F32",
            };
            for (part, (dtype, row, last)) in [
                ("U32", codes, codes / 4),
                (of, scales, scales / each),
                (of, scales, scales / each),
            ]
            .into_iter()
            .enumerate()
            {
                let len = heads
                    .checked_mul(rows)
                    .and_then(|n| n.checked_mul(row))
                    .ok_or_else(overflow)?;
                let end = at.checked_add(len).ok_or_else(overflow)?;
                tensors.insert(
                    format!("{layer}.{slot}.{part}"),
                    json!({"dtype": dtype, "shape": [1, heads, rows, last], "data_offsets": [at, end]}),
                );
                at = end;
            }
        }
        let params = params(pair.keys.1)?;
        let offset = i32::try_from(offset).map_err(|_| overflow())?;
        let facts = [offset, i32::from(params.group), i32::from(params.bits)];
        for (index, number) in facts.into_iter().enumerate() {
            if new {
                let name = format!("{layer}.{}", index + 2);
                let entry = numbers.len() + 1;
                metadata.insert(format!("2.{entry}.0"), json!(name));
                metadata.insert(format!("2.{entry}.1"), json!("scalar"));
                numbers.push((name, number));
            } else {
                metadata.insert(format!("0.{layer}.{index}"), json!(number.to_string()));
            }
        }
        let class = if new { "1" } else { "2" };
        metadata.insert(format!("{class}.{layer}"), json!("QuantizedKVCache"));
    }
    let mut places = Vec::new();
    for (name, number) in numbers {
        let end = at + 4;
        tensors.insert(
            name,
            json!({"dtype": "I32", "shape": [], "data_offsets": [at, end]}),
        );
        places.push((at, number));
        at = end;
    }
    tensors.insert("__metadata__".to_owned(), Value::Object(metadata));
    let mut text = serde_json::to_vec(&Value::Object(tensors))
        .map_err(|error| Error::new(Code::LocalIo, error.to_string()))?;
    text.resize(text.len().next_multiple_of(8), b' ');
    let text_len = u64::try_from(text.len()).map_err(|_| overflow())?;
    let data_at = 8 + text_len;
    Ok(Head {
        bytes: [&text_len.to_le_bytes()[..], &text].concat(),
        numbers: places,
        data_at,
        len: data_at.checked_add(at).ok_or_else(overflow)?,
    })
}
