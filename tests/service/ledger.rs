//! The ledger's rules over its file (registry-v1 §5).

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{fs, io::Write, path::Path, sync::Arc};

use kvcap::{
    CapsuleId, Claims, InMemory, KeyId, Ledger, MAX_SKEW, Memory, Registry, Result, Root, RootKey,
    Roots, Terms, Transaction, UntrustedRegistry, Usage, binding::Digest,
};
use kvcap_store::{LedgerFile, LedgerSource};
use tempfile::TempDir;

const NOW: u64 = 1_800_000_000;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn store(&self) -> Ledger {
        LedgerFile::at(self.0.path().join("state")).open().unwrap()
    }
}

/// A place in which a ledger is remembered.
trait Place {
    fn store(&self) -> Ledger;
}

impl Place for Folder {
    fn store(&self) -> Ledger {
        self.store()
    }
}

/// What a process remembers, under several ledgers.
#[derive(Default)]
struct Process(Arc<InMemory>);

impl Memory for Process {
    fn transaction(&self, step: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        self.0.transaction(step)
    }
}

impl Place for Process {
    fn store(&self) -> Ledger {
        Ledger::new(Self(Arc::clone(&self.0)))
    }
}

#[cfg(feature = "shared")]
impl Place for kvcap_store::Shared {
    fn store(&self) -> Ledger {
        self.open().unwrap()
    }
}

/// Every place has the same rules: a file, a process, and with the feature `shared` a database.
fn each(test: impl Fn(&dyn Place)) {
    test(&Folder::new());
    test(&Process::default());
    #[cfg(feature = "shared")]
    {
        let (folder, postgres) = (Folder::new(), kvcap_testkit::Postgres::start());
        let address = folder.0.path().join("database");
        postgres.write_address(&address);
        let bucket = format!("file://{}", folder.0.path().display());
        test(&kvcap_store::Shared::connect(&address, &bucket).unwrap());
    }
}

fn claims(id: u8, issuer: &str, subject: Option<&str>, sequence: Option<u64>) -> Claims {
    let mut terms = Terms::new(issuer, "a", NOW, NOW + 100);
    terms.subject = subject.map(str::to_owned);
    terms.sequence = sequence;
    terms.single_use = sequence.is_none();
    terms.renew_until = terms.expires;
    Claims::new(CapsuleId([id; 16]), KeyId([0; 16]), terms)
}

/// The use of a capsule whose body is bound to its id and issuer, as ctx is.
fn usage(claims: &Claims, now: u64) -> Usage {
    let terms = &claims.terms;
    let parts = [terms.issuer.as_bytes(), &claims.id.0];
    Usage::of(&Digest::labelled("a test's ctx", &parts), terms, now)
}

fn code<T>(result: Result<T>) -> u16 {
    result.err().map_or(0, |error| error.code().number())
}

#[test]
fn the_clock_only_goes_forward() {
    each(|folder| {
        folder.store().confirm(NOW).unwrap();
        assert_eq!(folder.store().observe(NOW + 9).unwrap(), NOW + 9);
        // a clock that lags a little does not bring back what has expired
        assert_eq!(folder.store().observe(NOW + 9 - MAX_SKEW).unwrap(), NOW + 9);
        assert_eq!(code(folder.store().observe(NOW + 8 - MAX_SKEW)), 412);
        assert_eq!(folder.store().observe(NOW + 10).unwrap(), NOW + 10);
    });
}

#[test]
fn one_use_is_one_use() {
    each(|folder| {
        let first = usage(&claims(1, "acme", None, None), NOW);
        let store = folder.store();
        assert_eq!(code(store.check(&first)), 0);
        assert_eq!(code(store.record(&first)), 0);
        assert_eq!(code(store.record(&first)), 410);
        assert_eq!(code(store.check(&first)), 410);
        // nobody uses up another's capsule
        let other = usage(&claims(1, "other", None, None), NOW);
        assert_eq!(code(store.record(&other)), 0);
        drop(store);
        let store = folder.store();
        assert_eq!(code(store.record(&first)), 410);
        // forgotten 31 days after its cap, by whatever comes next
        let late = usage(&claims(2, "acme", None, None), NOW + 31 * 86_400 + 99);
        assert_eq!(code(store.record(&late)), 0);
        assert_eq!(code(store.check(&first)), 410);
        let later = usage(&claims(3, "acme", None, None), NOW + 31 * 86_400 + 100);
        assert_eq!(code(store.record(&later)), 0);
        assert_eq!(
            code(store.check(&first)),
            410,
            "what was forgotten does not come back, should the clock be set back"
        );
    });
}

/// Found by a fuzz target: an older capsule, used while the clock was set back, took the memory of the newer one with it.
#[test]
fn what_was_forgotten_stays_so_when_an_older_use_is() {
    each(|folder| {
        let store = folder.store();
        let first = usage(&claims(1, "acme", None, None), NOW);
        assert_eq!(code(store.record(&first)), 0);
        let (_, until) = first.once.unwrap();
        let mut older = usage(&claims(2, "acme", None, None), until);
        older.once.as_mut().unwrap().1 = until - 50;
        assert_eq!(code(store.record(&older)), 0, "and the first is forgotten");
        let other = usage(&claims(3, "acme", None, None), until);
        assert_eq!(
            code(store.record(&other)),
            410,
            "of the time of what was forgotten"
        );
        let mut newer = usage(&claims(4, "acme", None, None), until);
        newer.once.as_mut().unwrap().1 = until + 50;
        assert_eq!(
            code(store.record(&newer)),
            0,
            "and the older one is forgotten"
        );
        assert_eq!(code(store.check(&first)), 410);
    });
}

#[test]
fn a_session_does_not_go_back() {
    each(|folder| {
        let store = folder.store();
        let at = |issuer, subject, number| {
            code(store.record(&usage(&claims(1, issuer, subject, Some(number)), NOW)))
        };
        assert_eq!(at("acme", Some("ana"), 3), 0);
        assert_eq!(at("acme", Some("ana"), 3), 0, "the same state again");
        assert_eq!(at("acme", Some("ana"), 2), 411);
        assert_eq!(at("acme", Some("ana"), 7), 0);
        assert_eq!(at("acme", Some("ana"), 6), 411);
        // other sessions have their own numbers
        assert_eq!(at("acme", Some("bob"), 1), 0);
        assert_eq!(at("acme", None, 1), 0);
        assert_eq!(at("other", Some("ana"), 1), 0);
        assert_ne!(
            usage(&claims(1, "a", Some("bc"), Some(1)), NOW).sequence,
            usage(&claims(1, "ab", Some("c"), Some(1)), NOW).sequence
        );
    });
}

#[test]
fn registries_are_remembered_by_root() {
    each(|folder| {
        let store = folder.store();
        let (one, two) = (RootKey::from_seed(&[1; 32]), RootKey::from_seed(&[2; 32]));
        let read = |bytes: &[u8], root: &RootKey| {
            let untrusted = UntrustedRegistry::read(bytes).unwrap();
            untrusted.verify(&root.public(), NOW).unwrap()
        };
        let first = read(&Registry::first(&one, NOW, NOW + 9).unwrap(), &one);
        let second = read(&first.next(&[], &one, NOW, NOW + 9).unwrap(), &one);
        let third = read(&second.next(&[], &one, NOW, NOW + 9).unwrap(), &one);
        let other = read(&Registry::first(&two, NOW, NOW + 9).unwrap(), &two);
        assert_eq!(store.seen(one.public().id()).unwrap(), None);
        assert_eq!(code(store.follow(&second)), 0);
        assert_eq!(code(store.follow(&first)), 309);
        assert_eq!(code(store.follow(&second)), 0);
        assert_eq!(code(store.follow(&other)), 0);
        drop(store);
        let store = folder.store();
        assert_eq!(code(store.follow(&third)), 0);
        assert_eq!(code(store.follow(&second)), 309);
        assert_eq!(store.seen(one.public().id()).unwrap(), Some(third.mark()));
        let mut known = [one.public().id(), two.public().id()];
        known.sort();
        assert_eq!(store.roots().unwrap(), known);
        // its statements about roots too
        assert_eq!(store.seen_roots(one.public().id()).unwrap(), None);
        let root = Root::new(*one.public().key().unwrap(), None);
        let roots = Roots::next(&third, 1, vec![root], Vec::new(), NOW, NOW + 9).unwrap();
        let mut proposal = third.propose(&[], Some(&roots), NOW, NOW + 9).unwrap();
        proposal.sign(&one).unwrap();
        let fourth = proposal.complete(&one.public()).unwrap();
        assert_eq!(code(store.follow(&fourth)), 0);
        let seen = store.seen_roots(one.public().id()).unwrap();
        assert_eq!(seen, fourth.roots_mark());
        assert_eq!(seen.unwrap().version, 1);
    });
}

/// One wrong reading is judged by and forgotten, unless something was verified by it (REG-U-1).
#[test]
fn a_leap_of_the_clock_waits_for_a_capsule() {
    const DAY: u64 = 86_400;
    each(|folder| {
        let store = folder.store();
        assert_eq!(store.observe(NOW).unwrap(), NOW);
        assert_eq!(store.latest().unwrap(), 0, "nothing has been verified yet");
        store.confirm(NOW).unwrap();
        for wrong in [NOW + DAY + 1, NOW + 365 * DAY, u64::MAX] {
            assert_eq!(store.observe(wrong).unwrap(), wrong);
            assert_eq!(store.observe(NOW).unwrap(), NOW);
        }
        assert_eq!(store.observe(NOW + DAY).unwrap(), NOW + DAY);
        assert_eq!(code(store.observe(NOW)), 412);
        let later = NOW + 40 * DAY;
        store.confirm(later).unwrap();
        assert_eq!(code(store.observe(NOW + DAY)), 412);
        // an earlier time changes nothing
        store.confirm(NOW).unwrap();
        assert_eq!(store.latest().unwrap(), later);
        store.danger_set_clock(NOW).unwrap();
        assert_eq!(store.observe(NOW).unwrap(), NOW);
    });
}

#[test]
fn a_damaged_memory_is_not_replaced() {
    let folder = Folder::new();
    let path = folder.0.path().join("state");
    for content in [&b""[..], b"not a memory", &[0; 8192]] {
        put(&path, content);
        assert_eq!(code(LedgerFile::at(path.clone()).open()), 940);
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

/// Every bit and every cut of a memory with something in each table.
#[test]
fn every_damage_of_a_memory_is_noticed() {
    let folder = Folder::new();
    let path = folder.0.path().join("state");
    let store = folder.store();
    let root = RootKey::from_seed(&[1; 32]);
    let registry = Registry::first(&root, NOW, NOW + 9).unwrap();
    let registry = UntrustedRegistry::read(&registry).unwrap();
    store
        .follow(&registry.verify(&root.public(), NOW).unwrap())
        .unwrap();
    store.confirm(NOW).unwrap();
    let once = usage(&claims(1, "acme", None, None), NOW);
    store.record(&once).unwrap();
    store
        .record(&usage(&claims(2, "acme", None, Some(7)), NOW))
        .unwrap();
    drop(store);
    let whole = fs::read(&path).unwrap();
    let file = LedgerFile::at(path.clone());
    let mut damaged = whole.clone();
    for at in 0..whole.len() {
        for bit in 0..8 {
            damaged[at] ^= 1 << bit;
            put(&path, &damaged);
            assert_eq!(code(file.open()), 940, "bit {bit} of byte {at}");
            assert_eq!(fs::read(&path).unwrap(), damaged);
            damaged[at] ^= 1 << bit;
        }
        put(&path, &whole[..at]);
        assert_eq!(code(file.open()), 940, "cut at {at}");
    }
    damaged.push(0);
    put(&path, &damaged);
    assert_eq!(code(file.open()), 940, "one byte more");
    put(&path, &whole);
    assert_eq!(code(file.open().unwrap().record(&once)), 410);
    let held = file.remembered().unwrap();
    assert_eq!((held.latest, held.uses, held.sessions), (NOW, 1, 1));
    assert_eq!(held.registries.len(), 1);
}

/// Writes a file that its owner alone may open.
fn put(path: &Path, content: &[u8]) {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).unwrap().write_all(content).unwrap();
}
