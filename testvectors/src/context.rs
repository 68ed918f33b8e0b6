//! What a verifier brings along: the part of a vector that is not in the file (README, "Context").

use std::collections::BTreeMap;

use kvcap::{
    CapsuleId, Expected, Limits, Policy, PrefixKey, PrefixValue, PublicKey, Purpose, Role, Status,
    Suite, Trust, TrustedKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{fixture, model::model_from, parts};

/// Bytes as lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of hexadecimal text.
#[must_use]
pub fn unhex<const N: usize>(text: &str) -> [u8; N] {
    unhex_any(text).try_into().unwrap()
}

/// The same, for any number of bytes.
#[must_use]
pub fn unhex_any(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
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
            purpose: match self.for_capsules {
                true => Purpose::Capsules,
                false => Purpose::Statements,
            },
            suites: self.suites.clone(),
            not_before: self.not_before,
            sign_until: self.sign_until.unwrap_or(u64::MAX),
            verify_until: self.verify_until.unwrap_or(u64::MAX),
            status: match self.compromised {
                true => Status::Compromised,
                false => Status::Active,
            },
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
