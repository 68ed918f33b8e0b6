//! The facts that banks are bound to (capsule-v1 §6.1 to §6.5, lineage-v1 §2).

use super::{ascending, collect, digest, finite, named, range, string};
use crate::{
    binding::{Adapter, F64Bits, KeyBasis, Model, Pairing, Rope, Runtime, Scaling, Tokenizer},
    error::Result,
    keys::KeyId,
    limits::Limits,
    manifest::{Parent, Prefix, RotationTable},
    wire::cbor::Field,
};

/// Most values of a list of frequencies or factors.
const MOST_FREQUENCIES: usize = 1024;

pub(super) fn model(field: Field<'_>, limits: &Limits) -> Result<Model> {
    let mut fields = field.fields()?;
    let id = digest(fields.required(1, "model id")?)?;
    let weights = digest(fields.required(2, "weights digest")?)?;
    let config = digest(fields.required(3, "config digest")?)?;
    let adapters = collect(
        fields.required(4, "adapters")?,
        limits.adapters,
        "too many adapters",
        |entry| {
            let [of, scale] = entry.tuple()?;
            Ok(Adapter {
                digest: digest(of)?,
                scale: finite(scale)?,
            })
        },
    )?;
    let name = string(fields.required(5, "model name")?)?;
    fields.end()?;
    Ok(Model {
        id,
        weights,
        config,
        adapters,
        name,
    })
}

pub(super) fn tokenizer(field: Field<'_>) -> Result<Tokenizer> {
    let mut fields = field.fields()?;
    let vocab = digest(fields.required(1, "vocabulary digest")?)?;
    let vocab_size = fields.required(2, "vocabulary size")?.small()?;
    let version = string(fields.required(3, "tokenizer version")?)?;
    let pre_tokenizer = string(fields.required(4, "pre-tokenizer")?)?;
    let specials = named(fields.required(5, "special tokens")?, |id| id.small())?;
    let chat_template = fields
        .optional(6, "chat template")
        .map(digest)
        .transpose()?;
    fields.end()?;
    Ok(Tokenizer {
        vocab,
        vocab_size,
        version,
        pre_tokenizer,
        specials,
        chat_template,
    })
}

pub(super) fn runtime(field: Field<'_>) -> Result<Runtime> {
    let mut fields = field.fields()?;
    let name = string(fields.required(1, "runtime name")?)?;
    let version = string(fields.required(2, "runtime version")?)?;
    let format = string(fields.required(3, "state format")?)?;
    let facts = named(fields.required(4, "layout facts")?, string)?;
    fields.end()?;
    Ok(Runtime {
        name,
        version,
        format,
        facts,
    })
}

fn pairing(field: Field<'_>) -> Result<Pairing> {
    match field.uint()? {
        0 => Ok(Pairing::Half),
        1 => Ok(Pairing::Interleaved),
        _ => Err(field.wrong("is not a known pairing")),
    }
}

pub(super) fn rope(field: Field<'_>, limits: &Limits) -> Result<Rope> {
    let mut fields = field.fields()?;
    let layers = fields.required(1, "rope layers")?;
    let listed = ascending(layers, limits.layers)?;
    if listed.is_empty() {
        return Err(layers.wrong("is empty"));
    }
    let pairing = pairing(fields.required(2, "rope pairing")?)?;
    let rotary_dims = fields.required(3, "rotary dims")?.small()?;
    let theta = finite(fields.required(4, "rope theta")?)?;
    let scaling = scaling(fields.required(5, "rope scaling")?)?;
    let offset = fields.required(6, "rope offset")?.int()?;
    let keys = fields.required(7, "key basis")?;
    let keys = match keys.uint()? {
        0 => KeyBasis::PostRope,
        1 => KeyBasis::PreRope,
        _ => return Err(keys.wrong("is not a known basis")),
    };
    fields.end()?;
    Ok(Rope {
        layers: listed,
        pairing,
        rotary_dims,
        theta,
        scaling,
        offset,
        keys,
    })
}

fn scaling(field: Field<'_>) -> Result<Scaling> {
    let list = |field: Field<'_>| {
        let values: Vec<F64Bits> = field.list()?.map(finite).collect::<Result<_>>()?;
        match values.len() {
            1..=MOST_FREQUENCIES => Ok(values),
            _ => Err(field.wrong("has no values or too many")),
        }
    };
    let kind = field
        .list()?
        .next()
        .ok_or_else(|| field.wrong("is empty"))?
        .uint()?;
    Ok(match kind {
        0 => {
            let [_] = field.tuple()?;
            Scaling::None
        }
        1 => {
            let [_, factor] = field.tuple()?;
            let factor = finite(factor)?;
            Scaling::Linear { factor }
        }
        2 => {
            let [
                _,
                factor,
                original,
                fast,
                slow,
                mscale,
                all,
                attention,
                truncate,
            ] = field.tuple()?;
            Scaling::Yarn {
                factor: finite(factor)?,
                original: original.uint()?,
                beta_fast: finite(fast)?,
                beta_slow: finite(slow)?,
                mscale: finite(mscale)?,
                mscale_all_dim: finite(all)?,
                attention_factor: finite(attention)?,
                truncate: truncate.bool()?,
            }
        }
        3 => {
            let [_, factor, low, high, original] = field.tuple()?;
            Scaling::Llama3 {
                factor: finite(factor)?,
                low_freq_factor: finite(low)?,
                high_freq_factor: finite(high)?,
                original: original.uint()?,
            }
        }
        4 => {
            let [_, short, long, original, attention, used] = field.tuple()?;
            Scaling::LongRope {
                short: list(short)?,
                long: list(long)?,
                original: original.uint()?,
                attention_factor: finite(attention)?,
                long_used: used.bool()?,
            }
        }
        5 => {
            let [_, factors] = field.tuple()?;
            let factors = list(factors)?;
            Scaling::Factors { factors }
        }
        6 => {
            let [_, factor] = field.tuple()?;
            let factor = finite(factor)?;
            Scaling::Proportional { factor }
        }
        7 => {
            let [_, sections, interleaved] = field.tuple()?;
            let listed: Vec<u32> = sections.list()?.map(Field::small).collect::<Result<_>>()?;
            if listed.is_empty() {
                return Err(sections.wrong("is empty"));
            }
            Scaling::Multi {
                sections: listed,
                interleaved: interleaved.bool()?,
            }
        }
        _ => return Err(field.wrong("is not a known kind of scaling")),
    })
}

pub(super) fn rotation(field: Field<'_>) -> Result<RotationTable> {
    let [pairs, factor, frequencies] = field.tuple()?;
    let (values, rest) = frequencies.bytes()?.as_chunks::<8>();
    if values.is_empty() || values.len() > MOST_FREQUENCIES || !rest.is_empty() {
        return Err(frequencies.wrong("is not 1 to 1,024 numbers of 8 bytes"));
    }
    let values: Vec<F64Bits> = values
        .iter()
        .map(|value| F64Bits(u64::from_le_bytes(*value)))
        .collect();
    if !values.iter().all(|value| value.is_finite()) {
        return Err(frequencies.wrong("holds a number that is not finite"));
    }
    Ok(RotationTable {
        pairing: pairing(pairs)?,
        attention_factor: finite(factor)?,
        frequencies: values,
    })
}

pub(super) fn prefix(field: Field<'_>) -> Result<Prefix> {
    let mut fields = field.fields()?;
    let scheme = fields.required(1, "prefix scheme")?;
    let prefix = match scheme.uint()? {
        0 => Prefix::None,
        1 => Prefix::Keyed {
            key: KeyId(fields.required(2, "prefix key id")?.array_of()?),
            commitment: digest(fields.required(3, "prefix commitment")?)?,
            tokens: fields.required(4, "prefix tokens")?.uint()?,
        },
        2 => Prefix::Public {
            value: digest(fields.required(3, "prefix value")?)?,
            tokens: fields.required(4, "prefix tokens")?.uint()?,
        },
        _ => return Err(scheme.wrong("is not a known scheme")),
    };
    fields.end()?;
    Ok(prefix)
}

pub(super) fn parent(field: Field<'_>) -> Result<Parent> {
    let mut fields = field.fields()?;
    let digest = digest(fields.required(1, "parent digest")?)?;
    let positions = range(fields.required(2, "parent positions")?)?;
    fields.end()?;
    Ok(Parent { digest, positions })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::Code, manifest::encode};

    /// What a model's policy is compared with is what the sealer wrote, flags too.
    #[test]
    fn every_scaling_comes_back() {
        let f = |value: f64| F64Bits(value.to_bits());
        let flagged = [true, false].into_iter().flat_map(|flag| {
            [
                Scaling::Yarn {
                    factor: f(1.0),
                    original: 2,
                    beta_fast: f(3.0),
                    beta_slow: f(4.0),
                    mscale: f(5.0),
                    mscale_all_dim: f(6.0),
                    attention_factor: f(7.0),
                    truncate: flag,
                },
                Scaling::LongRope {
                    short: vec![f(1.0), f(2.0)],
                    long: vec![f(3.0)],
                    original: 4,
                    attention_factor: f(5.0),
                    long_used: flag,
                },
                Scaling::Multi {
                    sections: vec![1, 2, 3],
                    interleaved: flag,
                },
            ]
        });
        let others = [
            Scaling::None,
            Scaling::Linear { factor: f(1.0) },
            Scaling::Llama3 {
                factor: f(1.0),
                low_freq_factor: f(2.0),
                high_freq_factor: f(3.0),
                original: 4,
            },
            Scaling::Factors {
                factors: vec![f(1.0), f(2.0)],
            },
            Scaling::Proportional { factor: f(1.0) },
        ];
        for wanted in flagged.chain(others) {
            let value = encode::scaling(&wanted);
            let found = scaling(Field::new(&value, "scaling", Code::ManifestField));
            assert_eq!(found.unwrap(), wanted);
        }
    }
}
