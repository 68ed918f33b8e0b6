//! The order of sessions' versions, the same over every kind of store.

use std::{
    sync::{Arc, Barrier},
    thread,
};

use kvcap::{CapsuleId, Limits};
use kvcap_store::{
    CapsuleStore, FolderStore, MOST_VERSIONS, Space, Version, VersionPut, VersionStore, Wait,
};

use super::{entry, name, put};

/// Devices that put the same version at once.
const DEVICES: u8 = 32;

fn space() -> Space {
    name(0).0
}

fn id(id: u8) -> CapsuleId {
    name(id).1
}

fn version(version: u64, cursor: u64, capsule: u8, states: &[u8]) -> Version {
    Version {
        version,
        cursor,
        at: 7,
        capsule: id(capsule),
        // as `entry` has it
        expires: 100,
        states: states.iter().map(|state| id(*state)).collect(),
    }
}

fn code<T: std::fmt::Debug>(result: kvcap::Result<T>) -> u16 {
    result.unwrap_err().code().number()
}

/// All rules, for one store.
pub(crate) fn keeps_the_order(store: &Arc<dyn CapsuleStore>, order: &Arc<dyn VersionStore>) {
    for capsule in 1..=9 {
        put(&**store, name(capsule), &entry(capsule, 10));
    }
    a_version_follows_the_newest_one(&**order);
    sessions_are_listed_by_name(&**order);
    what_another_session_names_stays(&**order);
    a_version_goes_with_its_capsule(&**store, &**order);
    of_many_devices_one_is_first(order);
    for capsule in 1..=9 {
        store.remove(name(capsule)).unwrap();
    }
    assert_eq!(order.newest_versions(space(), "", 9).unwrap(), []);
}

fn a_version_follows_the_newest_one(order: &dyn VersionStore) {
    let put = |next: &Version, after| order.put_version(space(), "s", next, after);
    assert_eq!(order.versions(space(), "s", 0, 9).unwrap(), []);
    let (first, third) = (version(1, 5, 1, &[]), version(3, 5, 2, &[8, 9]));
    assert_eq!(code(put(&first, 1)), 954, "there is none to follow");
    assert_eq!(
        put(&version(1, 5, 77, &[]), 0).unwrap(),
        VersionPut::Missing
    );
    assert_eq!(
        put(&version(1, 5, 1, &[77]), 0).unwrap(),
        VersionPut::Missing
    );
    assert_eq!(order.newest_versions(space(), "", 9).unwrap(), []);
    assert_eq!(put(&first, 0).unwrap(), VersionPut::New);
    assert_eq!(put(&first, 0).unwrap(), VersionPut::Same);
    assert_eq!(
        code(put(&version(1, 5, 2, &[]), 0)),
        954,
        "of another capsule"
    );
    assert_eq!(
        code(put(&version(2, 5, 2, &[]), 0)),
        954,
        "who has not seen the newest"
    );
    assert_eq!(
        code(put(&version(2, 4, 2, &[]), 1)),
        954,
        "which has seen less"
    );
    assert_eq!(code(put(&version(0, 5, 2, &[]), 1)), 954, "from before");
    assert_eq!(
        put(&third, 1).unwrap(),
        VersionPut::New,
        "numbers may be left out"
    );
    assert_eq!(put(&first, 0).unwrap(), VersionPut::Same);
    let kept = order.versions(space(), "s", 0, 9).unwrap();
    assert_eq!(kept, [first.clone(), third.clone()]);
    assert_eq!(order.versions(space(), "s", 0, 1).unwrap(), [first]);
    assert_eq!(order.versions(space(), "s", 1, 9).unwrap(), [third]);
    assert_eq!(order.versions(space(), "s", 3, 9).unwrap(), []);
    let elsewhere = Space::of(None, None);
    assert_eq!(order.versions(elsewhere, "s", 0, 9).unwrap(), []);
    assert_eq!(order.forget_versions(elsewhere, "s").unwrap(), None);
    let missing = order.put_version(elsewhere, "s", &version(1, 1, 1, &[]), 0);
    assert_eq!(
        missing.unwrap(),
        VersionPut::Missing,
        "another's capsule is none"
    );
}

fn sessions_are_listed_by_name(order: &dyn VersionStore) {
    let names = ["", "/", "A", "Z", "a", "ä", "日本"];
    for name in &names[1..] {
        let put = order.put_version(space(), name, &version(4, 2, 3, &[]), 0);
        assert_eq!(put.unwrap(), VersionPut::New);
    }
    let mut seen: Vec<String> = vec![String::new()];
    while let Some((next, newest)) = order
        .newest_versions(space(), seen.last().unwrap(), 1)
        .unwrap()
        .pop()
    {
        let number = if next == "s" { 3 } else { 4 };
        assert_eq!(newest.version, number);
        seen.push(next);
    }
    let mut expected: Vec<&str> = names.into_iter().chain(["s"]).collect();
    expected.sort_unstable();
    assert_eq!(seen, expected);
    for name in &names[1..] {
        order.forget_versions(space(), name).unwrap();
    }
}

fn what_another_session_names_stays(order: &dyn VersionStore) {
    let branch = version(1, 5, 4, &[8]);
    order.put_version(space(), "branch", &branch, 0).unwrap();
    let freed = order.forget_versions(space(), "s").unwrap();
    assert_eq!(freed, Some(vec![id(1), id(2), id(9)]));
    assert_eq!(order.forget_versions(space(), "s").unwrap(), None);
    assert_eq!(order.versions(space(), "s", 0, 9).unwrap(), []);
    let freed = order.forget_versions(space(), "branch").unwrap();
    assert_eq!(freed, Some(vec![id(4), id(8)]));
}

fn a_version_goes_with_its_capsule(store: &dyn CapsuleStore, order: &dyn VersionStore) {
    for number in 1..=4_u8 {
        let next = version(number.into(), 1, number, &[9]);
        let put = order.put_version(space(), "s", &next, u64::from(number) - 1);
        assert_eq!(put.unwrap(), VersionPut::New);
    }
    // a state may go, as it does when it expires
    assert!(store.remove(name(9)).unwrap());
    assert_eq!(order.versions(space(), "s", 0, 9).unwrap().len(), 4);
    // one that is renewed stays
    let renewed = kvcap_store::Entry {
        expires: 1000,
        ..entry(50, 10)
    };
    put(store, name(3), &renewed);
    assert_eq!(order.versions(space(), "s", 0, 9).unwrap().len(), 4);
    assert!(store.remove(name(3)).unwrap());
    let left = order.versions(space(), "s", 0, 9).unwrap();
    assert_eq!(left, [version(1, 1, 1, &[9]), version(2, 1, 2, &[9])]);
    let next = version(5, 1, 4, &[]);
    assert_eq!(code(order.put_version(space(), "s", &next, 4)), 954);
    let put = order.put_version(space(), "s", &next, 2);
    assert_eq!(put.unwrap(), VersionPut::New);
    assert!(store.remove(name(1)).unwrap());
    assert_eq!(order.newest_versions(space(), "", 9).unwrap(), []);
    assert_eq!(order.forget_versions(space(), "s").unwrap(), None);
}

fn of_many_devices_one_is_first(order: &Arc<dyn VersionStore>) {
    order
        .put_version(space(), "s", &version(1, 1, 2, &[]), 0)
        .unwrap();
    let begin = Arc::new(Barrier::new(usize::from(DEVICES)));
    let devices: Vec<_> = (0..DEVICES)
        .map(|device| {
            let (order, begin) = (Arc::clone(order), Arc::clone(&begin));
            thread::spawn(move || {
                // each has its own number: what they share is the one that they follow
                let own = version(2 + u64::from(device), 1, 4 + device % 5, &[]);
                begin.wait();
                order.put_version(space(), "s", &own, 1)
            })
        })
        .collect();
    let mut first = 0;
    for device in devices {
        match device.join().unwrap() {
            Ok(put) => first += usize::from(put == VersionPut::New),
            lost => assert_eq!(code(lost), 954),
        }
    }
    assert_eq!(first, 1);
    assert_eq!(order.versions(space(), "s", 0, 99).unwrap().len(), 2);
    order.forget_versions(space(), "s").unwrap();
}

#[test]
fn a_folder_keeps_the_order() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("kept");
    let store = FolderStore::open(&root, Wait::default(), &Limits::default()).unwrap();
    let store = Arc::new(store);
    keeps_the_order(
        &(Arc::clone(&store) as Arc<dyn CapsuleStore>),
        &(Arc::clone(&store) as Arc<dyn VersionStore>),
    );
    // nothing is left of a session that has gone
    let left = std::fs::read_dir(root.join(space().name())).unwrap();
    assert_eq!(left.count(), 0);
}

/// What is in the folder is known again by who opens it, as far as its capsules are there.
#[test]
fn a_folder_s_order_outlives_its_process() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("kept");
    let open = || FolderStore::open(&root, Wait::default(), &Limits::default()).unwrap();
    let bytes = std::fs::read(CAPSULE).unwrap();
    let kept = kvcap_store::Entry::read(&bytes[..], &Limits::default()).unwrap();
    let store = open();
    for capsule in [1, 2] {
        let coming = kvcap_store::Coming {
            tag: kept.tag,
            lineage: kept.lineage,
            expires: kept.expires,
            tenant: None,
            bytes: kept.bytes,
        };
        let claimed = store.claim(name(capsule), coming, u64::MAX);
        let mut arriving = super::new(claimed);
        arriving.append(&bytes).unwrap();
        arriving.keep(kept.clone()).unwrap();
    }
    let expires = kept.expires;
    let (first, second) = (
        Version {
            expires,
            ..version(1, 1, 1, &[2])
        },
        Version {
            expires,
            ..version(2, 9, 2, &[])
        },
    );
    store.put_version(space(), "s/Ä", &first, 0).unwrap();
    store.put_version(space(), "s/Ä", &second, 1).unwrap();
    drop(store);
    let store = open();
    let again = store.versions(space(), "s/Ä", 0, 9).unwrap();
    assert_eq!(again, [first.clone(), second]);
    drop(store);
    // as after a crash between the two removals
    let capsule = root.join(space().name()).join(format!("{}.kvcap", id(2)));
    std::fs::remove_file(capsule).unwrap();
    assert_eq!(open().versions(space(), "s/Ä", 0, 9).unwrap(), [first]);
    let named = std::fs::read_dir(root.join(space().name())).unwrap();
    let file = named
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|ending| ending == "versions"))
        .unwrap();
    std::fs::write(&file, b"kvcap versions 1\ns\n1 1\n").unwrap();
    let refused = FolderStore::open(&root, Wait::default(), &Limits::default());
    assert_eq!(code(refused), 940);
}

const CAPSULE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../testvectors/vectors/exact_multiple.kvcap"
);

#[test]
fn a_session_has_so_many_versions_and_no_more() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("kept");
    let store = FolderStore::open(&root, Wait::default(), &Limits::default()).unwrap();
    put(&store, name(1), &entry(1, 10));
    let number = |at: usize| u64::try_from(at).unwrap();
    // a file as it is after so many
    let mut text = String::from("kvcap versions 1\ns\n");
    for at in 1..MOST_VERSIONS {
        text += &format!("{at} 1 7 {}\n", id(1));
    }
    let _first = store.put_version(space(), "s", &version(1, 1, 1, &[]), 0);
    let named = std::fs::read_dir(root.join(space().name())).unwrap();
    let file = named
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|ending| ending == "versions"))
        .unwrap();
    drop(store);
    std::fs::write(&file, text).unwrap();
    let bytes = std::fs::read(CAPSULE).unwrap();
    std::fs::write(file.with_file_name(format!("{}.kvcap", id(1))), bytes).unwrap();
    let store = FolderStore::open(&root, Wait::default(), &Limits::default()).unwrap();
    let next = |at: usize| {
        store.put_version(
            space(),
            "s",
            &version(number(at), 1, 1, &[]),
            number(at - 1),
        )
    };
    assert_eq!(next(MOST_VERSIONS).unwrap(), VersionPut::New);
    assert_eq!(code(next(MOST_VERSIONS + 1)), 951);
}
