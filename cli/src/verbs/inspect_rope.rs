//! A rotary embedding of a capsule, for people and as JSON.

use kvcap::{OutlineRope, OutlineValue};
use serde_json::{Map, Value, json};

/// One line: `28 layers, 128 dims of each head rotated in halves, base 10000, llama3 scaling (factor 8, …)`.
///
/// Of a list it shows how many and between what: a stranger's header may hold a hundred thousand numbers.
pub(super) fn line(rope: &OutlineRope) -> String {
    let layers = match rope.layers {
        1 => "1 layer".to_owned(),
        count => format!("{count} layers"),
    };
    let pairs = match rope.pairing {
        "half" => "halves",
        _ => "interleaved pairs",
    };
    let mut line = format!(
        "{layers}, {} dims of each head rotated in {pairs}, base {}",
        rope.rotary_dims,
        shown(rope.theta),
    );
    if rope.scaling != "none" {
        let parameters: Vec<String> = rope.parameters.iter().map(parameter).collect();
        line.push_str(&format!(
            ", {} scaling ({})",
            rope.scaling,
            parameters.join(", ")
        ));
    }
    if rope.offset != 0 {
        line.push_str(&format!(", positions moved by {}", rope.offset));
    }
    if !rope.rotated {
        line.push_str(", keys sealed before rotation");
    }
    line
}

fn parameter((name, value): &(&'static str, OutlineValue)) -> String {
    let name = name.replace('_', " ");
    match value {
        OutlineValue::Float(bits) => format!("{name} {}", shown(*bits)),
        OutlineValue::Floats(bits) => {
            let numbers = || bits.iter().map(|bits| f64::from_bits(*bits));
            let least = numbers().fold(f64::INFINITY, f64::min);
            let most = numbers().fold(f64::NEG_INFINITY, f64::max);
            format!(
                "{name} {} from {} to {}",
                bits.len(),
                shown(least.to_bits()),
                shown(most.to_bits())
            )
        }
        OutlineValue::Count(count) => format!("{name} {count}"),
        OutlineValue::Counts(counts) => {
            let all: u64 = counts.iter().map(|count| u64::from(*count)).sum();
            match counts.len() {
                0..=8 => format!("{name} {}", sums(counts)),
                many => format!("{name} {many} of {all} in all"),
            }
        }
        OutlineValue::Flag(flag) => format!("{name} {}", if *flag { "yes" } else { "no" }),
        _ => name,
    }
}

/// `16+24+24`.
fn sums(counts: &[u32]) -> String {
    let counts: Vec<String> = counts.iter().map(u32::to_string).collect();
    counts.join("+")
}

/// A number of at most 24 characters: without an exponent, some have three hundred digits.
fn shown(bits: u64) -> String {
    let number = f64::from_bits(bits);
    let text = number.to_string();
    match text.len() {
        ..=24 => text,
        _ => format!("{number:e}"),
    }
}

/// The same for JSON, with every number.
pub(super) fn object(rope: &OutlineRope) -> Value {
    let parameters: Map<String, Value> = rope
        .parameters
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json_of(value)))
        .collect();
    json!({
        "layers": rope.layers,
        "pairing": rope.pairing,
        "rotary_dims": rope.rotary_dims,
        "theta": f64::from_bits(rope.theta),
        "scaling": rope.scaling,
        "parameters": parameters,
        "offset": rope.offset,
        "rotated": rope.rotated,
    })
}

fn json_of(value: &OutlineValue) -> Value {
    match value {
        OutlineValue::Float(bits) => json!(f64::from_bits(*bits)),
        OutlineValue::Floats(bits) => bits.iter().map(|bits| f64::from_bits(*bits)).collect(),
        OutlineValue::Count(count) => json!(count),
        OutlineValue::Counts(counts) => json!(counts),
        OutlineValue::Flag(flag) => json!(flag),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_a_few_words() {
        let float = |number: f64| OutlineValue::Float(number.to_bits());
        let floats = |of: &[f64]| OutlineValue::Floats(of.iter().map(|n| n.to_bits()).collect());
        for (parameter_of, said) in [
            (("beta_fast", float(32.0)), "beta fast 32"),
            (("factor", float(f64::from_bits(1))), "factor 5e-324"),
            (
                ("short", floats(&[1.5, 1.0, 64.25])),
                "short 3 from 1 to 64.25",
            ),
            (("original", OutlineValue::Count(8192)), "original 8192"),
            (
                ("sections", OutlineValue::Counts(vec![16, 24, 24])),
                "sections 16+24+24",
            ),
            (
                ("sections", OutlineValue::Counts(vec![2; 100_000])),
                "sections 100000 of 200000 in all",
            ),
            (("truncate", OutlineValue::Flag(true)), "truncate yes"),
        ] {
            assert_eq!(parameter(&parameter_of), said);
        }
    }
}
