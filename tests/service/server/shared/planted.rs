//! Stores in memory with a fault each, of the kinds that the checker is there to find.

use std::{
    collections::HashMap,
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
}

#[derive(Default)]
struct Disk {
    durable: HashMap<usize, File>,
    volatile: HashMap<usize, File>,
    leases: HashMap<usize, (u64, Instant)>,
}

struct Planted {
    fault: Fault,
    disk: Mutex<Disk>,
    lease: AtomicU64,
}

/// Time that a lease lasts.
const LEASE: Duration = Duration::from_millis(3);

impl Planted {
    fn disk(&self) -> std::sync::MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, key: usize, file: File) -> Option<Told> {
        let own = self.lease.fetch_add(1, Ordering::SeqCst);
        let mut disk = self.disk();
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
        self.disk().volatile.clear();
    }

    fn flush(&self) {
        let mut disk = self.disk();
        let volatile = std::mem::take(&mut disk.volatile);
        disk.durable.extend(volatile);
    }
}

impl Front for &Planted {
    fn ask(&self, key: usize, asked: Asked) -> Option<Told> {
        match asked {
            Asked::Put(file) => self.put(key, file),
            Asked::Get => {
                let disk = self.disk();
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

/// Whether a run of a second finds something, in one of some tries.
fn is_found(fault: Fault) -> bool {
    (0..10).any(|_| {
        let planted = Planted {
            fault,
            disk: Mutex::default(),
            lease: AtomicU64::default(),
        };
        let (history, over) = (History::new(), AtomicBool::new(false));
        scope(|scope| {
            for number in 0..6 {
                let (planted, history, over) = (&planted, &history, &over);
                scope.spawn(move || {
                    load(&planted, history, number, &|| over.load(Ordering::SeqCst))
                });
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
        history.wrong().is_some()
    })
}

#[test]
fn the_checker_finds_each_planted_fault_and_none_where_there_is_none() {
    assert!(!is_found(Fault::None));
    assert!(is_found(Fault::AnsweredBeforeDurable));
    assert!(is_found(Fault::CheckedThenPut));
    assert!(is_found(Fault::LeaseWithoutFencing));
}
