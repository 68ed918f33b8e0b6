//! The ledger's rules over its file (registry-v1 §5).

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{fs, path::PathBuf};

use kvcap::{
    CapsuleId, Claims, KeyId, Ledger, MAX_SKEW, Registry, Result, RootKey, Terms,
    UntrustedRegistry, Usage,
};
use kvcap_store::LedgerFile;

const NOW: u64 = 1_800_000_000;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("ledger-{name}"));
        let _absent = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn store(&self) -> Ledger {
        LedgerFile::at(self.0.join("state")).open().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn claims(id: u8, issuer: &str, subject: Option<&str>, sequence: Option<u64>) -> Claims {
    let mut terms = Terms::new(issuer, "a", NOW, NOW + 100);
    terms.subject = subject.map(str::to_owned);
    terms.sequence = sequence;
    terms.single_use = sequence.is_none();
    Claims::new(CapsuleId([id; 16]), KeyId([0; 16]), terms)
}

fn code<T>(result: Result<T>) -> u16 {
    result.err().map_or(0, |error| error.code().number())
}

#[test]
fn the_clock_only_goes_forward() {
    let folder = Folder::new("clock");
    assert_eq!(folder.store().observe(NOW).unwrap(), NOW);
    assert_eq!(folder.store().observe(NOW + 9).unwrap(), NOW + 9);
    // a clock that lags a little does not bring back what has expired
    assert_eq!(folder.store().observe(NOW + 9 - MAX_SKEW).unwrap(), NOW + 9);
    assert_eq!(code(folder.store().observe(NOW + 8 - MAX_SKEW)), 412);
    assert_eq!(folder.store().observe(NOW + 10).unwrap(), NOW + 10);
}

#[test]
fn one_use_is_one_use() {
    let folder = Folder::new("use");
    let first = Usage::of(&claims(1, "acme", None, None), NOW);
    let store = folder.store();
    assert_eq!(code(store.check(&first)), 0);
    assert_eq!(code(store.record(&first)), 0);
    assert_eq!(code(store.record(&first)), 410);
    assert_eq!(code(store.check(&first)), 410);
    // nobody uses up another's capsule
    let other = Usage::of(&claims(1, "other", None, None), NOW);
    assert_eq!(code(store.record(&other)), 0);
    drop(store);
    let store = folder.store();
    assert_eq!(code(store.record(&first)), 410);
    // forgotten once it has expired, by whatever comes next
    let late = Usage::of(&claims(2, "acme", None, None), NOW + 99);
    assert_eq!(code(store.record(&late)), 0);
    assert_eq!(code(store.check(&first)), 410);
    let later = Usage::of(&claims(3, "acme", None, None), NOW + 100);
    assert_eq!(code(store.record(&later)), 0);
    assert_eq!(
        code(store.check(&first)),
        0,
        "the verifier refuses it as expired"
    );
}

#[test]
fn a_session_does_not_go_back() {
    let folder = Folder::new("session");
    let store = folder.store();
    let at = |issuer, subject, number| {
        code(store.record(&Usage::of(&claims(1, issuer, subject, Some(number)), NOW)))
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
        Usage::of(&claims(1, "a", Some("bc"), Some(1)), NOW).sequence,
        Usage::of(&claims(1, "ab", Some("c"), Some(1)), NOW).sequence
    );
}

#[test]
fn registries_are_remembered_by_root() {
    let folder = Folder::new("registry");
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
}

#[test]
fn a_damaged_memory_is_not_replaced() {
    let folder = Folder::new("damaged");
    let path = folder.0.join("state");
    for content in [&b""[..], b"not a memory", &[0; 8192]] {
        fs::write(&path, content).unwrap();
        assert_eq!(code(LedgerFile::at(path.clone()).open()), 940);
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[test]
fn an_unfinished_creation_is_begun_again() {
    let folder = Folder::new("unfinished");
    fs::write(folder.0.join("state.new"), b"half a memory").unwrap();
    assert_eq!(folder.store().observe(NOW).unwrap(), NOW);
    assert!(!folder.0.join("state.new").exists());
}
