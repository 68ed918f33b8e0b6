//! The ladder over a session's files: every code, met in a header or when a state is opened, and the rung that it
//! leads to.

use std::{collections::BTreeMap, fs};

use kvcap::{CapsuleId, Code, Error, Result};
use kvcap_session::{
    Candidate, Confirmed, Header, Kind, LeadsTo, Names, Observation, Request, Restorer, Reuse,
    Rung, Session,
    files::{Artefact, DeviceTier, Write},
};
use tempfile::TempDir;

use crate::keeping::capsule;

/// A session of three turns with a state after the first and after the second.
pub(super) fn session() -> (TempDir, Session) {
    let folder = TempDir::new().unwrap();
    let tier = DeviceTier::at(folder.path().join("sessions"));
    let names = Names::of("s");
    let mut session = Session::load_or_create(&tier, &names, 0).unwrap();
    for version in 1..=2 {
        session.append(version, Kind::User, "more".into()).unwrap();
        let mut record = session.status().unwrap().current;
        record.version = version;
        let mut entry = capsule(version, record.replay_cursor);
        entry.positions = 10 * version;
        let id = CapsuleId::from_hex(&entry.id).unwrap();
        record.capsule = Some(entry);
        let mut writer = tier.writer(&names).unwrap();
        writer
            .put(Artefact::Capsule(version, id), &&b"capsule"[..])
            .unwrap();
        let json = record.to_json().unwrap().into_bytes();
        writer.put(Artefact::Checkpoint(version), &json).unwrap();
    }
    session.append(3, Kind::User, "more".into()).unwrap();
    (folder, session)
}

/// Answers for states by their version.
#[derive(Default)]
struct Told {
    headers: BTreeMap<u64, Code>,
    opens: BTreeMap<u64, Code>,
    common: Option<u64>,
    /// Versions that were compared, and what was restored.
    compared: Vec<u64>,
    restored: Option<(u64, u64)>,
}

fn refused(codes: &BTreeMap<u64, Code>, version: u64) -> Result<()> {
    match codes.get(&version) {
        Some(code) => Err(Error::new(*code, "as the table says")),
        None => Ok(()),
    }
}

impl Restorer for Told {
    fn judge(&mut self, state: &Candidate) -> Result<Header> {
        let version = state.version().unwrap();
        refused(&self.headers, version)?;
        Ok(Header {
            positions: 10 * version,
            whole: false,
        })
    }

    fn common(&mut self, state: &Candidate, _request: &[u32]) -> Result<Option<u64>> {
        let version = state.version().unwrap();
        self.compared.push(version);
        Ok(self.common.map(|common| common.min(10 * version)))
    }

    fn restore(&mut self, state: &Candidate, positions: u64) -> Result<()> {
        let version = state.version().unwrap();
        refused(&self.opens, version)?;
        self.restored = Some((version, positions));
        Ok(())
    }
}

/// The rung, the version that is restored, and the reason.
type Outcome = Result<(Rung, Option<u64>, Option<Code>), Code>;

fn outcome(session: &Session, told: &mut Told) -> Outcome {
    let resumed = session.resume(&Request::default(), told, 0);
    let resumed = resumed.map_err(|error| error.code())?;
    let rung = resumed.plan.taken().unwrap().rung;
    let version = resumed.state.as_ref().and_then(Candidate::version);
    assert_eq!(version, told.restored.map(|(version, _)| version));
    assert!(resumed.unkept.is_none());
    Ok((rung, version, resumed.plan.reason()))
}

#[test]
fn every_code_of_a_state_leads_to_its_rung() {
    let (_folder, session) = session();
    assert_eq!(
        outcome(&session, &mut Told::default()),
        Ok((Rung::Exact, Some(2), None))
    );
    for code in Code::ALL {
        let met = BTreeMap::from([(2, *code)]);
        let both = BTreeMap::from([(1, *code), (2, *code)]);
        let one = match LeadsTo::of(*code) {
            LeadsTo::AnotherState => Ok((Rung::Shorter, Some(1), Some(*code))),
            LeadsTo::HistoryOnly => Ok((Rung::HistoryOnly, None, Some(*code))),
            LeadsTo::Fresh => Ok((Rung::Fresh, None, Some(*code))),
            LeadsTo::Stop => Err(*code),
        };
        let all = match one {
            Ok((Rung::Shorter, ..)) => Ok((Rung::HistoryOnly, None, Some(*code))),
            other => other,
        };
        for (codes, expected) in [(met, one), (both, all)] {
            let headers = Told {
                headers: codes.clone(),
                ..Told::default()
            };
            let opens = Told {
                opens: codes,
                ..Told::default()
            };
            for mut told in [headers, opens] {
                assert_eq!(outcome(&session, &mut told), expected, "{code}");
            }
        }
    }
}

/// Only the state that a plan would take is opened to be compared.
#[test]
fn what_is_not_known_is_made_known_before_it_is_taken() {
    let (_folder, session) = session();
    let request = Request {
        tokens: Some(vec![1]),
        ..Request::default()
    };
    for (common, compared, restored) in [
        (Some(20), vec![2], Some((2, 20))),
        (Some(15), vec![2], Some((2, 15))),
        (Some(0), vec![2, 1], None),
        (None, vec![2], Some((2, 20))),
    ] {
        let mut told = Told {
            common,
            ..Told::default()
        };
        session.resume(&request, &mut told, 0).unwrap();
        assert_eq!((told.compared, told.restored), (compared, restored));
    }
    let planned = session.plan(&request, &mut Told::default()).unwrap();
    assert_eq!(planned.plan.taken().unwrap().rung, Rung::Exact);
}

#[test]
fn positions_and_reserve_are_within_the_context() {
    let (_folder, session) = session();
    for (context, reserve, rung) in [
        (20, 0, Rung::Exact),
        (20, 1, Rung::Shorter),
        (11, 2, Rung::HistoryOnly),
        (0, 1 << 40, Rung::Exact),
    ] {
        let request = Request {
            context,
            reserve,
            ..Request::default()
        };
        let planned = session.plan(&request, &mut Told::default()).unwrap();
        assert_eq!(planned.plan.taken().unwrap().rung, rung, "{context}");
    }
}

#[test]
fn observations_are_bounded_and_torn_ones_are_dropped() {
    let (folder, session) = session();
    let path = folder.path().join("sessions/-/-/s/observations.jsonl");
    let confirm = |restored| {
        session
            .resume(&Request::default(), &mut Told::default(), 5000)
            .unwrap();
        let reuse = Reuse {
            restored,
            evaluated: 5,
            ..Reuse::default()
        };
        session.confirm(&reuse, 5250).unwrap()
    };
    let Confirmed::Effective(first) = confirm(19) else {
        panic!("nineteen of twenty are enough");
    };
    let expected = Observation {
        at: 5,
        rung: Rung::Exact,
        code: None,
        milliseconds: 250,
        asked: 24,
        restored: 19,
        evaluated: 5,
        device: None,
    };
    assert_eq!(first, expected);
    let line = first.to_json().unwrap();
    let refused = confirm(18);
    let Confirmed::Ineffective { states, refusal } = refused else {
        panic!("eighteen are not");
    };
    assert_eq!(states, [format!("{:032x}", 2)]);
    assert_eq!(refusal.code(), Code::StateRestoreIneffective);
    assert_eq!(session.observations().unwrap(), [expected]);

    fs::write(&path, format!("{line}\n{{\"at\":7")).unwrap();
    assert_eq!(session.observations().unwrap().len(), 1);
    confirm(20);
    assert_eq!(session.observations().unwrap().len(), 2);
    fs::write(&path, format!("{line}\n").repeat(2047)).unwrap();
    confirm(21);
    assert_eq!(session.observations().unwrap().len(), 2048);
    confirm(22);
    let kept = session.observations().unwrap();
    assert_eq!(kept.len(), 1025);
    let restored: Vec<u64> = kept[1022..].iter().map(|one| one.restored).collect();
    assert_eq!(restored, [19, 21, 22]);
    fs::write(&path, "{}\n").unwrap();
    assert_eq!(
        session.observations().unwrap_err().code(),
        Code::SessionMalformed
    );
}

/// A resume waits for no writer longer than a writer does, and what it restored stands.
#[test]
fn a_claim_that_cannot_be_kept_is_told() {
    let (folder, session) = session();
    let tier = DeviceTier::at(folder.path().join("sessions"));
    let alone = tier.writer(&Names::of("s")).unwrap();
    let mut told = Told::default();
    let resumed = session.resume(&Request::default(), &mut told, 0).unwrap();
    assert_eq!(told.restored, Some((2, 20)));
    assert_eq!(resumed.unkept.unwrap().code(), Code::LocalBusy);
    drop(alone);
    let refused = session.confirm(&Reuse::default(), 0).unwrap_err();
    assert_eq!(refused.code(), Code::SessionMissing);
}
