//! Whether two models are one in two formats: every tensor, and every fact that their states depend on
//! (model-id-v1 §13).

use std::path::Path;

use kvcap::{Code, Error, Result, Role, binding::Rope};

use crate::{
    geometry::LayerGeometry,
    json::value::{Fields, Map, printable},
    profile::ModelProfile,
    rope::Change,
    source::{folder, split, tensors, tensors::Tensor},
};

/// Families whose folders and GGUF files compute the same: `model_type`, architecture.
const FAMILIES: [(&str, &str); 4] = [
    ("llama", "llama"),
    ("mistral", "llama"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen3"),
];

/// Keys of a GGUF's architecture that are compared, or follow from tensors that are.
const KEYS: [&str; 13] = [
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "vocab_size",
    "rope.dimension_count",
    "rope.freq_base",
];

/// Result of a comparison of two models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Equated {
    /// Tensors, all equal.
    pub tensors: usize,
    /// Those of them whose rows stand in another order, for other pairs of the rope.
    pub permuted: usize,
    /// Bytes read.
    pub bytes: u64,
}

/// Compares two models, each a folder or GGUF file with its profile.
///
/// # Errors
/// KVC-933 naming what differs, with both sides; 602 and 603 for vocabulary and rope; 931 for a family,
/// tensor, element type or adapter that is not compared; as [`ModelProfile::read`].
pub fn equate(
    one: (&Path, &ModelProfile),
    other: (&Path, &ModelProfile),
    progress: crate::model_id::Progress<'_>,
) -> Result<Equated> {
    let (a, b) = (one.1, other.1);
    if !a.model.adapters.is_empty() || !b.model.adapters.is_empty() {
        return Err(unsupported("models with adapters are not compared"));
    }
    if a.tokenizer.vocab != b.tokenizer.vocab {
        let error = Error::new(Code::BindingTokenizer, "the vocabularies differ");
        return Err(error.sides(a.tokenizer.vocab, b.tokenizer.vocab));
    }
    facts(one, other)?;
    if a.geometry.layers != b.geometry.layers {
        let show = |profile: &ModelProfile| format!("{:?}", profile.geometry.layers.first());
        return Err(unequal("the layers differ").sides(show(a), show(b)));
    }
    let permuted = pairings(a, b)?;
    let (left, right) = (tensors::read(one.0)?, tensors::read(other.0)?);
    if let Some(name) = left
        .keys()
        .chain(right.keys())
        .find(|name| !left.contains_key(*name) || !right.contains_key(*name))
    {
        return Err(unequal("one of the models lacks a tensor").at(printable(name)));
    }
    let total = left.values().chain(right.values()).map(Tensor::bytes).sum();
    let mut equated = Equated {
        tensors: 0,
        permuted: 0,
        bytes: 0,
    };
    for ((name, x), (_, y)) in left.iter().zip(&right) {
        let turned = layer_of(name, &["attn_q", "attn_k"])
            .and_then(|layer| permuted.get(layer).copied().flatten());
        compare(x, y, turned).map_err(|error| error.at(printable(name)))?;
        equated.tensors += 1;
        equated.permuted += usize::from(turned.is_some());
        equated.bytes += x.bytes() + y.bytes();
        progress(equated.bytes, total);
    }
    Ok(equated)
}

/// The number of elements of a head where its rows stand in another order, layer by layer: positive
/// where the first model has its pairs in halves.
fn pairings(a: &ModelProfile, b: &ModelProfile) -> Result<Vec<Option<(u64, bool)>>> {
    let of = |ropes: &[Rope], layer| ropes.iter().position(|rope| rope.layers.contains(&layer));
    (0..)
        .zip(&a.geometry.layers)
        .map(|(layer, kept)| {
            let place = |error: Error| error.at(format_args!("layer {layer}"));
            let dim = match kept {
                LayerGeometry::Attention { key_dim, .. } => *key_dim,
                _ => return Err(place(unsupported("a layer that is not of attention"))),
            };
            let old = of(&a.rope, layer).and_then(|at| a.rope.get(at));
            let new = of(&b.rope, layer).and_then(|at| b.rope.get(at));
            let contexts = [a.geometry.context_length, b.geometry.context_length];
            Change::between(Role::Key, dim, old, new, contexts, [0; 2]).map_err(place)?;
            let (Some(old), Some(new)) = (old, new) else {
                return Ok(None);
            };
            if old.pairing == new.pairing {
                return Ok(None);
            }
            if u64::from(old.rotary_dims) != dim {
                return Err(place(unsupported("heads that are rotated in part")));
            }
            Ok(Some((dim, old.pairing == kvcap::binding::Pairing::Half)))
        })
        .collect()
}

/// The layer of a tensor that is one of `parts`.
fn layer_of(name: &str, parts: &[&str]) -> Option<usize> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, _) = rest.split_once('.')?;
    parts.contains(&part).then(|| layer.parse().ok()).flatten()
}

/// Compares two tensors row by row; `turned` as [`pairings`] says.
fn compare(x: &Tensor, y: &Tensor, turned: Option<(u64, bool)>) -> Result<()> {
    // a bias is one row of as many elements as its weight has rows
    let shape = |t: &Tensor| match (turned, t.rows) {
        (Some(_), 1) => (t.row, 1),
        _ => (t.rows, t.row),
    };
    if shape(x) != shape(y) {
        let show = |t| format!("{:?}", shape(t));
        return Err(unequal("the shapes differ").sides(show(x), show(y)));
    }
    let (rows, row) = shape(x);
    let head = turned.map_or(0, |(head, _)| head);
    // whole heads where rows are permuted, else a few megabytes
    let step = match head {
        0 => (1_u64 << 20).checked_div(row).unwrap_or(0).max(1),
        head if rows % head == 0 => head,
        _ => return Err(unequal("the rows are not whole heads")),
    };
    let (left, right) = (x.open()?, y.open()?);
    let (mut bytes, mut p, mut q) = (Vec::new(), Vec::new(), Vec::new());
    let width = usize::try_from(row).unwrap_or(1).max(1);
    let mut first = 0;
    while first < rows {
        let count = step.min(rows - first);
        let (from, many) = match x.rows == rows {
            true => (first, count),
            // a bias is read whole
            false => (0, 1),
        };
        x.values(&left, from, many, &mut bytes, &mut p)?;
        y.values(&right, from, many, &mut bytes, &mut q)?;
        let base = match x.rows == rows {
            true => 0,
            false => usize::try_from(first).unwrap_or(0),
        };
        for at in 0..usize::try_from(count).unwrap_or(0) {
            let other = match turned {
                None => at,
                Some((head, halves)) => paired(at, usize::try_from(head).unwrap_or(0), halves),
            };
            let slices = (
                row_at(&p, base + at, width),
                row_at(&q, base + other, width),
            );
            if !matches!(slices, (Some(p), Some(q)) if p == q) {
                let row = first.saturating_add(u64::try_from(at).unwrap_or(0));
                return Err(unequal("the weights differ").at(format_args!("row {row}")));
            }
        }
        first += count;
    }
    Ok(())
}

fn row_at(values: &[f32], row: usize, width: usize) -> Option<&[f32]> {
    let start = row.checked_mul(width)?;
    values.get(start..start.checked_add(width)?)
}

/// Where row `at` of a head stands in the other model: from halves to neighbours, or back.
fn paired(at: usize, head: usize, halves: bool) -> usize {
    let half = head / 2;
    match halves {
        true => at % half * 2 + at / half,
        false => at % 2 * half + at / 2,
    }
}

/// Families, and the numbers that no tensor holds.
fn facts(one: (&Path, &ModelProfile), other: (&Path, &ModelProfile)) -> Result<()> {
    let (a, b) = (Side::read(one.0)?, Side::read(other.0)?);
    if a.folder == b.folder {
        return match a.kind == b.kind && one.1.model.config == other.1.model.config {
            true => Ok(()),
            false => Err(unequal("the configurations differ")
                .sides(one.1.model.config, other.1.model.config)),
        };
    }
    let (folder, gguf) = if a.folder { (&a, &b) } else { (&b, &a) };
    let pair = (folder.kind.as_str(), gguf.kind.as_str());
    if !FAMILIES.contains(&pair) {
        return Err(
            unsupported("two families that are not known to compute the same")
                .sides(printable(pair.0), printable(pair.1)),
        );
    }
    if folder.epsilon != gguf.epsilon {
        let error = unequal("the epsilon of the norms differs");
        return Err(error.sides(f32::from_bits(a.epsilon), f32::from_bits(b.epsilon)));
    }
    Ok(())
}

struct Side {
    folder: bool,
    kind: String,
    /// Bits of the norms' epsilon in binary32.
    epsilon: u32,
}

impl Side {
    fn read(path: &Path) -> Result<Self> {
        match path.is_dir() {
            true => Self::of_folder(&folder::object(path, "config.json")?),
            false if crate::source::file::first_bytes(path)? == b"GGUF" => {
                Self::of_gguf(&split::metadata(&mut split::headers(path)?.0))
            }
            false => Err(
                unsupported("only a model folder or gguf file holds the weights")
                    .at(path.display()),
            ),
        }
    }

    fn of_folder(config: &Map) -> Result<Self> {
        let fields = Fields::new(config, "config.json");
        let act = fields.text("hidden_act")?.unwrap_or("silu");
        if act != "silu" {
            return Err(unsupported("another activation than silu").at(printable(act)));
        }
        Ok(Self {
            folder: true,
            kind: fields.text("model_type")?.unwrap_or_default().to_owned(),
            epsilon: narrow(fields.f64("rms_norm_eps")?.unwrap_or(1e-6)),
        })
    }

    fn of_gguf(metadata: &Map) -> Result<Self> {
        let fields = Fields::new(metadata, "gguf");
        let arch = fields.text("general.architecture")?.unwrap_or_default();
        let prefix = format!("{arch}.");
        let mut keys = metadata.keys().filter_map(|key| key.strip_prefix(&prefix));
        // scalings of the rope are in its frequencies
        if let Some(key) = keys.find(|key| !KEYS.contains(key) && !key.starts_with("rope.scal")) {
            let what = "a fact whose part in the model is not known";
            return Err(unsupported(what).at(printable(key)));
        }
        let fields = Fields {
            prefix: &prefix,
            ..fields
        };
        let epsilon = "attention.layer_norm_rms_epsilon";
        Ok(Self {
            folder: false,
            kind: arch.to_owned(),
            epsilon: narrow(
                fields
                    .f64(epsilon)?
                    .ok_or_else(|| fields.missing(epsilon))?,
            ),
        })
    }
}

/// A GGUF file has it in binary32.
fn narrow(value: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounded as the writer of a gguf file does"
    )]
    let value = value as f32;
    value.to_bits()
}

fn unequal(what: &'static str) -> Error {
    Error::new(Code::ModelUnequal, what)
}

fn unsupported(what: &'static str) -> Error {
    Error::new(Code::ModelUnsupported, what)
}
