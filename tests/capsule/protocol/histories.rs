//! Every history of one capsule between its issuer, a relay that shows old things, and two verifiers, each with a
//! clock and a memory of its own.

use std::collections::{HashSet, VecDeque};

use crate::{
    forgeries::{CAP, EXPIRES, Found, OURS, bound, ours},
    reader::{Verifier, verify},
    rules::{Promise, Rule, Rules},
    terms::{Bound, Header, Time},
};

/// The last reading of a clock.
const END: Time = 4;
/// Headers that are about at once.
const HEADERS: usize = 3;

/// What happens in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// Renewals and rewrapping, one verifier.
    Renewals,
    /// Revocation, old registries, bodies that come late, one verifier.
    Registries,
    /// A capsule for one use before two verifiers, with renewals.
    Uses,
}

pub(crate) const SCENES: [Scene; 3] = [Scene::Renewals, Scene::Registries, Scene::Uses];

/// A header: what the honest signed, so that no forgery is among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Signed {
    expires: Time,
    scope: u8,
    audience: u8,
}

/// A verifier with its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Party {
    clock: Time,
    /// The latest time that it remembers.
    latest: Time,
    used: bool,
    /// How often plaintext came out.
    given: u8,
    /// The registry that it goes by, and the newest that it has seen; the first revokes the capsule from 1 on.
    registry: u8,
    seen: u8,
    /// A header that has passed, whose body has not come yet.
    pending: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Moment {
    issuer: Time,
    parties: [Party; 2],
    headers: Vec<Signed>,
    /// Registries that are published.
    registry: u8,
}

/// Explores a scene.
pub(crate) fn explore(scene: Scene, rules: Rules) -> Found {
    let mut found = Found::default();
    let start = Moment {
        issuer: 0,
        parties: [Party::default(); 2],
        headers: vec![Signed {
            expires: EXPIRES,
            scope: 3,
            audience: 0,
        }],
        registry: 0,
    };
    let (mut seen, mut next) = (HashSet::new(), VecDeque::from([start]));
    while let Some(moment) = next.pop_front() {
        if !seen.insert(moment.clone()) {
            continue;
        }
        signing(&moment, scene, rules, &mut found, &mut next);
        let parties = if scene == Scene::Uses { 2 } else { 1 };
        for at in 0..parties {
            verifying(&moment, at, scene, rules, &mut found, &mut next);
        }
        found.accepted += usize::from(moment.parties.iter().all(|party| party.given == 1));
    }
    found.seen = seen.len();
    found
}

fn header(signed: &Signed, once: bool, rules: Rules) -> Header {
    Header {
        expires: signed.expires,
        scope: signed.scope,
        audience: signed.audience,
        bound: Bound { once, ..bound() },
        ..ours(rules).0
    }
}

/// What issuer and holder do.
fn signing(
    moment: &Moment,
    scene: Scene,
    rules: Rules,
    found: &mut Found,
    next: &mut VecDeque<Moment>,
) {
    if moment.issuer < END {
        next.push_back(Moment {
            issuer: moment.issuer + 1,
            ..moment.clone()
        });
    }
    if scene == Scene::Registries && moment.registry == 0 {
        next.push_back(Moment {
            registry: 1,
            ..moment.clone()
        });
    }
    if moment.headers.len() == HEADERS {
        return;
    }
    for old in &moment.headers {
        let valid = moment.issuer < old.expires;
        if rules.have(Rule::ValidToRenew) && !valid {
            continue;
        }
        let mut new = Vec::new();
        for expires in 1..=END {
            if expires > CAP && rules.have(Rule::RenewalToCap) {
                continue;
            }
            for scope in [1, 3] {
                if scope & !old.scope != 0 && rules.have(Rule::NoWiderScope) {
                    continue;
                }
                new.push(Signed {
                    expires,
                    scope,
                    ..*old
                });
            }
        }
        // handed over: times and scope stay
        new.push(Signed {
            audience: 1,
            ..*old
        });
        for signed in new {
            if signed.expires <= moment.issuer || moment.headers.contains(&signed) {
                continue;
            }
            found.breaks(
                Promise::Renewal,
                !valid || signed.expires > CAP || signed.scope & !old.scope != 0,
            );
            let mut headers = moment.headers.clone();
            headers.push(signed);
            if scene != Scene::Renewals && signed.scope != old.scope {
                continue; // scopes have a scene of their own
            }
            next.push_back(Moment {
                headers,
                ..moment.clone()
            });
        }
    }
}

/// What happens to one verifier.
fn verifying(
    moment: &Moment,
    at: usize,
    scene: Scene,
    rules: Rules,
    found: &mut Found,
    next: &mut VecDeque<Moment>,
) {
    let party = moment.parties[at];
    let mut put = |party: Party| {
        let mut then = moment.clone();
        then.parties[at] = party;
        next.push_back(then);
    };
    if party.clock < END {
        put(Party {
            clock: party.clock + 1,
            ..party
        });
    }
    if party.clock > 0 {
        put(Party {
            clock: party.clock - 1,
            ..party
        });
    }
    if scene == Scene::Registries {
        for version in 0..=moment.registry {
            if version >= party.seen || rules.lack(Rule::RegistryNeverBack) {
                let seen = party.seen.max(version);
                put(Party {
                    registry: version,
                    seen,
                    ..party
                });
            }
        }
    }
    // a clock that lags behind what is remembered is refused (KVC-412)
    if rules.have(Rule::Clock) && party.clock < party.latest {
        return;
    }
    let once = scene == Scene::Uses;
    let by = Verifier {
        audience: u8::from(at == 1),
        now: party.clock,
        tenant: bound().tenant,
        session: bound().session,
        model: bound().model,
        revoked: (party.registry > 0).then_some(OURS),
    };
    let passes =
        |index: usize| verify(&header(&moment.headers[index], once, rules), &by, rules).is_ok();
    let believed = |found: &mut Found, index: usize| {
        let signed = moment.headers[index];
        let latest = party.latest.max(party.clock);
        found.breaks(Promise::LimitedUse, latest >= signed.expires);
        found.breaks(Promise::LimitedUse, party.seen > 0);
        found.breaks(Promise::Renewal, latest >= CAP);
    };
    let latest = party.latest.max(party.clock);
    for index in 0..moment.headers.len() {
        if scene == Scene::Registries && party.pending.is_none() && passes(index) {
            // the header passes; its body is on the way
            put(Party {
                latest,
                pending: Some(index),
                ..party
            });
        }
        if scene == Scene::Registries || !passes(index) {
            continue;
        }
        believed(found, index);
        if !once {
            put(Party { latest, ..party });
        } else if !(party.used && rules.have(Rule::Use)) {
            let used = Party {
                latest,
                used: true,
                ..party
            };
            let given = Party {
                given: (party.given + 1).min(2),
                ..used
            };
            put(given);
            // killed between the two
            if rules.have(Rule::UseFirst) {
                put(used);
            } else {
                put(Party {
                    used: party.used,
                    ..given
                });
            }
            found.breaks(Promise::OneUse, given.given > 1);
        }
    }
    if let Some(index) = party.pending {
        let party = Party {
            pending: None,
            ..party
        };
        if rules.have(Rule::Again) && !passes(index) {
            put(party);
        } else {
            believed(found, index);
            put(Party { latest, ..party });
        }
    }
}
