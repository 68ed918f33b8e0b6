//! Stores in memory with a fault each, of the kinds that the checker is there to find.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{scope, sleep},
    time::{Duration, Instant},
};

use super::{
    history::{Asked, File, Front, History, Told},
    load,
    order::{Keeper, Order, Sealed},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// It says that a file is kept before that is durable.
    AnsweredBeforeDurable,
    /// It looks, lets go, and puts.
    CheckedThenPut,
    /// Who has lost a lease puts all the same.
    LeaseWithoutFencing,
    /// It knows what is revoked until it begins again.
    RevocationForgotten,
    /// It says that a version is there before that is durable.
    VersionBeforeDurable,
    /// It looks for a session's newest version, lets go, and puts one.
    VersionCheckedThenPut,
    /// Who reads a session's versions is told those of a while ago.
    VersionsReadBehind,
}

#[derive(Default)]
struct Disk {
    durable: HashMap<usize, File>,
    volatile: HashMap<usize, File>,
    leases: HashMap<usize, (u64, Instant)>,
    revoked: HashSet<usize>,
    versions: HashMap<usize, Vec<Sealed>>,
    /// As they were when all was durable.
    flushed: HashMap<usize, Vec<Sealed>>,
}

struct Planted {
    fault: Fault,
    disk: Mutex<Disk>,
    next: AtomicU64,
}

/// Time that a lease lasts.
const LEASE: Duration = Duration::from_millis(3);

impl Planted {
    fn disk(&self) -> std::sync::MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_file(&self, key: usize, file: File) -> Option<Told> {
        let own = self.next.fetch_add(1, Ordering::SeqCst);
        let mut disk = self.disk();
        if disk.revoked.contains(&key) {
            return Some(Told::Revoked);
        }
        let kept = |disk: &Disk| disk.volatile.get(&key).or(disk.durable.get(&key)).copied();
        match kept(&disk) {
            Some(kept) if kept == file => return Some(Told::Done),
            Some(_) => return Some(Told::Another),
            None => {}
        }
        if self.fault != Fault::CheckedThenPut {
            if disk
                .leases
                .get(&key)
                .is_some_and(|(_, until)| *until > Instant::now())
            {
                return None;
            }
            disk.leases.insert(key, (own, Instant::now() + LEASE));
        }
        drop(disk);
        // some uploads are slow
        sleep(Duration::from_millis(own % 3 * 4));
        let mut disk = self.disk();
        let is_held = disk
            .leases
            .get(&key)
            .is_some_and(|(lease, _)| *lease == own);
        if self.fault != Fault::CheckedThenPut
            && self.fault != Fault::LeaseWithoutFencing
            && !is_held
        {
            return None;
        }
        disk.leases.remove(&key);
        match self.fault {
            Fault::AnsweredBeforeDurable => disk.volatile.insert(key, file),
            _ => disk.durable.insert(key, file),
        };
        Some(Told::Done)
    }

    /// What is not durable is gone.
    fn crash(&self) {
        let mut disk = self.disk();
        disk.volatile.clear();
        match self.fault {
            Fault::RevocationForgotten => disk.revoked.clear(),
            Fault::VersionBeforeDurable => disk.versions = disk.flushed.clone(),
            _ => {}
        }
    }

    fn flush(&self) {
        let mut disk = self.disk();
        disk.flushed = disk.versions.clone();
        let volatile = std::mem::take(&mut disk.volatile);
        disk.durable.extend(volatile);
    }
}

impl Front for &Planted {
    fn ask(&self, key: usize, asked: Asked) -> Option<Told> {
        match asked {
            Asked::Put(file) => self.put_file(key, file),
            Asked::Revoke => {
                self.disk().revoked.insert(key);
                Some(Told::Done)
            }
            Asked::Get => {
                let disk = self.disk();
                if disk.revoked.contains(&key) {
                    return Some(Told::Revoked);
                }
                let kept = disk.volatile.get(&key).or(disk.durable.get(&key));
                Some(kept.map_or(Told::Absent, |file| Told::Found(*file)))
            }
            Asked::Delete => {
                let mut disk = self.disk();
                // who is on his way is told that he is no more
                disk.leases.remove(&key);
                let kept = [disk.volatile.remove(&key), disk.durable.remove(&key)];
                let was_there = kept.into_iter().flatten().next().is_some();
                Some(if was_there { Told::Done } else { Told::Absent })
            }
        }
    }
}

impl Keeper for &Planted {
    fn seal(&self, _: usize, _: usize) -> Option<Sealed> {
        Some(self.next.fetch_add(1, Ordering::SeqCst).to_string())
    }

    fn put(&self, session: usize, version: usize, sealed: &Sealed) -> Told {
        let mut disk = self.disk();
        if disk.versions.entry(session).or_default().len() + 1 != version {
            return Told::Another;
        }
        if self.fault == Fault::VersionCheckedThenPut {
            drop(disk);
            sleep(Duration::from_millis(1));
            disk = self.disk();
        }
        let versions = disk.versions.entry(session).or_default();
        versions.truncate(version - 1);
        versions.push(sealed.clone());
        drop(disk);
        sleep(Duration::from_millis(1));
        Told::Done
    }

    fn read(&self, session: usize) -> Option<Vec<Sealed>> {
        let disk = self.disk();
        let versions = match self.fault {
            Fault::VersionsReadBehind => &disk.flushed,
            _ => &disk.versions,
        };
        Some(versions.get(&session).cloned().unwrap_or_default())
    }
}

/// Whether a run of a second finds something, in one of some tries.
fn is_found(fault: Fault) -> bool {
    (0..10).any(|_| {
        let planted = Planted {
            fault,
            disk: Mutex::default(),
            next: AtomicU64::default(),
        };
        let (history, over) = (History::new(), AtomicBool::new(false));
        let order = Order::new();
        scope(|scope| {
            for number in 0..6 {
                let (planted, history, over) = (&planted, &history, &over);
                scope.spawn(move || {
                    load(&planted, history, number, &|| over.load(Ordering::SeqCst))
                });
            }
            for number in 0..3 {
                let (planted, order, over) = (&planted, &order, &over);
                scope.spawn(move || order.load(&planted, number, &|| over.load(Ordering::SeqCst)));
            }
            for round in 0..100 {
                sleep(Duration::from_millis(10));
                match round % 3 {
                    0 => planted.crash(),
                    _ => planted.flush(),
                }
            }
            over.store(true, Ordering::SeqCst);
        });
        for session in order.names() {
            order.read(session, || (&planted).read(session));
        }
        history.wrong().is_some() || order.wrong().is_some()
    })
}

#[test]
fn the_checker_finds_each_planted_fault_and_none_where_there_is_none() {
    assert!(!is_found(Fault::None));
    assert!(is_found(Fault::AnsweredBeforeDurable));
    assert!(is_found(Fault::CheckedThenPut));
    assert!(is_found(Fault::LeaseWithoutFencing));
    assert!(is_found(Fault::RevocationForgotten));
    assert!(is_found(Fault::VersionBeforeDurable));
    assert!(is_found(Fault::VersionCheckedThenPut));
    assert!(is_found(Fault::VersionsReadBehind));
}
