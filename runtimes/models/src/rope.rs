//! Rotary embeddings: the layers' ropes in groups, scalings by their parameters, and the
//! frequencies that they stand for (model-id-v1 §7).

mod change;
mod parameters;

pub use self::change::Change;
pub(crate) use self::parameters::{Around, config_scaling};

use kvcap::{
    Code, Error, Result,
    binding::{F64Bits, KeyBasis, Pairing, Rope, Scaling},
};

/// The rope of one layer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LayerRope {
    pub(crate) pairing: Pairing,
    pub(crate) rotary_dims: u32,
    pub(crate) theta: f64,
    pub(crate) scaling: Scaling,
}

pub(crate) fn f64_bits(value: f64) -> F64Bits {
    F64Bits(value.to_bits())
}

pub(crate) fn unsupported(what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Code::ModelUnsupported, what)
}

/// Layers by what decides their rope, in the order of the layers: a rope may be as large as its model's whole file,
/// and is made once for all of them (model-id-v1 MOD-V-4).
pub(crate) struct LayersBy<K>(Vec<(K, Vec<u32>)>);

impl<K: PartialEq> LayersBy<K> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn push(&mut self, key: K, layer: u32) {
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, layers)) => layers.push(layer),
            None => self.0.push((key, vec![layer])),
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    /// The ropes, each made of its key.
    pub(crate) fn ropes(self, rope: impl Fn(K) -> Result<LayerRope>) -> Result<Vec<Rope>> {
        let parts = self.0.into_iter();
        let parts: Result<_> = parts
            .map(|(key, layers)| Ok((rope(key)?, layers)))
            .collect();
        Ok(group(parts?))
    }
}

/// Layers with one rope become one group; groups stand in the order of their first layers.
fn group(parts: Vec<(LayerRope, Vec<u32>)>) -> Vec<Rope> {
    let mut groups: Vec<(LayerRope, Vec<u32>)> = Vec::new();
    for (rope, layers) in parts {
        match groups.iter_mut().find(|(known, _)| *known == rope) {
            Some((_, members)) => members.extend(layers),
            None => groups.push((rope, layers)),
        }
    }
    for (_, layers) in &mut groups {
        layers.sort_unstable();
    }
    groups.sort_unstable_by_key(|(_, layers)| layers.first().copied());
    groups
        .into_iter()
        .map(|(rope, layers)| Rope {
            layers,
            pairing: rope.pairing,
            rotary_dims: rope.rotary_dims,
            theta: f64_bits(rope.theta),
            scaling: rope.scaling,
            offset: 0,
            keys: KeyBasis::PostRope,
        })
        .collect()
}

/// `fraction` of `head_dim`, rounded down to a whole number of elements.
pub(crate) fn rotary_dims(head_dim: u64, fraction: f64) -> Result<u32> {
    let dims = (head_dim as f64 * fraction).floor();
    if !(0.0..=65536.0).contains(&dims) {
        return Err(unsupported("the rotated part of a head is out of range"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and inside 0..=65536"
    )]
    let dims = dims as u32;
    check_dims(dims, head_dim)
}

/// Refuses sections of multi-axis positions that do not add up to the pairs of `dims` (MOD-R-3).
pub(crate) fn check_sections(sections: &[u32], dims: u32) -> Result<()> {
    let sum: u64 = sections.iter().map(|section| u64::from(*section)).sum();
    let pairs = u64::from(dims / 2);
    if sum != pairs {
        let what = "the sections of the rope do not add up to its pairs";
        return Err(unsupported(what).sides(pairs, sum));
    }
    Ok(())
}

/// An even number of elements inside a head.
pub(crate) fn check_dims(dims: u32, head_dim: u64) -> Result<u32> {
    if dims == 0 || !dims.is_multiple_of(2) || u64::from(dims) > head_dim {
        return Err(
            unsupported("the rotated part of a head is not an even part of it")
                .sides(format!("even, at most {head_dim}"), dims),
        );
    }
    Ok(dims)
}

/// The angular frequency of each rotated pair, scaled as the rope says.
///
/// One value a pair, `rotary_dims / 2` of them; for proportional ropes `head_dim / 2`, of which
/// those outside the rotated part are zero. Multi-axis ropes give the frequencies that apply where
/// all axes have one position, which is so for text. Computed with the platform's `pow`: who needs
/// the same bits elsewhere must carry these.
///
/// `None` where the rope contradicts itself: a base or factor that is not positive, or a list of
/// factors of another length.
#[must_use]
pub fn inverse_frequencies(rope: &Rope, head_dim: u64) -> Option<Vec<f64>> {
    let theta = positive(rope.theta)?;
    let dims = f64::from(rope.rotary_dims);
    if !rope.rotary_dims.is_multiple_of(2)
        || u64::from(rope.rotary_dims) > head_dim
        || head_dim > 65536
    {
        return None;
    }
    let pairs = rope.rotary_dims / 2;
    let base = |over: f64| (0..pairs).map(move |i| theta.powf(-2.0 * f64::from(i) / over));
    Some(match &rope.scaling {
        Scaling::None | Scaling::Multi { .. } => base(dims).collect(),
        Scaling::Linear { factor } => {
            let factor = positive(*factor)?;
            base(dims).map(|f| f / factor).collect()
        }
        Scaling::Proportional { factor } => {
            let factor = positive(*factor)?;
            let still = usize::try_from((head_dim / 2).checked_sub(pairs.into())?).ok()?;
            base(head_dim as f64)
                .map(|f| f / factor)
                .chain(std::iter::repeat_n(0.0, still))
                .collect()
        }
        Scaling::Factors { factors } => divided(base(dims), factors, pairs)?,
        Scaling::LongRope {
            short,
            long,
            long_used,
            ..
        } => divided(base(dims), if *long_used { long } else { short }, pairs)?,
        Scaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original,
        } => {
            let (factor, low) = (positive(*factor)?, positive(*low_freq_factor)?);
            let (high, original) = (positive(*high_freq_factor)?, *original as f64);
            base(dims)
                .map(|f| {
                    let turns = original * f / std::f64::consts::TAU;
                    if turns > high {
                        f
                    } else if turns < low {
                        f / factor
                    } else {
                        let smooth = (turns - low) / (high - low);
                        (1.0 - smooth) * f / factor + smooth * f
                    }
                })
                .collect()
        }
        Scaling::Yarn {
            factor,
            original,
            beta_fast,
            beta_slow,
            truncate,
            ..
        } => {
            let factor = positive(*factor)?;
            let original = *original as f64;
            // The pair that turns `beta` times over the original length.
            let pair = |beta: F64Bits| {
                Some(
                    dims * (original / (positive(beta)? * std::f64::consts::TAU)).ln()
                        / (2.0 * theta.ln()),
                )
            };
            let (mut low, mut high) = (pair(*beta_fast)?, pair(*beta_slow)?);
            if *truncate {
                (low, high) = (low.floor(), high.ceil());
            }
            let (low, high) = (low.max(0.0), high.min(dims - 1.0));
            let width = if high == low { 0.001 } else { high - low };
            base(dims)
                .enumerate()
                .map(|(i, f)| {
                    let ramp = ((i as f64 - low) / width).clamp(0.0, 1.0);
                    f / factor * ramp + f * (1.0 - ramp)
                })
                .collect()
        }
    })
}

/// The factor that the rope puts on rotated vectors, 1 where there is none.
///
/// `context` is the longest context of the model; LongRoPE's factor follows from it where it is not
/// stated.
#[must_use]
pub fn attention_factor(rope: &Rope, context: u64) -> f64 {
    let stated = |bits: F64Bits| Some(f64::from_bits(bits.0)).filter(|value| *value != 0.0);
    match &rope.scaling {
        Scaling::Yarn {
            factor,
            mscale,
            mscale_all_dim,
            attention_factor,
            ..
        } => stated(*attention_factor).unwrap_or_else(|| {
            let factor = f64::from_bits(factor.0);
            let scale = |m: f64| {
                if factor <= 1.0 {
                    1.0
                } else {
                    0.1 * m * factor.ln() + 1.0
                }
            };
            match (stated(*mscale), stated(*mscale_all_dim)) {
                (Some(one), Some(all)) => scale(one) / scale(all),
                _ => scale(1.0),
            }
        }),
        Scaling::LongRope {
            original,
            attention_factor,
            ..
        } => stated(*attention_factor).unwrap_or_else(|| {
            let (context, original) = (context as f64, *original as f64);
            if context <= original || original <= 1.0 {
                1.0
            } else {
                (1.0 + (context / original).ln() / original.ln()).sqrt()
            }
        }),
        _ => 1.0,
    }
}

fn positive(bits: F64Bits) -> Option<f64> {
    Some(f64::from_bits(bits.0)).filter(|value| value.is_finite() && *value > 0.0)
}

fn divided(base: impl Iterator<Item = f64>, factors: &[F64Bits], pairs: u32) -> Option<Vec<f64>> {
    if u32::try_from(factors.len()).ok()? != pairs {
        return None;
    }
    base.zip(factors)
        .map(|(f, factor)| Some(f / positive(*factor)?))
        .collect()
}
