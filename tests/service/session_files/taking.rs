//! Versions of a relay's that a device takes, stopped at each operation on the disk (session-v1 §11.2).

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use kvcap::{CapsuleId, Result, WriteAt, binding::Digest};
use kvcap_session::{
    Arrived, Body, CapsuleEntry, Head, Kind, Names, Record, SealedVersion, Session,
    files::DeviceTier, replay_plainly,
};
use kvcap_store::operation::observe;

use crate::{
    crash::{alone, place, quick},
    disk::{Crash, Disk, Remains, make},
};

const CAPSULE: CapsuleId = CapsuleId([7; 16]);

/// Three versions, the last with a state.
fn versions() -> Vec<SealedVersion> {
    let names = Names::of("s");
    let mut record = Record::origin(&names, &names).unwrap();
    let mut head = Head::origin(&names).unwrap();
    let mut versions = Vec::new();
    for version in 1..=3 {
        let after = head.seq;
        let mut events = Vec::new();
        for kind in [Kind::User, Kind::Assistant] {
            let event = head.next(version, kind, Body::from("words")).unwrap();
            head = head.follow(&event).unwrap();
            events.push(event);
        }
        record.version = version;
        record = replay_plainly(&record, events.clone()).unwrap();
        if version == 3 {
            record.capsule = Some(CapsuleEntry {
                id: CAPSULE.to_string(),
                session: None,
                lineage: Digest([1; 32]),
                version,
                cursor: head.seq,
                positions: 1,
                bytes: 5,
                expires: 9,
                model: Digest([2; 32]),
                ancestors: Vec::new(),
                controller: false,
            });
        }
        versions.push(SealedVersion {
            record: record.clone(),
            origin: names.session.clone(),
            created: 1,
            after,
            events,
        });
    }
    versions
}

fn take(tier: &DeviceTier) -> Result<Session> {
    let names = Names::of("s");
    let arrived = Arrived::begin(tier, &names, CAPSULE)?;
    arrived.output().write_all_at(0, b"state").unwrap();
    Session::take(tier, &names, &versions(), vec![arrived], 2)
}

/// The session is whole: the newest versions, all events, and the state.
fn check(session: &Session) {
    let versions = versions();
    assert_eq!(session.versions().unwrap(), [2, 3]);
    for version in &versions[1..] {
        let record = session.record(version.record.version).unwrap();
        assert_eq!(record, version.record);
    }
    let events = versions.iter().flat_map(|version| version.events.clone());
    assert_eq!(session.events().unwrap(), events.collect::<Vec<_>>());
    let states = session.capsules_of(&versions[2].record).unwrap();
    let [(id, path)] = &states[..] else {
        panic!("{states:?}");
    };
    assert_eq!(*id, CAPSULE);
    assert_eq!(std::fs::read(path).unwrap(), b"state");
}

#[test]
fn whatever_a_crash_leaves_of_versions_that_were_taken_they_are_taken_again() {
    let _alone = alone();
    let folder = quick();
    let root = folder.path().to_owned();
    let state = (Disk::new(&root), BTreeMap::<Remains, String>::new());
    let state = Arc::new(Mutex::new(state));
    let (shared, watched) = (Arc::clone(&state), root.clone());
    observe(Some(Box::new(move |operation| {
        if !place(&operation).starts_with(&watched) {
            return Ok(());
        }
        let (disk, crashes) = &mut *shared.lock().unwrap();
        disk.settle()?;
        for crash in Crash::ALL {
            let at = format!("{crash:?} before {operation:?}");
            crashes.entry(disk.crash(crash)?).or_insert(at);
        }
        disk.hear(operation)?;
        io::Result::Ok(())
    })));
    let taken = take(&DeviceTier::at(root));
    observe(None);
    check(&taken.unwrap());
    let crashes = std::mem::take(&mut state.lock().unwrap().1);
    assert!(crashes.len() > 20, "{} crashes", crashes.len());
    for (remains, at) in crashes {
        let folder = quick();
        let tier = DeviceTier::at(folder.path().join("sessions"));
        make(&remains, &folder.path().join("sessions")).unwrap();
        // what is seen before is the whole session, or none
        if let Ok(session) = Session::load(&tier, &Names::of("s")) {
            assert_eq!(session.versions().unwrap(), [2, 3], "{at}");
        }
        let again = take(&tier).unwrap_or_else(|error| panic!("{at}, taken again: {error}"));
        check(&again);
    }
}
