//! Protection from replay and rollback across verifications (registry-v1 §5).
//!
//! A [`Ledger`] holds the rules; a [`Memory`] keeps bytes and knows none of them.

mod memory;

use crate::{
    digest::Digest,
    error::{Code, Error, Result},
    keys::KeyId,
    limits::{MAX_LIFETIME, MAX_SKEW},
    text::show_instant,
    trust::registry::{Mark, Registry},
    wire::claims::Terms,
};

pub use memory::{InMemory, Memory, MemoryTable, Transaction};

/// Longest step of the clock, in seconds, that is remembered before anything was verified (REG-U-1).
const STEP: u64 = 86_400;

/// By how much a wrong clock can be ahead, in seconds, when a use is recorded: a day, and the longest lifetime of
/// a capsule that verifies by it.
const AHEAD: u64 = MAX_LIFETIME + STEP;

/// Memory of a verifier: clock, registries, uses and sessions. Each call is one transaction: it is
/// alone among all threads and processes that share the memory, and what it changes is durable when
/// it returns.
///
/// Every method fails closed: `KVC-940` where the memory fails.
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
        value.ok_or_else(|| {
            Error::new(
                Code::LocalIo,
                "the ledger's memory did not run the transaction",
            )
        })
    }

    /// Returns the time to judge by: `now`, or the latest time seen where the clock lags behind it by no
    /// more than [`MAX_SKEW`] (REG-U-1). Remembers a step forward of no more than a day; a longer one waits for
    /// [`Self::confirm`], so that one wrong reading of a clock does not end the memory.
    ///
    /// # Errors
    /// KVC-412 where the clock went back by more.
    pub fn observe(&self, now: u64) -> Result<u64> {
        self.run(|memory| {
            let latest = latest(memory)?;
            if now.saturating_add(MAX_SKEW) < latest {
                return Err(Error::new(Code::ClaimsClock, "the clock went back").sides(
                    format_args!("at least {}, the latest time seen", show_instant(latest)),
                    show_instant(now),
                ));
            }
            if now > latest && now - latest <= STEP {
                set_clock(memory, now)?;
            }
            Ok(now.max(latest))
        })
    }

    /// Remembers a time at which a capsule was verified, however long the step: somebody who is trusted has
    /// signed that it may be that time (REG-U-1).
    ///
    /// # Errors
    /// KVC-940.
    pub fn confirm(&self, time: u64) -> Result<()> {
        self.run(|memory| match time > latest(memory)? {
            true => set_clock(memory, time),
            false => Ok(()),
        })
    }

    /// Returns the latest time seen; 0 where none was.
    ///
    /// # Errors
    /// KVC-940.
    pub fn latest(&self) -> Result<u64> {
        self.run(|memory| latest(memory))
    }

    /// Sets the latest time seen, also back: what has expired between the two is accepted again. Nothing else
    /// is forgotten.
    ///
    /// # Errors
    /// KVC-940.
    pub fn danger_set_clock(&self, time: u64) -> Result<()> {
        self.run(|memory| set_clock(memory, time))
    }

    /// Returns the newest registry seen of a root.
    ///
    /// # Errors
    /// KVC-940.
    pub fn seen(&self, root: KeyId) -> Result<Option<Mark>> {
        self.run(|memory| mark(memory, root))
    }

    /// Returns the roots of which a registry has been seen (REG-U-2).
    ///
    /// # Errors
    /// KVC-940.
    pub fn roots(&self) -> Result<Vec<KeyId>> {
        let roots = self.run(|memory| memory.registries())?;
        let id = |root: Vec<u8>| root.try_into().map(KeyId).map_err(|_| damaged());
        roots.into_iter().map(id).collect()
    }

    /// Remembers a registry that is the newest or follows it ([`Registry::follows`]).
    ///
    /// # Errors
    /// KVC-309; 314 for statements about roots that were seen and are not followed (REG-M-12).
    pub fn follow(&self, registry: &Registry) -> Result<()> {
        let next = registry.mark();
        self.run(|memory| {
            if let Some(seen) = mark(memory, next.root)? {
                registry.follows(&seen)?;
            }
            if let Some(seen) = marked(memory, MemoryTable::Roots, next.root)? {
                registry.follows_roots(&seen)?;
            }
            if let Some(roots) = registry.roots_mark() {
                put_mark(memory, MemoryTable::Roots, &roots)?;
            }
            put_mark(memory, MemoryTable::Registries, &next)
        })
    }

    /// Returns the newest statement about roots that was seen of the registry that began with this root.
    ///
    /// # Errors
    /// KVC-940.
    pub fn seen_roots(&self, root: KeyId) -> Result<Option<Mark>> {
        self.run(|memory| marked(memory, MemoryTable::Roots, root))
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
                // never earlier than before, should a clock that went back have let an older capsule be used since
                let latest = number(memory, MemoryTable::Forgotten, &[])?.unwrap_or(0);
                let latest = latest.max(to_number(until)?).to_be_bytes();
                memory.put(MemoryTable::Forgotten, &[], &latest)?;
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

/// REG-U-4, REG-U-5.
fn check(memory: &mut dyn Transaction, usage: &Usage) -> Result<()> {
    if let Some((name, until)) = usage.once {
        let refused = |what| Err(Error::new(Code::ClaimsReplayed, what));
        if memory.get(MemoryTable::Used, &name.0)?.is_some() {
            return refused("the capsule's one use is over");
        }
        // only by a clock that was further ahead than any use waits for
        if number(memory, MemoryTable::Forgotten, &[])?.is_some_and(|forgotten| until <= forgotten)
        {
            return refused("the capsule may have been used: uses of its time have been forgotten");
        }
    }
    if let Some((session, found)) = usage.sequence {
        let highest = number(memory, MemoryTable::Sessions, &session.0)?.unwrap_or(0);
        if found < highest {
            let what = "a newer capsule of the session was used already";
            return Err(Error::new(Code::ClaimsSequence, what)
                .sides(format_args!("at least {highest}"), found));
        }
    }
    Ok(())
}

fn latest(memory: &dyn Transaction) -> Result<u64> {
    Ok(number(memory, MemoryTable::Clock, &[])?.unwrap_or(0))
}

fn set_clock(memory: &mut dyn Transaction, time: u64) -> Result<()> {
    memory.put(MemoryTable::Clock, &[], &time.to_be_bytes())
}

fn put_mark(memory: &mut dyn Transaction, table: MemoryTable, mark: &Mark) -> Result<()> {
    let value = [&mark.version.to_be_bytes()[..], &mark.digest.0].concat();
    memory.put(table, &mark.root.0, &value)
}

fn mark(memory: &dyn Transaction, root: KeyId) -> Result<Option<Mark>> {
    marked(memory, MemoryTable::Registries, root)
}

fn marked(memory: &dyn Transaction, table: MemoryTable, root: KeyId) -> Result<Option<Mark>> {
    let Some(value) = memory.get(table, &root.0)? else {
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
    Error::new(
        Code::LocalIo,
        "the ledger is damaged: it holds an entry that no verifier wrote",
    )
}

/// Effect of one use of a capsule on a [`Ledger`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Time of the use.
    pub now: u64,
    /// Name of a single-use capsule among all capsules of all issuers, and the time at which that
    /// may be forgotten: no capsule of that name can be valid any more, even if the clock was ahead
    /// and is set back.
    pub once: Option<(Digest, u64)>,
    /// Name of a numbered capsule's session among all sessions of all issuers, and the capsule's
    /// number.
    pub sequence: Option<(Digest, u64)>,
}

impl Usage {
    /// The use, at `now`, of a capsule with these terms whose body is bound to `ctx` (capsule-v1 §9.1).
    ///
    /// A header under which the body opens has that `ctx`, and with it the same cap: so nothing of this name can
    /// be valid once it may be forgotten (REG-U-4).
    #[must_use]
    pub fn of(ctx: &Digest, terms: &Terms, now: u64) -> Self {
        let until = terms.renew_until.saturating_add(AHEAD);
        let once = || (Digest::labelled("kvcap v1 use", &[&ctx.0]), until);
        let session = || {
            let id = terms.session.as_ref().map(|session| &session.id);
            let parts = [
                Some(&terms.issuer),
                terms.tenant.as_ref(),
                terms.subject.as_ref(),
                id,
            ];
            named("kvcap v1 session", &parts)
        };
        Self {
            now,
            once: terms.single_use.then(once),
            sequence: terms.sequence.map(|number| (session(), number)),
        }
    }
}

/// The issuer is among the parts, so that no issuer can use up another's numbers.
fn named(label: &str, parts: &[Option<&String>]) -> Digest {
    let mut input = Vec::new();
    for part in parts {
        match part {
            None => input.push(0),
            Some(text) => {
                input.push(1);
                input.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                input.extend_from_slice(text.as_bytes());
            }
        }
    }
    Digest::labelled(label, &[&input])
}
