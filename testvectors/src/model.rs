//! Model, tokenizer and rope as a vector's context states them (README, "Context").

use kvcap::binding::{
    Adapter, Digest, F64Bits, KeyBasis, Model, Pairing, Rope, Scaling, Tokenizer,
};
use serde_json::{Value, json};

use crate::hex::{hex, unhex};

fn bits(value: F64Bits) -> String {
    hex(&value.0.to_le_bytes())
}

fn from_bits(value: &Value) -> F64Bits {
    F64Bits(u64::from_le_bytes(unhex(value.as_str().unwrap())))
}

/// Model, tokenizer and rope as the README describes them.
#[must_use]
pub fn model_json(model: &Model, tokenizer: &Tokenizer, rope: &[Rope]) -> Value {
    let adapters: Vec<_> = model
        .adapters
        .iter()
        .map(|adapter| (adapter.digest.to_string(), bits(adapter.scale)))
        .collect();
    let rope: Vec<Value> = rope
        .iter()
        .map(|rope| {
            json!({
                "layers": rope.layers,
                "pairing": u8::from(rope.pairing == Pairing::Interleaved),
                "rotary_dims": rope.rotary_dims,
                "theta": bits(rope.theta),
                "scaling": scaling_json(&rope.scaling),
            })
        })
        .collect();
    json!({
        "id": model.id.to_string(),
        "weights": model.weights.to_string(),
        "config": model.config.to_string(),
        "adapters": adapters,
        "vocab": tokenizer.vocab.to_string(),
        "vocab_size": tokenizer.vocab_size,
        "pre_tokenizer": tokenizer.pre_tokenizer,
        "specials": tokenizer.specials,
        "chat_template": tokenizer.chat_template.map(|d| d.to_string()),
        "rope": rope,
    })
}

/// As the manifest's array, with binary64 values as hexadecimal of their eight bytes.
fn scaling_json(scaling: &Scaling) -> Value {
    match scaling {
        Scaling::None => json!([0]),
        Scaling::Linear { factor } => json!([1, bits(*factor)]),
        Scaling::Yarn {
            factor,
            original,
            beta_fast,
            beta_slow,
            mscale,
            mscale_all_dim,
            attention_factor,
            truncate,
        } => json!([
            2,
            bits(*factor),
            original,
            bits(*beta_fast),
            bits(*beta_slow),
            bits(*mscale),
            bits(*mscale_all_dim),
            bits(*attention_factor),
            truncate
        ]),
        other => panic!("no vector expects {other:?}"),
    }
}

fn scaling_from(value: &Value) -> Scaling {
    match value[0].as_u64() {
        Some(0) => Scaling::None,
        Some(1) => Scaling::Linear {
            factor: from_bits(&value[1]),
        },
        Some(2) => Scaling::Yarn {
            factor: from_bits(&value[1]),
            original: value[2].as_u64().unwrap(),
            beta_fast: from_bits(&value[3]),
            beta_slow: from_bits(&value[4]),
            mscale: from_bits(&value[5]),
            mscale_all_dim: from_bits(&value[6]),
            attention_factor: from_bits(&value[7]),
            truncate: value[8].as_bool().unwrap(),
        },
        _ => panic!("no vector expects {value}"),
    }
}

/// The inverse of [`model_json`].
#[must_use]
pub fn model_from(value: &Value) -> (Model, Tokenizer, Vec<Rope>) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let digest = |value: &Value| Digest(unhex(value.as_str().unwrap()));
    let small = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let list = |value: &Value| value.as_array().unwrap().clone();
    let adapters = list(&value["adapters"]);
    let model = Model {
        id: digest(&value["id"]),
        weights: digest(&value["weights"]),
        config: digest(&value["config"]),
        adapters: adapters
            .iter()
            .map(|adapter| Adapter {
                digest: digest(&adapter[0]),
                scale: from_bits(&adapter[1]),
            })
            .collect(),
        name: String::new(),
    };
    let specials = list(&value["specials"]);
    let tokenizer = Tokenizer {
        vocab: digest(&value["vocab"]),
        vocab_size: small(&value["vocab_size"]),
        version: String::new(),
        pre_tokenizer: text(&value["pre_tokenizer"]),
        specials: specials
            .iter()
            .map(|special| (text(&special[0]), small(&special[1])))
            .collect(),
        chat_template: Some(&value["chat_template"])
            .filter(|template| !template.is_null())
            .map(digest),
    };
    let rope = list(&value["rope"])
        .iter()
        .map(|rope| Rope {
            layers: list(&rope["layers"]).iter().map(small).collect(),
            pairing: match rope["pairing"].as_u64() {
                Some(0) => Pairing::Half,
                _ => Pairing::Interleaved,
            },
            rotary_dims: small(&rope["rotary_dims"]),
            theta: from_bits(&rope["theta"]),
            scaling: scaling_from(&rope["scaling"]),
            offset: 0,
            keys: KeyBasis::PostRope,
        })
        .collect();
    (model, tokenizer, rope)
}
