//! When a session is saved, and what of it is kept.

use std::collections::BTreeSet;

use kvcap::binding::Digest;
use kvcap_session::{
    CapsuleEntry, Cause, KEEP, Kind, Moment, Record, SavePolicy, replay_plainly, retained,
};

use crate::replaying::turns;

#[test]
fn the_first_cause_of_the_table_is_the_one() {
    let policy = SavePolicy {
        after_tools: true,
        ..SavePolicy::default()
    };
    let quiet = Moment {
        events: 1,
        ..Moment::default()
    };
    let due = |moment: Moment| policy.due(&moment);
    let all = Moment {
        exiting: true,
        signalled: true,
        turns: 3,
        milestone: true,
        last: Some(Kind::Tool),
        idle: 300,
        expires_in: Some(900),
        ..quiet
    };
    let order = [
        (all, Cause::Signal),
        (
            Moment {
                signalled: false,
                ..all
            },
            Cause::Exit,
        ),
        (
            Moment {
                signalled: false,
                exiting: false,
                ..all
            },
            Cause::Expiry,
        ),
        (
            Moment {
                milestone: true,
                turns: 3,
                idle: 300,
                ..quiet
            },
            Cause::Milestone,
        ),
        (
            Moment {
                last: Some(Kind::Tool),
                turns: 3,
                ..quiet
            },
            Cause::Tool,
        ),
        (
            Moment {
                turns: 3,
                idle: 300,
                ..quiet
            },
            Cause::Turns,
        ),
        (Moment { idle: 300, ..quiet }, Cause::Idle),
    ];
    for (moment, cause) in order {
        assert_eq!(due(moment), Some(cause));
    }
    for moment in [
        quiet,
        Moment {
            turns: 2,
            idle: 299,
            expires_in: Some(901),
            ..quiet
        },
        // nothing new: only an expiry is a reason
        Moment {
            events: 0,
            expires_in: None,
            ..all
        },
    ] {
        assert_eq!(due(moment), None);
    }
    assert_eq!(
        SavePolicy::default().due(&Moment {
            last: Some(Kind::Tool),
            ..quiet
        }),
        None
    );
}

#[test]
fn what_expires_with_nothing_new_is_renewed() {
    let policy = SavePolicy::default();
    let moment = Moment {
        expires_in: Some(10),
        ..Moment::default()
    };
    assert_eq!(policy.due(&moment), Some(Cause::Expiry));
    assert!(policy.renews(&moment));
    assert!(!policy.renews(&Moment {
        events: 1,
        ..moment
    }));
    assert!(!policy.renews(&Moment {
        expires_in: None,
        ..moment
    }));
}

fn id(number: u64) -> String {
    format!("{number:032x}")
}

pub(super) fn capsule(version: u64, cursor: u64) -> CapsuleEntry {
    CapsuleEntry {
        id: id(version),
        session: None,
        lineage: Digest([0; 32]),
        version,
        cursor,
        positions: 1,
        bytes: 1,
        expires: 1,
        model: Digest([0; 32]),
        ancestors: Vec::new(),
        controller: false,
    }
}

/// Versions 1 to 10: those of `states` with a capsule of their own, which continues `of` it.
fn records(states: &[(u64, &[u64])]) -> Vec<Record> {
    let (origin, events) = turns(1);
    let record = |version| {
        let mut record = replay_plainly(&origin, events.clone()).unwrap();
        record.version = version;
        let (_, ancestors) = states.iter().find(|(state, _)| *state == version)?;
        record.capsule = Some(CapsuleEntry {
            id: id(version),
            ancestors: ancestors.iter().map(|number| id(*number)).collect(),
            ..capsule(version, 0)
        });
        Some(record)
    };
    let plain = |version| {
        let mut record = replay_plainly(&origin, events.clone()).unwrap();
        record.version = version;
        record
    };
    (1..=10)
        .map(|version| record(version).unwrap_or_else(|| plain(version)))
        .collect()
}

#[test]
fn the_newest_the_pinned_and_what_their_chains_need_are_kept() {
    let all = records(&[(1, &[]), (2, &[1]), (3, &[]), (9, &[2, 1])]);
    let kept = retained(&all, &BTreeSet::from([4]), KEEP);
    assert_eq!(kept.versions, BTreeSet::from([4, 6, 7, 8, 9, 10]));
    assert_eq!(kept.removable_versions, BTreeSet::from([1, 2, 3, 5]));
    assert_eq!(kept.capsules, BTreeSet::from([1, 2, 9].map(id)));
    assert_eq!(kept.removable_capsules, BTreeSet::from([id(3)]));
    // the newest of all, and the newest with a state, whatever is asked
    let least = retained(&records(&[(2, &[])]), &BTreeSet::new(), 0);
    assert_eq!(least.versions, BTreeSet::from([2, 10]));
    assert_eq!(least.capsules, BTreeSet::from([id(2)]));
}
