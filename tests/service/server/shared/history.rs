//! What was asked of a store and what it said, and whether one store, asked one thing after the other, could have said
//! that: each key is linearizable (Herlihy and Wing, 1990), decided by the search of Wing and Gong (1993).

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// One of the files that have a key's id.
pub(crate) type File = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Put(File),
    Get,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is kept; it is removed.
    Done,
    /// Another file of this id is kept.
    Another,
    Found(File),
    Absent,
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
type State = Option<File>;

/// What is kept after an operation, where it could have been answered so.
fn after(state: State, operation: &Operation) -> Option<State> {
    match (operation.asked, operation.told) {
        (Asked::Put(file), Told::Done) => {
            state.is_none_or(|kept| kept == file).then_some(Some(file))
        }
        (Asked::Put(file), Told::Another) => {
            state.is_some_and(|kept| kept != file).then_some(state)
        }
        // what would be refused changes nothing
        (Asked::Put(file), Told::Nothing) => Some(state.or(Some(file))),
        (Asked::Get, Told::Found(file)) => (state == Some(file)).then_some(state),
        (Asked::Get | Asked::Delete, Told::Absent) => state.is_none().then_some(state),
        (Asked::Delete, Told::Done) => state.is_some().then_some(None),
        (Asked::Delete, Told::Nothing) => Some(None),
        (Asked::Get, Told::Nothing) => Some(state),
        (asked, told) => panic!("{asked:?} was answered by {told:?}"),
    }
}

fn is_possible(operations: &[Operation]) -> bool {
    assert!(operations.len() <= 128, "too many operations of one key");
    let answered = operations.iter().zip(0_u32..);
    let answered = answered.filter(|(operation, _)| operation.told != Told::Nothing);
    let all: u128 = answered.fold(0, |all, (_, at)| all | (1 << at));
    let mut seen = HashSet::new();
    let mut open = vec![(0_u128, None)];
    while let Some((done, state)) = open.pop() {
        // what nobody heard of may never have been done
        if done & all == all {
            return true;
        }
        let rest = || {
            (0_u32..)
                .zip(operations)
                .filter(|(at, _)| done & (1 << at) == 0)
        };
        // next is one that had begun before any other that is left had ended
        let first = rest()
            .map(|(_, operation)| operation.ended)
            .min()
            .unwrap_or(u128::MAX);
        for (at, operation) in rest().filter(|(_, operation)| operation.began <= first) {
            if let Some(state) = after(state, operation) {
                let next = (done | (1 << at), state);
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(asked: Asked, told: Told, began: u128, ended: u128) -> Operation {
        Operation {
            asked,
            told,
            began,
            ended,
        }
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
