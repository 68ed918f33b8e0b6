//! Checks that were left out, by name (capsule-v1 §3.2, CAP-V-12).

use std::{collections::BTreeSet, fmt, str::FromStr};

use crate::{
    error::{Code, Error, Result},
    manifest::Manifest,
    verify::policy::Expected,
};

macro_rules! unchecked {
    ($($(#[$doc:meta])* $variant:ident $name:literal;)*) => {
        /// A check that was left out, because its caller did not say what to expect, because the capsule
        /// does not say it, or because it has not come to it yet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Unchecked {
            $($(#[$doc])* $variant,)*
        }

        impl Unchecked {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns its name: `model`, `runtime-version`, …
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

unchecked! {
    /// No model was given to compare with.
    Model "model";
    /// No prompt was given to compare with.
    Prompt "prompt";
    /// No tenant was named, or the capsule names none.
    Tenant "tenant";
    /// No subject was named, or the capsule names none.
    Subject "subject";
    /// The capsule is a checkpoint of a session, and which one, by id, version and replay cursor, was not named.
    Session "session";
    /// The capsule continues others that were not found.
    Ancestors "ancestors";
    /// Nothing is remembered: clock, registry versions, uses and sequences may be old ones.
    Freshness "freshness";
    /// No version of the runtime was given, or the capsule states none.
    RuntimeVersion "runtime-version";
    /// The capsule does not say to which context length its runtime was set.
    ContextSize "context-size";
    /// The prefill was speculative or skipped tokens (capsule-v1 §6).
    SpeculativePrefill "speculative-prefill";
    /// Multi-token prediction was active (capsule-v1 §6).
    MultiTokenPrediction "multi-token-prediction";
    /// Attention ran on a quantized cache (capsule-v1 §6).
    QuantizedAttention "quantized-attention";
    /// The body was not read.
    Body "body";
}

impl fmt::Display for Unchecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Unchecked {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|check| check.name() == name);
        found.copied().ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|check| check.name()).collect();
            Error::new(Code::LocalUsage, "there is no such check").sides(names.join(", "), name)
        })
    }
}

/// Statements and memory of a verifier, as far as they decide which checks are left out.
#[derive(Clone, Copy, Debug)]
pub struct Stated<'a> {
    /// Things that the state must be of.
    pub expected: &'a Expected<'a>,
    /// A tenant is stated.
    pub tenant: bool,
    /// A subject is stated.
    pub subject: bool,
    /// There is a memory.
    pub memory: bool,
}

impl Unchecked {
    /// Returns what a header leaves unchecked for who states this: of ancestors and body, which are not in
    /// it, all.
    #[must_use]
    pub fn of_header(manifest: &Manifest, stated: Stated<'_>) -> BTreeSet<Self> {
        let (context, terms) = (&manifest.context, &manifest.claims.terms);
        let expected = stated.expected;
        let version = expected.runtime.as_ref().and_then(|named| named.1.as_ref());
        let session = expected.session.as_ref();
        let left_out = [
            (Self::Model, !expected.names_model()),
            (Self::Prompt, expected.prefix.is_none()),
            (Self::Tenant, !stated.tenant || terms.tenant.is_none()),
            (Self::Subject, !stated.subject || terms.subject.is_none()),
            (
                Self::Session,
                terms.session.is_some()
                    && session.is_none_or(|s| s.version.is_none() || s.replay_cursor.is_none()),
            ),
            (Self::Ancestors, context.parent.is_some()),
            (Self::Freshness, !stated.memory),
            (
                Self::RuntimeVersion,
                version.is_none() || context.runtime.version.is_empty(),
            ),
            (Self::ContextSize, context.context_length == 0),
            (Self::Body, true),
        ];
        left_out
            .into_iter()
            .filter_map(|(check, left_out)| left_out.then_some(check))
            .chain(Self::of_capture(manifest))
            .collect()
    }

    /// Returns the flags of an unusual capture that are set (capsule-v1 §6).
    pub fn of_capture(manifest: &Manifest) -> impl Iterator<Item = Self> {
        let flags = manifest.context.flags;
        [
            (Self::SpeculativePrefill, flags.speculative_prefill),
            (Self::MultiTokenPrediction, flags.multi_token_prediction),
            (Self::QuantizedAttention, flags.quantized_attention),
        ]
        .into_iter()
        .filter_map(|(check, set)| set.then_some(check))
    }
}
