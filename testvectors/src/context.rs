//! What a verifier brings along: the part of a vector that is not in the file (README, "Context").

use std::collections::BTreeMap;

use kvcap::{
    CapsuleId, Expected, Limits, Policy, PrefixKey, PrefixValue, PublicKey, Role, Suite, Trust,
    TrustedKey,
    binding::{Adapter, Digest, F64Bits, KeyBasis, Model, Pairing, Rope, Scaling, Tokenizer},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{fixture, parts};

/// Bytes as lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of hexadecimal text.
#[must_use]
pub fn unhex<const N: usize>(text: &str) -> [u8; N] {
    assert_eq!(text.len(), 2 * N, "{text}");
    let mut bytes = [0; N];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    }
    bytes
}

/// Everything that verifying and opening depend on besides the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the README describes each field")]
pub struct Context {
    pub now: u64,
    /// The clock once the body has arrived: the claims are checked again.
    pub later: Option<u64>,
    pub trust: Vec<Trusted>,
    pub audiences: Vec<String>,
    pub subject: Option<String>,
    pub organisation: Option<String>,
    pub scope: String,
    pub max_lifetime: u64,
    pub skew: u64,
    pub suites: Vec<u64>,
    /// Limits that are lower than the specification's.
    pub limits: BTreeMap<String, u64>,
    pub expected: Expectation,
    /// The key to open with; without one the capsule is verified only.
    pub wrapping_key: Option<String>,
    /// Ranges of streams to read; where there are none, all streams whole.
    pub reads: Vec<Range>,
}

/// One trusted key (capsule-v1 §7).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the README describes each field")]
pub struct Trusted {
    pub key: String,
    pub issuer: Option<String>,
    pub for_capsules: bool,
    pub suites: Vec<u64>,
    pub not_before: u64,
    pub sign_until: Option<u64>,
    pub verify_until: Option<u64>,
    pub compromised: bool,
}

/// What the caller states about the state that it expects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the README describes each field")]
pub struct Expectation {
    /// Model, tokenizer and rope, compared together.
    pub model: Option<Value>,
    pub runtime: Option<(String, Option<String>)>,
    pub layout: Option<(String, Vec<(String, String)>)>,
    pub dtypes: Option<(String, String)>,
    pub positions: Option<(u64, u64)>,
    pub prefix: Option<ExpectedPrefix>,
    /// Role number and layer.
    pub banks: Vec<(u64, u32)>,
    pub capsule: Option<String>,
}

/// The prompt, and the key under which it was committed to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the README describes each field")]
pub struct ExpectedPrefix {
    pub tokens: Vec<u32>,
    pub key: String,
}

/// Bytes `start..end` of a stream's encoded bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the README describes each field")]
pub struct Range {
    pub stream: usize,
    pub start: u64,
    pub end: u64,
}

impl Trusted {
    /// A key trusted for everything.
    #[must_use]
    pub fn of(public: &[u8; 32]) -> Self {
        Self {
            key: hex(public),
            issuer: None,
            for_capsules: true,
            suites: vec![1, 2],
            not_before: 0,
            sign_until: None,
            verify_until: None,
            compromised: false,
        }
    }

    fn key(&self) -> kvcap::Result<TrustedKey> {
        let key = PublicKey::from_bytes(&unhex(&self.key))?;
        Ok(TrustedKey {
            issuer: self.issuer.clone(),
            for_capsules: self.for_capsules,
            suites: self.suites.clone(),
            not_before: self.not_before,
            sign_until: self.sign_until.unwrap_or(u64::MAX),
            verify_until: self.verify_until.unwrap_or(u64::MAX),
            compromised: self.compromised,
            ..TrustedKey::new(key)
        })
    }
}

impl Default for Context {
    /// A verifier for whom the base capsule is meant.
    fn default() -> Self {
        Self {
            now: fixture::NOW,
            later: None,
            trust: vec![Trusted::of(&parts::public(&fixture::SIGN_SEED))],
            audiences: vec![fixture::AUDIENCE.to_owned()],
            subject: Some(fixture::SUBJECT.to_owned()),
            organisation: Some(fixture::TENANT.to_owned()),
            scope: kvcap::RESTORE.to_owned(),
            max_lifetime: kvcap::MAX_LIFETIME,
            skew: kvcap::MAX_SKEW,
            suites: vec![1, 2],
            limits: BTreeMap::new(),
            expected: Expectation::default(),
            wrapping_key: Some(hex(&fixture::WRAP_KEY)),
            reads: Vec::new(),
        }
    }
}

impl Context {
    /// The fields in which it differs from `default`.
    #[must_use]
    pub fn difference(&self, default: &Self) -> Value {
        let (own, other) = (json!(self), json!(default));
        let fields = own.as_object().unwrap().iter();
        fields
            .filter(|(name, value)| other[name.as_str()] != **value)
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// `default` with the fields of `difference` in place of its own.
    #[must_use]
    pub fn merged(default: &Self, difference: &Value) -> Self {
        let mut all = json!(default);
        for (name, value) in difference.as_object().unwrap() {
            all[name.as_str()] = value.clone();
        }
        serde_json::from_value(all).unwrap()
    }

    /// The limits.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        for (name, value) in &self.limits {
            match name.as_str() {
                "envelope" => limits.envelope = u32::try_from(*value).unwrap(),
                "tables" => limits.tables = *value,
                "streams" => limits.streams = *value,
                "recipients" => limits.recipients = *value,
                "layers" => limits.layers = *value,
                "adapters" => limits.adapters = *value,
                "dimensions" => limits.dimensions = *value,
                "budget" => limits.budget = *value,
                other => panic!("no limit {other}"),
            }
        }
        limits
    }

    /// Loads the trusted keys.
    ///
    /// # Errors
    /// KVC-305 for a weak key, 311 for two of one id.
    pub fn trust(&self) -> kvcap::Result<Trust> {
        let mut trust = Trust::none();
        for key in &self.trust {
            trust.add(key.key()?)?;
        }
        Ok(trust)
    }

    /// Calls `then` with the policy at time `now`.
    pub fn with_policy<T>(
        &self,
        trust: &Trust,
        now: u64,
        then: impl FnOnce(&Policy<'_>) -> T,
    ) -> T {
        let wanted = &self.expected;
        let model = wanted.model.as_ref().map(model_from);
        let prefix = wanted.prefix.as_ref().map(|prefix| {
            let key = PrefixKey::from_bytes(unhex(&prefix.key));
            (PrefixValue::of(&prefix.tokens), key)
        });
        let mut expected = match &model {
            Some((model, tokenizer, rope)) => Expected::of(model, tokenizer, rope),
            None => Expected::danger_any_model(),
        };
        expected.runtime.clone_from(&wanted.runtime);
        expected.layout.clone_from(&wanted.layout);
        expected.dtypes.clone_from(&wanted.dtypes);
        expected.positions = wanted.positions.map(|(start, end)| start..end);
        expected.prefix = prefix.as_ref().map(|(value, key)| (*value, key));
        expected.banks = wanted
            .banks
            .iter()
            .map(|(role, layer)| (ROLES[usize::try_from(*role).unwrap()], *layer))
            .collect();
        expected.capsule = wanted.capsule.as_ref().map(|id| CapsuleId(unhex(id)));
        let mut policy = Policy::new(trust, now, "", expected);
        policy.audiences.clone_from(&self.audiences);
        policy.subject.clone_from(&self.subject);
        policy.organisation.clone_from(&self.organisation);
        policy.scope.clone_from(&self.scope);
        policy.max_lifetime = self.max_lifetime;
        policy.skew = self.skew;
        policy.suites = self
            .suites
            .iter()
            .filter_map(|suite| Suite::from_number(*suite))
            .collect();
        policy.limits = self.limits();
        then(&policy)
    }
}

/// Roles by number (capsule-v1 §6.1).
pub const ROLES: [Role; 8] = [
    Role::Key,
    Role::Value,
    Role::Latent,
    Role::RopeKey,
    Role::Recurrent,
    Role::Convolution,
    Role::IndexKey,
    Role::Opaque,
];

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

fn model_from(value: &Value) -> (Model, Tokenizer, Vec<Rope>) {
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
            hadamard_keys: 0,
            hadamard_values: 0,
        })
        .collect();
    (model, tokenizer, rope)
}
