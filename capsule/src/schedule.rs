//! From the content key to each chunk's key, nonce and associated data (capsule-v1 §8).

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    aead::Cipher,
    binding::{Digest, labelled_hasher},
    envelope::Claims,
    error::{Code, Error, Result},
    hazmat::Entropy,
    manifest::Suite,
};

/// The digest of everything that the body's keys are bound to (§8.1).
pub(crate) fn context_digest(claims: &Claims, context: &[u8]) -> Digest {
    let mut hasher = labelled_hasher("kvcap v1 context");
    let mut put = |bytes: &[u8]| {
        hasher.update(bytes);
    };
    let terms = &claims.terms;
    put(&framed(terms.issuer.as_bytes()));
    for claim in [&terms.subject, &terms.organisation] {
        match claim {
            None => put(&[0]),
            Some(claim) => {
                put(&[1]);
                put(&framed(claim.as_bytes()));
            }
        }
    }
    put(&claims.id.0);
    put(&framed(context));
    Digest(*hasher.finalize().as_bytes())
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

    /// Commitment and root for streams (§8.2); only a new wrapping needs the content key after this.
    pub(crate) fn derive(&self, salt: &[u8; 32], ctx: &Digest) -> (Digest, Root) {
        let material: [&[u8]; 3] = [&*self.0, salt, &ctx.0];
        let commitment = Digest::labelled("kvcap v1 commitment", &material);
        let root = Digest::labelled("kvcap v1 streams", &material);
        (commitment, Root(Zeroizing::new(root.0)))
    }
}

/// A-1, in constant time.
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

/// One stream's cipher and nonces.
pub(crate) struct StreamKey {
    cipher: Cipher,
    base: [u8; 12],
    stream: u32,
}

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
        StreamKey {
            cipher: Cipher::new(suite, &cipher_key),
            base,
            stream,
        }
    }
}

/// The label, stream, index, last flag and length of §8.4.
const AAD: usize = 14 + 4 + 8 + 1 + 4;

impl StreamKey {
    /// One that belongs to no capsule.
    #[cfg(feature = "hazmat")]
    pub(crate) fn throwaway(suite: Suite, key: &[u8; 32]) -> Self {
        Self {
            cipher: Cipher::new(suite, key),
            base: [0; 12],
            stream: 0,
        }
    }

    fn parameters(&self, index: u64, last: bool, len: usize) -> ([u8; 12], [u8; AAD]) {
        let mut nonce = self.base;
        for (byte, mask) in nonce.iter_mut().skip(4).zip(index.to_be_bytes()) {
            *byte ^= mask;
        }
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let parts: [&[u8]; 5] = [
            b"kvcap v1 chunk",
            &self.stream.to_le_bytes(),
            &index.to_le_bytes(),
            &[u8::from(last)],
            &len.to_le_bytes(),
        ];
        let mut aad = [0; AAD];
        for (byte, value) in aad.iter_mut().zip(parts.iter().copied().flatten()) {
            *byte = *value;
        }
        (nonce, aad)
    }

    pub(crate) fn seal(&self, index: u64, last: bool, chunk: &mut [u8]) -> Result<[u8; 16]> {
        let (nonce, aad) = self.parameters(index, last, chunk.len());
        self.cipher
            .seal(&nonce, &aad, chunk)
            .map_err(|_| Error::new(Code::BodyChunk, "a chunk could not be sealed"))
    }

    pub(crate) fn open(
        &self,
        index: u64,
        last: bool,
        sealed: &[u8],
        tag: &[u8; 16],
        chunk: &mut [u8],
    ) -> Result<()> {
        let (nonce, aad) = self.parameters(index, last, sealed.len());
        self.cipher
            .open(&nonce, &aad, sealed, tag, chunk)
            .map_err(|_| Error::new(Code::BodyChunk, "a chunk could not be opened"))
    }
}
