//! A session of an owner to whom things happen: a clock that goes back, a disk that takes nothing or is full, writers side
//! by side, hundreds of sessions.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use kvcap::{Code, Result};
use kvcap_session::{
    Body, Cause, Event, Kind, Names, Session,
    files::{DeviceTier, Tier},
};
use kvcap_store::operation::observe;

use crate::crash::{alone, place, quick};

fn said(session: &mut Session, at: u64, text: &str) -> Result<Event> {
    session.append(at, Kind::User, Body::from(text))
}

fn number<T: std::fmt::Debug>(result: Result<T>) -> u16 {
    result.unwrap_err().code().number()
}

/// Files and their bytes below a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => left.push(path),
                false => drop(found.insert(path.clone(), fs::read(path).unwrap())),
            }
        }
    }
    found
}

#[test]
fn a_clock_that_goes_back_makes_nothing_older() {
    let folder = quick();
    let tier = DeviceTier::at(folder.path().join("sessions"));
    let mut session = Session::load_or_create(&tier, &Names::of("fix"), 1000).unwrap();
    said(&mut session, 1000, "one").unwrap();
    let first = session.checkpoint(1000, Cause::Asked, None).unwrap();
    // an event says what the clock said, and a version is not before the one that it follows
    assert_eq!(said(&mut session, 10, "two").unwrap().at, 10);
    let second = session.checkpoint(20, Cause::Asked, None).unwrap();
    let third = session.revert(5, 1).unwrap();
    let ats = [first, second, third].map(|record| record.at);
    assert_eq!(ats, [1000, 1000, 1000]);
    assert_eq!(
        session.checkpoint(2000, Cause::Asked, None).unwrap().at,
        2000
    );
    let again = Session::load(&tier, &Names::of("fix")).unwrap();
    assert_eq!(again.status().unwrap().current.replay_cursor, 3);
    assert_eq!(again.versions().unwrap(), [1, 2, 3, 4]);
}

/// What a session's life consists of, begun anew wherever it was stopped.
fn life(tier: &DeviceTier, now: u64) -> Result<()> {
    let mut session = Session::load_or_create(tier, &Names::of("fix"), now)?;
    for text in ["one", "two"] {
        said(&mut session, now, text)?;
        session.checkpoint(now, Cause::Asked, None)?;
    }
    let newest = session.versions()?.into_iter().max().unwrap();
    session.pin(newest, true)?;
    match session.branch("twig", newest, now) {
        // from before
        Err(error) if error.code() == Code::SessionVersion => {
            Session::load(tier, &Names::of("twig")).unwrap();
        }
        branched => drop(branched?),
    }
    session.revert(now, 1)?;
    session.pin(newest, false)?;
    let said = session.clearance(1)?;
    session.clear(&said, 1)
}

/// What there is of it is whole.
fn readable(tier: &DeviceTier) {
    for names in tier.sessions().unwrap() {
        match Session::load(tier, &names) {
            Err(error) => assert_eq!(error.code(), Code::SessionMissing, "{error}"),
            Ok(session) => {
                session.events().unwrap();
                session.status().unwrap();
                session.states().unwrap();
                session.clearance(1).unwrap();
            }
        }
    }
}

#[test]
fn a_disk_that_takes_nothing_is_told_and_read() {
    let _alone = alone();
    let folder = quick();
    let tier = DeviceTier::at(folder.path().join("sessions"));
    life(&tier, 1).unwrap();
    let mut session = Session::load(&tier, &Names::of("fix")).unwrap();
    said(&mut session, 1, "three").unwrap();
    session.checkpoint(1, Cause::Asked, None).unwrap();
    let before = files(folder.path());
    let root = folder.path().to_owned();
    observe(Some(Box::new(move |operation| {
        match place(&operation).starts_with(&root) {
            true => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            false => Ok(()),
        }
    })));
    let plan = session.clearance(1).unwrap();
    let refused = [
        number(said(&mut session, 2, "more")),
        number(session.checkpoint(2, Cause::Asked, None)),
        number(session.revert(2, 0)),
        number(session.branch("other", 3, 2)),
        number(session.pin(3, true)),
        number(session.clear(&plan, 1)),
        number(Session::load_or_create(&tier, &Names::of("new"), 2)),
    ];
    readable(&tier);
    observe(None);
    assert!(!plan.parts.is_empty());
    assert_eq!(refused, [940; 7]);
    // not even a part of something
    let locks = |files: BTreeMap<PathBuf, Vec<u8>>| -> BTreeMap<PathBuf, Vec<u8>> {
        let is_lock = |path: &PathBuf| path.ends_with("lock");
        files
            .into_iter()
            .filter(|(path, _)| !is_lock(path))
            .collect()
    };
    assert_eq!(locks(files(folder.path())), locks(before));
}

/// Full at one operation of a session's life and with room again later: told, nothing half, and what was begun is done.
#[test]
fn a_disk_that_is_full_stops_no_session_for_good() {
    let _alone = alone();
    for stop in 0.. {
        let folder = quick();
        let root = folder.path().to_owned();
        let tier = DeviceTier::at(root.join("sessions"));
        let count = Arc::new(AtomicUsize::new(0));
        observe(Some(Box::new(move |operation| {
            if !place(&operation).starts_with(&root) {
                return Ok(());
            }
            match count.fetch_add(1, Ordering::SeqCst) == stop {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        })));
        let lived = life(&tier, 1);
        observe(None);
        readable(&tier);
        let Err(error) = lived else {
            assert!(stop > 60, "{stop} operations");
            break;
        };
        assert_eq!(error.code().number(), 940, "operation {stop}: {error}");
        // at another time: what it makes is not the same
        life(&tier, 2).unwrap_or_else(|error| panic!("operation {stop}, again: {error}"));
        readable(&tier);
    }
}

#[test]
fn writers_side_by_side_make_one_log_and_each_version_once() {
    let folder = quick();
    let tier = DeviceTier::at(folder.path().join("sessions"));
    let work = |writer: usize| {
        let mut session = Session::load_or_create(&tier, &Names::of("fix"), 1).unwrap();
        for round in 0..10 {
            let text = format!("{writer} {round}");
            // another writer's second is no failure
            while let Err(error) = said(&mut session, 1, &text) {
                assert_eq!(error.code(), Code::LocalBusy, "{error}");
            }
            if round % 5 == 4 {
                while let Err(error) = session.checkpoint(1, Cause::Asked, None) {
                    assert_eq!(error.code(), Code::LocalBusy, "{error}");
                }
            }
        }
    };
    thread::scope(|scope| {
        for writer in 0..4 {
            scope.spawn(move || work(writer));
        }
    });
    let session = Session::load(&tier, &Names::of("fix")).unwrap();
    let events = session.events().unwrap();
    assert_eq!(events.len(), 40);
    for writer in 0..4 {
        let own = events.iter().map(Event::text);
        let own: Vec<&str> = own
            .filter(|text| text.starts_with(&format!("{writer} ")))
            .collect();
        let wanted: Vec<String> = (0..10).map(|round| format!("{writer} {round}")).collect();
        assert_eq!(own, wanted);
    }
    assert_eq!(session.versions().unwrap(), (1..=8).collect::<Vec<u64>>());
    assert_eq!(session.status().unwrap().current.turns, 40);
}

#[test]
fn hundreds_of_sessions_are_listed_and_found() {
    let folder = quick();
    let tier = DeviceTier::at(folder.path().join("sessions"));
    let owners = [
        (None, None),
        (None, Some("ann")),
        (Some("acme"), Some("ann")),
    ];
    let names = |at: usize| {
        let (tenant, subject) = owners[at % 3];
        Names {
            tenant: tenant.map(str::to_owned),
            subject: subject.map(str::to_owned),
            session: format!("{:03}-{}", at / 3, at % 7),
        }
    };
    let time = |at: usize| SystemTime::UNIX_EPOCH + Duration::from_secs(at as u64);
    for at in 0..450 {
        let mut session = Session::load_or_create(&tier, &names(at), 1).unwrap();
        said(&mut session, 1, "hello").unwrap();
        let folder = tier.folder(&names(at)).unwrap();
        // the order of the last change is another than that of names: of the folder's for even ones, of the log's for odd
        let change = 1000 + at * 7 % 450;
        let (own, log) = if at % 2 == 0 {
            (change, 1)
        } else {
            (1, change)
        };
        let of = |path: PathBuf| fs::File::open(path).unwrap();
        of(folder.join("log.jsonl"))
            .set_modified(time(log))
            .unwrap();
        of(folder).set_modified(time(own)).unwrap();
    }
    let mut wanted: Vec<usize> = (0..450).collect();
    wanted.sort_by_key(|at| std::cmp::Reverse(at * 7 % 450));
    let wanted: Vec<(Names, SystemTime)> = wanted
        .into_iter()
        .map(|at| (names(at), time(1000 + at * 7 % 450)))
        .collect();
    assert_eq!(tier.changed().unwrap(), wanted);
    for (tenant, subject) in owners {
        let own = |names: &Names| {
            (names.tenant.as_deref(), names.subject.as_deref()) == (tenant, subject)
        };
        let newest = wanted
            .iter()
            .map(|(names, _)| names)
            .find(|names| own(names));
        assert_eq!(tier.last(tenant, subject).ok().as_ref(), newest);
    }
    for at in [0, 7, 449] {
        let whole = names(at);
        let begun = Names {
            session: whole.session[..4].to_owned(),
            ..whole.clone()
        };
        assert_eq!(tier.find(&begun).unwrap(), whole);
        assert_eq!(tier.find(&whole).unwrap(), whole);
        let of_another = Names {
            subject: Some("bob".to_owned()),
            ..begun.clone()
        };
        assert_eq!(number(tier.find(&of_another)), 955);
        let short = Names {
            session: whole.session[..1].to_owned(),
            ..whole
        };
        assert_eq!(number(tier.find(&short)), 944);
    }
}

/// A version that another process pins after it was said what would go is not removed.
#[test]
fn what_is_pinned_in_the_meantime_stays() {
    let folder = quick();
    let tier = DeviceTier::at(folder.path().join("sessions"));
    let mut session = Session::load_or_create(&tier, &Names::of("fix"), 1).unwrap();
    for _ in 0..3 {
        session.checkpoint(1, Cause::Asked, None).unwrap();
    }
    let mut other = Session::load(&tier, &Names::of("fix")).unwrap();
    let plan = session.clearance(1).unwrap();
    assert_eq!(plan.parts.len(), 2);
    other.pin(1, true).unwrap();
    session.clear(&plan, 1).unwrap();
    assert_eq!(session.versions().unwrap(), [1, 3]);
    // and neither forgets what the other has pinned
    session.pin(3, true).unwrap();
    other.pin(3, false).unwrap();
    let pinned = Session::load(&tier, &Names::of("fix")).unwrap();
    assert_eq!(pinned.pinned().iter().copied().collect::<Vec<u64>>(), [1]);
}

/// A branch that was begun and not finished is begun anew, and nothing else is taken for one.
#[test]
fn what_has_lost_its_description_is_no_copy() {
    let folder = quick();
    let tier = DeviceTier::at(folder.path().join("sessions"));
    let mut session = Session::load_or_create(&tier, &Names::of("fix"), 1).unwrap();
    for text in ["one", "two"] {
        said(&mut session, 1, text).unwrap();
        session.checkpoint(1, Cause::Asked, None).unwrap();
    }
    let lose = |name: &str| {
        let folder = tier.folder(&Names::of(name)).unwrap();
        fs::remove_file(folder.join("session.json")).unwrap();
    };
    session.branch("twig", 2, 1).unwrap();
    lose("twig");
    // of less than was begun, at another time
    let twig = session.branch("twig", 1, 2).unwrap();
    assert_eq!(twig.events().unwrap().len(), 1);
    assert_eq!(twig.versions().unwrap(), [1]);

    let own = |name: &str, says: bool, checkpoints: bool| {
        let mut own = Session::load_or_create(&tier, &Names::of(name), 1).unwrap();
        if says {
            said(&mut own, 1, "own").unwrap();
        }
        if checkpoints {
            own.checkpoint(1, Cause::Asked, None).unwrap();
        }
        lose(name);
    };
    own("event", true, false);
    own("checkpoint", false, true);
    own("both", true, true);
    own("twig", true, false);
    for name in ["event", "checkpoint", "both", "twig"] {
        let before = files(&tier.folder(&Names::of(name)).unwrap());
        assert_eq!(number(session.branch(name, 2, 3)), 954, "{name}");
        assert_eq!(files(&tier.folder(&Names::of(name)).unwrap()), before);
    }
}
