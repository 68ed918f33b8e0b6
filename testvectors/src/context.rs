//! What a verifier brings along: the part of a vector that is not in the file (README, "Context").

use std::{collections::BTreeMap, path::Path};

use kvcap::{
    CapsuleId, Expected, ExpectedSession, Limits, Mark, Policy, PrefixKey, PrefixValue, PublicKey,
    Purpose, RecipientKind, Registry, Role, RootPublic, Status, Suite, Trust, TrustedKey,
    UntrustedRegistry, WrappingKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    fixture,
    generate::{load, sha256},
    hex::{hex, unhex},
    model::model_from,
    parts,
};

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
    /// Its type (capsule-v1 §9.3).
    pub wrapping_type: u64,
    /// Ranges of streams to read; where there are none, all streams whole.
    pub reads: Vec<Range>,
    /// Files of the capsules that the capsule continues, its parent first.
    pub parents: Vec<String>,
    pub registry: Option<RegistryFiles>,
    pub memory: Option<Memory>,
    /// Files that are not in the folder yet.
    #[serde(skip)]
    pub held: BTreeMap<String, Vec<u8>>,
}

/// Memory of the verifier (registry-v1 §5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the README describes each field")]
pub struct Memory {
    /// The latest time seen.
    pub latest: Option<u64>,
    /// Files of the capsules that it has opened, in this context.
    pub opened: Vec<String>,
}

/// A key registry beside trusted keys (registry-v1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the README describes each field")]
pub struct RegistryFiles {
    pub root: String,
    pub files: Vec<String>,
    /// Version and digest that the verifier remembers.
    pub seen: Option<(u64, String)>,
    /// Digest of the statement about roots that the verifier was given in place of the root's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// The only issuers that the verifier trusts the root with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<String>,
    /// Version and digest of the statement about roots that the verifier remembers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_roots: Option<(u64, String)>,
}

impl RegistryFiles {
    /// Root as the verifier was given it.
    ///
    /// # Errors
    /// KVC-305.
    pub fn root(&self) -> kvcap::Result<RootPublic> {
        let root = match &self.statement {
            Some(digest) => RootPublic::of_statement(kvcap::binding::Digest(unhex(digest))),
            None => RootPublic::from_bytes(&unhex(&self.root))?,
        };
        Ok(root.limited_to(self.issuers.clone()))
    }
}

/// One trusted key (capsule-v1 §8).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the README describes each field")]
pub struct Trusted {
    pub key: String,
    pub issuer: String,
    pub for_capsules: bool,
    pub suites: Vec<u64>,
    pub not_before: u64,
    pub sign_until: Option<u64>,
    pub verify_until: Option<u64>,
    pub compromised: bool,
}

/// Statements of the caller about the state that it expects.
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
    /// Session, and version and replay cursor where they are stated.
    pub session: Option<(String, Option<u64>, Option<u64>)>,
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
    /// A key trusted for every suite and time, for the issuer of the base capsule.
    #[must_use]
    pub fn of(public: &[u8; 32]) -> Self {
        Self {
            key: hex(public),
            issuer: fixture::ISSUER.to_owned(),
            for_capsules: true,
            suites: vec![1, 2],
            not_before: 0,
            sign_until: None,
            verify_until: None,
            compromised: false,
        }
    }

    pub(crate) fn key(&self) -> kvcap::Result<TrustedKey> {
        let key = PublicKey::from_bytes(&unhex(&self.key))?;
        Ok(TrustedKey {
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
            ..TrustedKey::new(key, &self.issuer)
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
            wrapping_type: 1,
            reads: Vec::new(),
            parents: Vec::new(),
            registry: None,
            memory: None,
            held: BTreeMap::new(),
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
                "chain" => limits.chain = usize::try_from(*value).unwrap(),
                other => panic!("no limit {other}"),
            }
        }
        limits
    }

    /// Keeps a file that the folder will have, and gives its name.
    pub fn hold(&mut self, what: &str, extension: &str, bytes: &[u8]) -> String {
        let name = format!("{what}_{}.{extension}", &sha256(bytes)[..12]);
        self.held.insert(name.clone(), bytes.to_vec());
        name
    }

    /// A file beside the vector's own.
    #[must_use]
    pub fn file(&self, name: &str) -> Vec<u8> {
        let held = self.held.get(name).cloned();
        held.unwrap_or_else(|| load(Path::new(name)))
    }

    /// Loads the trusted keys, and the registry where there is one.
    ///
    /// # Errors
    /// KVC-305 for a weak key, 311 for two of one id; 308 to 313 as registry-v1.
    pub fn trust(&self) -> kvcap::Result<Trust> {
        let mut trust = Trust::none();
        for key in &self.trust {
            trust.add(key.key()?)?;
        }
        if let Some(registry) = &self.registry {
            trust.merge(self.newest(registry)?.trust())?;
        }
        Ok(trust)
    }

    /// The last of a registry's versions, each of them after the one before.
    fn newest(&self, registry: &RegistryFiles) -> kvcap::Result<Registry> {
        let root = registry.root()?;
        // the root's id is the same in all marks
        let mark = |(version, digest): &(u64, String)| Mark {
            root: RootPublic::from_bytes(&unhex(&registry.root)).unwrap().id(),
            version: *version,
            digest: kvcap::binding::Digest(unhex(digest)),
        };
        let mut seen = registry.seen.as_ref().map(mark);
        let seen_roots = registry.seen_roots.as_ref().map(mark);
        let mut newest = None;
        for (left, name) in (0..registry.files.len()).rev().zip(&registry.files) {
            let read = UntrustedRegistry::read(&self.file(name))?;
            let found = match left {
                0 => read.verify(&root, self.now)?,
                _ => read.verify_at_any_time(&root)?,
            };
            if let Some(seen) = &seen {
                found.follows(seen)?;
            }
            if let Some(seen) = &seen_roots {
                found.follows_roots(seen)?;
            }
            seen = Some(found.mark());
            newest = Some(found);
        }
        Ok(newest.unwrap())
    }

    /// The key to open with.
    #[must_use]
    pub fn key(&self) -> Option<WrappingKey> {
        let kind = RecipientKind::from_number(self.wrapping_type).unwrap();
        let bytes = self.wrapping_key.as_ref()?;
        Some(WrappingKey::of(kind, unhex(bytes)))
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
        expected.session =
            wanted
                .session
                .clone()
                .map(|(id, version, replay_cursor)| ExpectedSession {
                    id,
                    version,
                    replay_cursor,
                });
        let mut policy = Policy::new(trust, now, "", expected);
        policy.audiences.clone_from(&self.audiences);
        policy.subject.clone_from(&self.subject);
        policy.tenant.clone_from(&self.organisation);
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

/// Roles by number (capsule-v1 §7.1).
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
