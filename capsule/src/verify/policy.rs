//! What a verifier expects (capsule-v1 §3.2).

use std::ops::Range;

use crate::{
    binding::{Model, PrefixKey, PrefixValue, Rope, Tokenizer},
    keys::CapsuleId,
    limits::{Limits, MAX_LIFETIME, MAX_SKEW},
    manifest::Role,
    suite::Suite,
    trust::Trust,
    wire::claims::Terms,
};

/// The scope that restoring needs.
pub const RESTORE: &str = "kv:restore";

/// Everything that verification depends on besides the capsule.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Policy<'a> {
    /// The keys that may have signed it.
    pub trust: &'a Trust,
    /// The time, in seconds since 1970.
    pub now: u64,
    /// The verifier's own names; the capsule's audience must be one of them.
    pub audiences: Vec<String>,
    /// Things that the state must be of.
    pub expected: Expected<'a>,
    /// The caller on whose behalf it is verified. A capsule with a subject is refused to others.
    pub subject: Option<String>,
    /// The tenant. A capsule with one is refused to others.
    pub tenant: Option<String>,
    /// The word that must stand in its scope.
    pub scope: String,
    /// Longest accepted lifetime, in seconds.
    pub max_lifetime: u64,
    /// Granted difference of clocks, in seconds; more than [`MAX_SKEW`] counts as that.
    pub skew: u64,
    /// Accepted suites.
    pub suites: Vec<Suite>,
    /// Accepted sizes.
    pub limits: Limits,
}

impl<'a> Policy<'a> {
    /// A policy of the defaults: scope `kv:restore`, 30 days, 60 seconds, both suites, no subject,
    /// no tenant.
    #[must_use]
    pub fn new(trust: &'a Trust, now: u64, audience: &str, expected: Expected<'a>) -> Self {
        Self {
            trust,
            now,
            audiences: vec![audience.to_owned()],
            expected,
            subject: None,
            tenant: None,
            scope: RESTORE.to_owned(),
            max_lifetime: MAX_LIFETIME,
            skew: MAX_SKEW,
            suites: vec![Suite::ChaCha20Poly1305, Suite::Aes256Gcm],
            limits: Limits::default(),
        }
    }

    /// The same for an ancestor of a capsule: what is expected of positions, prompt, banks and capsule
    /// id is said of the tip alone.
    pub(crate) fn of_ancestor(&self) -> Self {
        Self {
            expected: Expected {
                positions: None,
                prefix: None,
                banks: Vec::new(),
                capsule: None,
                session: None,
                ancestor: true,
                ..self.expected.clone()
            },
            ..self.clone()
        }
    }

    /// A policy that judges signature, key and times, and takes from `terms` for whom and what for the
    /// capsule is: for its issuer, and for display. Whoever restores states his own names.
    #[must_use]
    pub fn danger_as_stated(trust: &'a Trust, now: u64, terms: &Terms) -> Self {
        let scope = terms.scope.split(' ').next().unwrap_or_default();
        Self {
            subject: terms.subject.clone(),
            tenant: terms.tenant.clone(),
            scope: scope.to_owned(),
            ..Self::new(trust, now, &terms.audience, Expected::danger_any_model())
        }
    }
}

/// Banks that a model needs in a capsule of one runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Rotary embeddings (KVC-603).
    pub rope: Vec<Rope>,
    /// Banks (KVC-607).
    pub banks: Vec<(Role, u32)>,
    /// Layers of which some bank is needed (KVC-607).
    pub layers: Vec<u32>,
}

/// Says what a model needs in a capsule of a runtime: a function of the runtime's signed name.
pub trait ByRuntime: Sync {
    /// Returns what is needed of the runtime with this name.
    fn needs(&self, runtime: &str) -> Needs;
}

impl<F: Fn(&str) -> Needs + Sync> ByRuntime for F {
    fn needs(&self, runtime: &str) -> Needs {
        self(runtime)
    }
}

/// Rotary embeddings that are known beforehand, or follow from the runtime.
#[derive(Clone, Copy)]
pub(super) enum Ropes<'a> {
    Fixed(&'a [Rope]),
    ByRuntime(&'a dyn ByRuntime),
}

impl std::fmt::Debug for Ropes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(ropes) => write!(f, "{ropes:?}"),
            Self::ByRuntime(_) => f.write_str("by runtime"),
        }
    }
}

/// Things that a capsule must be of. Only what is stated is compared, and the model is stated:
/// there is no default.
///
/// ```compile_fail
/// let any = kvcap::Expected::default();
/// ```
///
/// Who compares no model says so:
///
/// ```
/// let any = kvcap::Expected::danger_any_model();
/// assert!(!any.names_model());
/// ```
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    pub(super) model: Option<(&'a Model, &'a Tokenizer, Ropes<'a>)>,
    /// Whether the capsule is an ancestor, of which no banks are needed.
    pub(super) ancestor: bool,
    /// Runtime by name, and by version where the capsule states one (KVC-608).
    pub runtime: Option<(String, Option<String>)>,
    /// State format, and layout facts that must be among the capsule's (KVC-604).
    pub layout: Option<(String, Vec<(String, String)>)>,
    /// Element types of keys and values, by name (KVC-604).
    pub dtypes: Option<(String, String)>,
    /// Positions that the capsule must hold (KVC-606).
    pub positions: Option<Range<u64>>,
    /// The prompt, and the tenant's key that tells whether the capsule is of it (KVC-605).
    pub prefix: Option<(PrefixValue, &'a PrefixKey)>,
    /// Banks that the model needs (KVC-607).
    pub banks: Vec<(Role, u32)>,
    /// Layers of which the model needs some bank (KVC-607).
    pub layers: Vec<u32>,
    /// The capsule that is meant (KVC-507).
    pub capsule: Option<CapsuleId>,
    /// The session that the capsule must be of (KVC-413).
    pub session: Option<ExpectedSession>,
}

/// A session, and the checkpoint of it that is meant where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedSession {
    /// The session's id.
    pub id: String,
    /// The checkpoint's version.
    pub version: Option<u64>,
    /// The number of the last event that the state has seen.
    pub replay_cursor: Option<u64>,
}

impl<'a> Expected<'a> {
    /// The state of this model, read with this tokenizer and these rotary embeddings.
    #[must_use]
    pub fn of(model: &'a Model, tokenizer: &'a Tokenizer, rope: &'a [Rope]) -> Self {
        Self {
            model: Some((model, tokenizer, Ropes::Fixed(rope))),
            ..Self::danger_any_model()
        }
    }

    /// The state of this model, with the rotary embeddings and the banks that `needs` says of the
    /// capsule's runtime: asked once the signature has verified and the manifest is decoded.
    #[must_use]
    pub fn by_runtime(
        model: &'a Model,
        tokenizer: &'a Tokenizer,
        needs: &'a dyn ByRuntime,
    ) -> Self {
        Self {
            model: Some((model, tokenizer, Ropes::ByRuntime(needs))),
            ..Self::danger_any_model()
        }
    }

    /// The state of any model: for a relay that stores capsules and never restores them. Restoring a
    /// state into a model that was not compared corrupts it silently.
    #[must_use]
    pub fn danger_any_model() -> Self {
        Self {
            model: None,
            ancestor: false,
            runtime: None,
            layout: None,
            dtypes: None,
            positions: None,
            prefix: None,
            banks: Vec::new(),
            layers: Vec::new(),
            capsule: None,
            session: None,
        }
    }

    /// Returns whether a model is stated.
    #[must_use]
    pub fn names_model(&self) -> bool {
        self.model.is_some()
    }
}
