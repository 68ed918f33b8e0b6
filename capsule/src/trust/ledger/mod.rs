//! Protection from replay and rollback across verifications (registry-v1 §5).
//!
//! A [`Ledger`] holds the rules; a [`Memory`] keeps bytes and knows none of them.

mod memory;

use crate::{
    digest::Digest,
    error::{Code, Error, Result},
    keys::KeyId,
    limits::MAX_SKEW,
    trust::registry::{Mark, Registry},
    wire::claims::{Claims, Terms},
};

pub use memory::{InMemory, Memory, MemoryTable, Transaction};

/// What a verifier remembers: clock, registries, uses and sessions. Each call is one transaction of its
/// memory: it is alone among all threads and processes that share that, and what it changes is durable
/// when it returns.
///
/// `KVC-940` where the memory fails is an error of every method: who cannot remember refuses.
pub struct Ledger(Box<dyn Memory>);

impl Ledger {
    /// A ledger over a memory.
    pub fn new(memory: impl Memory + 'static) -> Self {
        Self(Box::new(memory))
    }

    fn run<T>(&self, mut step: impl FnMut(&mut dyn Transaction) -> Result<T>) -> Result<T> {
        let mut value = None;
        self.0.transaction(&mut |transaction| {
            value = Some(step(transaction)?);
            Ok(())
        })?;
        value.ok_or_else(|| Error::new(Code::LocalIo, "the memory has run no transaction"))
    }

    /// Returns the time to judge by: `now`, or the latest time seen where the clock lags behind it by no
    /// more than [`MAX_SKEW`]. Remembers it (U-1).
    ///
    /// # Errors
    /// KVC-412 where the clock went back by more.
    pub fn observe(&self, now: u64) -> Result<u64> {
        self.run(|memory| {
            let latest = number(memory, MemoryTable::Clock, &[])?.unwrap_or(0);
            if now.saturating_add(MAX_SKEW) < latest {
                return Err(Error::new(Code::ClaimsClock, "the clock went back")
                    .sides(format_args!("at least {latest}, the latest time seen"), now));
            }
            let time = now.max(latest);
            memory.put(MemoryTable::Clock, &[], &time.to_be_bytes())?;
            Ok(time)
        })
    }

    /// Returns the newest registry seen of a root.
    ///
    /// # Errors
    /// KVC-940.
    pub fn seen(&self, root: KeyId) -> Result<Option<Mark>> {
        self.run(|memory| mark(memory, root))
    }

    /// Remembers a registry that is the newest or follows it ([`Registry::follows`]).
    ///
    /// # Errors
    /// KVC-309.
    pub fn follow(&self, registry: &Registry) -> Result<()> {
        let next = registry.mark();
        self.run(|memory| {
            if let Some(seen) = mark(memory, next.root)? {
                registry.follows(&seen)?;
            }
            let value = [&next.version.to_be_bytes()[..], &next.digest.0].concat();
            memory.put(MemoryTable::Registries, &next.root.0, &value)
        })
    }

    /// Refuses a capsule that may no longer be used; remembers nothing.
    ///
    /// # Errors
    /// KVC-410 where its one use is over, 411 where its session has gone past it.
    pub fn check(&self, usage: &Usage) -> Result<()> {
        self.run(|memory| check(memory, usage))
    }

    /// Remembers the use of a capsule that may still be used, and forgets uses of capsules that have
    /// expired.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn record(&self, usage: &Usage) -> Result<()> {
        self.run(|memory| {
            check(memory, usage)?;
            while let Some(key) = memory.first(MemoryTable::Forget)? {
                let (until, name) = key.split_at_checked(8).ok_or_else(damaged)?;
                if to_number(until)? > usage.now {
                    break;
                }
                memory.remove(MemoryTable::Used, name)?;
                memory.remove(MemoryTable::Forget, &key)?;
            }
            if let Some((name, until)) = usage.once {
                let until = until.to_be_bytes();
                memory.put(MemoryTable::Used, &name.0, &until)?;
                let key = [&until[..], &name.0].concat();
                memory.put(MemoryTable::Forget, &key, &[])?;
            }
            if let Some((session, number)) = usage.sequence {
                memory.put(MemoryTable::Sessions, &session.0, &number.to_be_bytes())?;
            }
            Ok(())
        })
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ledger")
    }
}

/// U-4, U-5.
fn check(memory: &mut dyn Transaction, usage: &Usage) -> Result<()> {
    if let Some((name, _)) = usage.once
        && memory.get(MemoryTable::Used, &name.0)?.is_some()
    {
        return Err(Error::new(
            Code::ClaimsReplayed,
            "the capsule's one use is over",
        ));
    }
    if let Some((session, found)) = usage.sequence {
        let highest = number(memory, MemoryTable::Sessions, &session.0)?.unwrap_or(0);
        if found < highest {
            let what = "the session has gone past this capsule";
            return Err(Error::new(Code::ClaimsSequence, what)
                .sides(format_args!("at least {highest}"), found));
        }
    }
    Ok(())
}

fn mark(memory: &dyn Transaction, root: KeyId) -> Result<Option<Mark>> {
    let Some(value) = memory.get(MemoryTable::Registries, &root.0)? else {
        return Ok(None);
    };
    let (version, digest) = value.split_at_checked(8).ok_or_else(damaged)?;
    Ok(Some(Mark {
        root,
        version: to_number(version)?,
        digest: Digest(digest.try_into().map_err(|_| damaged())?),
    }))
}

fn number(memory: &dyn Transaction, table: MemoryTable, key: &[u8]) -> Result<Option<u64>> {
    let value = memory.get(table, key)?;
    value.map(|value| to_number(&value)).transpose()
}

fn to_number(bytes: &[u8]) -> Result<u64> {
    let bytes = bytes.try_into().map_err(|_| damaged())?;
    Ok(u64::from_be_bytes(bytes))
}

fn damaged() -> Error {
    Error::new(Code::LocalIo, "the memory holds what no ledger put there")
}

/// What a use of a capsule means to a [`Ledger`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
            let parts = [&terms.tenant, &terms.subject];
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
