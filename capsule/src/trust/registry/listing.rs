//! What a registry says, and its one form in CBOR (registry-v1 §2).

use crate::{
    digest::Digest,
    error::{Code, Error, Result},
    keys::{CapsuleId, PublicKey},
    limits::{MAX_REGISTRY_KEYS, MAX_REVOKED},
    trust::{Purpose, Status, Trust, TrustedKey, registry::roots::Speech},
    wire::cbor::{self, Field, Value},
};

/// Contents of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Its number: 1, 2, 3, … without a gap.
    pub version: u64,
    /// Time at which it was signed.
    pub issued_at: u64,
    /// The first second at which nobody should go by it any more.
    pub expires: u64,
    /// Digest of the version before; `None` for the first.
    pub previous: Option<Digest>,
    /// Keys by ascending id.
    pub keys: Vec<TrustedKey>,
    /// Revoked capsules by ascending id.
    pub revoked: Vec<Revoked>,
}

/// A capsule that must not be used any more, whoever signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Revoked {
    /// The capsule.
    pub capsule: CapsuleId,
    /// Time of the revocation, for people: what counts is that it stands here.
    pub at: u64,
}

impl Listing {
    /// The keys and revocations, to verify capsules by until the registry expires.
    pub(super) fn trust(&self, expires: u64, fresh_until: Option<u64>) -> Trust {
        let revoked = self.revoked.iter().map(|entry| entry.capsule);
        Trust::until(expires, fresh_until, self.keys.iter().cloned(), revoked)
    }

    /// The issuers that roots have to speak for.
    pub(super) fn issuers(&self) -> impl Iterator<Item = Speech<'_>> {
        self.keys.iter().map(|key| Some(key.issuer.as_str()))
    }

    pub(super) fn decode(payload: &[u8]) -> Result<Self> {
        let value = cbor::decode(payload)?;
        let mut fields = Field::new(&value, "registry", Code::RegistryMalformed).fields()?;
        let format = fields.required(1, "format (1)")?;
        if format.uint()? != 1 {
            return Err(format.wrong("is not 1"));
        }
        let version = fields.required(2, "version (2)")?;
        let issued_at = fields.required(3, "issued at (3)")?.uint()?;
        let expires = fields.required(4, "expires (4)")?;
        let keys = fields.required(5, "keys (5)")?;
        let revoked = fields.required(6, "revoked (6)")?;
        let previous = fields.optional(7, "previous (7)");
        fields.end()?;
        if (version.uint()? == 0) || (version.uint()? == 1) != previous.is_none() {
            return Err(version.wrong("does not agree with the version before"));
        }
        if expires.uint()? <= issued_at {
            return Err(expires.wrong("is not after it was issued"));
        }
        Ok(Self {
            version: version.uint()?,
            issued_at,
            expires: expires.uint()?,
            previous: previous
                .map(|field| Ok(Digest(field.array_of()?)))
                .transpose()?,
            keys: decode_keys(keys)?,
            revoked: decode_revoked(revoked)?,
        })
    }

    /// The payload, read back: what a reader would refuse is not written.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let revoked = self
            .revoked
            .iter()
            .map(|entry| cbor::array([cbor::bytes(entry.capsule.0), cbor::uint(entry.at)]));
        let payload = cbor::encode(&cbor::map([
            (1, Some(cbor::uint(1))),
            (2, Some(cbor::uint(self.version))),
            (3, Some(cbor::uint(self.issued_at))),
            (4, Some(cbor::uint(self.expires))),
            (5, Some(cbor::array(self.keys.iter().map(encode_key)))),
            (6, Some(cbor::array(revoked))),
            (7, self.previous.map(|digest| cbor::bytes(digest.0))),
        ]));
        Self::decode(&payload)?;
        Ok(payload)
    }
}

fn decode_keys(field: Field<'_>) -> Result<Vec<TrustedKey>> {
    let list = field.list()?;
    if list.len() > MAX_REGISTRY_KEYS {
        return Err(field.wrong("holds too many keys"));
    }
    let keys: Vec<TrustedKey> = list.map(decode_key).collect::<Result<_>>()?;
    for pair in keys.windows(2) {
        if let [one, two] = pair {
            let id = two.key.id();
            match one.key.id().cmp(&id) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => {
                    let what = "two registry entries have one key id";
                    return Err(Error::new(Code::RegistryDuplicateKey, what).at(id));
                }
                std::cmp::Ordering::Greater => return Err(field.wrong("is not in order")),
            }
        }
    }
    Ok(keys)
}

fn decode_key(entry: Field<'_>) -> Result<TrustedKey> {
    let mut fields = entry.fields()?;
    let key = PublicKey::from_bytes(&fields.required(1, "key (1)")?.array_of()?)?;
    let purpose = fields.required(2, "purpose (2)")?;
    let issuer = fields.required(3, "issuer (3)")?;
    let suites = fields.required(4, "suites (4)")?;
    let not_before = fields.required(5, "not before (5)")?.uint()?;
    let sign_until = fields.optional(6, "sign until (6)");
    let verify_until = fields.optional(7, "verify until (7)");
    let status = fields.required(8, "status (8)")?;
    fields.end()?;
    if issuer.text()?.is_empty() {
        return Err(issuer.wrong("is empty"));
    }
    let end = |field: Option<Field<'_>>| match field {
        None => Ok(TrustedKey::NO_END),
        Some(field) => match field.uint()? {
            TrustedKey::NO_END => Err(field.wrong("is written by leaving it out")),
            end => Ok(end),
        },
    };
    let numbers: Vec<u64> = suites.list()?.map(Field::uint).collect::<Result<_>>()?;
    if numbers.is_empty() || !numbers.is_sorted_by(|a, b| a < b) {
        return Err(suites.wrong("is empty or not ascending"));
    }
    let status_read = Status::from_number(status.uint()?);
    let status_read = status_read.ok_or_else(|| status.wrong("is not known"))?;
    if status_read == Status::Retired && sign_until.is_none() {
        return Err(status.wrong("is retired without an end of signing"));
    }
    Ok(TrustedKey {
        key,
        issuer: issuer.text()?.to_owned(),
        purpose: Purpose::from_number(purpose.uint()?)
            .ok_or_else(|| purpose.wrong("is not known"))?,
        suites: numbers,
        not_before,
        sign_until: end(sign_until)?,
        verify_until: end(verify_until)?,
        status: status_read,
    })
}

fn encode_key(key: &TrustedKey) -> Value {
    let end = |end| (end != TrustedKey::NO_END).then(|| cbor::uint(end));
    cbor::map([
        (1, Some(cbor::bytes(key.key.to_bytes()))),
        (2, Some(cbor::uint(key.purpose.number()))),
        (3, Some(cbor::text(&key.issuer))),
        (
            4,
            Some(cbor::array(
                key.suites.iter().map(|suite| cbor::uint(*suite)),
            )),
        ),
        (5, Some(cbor::uint(key.not_before))),
        (6, end(key.sign_until)),
        (7, end(key.verify_until)),
        (8, Some(cbor::uint(key.status.number()))),
    ])
}

fn decode_revoked(field: Field<'_>) -> Result<Vec<Revoked>> {
    let list = field.list()?;
    if list.len() > MAX_REVOKED {
        return Err(field.wrong("holds too many capsules"));
    }
    let revoked: Vec<Revoked> = list
        .map(|entry| {
            let [capsule, at] = entry.tuple()?;
            Ok(Revoked {
                capsule: CapsuleId(capsule.array_of()?),
                at: at.uint()?,
            })
        })
        .collect::<Result<_>>()?;
    match revoked.is_sorted_by(|a, b| a.capsule < b.capsule) {
        true => Ok(revoked),
        false => Err(field.wrong("is not in order, or names a capsule twice")),
    }
}
