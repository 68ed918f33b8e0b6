//! From the content key to the key of each stream (capsule-v1 §9).

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    crypto::chunk::StreamKey,
    digest::Digest,
    error::{Code, Error, Result},
    hazmat::Entropy,
    suite::Suite,
    wire::{
        cbor,
        claims::{Claims, encode_fixed_claims},
    },
};

/// The digest of everything that the body's keys are bound to (§9.1).
pub(crate) fn context_digest(claims: &Claims, context: &[u8]) -> Digest {
    let fixed = cbor::encode(&encode_fixed_claims(&claims.terms, claims.id));
    Digest::labelled("kvcap v1 context", &[&framed(&fixed), &framed(context)])
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    // headers and manifests are shorter than 4 GiB by their limits
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&len.to_le_bytes()[..], bytes].concat()
}

/// A capsule's content key. Made for one capsule; wiped when dropped.
pub(crate) struct ContentKey(Zeroizing<[u8; 32]>);

impl ContentKey {
    pub(crate) fn generate(entropy: &mut Entropy) -> Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        entropy.fill(&mut *key)?;
        Ok(Self(key))
    }

    pub(crate) fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Commitment and root for streams (§9.2); only a new wrapping needs the content key after this.
    pub(crate) fn derive(&self, salt: &[u8; 32], ctx: &Digest) -> (Digest, Root) {
        let material: [&[u8]; 3] = [&*self.0, salt, &ctx.0];
        let commitment = Digest::labelled("kvcap v1 commitment", &material);
        let root = Digest::labelled("kvcap v1 streams", &material);
        (commitment, Root(Zeroizing::new(root.0)))
    }
}

/// CAP-A-1, in constant time.
pub(crate) fn check_commitment(derived: &Digest, signed: &Digest) -> Result<()> {
    if bool::from(derived.0.ct_eq(&signed.0)) {
        return Ok(());
    }
    Err(Error::new(
        Code::BodyCommitment,
        "the content key is not the one committed to",
    ))
}

/// Root of the streams' keys. Wiped when dropped.
pub(crate) struct Root(Zeroizing<[u8; 32]>);

impl Root {
    pub(crate) fn stream(&self, suite: Suite, stream: usize) -> StreamKey {
        let stream = u32::try_from(stream).unwrap_or(u32::MAX);
        let mut material = Zeroizing::new([0; 44]);
        blake3::Hasher::new_keyed(&self.0)
            .update(&stream.to_le_bytes())
            .finalize_xof()
            .fill(&mut *material);
        let (key, nonce) = material.split_at(32);
        let mut cipher_key = Zeroizing::new([0; 32]);
        cipher_key.copy_from_slice(key);
        let mut base = [0; 12];
        base.copy_from_slice(nonce);
        StreamKey::new(suite, &cipher_key, base, stream)
    }
}
