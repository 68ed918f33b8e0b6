//! A session out of two tiers: the same record from each, and an edge that is filled again.

use kvcap::Error;
use kvcap_session::{
    Body, Cause, Event, Kind, Names, Record, Session,
    files::{Artefact, DeviceTier, Keep, MemoryTier, Recalled, Tier, get_small, rebuild, recall},
    plain_summary,
};
use tempfile::TempDir;

/// What an edge keeps (session-v1 §11).
const EDGE: Keep = Keep {
    checkpoints: 3,
    events: 20,
    capsules: false,
};

fn name() -> Names {
    Names::of("edge")
}

/// Thirty turns of two messages, a checkpoint after each fifth, and two turns more.
fn device() -> (TempDir, DeviceTier, Session) {
    let folder = TempDir::new().unwrap();
    let tier = DeviceTier::at(folder.path().join("sessions"));
    let mut session = Session::load_or_create(&tier, &name(), 0).unwrap();
    for turn in 1..=32 {
        for kind in [Kind::User, Kind::Assistant] {
            let text = format!("{} {turn}", kind.name());
            session.append(turn, kind, text.as_str().into()).unwrap();
        }
        if turn % 5 == 0 {
            session.checkpoint(turn, Cause::Turns, None).unwrap();
        }
    }
    (folder, tier, session)
}

fn recalled(tiers: &[&dyn Tier]) -> Result<Recalled, Error> {
    recall(tiers, &name(), EDGE, &mut |summary, leaving| {
        Ok(plain_summary(summary, leaving))
    })
}

/// The session by the first tier that can tell: which one, and that it is the one of the files.
fn from(tiers: &[&dyn Tier], now: &Record) -> usize {
    let recalled = recalled(tiers).unwrap();
    assert_eq!(recalled.record, *now);
    recalled.tier
}

#[test]
fn an_edge_that_lost_its_data_changes_where_bytes_come_from_alone() {
    let (_folder, below, session) = device();
    let now = session.status().unwrap().current;
    assert_eq!((now.turns, now.version, now.replay_cursor), (32, 6, 64));
    let edge = MemoryTier::default();
    let tiers = [&edge as &dyn Tier, &below];
    // nothing there: from below, and filled by it
    assert_eq!(from(&tiers, &now), 1);
    assert_eq!(edge.list(&name()).unwrap().len(), 1 + 20 + 3);
    assert_eq!(from(&tiers, &now), 0);
    let remove = |artefact| edge.write(&name()).unwrap().remove(artefact).unwrap();
    for (lost, first) in [
        // of the records the newest alone is needed
        (Artefact::Checkpoint(5), 0),
        (Artefact::Checkpoint(6), 1),
        (Artefact::Session, 1),
    ] {
        remove(lost);
        assert_eq!(from(&tiers, &now), first, "{lost:?}");
        assert_eq!(from(&tiers, &now), 0);
    }
    // what was appended since is not there
    let mut session = session;
    session.append(33, Kind::User, "one more".into()).unwrap();
    let now = session.status().unwrap().current;
    assert_eq!(from(&tiers, &now), 1);
    assert_eq!(from(&tiers, &now), 0);
    edge.write(&name()).unwrap().forget().unwrap();
    assert_eq!(from(&tiers, &now), 1);
    assert_eq!(from(&[&edge as &dyn Tier, &below], &now), 0);
    assert_eq!(from(&[&below as &dyn Tier], &now), 0);
    // the truth is not forgotten, and what it does not have is not there
    let refused = below.write(&name()).unwrap().forget().unwrap_err();
    assert_eq!(refused.code().number(), 944);
    let none = recall(&tiers, &Names::of("none"), EDGE, &mut |_, _| unreachable!());
    assert_eq!(none.unwrap_err().code().number(), 955);
}

/// What a tier holds beside the truth is refused, and filled again from it.
#[test]
fn a_tier_that_holds_something_else_has_lost() {
    let (_folder, below, session) = device();
    let now = session.status().unwrap().current;
    let of = |tier: &dyn Tier, artefact| get_small(tier, &name(), artefact, 1 << 20).unwrap();
    let last = of(&below, Artefact::Event(64)).unwrap();
    let last = Event::from_json(&last).unwrap();
    let mut other = last.clone();
    other.body = Body::from("another answer");
    let mut record = session.record(6).unwrap();
    record.at += 1;
    let event = other.to_json().unwrap().into_bytes();
    let record = record.to_json().unwrap().into_bytes();
    for (artefact, content) in [
        (Artefact::Event(64), event),
        (Artefact::Checkpoint(6), record),
    ] {
        let edge = MemoryTier::default();
        edge.write(&name())
            .unwrap()
            .put(artefact, &content)
            .unwrap();
        let refused = rebuild(&below, &edge, &name(), EDGE).unwrap_err();
        assert!([952, 954].contains(&refused.code().number()), "{refused}");
        let edge = MemoryTier::default();
        edge.write(&name())
            .unwrap()
            .put(artefact, &content)
            .unwrap();
        assert_eq!(from(&[&edge as &dyn Tier, &below], &now), 1);
        assert_eq!(of(&edge, artefact), of(&below, artefact));
        assert_eq!(from(&[&edge as &dyn Tier, &below], &now), 0);
    }
}

/// A session that was reverted to before its newest record is told by an earlier one, by both tiers.
#[test]
fn a_revert_is_recalled_as_it_is() {
    let (_folder, below, mut session) = device();
    let edge = MemoryTier::default();
    let tiers = [&edge as &dyn Tier, &below];
    session.append(40, Kind::Revert, Body::revert(52)).unwrap();
    let now = session.status().unwrap().current;
    assert_eq!((now.version, now.turns), (5, 26));
    assert_eq!(from(&tiers, &now), 1);
    assert_eq!(from(&tiers, &now), 0);
    // by a record of which the edge has not all events any more: it tells no other session instead
    session.append(41, Kind::Revert, Body::revert(42)).unwrap();
    let now = session.status().unwrap().current;
    assert_eq!((now.version, now.turns), (4, 21));
    assert_eq!(from(&tiers, &now), 1);
    assert_eq!(from(&tiers, &now), 1);
}
