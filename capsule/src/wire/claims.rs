//! The claims: for whom a capsule is, what for and until when (capsule-v1 §4).

use crate::{
    error::Result,
    keys::{CapsuleId, KeyId},
    limits::MAX_LIFETIME,
    wire::cbor::{self, Field, Value},
};

const ORG: i64 = -70_001;

const SEQ: i64 = -70_002;

const ONCE: i64 = -70_003;

const RENEW_UNTIL: i64 = -70_004;

/// For whom a capsule is, what for and until when: what its issuer decides (capsule-v1 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Terms {
    /// `iss`: who seals.
    pub issuer: String,
    /// `sub`: whose state it is.
    pub subject: Option<String>,
    /// `aud`: who may restore it.
    pub audience: String,
    /// `exp`: the first second at which it is no longer valid.
    pub expires: u64,
    /// `nbf`: the first second at which it is valid.
    pub not_before: u64,
    /// `iat`: when it was sealed.
    pub issued_at: u64,
    /// `scope`: what it may be used for, words with single spaces between them.
    pub scope: String,
    /// The tenant.
    pub tenant: Option<String>,
    /// Its number within a session.
    pub sequence: Option<u64>,
    /// Whether it may be opened once only.
    pub single_use: bool,
    /// The latest `exp` that a renewal may give it; [`Self::renewal_cap`] where there is none.
    pub renew_until: Option<u64>,
}

impl Claims {
    /// Returns the claims of a capsule that `key` signs.
    #[must_use]
    pub const fn new(id: CapsuleId, key: KeyId, terms: Terms) -> Self {
        Self { id, key, terms }
    }
}

impl Terms {
    /// Returns the terms of a capsule that is valid from `issued_at` until `expires`, for restoring and
    /// for any subject; everything else is absent.
    #[must_use]
    pub fn new(issuer: &str, audience: &str, issued_at: u64, expires: u64) -> Self {
        Self {
            issuer: issuer.to_owned(),
            subject: None,
            audience: audience.to_owned(),
            expires,
            not_before: issued_at,
            issued_at,
            scope: "kv:restore".to_owned(),
            tenant: None,
            sequence: None,
            single_use: false,
            renew_until: None,
        }
    }

    /// The latest `exp` that a renewal may give: what the issuer said, else the lifetime limit from the
    /// time of sealing. What may be used once only is never extended: who remembers its use may forget
    /// it when it has expired (N-3).
    #[must_use]
    pub fn renewal_cap(&self) -> u64 {
        match self.renew_until {
            _ if self.single_use => self.expires,
            Some(until) => until,
            None => self
                .issued_at
                .saturating_add(MAX_LIFETIME)
                .max(self.expires),
        }
    }
}

/// What an untrusted file says of itself. Nobody has vouched for any of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claims {
    /// The capsule's id (`cti`).
    pub id: CapsuleId,
    /// The id of the key that is said to have signed it.
    pub key: KeyId,
    /// Everything else.
    pub terms: Terms,
}

/// E-9.
pub(crate) fn parse_claims(claims: Field<'_>, key: KeyId) -> Result<Claims> {
    let some_text = |field: Field<'_>| match field.text()? {
        "" => Err(field.wrong("is empty")),
        text => Ok(text.to_owned()),
    };
    let mut fields = claims.fields()?;
    let issuer = some_text(fields.required(1, "iss")?)?;
    let subject = fields.optional(2, "sub").map(some_text).transpose()?;
    let audience = some_text(fields.required(3, "aud")?)?;
    let expires = fields.required(4, "exp")?.uint()?;
    let not_before = fields.required(5, "nbf")?.uint()?;
    let issued_at = fields.required(6, "iat")?.uint()?;
    let id = CapsuleId(fields.required(7, "cti")?.array_of()?);
    let scope = some_text(fields.required(9, "scope")?)?;
    let tenant = fields.optional(ORG, "org").map(some_text).transpose()?;
    let sequence = fields.optional(SEQ, "seq").map(Field::uint).transpose()?;
    let single_use = match fields.optional(ONCE, "single use") {
        None => false,
        Some(field) if field.uint()? == 1 => true,
        Some(field) => return Err(field.wrong("is not 1")),
    };
    let renew_until = fields
        .optional(RENEW_UNTIL, "renew until")
        .map(Field::uint)
        .transpose()?;
    fields.end()?;
    Ok(Claims {
        id,
        key,
        terms: Terms {
            issuer,
            subject,
            audience,
            expires,
            not_before,
            issued_at,
            scope,
            tenant,
            sequence,
            single_use,
            renew_until,
        },
    })
}

pub(crate) fn encode_claims(terms: &Terms, id: CapsuleId) -> Value {
    let entries = [
        (1, Some(cbor::text(&terms.issuer))),
        (2, terms.subject.as_deref().map(cbor::text)),
        (3, Some(cbor::text(&terms.audience))),
        (4, Some(cbor::uint(terms.expires))),
        (5, Some(cbor::uint(terms.not_before))),
        (6, Some(cbor::uint(terms.issued_at))),
        (7, Some(cbor::bytes(id.0))),
        (9, Some(cbor::text(&terms.scope))),
        (ORG, terms.tenant.as_deref().map(cbor::text)),
        (SEQ, terms.sequence.map(cbor::uint)),
        (ONCE, terms.single_use.then(|| cbor::uint(1))),
        (RENEW_UNTIL, terms.renew_until.map(cbor::uint)),
    ];
    let some = entries
        .into_iter()
        .filter_map(|(key, value)| Some((cbor::int(key), value?)));
    Value::Map(some.collect())
}
