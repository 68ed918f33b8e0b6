//! One use is one use: every history of a capsule for one use, explored whole (registry-v1 §5, REG-U-4).
//!
//! Time goes in steps; in each, the capsule's headers that are about may be renewed and used, a copy may be
//! used by a clock that lags, and other capsules are used, which lets the ledger forget, also by a clock that is
//! ahead and is set back. Headers, their
//! validity and what their use means come from the library over real capsules; the ledger is the library's.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a test that meets what it does not expect fails"
)]

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    io::Cursor,
    sync::{Arc, Mutex},
};

use kvcap::{
    Expected, Ledger, Limits, MAX_LIFETIME, MAX_SKEW, Memory, MemoryTable, Policy, Reissuer,
    Renewal, Result, Rewrap, SigningKey, Transaction, Trust, TrustedKey, Untrusted, Usage,
    Verified, WrappingKey, binding::Digest,
};
use kvcap_testvectors::fixture::{self, Capsule, NOW};

/// Seconds of a step of time: more than clocks may differ.
const STEP: u64 = 100;
/// The last step at which a header of the capsule can be valid, and how far histories go.
const CAP: usize = 4;
const END: usize = CAP + 2;
/// Headers that are about at once.
const HEADERS: usize = 3;

type Rows = BTreeMap<(MemoryTable, Vec<u8>), Vec<u8>>;

/// A memory that can be put back to what it was.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Rows>>);

struct Open(Rows);

impl Memory for Kept {
    fn transaction(&self, step: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        let mut rows = self.0.lock().unwrap();
        let mut open = Open(rows.clone());
        step(&mut open)?;
        *rows = open.0;
        Ok(())
    }
}

impl Transaction for Open {
    fn get(&self, table: MemoryTable, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn first(&self, table: MemoryTable) -> Result<Option<Vec<u8>>> {
        let mut rows = self.0.keys().filter(|(of, _)| *of == table);
        Ok(rows.next().map(|(_, key)| key.clone()))
    }

    fn registries(&self) -> Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }

    fn put(&mut self, table: MemoryTable, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.insert((table, key.to_vec()), value.to_vec());
        Ok(())
    }

    fn remove(&mut self, table: MemoryTable, key: &[u8]) -> Result<()> {
        self.0.remove(&(table, key.to_vec()));
        Ok(())
    }
}

/// A step's first second.
fn at(step: usize) -> u64 {
    NOW + STEP * step as u64
}

fn signer() -> SigningKey {
    SigningKey::from_seed(&fixture::SIGN_SEED)
}

fn trust() -> Trust {
    TrustedKey::new(signer().public(), fixture::ISSUER).into()
}

fn verified(file: &[u8], now: u64) -> Result<Verified> {
    let trust = trust();
    let mut policy = Policy::new(&trust, now, fixture::AUDIENCE, Expected::danger_any_model());
    policy.subject = Some(fixture::SUBJECT.to_owned());
    policy.tenant = Some(fixture::TENANT.to_owned());
    Untrusted::read_at(&file, &Limits::default())?.verify(&policy)
}

/// A capsule for one use that ends with step `end`, and with `cap` at the latest.
fn sealed(seed: &str, end: usize, cap: usize) -> Vec<u8> {
    let mut terms = fixture::terms();
    (terms.issued_at, terms.not_before) = (at(0), at(0));
    (terms.expires, terms.renew_until) = (at(end), at(cap));
    (terms.single_use, terms.sequence) = (true, None);
    let context = fixture::context();
    let plain = fixture::contents(&context);
    let Capsule { file, .. } = fixture::seal(
        seed,
        terms,
        context,
        plain,
        &[],
        &[fixture::WRAP_KEY],
        Vec::new(),
    );
    file
}

fn renewed(file: &[u8], step: usize, end: usize) -> Result<Vec<u8>> {
    let (signer, trust) = (signer(), trust());
    let by = Reissuer::new(&signer, &trust, at(step));
    let header = verified(file, at(step))?.renew(&Renewal::until(at(end)), &by)?;
    let mut out = Cursor::new(Vec::new());
    header.write(&mut Cursor::new(file), &mut out)?;
    Ok(out.into_inner())
}

/// What is known of a header: when it verifies, and what its use means.
struct Header {
    valid: Vec<bool>,
    usage: Usage,
}

impl Header {
    fn of(file: &[u8]) -> Self {
        let valid = (0..END).map(|step| verified(file, at(step)).is_ok());
        let valid: Vec<bool> = valid.collect();
        let first = valid.iter().position(|valid| *valid).unwrap();
        Self {
            usage: verified(file, at(first)).unwrap().usage(0),
            valid,
        }
    }
}

/// By when they were signed and when they end.
type Headers = BTreeMap<(usize, usize), Header>;

/// Every header that the capsule can have.
fn headers() -> Headers {
    let file = sealed("one use", 2, CAP);
    let mut all = BTreeMap::from([((0, 2), Header::of(&file))]);
    for end in 1..=CAP {
        // signed while the first is valid
        let early = renewed(&file, 0, end).unwrap();
        all.entry((0, end)).or_insert_with(|| Header::of(&early));
        for step in 1..end {
            // what was renewed to the cap can be renewed at any step before
            let longest = renewed(&file, 0, CAP).unwrap();
            let file = renewed(&longest, step, end).unwrap();
            all.insert((step, end), Header::of(&file));
        }
    }
    assert!(renewed(&file, 0, CAP + 1).is_err(), "past the cap");
    all
}

/// A row of the memory: its table and key, and what stands there.
type Row = ((MemoryTable, Vec<u8>), Vec<u8>);

/// A moment of a history.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Moment {
    step: usize,
    about: Vec<(usize, usize)>,
    memory: Vec<Row>,
    uses: usize,
}

impl Moment {
    /// Uses a header by a clock that lags by `lag` seconds; gives what follows where the ledger lets it.
    fn used(&self, header: &Header, lag: u64) -> Option<Self> {
        let kept = Kept::default();
        *kept.0.lock().unwrap() = self.memory.iter().cloned().collect();
        let ledger = Ledger::new(kept.clone());
        let now = ledger.observe(at(self.step) - lag).ok()?;
        let step = usize::try_from((now - NOW) / STEP).unwrap();
        if !header.valid.get(step).is_some_and(|valid| *valid) {
            return None;
        }
        let mut usage = header.usage.clone();
        usage.now = now;
        ledger.check(&usage).ok()?;
        ledger.record(&usage).ok()?;
        let memory = kept.0.lock().unwrap().clone().into_iter().collect();
        Some(Self {
            memory,
            uses: self.uses + 1,
            ..self.clone()
        })
    }

    /// Another capsule is used: what may be forgotten is.
    fn passed(&self, other: &Header) -> Self {
        self.used(other, 0).map_or_else(
            || self.clone(),
            |next| Self {
                uses: self.uses,
                ..next
            },
        )
    }

    /// The same by a clock that is ahead by `by` seconds, and is set back afterwards.
    fn leapt(&self, other: &Header, by: u64, keeps: Keeps) -> Self {
        let kept = Kept::default();
        *kept.0.lock().unwrap() = self.memory.iter().cloned().collect();
        let ledger = Ledger::new(kept.clone());
        let now = ledger.observe(at(self.step) + by).unwrap();
        ledger.confirm(now).unwrap();
        let mut usage = other.usage.clone();
        usage.now = now;
        let _used_before = ledger.record(&usage);
        ledger.danger_set_clock(at(self.step)).unwrap();
        let mut memory: Vec<Row> = kept.0.lock().unwrap().clone().into_iter().collect();
        if keeps == Keeps::NotWhatItForgot {
            memory.retain(|((table, _), _)| *table != MemoryTable::Forgotten);
        }
        Self {
            memory,
            ..self.clone()
        }
    }
}

/// What the memory keeps of the uses that it has forgotten.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    UntilWhen,
    NotWhatItForgot,
}

/// Explores every history; gives the moments seen, or a history's moment with two uses.
fn explore(
    headers: &Headers,
    others: &[Header],
    keeps: Keeps,
) -> std::result::Result<usize, usize> {
    let start = Moment {
        step: 0,
        about: vec![(0, 2)],
        memory: Vec::new(),
        uses: 0,
    };
    let (mut seen, mut next) = (HashSet::new(), VecDeque::from([start]));
    while let Some(moment) = next.pop_front() {
        if moment.uses > 1 {
            return Err(moment.step);
        }
        if !seen.insert(moment.clone()) {
            continue;
        }
        if moment.step + 1 < END {
            next.push_back(Moment {
                step: moment.step + 1,
                ..moment.clone()
            });
        }
        if let Some(other) = others.get(moment.step) {
            next.push_back(moment.passed(other));
            // a day that nobody has signed, the lifetime of a capsule that verifies by it, and one whose
            // issuer's clock was wrong too
            let leaps = [86_400, MAX_LIFETIME, 400 * 86_400];
            next.extend(leaps.map(|by| moment.leapt(other, by, keeps)));
        }
        for from in &moment.about {
            let header = &headers[from];
            next.extend(moment.used(header, 0));
            if moment.step > 0 {
                next.extend(moment.used(header, MAX_SKEW));
            }
            if !header.valid[moment.step] || moment.about.len() == HEADERS {
                continue;
            }
            for end in moment.step + 1..=CAP {
                let new = (moment.step, end);
                if !moment.about.contains(&new) {
                    let mut about = moment.about.clone();
                    about.push(new);
                    about.sort_unstable();
                    next.push_back(Moment {
                        about,
                        ..moment.clone()
                    });
                }
            }
        }
    }
    Ok(seen.len())
}

/// A capsule of its own for each step, whose use lets the ledger forget.
fn others() -> Vec<Header> {
    let of = |step: usize| Header::of(&sealed(&format!("another {step}"), step + 1, step + 1));
    (0..END).map(of).collect()
}

#[test]
fn no_history_gives_a_second_use() {
    let headers = headers();
    let names: HashSet<Digest> = headers
        .values()
        .map(|header| header.usage.once.unwrap().0)
        .collect();
    assert_eq!(names.len(), 1, "one capsule, one use");
    for ((_, end), header) in &headers {
        assert!(header.usage.once.unwrap().1 >= at(*end));
    }
    let moments = explore(&headers, &others(), Keeps::UntilWhen).unwrap();
    assert!(moments > 3000, "{moments} moments");
}

/// What was wrong once: a use was remembered until the copy's own `exp`.
#[test]
fn the_exploration_finds_a_use_that_is_forgotten_too_early() {
    let mut headers = headers();
    for ((_, end), header) in &mut headers {
        let once = header.usage.once.as_mut().unwrap();
        once.1 = at(*end);
    }
    assert!(explore(&headers, &others(), Keeps::UntilWhen).is_err());
}

/// What was wrong once: a use was forgotten by a clock that was ahead by more than any use waits for.
#[test]
fn the_exploration_finds_a_use_that_a_clock_ahead_forgets() {
    let found = explore(&headers(), &others(), Keeps::NotWhatItForgot);
    assert!(found.is_err());
}

/// What was wrong once: what is for one use was known by a name that a new header could change.
#[test]
fn the_exploration_finds_a_use_that_a_new_header_renames() {
    let mut headers = headers();
    for (at, header) in &mut headers {
        let once = header.usage.once.as_mut().unwrap();
        once.0 = fixture::digest(&format!("{at:?}"));
    }
    assert!(explore(&headers, &others(), Keeps::UntilWhen).is_err());
}

#[test]
fn new_recipients_are_no_new_use() {
    let file = sealed("rewrapped", 2, CAP);
    let (signer, trust) = (signer(), trust());
    let by = Reissuer::new(&signer, &trust, at(0));
    let [key, other] = [fixture::WRAP_KEY, fixture::OTHER_WRAP].map(WrappingKey::from_bytes);
    let to = [(&other).into()];
    let old = verified(&file, at(0)).unwrap();
    let new = old.rewrap(&key, &Rewrap::to(&to), &by).unwrap();
    assert_eq!(new.verified().usage(NOW), old.usage(NOW));
}
