//! The envelope of a capsule: the claims in its protected header, the manifest as its payload
//! (capsule-v1 §5).

use crate::{
    error::{Code, Result},
    keys::{PublicKey, SigningKey},
    wire::{
        cbor::Field,
        claims::{Claims, encode_claims, parse_claims},
        cose::{self, Profile, Sign1},
    },
};

const PROFILE: Profile = Profile {
    content: "application/vnd.kvcap.manifest+cbor",
    typ: "application/vnd.kvcap",
    claims: true,
};

/// An envelope that is well formed. Its parts are the bytes that were received.
pub(crate) struct Envelope {
    pub(crate) claims: Claims,
    signed: Sign1,
}

impl Envelope {
    /// CAP-E-1 … CAP-E-9.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let signed = Sign1::parse(bytes)?;
        Ok(Self {
            claims: parse_header(signed.protected())?,
            signed,
        })
    }

    /// CAP-E-10, CAP-E-11; gives the payload that is now known to be the signer's.
    pub(crate) fn verify(&self, key: &PublicKey) -> Result<&[u8]> {
        self.signed.verify(key)
    }

    /// The payload before anyone vouched for it: for display alone.
    pub(crate) fn unverified_payload(&self) -> &[u8] {
        self.signed.unverified_payload()
    }

    pub(crate) fn into_payload(self) -> Vec<u8> {
        self.signed.into_payload()
    }
}

/// An envelope's bytes: signed, complete.
pub(crate) fn seal(claims: &Claims, payload: &[u8], key: &SigningKey) -> Result<Vec<u8>> {
    cose::sign(&header(claims)?, payload, key)
}

/// Bytes that an envelope will have.
pub(crate) fn sealed_len(claims: &Claims, payload: &[u8]) -> Result<usize> {
    Ok(cose::signed_len(&header(claims)?, payload))
}

/// The protected header.
fn header(claims: &Claims) -> Result<Vec<u8>> {
    let protected = PROFILE.header(claims.key, Some(encode_claims(&claims.terms, claims.id)));
    // what the reader would refuse is not written
    parse_header(&protected)?;
    Ok(protected)
}

fn parse_header(bytes: &[u8]) -> Result<Claims> {
    let (key, claims) = PROFILE.parse(bytes)?;
    parse_claims(
        Field::new(&claims, "claims (15)", Code::ClaimsMalformed),
        key,
    )
}
