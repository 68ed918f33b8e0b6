//! What was asked of a store and what it said, and whether one store, asked one thing after the other, could have said
//! that: each key is linearizable (Herlihy and Wing, 1990), decided by the search of Wing and Gong (1993).

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// One of the files that have a key's id.
pub(crate) type File = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    Put(File),
    Get,
    Delete,
    /// Of who writes the registry, and no relay.
    Revoke,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is kept; it is removed; it is revoked.
    Done,
    /// Another file of this id is kept.
    Another,
    Found(File),
    Absent,
    /// The id is revoked.
    Revoked,
    /// Nobody said: it may have been done, or be done later, or never.
    Nothing,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    asked: Asked,
    told: Told,
    began: u128,
    ended: u128,
}

impl Operation {
    /// It changes nothing, whatever is kept.
    fn only_says(&self) -> bool {
        self.asked == Asked::Get
            || [Told::Another, Told::Absent, Told::Revoked].contains(&self.told)
    }
}

/// Every operation by its key.
pub(crate) struct History {
    since: Instant,
    keys: Mutex<BTreeMap<usize, Vec<Operation>>>,
}

/// Who can be asked.
pub(crate) trait Front {
    /// Asks; none where the answer says nothing of what is kept.
    fn ask(&self, key: usize, asked: Asked) -> Option<Told>;
}

impl History {
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
            keys: Mutex::default(),
        }
    }

    /// Asks, and records it.
    pub(crate) fn ask(&self, front: &impl Front, key: usize, asked: Asked) {
        let began = self.since.elapsed().as_nanos();
        let Some(told) = front.ask(key, asked) else {
            return;
        };
        let ended = match told {
            Told::Nothing => u128::MAX,
            _ => self.since.elapsed().as_nanos(),
        };
        let operation = Operation {
            asked,
            told,
            began,
            ended,
        };
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.entry(key).or_default().push(operation);
    }

    /// Keys, and operations.
    pub(crate) fn len(&self) -> (usize, usize) {
        let keys = self.keys.lock().unwrap();
        (keys.len(), keys.values().map(Vec::len).sum())
    }

    /// Keys whose id is revoked.
    pub(crate) fn revoked(&self) -> usize {
        let keys = self.keys.lock().unwrap();
        let is_revoked = |of: &&Vec<Operation>| of.iter().any(|one| one.asked == Asked::Revoke);
        keys.values().filter(is_revoked).count()
    }

    pub(crate) fn keys(&self) -> Vec<usize> {
        self.keys.lock().unwrap().keys().copied().collect()
    }

    /// The operations of a key that no store could have answered so.
    pub(crate) fn wrong(&self) -> Option<(usize, Vec<Operation>)> {
        let keys = self.keys.lock().unwrap();
        let mut wrong = keys
            .iter()
            .filter(|(_, operations)| !is_possible(operations));
        wrong
            .next()
            .map(|(key, operations)| (*key, operations.clone()))
    }
}

/// What is kept under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Absent,
    Kept(File),
    /// Whatever is kept is given to nobody, and goes some time. What began before this time was judged before, perhaps.
    Revoked(u128),
}

/// What is kept after an operation, where it could have been answered so.
fn after(state: State, operation: &Operation) -> Option<State> {
    use State::{Absent, Kept, Revoked};
    let (then, fits) = match (operation.asked, operation.told, state) {
        (Asked::Revoke, Told::Done, Absent | Kept(_)) => (Revoked(operation.ended), true),
        (Asked::Revoke, Told::Done, Revoked(since)) => (Revoked(since.min(operation.ended)), true),
        (Asked::Put(_) | Asked::Get, Told::Revoked, _) => (state, matches!(state, Revoked(_))),
        (Asked::Put(_), Told::Done | Told::Another, Revoked(since)) => {
            (state, operation.began <= since)
        }
        // it may have gone
        (Asked::Get, Told::Absent, Revoked(_)) | (Asked::Delete, _, Revoked(_)) => (state, true),
        // what would be refused changes nothing
        (Asked::Put(file), Told::Done | Told::Nothing, Absent) => (Kept(file), true),
        (Asked::Put(file), Told::Done, Kept(kept)) => (state, kept == file),
        (Asked::Put(file), Told::Another, _) => {
            (state, matches!(state, Kept(kept) if kept != file))
        }
        (Asked::Get, Told::Found(file), _) => (state, state == Kept(file)),
        (Asked::Get | Asked::Delete, Told::Absent, _) => (state, state == Absent),
        (Asked::Delete, Told::Done, _) => (Absent, matches!(state, Kept(_))),
        (Asked::Delete, Told::Nothing, _) => (Absent, true),
        (Asked::Put(_) | Asked::Get, Told::Nothing, _) => (state, true),
        (asked, told, _) => panic!("{asked:?} was answered by {told:?}"),
    };
    fits.then_some(then)
}

/// Whether some order explains every answer. So that a key with many operations that nobody heard of, each of which may
/// have been done at any time or never, is not searched through for hours:
///
/// - an answer that says what is kept, and never changes it, has its place as soon as it fits: no order needs it later;
/// - of those that asked the same and were not answered, who began first is done first, and only where that changes
///   something: they do not differ in anything else.
fn is_possible(operations: &[Operation]) -> bool {
    let mut answered = Vec::new();
    let mut unheard = BTreeMap::<Asked, Vec<&Operation>>::new();
    for operation in operations {
        match operation.told {
            Told::Nothing => unheard.entry(operation.asked).or_default().push(operation),
            _ => answered.push(operation),
        }
    }
    assert!(answered.len() <= 128, "too many operations of one key");
    let mut unheard: Vec<_> = unheard.into_values().collect();
    for same in &mut unheard {
        same.sort_by_key(|operation| operation.began);
    }
    let begin = (0_u128, vec![0_usize; unheard.len()], State::Absent);
    let mut seen = HashSet::from([begin.clone()]);
    let mut open = vec![begin];
    while let Some((done, used, state)) = open.pop() {
        let left = || {
            let all = (0_u32..).zip(&answered);
            all.filter(|(at, _)| done & (1 << at) == 0)
        };
        // next is one that had begun before any other that is left had ended
        let Some(first) = left().map(|(_, operation)| operation.ended).min() else {
            return true;
        };
        let fits = |operation: &Operation| match operation.began <= first {
            true => after(state, operation),
            false => None,
        };
        let mut next = Vec::new();
        let says = |operation: &Operation| operation.only_says() && fits(operation).is_some();
        if let Some((at, _)) = left().find(|(_, operation)| says(operation)) {
            next.push((done | (1 << at), used, state));
        } else {
            for (at, operation) in left() {
                next.extend(fits(operation).map(|then| (done | (1 << at), used.clone(), then)));
            }
            for (at, same) in unheard.iter().enumerate() {
                let then = same.get(used[at]).and_then(|operation| fits(operation));
                if let Some(then) = then.filter(|then| *then != state) {
                    let mut used = used.clone();
                    used[at] += 1;
                    next.push((done, used, then));
                }
            }
        }
        for one in next {
            if seen.insert(one.clone()) {
                open.push(one);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{super::random, *};

    fn of(asked: Asked, told: Told, began: u128, ended: u128) -> Operation {
        Operation {
            asked,
            told,
            began,
            ended,
        }
    }

    /// The search without anything that makes it fast: every order.
    fn is_possible_in_some_order(left: &[Operation], state: State) -> bool {
        let first = left.iter().map(|operation| operation.ended).min();
        left.iter().all(|operation| operation.told == Told::Nothing)
            || left.iter().enumerate().any(|(at, operation)| {
                let mut rest = left.to_vec();
                rest.remove(at);
                Some(operation.began) <= first
                    && after(state, operation)
                        .is_some_and(|then| is_possible_in_some_order(&rest, then))
            })
    }

    #[test]
    fn the_fast_search_says_what_the_plain_one_says() {
        let (mut seed, mut possible) = (1, 0);
        let rounds = 20_000;
        for _ in 0..rounds {
            let mut history = Vec::new();
            for _ in 0..random(&mut seed, 7) {
                let file = u8::from(random(&mut seed, 2) == 1);
                let (asked, told): (_, &[Told]) = match random(&mut seed, 10) {
                    0..4 => (
                        Asked::Put(file),
                        &[Told::Done, Told::Another, Told::Revoked],
                    ),
                    4..7 => (
                        Asked::Get,
                        &[Told::Found(file), Told::Absent, Told::Revoked],
                    ),
                    7..9 => (Asked::Delete, &[Told::Done, Told::Absent]),
                    _ => (Asked::Revoke, &[Told::Done; 4]),
                };
                let began = random(&mut seed, 12).into();
                let (told, ended) = match told.get(usize::try_from(random(&mut seed, 4)).unwrap()) {
                    Some(told) => (*told, began + u128::from(random(&mut seed, 6))),
                    None => (Told::Nothing, u128::MAX),
                };
                history.push(of(asked, told, began, ended));
            }
            let plain = is_possible_in_some_order(&history, State::Absent);
            assert_eq!(is_possible(&history), plain, "{history:#?}");
            possible += u32::from(plain);
        }
        assert!((rounds / 10..rounds * 9 / 10).contains(&possible));
    }

    #[test]
    fn a_key_that_hardly_anybody_heard_of_is_judged_at_once() {
        // each unanswered, while the database was away, and then what no order explains
        let mut history: Vec<_> = (0..60)
            .map(|at| {
                let asked = [Asked::Put(0), Asked::Delete, Asked::Put(1), Asked::Get];
                of(asked[at % 4], Told::Nothing, at as u128, u128::MAX)
            })
            .collect();
        history.push(of(Asked::Get, Told::Found(0), 100, 101));
        assert!(is_possible(&history));
        history.push(of(Asked::Get, Told::Found(2), 102, 103));
        let begun = Instant::now();
        assert!(!is_possible(&history));
        assert!(begun.elapsed().as_secs() < 20);
    }

    #[test]
    fn what_could_be_so_is_possible_and_nothing_else() {
        let put = of(Asked::Put(1), Told::Done, 0, 10);
        assert!(is_possible(&[put, of(Asked::Get, Told::Found(1), 11, 12)]));
        assert!(
            is_possible(&[put, of(Asked::Get, Told::Absent, 5, 6)]),
            "beside it"
        );
        assert!(
            !is_possible(&[put, of(Asked::Get, Told::Absent, 11, 12)]),
            "lost"
        );
        assert!(
            !is_possible(&[put, of(Asked::Put(2), Told::Done, 11, 12)]),
            "twice"
        );
        assert!(
            !is_possible(&[put, of(Asked::Put(2), Told::Done, 5, 6)]),
            "twice at once"
        );
        assert!(
            !is_possible(&[put, of(Asked::Get, Told::Found(2), 11, 12)]),
            "other bytes"
        );
        let gone = of(Asked::Delete, Told::Done, 11, 12);
        assert!(
            !is_possible(&[put, gone, of(Asked::Get, Told::Found(1), 13, 14)]),
            "back"
        );
        let revoked = of(Asked::Revoke, Told::Done, 11, 14);
        let get = |told, began| of(Asked::Get, told, began, began + 1);
        assert!(is_possible(&[put, revoked, get(Told::Found(1), 12)]));
        assert!(is_possible(&[
            put,
            revoked,
            get(Told::Revoked, 13),
            get(Told::Absent, 15)
        ]));
        assert!(
            !is_possible(&[put, revoked, get(Told::Found(1), 15)]),
            "given out"
        );
        assert!(
            !is_possible(&[
                put,
                revoked,
                get(Told::Revoked, 12),
                get(Told::Found(1), 14)
            ]),
            "forgotten"
        );
        assert!(!is_possible(&[put, get(Told::Revoked, 12)]), "by nobody");
        let late = |began| of(Asked::Put(1), Told::Done, began, 20);
        assert!(is_possible(&[revoked, get(Told::Revoked, 12), late(14)]));
        assert!(!is_possible(&[revoked, late(15)]), "put after it");
        let unheard = of(Asked::Put(2), Told::Nothing, 0, u128::MAX);
        assert!(is_possible(&[
            unheard,
            of(Asked::Get, Told::Absent, 5, 6),
            of(Asked::Get, Told::Found(2), 7, 8)
        ]));
        assert!(!is_possible(&[
            unheard,
            of(Asked::Get, Told::Found(2), 5, 6),
            of(Asked::Get, Told::Absent, 7, 8)
        ]));
    }
}
