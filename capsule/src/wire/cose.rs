//! The COSE_Sign1 profile that everything signed is in (capsule-v1 §5): one structure, one header for
//! each kind of document.
//!
//! Parsed by hand: the profile allows one form, and general COSE libraries are made to allow many.

use crate::{
    error::{Code, Error, Result},
    keys::{KeyId, PublicKey, SigningKey},
    wire::cbor::{self, Field, Keys, Major, Scanner, Value},
};

pub(crate) const TAG_18: u8 = 0xD2;
const ARRAY_4: u8 = 0x84;
const INDEFINITE_ARRAY: u8 = 0x9F;
const EMPTY_MAP: u8 = 0xA0;
const NULL: u8 = 0xF6;

const ED25519: i64 = -19;

const ALG: i64 = 1;
const CRIT: i64 = 2;
const CONTENT: i64 = 3;
const KID: i64 = 4;
const CWT_CLAIMS: i64 = 15;
const TYP: i64 = 16;

/// What tells one kind of signed document from another.
pub(crate) struct Profile {
    /// Content type of the payload.
    pub(crate) content: &'static str,
    /// Type of the whole.
    pub(crate) typ: &'static str,
    /// Whether the header has claims; without them their label is unknown.
    pub(crate) claims: bool,
}

/// A signed document that is well formed outside. Its parts are the bytes that were received.
pub(crate) struct Sign1 {
    protected: Vec<u8>,
    payload: Vec<u8>,
    signature: [u8; 64],
}

impl Sign1 {
    /// CAP-E-1 … CAP-E-6.
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
            protected: protected.to_vec(),
            payload: payload.to_vec(),
            signature,
        })
    }

    /// The header as it was received, for [`Profile::parse`].
    pub(crate) fn protected(&self) -> &[u8] {
        &self.protected
    }

    /// CAP-E-10, CAP-E-11; gives the payload that is now known to be the signer's.
    pub(crate) fn verify(&self, key: &PublicKey) -> Result<&[u8]> {
        key.verify(
            &sig_structure(&self.protected, &self.payload),
            &self.signature,
        )?;
        Ok(&self.payload)
    }

    /// The payload before anyone vouched for it: for display alone.
    pub(crate) fn unverified_payload(&self) -> &[u8] {
        &self.payload
    }

    /// The payload, once it has been verified.
    pub(crate) fn into_payload(self) -> Vec<u8> {
        self.payload
    }
}

/// The bytes of a document, signed and complete.
///
/// # Errors
/// KVC-948 of a key that is kept elsewhere.
pub(crate) fn sign(protected: &[u8], payload: &[u8], key: &SigningKey) -> Result<Vec<u8>> {
    let signature = key.sign(&sig_structure(protected, payload))?;
    Ok(document(protected, payload, &signature))
}

/// Bytes of a document, which do not depend on who signs it.
pub(crate) fn signed_len(protected: &[u8], payload: &[u8]) -> usize {
    document(protected, payload, &[0; 64]).len()
}

fn document(protected: &[u8], payload: &[u8], signature: &[u8; 64]) -> Vec<u8> {
    let parts = cbor::encode(&cbor::array([
        cbor::bytes(protected),
        Value::Map(Vec::new()),
        cbor::bytes(payload),
        cbor::bytes(*signature),
    ]));
    [&[TAG_18][..], &parts].concat()
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

fn sig_structure(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    cbor::encode(&cbor::array([
        cbor::text("Signature1"),
        cbor::bytes(protected),
        cbor::bytes([]),
        cbor::bytes(payload),
    ]))
}

impl Profile {
    /// CAP-E-7, CAP-E-8: labels are judged one by one, so that an unknown one's value is never looked into.
    /// Gives the key id and the claims, an empty map in a document that has none.
    pub(crate) fn parse(&self, bytes: &[u8]) -> Result<(KeyId, Value)> {
        let mut scanner = Scanner::new(bytes);
        if scanner.peek()? >> 5 != 5 {
            return Err(Error::new(Code::CoseStructure, "is not a map").at("protected header"));
        }
        let count = scanner.pairs()?;
        let mut keys = Keys::default();
        for _ in 0..count {
            let label = match cbor::decode_scanned(scanner.key(&mut keys, 1)?)? {
                Value::Unsigned(label) => i64::try_from(label).ok(),
                _ => None,
            };
            match label {
                Some(ALG | CONTENT | KID | TYP) => {}
                Some(CWT_CLAIMS) if self.claims => {}
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
        let mut fields =
            Field::new(&value, "protected header", Code::CoseHeaderMissing).fields()?;
        let alg = fields.required(ALG, "alg (1)")?;
        let content = fields.required(CONTENT, "content type (3)")?;
        let kid = fields.required(KID, "kid (4)")?;
        let claims = match self.claims {
            true => fields.required(CWT_CLAIMS, "claims (15)")?.value().clone(),
            false => Value::Map(Vec::new()),
        };
        let typ = fields.required(TYP, "typ (16)")?;
        fields.end()?;
        if alg.int().ok() != Some(ED25519) {
            return Err(
                Error::new(Code::CoseAlgorithm, "the algorithm is not Ed25519").at("alg (1)"),
            );
        }
        for (field, want) in [(content, self.content), (typ, self.typ)] {
            if field.text().ok() != Some(want) {
                return Err(
                    Error::new(Code::CoseType, "this is another kind of document").at(want),
                );
            }
        }
        let kid = kid
            .array_of()
            .map_err(|_| Error::new(Code::KeyUnknown, "the key id is not 16 bytes"))?;
        Ok((KeyId(kid), claims))
    }

    /// The bytes of a header.
    pub(crate) fn header(&self, key: KeyId, claims: Option<Value>) -> Vec<u8> {
        let entries = [
            (ALG, Some(cbor::int(ED25519))),
            (CONTENT, Some(cbor::text(self.content))),
            (KID, Some(cbor::bytes(key.0))),
            (CWT_CLAIMS, claims),
            (TYP, Some(cbor::text(self.typ))),
        ];
        let some = entries
            .into_iter()
            .filter_map(|(label, value)| Some((cbor::int(label), value?)));
        cbor::encode(&Value::Map(some.collect()))
    }
}
