//! The scaling of a `config.json`'s `rope_parameters` (transformers 5) or `rope_scaling` (model-id-v1 §7.2).

use kvcap::{
    Error, Result,
    binding::{F64Bits, Scaling},
};

use super::{check_sections, f64_bits, unsupported};
use crate::json::value::{Fields, printable};

/// Members that have a meaning here in every family.
const KNOWN: [&str; 20] = [
    "rope_type",
    "type",
    "rope_theta",
    "partial_rotary_factor",
    "factor",
    "original_max_position_embeddings",
    "max_position_embeddings",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
    "short_factor",
    "long_factor",
    "low_freq_factor",
    "high_freq_factor",
    "mrope_section",
    "mrope_interleaved",
    // older files; it says how the model was trained, and changes no frequency
    "finetuned",
];

/// Members that some families have beside them.
const OF_FAMILIES: [(&str, &[&str]); 4] = [
    // static: the base is stretched once
    ("alpha", &["hunyuan_v1_dense", "hunyuan_v1_moe"]),
    // acts on queries alone: nothing that a cache holds
    ("llama_4_scaling_beta", &["ministral3", "mistral4"]),
    ("long_mscale", &["phimoe"]),
    ("short_mscale", &["phimoe"]),
];

/// What a config says around its scaling.
pub(crate) struct Around<'a> {
    pub(crate) kind: &'a str,
    /// Longest context of the model.
    pub(crate) context: u64,
    /// The original context as the config states it beside the scaling.
    pub(crate) original: Option<u64>,
    /// Sections of multi-axis positions that the family's class has.
    pub(crate) sections: Option<Vec<u32>>,
    /// Whether its sections are interleaved.
    pub(crate) interleaved: bool,
    /// Rotated elements of a head.
    pub(crate) dims: u32,
}

/// The base and the scaling of a rope whose base is stated as `theta`.
///
/// # Errors
///
/// 931 for a kind or a parameter that this version does not know, for statements that differ, and for dynamic
/// NTK; 930 where a parameter is missing or of the wrong type.
pub(crate) fn config_scaling(
    params: Fields<'_>,
    around: &Around<'_>,
    theta: f64,
) -> Result<(f64, Scaling)> {
    let of_family = |name: &str| {
        let mut own = OF_FAMILIES.iter();
        own.any(|(known, families)| *known == name && families.contains(&around.kind))
    };
    let mut names = params.members.keys();
    if let Some(name) = names.find(|name| !KNOWN.contains(&name.as_str()) && !of_family(name)) {
        let what = format!("the rope parameter {} is not known", printable(name));
        return Err(unsupported(what).at(params.place));
    }
    params.bool("finetuned")?;
    params.f64("llama_4_scaling_beta")?;
    let differ =
        |what: &str| unsupported(format!("two statements of {what} differ")).at(params.place);
    let inside = params.u64("max_position_embeddings")?;
    if inside.is_some_and(|inside| inside != around.context) {
        return Err(differ("max_position_embeddings"));
    }
    let kind = kind_of(params)?;
    if matches!(around.kind, "phi3" | "phimoe") && !matches!(kind, "default" | "longrope") {
        let what = format!("{} with the rope scaling {}", around.kind, printable(kind));
        return Err(unsupported(what).at(params.place));
    }
    if let Some(alpha) = params.f64("alpha")?
        && kind == "dynamic"
        && alpha != 0.0
    {
        return Ok((stretched(params, theta, alpha, around.dims)?, Scaling::None));
    }
    let sections = sections(params, around)?;
    if kind == "default" {
        return Ok((
            theta,
            match sections {
                Some(sections) => Scaling::Multi {
                    sections,
                    interleaved: around.interleaved,
                },
                None => Scaling::None,
            },
        ));
    }
    // of a scaled rope with several axes the scaling is stated: the sections stand in the config, whose digest is bound
    Ok((theta, scaled(params, around, kind)?))
}

/// `rope_type`, or `type` as it was called, by one name for each kind.
fn kind_of<'a>(params: Fields<'a>) -> Result<&'a str> {
    let one = |name| match name {
        "mrope" => "default",
        "su" => "longrope",
        other => other,
    };
    let (new, old) = (
        params.text("rope_type")?.map(one),
        params.text("type")?.map(one),
    );
    match (new, old) {
        (Some(new), Some(old)) if new != old => Err(unsupported(
            "type and rope_type name two scalings; runtimes differ in which they use",
        )
        .at(params.place)),
        (Some(kind), _) | (None, Some(kind)) => Ok(kind),
        (None, None) => Ok("default"),
    }
}

/// The base times `alpha ^ (d / (d - 2))`, in binary32: the same on every machine, and as a GGUF file has it.
fn stretched(params: Fields<'_>, theta: f64, alpha: f64, dims: u32) -> Result<f64> {
    let dims = f64::from(dims);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounded on purpose: the platform's pow differs in the last place of binary64"
    )]
    let base = (theta * alpha.powf(dims / (dims - 2.0))) as f32;
    match base.is_finite() && base > 0.0 {
        true => Ok(base.into()),
        false => Err(params.error("alpha", "is not a positive number")),
    }
}

/// Sections of multi-axis positions: as stated, or the class's.
fn sections(params: Fields<'_>, around: &Around<'_>) -> Result<Option<Vec<u32>>> {
    let name = "mrope_section";
    let stated = params.array(name)?;
    if around.sections.is_none() && stated.is_some() {
        let what = format!(
            "{} has no positions of several axes",
            printable(around.kind)
        );
        return Err(unsupported(what).at(params.place));
    }
    let order = params.bool("mrope_interleaved")?;
    if order.is_some_and(|order| order != around.interleaved) {
        let what = "the family's sections are not in the order that the file states";
        return Err(unsupported(what).at(params.place));
    }
    let list = match stated {
        None => around.sections.clone(),
        Some(items) => {
            let list: Option<Vec<u32>> = items
                .iter()
                .map(|item| u32::try_from(item.as_u64()?).ok())
                .collect();
            Some(list.ok_or_else(|| params.error(name, "is not a list of counts"))?)
        }
    };
    // interleaved sections of the class reach as far as there are pairs; all others divide the pairs
    let strict = stated.is_some() || !around.interleaved;
    if let Some(list) = list.as_ref().filter(|_| strict) {
        check_sections(list, around.dims).map_err(|error| error.at(params.place))?;
    }
    Ok(list)
}

fn scaled(params: Fields<'_>, around: &Around<'_>, kind: &str) -> Result<Scaling> {
    let required = |name: &str| {
        let value = params.f64(name)?.ok_or_else(|| params.missing(name))?;
        if value.is_finite() && value > 0.0 {
            Ok(f64_bits(value))
        } else {
            Err(params.error(name, "is not a positive number"))
        }
    };
    let or =
        |name: &str, default: f64| Ok::<_, Error>(f64_bits(params.f64(name)?.unwrap_or(default)));
    let inside = params.u64("original_max_position_embeddings")?;
    let original = match (inside, around.original) {
        (Some(one), Some(other)) if one != other => {
            let what = "two statements of original_max_position_embeddings differ";
            return Err(unsupported(what).at(params.place).sides(one, other));
        }
        (Some(original), _) | (None, Some(original)) => original,
        (None, None) => {
            crate::families::defaults::count(around.kind, "original_max_position_embeddings")
                .unwrap_or(around.context)
        }
    };
    Ok(match kind {
        "linear" => Scaling::Linear {
            factor: required("factor")?,
        },
        "yarn" => Scaling::Yarn {
            factor: required("factor")?,
            original,
            beta_fast: or("beta_fast", 32.0)?,
            beta_slow: or("beta_slow", 1.0)?,
            mscale: or("mscale", 0.0)?,
            mscale_all_dim: or("mscale_all_dim", 0.0)?,
            attention_factor: or("attention_factor", 0.0)?,
            truncate: params.bool("truncate")?.unwrap_or(true),
        },
        "llama3" => Scaling::Llama3 {
            factor: required("factor")?,
            low_freq_factor: required("low_freq_factor")?,
            high_freq_factor: required("high_freq_factor")?,
            original,
        },
        "longrope" => {
            let factors = |name: &str| {
                let values = params.numbers(name)?.ok_or_else(|| params.missing(name))?;
                Ok::<_, Error>(values.into_iter().map(f64_bits).collect())
            };
            Scaling::LongRope {
                short: factors("short_factor")?,
                long: factors("long_factor")?,
                original,
                attention_factor: long_attention(params, around, original)?,
                long_used: around.context > original,
            }
        }
        "proportional" => Scaling::Proportional {
            factor: or("factor", 1.0)?,
        },
        "dynamic" => {
            return Err(unsupported(
                "dynamic ntk rope scaling cannot be bound: keys depend on the length at which each was computed",
            )
            .at(params.place));
        }
        kind => {
            let what = format!("the rope scaling {} is not known", printable(kind));
            return Err(unsupported(what).at(params.place));
        }
    })
}

/// The factor that LongRoPE puts on rotated vectors, 0 where it follows from the contexts.
fn long_attention(params: Fields<'_>, around: &Around<'_>, original: u64) -> Result<F64Bits> {
    let stated = params.f64("attention_factor")?;
    if around.kind == "phimoe" {
        let (short, long) = (params.f64("short_mscale")?, params.f64("long_mscale")?);
        let short = short.ok_or_else(|| params.missing("short_mscale"))?;
        if long != Some(short) || stated.is_some_and(|stated| stated != short) {
            let what = "factors on rotated vectors that differ by length";
            return Err(unsupported(what).at(params.place));
        }
        return Ok(f64_bits(short));
    }
    // without a factor of attention, it follows from `factor`, which must be the contexts' ratio
    let ratio = around.context as f64 / original as f64;
    if let (None, Some(factor)) = (stated, params.f64("factor")?)
        && factor != ratio
    {
        let what = "the factor of the rope is not the ratio of its two contexts";
        return Err(unsupported(what).at(params.place).sides(ratio, factor));
    }
    Ok(f64_bits(stated.unwrap_or(0.0)))
}
