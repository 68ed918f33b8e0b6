//! A model's tensors by the names that a GGUF file gives them, wherever they lie (model-id-v1 §13).

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use kvcap::{Code, Error, ReadAt, Result, SourceFile};
use kvcap_codecs::Dtype;

use crate::{
    json::value::printable,
    safetensors,
    source::{file::unreadable, folder, gguf::Header, split},
};

/// One tensor and its place.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    path: PathBuf,
    offset: u64,
    dtype: Dtype,
    pub(crate) rows: u64,
    /// Elements of a row.
    pub(crate) row: u64,
}

/// The parts of a layer: in a folder, in a GGUF file.
const PARTS: [(&str, &str); 12] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("self_attn.rotary_emb", ""),
];

/// The tensors of a model folder or GGUF file that take part in what it computes.
///
/// # Errors
/// 931 for a name or element type that is not known.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let mut tensors = BTreeMap::new();
    match path.is_dir() {
        true => read_folder(path, &mut tensors)?,
        false => {
            for header in split::headers(path)?.0 {
                read_gguf(&header, &mut tensors)?;
            }
        }
    }
    // a tied output is the embedding
    if let Some(embedding) = tensors.get("token_embd.weight").cloned() {
        let output = tensors.entry("output.weight".to_owned());
        output.or_insert(embedding);
    }
    Ok(tensors)
}

fn open(path: &Path) -> Result<SourceFile> {
    let opened = File::open(path).and_then(SourceFile::new);
    opened.map_err(|error| unreadable(&error, path))
}

fn read_folder(folder: &Path, tensors: &mut BTreeMap<String, Tensor>) -> Result<()> {
    for source in folder::weights(folder)? {
        let file = open(&source.path)?;
        for tensor in safetensors::Header::read(&file)?.tensors {
            let name = canonical(&tensor.name).ok_or_else(|| unknown(&tensor.name))?;
            if name.is_empty() {
                continue;
            }
            let (rows, row) = match *tensor.shape.as_slice() {
                [row] => (1, row),
                [rows, row] => (rows, row),
                _ => return Err(unknown(&tensor.name)),
            };
            let place = Tensor {
                path: source.path.clone(),
                offset: tensor.offset,
                dtype: float(tensor.dtype).ok_or_else(|| compared(&tensor.name))?,
                rows,
                row,
            };
            if tensors.insert(name, place).is_some() {
                return Err(unknown(&tensor.name));
            }
        }
    }
    Ok(())
}

fn read_gguf(header: &Header, tensors: &mut BTreeMap<String, Tensor>) -> Result<()> {
    for tensor in &header.tensors {
        // its effect is in the rope, which is compared by its frequencies
        if tensor.name.starts_with("rope_f") {
            continue;
        }
        let dtype = match tensor.kind {
            0 => Dtype::F32,
            1 => Dtype::F16,
            30 => Dtype::Bf16,
            _ => return Err(compared(&tensor.name)),
        };
        let place = Tensor {
            path: header.path.clone(),
            offset: tensor.offset,
            dtype,
            rows: tensor.elements.checked_div(tensor.row).unwrap_or(0),
            row: tensor.row,
        };
        if tensors.insert(tensor.name.clone(), place).is_some() {
            return Err(unknown(&tensor.name));
        }
    }
    Ok(())
}

/// A folder's name of a tensor as a GGUF file's; empty for one that is derived.
fn canonical(name: &str) -> Option<String> {
    let whole = match name {
        "model.embed_tokens.weight" => Some("token_embd.weight"),
        "model.norm.weight" => Some("output_norm.weight"),
        "lm_head.weight" => Some("output.weight"),
        _ => None,
    };
    if let Some(name) = whole {
        return Some(name.to_owned());
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    layer.parse::<u32>().ok()?;
    let (part, kind) = rest.rsplit_once('.')?;
    let (_, ours) = PARTS.iter().find(|(theirs, _)| *theirs == part)?;
    match (*ours, kind) {
        ("", "inv_freq") => Some(String::new()),
        (ours, "weight" | "bias") if !ours.is_empty() => Some(format!("blk.{layer}.{ours}.{kind}")),
        _ => None,
    }
}

fn float(dtype: Dtype) -> Option<Dtype> {
    matches!(dtype, Dtype::F16 | Dtype::Bf16 | Dtype::F32).then_some(dtype)
}

fn unknown(name: &str) -> Error {
    let what = "a tensor whose part in the model is not known";
    Error::new(Code::ModelUnsupported, what).at(printable(name))
}

fn compared(name: &str) -> Error {
    let what = "only weights of f16, bf16 and f32 are compared";
    Error::new(Code::ModelUnsupported, what).at(printable(name))
}

impl Tensor {
    /// Bytes of the tensor.
    pub(crate) fn bytes(&self) -> u64 {
        let elements = self.rows.saturating_mul(self.row);
        elements.saturating_mul(self.dtype.row_bytes(1).unwrap_or(0))
    }

    /// A reader of its rows.
    pub(crate) fn open(&self) -> Result<SourceFile> {
        open(&self.path)
    }

    /// Rows from `first` on, as binary32.
    pub(crate) fn values(
        &self,
        file: &SourceFile,
        first: u64,
        rows: u64,
        bytes: &mut Vec<u8>,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let failed = |error: std::io::Error| unreadable(&error, &self.path);
        let overflow = || Error::new(Code::ModelMalformed, "a tensor's size overflows");
        let row = self.row.checked_mul(self.dtype.row_bytes(1).unwrap_or(0));
        let place = row.and_then(|row| Some((row.checked_mul(rows)?, row.checked_mul(first)?)));
        let (len, start) = place.ok_or_else(overflow)?;
        bytes.resize(usize::try_from(len).map_err(|_| overflow())?, 0);
        let at = self.offset.checked_add(start).ok_or_else(overflow)?;
        file.read_exact_at(at, bytes).map_err(failed)?;
        out.clear();
        let (halves, _) = bytes.as_chunks::<2>();
        match self.dtype {
            Dtype::F16 => out.extend(halves.iter().map(|b| f16::from_le_bytes(*b).to_f32())),
            Dtype::Bf16 => out.extend(halves.iter().map(|b| bf16::from_le_bytes(*b).to_f32())),
            // `float` has let nothing else in
            _ => out.extend(
                bytes
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|b| f32::from_le_bytes(*b)),
            ),
        }
        Ok(())
    }
}
