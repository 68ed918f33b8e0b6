//! What a runtime was told when it ran, which no model file records (model-id-v1 §7.4).

use std::path::PathBuf;

use kvcap::{
    Code, Error, Result, Role,
    binding::{Rope, Scaling},
};
use kvcap_codecs::Dtype;

use crate::{
    geometry::{Geometry, LayerGeometry},
    json::value::printable,
    rope::{LayerRope, LayersBy, f64_bits},
};

/// Run-time overrides that change the state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuntimeOptions {
    /// `rope-freq-base`: the rope's base.
    pub rope_freq_base: Option<f64>,
    /// `rope-freq-scale`: the factor on frequencies, the inverse of a scaling's factor.
    pub rope_freq_scale: Option<f64>,
    /// `rope-scaling`: the kind of scaling.
    pub rope_scaling: Option<ScalingKind>,
    /// `ctx-size`: tokens of context; decides which factors LongRoPE uses.
    pub ctx_size: Option<u64>,
    /// `longrope`: which factors LongRoPE used, where the runtime does not go by its context.
    pub long_used: Option<bool>,
    /// `hadamard`: whether llama.cpp rotated its quantized cache; its own rule where absent.
    pub hadamard: Option<bool>,
}

/// A kind of rope scaling that a runtime can be told to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScalingKind {
    /// Frequencies as the base gives them.
    None,
    /// Positions divided by a factor.
    Linear,
    /// YaRN.
    Yarn,
    /// LongRoPE, whose factors the model must hold.
    LongRope,
}

/// Returns an adapter's path and factor, of `PATH` or `PATH=SCALE`; without a factor it is 1.
///
/// # Errors
///
/// 944 for a factor that is no finite number.
pub fn parse_adapter(text: &str) -> Result<(PathBuf, f64)> {
    let Some((path, scale)) = text.rsplit_once('=') else {
        return Ok((text.into(), 1.0));
    };
    match scale.parse() {
        Ok(scale) if f64::is_finite(scale) => Ok((path.into(), scale)),
        _ => Err(usage("the adapter's factor is not a number", scale)),
    }
}

impl RuntimeOptions {
    /// The options that `KEY=VALUE` texts state.
    ///
    /// # Errors
    ///
    /// 944 for an unknown key, a key given twice, or a value that is not one of its key's.
    pub fn parse<T: AsRef<str>>(pairs: &[T]) -> Result<Self> {
        let mut options = Self::default();
        for pair in pairs {
            let pair = pair.as_ref();
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| usage("an option is not KEY=VALUE", pair))?;
            let wrong = || usage("the option's value is not one that its key takes", pair);
            let number = || match value.parse::<f64>() {
                Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
                _ => Err(wrong()),
            };
            let twice = match key {
                "rope-freq-base" => options.rope_freq_base.replace(number()?).is_some(),
                "rope-freq-scale" => options.rope_freq_scale.replace(number()?).is_some(),
                "rope-scaling" => {
                    let kind = match value {
                        "none" => ScalingKind::None,
                        "linear" => ScalingKind::Linear,
                        "yarn" => ScalingKind::Yarn,
                        "longrope" => ScalingKind::LongRope,
                        _ => return Err(wrong()),
                    };
                    options.rope_scaling.replace(kind).is_some()
                }
                "ctx-size" => {
                    let tokens = value.parse().map_err(|_| wrong())?;
                    options.ctx_size.replace(tokens).is_some()
                }
                "longrope" | "hadamard" => {
                    let (slot, on, off) = match key {
                        "longrope" => (&mut options.long_used, "long", "short"),
                        _ => (&mut options.hadamard, "on", "off"),
                    };
                    if value != on && value != off {
                        return Err(wrong());
                    }
                    slot.replace(value == on).is_some()
                }
                _ => {
                    return Err(usage("the option's key is not known", pair).sides(
                        "rope-freq-base, rope-freq-scale, rope-scaling, ctx-size, longrope or hadamard",
                        printable(key),
                    ));
                }
            };
            if twice {
                return Err(usage("an option is given twice", pair));
            }
        }
        Ok(options)
    }

    /// The ropes as the runtime used them. As in llama.cpp, base, scale and kind concern the layers
    /// without a sliding window.
    pub(crate) fn apply(&self, ropes: Vec<Rope>, geometry: &Geometry) -> Result<Vec<Rope>> {
        if *self == Self::default() {
            return Ok(ropes);
        }
        let overridden = self.rope_freq_base.is_some()
            || self.rope_freq_scale.is_some()
            || self.rope_scaling.is_some();
        let mut parts = LayersBy::new();
        for rope in &ropes {
            for layer in &rope.layers {
                let place = usize::try_from(*layer).ok();
                if let Some(layers) = place.and_then(|i| geometry.layers.get(i)) {
                    let slides =
                        matches!(layers, LayerGeometry::Attention { window, .. } if *window > 0);
                    parts.push((rope, overridden && !slides), *layer);
                }
            }
        }
        let taken = !overridden || parts.keys().any(|(_, taken)| *taken);
        if !taken {
            return Err(usage(
                "no layer of the model takes the rope options",
                "rope",
            ));
        }
        parts.ropes(|(stated, taken)| self.rope(stated, taken, geometry.context_length))
    }

    /// A rope as the runtime used it, where the layers take its options or do not.
    fn rope(&self, stated: &Rope, taken: bool, context: u64) -> Result<LayerRope> {
        let mut rope = LayerRope {
            pairing: stated.pairing,
            rotary_dims: stated.rotary_dims,
            theta: f64::from_bits(stated.theta.0),
            scaling: stated.scaling.clone(),
        };
        if let Scaling::LongRope {
            original,
            long_used,
            ..
        } = &mut rope.scaling
        {
            let by_context = self.ctx_size.map(|tokens| tokens > *original);
            *long_used = self.long_used.or(by_context).unwrap_or(*long_used);
        }
        if taken {
            rope.theta = self.rope_freq_base.unwrap_or(rope.theta);
            rope.scaling = self.scaling(&rope.scaling, context)?;
        }
        Ok(rope)
    }

    fn scaling(&self, stated: &Scaling, context: u64) -> Result<Scaling> {
        let conflict = || {
            usage(
                "the rope options do not go with the model's rope scaling",
                "rope-scaling",
            )
        };
        let scale = self.rope_freq_scale.map(|scale| 1.0 / scale);
        let factor = match (scale, stated) {
            (Some(factor), _) => factor,
            (None, Scaling::Linear { factor } | Scaling::Yarn { factor, .. }) => {
                f64::from_bits(factor.0)
            }
            _ => 1.0,
        };
        let kind = match (self.rope_scaling, stated) {
            (Some(kind), _) => kind,
            (None, Scaling::Yarn { .. }) => ScalingKind::Yarn,
            (None, Scaling::None | Scaling::Linear { .. }) => ScalingKind::Linear,
            (None, _) if scale.is_none() => return Ok(stated.clone()),
            (None, _) => return Err(conflict()),
        };
        match (kind, stated) {
            (ScalingKind::None, Scaling::None | Scaling::Linear { .. } | Scaling::Yarn { .. }) => {
                Ok(Scaling::None)
            }
            (
                ScalingKind::Linear,
                Scaling::None | Scaling::Linear { .. } | Scaling::Yarn { .. },
            ) => Ok(match factor == 1.0 {
                true => Scaling::None,
                false => Scaling::Linear {
                    factor: f64_bits(factor),
                },
            }),
            (ScalingKind::Yarn, Scaling::Yarn { .. }) => {
                let mut scaling = stated.clone();
                if let Scaling::Yarn { factor: slot, .. } = &mut scaling {
                    *slot = f64_bits(factor);
                }
                Ok(scaling)
            }
            (ScalingKind::Yarn, Scaling::None | Scaling::Linear { .. }) => Ok(Scaling::Yarn {
                factor: f64_bits(factor),
                original: context,
                beta_fast: f64_bits(32.0),
                beta_slow: f64_bits(1.0),
                mscale: f64_bits(0.0),
                mscale_all_dim: f64_bits(0.0),
                attention_factor: f64_bits(0.0),
                truncate: true,
            }),
            (ScalingKind::None, _) if scale.is_none() => Ok(stated.clone()),
            (ScalingKind::LongRope, Scaling::LongRope { .. }) if scale.is_none() => {
                Ok(stated.clone())
            }
            _ => Err(conflict()),
        }
    }
}

/// Elements in a block of the Walsh-Hadamard rotation that llama.cpp applies to a cache of this
/// type unless it is told not to; 0 for none (model-id-v1 §7.5).
///
/// `head_dim` is that of all layers of the cache; for a latent, the whole row.
#[must_use]
pub fn hadamard_block(role: Role, head_dim: u64, dtype: Dtype) -> u32 {
    let quantized = matches!(
        dtype,
        Dtype::GgmlQ4_0
            | Dtype::GgmlQ4_1
            | Dtype::GgmlQ5_0
            | Dtype::GgmlQ5_1
            | Dtype::GgmlQ8_0
            | Dtype::GgmlIq4Nl
    );
    if !quantized || head_dim == 0 || !head_dim.is_multiple_of(64) {
        return 0;
    }
    match role {
        Role::Value => 64,
        Role::Key | Role::Latent => 1 << head_dim.trailing_zeros().min(31),
        _ => 0,
    }
}

fn usage(what: &'static str, place: &str) -> Error {
    Error::new(Code::LocalUsage, what).at(printable(place))
}
