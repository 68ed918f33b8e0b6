//! The COSE_Sign1 profile and the claims in its protected header (capsule-v1 §4).
//!
//! Parsed by hand: the profile allows one form, and general COSE libraries are made to allow many.

use ciborium::Value;

use crate::{
    cbor::{self, Field, Keys, Major, Scanner},
    error::{Code, Error, Result},
    keys::{CapsuleId, KeyId, PublicKey, SigningKey},
    limits::MAX_LIFETIME,
};

const TAG_18: u8 = 0xD2;
const ARRAY_4: u8 = 0x84;
const INDEFINITE_ARRAY: u8 = 0x9F;
const EMPTY_MAP: u8 = 0xA0;
const NULL: u8 = 0xF6;

const ED25519: i64 = -19;
const CONTENT_TYPE: &str = "application/vnd.kvcap.manifest+cbor";
const TYPE: &str = "application/vnd.kvcap";

const ALG: i64 = 1;
const CRIT: i64 = 2;
const CONTENT: i64 = 3;
const KID: i64 = 4;
const CWT_CLAIMS: i64 = 15;
const TYP: i64 = 16;

const ORG: i64 = -70_001;
const SEQ: i64 = -70_002;
const ONCE: i64 = -70_003;
const RENEW_UNTIL: i64 = -70_004;

/// For whom a capsule is, what for and until when: what its issuer decides (capsule-v1 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
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
    pub organisation: Option<String>,
    /// Its number within a session.
    pub sequence: Option<u64>,
    /// Whether it may be opened once only.
    pub single_use: bool,
    /// The latest `exp` that a renewal may give it; [`Self::renewal_cap`] where there is none.
    pub renew_until: Option<u64>,
}

impl Terms {
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
pub struct Claims {
    /// The capsule's id (`cti`).
    pub id: CapsuleId,
    /// The id of the key that is said to have signed it.
    pub key: KeyId,
    /// Everything else.
    pub terms: Terms,
}

/// An envelope that is well formed. Its parts are the bytes that were received.
pub(crate) struct Envelope {
    pub(crate) claims: Claims,
    protected: Vec<u8>,
    payload: Vec<u8>,
    signature: [u8; 64],
}

impl Envelope {
    /// E-1 … E-9.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let structure = |what: &'static str| Error::new(Code::CoseStructure, what).at("envelope");
        let mut scanner = Scanner::new(bytes);
        if scanner.take(1)? != [TAG_18] {
            return Err(structure("is not a COSE_Sign1 with its tag"));
        }
        match scanner.take(1)? {
            [ARRAY_4] => {}
            [INDEFINITE_ARRAY] => {
                return Err(
                    Error::new(Code::CborNotCanonical, "an indefinite array").at("envelope")
                );
            }
            _ => return Err(structure("is not an array of four")),
        }
        let protected = byte_string(&mut scanner, "protected header")?;
        if protected.is_empty() {
            return Err(Error::new(
                Code::CoseHeaderMissing,
                "the protected header is empty",
            ));
        }
        match scanner.peek()? {
            EMPTY_MAP => {
                scanner.take(1)?;
            }
            other if other >> 5 == 5 => {
                return Err(Error::new(
                    Code::CoseUnprotected,
                    "the unprotected header is not empty",
                ));
            }
            _ => {
                return Err(structure(
                    "has something else where its unprotected header is",
                ));
            }
        }
        if scanner.peek()? == NULL {
            return Err(Error::new(
                Code::CoseDetached,
                "the payload is not embedded",
            ));
        }
        let payload = byte_string(&mut scanner, "payload")?;
        let signature = byte_string(&mut scanner, "signature")?;
        let signature = signature.try_into().map_err(|_| {
            Error::new(Code::SignatureMalformed, "the signature has another length")
                .sides("64 bytes", signature.len())
        })?;
        scanner.end()?;
        Ok(Self {
            claims: parse_header(protected)?,
            protected: protected.to_vec(),
            payload: payload.to_vec(),
            signature,
        })
    }

    /// E-10, E-11; gives the payload that is now known to be the signer's.
    pub(crate) fn verify(&self, key: &PublicKey) -> Result<&[u8]> {
        key.verify(
            &sig_structure(&self.protected, &self.payload)?,
            &self.signature,
        )?;
        Ok(&self.payload)
    }

    /// The payload before anyone vouched for it: for display alone.
    pub(crate) fn unverified_payload(&self) -> &[u8] {
        &self.payload
    }

    pub(crate) fn into_payload(self) -> Vec<u8> {
        self.payload
    }
}

/// An envelope's bytes: signed, complete.
pub(crate) fn seal(claims: &Claims, payload: &[u8], key: &SigningKey) -> Result<Vec<u8>> {
    let protected = header(claims)?;
    let signature = key.sign(&sig_structure(&protected, payload)?);
    let parts = cbor::encode(&cbor::array([
        cbor::bytes(protected),
        Value::Map(Vec::new()),
        cbor::bytes(payload),
        cbor::bytes(signature),
    ]))?;
    Ok([&[TAG_18][..], &parts].concat())
}

fn byte_string<'a>(scanner: &mut Scanner<'a>, name: &'static str) -> Result<&'a [u8]> {
    // a float or tag here is a wrong structure, not a matter of the CBOR profile
    if scanner.peek()? >> 5 != 2 {
        return Err(Error::new(Code::CoseStructure, "is not a byte string").at(name));
    }
    match scanner.head()? {
        (Major::Bytes, len) => scanner.take(len),
        _ => Err(Error::new(Code::CoseStructure, "is not a byte string").at(name)),
    }
}

fn sig_structure(protected: &[u8], payload: &[u8]) -> Result<Vec<u8>> {
    cbor::encode(&cbor::array([
        cbor::text("Signature1"),
        cbor::bytes(protected),
        cbor::bytes([]),
        cbor::bytes(payload),
    ]))
}

/// E-7, E-8: labels are judged one by one, so that an unknown one's value is never looked into.
fn parse_header(bytes: &[u8]) -> Result<Claims> {
    let mut scanner = Scanner::new(bytes);
    if scanner.peek()? >> 5 != 5 {
        return Err(Error::new(Code::CoseStructure, "is not a map").at("protected header"));
    }
    let (_, count) = scanner.head()?;
    let mut keys = Keys::default();
    for _ in 0..count {
        let label = match cbor::decode_scanned(scanner.key(&mut keys, 1)?)? {
            Value::Integer(label) => i64::try_from(label).ok(),
            _ => None,
        };
        match label {
            Some(ALG | CONTENT | KID | CWT_CLAIMS | TYP) => {}
            Some(CRIT) => {
                return Err(Error::new(Code::CoseCritical, "a critical list").at("label 2"));
            }
            _ => {
                return Err(Error::new(
                    Code::CoseHeaderUnknown,
                    "a label that the profile does not know",
                )
                .at("protected header"));
            }
        }
        scanner.item(1)?;
    }
    scanner.end()?;

    let value = cbor::decode_scanned(bytes)?;
    let mut fields = Field::new(&value, "protected header", Code::CoseHeaderMissing).fields()?;
    let alg = fields.required(ALG, "alg (1)")?;
    let content = fields.required(CONTENT, "content type (3)")?;
    let kid = fields.required(KID, "kid (4)")?;
    let claims = fields.required(CWT_CLAIMS, "claims (15)")?;
    let typ = fields.required(TYP, "typ (16)")?;
    fields.end()?;
    if alg.int().ok() != Some(ED25519) {
        return Err(Error::new(Code::CoseAlgorithm, "the algorithm is not Ed25519").at("alg (1)"));
    }
    for (field, want) in [(content, CONTENT_TYPE), (typ, TYPE)] {
        if field.text().ok() != Some(want) {
            return Err(Error::new(Code::CoseType, "this is not a capsule's header").at(want));
        }
    }
    let kid = kid
        .array_of()
        .map_err(|_| Error::new(Code::KeyUnknown, "the key id is not 16 bytes"))?;
    parse_claims(claims.with(Code::ClaimsMalformed), KeyId(kid))
}

/// E-9.
fn parse_claims(claims: Field<'_>, key: KeyId) -> Result<Claims> {
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
    let organisation = fields.optional(ORG, "org").map(some_text).transpose()?;
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
            organisation,
            sequence,
            single_use,
            renew_until,
        },
    })
}

fn header(claims: &Claims) -> Result<Vec<u8>> {
    let terms = &claims.terms;
    let label = |label: i64| Value::Integer(label.into());
    let entries = [
        (1, Some(cbor::text(&terms.issuer))),
        (2, terms.subject.as_deref().map(cbor::text)),
        (3, Some(cbor::text(&terms.audience))),
        (4, Some(cbor::uint(terms.expires))),
        (5, Some(cbor::uint(terms.not_before))),
        (6, Some(cbor::uint(terms.issued_at))),
        (7, Some(cbor::bytes(claims.id.0))),
        (9, Some(cbor::text(&terms.scope))),
        (ORG, terms.organisation.as_deref().map(cbor::text)),
        (SEQ, terms.sequence.map(cbor::uint)),
        (ONCE, terms.single_use.then(|| cbor::uint(1))),
        (RENEW_UNTIL, terms.renew_until.map(cbor::uint)),
    ];
    let cwt = entries
        .into_iter()
        .filter_map(|(key, value)| Some((label(key), value?)));
    let bytes = cbor::encode(&Value::Map(vec![
        (label(ALG), label(ED25519)),
        (label(CONTENT), cbor::text(CONTENT_TYPE)),
        (label(KID), cbor::bytes(claims.key.0)),
        (label(CWT_CLAIMS), Value::Map(cwt.collect())),
        (label(TYP), cbor::text(TYPE)),
    ]))?;
    // what the reader would refuse is not written
    parse_header(&bytes)?;
    Ok(bytes)
}
