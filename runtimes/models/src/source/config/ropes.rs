//! The rotary embeddings of a `config.json`'s layers (model-id-v1 §7.2).

use kvcap::{
    Result,
    binding::{Pairing, Rope},
};

use super::{Config, check_factors, layers::Kind};
use crate::{
    families::{HALF, INTERLEAVED, INTERLEAVED_SECTIONS, WITHOUT, defaults},
    json::{
        self,
        value::{Fields, Map, Value, printable},
    },
    rope,
    rope::{Around, LayerRope, LayersBy, check_dims, config_scaling, unsupported},
};

impl<'a> Config<'a> {
    /// The ropes of the layers.
    pub(crate) fn ropes(self) -> Result<Vec<Rope>> {
        let kinds = self.kinds()?;
        if WITHOUT.contains(&self.kind) || self.flag("alibi")?.unwrap_or(false) {
            return Ok(Vec::new());
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
            return Ok(Vec::new());
        }
        let sliding_only = match self.kind {
            "cohere2" => true,
            "exaone4" => kinds.contains(&Kind::Sliding),
            _ => false,
        };
        let mut rotating = LayersBy::new();
        let listed = self.rotated_by_list()?;
        for ((listed, kind), layer) in listed.into_iter().zip(&kinds).zip(0_u32..) {
            let rotated = match *kind {
                Kind::Recurrent => false,
                kind if sliding_only => kind == Kind::Sliding,
                _ => listed,
            };
            if rotated {
                rotating.push(*kind, layer);
            }
        }
        rotating.ropes(|kind| self.rope(pairing, kind))
    }

    /// Whether the family's class has a rope for its sliding layers and one for the others.
    fn has_two(self) -> bool {
        defaults::text(self.kind, "rope_local_base_freq").is_some()
    }

    fn rope(self, pairing: Pairing, kind: Kind) -> Result<LayerRope> {
        let (global, local) = self.head_dims()?;
        let head_dim = if kind == Kind::Full { global } else { local };
        let of_class = self.parameters_of_class(kind)?;
        let stated = self.stated(kind)?;
        let theta = self.theta(&stated, kind)?;
        let dims = self.rotary_dims(&stated, of_class.as_ref(), head_dim)?;
        let around = Around {
            kind: self.kind,
            context: self.context()?,
            original: self.original()?,
            sections: defaults::counts(self.kind, "mrope_section"),
            interleaved: INTERLEAVED_SECTIONS.contains(&self.kind),
            dims,
        };
        let mut found: Option<(f64, _)> = None;
        for params in &stated {
            let next = config_scaling(*params, &around, theta)?;
            if found.as_ref().is_some_and(|found| *found != next) {
                return Err(unsupported(
                    "rope_parameters and rope_scaling state two ropes; runtimes differ in which they use",
                )
                .at(self.fields.place));
            }
            found = Some(next);
        }
        let (theta, scaling) = match (found, &of_class) {
            (Some(found), _) => found,
            (None, Some(members)) => {
                let fixed = Fields::new(members, "the class").f64("rope_theta")?;
                if fixed.is_some_and(|fixed| fixed != theta) {
                    return Err(unsupported(
                        "the file states the base of the rope and not its parameters; runtimes differ in which they use",
                    )
                    .at(self.fields.place));
                }
                config_scaling(Fields::new(members, "the class"), &around, theta)?
            }
            (None, None) => {
                let empty = Map::new();
                config_scaling(Fields::new(&empty, "config.json"), &around, theta)?
            }
        };
        check_factors(&scaling, dims)?;
        Ok(LayerRope {
            pairing,
            rotary_dims: dims,
            theta,
            scaling,
        })
    }

    /// Where the file states parameters of the rope of a kind of layer: one place, or two that must agree.
    fn stated(self, kind: Kind) -> Result<Vec<Fields<'a>>> {
        let place = "config.json: rope_parameters";
        let by_kind = match kind {
            Kind::Sliding => "sliding_attention",
            Kind::Chunked => "chunked_attention",
            _ => "full_attention",
        };
        let mut stated = Vec::new();
        if let Some(members) = self.fields.map("rope_parameters")? {
            let nested = members.values().any(|value| value.as_map().is_some());
            if nested != self.has_two() && !members.is_empty() {
                return Err(unsupported(match nested {
                    true => {
                        "the rope parameters are by kind of layer, which this family does not know"
                    }
                    false => "the rope parameters do not say which kind of layer they are of",
                })
                .at(place));
            }
            let fields = Fields::new(members, place);
            stated.push(match nested {
                true => Fields::new(
                    fields
                        .map(by_kind)?
                        .ok_or_else(|| fields.missing(by_kind))?,
                    place,
                ),
                false => fields,
            });
        }
        // the sliding layers of a family with two ropes are never scaled by it
        if let Some(members) = self.fields.map("rope_scaling")?
            && !(kind == Kind::Sliding && self.has_two())
        {
            // younger than this spelling: its class takes it for all layers
            if self.kind == "gemma4_text" {
                let what = "rope_scaling does not say which kind of layer it is of";
                return Err(unsupported(what).at("config.json: rope_scaling"));
            }
            stated.push(Fields::new(members, "config.json: rope_scaling"));
        }
        Ok(stated)
    }

    /// What the family's class has in the place of parameters where the file states none.
    fn parameters_of_class(self, kind: Kind) -> Result<Option<Map>> {
        let text = defaults::text(self.kind, "rope_parameters");
        let Some(text) = text.filter(|_| !(kind == Kind::Sliding && self.has_two())) else {
            return Ok(None);
        };
        match json::parse(text.as_bytes().to_vec())? {
            Value::Map(members) => Ok(Some(members)),
            _ => Ok(None),
        }
    }

    /// The one base of all statements, else the class's.
    fn theta(self, stated: &[Fields<'_>], kind: Kind) -> Result<f64> {
        let local = kind == Kind::Sliding;
        // of two ropes of different bases, the member at the top is that of the full layers
        let own_base = local
            && self.has_two()
            && defaults::number(self.kind, "rope_local_base_freq")
                != defaults::number(self.kind, "rope_theta");
        let mut found = self.only("the base of the rope");
        for params in stated {
            found.add(params.f64("rope_theta")?)?;
        }
        if local {
            found.add(self.fields.f64("rope_local_base_freq")?)?;
        }
        if !own_base {
            for name in ["rope_theta", "rotary_emb_base"] {
                found.add(self.fields.f64(name)?)?;
            }
            if let Some(attention) = self.fields.map("attn_config")? {
                found.add(Fields::new(attention, "config.json: attn_config").f64("rope_theta")?)?;
            }
        }
        let key = match own_base {
            true => "rope_local_base_freq",
            false => "rope_theta",
        };
        let default = match self.kind {
            // their sources have the base as a constant
            "codegen" | "gptj" => Some(10_000.0),
            kind => defaults::number(kind, key),
        };
        let theta = found
            .value
            .or(default)
            .ok_or_else(|| self.silent("the base of its rope"))?;
        if !theta.is_finite() || theta <= 0.0 {
            return Err(self.fields.error("rope_theta", "is not a positive number"));
        }
        Ok(theta)
    }

    /// `original_max_position_embeddings` at the top, by either name.
    fn original(self) -> Result<Option<u64>> {
        let mut found = self.only("the original context");
        for name in ["original_max_position_embeddings", "initial_context_length"] {
            found.add(self.fields.u64(name)?)?;
        }
        Ok(found.value)
    }

    /// The rotated part of a latent's keys; a share that is stated must come to it.
    fn latent_dims(self, stated: &[Fields<'_>]) -> Result<u32> {
        let rotated = self.needed(&["qk_rope_head_dim"])?;
        // Mistral 4 counts the share of the whole head
        let of = match self.kind {
            "mistral4" => rotated.saturating_add(self.needed(&["qk_nope_head_dim"])?),
            _ => rotated,
        };
        for params in stated.iter().chain([&self.fields]) {
            if let Some(share) = params.f64("partial_rotary_factor")?
                && u64::from(rope::rotary_dims(of, share)?) != rotated
            {
                return Err(self.two("the rotated part of a head"));
            }
        }
        let rotated = u32::try_from(rotated).unwrap_or(u32::MAX);
        check_dims(rotated, rotated.into())
    }

    /// Elements of a head that rotate: all statements come to one number.
    fn rotary_dims(
        self,
        stated: &[Fields<'_>],
        of_class: Option<&Map>,
        head_dim: u64,
    ) -> Result<u32> {
        let whole = |dims: u64| {
            let dims = u32::try_from(dims)
                .map_err(|_| unsupported("the rotated part of a head is out of range"))?;
            check_dims(dims, head_dim)
        };
        if self.is_latent() || self.kind == "minicpm3" {
            return self.latent_dims(stated);
        }
        let mut found = self.only("the rotated part of a head");
        for name in ["partial_rotary_factor", "rotary_pct"] {
            if let Some(fraction) = self.fields.f64(name)? {
                found.add(Some(rope::rotary_dims(head_dim, fraction)?))?;
            }
        }
        for params in stated {
            if let Some(fraction) = params.f64("partial_rotary_factor")? {
                found.add(Some(rope::rotary_dims(head_dim, fraction)?))?;
            }
        }
        if let Some(dims) = self.fields.u64("rotary_dim")? {
            found.add(Some(whole(dims)?))?;
        }
        let in_class = match of_class.filter(|_| stated.is_empty()) {
            Some(members) => Fields::new(members, "the class").f64("partial_rotary_factor")?,
            None => None,
        };
        let partial = in_class.or_else(|| defaults::number(self.kind, "partial_rotary_factor"));
        let constant = defaults::count(self.kind, "rotary_dim");
        let known = defaults::known(self.kind);
        if let Some(dims) = found.value {
            let able = partial.is_some() || constant.is_some() || self.has_two() || !known;
            return match able || u64::from(dims) == head_dim {
                true => Ok(dims),
                false => Err(unsupported(format!(
                    "{} rotates whole heads, and the file says that a part rotates",
                    printable(self.kind)
                ))
                .at(self.fields.place)),
            };
        }
        match constant {
            Some(dims) => whole(dims),
            None => rope::rotary_dims(head_dim, partial.unwrap_or(1.0)),
        }
    }
}
