//! Geometry and rope of GGUF metadata, as llama.cpp reads them (model-id-v1 §7.3, §8).

use kvcap::{
    Code, Error, Result,
    binding::{F64Bits, Pairing, Rope, Scaling},
};

use crate::{
    families::{
        GGUF_HALF, GGUF_HYBRID, GGUF_INTERLEAVED, GGUF_MULTI, GGUF_RECURRENT, GGUF_SLIDING,
        GGUF_WITHOUT, Sliding, defaults::counts,
    },
    geometry::{Geometry, LayerGeometry},
    json::{
        list::{Item, Packed},
        value::{Fields, Value, printable},
    },
    rope::{LayerRope, LayersBy, check_dims, check_sections, f64_bits, unsupported},
    source::{
        config::{LAYERS, check_factors},
        gguf::Header,
    },
};

/// The metadata of a model's architecture.
pub(crate) struct Arch<'a> {
    arch: &'a str,
    keys: Fields<'a>,
    layers: u64,
    sliding: Vec<bool>,
    family: Option<&'static Sliding>,
}

impl<'a> Arch<'a> {
    /// `keys` must have the architecture's prefix.
    pub(crate) fn new(arch: &'a str, keys: Fields<'a>) -> Result<Self> {
        let blocks = keys
            .u64("block_count")?
            .ok_or_else(|| keys.missing("block_count"))?;
        // The layers of multi-token prediction come last and keep no state of the sequence.
        let predicting = keys.u64("nextn_predict_layers")?.unwrap_or(0);
        let layers = blocks.saturating_sub(predicting);
        if !(1..=LAYERS).contains(&layers) {
            return Err(keys
                .error("block_count", "is out of range")
                .sides(format!("1 to {LAYERS}"), layers));
        }
        let mut this = Self {
            arch,
            keys,
            layers,
            sliding: Vec::new(),
            family: GGUF_SLIDING.iter().find(|family| family.arch == arch),
        };
        this.sliding = this.sliding()?;
        Ok(this)
    }

    fn window(&self) -> Result<u64> {
        let default = self.family.map_or(0, |family| family.window);
        Ok(self
            .keys
            .u64("attention.sliding_window")?
            .unwrap_or(default))
    }

    fn sliding(&self) -> Result<Vec<bool>> {
        let none = || (0..self.layers).map(|_| false).collect();
        let Some(family) = self.family else {
            return Ok(none());
        };
        // llama.cpp knows only the largest EXAONE 4 to slide.
        if self.window()? == 0 || (self.arch == "exaone4" && self.layers != 64) {
            return Ok(none());
        }
        let name = "attention.sliding_window_pattern";
        if let Some(Value::List(_)) = self.keys.find(name) {
            return self.flags(name);
        }
        match self.keys.u64(name)?.unwrap_or(family.period) {
            0 => Err(self.keys.missing(name)),
            period => Ok((0..self.layers).map(|i| (i + 1) % period != 0).collect()),
        }
    }

    /// A list of truth values, one a layer.
    fn flags(&self, name: &str) -> Result<Vec<bool>> {
        let items = self.keys.list(name)?.into_iter().flat_map(Packed::items);
        let flags: Option<Vec<bool>> = items
            .map(|item| match item {
                Item::Bool(flag) => Some(flag),
                other => other.as_u64().map(|n| n != 0),
            })
            .take(usize::try_from(self.layers).unwrap_or(0))
            .collect();
        flags
            .filter(|flags| u64::try_from(flags.len()) == Ok(self.layers))
            .ok_or_else(|| self.keys.error(name, "is not a list of one flag a layer"))
    }

    /// A number that is one for all layers, or a list with one for each.
    fn of_layer(&self, name: &str, layer: usize) -> Result<Option<u64>> {
        match self.keys.find(name) {
            Some(Value::List(items)) => items
                .get(layer)
                .and_then(Item::as_u64)
                .map(Some)
                .ok_or_else(|| self.keys.error(name, "is not a list of one number a layer")),
            _ => self.keys.u64(name),
        }
    }

    fn head_dim(&self, name: &str, layer: usize) -> Result<u64> {
        if self.slides(layer)
            && let Some(dim) = self.keys.u64(&format!("{name}_swa"))?
        {
            return Ok(dim);
        }
        if let Some(dim) = self.keys.u64(name)? {
            return Ok(dim);
        }
        let heads = self.of_layer("attention.head_count", layer)?.unwrap_or(0);
        let width = self.keys.u64("embedding_length")?.unwrap_or(0);
        width
            .checked_div(heads)
            .ok_or_else(|| self.keys.missing("attention.head_count"))
    }

    fn slides(&self, layer: usize) -> bool {
        self.sliding.get(layer).copied().unwrap_or(false)
    }

    /// Layers that keep a recurrent state instead of keys and values.
    fn recurrent(&self) -> Result<Vec<bool>> {
        if GGUF_RECURRENT.contains(&self.arch) {
            return Ok((0..self.layers).map(|_| true).collect());
        }
        if self.keys.find("attention.recurrent_layers").is_some() {
            return self.flags("attention.recurrent_layers");
        }
        let default = match self.arch {
            "qwen35" | "qwen35moe" | "qwen3next" => 4,
            _ => 0,
        };
        let interval = self.keys.u64("full_attention_interval")?.unwrap_or(default);
        let mut recurrent: Vec<_> = (0..self.layers)
            .map(|i| interval != 0 && (i + 1) % interval != 0)
            .collect();
        if GGUF_HYBRID.contains(&self.arch) {
            for (layer, recurrent) in recurrent.iter_mut().enumerate() {
                *recurrent |= self.heads(layer)? == Some(0);
            }
        }
        Ok(recurrent)
    }

    /// Key heads of a layer, where the file says how many; 0 for a layer that does not attend.
    fn heads(&self, layer: usize) -> Result<Option<u64>> {
        match self.of_layer("attention.head_count_kv", layer)? {
            Some(heads) => Ok(Some(heads)),
            None => self.of_layer("attention.head_count", layer),
        }
    }

    /// What each layer keeps, and the longest context.
    pub(crate) fn geometry(&self) -> Result<Geometry> {
        let keeping = match self.arch {
            "gemma3n" => 20,
            _ => self
                .layers
                .saturating_sub(self.keys.u64("attention.shared_kv_layers")?.unwrap_or(0)),
        };
        let mut layers = Vec::new();
        for (layer, recurrent) in self.recurrent()?.into_iter().enumerate() {
            layers.push(if recurrent {
                LayerGeometry::Recurrent
            } else if u64::try_from(layer).is_ok_and(|layer| layer >= keeping) {
                LayerGeometry::Shared
            } else {
                self.layer(layer)?
            });
        }
        Ok(Geometry {
            layers,
            context_length: self.keys.u64("context_length")?.unwrap_or(0),
            architecture: Some(self.arch.to_owned()),
        })
    }

    fn layer(&self, layer: usize) -> Result<LayerGeometry> {
        let heads = self
            .heads(layer)?
            .ok_or_else(|| self.keys.missing("attention.head_count"))?;
        if heads == 0 || self.arch == "falcon-h1" {
            return Ok(LayerGeometry::Unknown);
        }
        if let Some(rank) = self.keys.u64("attention.kv_lora_rank")?
            && self.keys.find("attention.key_length_mla").is_some()
        {
            return Ok(LayerGeometry::Latent {
                rank,
                rope_dim: self.rotary_dims(layer)?.into(),
            });
        }
        Ok(LayerGeometry::Attention {
            kv_heads: heads,
            key_dim: self.head_dim("attention.key_length", layer)?,
            value_dim: self.head_dim("attention.value_length", layer)?,
            window: match self.slides(layer) {
                true => self.window()?,
                false => 0,
            },
        })
    }

    fn rotary_dims(&self, layer: usize) -> Result<u32> {
        let head_dim = self.head_dim("attention.key_length", layer)?;
        let swa = match self.slides(layer) {
            true => self.keys.u64("rope.dimension_count_swa")?,
            false => None,
        };
        let dims = match swa {
            Some(dims) => dims,
            None => self.keys.u64("rope.dimension_count")?.unwrap_or(head_dim),
        };
        let dims = u32::try_from(dims)
            .map_err(|_| self.keys.error("rope.dimension_count", "is out of range"))?;
        check_dims(dims, head_dim)
    }

    /// The ropes of the layers; `headers` are searched for tensors of factors.
    pub(crate) fn ropes(&self, headers: &[Header]) -> Result<Vec<Rope>> {
        if GGUF_WITHOUT.contains(&self.arch) {
            return Ok(Vec::new());
        }
        let sections = self.sections()?;
        let pairing = if sections.is_some() || GGUF_HALF.contains(&self.arch) {
            Pairing::Half
        } else if GGUF_INTERLEAVED.contains(&self.arch) {
            Pairing::Interleaved
        } else {
            return Err(unsupported(format!(
                "which elements the architecture {} rotates together is not known",
                printable(self.arch)
            ))
            .at(self.keys.place));
        };
        // Granite says by this key whether it rotates at all.
        if self.arch.starts_with("granite")
            && self.keys.bool("rope.scaling.finetuned")? == Some(false)
        {
            return Ok(Vec::new());
        }
        let scaling = match sections.clone() {
            Some(sections) => self.multi(sections, headers)?,
            None => self.scaling(headers)?,
        };
        let recurrent = self.recurrent()?;
        let mut rotating = LayersBy::new();
        for ((index, recurrent), layer) in recurrent.into_iter().enumerate().zip(0..) {
            // a layer without key heads keeps no key that could rotate, whatever else it keeps
            if !recurrent && self.heads(index)? != Some(0) && self.rotates(index) {
                rotating.push((self.slides(index), self.rotary_dims(index)?), layer);
            }
        }
        rotating.ropes(|(slides, dims)| {
            if let Some((sections, interleaved)) = &sections {
                let of_class = interleaved.and_then(|family| counts(family, "mrope_section"));
                if of_class.as_ref() != Some(sections) {
                    check_sections(sections, dims).map_err(|error| error.at(self.keys.place))?;
                }
            }
            self.rope(slides, dims, pairing, &scaling)
        })
    }

    /// Whether a layer that attends rotates its keys.
    fn rotates(&self, layer: usize) -> bool {
        let fourth = (layer + 1).is_multiple_of(4);
        match self.arch {
            // the larger ones have a bias in the place of a rope
            "baichuan" => self.layers == 32,
            "smollm3" => !fourth,
            "llama4" => !fourth || !self.sliding.contains(&true),
            "cohere2" => self.slides(layer),
            "exaone4" => self.slides(layer) || !self.sliding.contains(&true),
            _ => true,
        }
    }

    fn rope(
        &self,
        slides: bool,
        rotary_dims: u32,
        pairing: Pairing,
        scaling: &Scaling,
    ) -> Result<LayerRope> {
        let base = self.keys.f64("rope.freq_base")?.unwrap_or(10_000.0);
        let (mut theta, mut scaling) = (base, scaling.clone());
        if slides && let Some(family) = self.family {
            let default = if family.same_base { base } else { 10_000.0 };
            theta = self.keys.f64("rope.freq_base_swa")?.unwrap_or(default);
            if !family.same_scaling {
                scaling = Scaling::None;
            }
        }
        if !theta.is_finite() || theta <= 0.0 {
            return Err(self
                .keys
                .error("rope.freq_base", "is not a positive number"));
        }
        check_factors(&scaling, rotary_dims)?;
        Ok(LayerRope {
            pairing,
            rotary_dims,
            theta,
            scaling,
        })
    }

    /// Sections, and the family of interleaved ones, where positions have several axes.
    fn sections(&self) -> Result<Option<(Vec<u32>, Option<&'static str>)>> {
        let name = "rope.dimension_sections";
        let family = GGUF_MULTI.iter().find(|(arch, _)| *arch == self.arch);
        let items = self.keys.list(name)?;
        let Some((_, interleaved)) = family else {
            return match items {
                Some(items) if items.items().any(|item| item.as_u64() != Some(0)) => {
                    Err(unsupported(format!(
                        "multi-axis positions of the architecture {} are not known",
                        printable(self.arch)
                    ))
                    .at(self.keys.place))
                }
                _ => Ok(None),
            };
        };
        let sections: Option<Vec<u32>> = items
            .ok_or_else(|| self.keys.missing(name))?
            .items()
            .take(5)
            .map(|item| u32::try_from(item.as_u64()?).ok())
            .collect();
        let mut sections = sections
            .filter(|sections| sections.len() <= 4)
            .ok_or_else(|| self.keys.error(name, "is not a list of up to four counts"))?;
        while sections.last() == Some(&0) {
            sections.pop();
        }
        Ok(Some((sections, *interleaved)))
    }

    fn multi(
        &self,
        (sections, interleaved): (Vec<u32>, Option<&str>),
        headers: &[Header],
    ) -> Result<Scaling> {
        Ok(match self.scaling(headers)? {
            Scaling::None => Scaling::Multi {
                sections,
                interleaved: interleaved.is_some(),
            },
            // the sections stand in the metadata, whose digest is bound
            scaled => scaled,
        })
    }

    fn scaling(&self, headers: &[Header]) -> Result<Scaling> {
        if self
            .keys
            .f64("rope.scaling.alpha")?
            .is_some_and(|alpha| alpha != 0.0)
        {
            return Err(
                unsupported("the rope scaling alpha (ntk) is not known").at(self.keys.place)
            );
        }
        let context = self.keys.u64("context_length")?.unwrap_or(0);
        let original = self
            .keys
            .u64("rope.scaling.original_context_length")?
            .unwrap_or(context);
        let factor = match self.keys.f64("rope.scaling.factor")? {
            Some(factor) => factor,
            None => self.keys.f64("rope.scale_linear")?.unwrap_or(0.0),
        };
        if !factor.is_finite() || factor < 0.0 {
            return Err(self
                .keys
                .error("rope.scaling.factor", "is not a positive number"));
        }
        let or = |name: &str, default: f64| {
            Ok::<_, Error>(f64_bits(self.keys.f64(name)?.unwrap_or(default)))
        };
        let attention_factor = or("rope.scaling.attn_factor", 0.0)?;
        let frequencies = tensor(headers, "rope_freqs.weight")?;
        let long = tensor(headers, "rope_factors_long.weight")?;
        let short = tensor(headers, "rope_factors_short.weight")?;
        let kind = self.keys.text("rope.scaling.type")?.unwrap_or("linear");
        let scaled = factor != 0.0 && factor != 1.0;
        Ok(match (kind, frequencies, long, short) {
            ("none" | "linear", Some(factors), None, None) if !scaled || kind == "none" => {
                Scaling::Factors { factors }
            }
            (_, None, Some(long), Some(short)) if kind == "longrope" || !scaled => {
                Scaling::LongRope {
                    short,
                    long,
                    original,
                    attention_factor,
                    long_used: context > original,
                }
            }
            ("none", None, None, None) => Scaling::None,
            ("linear", None, None, None) if !scaled => Scaling::None,
            ("linear", None, None, None) => Scaling::Linear {
                factor: f64_bits(factor),
            },
            ("yarn", None, None, None) => Scaling::Yarn {
                factor: f64_bits(if scaled { factor } else { 1.0 }),
                original,
                beta_fast: or("rope.scaling.yarn_beta_fast", 32.0)?,
                beta_slow: or("rope.scaling.yarn_beta_slow", 1.0)?,
                mscale: f64_bits(0.0),
                mscale_all_dim: or("rope.scaling.yarn_log_multiplier", 0.0)?,
                attention_factor,
                truncate: true,
            },
            ("none" | "linear" | "yarn" | "longrope", ..) => {
                return Err(unsupported(format!(
                    "the rope scaling {kind} does not go with the file's tensors of rope factors"
                ))
                .at(self.keys.place));
            }
            (kind, ..) => {
                return Err(unsupported(format!(
                    "the rope scaling {} is not known",
                    printable(kind)
                ))
                .at(self.keys.place));
            }
        })
    }
}

/// A list of factors, from whichever split holds it.
fn tensor(headers: &[Header], name: &str) -> Result<Option<Vec<F64Bits>>> {
    for header in headers {
        if let Some(values) = header.factors(name)? {
            if values.iter().any(|v| !v.is_finite() || *v <= 0.0) {
                return Err(Error::new(
                    Code::ModelMalformed,
                    format!("{name} holds a factor that is not a positive number"),
                ));
            }
            return Ok(Some(values.into_iter().map(f64_bits).collect()));
        }
    }
    Ok(None)
}
