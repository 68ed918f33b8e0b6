//! As it is, back, and on in a branch.

use kvcap::{Code, Result};
use kvcap_session::{
    Body, Cause, Event, Kind, MAX_CHAIN, Names, Record, current, end_of_turn, plain_summary,
    replay_plainly,
};

use crate::{keeping::capsule, replaying::turns};

struct Course {
    origin: Record,
    records: Vec<Record>,
    events: Vec<Event>,
}

impl Course {
    fn now(&self) -> Result<Record> {
        let newest_first = self.records.iter().rev();
        current(
            &self.origin,
            newest_first,
            &self.events,
            &mut |summary, leaving| Ok(plain_summary(summary, leaving)),
        )
    }

    fn append(&mut self, kind: Kind, body: Body) {
        let now = self.now().unwrap();
        self.events
            .push(now.log_head().next(0, kind, body).unwrap());
    }

    fn put(&mut self, with_state: bool) {
        let mut next = self.now().unwrap();
        next.version = self.records.len() as u64 + 1;
        if with_state {
            next.capsule = Some(capsule(next.version, next.replay_cursor));
        }
        next.to_cbor().unwrap();
        self.records.push(next);
    }
}

/// Four turns of three messages; a version with a state after the second and the fourth.
fn course() -> Course {
    let (origin, events) = turns(4);
    let mut course = Course {
        origin,
        records: Vec::new(),
        events: Vec::new(),
    };
    for (at, event) in events.into_iter().enumerate() {
        course.events.push(event);
        if at == 5 || at == 11 {
            course.put(true);
        }
    }
    course
}

#[test]
fn a_revert_goes_back_to_the_record_before_it_and_its_state() {
    let mut course = course();
    let to = end_of_turn(&course.origin, &course.events, 3).unwrap();
    assert_eq!(to, 9);
    course.append(Kind::Revert, Body::revert(to));
    // before the next version is put, as after a crash: the same
    let now = course.now().unwrap();
    assert_eq!((now.turns, now.replay_cursor), (3, 13));
    assert_eq!(now.capsule.as_ref().unwrap().version, 1);
    course.put(false);
    assert_eq!(course.records[2].capsule.as_ref().unwrap().cursor, 6);
    course.append(Kind::User, "another fourth".into());
    let now = course.now().unwrap();
    assert_eq!((now.turns, now.recent.last().unwrap().seq), (4, 14));
    // to what was taken back: it is there again
    course.append(Kind::Revert, Body::revert(12));
    let again = course.now().unwrap();
    assert_eq!((again.turns, again.recent.last().unwrap().seq), (4, 12));
    course.append(Kind::Revert, Body::revert(0));
    let nothing = course.now().unwrap();
    assert_eq!(
        (nothing.turns, nothing.messages, nothing.capsule),
        (0, 0, None)
    );
    for (turn, end) in [(0, Ok(0)), (1, Err(Code::SessionMissing))] {
        let found = end_of_turn(&course.origin, &course.events, turn);
        assert_eq!(found.map_err(|error| error.code()), end);
    }
}

#[test]
fn a_log_that_is_not_its_records_is_refused() {
    let mut cut = course();
    cut.events.truncate(11);
    assert_eq!(cut.now().unwrap_err().code(), Code::SessionGap);
    let mut other = course();
    let (origin, _) = turns(0);
    let shorter = replay_plainly(&origin, other.events[..11].to_vec()).unwrap();
    other.events[11] = shorter
        .log_head()
        .next(7, Kind::Note, "another".into())
        .unwrap();
    assert_eq!(other.now().unwrap_err().code(), Code::SessionFork);
}

#[test]
fn a_branch_keeps_log_and_state_and_has_versions_of_its_own() {
    let course = course();
    let names = Names::of("branch");
    let first = course.records[1].branch(&names, 77);
    assert_eq!(
        (first.version, first.cause, first.names()),
        (1, Cause::Branch, names)
    );
    assert_eq!(first.branch_of.as_ref().unwrap().version, 2);
    assert_eq!(first.log_head(), course.records[1].log_head());
    let capsule = first.capsule.as_ref().unwrap();
    assert_eq!(
        (capsule.session.as_deref(), capsule.version),
        (Some("s"), 2)
    );
    let again = Record::from_cbor(&first.to_cbor().unwrap()).unwrap();
    assert_eq!(again, first);
    // a branch of the branch: the capsule still names the first session
    let second = first.branch(&Names::of("other"), 78);
    assert_eq!(second.capsule.unwrap().session.as_deref(), Some("s"));
    // on from there, under the same chain of events
    let mut next = replay_plainly(&first, course.events.clone()).unwrap();
    next.version = 2;
    first.check_put(&next).unwrap();
}

#[test]
fn a_chain_stays_short_and_lives_for_half_of_its_tip() {
    let mut last = capsule(1, 1);
    last.expires = 100;
    // made at 40: of use until 160, it has to live until 100
    assert!(last.may_be_continued(40, 160));
    assert!(!last.may_be_continued(40, 161));
    assert!(last.may_be_continued(99, 101));
    assert!(!last.may_be_continued(100, 101));
    last.ancestors = vec![last.id.clone(); MAX_CHAIN - 2];
    assert!(last.may_be_continued(40, 160));
    last.ancestors.push(last.id.clone());
    assert!(!last.may_be_continued(40, 160));
}
