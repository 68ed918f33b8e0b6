//! A session's work, stopped at each of its operations on the disk.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use kvcap_session::files::DeviceTier;
use kvcap_store::operation::{Operation, observe};
use tempfile::TempDir;

use crate::{
    disk::{Crash, Disk, Remains, make},
    work::{Promised, check, work},
};

/// The process has one observer.
static ALONE: Mutex<()> = Mutex::new(());

pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The path that an operation is about.
pub(crate) fn place<'o>(operation: &Operation<'o>) -> &'o Path {
    match *operation {
        Operation::Create(path)
        | Operation::Write(path)
        | Operation::Cut(path)
        | Operation::Sync(path)
        | Operation::Rename(path, _)
        | Operation::SyncFolder(path)
        | Operation::Remove(path) => path,
        _ => panic!("an operation that this test does not know"),
    }
}

/// Which operations the disk that is modelled hears of.
type Heard = Box<dyn Fn(&Operation<'_>) -> bool + Send + Sync>;

/// What a crash can leave, and at which moments.
type Crashes = BTreeMap<(Remains, Promised), String>;

/// A folder of a disk that need not last: what is durable is modelled.
pub(crate) fn quick() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = TempDir::new_in(memory);
    made.or_else(|_| TempDir::new()).unwrap()
}

/// Everything that a crash could leave of the work, with what had been promised then. `heard` may keep an operation from
/// the disk that is modelled.
fn crashes(heard: impl Fn(&Operation<'_>) -> bool + Send + Sync + 'static) -> Crashes {
    let folder = quick();
    let root = folder.path().to_owned();
    let state = (Disk::new(&root), Crashes::new(), Promised::default());
    let state = Arc::new(Mutex::new(state));
    let (shared, watched) = (Arc::clone(&state), root.clone());
    let take = |state: &mut (Disk, Crashes, Promised), moment: &str| {
        let (disk, crashes, promised) = state;
        disk.settle()?;
        for crash in Crash::ALL {
            let remains = disk.crash(crash)?;
            let at = || format!("{crash:?} {moment}");
            crashes
                .entry((remains, promised.clone()))
                .or_insert_with(at);
        }
        io::Result::Ok(())
    };
    observe(Some(Box::new(move |operation| {
        if !place(&operation).starts_with(&watched) {
            return Ok(());
        }
        let state = &mut *shared.lock().unwrap();
        take(state, &format!("before {operation:?}"))?;
        match heard(&operation) {
            true => state.0.hear(operation),
            false => Ok(()),
        }
    })));
    let worked = work(&DeviceTier::at(root), &mut |promised| {
        state.lock().unwrap().2 = promised.clone();
    });
    observe(None);
    worked.unwrap();
    let mut state = state.lock().unwrap();
    take(&mut state, "after the last").unwrap();
    std::mem::take(&mut state.1)
}

/// Whatever a crash leaves: what was promised is there, nothing half is, and the work begun again ends as it should.
#[test]
fn no_crash_loses_a_promise_or_shows_a_half() {
    let _alone = alone();
    let crashes = crashes(|_| true);
    assert!(crashes.len() > 60, "{} crashes", crashes.len());
    for ((remains, promised), at) in crashes {
        let folder = quick();
        let tier = DeviceTier::at(folder.path().join("sessions"));
        make(&remains, &folder.path().join("sessions")).unwrap();
        check(&tier, &promised).unwrap_or_else(|why| panic!("{at}: {why}"));
        let mut last = Promised::default();
        work(&tier, &mut |promised| last = promised.clone())
            .unwrap_or_else(|error| panic!("{at}, begun again: {error}"));
        check(&tier, &last).unwrap_or_else(|why| panic!("{at}, begun again: {why}"));
    }
}

/// The model is strict: a sync that is left out shows.
#[test]
fn a_sync_that_is_left_out_is_seen() {
    let _alone = alone();
    let bytes_of = |is_left_out: fn(&Path) -> bool| -> Heard {
        Box::new(move |operation| !matches!(operation, Operation::Sync(path) if is_left_out(path)))
    };
    let name_of = |suffix: &'static str| -> Heard {
        let named = AtomicBool::new(false);
        Box::new(move |operation| {
            if let Operation::Rename(_, path) = operation {
                let is_it = path.to_string_lossy().ends_with(suffix);
                named.store(is_it, Ordering::SeqCst);
            }
            !matches!(operation, Operation::SyncFolder(_)) || !named.load(Ordering::SeqCst)
        })
    };
    let all = [
        bytes_of(|path| path.ends_with("log.jsonl")),
        bytes_of(|path| is_of(path, ".kvcap")),
        bytes_of(|path| is_of(path, ".json")),
        name_of(".kvcap"),
        name_of(".json"),
    ];
    for (at, heard) in all.into_iter().enumerate() {
        let seen = crashes(heard).into_keys().any(|(remains, promised)| {
            let folder = quick();
            let tier = DeviceTier::at(folder.path().join("sessions"));
            make(&remains, &folder.path().join("sessions")).unwrap();
            check(&tier, &promised).is_err()
        });
        assert!(seen, "sync {at}");
    }
}

/// Whether a file in the making is to end so.
fn is_of(path: &Path, suffix: &str) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    let stem = name.strip_suffix(".kvcap.tmp");
    let stem = stem.and_then(|name| name.rsplit_once('.'));
    stem.is_some_and(|(stem, _)| stem.ends_with(suffix))
}

/// A disk that is full at one operation and has room again: the refusal is told, nothing half is there, and the work
/// begun again ends as it should.
#[test]
fn a_full_disk_is_told_and_leaves_nothing_half() {
    let _alone = alone();
    for stop in 0.. {
        let folder = quick();
        let root = folder.path().to_owned();
        let tier = DeviceTier::at(root.join("sessions"));
        let count = Mutex::new(0);
        observe(Some(Box::new(move |operation| {
            if !place(&operation).starts_with(&root) {
                return Ok(());
            }
            let mut count = count.lock().unwrap();
            *count += 1;
            match *count - 1 == stop {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        })));
        let mut last = Promised::default();
        let worked = work(&tier, &mut |promised| last = promised.clone());
        observe(None);
        check(&tier, &last).unwrap_or_else(|why| panic!("operation {stop}: {why}"));
        let Err(error) = worked else {
            assert!(stop > 40, "{stop} operations");
            break;
        };
        assert_eq!(error.code().number(), 940, "operation {stop}: {error}");
        work(&tier, &mut |promised| last = promised.clone()).unwrap();
        check(&tier, &last).unwrap();
    }
}
