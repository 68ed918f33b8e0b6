//! A registry under several roots: statements about them, the listing, and a timestamp, in one file (registry-v1 §8).

use crate::{
    digest::Digest,
    error::{Code, Error, Result},
    keys::KeyId,
    limits::MAX_SKEW,
    text::show_instant,
    trust::{
        expired,
        registry::{
            Listing, Mark, RootKey, RootPublic,
            root::Anchor,
            roots::{self, Roots, Speech},
            timestamp::Timestamp,
        },
    },
    wire::{
        cbor::{self, Field},
        cose_sign::{Kind, Signed},
    },
};

/// First byte of a bundle: an array of three.
pub(super) const ARRAY_3: u8 = 0x83;
/// Most statements of a file.
const MAX_STATEMENTS: usize = 64;

const LISTING: Kind = Kind {
    content: "application/vnd.kvcap.keys+cbor",
    typ: "application/vnd.kvcap.registry",
};

/// A file that is well formed. Nobody has vouched for it.
#[derive(Clone, Debug)]
pub(super) struct Bundle {
    statements: Vec<Statement>,
    listing: Signed,
    timestamp: Option<Timestamp>,
}

#[derive(Clone, Debug)]
struct Statement {
    signed: Signed,
    roots: Roots,
    digest: Digest,
}

/// Statements that were verified, from the one that the verifier was given to the newest.
#[derive(Clone, Debug)]
pub(super) struct Walked {
    /// Version and digest of each.
    pub(super) passed: Vec<(u64, Digest)>,
    pub(super) newest: Roots,
}

impl Statement {
    fn new(signed: Signed) -> Result<Self> {
        Ok(Self {
            roots: Roots::decode(signed.payload())?,
            digest: Roots::digest_of(signed.payload()),
            signed,
        })
    }

    /// REG-M-4: those of the roots that have signed.
    fn check_signed_by(&self, roots: &Roots) -> Result<Vec<KeyId>> {
        let signers = self.signed.signers(roots.keys())?;
        roots.check_enough(&signers, "roots")?;
        Ok(signers)
    }
}

impl Bundle {
    /// REG-M-1 … REG-M-3.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let value = cbor::decode(bytes)?;
        let field = Field::new(&value, "registry", Code::RegistryMalformed);
        let [statements, listing, timestamp] = field.tuple()?;
        let list = statements.list()?;
        if !(1..=MAX_STATEMENTS).contains(&list.len()) {
            return Err(statements.wrong("holds no statement about roots, or too many"));
        }
        let mut stamps = timestamp.list()?;
        let stamp = stamps.next().map(Field::bytes).transpose()?;
        if stamps.next().is_some() {
            return Err(timestamp.wrong("holds more than one"));
        }
        let (list, listing) = (list.map(Field::bytes), listing.bytes()?);
        // the whole file's form comes before that of its parts
        let list: Vec<&[u8]> = list.collect::<Result<_>>()?;
        let statements = list.into_iter();
        Ok(Self {
            statements: statements
                .map(|bytes| Statement::new(Signed::parse(bytes, roots::KIND)?))
                .collect::<Result<_>>()?,
            listing: Signed::parse(listing, LISTING)?,
            timestamp: stamp.map(Timestamp::read).transpose()?,
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let statements = self.statements.iter();
        let stamps = self.timestamp.iter();
        cbor::encode(&cbor::array([
            cbor::array(statements.map(|one| cbor::bytes(one.signed.encode()))),
            cbor::bytes(self.listing.encode()),
            cbor::array(stamps.map(|stamp| cbor::bytes(stamp.bytes().to_vec()))),
        ]))
    }

    /// The newest statement, before anyone vouched for it.
    pub(super) fn unverified_roots(&self) -> Option<&Roots> {
        self.statements.last().map(|one| &one.roots)
    }

    pub(super) fn unverified_listing(&self) -> &[u8] {
        self.listing.payload()
    }

    /// Id of the root key that it says it began with.
    pub(super) fn chain(&self) -> KeyId {
        let none = KeyId([0; 16]);
        self.unverified_roots().map_or(none, |roots| roots.chain)
    }

    /// Whether the statements begin with what the verifier was given.
    pub(super) fn is_under(&self, root: &RootPublic) -> bool {
        match root.anchor() {
            Anchor::Key(_) => self.chain() == root.id(),
            Anchor::Statement(digest) => self.statements.iter().any(|one| one.digest == *digest),
        }
    }

    /// The mark of the listing.
    pub(super) fn mark(&self, listing: &Listing) -> Mark {
        Mark {
            root: self.chain(),
            version: listing.version,
            digest: Digest::labelled("kvcap v1 registry", &[self.listing.payload()]),
        }
    }

    /// REG-M-5, REG-M-6, REG-M-14.
    pub(super) fn walk(&self, root: &RootPublic) -> Result<Walked> {
        let broken = |what| Error::new(Code::RegistryRoots, what);
        let mut statements = self.statements.iter();
        let mut last = match root.anchor() {
            Anchor::Key(key) => {
                let first = statements
                    .next()
                    .filter(|one| one.roots.version == 1 && one.roots.chain == root.id())
                    .ok_or_else(|| {
                        broken("the statements about roots do not begin with this root")
                            .sides(root.id(), self.chain())
                    })?;
                if first.signed.signers([(root.id(), key)])?.is_empty() {
                    let what = "the first statement about roots is not signed by this root";
                    return Err(super::unsigned(what).at(root.id()));
                }
                first
            }
            Anchor::Statement(digest) => statements
                .by_ref()
                .find(|one| one.digest == *digest)
                .ok_or_else(|| broken("the statement about roots that is trusted is not there"))?,
        };
        last.check_signed_by(&last.roots)?;
        let mut passed = vec![(last.roots.version, last.digest)];
        for next in statements {
            let (old, new) = (&last.roots, &next.roots);
            if old.version.checked_add(1) != Some(new.version)
                || new.previous != Some(last.digest)
                || new.chain != old.chain
                || new.issued_at < old.issued_at
            {
                return Err(
                    broken("a statement about roots does not follow the one before").sides(
                        format_args!("version {}", old.version.saturating_add(1)),
                        new.version,
                    ),
                );
            }
            let signers = next.check_signed_by(old)?;
            next.check_signed_by(new)?;
            old.check_speak(&signers, new.given(old))?;
            passed.push((new.version, next.digest));
            last = next;
        }
        Ok(Walked {
            passed,
            newest: last.roots.clone(),
        })
    }

    /// REG-M-8, REG-M-9.
    pub(super) fn listing(&self, roots: &Roots) -> Result<Listing> {
        let signers = self.listing.signers(roots.keys())?;
        roots.check_enough(&signers, "registry")?;
        let listing = Listing::decode(self.listing.payload())?;
        if listing.keys.iter().any(|key| roots.names(&key.key)) {
            return Err(super::lists_root());
        }
        roots.check_speak(&signers, listing.issuers())?;
        Ok(listing)
    }

    /// REG-M-7, REG-M-11: statement and timestamp are current. Gives when the timestamp ends, if one is needed.
    pub(super) fn check_current(&self, roots: &Roots, of: &Mark, now: u64) -> Result<Option<u64>> {
        if now >= roots.expires {
            return Err(expired(now, roots.expires));
        }
        if now.saturating_add(MAX_SKEW) < roots.issued_at {
            let what = "the clock lies before the statement about roots was issued";
            return Err(Error::new(Code::ClaimsClock, what).sides(
                format_args!("at least {}", show_instant(roots.issued_at)),
                show_instant(now),
            ));
        }
        match (&self.timestamp, roots.timestamp_keys.is_empty()) {
            (None, true) => Ok(None),
            (None, false) => Err(Error::new(
                Code::RegistryStale,
                "the registry has no timestamp, and its roots want one",
            )),
            (Some(timestamp), _) => {
                timestamp.verify(roots, of, now)?;
                Ok(Some(timestamp.expires))
            }
        }
    }

    /// The bundle that follows: with one more statement, if one is given, and another listing; nobody has signed them.
    pub(super) fn followed_by(
        statements: Option<&Self>,
        roots: Option<&Roots>,
        listing: &Listing,
    ) -> Result<Self> {
        let mut all = statements.map_or_else(Vec::new, |before| before.statements.clone());
        if let Some(roots) = roots {
            let signed = Signed::unsigned(roots::KIND, roots.encode()?);
            all.push(Statement::new(signed)?);
        }
        Ok(Self {
            statements: all,
            listing: Signed::unsigned(LISTING, listing.encode()?),
            timestamp: None,
        })
    }

    /// Whether it is `before` with at most one more statement and another listing.
    pub(super) fn continues(&self, before: Option<&Self>) -> bool {
        let old = before.map_or(&[][..], |before| &before.statements);
        let shared = self.statements.iter().zip(old);
        let same = shared.filter(|(a, b)| a.digest == b.digest).count();
        same == old.len() && self.statements.len() <= old.len() + 1
    }

    /// Signs the listing, and the newest statement where that is new, wherever a signature of `root` counts; false where
    /// it counts nowhere.
    pub(super) fn sign(&mut self, root: &RootKey, old: Option<&Roots>, new: bool) -> Result<bool> {
        let id = root.public_id();
        let Some(last) = self.statements.last_mut() else {
            return Ok(false);
        };
        let now = last.roots.keys().any(|(key, _)| key == id);
        let before = match old {
            Some(old) => old.keys().any(|(key, _)| key == id),
            None => last.roots.chain == id,
        };
        if new && (now || before) {
            last.signed.sign(id, root.key())?;
        }
        if now {
            self.listing.sign(id, root.key())?;
        }
        Ok(now || (new && before))
    }

    /// Puts a timestamp in the place of the one that is there.
    pub(super) fn stamped(&self, timestamp: &[u8]) -> Result<Self> {
        Ok(Self {
            timestamp: Some(Timestamp::read(timestamp)?),
            ..self.clone()
        })
    }

    /// How many signatures are there that count for all that is signed, and how many are wanted, of each group that has to
    /// sign.
    pub(super) fn wanting(&self, old: Option<&Roots>, new: bool) -> Result<Vec<(u64, u64)>> {
        let Some(last) = self.statements.last() else {
            return Ok(Vec::new());
        };
        let roots = &last.roots;
        let listing = Listing::decode(self.listing.payload())?;
        let issuers: Vec<Speech<'_>> = listing.issuers().collect();
        let count = |by: &Roots, signed: &Signed, wanted: &[Speech<'_>]| {
            let signers = signed.signers(by.keys())?;
            Ok((by.count_speaking(&signers, wanted)?, by.threshold))
        };
        let mut groups = vec![count(roots, &self.listing, &issuers)?];
        if new {
            groups.push(count(roots, &last.signed, &[])?);
            groups.push(match old {
                Some(old) => count(old, &last.signed, &roots.given(old))?,
                None => (u64::from(last.signed.bears(roots.chain)), 1),
            });
        }
        Ok(groups)
    }

    pub(super) fn is_newer_than(&self, before: Option<&Self>) -> bool {
        self.statements.len() > before.map_or(0, |before| before.statements.len())
    }
}
