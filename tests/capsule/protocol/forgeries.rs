//! Every header and body that an attacker can put together at one moment, before every verifier.
//!
//! The attacker is storage, network, another tenant with a trusted key of his own, the recipient of a capsule
//! of his own, and a holder of another key of the honest issuer, in one.

use crate::{
    reader::{Delivered, MODEL, Verifier, check_body, open, unwrap, verify},
    rules::{Promise, Rule, Rules},
    terms::{
        Body, Bound, Content, Entry, Header, Name, Signer, Text, Time, Wrapping, commitment,
        sealed, tables,
    },
};

/// The honest capsule's id, the id of the one that was sealed for the attacker, and another.
pub(crate) const OURS: u8 = 1;
const SOLD: u8 = 2;
const OTHER: u8 = 3;
/// The honest capsule's cap, and when its header expires.
pub(crate) const CAP: Time = 3;
pub(crate) const EXPIRES: Time = 2;

/// What an exploration found.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) broken: std::collections::BTreeSet<Promise>,
    /// Different things that were judged.
    pub(crate) seen: usize,
    /// Things that were accepted.
    pub(crate) accepted: usize,
}

impl Found {
    pub(crate) fn breaks(&mut self, promise: Promise, if_so: bool) {
        if if_so {
            self.broken.insert(promise);
        }
    }
}

pub(crate) fn bound() -> Bound {
    Bound {
        issuer: Name::Ours,
        id: OURS,
        tenant: Name::Ours,
        session: 1,
        once: true,
        cap: CAP,
        model: MODEL,
        parent: None,
    }
}

/// A capsule as the honest issuer seals it.
pub(crate) fn honest(
    bound: Bound,
    content: Content,
    text: fn(u8) -> Text,
    to: Wrapping,
    rules: Rules,
) -> (Header, Body) {
    let ctx = bound.ctx(rules);
    let body = sealed(content, ctx, text);
    let header = Header {
        signer: Signer::First,
        forged: false,
        bound,
        audience: 0,
        expires: EXPIRES,
        scope: 1,
        commitment: commitment(content, ctx),
        entries: [
            Some(Entry {
                to,
                content,
                of: bound.id,
            }),
            None,
        ],
        tables: tables(&body),
    };
    (header, body)
}

pub(crate) fn ours(rules: Rules) -> (Header, Body) {
    honest(bound(), Content::Ours, Text::Ours, Wrapping::Holder, rules)
}

fn sold(rules: Rules) -> (Header, Body) {
    let bound = Bound {
        id: SOLD,
        tenant: Name::Theirs,
        session: 2,
        once: false,
        ..bound()
    };
    honest(bound, Content::Sold, Text::Sold, Wrapping::Thief, rules)
}

/// Signer and claims, in every combination of the alphabet.
pub(crate) fn stated(base: &Header) -> Vec<Header> {
    let mut all = vec![*base];
    let mut vary = |change: &dyn Fn(&Header) -> Vec<Header>| {
        all = all.iter().flat_map(change).collect();
    };
    let signers = [
        (Signer::First, true),
        (Signer::Second, false),
        (Signer::Theirs, false),
        (Signer::Unknown, false),
    ];
    vary(&|h| {
        signers
            .map(|(signer, forged)| Header {
                signer,
                forged,
                ..*h
            })
            .to_vec()
    });
    let names = [Name::Ours, Name::Theirs];
    let of = |h: &Header, bound| Header { bound, ..*h };
    vary(&|h| {
        names
            .map(|issuer| of(h, Bound { issuer, ..h.bound }))
            .to_vec()
    });
    vary(&|h| {
        names
            .map(|tenant| of(h, Bound { tenant, ..h.bound }))
            .to_vec()
    });
    vary(&|h| {
        [OURS, SOLD, OTHER]
            .map(|id| of(h, Bound { id, ..h.bound }))
            .to_vec()
    });
    vary(&|h| {
        [1, 2]
            .map(|session| of(h, Bound { session, ..h.bound }))
            .to_vec()
    });
    vary(&|h| {
        [true, false]
            .map(|once| of(h, Bound { once, ..h.bound }))
            .to_vec()
    });
    vary(&|h| {
        [CAP, CAP + 1]
            .map(|cap| of(h, Bound { cap, ..h.bound }))
            .to_vec()
    });
    vary(&|h| {
        [MODEL, MODEL + 1]
            .map(|model| of(h, Bound { model, ..h.bound }))
            .to_vec()
    });
    vary(&|h| [0, 1].map(|audience| Header { audience, ..*h }).to_vec());
    vary(&|h| {
        [EXPIRES, CAP, CAP + 1]
            .map(|expires| Header { expires, ..*h })
            .to_vec()
    });
    all
}

/// Verifiers at every time, for everybody.
pub(crate) fn verifiers() -> Vec<Verifier> {
    let mut all = Vec::new();
    for audience in [0, 1] {
        for now in 0..=CAP + 1 {
            for tenant in [Name::Ours, Name::Theirs] {
                for (session, model) in [(1, MODEL), (2, MODEL), (1, MODEL + 1)] {
                    all.push(Verifier {
                        audience,
                        now,
                        tenant,
                        session,
                        model,
                        revoked: None,
                    });
                }
            }
        }
    }
    all
}

/// Lists of recipients that the attacker can write into a capsule of this id.
pub(crate) fn entries(ours: &Header, sold: &Header, id: u8) -> Vec<[Option<Entry>; 2]> {
    let made = |to, content| {
        Some(Entry {
            to,
            content,
            of: id,
        })
    };
    let copied = [ours.entries[0], sold.entries[0]];
    vec![
        [copied[0], None],
        [copied[1], None],
        copied,
        [made(Wrapping::Door, Content::Made), None],
        [made(Wrapping::Door, Content::Sold), copied[0]],
        [
            made(Wrapping::Door, Content::Made),
            made(Wrapping::OtherDoor, Content::MadeToo),
        ],
    ]
}

/// Bodies that the attacker can write under a ctx.
pub(crate) fn bodies(ours: &Body, sold_body: &Body, ctx: u64) -> Vec<Body> {
    let made = sealed(Content::Made, ctx, Text::Made);
    let mut twin = made;
    for (place, chunk) in (0_u8..).zip(&mut twin) {
        if let Some(chunk) = chunk {
            chunk.also = Some((Content::MadeToo, Text::MadeToo(place)));
        }
    }
    vec![
        *ours,
        [ours[1], ours[0]],
        [ours[0], None],
        [ours[1], None],
        [ours[0], ours[0]],
        *sold_body,
        [ours[0], sold_body[1]],
        sealed(Content::Sold, ctx, Text::Sold),
        made,
        twin,
    ]
}

/// What a reader that let all this through gives out to those who took the header, against the promises.
fn given(
    found: &mut Found,
    (header, ctx): (&Header, u64),
    delivered: &Delivered,
    takers: &[Verifier],
    rules: Rules,
) {
    let mut readings: Vec<Vec<Text>> = Vec::new();
    for key in [Wrapping::Holder, Wrapping::Door, Wrapping::OtherDoor] {
        if let Ok((entry, _)) = unwrap(header, key, rules) {
            found.breaks(Promise::HandOver, entry.of != header.bound.id);
        }
        readings.extend(open(header, ctx, delivered, key, rules));
    }
    found.accepted += readings.len();
    let first = readings.first();
    found.breaks(
        Promise::KeyCommitment,
        readings.iter().any(|one| Some(one) != first),
    );
    let of_ours = |text: &Text| matches!(text, Text::Ours(_));
    for texts in readings.iter().filter(|texts| texts.iter().any(of_ours)) {
        let (whole, told, same) = ([Text::Ours(0), Text::Ours(1)], header.bound, bound());
        found.breaks(
            Promise::NoSplicing,
            *texts != whole || told.issuer != same.issuer || told.id != same.id,
        );
        found.breaks(Promise::OneUse, !told.once);
        for by in takers {
            found.breaks(Promise::Renewal, by.now >= CAP);
            found.breaks(Promise::Sessions, by.session != same.session);
            found.breaks(Promise::Confidentiality, by.tenant != same.tenant);
            found.breaks(Promise::Binding, by.model != same.model);
        }
    }
}

/// What a verifier that accepted a header has believed.
fn believed(found: &mut Found, header: &Header, by: &Verifier) {
    let speaks_for = header.signer.speaks_for();
    found.breaks(Promise::Authenticity, header.forged || speaks_for.is_none());
    found.breaks(
        Promise::NoSplicing,
        speaks_for.is_some_and(|name| name != header.bound.issuer),
    );
    found.breaks(
        Promise::LimitedUse,
        by.now >= header.expires
            || header.audience != by.audience
            || header.bound.tenant != by.tenant,
    );
    found.breaks(Promise::Renewal, header.expires > header.bound.cap);
    found.breaks(Promise::Sessions, header.bound.session != by.session);
    found.breaks(Promise::Binding, header.bound.model != by.model);
}

/// Puts every forgery before every verifier, until `enough` promises are broken.
pub(crate) fn explore(rules: Rules, wanted: Option<Promise>) -> Found {
    let mut found = Found::default();
    let ((ours, our_body), (sold, sold_body)) = (ours(rules), sold(rules));
    let mut heads = stated(&ours);
    heads.extend([ours, sold]);
    let verifiers = verifiers();
    for head in heads {
        let takers: Vec<Verifier> = verifiers
            .iter()
            .filter(|by| verify(&head, by, rules).is_ok())
            .copied()
            .collect();
        found.seen += 1;
        if takers.is_empty() {
            continue;
        }
        for by in &takers {
            believed(&mut found, &head, by);
        }
        let ctx = head.bound.ctx(rules);
        let bodies = bodies(&our_body, &sold_body, ctx).into_iter();
        let bodies: Vec<Delivered> = bodies.map(Delivered::new).collect();
        let made = [Content::Made, Content::MadeToo, Content::Sold];
        let mut commitments = made.map(|content| commitment(content, ctx)).to_vec();
        commitments.extend([ours.commitment, sold.commitment]);
        let mut full = Vec::new();
        for entries in entries(&ours, &sold, head.bound.id) {
            for commitment in &commitments {
                full.extend(bodies.iter().map(|body| Header {
                    entries,
                    commitment: *commitment,
                    tables: body.digest,
                    ..head
                }));
            }
        }
        if !head.forged && head.signer == Signer::First {
            full = vec![head]; // signed as it is, and no other can be
        }
        for header in full {
            for body in &bodies {
                found.seen += 1;
                if check_body(&header, body, rules).is_err() {
                    continue;
                }
                found.breaks(Promise::Authenticity, body.digest != header.tables);
                given(&mut found, (&header, ctx), body, &takers, rules);
            }
            if wanted.is_some_and(|wanted| found.broken.contains(&wanted)) {
                return found;
            }
        }
    }
    found
}

/// What an attacker who sees everything knows of content keys (capsule-v1 §9): closed under opening the
/// entries for keys that he has. `quantum` gives him every X25519 key.
pub(crate) fn knowledge(rules: Rules) -> Found {
    let mut found = Found::default();
    let all = [
        Wrapping::Holder,
        Wrapping::Door,
        Wrapping::OtherDoor,
        Wrapping::Wing,
    ];
    for quantum in [false, true] {
        for chosen in 1_u8..1 << all.len() {
            let to: Vec<Wrapping> = (0..)
                .zip(all)
                .filter(|(n, _)| chosen >> n & 1 == 1)
                .map(|(_, key)| key)
                .collect();
            let doors = to
                .iter()
                .any(|key| matches!(key, Wrapping::Door | Wrapping::OtherDoor));
            let wing = to.contains(&Wrapping::Wing);
            if rules.have(Rule::HybridAlone) && doors && wing {
                continue; // neither sealed nor rewrapped
            }
            found.seen += 1;
            // one content key for a capsule of ours and for the one that the attacker may read, or two
            let content = if rules.have(Rule::FreshContent) {
                Content::Ours
            } else {
                Content::Sold
            };
            let mut entries: Vec<(Wrapping, Content)> =
                to.iter().map(|key| (*key, content)).collect();
            entries.push((Wrapping::Thief, Content::Sold));
            let has = |key: Wrapping| match key {
                Wrapping::Thief => true,
                Wrapping::Door | Wrapping::OtherDoor => quantum,
                Wrapping::Holder | Wrapping::Wing => false,
            };
            let known: Vec<Content> = entries
                .iter()
                .filter(|(key, _)| has(*key))
                .map(|(_, content)| *content)
                .collect();
            let read = known.contains(&content);
            found.accepted += usize::from(read);
            found.breaks(Promise::Confidentiality, read && !quantum);
            found.breaks(Promise::NoHarvest, read && quantum && wing);
            // a guess of the prompt, under every prefix key that he can compute
            for prompt in [1_u8, 2] {
                let by = |key: Option<Wrapping>, prompt: u8| {
                    crate::terms::hash("prompt", &(key, prompt))
                };
                let header = by(rules.have(Rule::KeyedPrompt).then_some(to[0]), prompt);
                let known = [None, Some(Wrapping::Thief)];
                let told = [1, 2]
                    .iter()
                    .any(|guess| known.iter().any(|key| by(*key, *guess) == header));
                found.breaks(Promise::NoConfirmation, told);
            }
        }
    }
    found
}
