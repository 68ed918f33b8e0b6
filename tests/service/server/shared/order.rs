//! Versions of sessions that several devices put (http-v1 §12.1), and whether one order explains what each was told: a
//! version is put once, between the beginning of its put and the answer, and who reads sees those that are there.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{history::Told, random};

/// The id of a sealed version, which no other has.
pub(crate) type Sealed = String;

/// Who keeps the order.
pub(crate) trait Keeper {
    /// Seals a version, and has it kept; none where nobody says that it is.
    fn seal(&self, session: usize, version: usize) -> Option<Sealed>;

    /// Puts a version after the one before it.
    fn put(&self, session: usize, version: usize, sealed: &Sealed) -> Told;

    /// The versions from the first on; none where nobody says.
    fn read(&self, session: usize) -> Option<Vec<Sealed>>;
}

#[derive(Debug)]
enum Event {
    Put(usize, Sealed, Told),
    /// So many versions were there.
    Read(usize),
}

/// What was told of a session.
#[derive(Debug, Default)]
struct Session {
    /// Its versions, as whoever saw most of them did.
    versions: Vec<Sealed>,
    /// Two who read saw different ones.
    differs: bool,
    /// Each with its beginning and its end.
    events: Vec<(Event, u128, u128)>,
}

impl Session {
    fn saw(&mut self, versions: Vec<Sealed>) -> usize {
        let seen = versions.len();
        self.differs |= self.versions.iter().zip(&versions).any(|(a, b)| a != b);
        if seen > self.versions.len() {
            self.versions = versions;
        }
        seen
    }

    /// Why no order explains all, if none does. Each version has a time before which it cannot have been there, since its put
    /// or that of one before it had not begun, or since one who began to read later did not see it; and a time from which on
    /// it was there, since its put was answered, or one saw it or a later one. So there is an order if and only if no
    /// version's first time is after its second.
    fn wrong(&self) -> Option<String> {
        let count = self.versions.len();
        let (mut not_before, mut not_after) = (vec![0; count + 2], vec![u128::MAX; count + 2]);
        let mut put = vec![false; count + 1];
        for (event, began, ended) in &self.events {
            let (there, absent) = match event {
                Event::Put(version, sealed, told) => {
                    let is_kept = self.versions.get(version - 1) == Some(sealed);
                    match told {
                        Told::Done if !is_kept => return Some(format!("{version} was lost")),
                        Told::Another if is_kept => {
                            return Some(format!("{version} was refused"));
                        }
                        Told::Another if *version > count => {
                            return Some(format!("nobody was before {version}"));
                        }
                        _ => {}
                    }
                    if is_kept {
                        put[*version] = true;
                        not_before[*version] = *began;
                    }
                    let says = is_kept || *told == Told::Another;
                    (says.then_some(*version), None)
                }
                Event::Read(seen) => (Some(*seen), Some(seen + 1)),
            };
            if let Some(version) = there {
                not_after[version] = not_after[version].min(*ended);
            }
            if let Some(version) = absent {
                not_before[version] = not_before[version].max(*began);
            }
        }
        for version in 1..=count {
            not_before[version] = not_before[version].max(not_before[version - 1]);
        }
        for version in (1..count).rev() {
            not_after[version] = not_after[version].min(not_after[version + 1]);
        }
        let bad = |version: &usize| !put[*version] || not_before[*version] > not_after[*version];
        match (1..=count).find(bad) {
            _ if self.differs => Some("two saw different versions of a number".to_owned()),
            Some(version) => Some(format!("{version} was there before or after its time")),
            None => None,
        }
    }
}

/// What was told of each session.
pub(crate) struct Order {
    since: Instant,
    sessions: Mutex<BTreeMap<usize, Session>>,
}

impl Order {
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
            sessions: Mutex::default(),
        }
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<usize, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn time(&self) -> u128 {
        self.since.elapsed().as_nanos()
    }

    /// Reads the versions of a session, and records what was seen: so many.
    pub(crate) fn read(
        &self,
        session: usize,
        read: impl FnOnce() -> Option<Vec<Sealed>>,
    ) -> Option<usize> {
        let began = self.time();
        let versions = read()?;
        let ended = self.time();
        let mut sessions = self.sessions();
        let of = sessions.entry(session).or_default();
        let seen = of.saw(versions);
        of.events.push((Event::Read(seen), began, ended));
        Some(seen)
    }

    fn put(&self, keeper: &impl Keeper, session: usize, version: usize) {
        let Some(sealed) = keeper.seal(session, version) else {
            return;
        };
        let began = self.time();
        let told = keeper.put(session, version, &sealed);
        let ended = match told {
            Told::Nothing => u128::MAX,
            _ => self.time(),
        };
        let event = Event::Put(version, sealed, told);
        let mut sessions = self.sessions();
        let of = sessions.entry(session).or_default();
        of.events.push((event, began, ended));
    }

    /// A device that puts the version after the newest that it sees, of sessions that all devices have for a while.
    pub(crate) fn load(&self, keeper: &impl Keeper, number: u64, is_over: &dyn Fn() -> bool) {
        let (mut seed, mut asked) = (number + 1, 0);
        while !is_over() {
            let session = usize::try_from(asked / 16 * 2 + random(&mut seed, 2)).unwrap();
            asked += 1;
            if let Some(seen) = self.read(session, || keeper.read(session))
                && random(&mut seed, 4) > 0
            {
                self.put(keeper, session, seen + 1);
            }
        }
    }

    pub(crate) fn names(&self) -> Vec<usize> {
        self.sessions().keys().copied().collect()
    }

    /// Sessions, and versions of them.
    pub(crate) fn len(&self) -> (usize, usize) {
        let sessions = self.sessions();
        let versions = sessions.values().map(|session| session.versions.len());
        (sessions.len(), versions.sum())
    }

    /// A session of which no order explains what was told, and why.
    pub(crate) fn wrong(&self) -> Option<String> {
        let sessions = self.sessions();
        let mut wrong = sessions.iter().filter_map(|(name, session)| {
            let why = session.wrong()?;
            Some(format!("of session {name}: {why}: {session:#?}"))
        });
        wrong.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of a session whose versions are `a`, `b`, … in the end.
    fn is_possible(count: usize, events: Vec<(Event, u128, u128)>) -> bool {
        let names = "abc".chars().take(count).map(String::from);
        let session = Session {
            versions: names.collect(),
            differs: false,
            events,
        };
        session.wrong().is_none()
    }

    fn put(
        version: usize,
        sealed: &str,
        told: Told,
        began: u128,
        ended: u128,
    ) -> (Event, u128, u128) {
        let event = Event::Put(version, sealed.to_owned(), told);
        (event, began, ended)
    }

    fn read(seen: usize, began: u128, ended: u128) -> (Event, u128, u128) {
        (Event::Read(seen), began, ended)
    }

    #[test]
    fn what_one_order_explains_is_possible_and_nothing_else() {
        let first = || put(1, "a", Told::Done, 0, 10);
        assert!(is_possible(1, vec![first(), read(0, 5, 6), read(1, 7, 8)]));
        assert!(
            !is_possible(1, vec![first(), read(1, 5, 6), read(0, 7, 8)]),
            "gone"
        );
        assert!(!is_possible(1, vec![first(), read(0, 11, 12)]), "not seen");
        assert!(!is_possible(0, vec![first()]), "lost");
        assert!(
            !is_possible(1, vec![first(), put(1, "x", Told::Done, 2, 3)]),
            "twice"
        );
        assert!(is_possible(
            1,
            vec![first(), put(1, "x", Told::Another, 2, 3)]
        ));
        let late = put(1, "a", Told::Done, 5, 10);
        assert!(
            !is_possible(1, vec![late, put(1, "x", Told::Another, 2, 3)]),
            "by whom?"
        );
        assert!(
            !is_possible(0, vec![put(1, "x", Told::Another, 2, 3)]),
            "by nobody"
        );
        assert!(
            !is_possible(1, vec![put(1, "a", Told::Another, 2, 3)]),
            "by itself"
        );
        assert!(!is_possible(1, vec![read(1, 5, 6)]), "from nowhere");
        // the second was answered before the first had begun
        let second = put(2, "b", Told::Done, 1, 2);
        assert!(!is_possible(2, vec![put(1, "a", Told::Done, 3, 4), second]));
        // nobody heard of the first until somebody saw the second
        let unheard = || put(1, "a", Told::Nothing, 0, u128::MAX);
        let second = || put(2, "b", Told::Done, 1, 9);
        assert!(is_possible(
            2,
            vec![unheard(), second(), read(0, 3, 4), read(2, 5, 6)]
        ));
        assert!(!is_possible(
            2,
            vec![unheard(), second(), read(2, 3, 4), read(1, 5, 6)]
        ));
    }

    #[test]
    fn two_who_see_different_versions_are_no_order() {
        let mut session = Session::default();
        let names = |text: &str| text.chars().map(String::from).collect();
        assert_eq!(session.saw(names("ab")), 2);
        assert_eq!(session.saw(names("a")), 1);
        assert!(!session.differs);
        assert_eq!(session.saw(names("ac")), 2);
        assert!(session.differs);
    }
}
