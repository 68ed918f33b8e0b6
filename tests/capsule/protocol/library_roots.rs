//! The model's verifier of registries against the library: files of the model as bytes, before both.

use std::collections::BTreeSet;

use ciborium::Value;
use kvcap::{Mark as Seen, RootPublic, UntrustedRegistry, binding::Digest};
use kvcap_testvectors::{
    fixture::{self, NOW},
    parts,
    raw::{encode, int, text},
    roots::{self, LISTING, ROOTS, Says, Seed},
    schedule::b3,
};

use crate::{
    roots::{Anchor, Document, Listing, Mark, Root, Statement, Timestamp},
    rules::Rules,
    takeovers::{END, File, Honest, Reader, Thief, honest, orders, readers, verify},
    terms::{Name, Signer, Time},
};

/// More than clocks may differ by.
const STEP: u64 = 100;
/// Before all readings of a clock.
const ISSUED: u64 = NOW - 10;

fn at(time: Time) -> u64 {
    NOW + STEP * u64::from(time)
}

fn seed(root: Root) -> Seed {
    [match root {
        Root::A => 0x81,
        Root::B => 0x82,
        Root::C => 0x83,
        Root::D => 0x84,
        Root::E => 0x85,
        Root::F => 0x86,
        Root::Stamps => 0x87,
        Root::Thief => 0x88,
    }; 32]
}

fn name(name: Name) -> &'static str {
    match name {
        Name::Ours => "ours",
        Name::Theirs => "theirs",
    }
}

/// All statements that were made, so that a digest of the model is one of bytes.
struct Written {
    statements: Vec<Statement>,
    listings: Vec<Listing>,
}

impl Written {
    fn statement(&self, says: &Statement) -> Says {
        let before = says.previous.map(|of| {
            let mut all = self.statements.iter();
            let before = all.find(|one| crate::roots::digest(*one) == of).unwrap();
            roots::digest(&self.statement(before))
        });
        let root =
            |(root, only): &(Root, Option<Name>)| (seed(*root), only.map(|of| vec![name(of)]));
        Says {
            version: says.version.into(),
            issued: ISSUED,
            expires: at(says.expires),
            chain: roots::id(&seed(says.chain)),
            threshold: says.threshold.try_into().unwrap(),
            roots: says.roots.iter().map(root).collect(),
            stamps: says.stamps.into_iter().map(seed).collect(),
            previous: before,
        }
    }

    fn listing(&self, says: &Listing) -> Vec<u8> {
        let bytes = |part: &[u8]| Value::Bytes(part.to_vec());
        let key = |(issuer, signer): (Name, Signer)| {
            let seed = match signer {
                Signer::First => fixture::SIGN_SEED,
                _ => fixture::OTHER_SEED,
            };
            Value::Map(vec![
                (int(1), bytes(&parts::public(&seed))),
                (int(2), int(1)),
                (int(3), text(name(issuer))),
                (int(4), Value::Array(vec![int(1)])),
                (int(5), int(ISSUED)),
                (int(8), int(0)),
            ])
        };
        let revoked = Value::Array(vec![bytes(&[1; 16]), int(ISSUED)]);
        let revoked = if says.revokes {
            vec![revoked]
        } else {
            Vec::new()
        };
        let mut fields = vec![
            (int(1), int(1)),
            (int(2), int(says.version)),
            (int(3), int(ISSUED)),
            (int(4), int(at(says.expires))),
            (
                int(5),
                Value::Array(says.key.into_iter().map(key).collect()),
            ),
            (int(6), Value::Array(revoked)),
        ];
        if let Some(of) = says.previous {
            let mut all = self.listings.iter();
            let before = all.find(|one| crate::roots::digest(*one) == of).unwrap();
            fields.push((int(7), bytes(&self.listing_digest(before))));
        }
        encode(&Value::Map(fields))
    }

    fn listing_digest(&self, says: &Listing) -> [u8; 32] {
        b3("kvcap v1 registry", &[&self.listing(says)])
    }

    fn file(&self, file: &File<'_>) -> Vec<u8> {
        let statements = file.statements.iter().map(|one| {
            let payload = roots::payload(&self.statement(&one.says));
            document(ROOTS, &payload, &one.marks)
        });
        let statements: Vec<Vec<u8>> = statements.collect();
        let Document { says, marks } = file.listing;
        let listing = document(LISTING, &self.listing(says), marks);
        let stamp = file.stamp.map(|stamp| self.stamp(stamp));
        roots::bundle(&statements, &listing, &Vec::from_iter(stamp))
    }

    fn stamp(&self, stamp: &Timestamp) -> Vec<u8> {
        let mut all = self.listings.iter();
        let of = all.find(|one| crate::roots::digest(*one) == stamp.of.1);
        let of = self.listing_digest(of.unwrap());
        let signer = seed(stamp.mark.by);
        let chain = roots::id(&seed(stamp.chain));
        let times = ISSUED..at(stamp.expires);
        let mut bytes = roots::stamp(&signer, times, &chain, stamp.of.0.into(), &of);
        if stamp.mark.forged {
            let last = bytes.len() - 40;
            bytes[last] ^= 1;
        }
        bytes
    }

    /// What a verifier is given.
    fn root(&self, by: &Reader) -> RootPublic {
        let root = match by.anchor {
            Anchor::Key(root) => RootPublic::from_bytes(&parts::public(&seed(root))).unwrap(),
            Anchor::Statement(of) => RootPublic::of_statement(Digest(self.digest(of))),
        };
        root.limited_to(by.limit.map(|of| name(of).to_owned()).into_iter().collect())
    }

    fn digest(&self, of: u64) -> [u8; 32] {
        let mut all = self.statements.iter();
        let one = all.find(|one| crate::roots::digest(*one) == of).unwrap();
        roots::digest(&self.statement(one)).try_into().unwrap()
    }

    /// The library's verdict.
    fn judged(&self, bytes: &[u8], by: &Reader) -> Result<(), u16> {
        let read = || {
            let registry = UntrustedRegistry::read(bytes)?.verify(&self.root(by), at(by.now))?;
            let seen = |(version, digest): (u8, [u8; 32])| Seen {
                root: registry.mark().root,
                version: version.into(),
                digest: Digest(digest),
            };
            if let Some((version, of)) = by.memory.listing {
                let mut all = self.listings.iter();
                let one = all.find(|one| crate::roots::digest(*one) == of).unwrap();
                registry.follows(&seen((version, self.listing_digest(one))))?;
            }
            if let Some((version, of)) = by.memory.roots {
                registry.follows_roots(&seen((version, self.digest(of))))?;
            }
            Ok(())
        };
        read().map_err(|error: kvcap::Error| error.code().number())
    }
}

fn document(kind: [&str; 2], payload: &[u8], marks: &[Mark]) -> Vec<u8> {
    let signer = |mark: &Mark| {
        let by = if mark.forged { Root::Thief } else { mark.by };
        (seed(mark.by), seed(by))
    };
    let mut signers: Vec<(Seed, Seed)> = marks.iter().map(signer).collect();
    signers.sort_by_cached_key(|(name, _)| roots::id(name));
    roots::in_order(&roots::header(kind), payload, &signers)
}

/// Files of attackers with some roots, each order of statements with some listings, each of these before one verifier: the library gives the model's
/// codes.
pub(crate) fn compare() {
    let (mut files, mut codes, mut turn) = (0, BTreeSet::new(), 0);
    for (roots, stamps, stamped) in [
        (vec![], false, true),
        (vec![Root::B], true, true),
        (vec![Root::A, Root::C], false, true),
        (vec![Root::C, Root::E], true, true),
        (vec![Root::C, Root::E], false, false),
    ] {
        let (thief, honest) = (Thief { roots, stamps }, honest(stamped));
        let made = thief.statements(&honest);
        let listings = thief.listings(&honest);
        let says = honest.statements.iter().chain(&honest.others);
        let written = Written {
            statements: says.map(|one| one.says.clone()).collect(),
            listings: listings.iter().map(|one| one.says).collect(),
        };
        for order in orders(&honest, &made) {
            turn += 1;
            // what the attacker has made is most of them
            let own = order.iter().any(|one| made.contains(one));
            let count = if own { 1 } else { 3 };
            for (listing, by, stamp) in chosen(&honest, &thief, &listings, turn, count) {
                let stamp = stamp.as_ref();
                let file = File {
                    statements: &order,
                    listing,
                    stamp,
                };
                let said = verify(&file, &by, Rules::default());
                let bytes = written.file(&file);
                assert_eq!(
                    written.judged(&bytes, &by),
                    said,
                    "{order:?} {listing:?} {stamp:?} {by:?}"
                );
                files += 1;
                codes.extend(said.err());
            }
        }
    }
    println!("{files} registries, codes {codes:?}");
    assert_eq!(codes, BTreeSet::from([308, 309, 310, 313, 314, 315, 316]));
}

/// Some listings, verifiers and timestamps for an order of statements, others each turn.
fn chosen<'a>(
    honest: &Honest,
    thief: &Thief,
    listings: &'a [Document<Listing>],
    turn: usize,
    count: usize,
) -> Vec<(&'a Document<Listing>, Reader, Option<Timestamp>)> {
    let readers = readers(honest);
    let mut chosen = Vec::new();
    for n in 0..count {
        let turn = turn + 7 * n;
        // what was published comes as often as the rest
        let at = if n == 0 {
            turn % 2
        } else {
            turn % listings.len()
        };
        let stamps = thief.stamps(honest, &listings[at].says);
        let now = Time::try_from(turn % usize::from(END + 1)).unwrap();
        let mut by = readers[(turn * 5 + n) % readers.len()];
        by.now = now;
        chosen.push((&listings[at], by, stamps[(turn / 3) % stamps.len()]));
    }
    chosen
}
