//! Every registry file that an attacker can put together, before every verifier: he has some of the roots, what was
//! published and proposed, and perhaps the key for timestamps.

use crate::{
    forgeries::Found,
    roots::{
        Anchor, Document, Listing, Mark, Memory, Root, Statement, Timestamp, current, digest,
        follows, list, walk,
    },
    rules::{Promise, Rule, Rules},
    terms::{Name, Signer, Time},
};

/// The last reading of a clock, at which nothing has expired but what had to.
pub(crate) const END: Time = 5;
/// When statement 3 and listing 2 are published.
const PUBLISHED: Time = 1;
/// When the first timestamp, the first statement and the first listing end.
const STAMP_ENDS: Time = 2;
const FIRST_ENDS: Time = 3;
const LISTING_ENDS: Time = 4;
const LATE: Time = END + 1;

pub(crate) type Said = Document<Statement>;

/// What the honest have signed.
#[derive(Clone)]
pub(crate) struct Honest {
    /// Published, each after the one before.
    pub(crate) statements: [Said; 3],
    /// Proposals that those who come have not agreed to, and statements of another registry by the same roots.
    pub(crate) others: [Said; 4],
    pub(crate) listings: [Document<Listing>; 2],
    pub(crate) stamps: Vec<Timestamp>,
}

/// A verifier.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader {
    pub(crate) anchor: Anchor,
    /// The issuer that it trusts the root with; without one all.
    pub(crate) limit: Option<Name>,
    pub(crate) memory: Memory,
    /// When it loads the registry.
    pub(crate) now: Time,
}

/// A whole file.
pub(crate) struct File<'a> {
    pub(crate) statements: &'a [&'a Said],
    pub(crate) listing: &'a Document<Listing>,
    pub(crate) stamp: Option<&'a Timestamp>,
}

/// Judges a file as a verifier loads it.
pub(crate) fn verify(file: &File<'_>, by: &Reader, rules: Rules) -> Result<(), u16> {
    for one in file.statements {
        one.check_form(rules)?;
    }
    file.listing.check_form(rules)?;
    let walked = walk(file.statements, by.anchor, rules)?;
    list(file.listing, &walked, by.limit, rules)?;
    let newest = &walked[walked.len() - 1].says;
    let listing = &file.listing.says;
    current(newest, file.stamp, listing, by.now, rules)?;
    follows(&walked, listing, &by.memory, rules)
}

/// Signatures by these, in the order of their ids.
fn marks(by: &[Root], forged: bool) -> Vec<Mark> {
    let mut by = by.to_vec();
    by.sort_unstable();
    by.into_iter().map(|by| Mark { by, forged }).collect()
}

fn signed<T>(says: T, by: &[Root]) -> Document<T> {
    let marks = marks(by, false);
    Document { says, marks }
}

/// What was published, with timestamps or without.
pub(crate) fn honest(stamped: bool) -> Honest {
    use Root::{A, B, C, D, E, F, Stamps};
    let stamps = stamped.then_some(Stamps);
    let says = |version, chain, roots: &[Root], previous| Statement {
        version,
        expires: LATE,
        chain,
        threshold: 2,
        roots: roots.iter().map(|root| (*root, None)).collect(),
        stamps,
        previous,
    };
    let first = Statement {
        expires: FIRST_ENDS,
        ..says(1, A, &[A, B, C], None)
    };
    let second = says(2, A, &[B, C, D], Some(digest(&first)));
    let mut third = says(3, A, &[B, C, E], Some(digest(&second)));
    third.roots[2].1 = Some(Name::Theirs);
    let proposed = says(1, A, &[A, F], None);
    let proposed_next = says(2, A, &[B, C, F], Some(digest(&first)));
    let other = says(1, B, &[A, B, C], None);
    let other_next = says(2, B, &[A, B, D], Some(digest(&other)));
    let one = Listing {
        version: 1,
        expires: LISTING_ENDS,
        key: Some((Name::Ours, Signer::First)),
        revokes: false,
        previous: None,
    };
    let two = Listing {
        version: 2,
        expires: LATE,
        revokes: true,
        previous: Some(digest(&one)),
        ..one
    };
    let stamp = |listing: &Listing, expires| Timestamp {
        mark: marks(&[Stamps], false)[0],
        expires,
        chain: A,
        of: (listing.version, digest(listing)),
    };
    let stamps = vec![stamp(&one, STAMP_ENDS), stamp(&two, LATE)];
    Honest {
        statements: [
            signed(first, &[A, B]),
            signed(second, &[B, C]),
            signed(third, &[B, C]),
        ],
        others: [
            signed(proposed, &[A]),
            signed(proposed_next, &[A, B]),
            signed(other, &[A, B]),
            signed(other_next, &[A, B]),
        ],
        listings: [signed(one, &[A, B]), signed(two, &[B, C])],
        stamps: if stamped { stamps } else { Vec::new() },
    }
}

/// What the attacker has.
#[derive(Clone, Debug)]
pub(crate) struct Thief {
    pub(crate) roots: Vec<Root>,
    pub(crate) stamps: bool,
}

pub(crate) fn thieves() -> Vec<Thief> {
    let all = [Root::A, Root::B, Root::C, Root::D, Root::E];
    let mut thieves = Vec::new();
    for chosen in 0_u8..1 << all.len() {
        for stamps in [false, true] {
            let has = (0..).zip(all).filter(|(at, _)| chosen >> at & 1 == 1);
            let roots = has.map(|(_, root)| root).collect();
            thieves.push(Thief { roots, stamps });
        }
    }
    thieves
}

impl Thief {
    /// How he can sign what he has written: with all that he has, twice with each, and in the names of others.
    fn signatures(&self) -> [Vec<Mark>; 3] {
        let own = self.own();
        let honest = [Root::A, Root::B, Root::C, Root::D, Root::E];
        let others = honest.iter().filter(|root| !self.roots.contains(root));
        let mut others = marks(&others.copied().collect::<Vec<_>>(), true);
        others.extend(marks(&own, false));
        others.sort_unstable_by_key(|mark| mark.by);
        [
            marks(&own, false),
            marks(&[&own[..], &own].concat(), false),
            others,
        ]
    }

    /// Statements that he writes.
    pub(crate) fn statements(&self, honest: &Honest) -> Vec<Said> {
        let sets = [
            (1, vec![Root::Thief]),
            (1, self.own()),
            (2, vec![Root::B, Root::C, Root::Thief]),
        ];
        let mut all = self.later(honest);
        for version in 1..=4 {
            let seen = honest.statements.iter().map(|one| Some(digest(&one.says)));
            let previous = match version {
                1 => vec![None],
                _ => seen.collect(),
            };
            for previous in previous {
                for chain in [Root::A, Root::Thief] {
                    for (threshold, roots) in &sets {
                        let says = Statement {
                            version,
                            expires: LATE,
                            chain,
                            threshold: *threshold,
                            roots: roots.iter().map(|root| (*root, None)).collect(),
                            stamps: None,
                            previous,
                        };
                        let documents = self.signatures().map(|marks| Document {
                            says: says.clone(),
                            marks,
                        });
                        all.extend(documents);
                    }
                }
            }
        }
        all
    }

    /// Statements after what was published, by which roots that are limited might have more than they had, or may have
    /// what they have.
    fn later(&self, honest: &Honest) -> Vec<Said> {
        let third = &honest.statements[2].says;
        let next = Statement {
            version: 4,
            expires: LATE,
            previous: Some(digest(third)),
            ..third.clone()
        };
        let widened = third.roots.iter().map(|(root, _)| (*root, None));
        let widened = widened.collect();
        let joined = [&third.roots[..], &[(Root::Thief, third.roots[2].1)]].concat();
        let all = [
            Statement {
                roots: widened,
                ..next.clone()
            },
            Statement {
                threshold: 1,
                ..next.clone()
            },
            Statement {
                stamps: None,
                ..next.clone()
            },
            Statement {
                roots: joined,
                ..next
            },
        ];
        let signed = all.into_iter().flat_map(|says| {
            self.signatures().map(|marks| Document {
                says: says.clone(),
                marks,
            })
        });
        signed.collect()
    }

    fn own(&self) -> Vec<Root> {
        [&self.roots[..], &[Root::Thief]].concat()
    }

    /// Listings: what was published, and his own.
    pub(crate) fn listings(&self, honest: &Honest) -> Vec<Document<Listing>> {
        let mut all = honest.listings.to_vec();
        let seen = [
            None,
            Some(digest(&honest.listings[0].says)),
            Some(digest(&honest.listings[1].says)),
        ];
        for (version, previous) in (1..).zip(seen) {
            for issuer in [None, Some(Name::Ours), Some(Name::Theirs)] {
                for revokes in [false, true] {
                    let says = Listing {
                        version,
                        expires: LATE,
                        key: issuer.map(|name| (name, Signer::Theirs)),
                        revokes,
                        previous,
                    };
                    all.extend(self.signatures().map(|marks| Document { says, marks }));
                }
            }
        }
        all
    }

    /// Timestamps for a listing: none, what was published, and his own.
    pub(crate) fn stamps(&self, honest: &Honest, of: &Listing) -> Vec<Option<Timestamp>> {
        let mut all = vec![None];
        all.extend(honest.stamps.iter().copied().map(Some));
        for (by, forged) in [(Root::Thief, false), (Root::Stamps, !self.stamps)] {
            all.push(Some(Timestamp {
                mark: Mark { by, forged },
                expires: LATE,
                chain: Root::A,
                of: (of.version, digest(of)),
            }));
        }
        all
    }

    /// How many of his roots a statement names.
    fn among(&self, says: &Statement) -> usize {
        says.speaking(&self.roots, None)
    }
}

/// Orders of statements of which the attacker makes one at most.
pub(crate) fn orders<'a>(honest: &'a Honest, made: &'a [Said]) -> Vec<Vec<&'a Said>> {
    let [one, two, three] = &honest.statements;
    let pool: Vec<&Said> = honest.statements.iter().chain(&honest.others).collect();
    let mut all: Vec<Vec<&Said>> = pool.iter().map(|one| vec![*one]).collect();
    for length in 1..3 {
        let shorter: Vec<_> = all
            .iter()
            .filter(|all| all.len() == length)
            .cloned()
            .collect();
        for order in shorter {
            all.extend(pool.iter().map(|next| [&order[..], &[*next]].concat()));
        }
    }
    all.extend(pool.iter().map(|next| vec![one, two, three, *next]));
    for made in made {
        all.extend([
            vec![made],
            vec![one, made],
            vec![one, two, made],
            vec![one, two, three, made],
            vec![made, two],
            vec![made, two, three],
        ]);
    }
    all
}

/// What verifiers were given, and trust it with.
pub(crate) fn anchors(honest: &Honest) -> Vec<(Anchor, Option<Name>)> {
    let mut all = vec![
        (Anchor::Key(Root::A), None),
        (Anchor::Key(Root::Thief), Some(Name::Theirs)),
    ];
    let digests = honest.statements.iter().map(|one| digest(&one.says));
    all.extend(digests.map(|digest| (Anchor::Statement(digest), None)));
    all
}

/// What verifiers remember that have seen what was published.
pub(crate) fn memories(honest: &Honest) -> Vec<Memory> {
    let mut all = Vec::new();
    let roots = honest.statements.iter();
    let roots = roots.map(|one| Some((one.says.version, digest(&one.says))));
    for roots in std::iter::once(None).chain(roots) {
        let seen = honest.listings.iter();
        let seen = seen.map(|one| Some((one.says.version, digest(&one.says))));
        for listing in std::iter::once(None).chain(seen) {
            all.push(Memory { roots, listing });
        }
    }
    all
}

/// Verifiers of each anchor and memory.
pub(crate) fn readers(honest: &Honest) -> Vec<Reader> {
    let mut all = Vec::new();
    for (anchor, limit) in anchors(honest) {
        all.extend(memories(honest).into_iter().map(|memory| Reader {
            anchor,
            limit,
            memory,
            now: 0,
        }));
    }
    all
}

/// How far an attacker comes by the numbers alone, against who goes by these statements and later ones.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Fewer than any threshold.
    Below,
    /// To one threshold, with roots that do not all speak for our issuer.
    Limited,
    /// The promise says nothing of him.
    Enough,
}

fn reach(honest: &Honest, thief: &Thief, by: &Reader, first_root: FirstRoot) -> Reach {
    let given = match by.anchor {
        Anchor::Key(_) => None,
        Anchor::Statement(digest) => Some(digest),
    };
    let place = |wanted: Option<u64>| {
        let mut all = honest.statements.iter();
        all.position(|one| Some(digest(&one.says)) == wanted)
    };
    let began = place(given).max(place(by.memory.roots.map(|(_, digest)| digest)));
    // the first root is worth the whole to who remembers nothing (REG-M-5)
    let first = began.is_none() && thief.roots.contains(&Root::A);
    if first && first_root == FirstRoot::Excepted {
        return Reach::Enough;
    }
    let mut reach = Reach::Below;
    for one in &honest.statements[began.unwrap_or(0)..] {
        if one.says.speaking(&thief.roots, Some(Name::Ours)) >= one.says.threshold {
            return Reach::Enough;
        }
        if thief.among(&one.says) >= one.says.threshold {
            reach = Reach::Limited;
        }
    }
    reach
}

/// The root that a registry began with, against who was given that and remembers nothing: the promise does not cover it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstRoot {
    Excepted,
    Included,
}

/// Puts every file before every verifier, of a registry with timestamps or without.
pub(crate) fn explore(
    stamped: bool,
    rules: Rules,
    wanted: Option<Promise>,
    first_root: FirstRoot,
) -> Found {
    let mut found = Found::default();
    let honest = honest(stamped);
    let readers = readers(&honest);
    // who has many roots comes first
    for thief in thieves().into_iter().rev() {
        if thief.stamps && !stamped {
            continue;
        }
        let made = thief.statements(&honest);
        let orders = orders(&honest, &made);
        let listings = thief.listings(&honest);
        for (anchor, limit) in anchors(&honest) {
            // who goes by this anchor, and how far the attacker comes against him
            let against: Vec<(&Reader, Reach)> = readers
                .iter()
                .filter(|by| by.anchor == anchor)
                .map(|by| (by, reach(&honest, &thief, by, first_root)))
                .filter(|(_, reach)| *reach != Reach::Enough)
                .collect();
            for order in orders.iter().filter(|_| !against.is_empty()) {
                found.seen += 1;
                if order.iter().any(|one| one.check_form(rules).is_err()) {
                    continue;
                }
                let Ok(walked) = walk(order, anchor, rules) else {
                    continue;
                };
                for listing in &listings {
                    found.seen += 1;
                    if listing.check_form(rules).is_err()
                        || list(listing, &walked, limit, rules).is_err()
                    {
                        continue;
                    }
                    let of = (&walked[walked.len() - 1].says, &listing.says);
                    let stamps = thief.stamps(&honest, of.1).into_iter();
                    let moments: Vec<Vec<Time>> = stamps
                        .map(|stamp| moments(of.0, stamp.as_ref(), of.1, rules))
                        .collect();
                    for (by, reach) in &against {
                        found.seen += 1;
                        if follows(&walked, of.1, &by.memory, rules).is_err() {
                            continue;
                        }
                        for moments in &moments {
                            believed(&mut found, &honest, (&thief, *reach), by, of, moments);
                        }
                    }
                }
                if wanted.is_some_and(|wanted| found.broken.contains(&wanted)) {
                    return found;
                }
            }
        }
    }
    found
}

/// When a capsule is verified by a file, for every time at which that is loaded before.
fn moments(
    newest: &Statement,
    stamp: Option<&Timestamp>,
    listing: &Listing,
    rules: Rules,
) -> Vec<Time> {
    let good = |now| current(newest, stamp, listing, now, rules).is_ok();
    let loaded = (0..=END).filter(|now| good(*now));
    let verified = loaded.flat_map(|now| now..=END);
    verified
        .filter(|later| rules.lack(Rule::StampAgain) || good(*later))
        .collect()
}

/// What a verifier believes of a file, against the promise.
fn believed(
    found: &mut Found,
    honest: &Honest,
    (thief, reach): (&Thief, Reach),
    by: &Reader,
    (newest, listing): (&Statement, &Listing),
    moments: &[Time],
) {
    found.seen += moments.len();
    found.accepted += moments.len();
    let mut broken = |if_so| found.breaks(Promise::NoSingleRoot, if_so);
    if moments.is_empty() {
        return;
    }
    if by.anchor == Anchor::Key(Root::Thief) {
        // his own registry, trusted with his own name
        broken(matches!(listing.key, Some((Name::Ours, _))));
        return;
    }
    // limited roots that reach a threshold have statements of their own
    let published = honest.statements.iter().any(|one| one.says == *newest);
    broken(!published && reach == Reach::Below);
    // nothing older than what it knows
    let seen = by.memory.roots.map_or(0, |(version, _)| version);
    broken(newest.version < seen);
    let agreed = honest.listings.iter().any(|one| one.says == *listing);
    // what his roots may list by themselves is his to list: nothing of ours
    let issuer = listing.key.map(|(issuer, _)| issuer);
    let few = newest.speaking(&thief.own(), issuer) < newest.threshold;
    broken(!agreed && (few || issuer == Some(Name::Ours)));
    // a timestamp is wanted to the end, whoever has made the newest statement
    let stamped = !honest.stamps.is_empty();
    broken(stamped && !agreed && !thief.stamps);
    // an old version while there is a newer one
    let ends = match stamped {
        true if thief.stamps => LISTING_ENDS,
        true => STAMP_ENDS,
        false => FIRST_ENDS,
    };
    let late = moments.iter().any(|at| *at >= PUBLISHED.max(ends));
    broken(agreed && listing.version == 1 && late);
}
