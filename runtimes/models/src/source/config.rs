//! Geometry and rope of a `config.json` (model-id-v1 §7.2, §8).

use kvcap::{
    Code, Error, Result,
    binding::{Pairing, Scaling},
};

use crate::{
    families::{DEFAULTS, HALF, INTERLEAVED, LATENT, WITHOUT},
    geometry::{Geometry, LayerGeometry},
    json::value::{Fields, Map, Value, printable},
    rope,
    rope::{Around, LayerRope, check_dims, config_scaling, unsupported},
};

/// Most layers of a model.
pub(crate) const LAYERS: u64 = 4096;

/// The language model's part of a `config.json`.
#[derive(Clone, Copy)]
pub(crate) struct Config<'a> {
    fields: Fields<'a>,
    kind: &'a str,
}

/// What a layer does with the positions before it.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Full,
    Sliding,
    Chunked,
    Recurrent,
    Unknown,
}

impl<'a> Config<'a> {
    pub(crate) fn new(root: &'a Map) -> Result<Self> {
        let fields = Fields::new(root, "config.json");
        let outer = fields
            .text("model_type")?
            .ok_or_else(|| fields.missing("model_type"))?;
        let Some(text) = fields.map("text_config")? else {
            return Ok(Self {
                fields,
                kind: outer,
            });
        };
        let fields = Fields::new(text, "config.json: text_config");
        // Early Gemma 3 files leave the inner type out.
        let kind = match fields.text("model_type")? {
            Some(kind) => kind,
            None if outer == "gemma3" => "gemma3_text",
            None => outer,
        };
        Ok(Self { fields, kind })
    }

    fn default(self, name: &str) -> Option<f64> {
        let kind = if self.kind.starts_with("qwen3_5") {
            "qwen3_5"
        } else {
            self.kind
        };
        DEFAULTS
            .iter()
            .find(|(of, key, _)| *of == kind && *key == name)
            .map(|(_, _, value)| *value)
    }

    fn number(self, name: &str) -> Result<Option<f64>> {
        Ok(self.fields.f64(name)?.or_else(|| self.default(name)))
    }

    fn count(self, names: &[&str]) -> Result<Option<u64>> {
        if let Some(value) = self.fields.first_u64(names)? {
            return Ok(Some(value));
        }
        Ok(names.iter().find_map(|name| {
            let value = self.default(name)?;
            // The table's counts are small whole numbers.
            (0..=1 << 20).find(|whole| *whole as f64 == value)
        }))
    }

    fn needed(self, names: &[&str]) -> Result<u64> {
        self.count(names)?
            .filter(|value| (1..=1 << 32).contains(value))
            .ok_or_else(|| {
                self.fields
                    .error(names.first().unwrap_or(&""), "is missing or out of range")
            })
    }

    fn layers(self) -> Result<u64> {
        let layers = self.needed(&["num_hidden_layers", "n_layer", "n_layers", "num_layers"])?;
        if layers > LAYERS {
            return Err(Error::new(
                Code::ModelMalformed,
                "the number of layers is over its limit",
            )
            .sides(format!("at most {LAYERS}"), layers));
        }
        Ok(layers)
    }

    fn context(self) -> Result<u64> {
        Ok(self
            .count(&[
                "max_position_embeddings",
                "n_positions",
                "seq_length",
                "max_seq_len",
            ])?
            .unwrap_or(0))
    }

    fn heads(self) -> Result<u64> {
        self.needed(&["num_attention_heads", "n_head", "n_heads"])
    }

    /// Elements of a head of a layer that attends to everything, and of the others.
    fn head_dims(self) -> Result<(u64, u64)> {
        let local = match self.count(&["head_dim", "attention_head_dim"])? {
            Some(dim) => dim,
            None => self.needed(&["hidden_size", "n_embd", "d_model"])? / self.heads()?,
        };
        Ok((self.count(&["global_head_dim"])?.unwrap_or(local), local))
    }

    /// What each layer keeps, and the longest context.
    pub(crate) fn geometry(self) -> Result<Geometry> {
        let kinds = self.kinds()?;
        let (global, local) = if kinds
            .iter()
            .any(|k| !matches!(k, Kind::Recurrent | Kind::Unknown))
        {
            self.head_dims()?
        } else {
            (0, 0)
        };
        let shared = self.count(&["num_kv_shared_layers"])?.unwrap_or(0);
        let own = u64::try_from(kinds.len())
            .unwrap_or(0)
            .saturating_sub(shared);
        let mut layers = Vec::with_capacity(kinds.len());
        for (index, kind) in (0_u64..).zip(&kinds) {
            layers.push(match kind {
                Kind::Unknown => LayerGeometry::Unknown,
                Kind::Recurrent => LayerGeometry::Recurrent,
                _ if index >= own => LayerGeometry::Shared,
                _ if self.is_latent() => LayerGeometry::Latent {
                    rank: self.needed(&["kv_lora_rank"])?,
                    rope_dim: self.needed(&["qk_rope_head_dim"])?,
                },
                kind => {
                    let full = *kind == Kind::Full;
                    let dim = if full { global } else { local };
                    LayerGeometry::Attention {
                        kv_heads: self.kv_heads(full)?,
                        key_dim: dim,
                        value_dim: dim,
                        window: match kind {
                            Kind::Sliding => self.needed(&["sliding_window"])?,
                            Kind::Chunked => self.needed(&["attention_chunk_size"])?,
                            _ => 0,
                        },
                    }
                }
            });
        }
        Ok(Geometry {
            layers,
            context_length: self.context()?,
        })
    }

    fn is_latent(self) -> bool {
        LATENT.contains(&self.kind) && self.fields.find("kv_lora_rank").is_some()
    }

    fn kv_heads(self, full: bool) -> Result<u64> {
        let grouped = self
            .fields
            .bool("new_decoder_architecture")?
            .unwrap_or(false);
        if self.fields.bool("multi_query")?.unwrap_or(false) && !grouped {
            return Ok(1);
        }
        if full
            && self.fields.bool("attention_k_eq_v")?.unwrap_or(false)
            && let Some(heads) = self.count(&["num_global_key_value_heads"])?
        {
            return Ok(heads);
        }
        match self.count(&["num_key_value_heads", "num_kv_heads"])? {
            Some(heads) => Ok(heads),
            None => self.heads(),
        }
    }

    fn kinds(self) -> Result<Vec<Kind>> {
        let layers = self.layers()?;
        if let Some(types) = self.fields.array("layer_types")? {
            let kinds: Vec<_> = types.iter().map(kind_of).collect();
            return if u64::try_from(kinds.len()) == Ok(layers) {
                Ok(kinds)
            } else {
                Err(self
                    .fields
                    .error("layer_types", "does not name every layer")
                    .sides(layers, kinds.len()))
            };
        }
        // Every n-th layer is a full one, the others are `rest`.
        let every = |n: u64, rest: Kind| {
            (0..layers)
                .map(|i| if (i + 1) % n == 0 { Kind::Full } else { rest })
                .collect()
        };
        let all = |kind: Kind| (0..layers).map(|_| kind).collect();
        let windowed = self.fields.find("sliding_window").is_some();
        Ok(match self.kind {
            "cohere2" | "gemma2" | "gemma3_text" | "gemma3n_text" | "gpt_oss" => every(
                self.needed(&["sliding_window_pattern", "_sliding_window_pattern"])?,
                Kind::Sliding,
            ),
            kind if kind == "qwen3_next" || kind.starts_with("qwen3_5") => {
                every(self.needed(&["full_attention_interval"])?, Kind::Recurrent)
            }
            "qwen2" | "qwen2_moe" | "qwen3" | "qwen3_moe"
                if windowed && self.fields.bool("use_sliding_window")?.unwrap_or(false) =>
            {
                let from = self.count(&["max_window_layers"])?.unwrap_or(28);
                (0..layers)
                    .map(|i| if i >= from { Kind::Sliding } else { Kind::Full })
                    .collect()
            }
            "mistral" | "mixtral" | "phi3" | "starcoder2" if windowed => all(Kind::Sliding),
            "jamba" => {
                let period = self.count(&["attn_layer_period"])?.unwrap_or(8).max(1);
                let offset = self.count(&["attn_layer_offset"])?.unwrap_or(4);
                (0..layers)
                    .map(|i| {
                        if i % period == offset {
                            Kind::Full
                        } else {
                            Kind::Recurrent
                        }
                    })
                    .collect()
            }
            "lfm2" | "lfm2_moe" => {
                let full = self.fields.array("full_attn_idxs")?.unwrap_or_default();
                (0..layers)
                    .map(
                        |i| match full.iter().any(|index| index.as_u64() == Some(i)) {
                            true => Kind::Full,
                            false => Kind::Recurrent,
                        },
                    )
                    .collect()
            }
            "falcon_mamba" | "mamba" | "mamba2" | "rwkv" => all(Kind::Recurrent),
            "falcon_h1" | "granitemoehybrid" | "minimax" | "nemotron_h" => all(Kind::Unknown),
            _ => all(Kind::Full),
        })
    }

    /// The rope of each layer.
    pub(crate) fn ropes(self) -> Result<Vec<Option<LayerRope>>> {
        let kinds = self.kinds()?;
        let none = vec![None; kinds.len()];
        if WITHOUT.contains(&self.kind) || self.fields.bool("alibi")?.unwrap_or(false) {
            return Ok(none);
        }
        let pairing = match self.kind {
            kind if HALF.contains(&kind) => Pairing::Half,
            kind if INTERLEAVED.contains(&kind) => Pairing::Interleaved,
            kind => {
                return Err(unsupported(format!(
                    "which elements the model type {} rotates together is not known",
                    printable(kind)
                ))
                .at("config.json"));
            }
        };
        if self.kind == "granitemoehybrid"
            && self.fields.text("position_embedding_type")? != Some("rope")
        {
            return Ok(none);
        }
        let silent = self.fields.array("no_rope_layers")?;
        let step = self.count(&["no_rope_layer_interval"])?.unwrap_or(0);
        let sliding_only = match self.kind {
            "cohere2" => true,
            "exaone4" => kinds.contains(&Kind::Sliding),
            _ => false,
        };
        let mut ropes = Vec::with_capacity(kinds.len());
        for (index, kind) in kinds.iter().enumerate() {
            let number = u64::try_from(index).unwrap_or(u64::MAX);
            let rotated = match (silent, *kind) {
                (_, Kind::Recurrent) => false,
                (Some(list), _) if !list.is_empty() => {
                    list.get(index).and_then(Value::as_u64) != Some(0)
                }
                (_, kind) if sliding_only => kind == Kind::Sliding,
                _ => step == 0 || (number + 1) % step != 0,
            };
            ropes.push(match rotated {
                true => Some(self.rope(pairing, *kind)?),
                false => None,
            });
        }
        Ok(ropes)
    }

    fn rope(self, pairing: Pairing, kind: Kind) -> Result<LayerRope> {
        let (global, local) = self.head_dims()?;
        let head_dim = if kind == Kind::Full { global } else { local };
        let parameters = self.fields.map("rope_parameters")?;
        let place = "config.json: rope_parameters";
        let by_kind = match kind {
            Kind::Sliding => "sliding_attention",
            Kind::Chunked => "chunked_attention",
            _ => "full_attention",
        };
        let stated = match parameters {
            Some(members) if members.values().any(|value| value.as_map().is_some()) => {
                let fields = Fields::new(members, place);
                Some(
                    fields
                        .map(by_kind)?
                        .ok_or_else(|| fields.missing(by_kind))?,
                )
            }
            other => other,
        };
        let older = match self.fields.map("rope_scaling")? {
            // transformers 4's Gemma 3: the local layers have a base of their own, unscaled.
            _ if kind == Kind::Sliding && self.number("rope_local_base_freq")?.is_some() => None,
            older => older,
        };
        let empty = Map::new();
        let new = stated
            .map(|members| self.rotation(Fields::new(members, place), pairing, kind, head_dim))
            .transpose()?;
        if new.is_some() && older.is_none() {
            return new.ok_or_else(|| self.fields.missing("rope_parameters"));
        }
        let old = self.rotation(
            Fields::new(older.unwrap_or(&empty), "config.json: rope_scaling"),
            pairing,
            kind,
            head_dim,
        )?;
        match new {
            Some(new) if new != old => Err(unsupported(
                "rope_parameters and rope_scaling state two ropes; runtimes differ in which they use",
            )
            .at("config.json")),
            _ => Ok(old),
        }
    }

    fn rotation(
        self,
        params: Fields<'_>,
        pairing: Pairing,
        kind: Kind,
        head_dim: u64,
    ) -> Result<LayerRope> {
        let local = match kind {
            Kind::Sliding => self.number("rope_local_base_freq")?,
            _ => None,
        };
        let theta = match (params.f64("rope_theta")?, local) {
            (Some(theta), _) | (None, Some(theta)) => theta,
            (None, None) => match self.number("rope_theta")? {
                Some(theta) => theta,
                None => self.number("rotary_emb_base")?.unwrap_or(10_000.0),
            },
        };
        if !theta.is_finite() || theta <= 0.0 {
            return Err(params.error("rope_theta", "is not a positive number"));
        }
        let multi = self.kind.starts_with("qwen3_5") || self.kind.starts_with("qwen3_vl");
        let around = Around {
            context: self.context()?,
            original: self.count(&["original_max_position_embeddings"])?,
            sections: self.kind.starts_with("qwen3_5").then(|| vec![11, 11, 10]),
            interleaved: multi,
        };
        let scaling = config_scaling(params, &around)?;
        let dims = self.rotary_dims(params, head_dim)?;
        check_factors(&scaling, dims)?;
        Ok(LayerRope {
            pairing,
            rotary_dims: dims,
            theta,
            scaling,
        })
    }

    fn rotary_dims(self, params: Fields<'_>, head_dim: u64) -> Result<u32> {
        let whole = |dims: u64| {
            let dims = u32::try_from(dims)
                .map_err(|_| unsupported("the rotated part of a head is out of range"))?;
            check_dims(dims, head_dim.max(dims.into()))
        };
        if self.is_latent() {
            return whole(self.needed(&["qk_rope_head_dim"])?);
        }
        if let Some(dims) = self.fields.u64("rotary_dim")? {
            return whole(dims);
        }
        let fraction = match params.f64("partial_rotary_factor")? {
            Some(fraction) => fraction,
            None => match self.fields.f64("rotary_pct")? {
                Some(fraction) => fraction,
                None => self.number("partial_rotary_factor")?.unwrap_or(1.0),
            },
        };
        rope::rotary_dims(head_dim, fraction)
    }
}

fn kind_of(value: &Value) -> Kind {
    match value.as_text() {
        Some("full_attention" | "attention") => Kind::Full,
        Some("sliding_attention") => Kind::Sliding,
        Some("chunked_attention") => Kind::Chunked,
        Some("linear_attention" | "mamba" | "conv" | "recurrent") => Kind::Recurrent,
        _ => Kind::Unknown,
    }
}

/// A list of factors must have one for each pair.
pub(crate) fn check_factors(scaling: &Scaling, dims: u32) -> Result<()> {
    let lists: &[&Vec<_>] = match scaling {
        Scaling::LongRope { short, long, .. } => &[short, long],
        Scaling::Factors { factors } => &[factors],
        _ => &[],
    };
    let pairs = usize::try_from(dims / 2).unwrap_or(0);
    match lists.iter().find(|list| list.len() != pairs) {
        None => Ok(()),
        Some(list) => Err(Error::new(
            Code::ModelMalformed,
            "the rope has another number of factors than of pairs",
        )
        .sides(pairs, list.len())),
    }
}
