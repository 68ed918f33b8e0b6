//! A made prompt cache of any length, and the model that goes with it: the shape of Llama 3.2 1B, 16 layers, 8
//! heads of 64, bf16. Normal numbers, keys with channels of different scale and offset; the same bytes in every run.

use kvcap::{
    Code, Error, Result, WriteAt,
    binding::{Digest, F64Bits, KeyBasis, Model, Pairing, Rope, Scaling, Tokenizer},
};
use kvcap_codecs::Dtype;
use kvcap_models::{Geometry, LayerGeometry, ModelProfile, WeightsFile, model_id, weights_digest};
use serde_json::{Map, Value, json};

use super::normal::{Normal, push};

const LAYERS: u64 = 16;
const HEADS: u64 = 8;
const DIM: u64 = 64;
/// bf16
const ELEMENT: u64 = 2;
const TOKEN: u64 = LAYERS * 2 * HEADS * DIM * ELEMENT;

/// Shortest state: the header and a token.
pub const LEAST: u64 = 8192 + TOKEN;

/// The tokens of a state of `len` bytes, at least [`LEAST`], and what stands before its tensors.
///
/// # Errors
/// KVC-944 where it is too short.
pub fn start(len: u64) -> Result<(u64, Vec<u8>)> {
    // what remains beside whole tokens is blanks after the header, as safetensors allows
    let tokens = (len.saturating_sub(LEAST - TOKEN) / TOKEN).max(1);
    let data = tokens * TOKEN;
    let mut header = header(tokens).to_string().into_bytes();
    let room = usize::try_from(len.saturating_sub(8 + data)).unwrap_or(0);
    if header.len() > room {
        return Err(Error::new(
            Code::LocalUsage,
            "the state is too short for its header",
        ));
    }
    header.resize(room, b' ');
    let mut start = (len - 8 - data).to_le_bytes().to_vec();
    start.append(&mut header);
    Ok((tokens, start))
}

/// Writes a state of `len` bytes, and gives its tokens.
///
/// # Errors
/// As [`start`]; KVC-940 where writing fails.
pub fn state(len: u64, out: &dyn WriteAt) -> Result<u64> {
    let failed = |error: std::io::Error| Error::io(&error, "made state");
    let (tokens, start) = start(len)?;
    out.write_all_at(0, &start).map_err(failed)?;
    let mut normal = Normal::default();
    let mut at = u64::try_from(start.len()).unwrap_or(len);
    let mut rows = Vec::new();
    for tensor in 0..LAYERS * 2 {
        for _ in 0..HEADS {
            let channels = channels(tensor % 2 == 0, &mut normal);
            let mut left = tokens;
            while left > 0 {
                let now = left.min(4096);
                rows.clear();
                push_rows(now, &channels, &mut normal, &mut rows);
                out.write_all_at(at, &rows).map_err(failed)?;
                at += now * DIM * ELEMENT;
                left -= now;
            }
        }
    }
    Ok(tokens)
}

/// `count` rows of keys of one head.
pub fn keys(count: u64) -> Vec<u8> {
    let mut normal = Normal::default();
    let channels = channels(true, &mut normal);
    let mut rows = Vec::new();
    push_rows(count, &channels, &mut normal, &mut rows);
    rows
}

fn push_rows(count: u64, channels: &[(f64, f64)], normal: &mut Normal, rows: &mut Vec<u8>) {
    for _ in 0..count {
        for (scale, offset) in channels {
            push(Dtype::Bf16, normal.deviate().mul_add(*scale, *offset), rows);
        }
    }
}

/// Scale and offset of each element of a head.
fn channels(keys: bool, normal: &mut Normal) -> Vec<(f64, f64)> {
    let channel = |_| match keys {
        true => ((normal.deviate() * 0.5).exp(), normal.deviate()),
        false => (0.5, 0.0),
    };
    (0..DIM).map(channel).collect()
}

/// The header of mlx-lm 0.31: keys and values by layer, in order.
fn header(tokens: u64) -> Value {
    let tensor = HEADS * tokens * DIM * ELEMENT;
    let mut entries = Map::new();
    let mut metadata = Map::new();
    for layer in 0..LAYERS {
        for part in 0..2 {
            let start = (layer * 2 + part) * tensor;
            let entry = json!({
                "dtype": "BF16",
                "shape": [1, HEADS, tokens, DIM],
                "data_offsets": [start, start + tensor],
            });
            entries.insert(format!("{layer}.{part}"), entry);
        }
        metadata.insert(format!("0.{layer}"), json!(""));
        metadata.insert(format!("2.{layer}"), json!("KVCache"));
    }
    metadata.insert("1.model".to_owned(), json!("made"));
    entries.insert("__metadata__".to_owned(), Value::Object(metadata));
    Value::Object(entries)
}

/// A model of that shape, which has no weights.
pub fn profile() -> ModelProfile {
    let digest = |what| Digest::labelled("kvcap made model", &[what]);
    let config = digest(b"config");
    let weights = vec![WeightsFile {
        name: "made".to_owned(),
        length: 0,
        digest: digest(b"weights"),
    }];
    let layers = || 0..u32::try_from(LAYERS).unwrap_or(0);
    let attention = |_| LayerGeometry::Attention {
        kv_heads: HEADS,
        key_dim: DIM,
        value_dim: DIM,
        window: 0,
    };
    ModelProfile {
        model: Model {
            id: model_id(&weights, config, &[]),
            weights: weights_digest(&weights),
            config,
            adapters: Vec::new(),
            name: "made".to_owned(),
        },
        weights,
        tokenizer: Tokenizer {
            vocab: digest(b"vocab"),
            vocab_size: 128_256,
            version: "made".to_owned(),
            pre_tokenizer: "made".to_owned(),
            specials: Vec::new(),
            chat_template: None,
        },
        rope: vec![Rope {
            layers: layers().collect(),
            pairing: Pairing::Half,
            rotary_dims: u32::try_from(DIM).unwrap_or(0),
            theta: F64Bits(500_000_f64.to_bits()),
            scaling: Scaling::None,
            offset: 0,
            keys: KeyBasis::PostRope,
        }],
        geometry: Geometry {
            layers: layers().map(attention).collect(),
            context_length: 1 << 20,
            architecture: None,
        },
    }
}
