//! The claims: for whom a capsule is, what for and until when (capsule-v1 §5).

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

const SESSION: i64 = -70_005;

const SESSION_VERSION: i64 = -70_006;

const REPLAY_CURSOR: i64 = -70_007;

/// The claims that a later header of the same body may change (lineage-v1 §1): `aud`, `exp`, `iat`, `scope`.
const OPEN: [i64; 4] = [3, 4, 6, 9];

/// For whom a capsule is, what for and until when: what its issuer decides (capsule-v1 §5).
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
    /// Its number within its session, or where it names none, among the capsules of its tenant and subject
    /// that name none.
    pub sequence: Option<u64>,
    /// True if it may be opened once only.
    pub single_use: bool,
    /// The cap: the latest `exp` that any header of this capsule can have.
    pub renew_until: u64,
    /// The session that it is a checkpoint of.
    pub session: Option<Session>,
}

/// Of which session a capsule is, and how far that had come when it was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The session's id, as its tenant and subject know it.
    pub id: String,
    /// The version of the checkpoint.
    pub version: u64,
    /// The number of the last event that the state has seen.
    pub replay_cursor: u64,
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
    /// for any subject; everything else is absent. It may be renewed until 30 days from `issued_at`, or
    /// `expires` if that is later.
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
            renew_until: issued_at.saturating_add(MAX_LIFETIME).max(expires),
            session: None,
        }
    }
}

/// Statements of an untrusted file about itself. Nobody has vouched for any of them.
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

/// CAP-E-9.
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
    let renew_until = fields.required(RENEW_UNTIL, "renew until")?.uint()?;
    let session = match fields.optional(SESSION, "session") {
        None => None,
        Some(id) => Some(Session {
            id: some_text(id)?,
            version: fields.required(SESSION_VERSION, "version")?.uint()?,
            replay_cursor: fields.required(REPLAY_CURSOR, "replay cursor")?.uint()?,
        }),
    };
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
            session,
        },
    })
}

/// All claims, as the header has them.
pub(crate) fn encode_claims(terms: &Terms, id: CapsuleId) -> Value {
    encode(terms, id, |_| true)
}

/// The claims that stay whatever header the body gets: they enter the keys of the body (§9.1).
pub(crate) fn encode_fixed_claims(terms: &Terms, id: CapsuleId) -> Value {
    encode(terms, id, |key| !OPEN.contains(&key))
}

fn encode(terms: &Terms, id: CapsuleId, wanted: impl Fn(i64) -> bool) -> Value {
    let session = terms.session.as_ref();
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
        (RENEW_UNTIL, Some(cbor::uint(terms.renew_until))),
        (SESSION, session.map(|session| cbor::text(&session.id))),
        (
            SESSION_VERSION,
            session.map(|session| cbor::uint(session.version)),
        ),
        (
            REPLAY_CURSOR,
            session.map(|session| cbor::uint(session.replay_cursor)),
        ),
    ];
    let some = entries
        .into_iter()
        .filter(|(key, _)| wanted(*key))
        .filter_map(|(key, value)| Some((cbor::int(key), value?)));
    Value::Map(some.collect())
}
