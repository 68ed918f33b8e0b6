//! Every kind of store under the same rules: put once, counted, whole or not at all. With the feature `shared` also a
//! bucket and a PostgreSQL of the test's own, with and without an edge before them, and what many servers do to them at
//! once.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it does not expect fails"
)]

#[cfg(feature = "shared")]
mod edge;
#[cfg(feature = "tests-s3")]
mod s3;
#[cfg(feature = "shared")]
mod shared;
mod versions;

use std::{
    sync::{Arc, Barrier},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use kvcap::{CapsuleId, Limits, Result, binding::Digest};
use kvcap_store::{
    Arriving, CapsuleStore, Claimed, Coming, Entry, FolderStore, Name, Space, Tag, Wait,
};

/// Writers at once.
const WRITERS: u8 = 100;

fn name(id: u8) -> Name {
    (Space::of(Some("acme"), None), CapsuleId([id; 16]))
}

fn tenant(name: &str) -> Option<String> {
    Some(name.to_owned())
}

/// A made entry: the store believes its caller.
fn entry(tag: u8, bytes: u64) -> Entry {
    Entry {
        tag: Tag([tag; 16]),
        bytes,
        expires: 100,
        tenant: tenant("acme"),
        lineage: Digest([1; 32]),
        parent: None,
        sha256: None,
    }
}

fn claim(store: &dyn CapsuleStore, name: Name, entry: &Entry, quota: u64) -> Result<Claimed> {
    let coming = Coming {
        tag: entry.tag,
        lineage: entry.lineage,
        expires: entry.expires,
        tenant: entry.tenant.as_deref(),
        bytes: entry.bytes,
    };
    store.claim(name, coming, quota)
}

fn new(claimed: Result<Claimed>) -> Box<dyn Arriving> {
    match claimed.unwrap() {
        Claimed::New(arriving) => arriving,
        other => panic!("{other:?}"),
    }
}

fn code(claimed: Result<Claimed>) -> u16 {
    claimed.unwrap_err().code().number()
}

/// Puts bytes under a name.
fn put(store: &dyn CapsuleStore, name: Name, entry: &Entry) {
    let mut arriving = new(claim(store, name, entry, u64::MAX));
    for piece in content(entry).chunks(100_000) {
        arriving.append(piece).unwrap();
    }
    arriving.keep(entry.clone()).unwrap();
}

/// Bytes that only this entry has.
fn content(entry: &Entry) -> Vec<u8> {
    (0..entry.bytes)
        .map(|at| (at % 251) as u8 ^ entry.tag.0[0])
        .collect()
}

fn read(store: &dyn CapsuleStore, name: Name) -> Vec<u8> {
    let (entry, file) = store.open(name).unwrap().unwrap();
    assert_eq!(entry.bytes, file.len());
    let mut bytes = vec![0; usize::try_from(file.len()).unwrap()];
    file.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

/// What a store that lets go behind its caller does in a moment.
fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        sleep(Duration::from_millis(10));
    }
}

/// All rules, for one store.
fn keeps_the_rules(store: &Arc<dyn CapsuleStore>) {
    store.check().unwrap();
    a_name_is_put_once(&**store);
    room_is_counted_and_given_back(&**store);
    one_that_lives_longer_takes_the_place(&**store);
    ancestors_are_found_by_lineage(&**store);
    a_long_file_is_read_in_pieces(&**store);
    of_a_hundred_writers_one_wins(store);
    assert_eq!(store.counts().unwrap(), (0, 0));
    assert!(store.expired(u64::from(u32::MAX)).unwrap().is_empty());
}

fn a_name_is_put_once(store: &dyn CapsuleStore) {
    let first = entry(1, 1000);
    assert_eq!(store.get(name(1)).unwrap(), None);
    assert!(store.open(name(1)).unwrap().is_none());
    let mut arriving = new(claim(store, name(1), &first, 5000));
    // nobody sees what is coming, and nobody else brings it
    arriving.append(&content(&first)).unwrap();
    assert_eq!(store.get(name(1)).unwrap(), None);
    assert_eq!(code(claim(store, name(1), &first, 5000)), 947);
    arriving.keep(first.clone()).unwrap();
    assert_eq!(store.get(name(1)).unwrap(), Some(first.clone()));
    assert_eq!(read(store, name(1)), content(&first));
    assert_eq!(store.counts().unwrap(), (1, 1000));
    assert!(matches!(
        claim(store, name(1), &first, 5000),
        Ok(Claimed::Kept)
    ));
    assert_eq!(code(claim(store, name(1), &entry(2, 1000), 5000)), 941);
    let digest = Some([7; 32]);
    store.set_sha256(name(1), Tag([9; 16]), [8; 32]).unwrap();
    store.set_sha256(name(1), first.tag, [7; 32]).unwrap();
    assert_eq!(store.get(name(1)).unwrap().unwrap().sha256, digest);
    let mut seen = Vec::new();
    store
        .each(&mut |name| {
            seen.push(name);
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, [name(1)]);
    assert_eq!(store.expired(99).unwrap(), []);
    assert_eq!(store.expired(100).unwrap(), [name(1)]);
    assert!(store.remove(name(1)).unwrap());
    assert!(!store.remove(name(1)).unwrap());
    assert_eq!(store.get(name(1)).unwrap(), None);
    assert!(store.open(name(1)).unwrap().is_none());
}

fn room_is_counted_and_given_back(store: &dyn CapsuleStore) {
    let full = |id, bytes| {
        matches!(
            claim(store, name(id), &entry(id, bytes), 100),
            Ok(Claimed::Full)
        )
    };
    let mut first = new(claim(store, name(1), &entry(1, 60), 100));
    assert!(full(2, 41));
    // what was full is not coming
    drop(new(claim(store, name(2), &entry(2, 40), 100)));
    soon("what nothing came of is given back", || {
        claim(store, name(2), &entry(2, 40), 100)
            .is_ok_and(|claimed| matches!(claimed, Claimed::New(_)))
    });
    first.append(&[1; 30]).unwrap();
    drop(first);
    soon("its room too", || {
        claim(store, name(1), &entry(1, 100), 100)
            .is_ok_and(|claimed| matches!(claimed, Claimed::New(_)))
    });
    assert!(full(3, u64::from(u32::MAX)));
    // of another tenant there is room
    let other = Entry {
        tenant: None,
        ..entry(4, 100)
    };
    soon("nothing is left", || {
        claim(store, name(4), &other, 100).is_ok()
    });
    soon("nothing is coming any more", || {
        let all = claim(store, name(5), &entry(5, 100), 100);
        all.is_ok_and(|claimed| matches!(claimed, Claimed::New(_)))
    });
    assert_eq!(store.counts().unwrap(), (0, 0));
    soon("and not this one", || {
        let again = claim(store, name(5), &entry(5, 100), 100);
        again.is_ok_and(|claimed| matches!(claimed, Claimed::New(_)))
    });
}

fn one_that_lives_longer_takes_the_place(store: &dyn CapsuleStore) {
    let (old, new_one) = (
        entry(1, 60),
        Entry {
            expires: 200,
            ..entry(2, 40)
        },
    );
    soon("the name is free", || {
        claim(store, name(1), &old, 1000).is_ok()
    });
    soon("and again", || {
        let Ok(Claimed::New(mut arriving)) = claim(store, name(1), &old, 1000) else {
            return false;
        };
        arriving.append(&content(&old)).unwrap();
        arriving.keep(old.clone()).unwrap();
        true
    });
    let stranger = Entry {
        lineage: Digest([2; 32]),
        ..new_one.clone()
    };
    assert_eq!(code(claim(store, name(1), &stranger, 1000)), 941);
    let mut arriving = new(claim(store, name(1), &new_one, 1000));
    arriving.append(&content(&new_one)).unwrap();
    // until then it is the old one
    assert_eq!(read(store, name(1)), content(&old));
    arriving.keep(new_one.clone()).unwrap();
    assert_eq!(read(store, name(1)), content(&new_one));
    assert_eq!(store.counts().unwrap(), (1, 40));
    assert_eq!(code(claim(store, name(1), &old, 1000)), 941);
    assert!(store.remove(name(1)).unwrap());
}

fn ancestors_are_found_by_lineage(store: &dyn CapsuleStore) {
    let line = |id: u8| Entry {
        lineage: Digest([id; 32]),
        parent: id.checked_sub(1).map(|parent| Digest([parent; 32])),
        ..entry(id, 10)
    };
    for id in 10..14 {
        put(store, name(id), &line(id));
    }
    let ids = |from: u8, most| {
        let found = store
            .ancestors(name(0).0, Digest([from; 32]), most)
            .unwrap();
        found.iter().map(|id| id.0[0]).collect::<Vec<_>>()
    };
    assert_eq!(ids(12, 9), [12, 11, 10]);
    assert_eq!(ids(12, 2), [12, 11]);
    assert_eq!(ids(9, 9), [0; 0]);
    assert_eq!(
        store
            .ancestors(Space::of(None, None), Digest([12; 32]), 9)
            .unwrap(),
        []
    );
    assert!(store.remove(name(11)).unwrap());
    assert_eq!(ids(12, 9), [12]);
    for id in [10, 12, 13] {
        assert!(store.remove(name(id)).unwrap());
    }
}

fn a_long_file_is_read_in_pieces(store: &dyn CapsuleStore) {
    let long = entry(3, 20_000_000);
    put(store, name(3), &long);
    let (bytes, (entry, file)) = (content(&long), store.open(name(3)).unwrap().unwrap());
    assert_eq!(entry, long);
    assert_eq!(file.len(), 20_000_000);
    for (at, len) in [
        (0, 64),
        (64, 5000),
        (5064, 100_000),
        (19_000_000, 1_000_000),
        (7, 9_000_000),
    ] {
        let mut piece = vec![0; len];
        file.read_exact_at(u64::try_from(at).unwrap(), &mut piece)
            .unwrap();
        assert!(piece == bytes[at..at + len], "{len} bytes at {at}");
    }
    // in order, as somebody does who has said so
    file.will_read(3_000_000..9_000_000);
    for at in (3_000_000..9_000_000).step_by(60_000) {
        let mut piece = vec![0; 60_000];
        file.read_exact_at(at as u64, &mut piece).unwrap();
        assert!(piece == bytes[at..at + 60_000], "at {at}");
    }
    assert!(file.read_exact_at(19_999_999, &mut [0; 2]).is_err());
    assert!(store.remove(name(3)).unwrap());
}

fn of_a_hundred_writers_one_wins(store: &Arc<dyn CapsuleStore>) {
    let begin = Arc::new(Barrier::new(usize::from(WRITERS)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, begin) = (Arc::clone(store), Arc::clone(&begin));
            thread::spawn(move || {
                let own = entry(writer, 500);
                begin.wait();
                let Claimed::New(mut arriving) = claim(&*store, name(1), &own, u64::MAX)? else {
                    panic!("no two have the same tag");
                };
                arriving.append(&content(&own))?;
                arriving.keep(own).map(|()| writer)
            })
        })
        .collect();
    let ended: Vec<Result<u8>> = writers
        .into_iter()
        .map(|writer| writer.join().unwrap())
        .collect();
    let won: Vec<u8> = ended
        .iter()
        .filter_map(|ended| ended.as_ref().ok().copied())
        .collect();
    let [won] = won[..] else {
        panic!("{won:?} have won");
    };
    for lost in ended.iter().filter_map(|ended| ended.as_ref().err()) {
        assert!([941, 947].contains(&lost.code().number()), "{lost}");
    }
    assert_eq!(store.get(name(1)).unwrap().unwrap().tag, Tag([won; 16]));
    assert_eq!(read(&**store, name(1)), content(&entry(won, 500)));
    assert!(store.remove(name(1)).unwrap());
}

#[test]
fn a_folder_keeps_the_rules() {
    let home = tempfile::tempdir().unwrap();
    let (root, limits) = (home.path().join("kept"), Limits::default());
    let store = FolderStore::open(&root, Wait::default(), &limits).unwrap();
    keeps_the_rules(&(Arc::new(store) as Arc<dyn CapsuleStore>));
}

#[test]
fn a_folder_is_of_one_process() {
    let home = tempfile::tempdir().unwrap();
    let (root, limits) = (home.path().join("kept"), Limits::default());
    let _held = FolderStore::open(&root, Wait::default(), &limits).unwrap();
    let wait = Wait {
        at_most: Duration::ZERO,
        ..Wait::default()
    };
    let other = FolderStore::open(&root, wait, &limits);
    assert_eq!(other.unwrap_err().code().number(), 947);
}
