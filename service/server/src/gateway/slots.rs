//! Slots, leased to one session at a time (http-v1 HTTP-E-2).

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kvcap_session::Names;
use tokio::sync::Notify;

/// What a slot holds of a session, as far as the gateway knows.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) names: Names,
    /// Life of the engine in which it came there.
    pub(super) generation: u64,
    /// The first token ids of its state, as far as they are known.
    pub(super) tokens: Vec<u32>,
    /// Tokens of its state, by the engine's count.
    pub(super) total: u64,
    /// Tokens that no checkpoint has.
    pub(super) unsaved: u64,
    /// It was restored from a capsule that was handed in, and nothing was evaluated since.
    pub(super) handed_in: bool,
}

/// The slots of an engine.
#[derive(Debug)]
pub(super) struct Slots {
    places: Mutex<Places>,
    freed: Notify,
}

#[derive(Debug)]
struct Places {
    all: Vec<Place>,
    leases: u64,
}

#[derive(Clone, Debug, Default)]
struct Place {
    /// Sessions that nobody else may touch while it is leased: the one that has it, the one that leaves it.
    busy: Option<BTreeSet<Names>>,
    held: Option<Held>,
    /// Number of its last lease.
    used: u64,
}

/// A slot for one request. It is given back when this is dropped, with what it then holds.
#[derive(Debug)]
pub(super) struct Lease {
    slots: Arc<Slots>,
    pub(super) index: usize,
    /// What it holds of the session that it is leased for.
    pub(super) held: Option<Held>,
    /// What it holds of another, which is to be saved before anything else.
    pub(super) displaced: Option<Held>,
}

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        let all = vec![Place::default(); count.max(1)];
        Self {
            places: Mutex::new(Places { all, leases: 0 }),
            freed: Notify::new(),
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a slot: the session's own, or an empty one, or the one that was used longest ago.
    pub(super) async fn lease(self: &Arc<Self>, names: Option<&Names>) -> Lease {
        loop {
            let mut freed = pin!(self.freed.notified());
            // from here on nothing that is freed is missed
            freed.as_mut().enable();
            if let Some(lease) = self.try_lease(names) {
                return lease;
            }
            freed.await;
        }
    }

    fn try_lease(self: &Arc<Self>, names: Option<&Names>) -> Option<Lease> {
        let mut places = self.places();
        let index = places.choose(names)?;
        self.take(&mut places, index, names)
    }

    fn take(
        self: &Arc<Self>,
        places: &mut Places,
        index: usize,
        names: Option<&Names>,
    ) -> Option<Lease> {
        places.leases += 1;
        let now = places.leases;
        let place = places.all.get_mut(index)?;
        let was = place.held.take();
        let own = was.as_ref().is_some_and(|held| Some(&held.names) == names);
        let (held, displaced) = if own { (was, None) } else { (None, was) };
        let leaving = displaced.iter().map(|held| held.names.clone());
        place.busy = Some(leaving.chain(names.cloned()).collect());
        place.used = now;
        Some(Lease {
            slots: Arc::clone(self),
            index,
            held,
            displaced,
        })
    }

    /// Waits for the slot that a session is in; `None` where it is in none.
    pub(super) async fn lease_held(self: &Arc<Self>, names: &Names) -> Option<Lease> {
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            {
                let mut places = self.places();
                if !places.is_busy(names) {
                    let index = places.holder(names)?;
                    return self.take(&mut places, index, Some(names));
                }
            }
            freed.await;
        }
    }

    /// Waits until no slot is leased.
    pub(super) async fn idle(&self) {
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.places().all.iter().all(|place| place.busy.is_none()) {
                return;
            }
            freed.await;
        }
    }

    /// Sessions that are in a slot.
    pub(super) fn held(&self) -> Vec<Names> {
        let places = self.places();
        let all = places.all.iter().filter_map(|place| place.held.as_ref());
        all.map(|held| held.names.clone()).collect()
    }
}

impl Places {
    fn is_busy(&self, names: &Names) -> bool {
        let mut busy = self.all.iter().filter_map(|place| place.busy.as_ref());
        busy.any(|busy| busy.contains(names))
    }

    fn holder(&self, names: &Names) -> Option<usize> {
        let holds = |place: &Place| place.held.as_ref().is_some_and(|held| held.names == *names);
        self.all.iter().position(holds)
    }

    fn choose(&self, names: Option<&Names>) -> Option<usize> {
        if let Some(names) = names {
            if self.is_busy(names) {
                return None;
            }
            if let Some(own) = self.holder(names) {
                return Some(own);
            }
        }
        let idle = self.all.iter().enumerate();
        let idle = idle.filter(|(_, place)| place.busy.is_none());
        idle.min_by_key(|(_, place)| (place.held.is_some(), place.used))
            .map(|(index, _)| index)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut places = self.slots.places();
        if let Some(place) = places.all.get_mut(self.index) {
            place.held = self.held.take();
            place.busy = None;
        }
        drop(places);
        self.slots.freed.notify_waiters();
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]
mod tests {
    use super::*;

    fn names(session: &str) -> Names {
        Names {
            tenant: None,
            subject: None,
            session: session.to_owned(),
        }
    }

    fn held(session: &str) -> Held {
        Held {
            names: names(session),
            generation: 1,
            tokens: Vec::new(),
            total: 0,
            unsaved: 1,
            handed_in: false,
        }
    }

    fn used_by(slots: &Arc<Slots>, session: &str) -> Option<Lease> {
        let mut lease = slots.try_lease(Some(&names(session)))?;
        lease.held = Some(held(session));
        Some(lease)
    }

    #[test]
    fn a_session_gets_its_own_slot_and_the_longest_unused_one_leaves() {
        let slots = Arc::new(Slots::new(2));
        drop(used_by(&slots, "a").unwrap());
        drop(used_by(&slots, "b").unwrap());
        let again = slots.try_lease(Some(&names("a"))).unwrap();
        assert_eq!((again.index, again.held.is_some()), (0, true));
        drop(again);
        let third = slots.try_lease(Some(&names("c"))).unwrap();
        let left = third.displaced.as_ref().unwrap();
        assert_eq!((third.index, left.names.session.as_str()), (1, "b"));
        // who is leaving is waited for, and so is who is there
        assert!(slots.try_lease(Some(&names("b"))).is_none());
        assert!(slots.try_lease(Some(&names("c"))).is_none());
        drop(third);
        assert!(slots.try_lease(Some(&names("b"))).is_some());
    }

    #[test]
    fn nobody_gets_a_slot_that_is_leased() {
        let slots = Arc::new(Slots::new(1));
        let lease = slots.try_lease(None).unwrap();
        assert!(slots.try_lease(None).is_none());
        drop(lease);
        assert!(slots.try_lease(None).unwrap().displaced.is_none());
    }
}
