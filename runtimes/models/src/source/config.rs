//! Geometry and rope of a `config.json` (model-id-v1 §7.2, §8).

mod layers;
mod ropes;

use kvcap::{Code, Error, Result, binding::Scaling};

use self::layers::Kind;
use crate::{
    families::{LATENT, defaults},
    geometry::{Geometry, LayerGeometry},
    json::value::{Fields, Map, Value},
    rope::unsupported,
};

/// Most layers of a model.
pub(crate) const LAYERS: u64 = 4096;

/// The language model's part of a `config.json`.
#[derive(Clone, Copy)]
pub(crate) struct Config<'a> {
    fields: Fields<'a>,
    kind: &'a str,
}

/// The one value of all statements of a fact.
struct Only<'a, T> {
    value: Option<T>,
    what: &'static str,
    place: &'a str,
}

impl<T: PartialEq + Copy> Only<'_, T> {
    /// Adds what one place states.
    ///
    /// # Errors
    ///
    /// 931 where another place stated something else.
    fn add(&mut self, stated: Option<T>) -> Result<()> {
        match (self.value, stated) {
            (Some(one), Some(other)) if one != other => Err(two(self.what, self.place)),
            (None, Some(_)) => {
                self.value = stated;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The error for two statements of one fact that differ.
fn two(what: &str, place: &str) -> Error {
    unsupported(format!(
        "{what} is stated twice, and not the same; runtimes differ in which they use"
    ))
    .at(place)
}

impl<'a> Config<'a> {
    pub(crate) fn new(root: &'a Map) -> Result<Self> {
        let fields = Fields::new(root, "config.json");
        let outer = fields
            .text("model_type")?
            .ok_or_else(|| fields.missing("model_type"))?;
        let (fields, kind) = match fields.map("text_config")? {
            None => (fields, outer),
            Some(text) => {
                let fields = Fields::new(text, "config.json: text_config");
                // early files leave the inner type out
                (fields, fields.text("model_type")?.unwrap_or(outer))
            }
        };
        let this = Self {
            fields,
            kind: defaults::inner(kind),
        };
        // mlx-lm stores a latent's keys interleaved whatever the file says
        if this.is_latent() && fields.bool("rope_interleave")? == Some(false) {
            let what =
                "keys of a latent that are not interleaved; runtimes differ in how they store them";
            return Err(unsupported(what).at(fields.place));
        }
        match this.fields.find("use_bidirectional_attention") {
            Some(Value::Bool(true)) => Err(unsupported("the model is not causal").at(fields.place)),
            Some(value) if value.as_text() == Some("all") => {
                Err(unsupported("the model is not causal").at(fields.place))
            }
            _ => Ok(this),
        }
    }

    fn only<T>(self, what: &'static str) -> Only<'a, T> {
        Only {
            value: None,
            what,
            place: self.fields.place,
        }
    }

    fn two(self, what: &str) -> Error {
        two(what, self.fields.place)
    }

    /// A count by any of its names, which must agree; else the class's.
    fn count(self, names: &[&'static str]) -> Result<Option<u64>> {
        let name = names.first().copied().unwrap_or_default();
        let mut found = self.only(name);
        for name in names {
            found.add(self.fields.u64(name)?)?;
        }
        // a class whose member is null where the file says so has no value
        let null = self.fields.members.get(name) == Some(&Value::Null);
        let own = || defaults::count(self.kind, name).filter(|_| !null);
        Ok(found.value.or_else(own))
    }

    fn flag(self, name: &str) -> Result<Option<bool>> {
        let own = || defaults::count(self.kind, name).map(|value| value != 0);
        Ok(self.fields.bool(name)?.or_else(own))
    }

    fn needed(self, names: &[&'static str]) -> Result<u64> {
        self.count(names)?
            .filter(|value| (1..=1 << 32).contains(value))
            .ok_or_else(|| {
                self.fields
                    .error(names.first().unwrap_or(&""), "is missing or out of range")
            })
    }

    fn layers(self) -> Result<u64> {
        let layers = match self.kind {
            // each layer has two attentions, which transformers counts as two layers
            "longcat_flash" => {
                let mut found = self.only("the number of layers");
                found.add(self.fields.u64("num_layers")?)?;
                found.add(self.fields.u64("num_hidden_layers")?.map(|twice| twice / 2))?;
                match found.value {
                    Some(layers) => layers,
                    None => self.needed(&["num_layers"])?,
                }
            }
            _ => self.needed(&["num_hidden_layers", "n_layer", "n_layers", "num_layers"])?,
        };
        if !(1..=LAYERS).contains(&layers) {
            return Err(Error::new(
                Code::ModelMalformed,
                "the number of layers is over its limit",
            )
            .sides(format!("1 to {LAYERS}"), layers));
        }
        Ok(layers)
    }

    fn context(self) -> Result<u64> {
        let names = [
            "max_position_embeddings",
            "n_positions",
            "seq_length",
            "max_seq_len",
            "model_max_length",
        ];
        let own = || defaults::count(self.kind, "max_position_embeddings");
        Ok(self.fields.first_u64(&names)?.or_else(own).unwrap_or(0))
    }

    fn heads(self) -> Result<u64> {
        match self.kind {
            "gpt_neo" => self.needed(&["num_attention_heads", "num_heads"]),
            _ => self.needed(&["num_attention_heads", "n_head", "n_heads"]),
        }
    }

    /// Elements of a head of a layer that attends to everything, and of the others.
    fn head_dims(self) -> Result<(u64, u64)> {
        let local = match self.count(&["head_dim", "attention_head_dim"])? {
            Some(dim) => dim,
            None => {
                let width = self.needed(&["hidden_size", "n_embd", "d_model", "n_embed"])?;
                width / self.heads()?
            }
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
                // of the latent's keys and values, expanded as mlx-lm and llama.cpp keep them
                _ if self.kind == "minicpm3" => LayerGeometry::Attention {
                    kv_heads: self.heads()?,
                    key_dim: self
                        .needed(&["qk_nope_head_dim"])?
                        .saturating_add(self.needed(&["qk_rope_head_dim"])?),
                    value_dim: self.needed(&["v_head_dim"])?,
                    window: 0,
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
            architecture: None,
        })
    }

    fn is_latent(self) -> bool {
        LATENT.contains(&self.kind)
    }

    fn kv_heads(self, full: bool) -> Result<u64> {
        let grouped = self.flag("new_decoder_architecture")?.unwrap_or(false);
        if self.flag("multi_query")?.unwrap_or(false) && !grouped {
            return Ok(1);
        }
        if full
            && self.flag("attention_k_eq_v")?.unwrap_or(false)
            && let Some(heads) = self.count(&["num_global_key_value_heads"])?
        {
            return Ok(heads);
        }
        let mut found = self.only("the number of key heads");
        for name in ["num_key_value_heads", "num_kv_heads"] {
            found.add(self.fields.u64(name)?)?;
        }
        if let Some(attention) = self.fields.map("attn_config")? {
            found.add(Fields::new(attention, "config.json: attn_config").u64("kv_n_heads")?)?;
        }
        let null = self.fields.members.get("num_key_value_heads") == Some(&Value::Null);
        let own = || defaults::count(self.kind, "num_key_value_heads").filter(|_| !null);
        match found.value.or_else(own) {
            Some(heads) => Ok(heads),
            None => self.heads(),
        }
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
