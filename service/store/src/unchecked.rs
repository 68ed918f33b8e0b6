//! Checks that were left out, by name.

use std::{fmt, str::FromStr};

use kvcap::{Code, Error, Manifest, Result, Terms};

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

/// The flags of an unusual capture that are set (capsule-v1 §6).
pub(crate) fn capture(manifest: &Manifest) -> impl Iterator<Item = Unchecked> {
    let flags = manifest.context.flags;
    [
        (Unchecked::SpeculativePrefill, flags.speculative_prefill),
        (
            Unchecked::MultiTokenPrediction,
            flags.multi_token_prediction,
        ),
        (Unchecked::QuantizedAttention, flags.quantized_attention),
    ]
    .into_iter()
    .filter_map(|(check, set)| set.then_some(check))
}

/// The name that a capsule lacks, of those that have to be there.
pub(crate) fn nobodys(tenant: bool, subject: bool, terms: &Terms) -> Option<Unchecked> {
    match (&terms.tenant, &terms.subject) {
        (None, _) if tenant => Some(Unchecked::Tenant),
        (_, None) if subject => Some(Unchecked::Subject),
        _ => None,
    }
}
