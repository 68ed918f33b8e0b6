//! A session out of tiers: from the first that can tell, and filled again above it (session-v1 §11).

use kvcap::{Code, Error, Result};

use super::tier::{Artefact, Keep, Tier, get_small, place, rebuild};
use crate::{
    Names,
    description::{Description, MAX_DESCRIPTION},
    event::{Event, MAX_EVENT},
    record::{MAX_RECORD, Record},
    replay::{Summarize, replay},
};

/// A session as a tier tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recalled {
    /// The session as it is.
    pub record: Record,
    /// Index of the tier that told it.
    pub tier: usize,
}

/// Returns a session as it is, by the newest record and the events after it of the first of `tiers` that holds enough of
/// both, and fills those before that one again with what `keep` says. The last tier is the truth: it is asked which is the
/// newest record and which the last event, and what another tier holds beside it is forgotten.
///
/// # Errors
/// KVC-955 where the truth has no such session; 95x and 94x of the truth; 94x of a tier that cannot be filled.
pub fn recall(
    tiers: &[&dyn Tier],
    session: &Names,
    keep: Keep,
    summarize: Summarize<'_>,
) -> Result<Recalled> {
    let Some((truth, copies)) = tiers.split_last() else {
        return Err(missing(session));
    };
    let known = truth.list(session)?;
    for (index, tier) in tiers.iter().enumerate() {
        let is_truth = index == copies.len();
        let held = match is_truth {
            true => Ok(known.clone()),
            false => tier.list(session),
        };
        let held = held.and_then(|held| match ends(&held) == ends(&known) {
            true => told(*tier, session, &held, is_truth, summarize),
            false => Err(missing(session)),
        });
        let record = match held {
            Ok(record) => record,
            Err(error) if is_truth => return Err(error),
            // a copy that was lost, or has lost, is no reason to fail
            Err(_) => continue,
        };
        for above in tiers.iter().take(index) {
            fill_again(*tier, *above, session, keep)?;
        }
        return Ok(Recalled {
            record,
            tier: index,
        });
    }
    Err(missing(session))
}

/// The newest record and the last event.
fn ends(held: &[Artefact]) -> (Option<Artefact>, Option<Artefact>) {
    let last = |wanted: fn(&Artefact) -> bool| held.iter().rev().copied().find(wanted);
    (
        last(|artefact| matches!(artefact, Artefact::Checkpoint(_))),
        last(|artefact| matches!(artefact, Artefact::Event(_))),
    )
}

fn fill_again(from: &dyn Tier, to: &dyn Tier, session: &Names, keep: Keep) -> Result<()> {
    match rebuild(from, to, session, keep) {
        Err(error) if [952, 953, 954].contains(&error.code().number()) => {
            to.write(session)?.forget()?;
            rebuild(from, to, session, keep)
        }
        filled => filled,
    }
}

/// The session by what one tier holds; only the truth tells one that has no record yet.
fn told(
    tier: &dyn Tier,
    session: &Names,
    held: &[Artefact],
    is_truth: bool,
    summarize: Summarize<'_>,
) -> Result<Record> {
    let get = |artefact, longest: usize| {
        let longest = u64::try_from(longest).unwrap_or(u64::MAX);
        get_small(tier, session, artefact, longest)?.ok_or_else(|| missing(session))
    };
    let description = Description::from_json(&get(Artefact::Session, MAX_DESCRIPTION)?)?;
    if description.names() != *session {
        return Err(another(session));
    }
    let events: Vec<u64> = held
        .iter()
        .filter_map(|artefact| match artefact {
            Artefact::Event(seq) => Some(*seq),
            _ => None,
        })
        .collect();
    let versions = held.iter().rev().filter_map(|artefact| match artefact {
        Artefact::Checkpoint(version) => Some(*version),
        _ => None,
    });
    let record = |version| {
        let record = Record::from_json(&get(Artefact::Checkpoint(version), MAX_RECORD)?)?;
        match record.version == version && record.names() == *session {
            true => Ok(record),
            false => Err(another(session)),
        }
    };
    let origin = is_truth.then(|| Record::origin(session, &description.origin()));
    let end = events.last().copied().unwrap_or(0);
    for from in versions.map(record).chain(origin) {
        let from = from?;
        if end < from.replay_cursor {
            let what = "the events end before the checkpoint";
            return Err(Error::new(Code::SessionGap, what).sides(from.replay_cursor, end));
        }
        // the one at the cursor among them, which has to be the record's
        let after = events.iter().filter(|seq| **seq >= from.replay_cursor);
        let after: Vec<Event> = after
            .map(|seq| Event::from_json(&get(Artefact::Event(*seq), MAX_EVENT)?))
            .collect::<Result<_>>()?;
        match replay(&from, after, summarize) {
            Err(error) if error.code() == Code::SessionBehind => {}
            moved => return moved,
        }
    }
    Err(missing(session))
}

fn missing(session: &Names) -> Error {
    let error = Error::new(Code::SessionMissing, "there is no such session");
    error.at(place(session))
}

fn another(session: &Names) -> Error {
    let what = "a part of the session is another session's";
    Error::new(Code::SessionMalformed, what).at(place(session))
}
