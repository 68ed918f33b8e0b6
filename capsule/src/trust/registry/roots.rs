//! What a statement about a registry's roots says: which keys sign it, how many of them, and for whom (registry-v1 §8.3).

use crate::{
    digest::Digest,
    error::{Code, Error, Result},
    keys::{KeyId, PublicKey},
    trust::registry::root::root_id,
    wire::{
        cbor::{self, Field, Value},
        cose_sign::{Kind, MAX_SIGNATURES},
    },
};

pub(super) const KIND: Kind = Kind {
    content: "application/vnd.kvcap.roots+cbor",
    typ: "application/vnd.kvcap.roots",
};

/// Most roots, and most keys for timestamps, of a statement.
const MAX_ROOTS: usize = MAX_SIGNATURES;
/// Most issuers that a root is limited to.
const MAX_ISSUERS: usize = 1024;

/// What a root speaks for: an issuer, or all.
pub(super) type Speech<'a> = Option<&'a str>;

/// Statement about the roots of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Roots {
    /// Its number: 1, 2, 3, … without a gap.
    pub version: u64,
    /// Time at which it was made.
    pub issued_at: u64,
    /// The first second at which nobody should go by it any more.
    pub expires: u64,
    /// Id of the root key that the registry began with.
    pub chain: KeyId,
    /// Number of the roots that sign.
    pub threshold: u64,
    /// Roots by ascending id.
    pub roots: Vec<Root>,
    /// Keys that sign timestamps, by ascending id; where there are any, a registry needs a timestamp.
    pub timestamp_keys: Vec<PublicKey>,
    /// Digest of the statement before; `None` for the first.
    pub previous: Option<Digest>,
}

/// One root.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Root {
    /// Its key.
    pub key: PublicKey,
    /// The issuers that it speaks for; `None` for all.
    pub issuers: Option<Vec<String>>,
}

impl Root {
    /// A root that speaks for these issuers, or for all.
    #[must_use]
    pub fn new(key: PublicKey, issuers: Option<Vec<String>>) -> Self {
        Self { key, issuers }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        root_id(&self.key)
    }

    fn speaks_for(&self, issuer: Speech<'_>) -> bool {
        let Some(own) = &self.issuers else {
            return true;
        };
        issuer.is_some_and(|issuer| own.binary_search_by(|own| own.as_str().cmp(issuer)).is_ok())
    }

    fn speech(&self) -> Vec<Speech<'_>> {
        match &self.issuers {
            Some(own) => own.iter().map(|issuer| Some(issuer.as_str())).collect(),
            None => vec![None],
        }
    }
}

impl Roots {
    /// Returns its digest, by which a verifier may be given it.
    pub(super) fn digest_of(payload: &[u8]) -> Digest {
        Digest::labelled("kvcap v1 roots", &[payload])
    }

    /// Ids and keys of the roots.
    pub(super) fn keys(&self) -> impl Iterator<Item = (KeyId, &PublicKey)> {
        self.roots.iter().map(|root| (root.id(), &root.key))
    }

    /// Refuses fewer signers than the threshold.
    pub(super) fn check_enough(&self, signers: &[KeyId], of: &'static str) -> Result<()> {
        let count = u64::try_from(signers.len()).unwrap_or(u64::MAX);
        match count >= self.threshold {
            true => Ok(()),
            false => Err(
                Error::new(Code::RegistryUnsigned, "too few of the roots have signed")
                    .at(of)
                    .sides(format_args!("{} of the roots", self.threshold), count),
            ),
        }
    }

    /// REG-M-9, REG-M-14: of the signers as many as the threshold speak for each of these.
    pub(super) fn check_speak<'a>(
        &self,
        signers: &[KeyId],
        wanted: impl IntoIterator<Item = Speech<'a>>,
    ) -> Result<()> {
        let signed = self.among(signers);
        let mut wanted = wanted.into_iter();
        match wanted.find(|issuer| speaking(&signed, *issuer) < self.threshold) {
            None => Ok(()),
            Some(issuer) => Err(super::out_of_scope(issuer)),
        }
    }

    /// How many of the signers speak for each of these at least.
    ///
    /// # Errors
    /// KVC-316 where too few of the roots do, whoever signs.
    pub(super) fn count_speaking(&self, signers: &[KeyId], wanted: &[Speech<'_>]) -> Result<u64> {
        let all: Vec<KeyId> = self.keys().map(|(id, _)| id).collect();
        self.check_speak(&all, wanted.iter().copied())?;
        let signed = self.among(signers);
        let counts = wanted.iter().map(|issuer| speaking(&signed, *issuer));
        let all = u64::try_from(signed.len()).unwrap_or(u64::MAX);
        Ok(counts.min().unwrap_or(all))
    }

    fn among(&self, signers: &[KeyId]) -> Vec<&Root> {
        let named = self.roots.iter();
        named.filter(|root| signers.contains(&root.id())).collect()
    }

    /// REG-M-14: what this statement gives that the one before it did not.
    pub(super) fn given(&self, before: &Self) -> Vec<Speech<'_>> {
        let mut given = Vec::new();
        for root in &self.roots {
            let old = before.roots.iter().find(|old| old.key == root.key);
            let had = |issuer: &Speech<'_>| old.is_some_and(|old| old.speaks_for(*issuer));
            given.extend(root.speech().into_iter().filter(|issuer| !had(issuer)));
        }
        if self.threshold < before.threshold || self.timestamp_keys != before.timestamp_keys {
            given.push(None);
        }
        given
    }

    /// Whether a key is one of the roots or signs timestamps.
    pub(super) fn names(&self, key: &PublicKey) -> bool {
        self.timestamp_keys.contains(key) || self.roots.iter().any(|root| root.key == *key)
    }

    /// REG-M-3.
    pub(super) fn decode(payload: &[u8]) -> Result<Self> {
        let value = cbor::decode(payload)?;
        let mut fields = Field::new(&value, "roots", Code::RegistryMalformed).fields()?;
        let format = fields.required(1, "format (1)")?;
        let version = fields.required(2, "version (2)")?;
        let issued_at = fields.required(3, "issued at (3)")?.uint()?;
        let expires = fields.required(4, "expires (4)")?;
        let chain = KeyId(fields.required(5, "chain (5)")?.array_of()?);
        let threshold = fields.required(6, "threshold (6)")?;
        let roots = fields.required(7, "roots (7)")?;
        let timestamps = fields.required(8, "timestamp keys (8)")?;
        let previous = fields.optional(9, "previous (9)");
        fields.end()?;
        if format.uint()? != 1 {
            return Err(format.wrong("is not 1"));
        }
        if version.uint()? == 0 || (version.uint()? == 1) != previous.is_none() {
            return Err(version.wrong("does not agree with the version before"));
        }
        if expires.uint()? <= issued_at {
            return Err(expires.wrong("is not after it was issued"));
        }
        let (listed, stamps) = (roots.list()?, timestamps.list()?);
        if listed.len() > MAX_ROOTS || stamps.len() > MAX_ROOTS {
            return Err(roots.wrong("holds too many keys"));
        }
        let listed: Vec<Root> = listed.map(decode_root).collect::<Result<_>>()?;
        let stamps: Vec<PublicKey> = stamps
            .map(|key| PublicKey::from_bytes(&key.array_of()?))
            .collect::<Result<_>>()?;
        let count = u64::try_from(listed.len()).unwrap_or(0);
        if !(1..=count).contains(&threshold.uint()?) {
            return Err(threshold.wrong("is not one that the roots can reach"));
        }
        if !listed.is_sorted_by(|a, b| a.id() < b.id()) {
            return Err(roots.wrong("is not in order, or names a key twice"));
        }
        if !stamps.is_sorted_by(|a, b| root_id(a) < root_id(b)) {
            return Err(timestamps.wrong("is not in order, or names a key twice"));
        }
        if let Some(key) = stamps
            .iter()
            .find(|key| listed.iter().any(|r| r.key == **key))
        {
            let what = "a root is named for timestamps too";
            return Err(Error::new(Code::KeyPurpose, what).at(root_id(key)));
        }
        Ok(Self {
            version: version.uint()?,
            issued_at,
            expires: expires.uint()?,
            chain,
            threshold: threshold.uint()?,
            roots: listed,
            timestamp_keys: stamps,
            previous: previous
                .map(|field| Ok(Digest(field.array_of()?)))
                .transpose()?,
        })
    }

    /// The payload, read back: what a reader would refuse is not written.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let stamps = self.timestamp_keys.iter();
        let payload = cbor::encode(&cbor::map([
            (1, Some(cbor::uint(1))),
            (2, Some(cbor::uint(self.version))),
            (3, Some(cbor::uint(self.issued_at))),
            (4, Some(cbor::uint(self.expires))),
            (5, Some(cbor::bytes(self.chain.0))),
            (6, Some(cbor::uint(self.threshold))),
            (7, Some(cbor::array(self.roots.iter().map(encode_root)))),
            (
                8,
                Some(cbor::array(stamps.map(|key| cbor::bytes(key.to_bytes())))),
            ),
            (9, self.previous.map(|digest| cbor::bytes(digest.0))),
        ]));
        Self::decode(&payload)?;
        Ok(payload)
    }
}

fn speaking(roots: &[&Root], issuer: Speech<'_>) -> u64 {
    let speaking = roots.iter().filter(|root| root.speaks_for(issuer));
    u64::try_from(speaking.count()).unwrap_or(u64::MAX)
}

fn decode_root(entry: Field<'_>) -> Result<Root> {
    let mut fields = entry.fields()?;
    let key = PublicKey::from_bytes(&fields.required(1, "key (1)")?.array_of()?)?;
    let issuers = fields.optional(2, "issuers (2)");
    fields.end()?;
    let issuers = issuers.map(|field| {
        let list = field.list()?;
        if !(1..=MAX_ISSUERS).contains(&list.len()) {
            return Err(field.wrong("names no issuer, or too many"));
        }
        let names: Vec<String> = list
            .map(|name| match name.text()? {
                "" => Err(name.wrong("is empty")),
                text => Ok(text.to_owned()),
            })
            .collect::<Result<_>>()?;
        match names.is_sorted_by(|a, b| a.as_bytes() < b.as_bytes()) {
            true => Ok(names),
            false => Err(field.wrong("is not in order, or names an issuer twice")),
        }
    });
    Ok(Root {
        key,
        issuers: issuers.transpose()?,
    })
}

fn encode_root(root: &Root) -> Value {
    let issuers = root.issuers.as_ref();
    cbor::map([
        (1, Some(cbor::bytes(root.key.to_bytes()))),
        (
            2,
            issuers.map(|names| cbor::array(names.iter().map(|name| cbor::text(name)))),
        ),
    ])
}
