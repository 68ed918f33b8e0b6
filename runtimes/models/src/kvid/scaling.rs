//! Rope scalings in a `.kvid` file (model-id-v1 §10).

use kvcap::{Code, Error, Result, binding::Scaling};

use crate::{
    json::value::Value,
    kvid::fields::{Object, bits, int, ints, list, object, text},
};

pub(crate) fn write(scaling: &Scaling) -> Value {
    match scaling {
        Scaling::None => object([("kind", text("none"))]),
        Scaling::Linear { factor } => object([("kind", text("linear")), ("factor", bits(*factor))]),
        Scaling::Proportional { factor } => {
            object([("kind", text("proportional")), ("factor", bits(*factor))])
        }
        Scaling::Factors { factors } => object([
            ("kind", text("factors")),
            ("factors", list(factors, |f| bits(*f))),
        ]),
        Scaling::Multi {
            sections,
            interleaved,
        } => object([
            ("kind", text("multi")),
            ("sections", ints(sections)),
            ("interleaved", Value::Bool(*interleaved)),
        ]),
        Scaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original,
        } => object([
            ("kind", text("llama3")),
            ("factor", bits(*factor)),
            ("low_freq_factor", bits(*low_freq_factor)),
            ("high_freq_factor", bits(*high_freq_factor)),
            ("original", int(*original)),
        ]),
        Scaling::LongRope {
            short,
            long,
            original,
            attention_factor,
            long_used,
        } => object([
            ("kind", text("longrope")),
            ("short", list(short, |f| bits(*f))),
            ("long", list(long, |f| bits(*f))),
            ("original", int(*original)),
            ("attention_factor", bits(*attention_factor)),
            ("long_used", Value::Bool(*long_used)),
        ]),
        Scaling::Yarn {
            factor,
            original,
            beta_fast,
            beta_slow,
            mscale,
            mscale_all_dim,
            attention_factor,
            truncate,
        } => object([
            ("kind", text("yarn")),
            ("factor", bits(*factor)),
            ("original", int(*original)),
            ("beta_fast", bits(*beta_fast)),
            ("beta_slow", bits(*beta_slow)),
            ("mscale", bits(*mscale)),
            ("mscale_all_dim", bits(*mscale_all_dim)),
            ("attention_factor", bits(*attention_factor)),
            ("truncate", Value::Bool(*truncate)),
        ]),
    }
}

pub(crate) fn read(value: &Value) -> Result<Scaling> {
    let kind = value
        .as_map()
        .and_then(|members| members.get("kind")?.as_text())
        .unwrap_or("");
    let of = |names: &[&str]| {
        let mut all = vec!["kind"];
        all.extend(names);
        Object::new(value, "scaling", &all)
    };
    Ok(match kind {
        "none" => {
            of(&[])?;
            Scaling::None
        }
        "linear" => Scaling::Linear {
            factor: of(&["factor"])?.bits("factor")?,
        },
        "proportional" => Scaling::Proportional {
            factor: of(&["factor"])?.bits("factor")?,
        },
        "factors" => Scaling::Factors {
            factors: of(&["factors"])?.all_bits("factors")?,
        },
        "multi" => {
            let it = of(&["sections", "interleaved"])?;
            Scaling::Multi {
                sections: it.ints("sections")?,
                interleaved: it.bool("interleaved")?,
            }
        }
        "llama3" => {
            let it = of(&["factor", "low_freq_factor", "high_freq_factor", "original"])?;
            Scaling::Llama3 {
                factor: it.bits("factor")?,
                low_freq_factor: it.bits("low_freq_factor")?,
                high_freq_factor: it.bits("high_freq_factor")?,
                original: it.int("original")?,
            }
        }
        "longrope" => {
            let it = of(&["short", "long", "original", "attention_factor", "long_used"])?;
            Scaling::LongRope {
                short: it.all_bits("short")?,
                long: it.all_bits("long")?,
                original: it.int("original")?,
                attention_factor: it.bits("attention_factor")?,
                long_used: it.bool("long_used")?,
            }
        }
        "yarn" => {
            let it = of(&[
                "factor",
                "original",
                "beta_fast",
                "beta_slow",
                "mscale",
                "mscale_all_dim",
                "attention_factor",
                "truncate",
            ])?;
            Scaling::Yarn {
                factor: it.bits("factor")?,
                original: it.int("original")?,
                beta_fast: it.bits("beta_fast")?,
                beta_slow: it.bits("beta_slow")?,
                mscale: it.bits("mscale")?,
                mscale_all_dim: it.bits("mscale_all_dim")?,
                attention_factor: it.bits("attention_factor")?,
                truncate: it.bool("truncate")?,
            }
        }
        _ => {
            return Err(Error::new(
                Code::ModelMalformed,
                "the kind of a rope scaling is not known",
            ));
        }
    })
}
