//! What a verifier remembers from one capsule to the next, so that nothing old is new again
//! (registry-v1 §5).

use crate::{
    digest::Digest,
    error::{Code, Error, Result},
    keys::KeyId,
    limits::MAX_SKEW,
    trust::registry::{Mark, Registry},
    wire::claims::{Claims, Terms},
};

/// A memory of clock, registries, uses and sessions. Each call is one transaction: it is alone among all
/// threads and processes that share the memory, and what it changes is durable when it returns.
///
/// `KVC-940` where the memory fails is an error of every method: who cannot remember refuses.
pub trait Ledger {
    /// The time to judge by: `now`, or the latest time seen where the clock lags behind it by no more
    /// than [`MAX_SKEW`]. Remembers it.
    ///
    /// # Errors
    /// KVC-412 where the clock went back by more.
    fn observe(&self, now: u64) -> Result<u64>;

    /// The newest registry seen of a root.
    ///
    /// # Errors
    /// KVC-940.
    fn seen(&self, root: KeyId) -> Result<Option<Mark>>;

    /// Remembers a registry that is the newest or follows it ([`Registry::follows`]).
    ///
    /// # Errors
    /// KVC-309.
    fn follow(&self, registry: &Registry) -> Result<()>;

    /// Whether a capsule may still be used; remembers nothing.
    ///
    /// # Errors
    /// KVC-410 where its one use is over, 411 where its session has gone past it.
    fn check(&self, usage: &Usage) -> Result<()>;

    /// Remembers the use of a capsule that may still be used.
    ///
    /// # Errors
    /// As [`Self::check`].
    fn record(&self, usage: &Usage) -> Result<()>;
}

/// What a use of a capsule means to a [`Ledger`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// When it is used.
    pub now: u64,
    /// Where the capsule is for one use: its name among all capsules of all issuers, and the first second
    /// at which no capsule of that name can be valid any more.
    pub once: Option<(Digest, u64)>,
    /// Where it is numbered: its session's name among all sessions of all issuers, and its number.
    pub sequence: Option<(Digest, u64)>,
}

impl Usage {
    /// The use of a verified capsule with these claims at `now`.
    #[must_use]
    pub fn of(claims: &Claims, now: u64) -> Self {
        let terms = &claims.terms;
        let once = || {
            let name = named("kvcap v1 use", terms, &[Some(&claims.id.0)]);
            // what is for one use is not renewed past this
            (name, terms.expires)
        };
        let session = || {
            let parts = [&terms.organisation, &terms.subject];
            let parts = parts.map(|part| part.as_deref().map(str::as_bytes));
            named("kvcap v1 session", terms, &parts)
        };
        Self {
            now,
            once: terms.single_use.then(once),
            sequence: terms.sequence.map(|number| (session(), number)),
        }
    }
}

/// Issuer and further parts, so that no issuer can use up another's names.
fn named(label: &str, terms: &Terms, parts: &[Option<&[u8]>]) -> Digest {
    let mut input = Vec::new();
    for part in [Some(terms.issuer.as_bytes())].iter().chain(parts) {
        match part {
            None => input.push(0),
            Some(bytes) => {
                input.push(1);
                input.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
                input.extend_from_slice(bytes);
            }
        }
    }
    Digest::labelled(label, &[&input])
}

/// U-1.
#[cfg_attr(
    not(feature = "store"),
    allow(dead_code, reason = "the store keeps to it")
)]
pub(crate) fn clock(now: u64, latest: u64) -> Result<u64> {
    if now.saturating_add(MAX_SKEW) < latest {
        return Err(Error::new(Code::ClaimsClock, "the clock went back")
            .sides(format_args!("at least {latest}, the latest time seen"), now));
    }
    Ok(now.max(latest))
}

/// U-4.
#[cfg_attr(
    not(feature = "store"),
    allow(dead_code, reason = "the store keeps to it")
)]
pub(crate) fn used() -> Error {
    Error::new(Code::ClaimsReplayed, "the capsule's one use is over")
}

/// U-5.
#[cfg_attr(
    not(feature = "store"),
    allow(dead_code, reason = "the store keeps to it")
)]
pub(crate) fn sequence(number: u64, highest: u64) -> Result<()> {
    match number < highest {
        true => Err(Error::new(
            Code::ClaimsSequence,
            "the session has gone past this capsule",
        )
        .sides(format_args!("at least {highest}"), number)),
        false => Ok(()),
    }
}
