//! What is sent and kept, as symbols: a hash is equal where what it is of is equal, a signature is a mark that
//! only its key's holder sets, and what is sealed under a key opens with that key alone.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::rules::{Rule, Rules};

/// A clock's reading.
pub(crate) type Time = u8;

/// An issuer, or a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    Ours,
    Theirs,
}

/// A key that signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Signer {
    /// The honest issuer's.
    First,
    /// Another key that is trusted for the same issuer, in an attacker's hands.
    Second,
    /// The attacker's own, trusted for his own name.
    Theirs,
    /// Nobody trusts it.
    Unknown,
}

impl Signer {
    pub(crate) fn speaks_for(self) -> Option<Name> {
        match self {
            Self::First | Self::Second => Some(Name::Ours),
            Self::Theirs => Some(Name::Theirs),
            Self::Unknown => None,
        }
    }
}

/// A wrapping key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wrapping {
    /// Symmetric, of the honest holder and the first verifier.
    Holder,
    /// X25519, of the first and of the second verifier.
    Door,
    OtherDoor,
    /// X-Wing, of the second verifier.
    Wing,
    /// X25519, of the attacker.
    Thief,
}

/// A content key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Content {
    /// Of the honest capsule.
    Ours,
    /// Of what the honest issuer sealed for the attacker's tenant.
    Sold,
    /// Made by the attacker.
    Made,
    MadeToo,
}

/// What a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Text {
    /// A piece of the honest capsule.
    Ours(u8),
    Sold(u8),
    Made(u8),
    MadeToo(u8),
}

/// The claims and the context that the keys of a body are bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Bound {
    pub(crate) issuer: Name,
    pub(crate) id: u8,
    pub(crate) tenant: Name,
    pub(crate) session: u8,
    pub(crate) once: bool,
    pub(crate) cap: Time,
    /// The model, in the context.
    pub(crate) model: u8,
    /// The parent's lineage digest, in the context.
    pub(crate) parent: Option<u64>,
}

impl Bound {
    /// ctx (capsule-v1 §9.1).
    pub(crate) fn ctx(mut self, rules: Rules) -> u64 {
        if rules.lack(Rule::BoundIssuer) {
            self.issuer = Name::Ours;
        }
        if rules.lack(Rule::BoundTenant) {
            self.tenant = Name::Ours;
        }
        if rules.lack(Rule::BoundSession) {
            self.session = 0;
        }
        if rules.lack(Rule::BoundOnce) {
            self.once = false;
        }
        if rules.lack(Rule::BoundCap) {
            self.cap = 0;
        }
        if rules.lack(Rule::BoundContext) {
            (self.model, self.parent) = (0, None);
        }
        if rules.lack(Rule::BoundId) {
            self.id = 0;
        }
        hash("context", &self)
    }
}

/// A recipient's entry: a content key for a wrapping key, in one capsule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) to: Wrapping,
    pub(crate) content: Content,
    pub(crate) of: u8,
}

/// Ciphertext. One that its maker chose may pass under a second key, to another text: the ciphers do not
/// commit to their key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Chunk {
    pub(crate) key: (Content, u64),
    pub(crate) also: Option<(Content, Text)>,
    pub(crate) place: u8,
    pub(crate) last: bool,
    pub(crate) text: Text,
}

/// A body of two chunks, or of one.
pub(crate) type Body = [Option<Chunk>; 2];

/// What is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Header {
    pub(crate) signer: Signer,
    /// Whether the signer's key was not there when this was made.
    pub(crate) forged: bool,
    pub(crate) bound: Bound,
    pub(crate) audience: u8,
    pub(crate) expires: Time,
    /// Words of its scope, as bits; the lowest is the one that is needed.
    pub(crate) scope: u8,
    pub(crate) commitment: u64,
    pub(crate) entries: [Option<Entry>; 2],
    /// Digest of the tables.
    pub(crate) tables: u64,
}

impl Header {
    /// The lineage digest (lineage-v1 §2).
    pub(crate) fn lineage(&self, rules: Rules) -> u64 {
        hash(
            "lineage",
            &(self.bound.ctx(rules), self.commitment, self.tables),
        )
    }
}

/// A hash with a label, taken for one that nobody finds a second origin of.
pub(crate) fn hash(label: &str, of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    (label, of).hash(&mut hasher);
    hasher.finish()
}

pub(crate) fn commitment(content: Content, ctx: u64) -> u64 {
    hash("commitment", &(content, ctx))
}

pub(crate) fn tables(body: &Body) -> u64 {
    hash("tables", body)
}

/// A body as a sealer makes it.
pub(crate) fn sealed(content: Content, ctx: u64, text: fn(u8) -> Text) -> Body {
    [0, 1].map(|place| {
        Some(Chunk {
            key: (content, ctx),
            also: None,
            place,
            last: place == 1,
            text: text(place),
        })
    })
}
