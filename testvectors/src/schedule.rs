//! The key schedule of capsule-v1 §9, written again from the specification, so that a case can seal
//! what the library would not.

use aes_gcm::Aes256Gcm;
use chacha20poly1305::{
    ChaCha20Poly1305, XChaCha20Poly1305,
    aead::{Aead, AeadInOut, KeyInit, Payload},
};

use crate::raw::{Step, encode, find, int};

/// BLAKE3 with a context string.
#[must_use]
pub fn b3(label: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(label);
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// The first half of a digest.
#[must_use]
pub fn half(digest: [u8; 32]) -> [u8; 16] {
    digest[..16].try_into().unwrap()
}

/// Id of a public key.
#[must_use]
pub fn sign_key_id(public: &[u8; 32]) -> [u8; 16] {
    half(b3("kvcap v1 sign key id", &[public]))
}

/// Id of a wrapping key.
#[must_use]
pub fn wrap_key_id(key: &[u8; 32]) -> [u8; 16] {
    half(b3("kvcap v1 wrap key id", &[key]))
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

/// The claims that a later header of the same body may change: aud, exp, iat, scope (lineage-v1 §1).
const OPEN: [i64; 4] = [3, 4, 6, 9];

/// The other claims, as a map in the header's own order (§9.1).
#[must_use]
pub fn fixed_claims(header: &[u8]) -> Vec<u8> {
    let claims = &header[find(header, &[Step::Key(15)])];
    let claims: ciborium::Value = ciborium::from_reader(claims).unwrap();
    let fixed = claims.into_map().unwrap().into_iter();
    let fixed = fixed.filter(|(key, _)| OPEN.iter().all(|open| *key != int(*open)));
    encode(&ciborium::Value::Map(fixed.collect()))
}

/// The bytes of which ctx is the digest (§9.1), from a header's and a manifest's raw bytes.
#[must_use]
pub fn context_input(header: &[u8], payload: &[u8]) -> Vec<u8> {
    [
        framed(&fixed_claims(header)),
        framed(&payload[find(payload, &[Step::Key(2)])]),
    ]
    .concat()
}

/// Everything that follows from content key, salt and ctx.
pub struct Schedule {
    /// ctx.
    pub ctx: [u8; 32],
    /// The key commitment.
    pub commitment: [u8; 32],
    /// Root of the streams' keys.
    pub root: [u8; 32],
    suite: u64,
}

impl Schedule {
    /// The keys of a capsule.
    #[must_use]
    pub fn new(suite: u64, content_key: &[u8; 32], salt: &[u8], input: &[u8]) -> Self {
        let ctx = b3("kvcap v1 context", &[input]);
        let material: [&[u8]; 3] = [content_key, salt, &ctx];
        Self {
            ctx,
            commitment: b3("kvcap v1 commitment", &material),
            root: b3("kvcap v1 streams", &material),
            suite,
        }
    }

    /// Key and base nonce of a stream.
    #[must_use]
    pub fn stream(&self, stream: usize) -> ([u8; 32], [u8; 12]) {
        let mut out = [0; 44];
        blake3::Hasher::new_keyed(&self.root)
            .update(&(stream as u32).to_le_bytes())
            .finalize_xof()
            .fill(&mut out);
        (out[..32].try_into().unwrap(), out[32..].try_into().unwrap())
    }

    /// Nonce and associated data of a chunk.
    #[must_use]
    pub fn chunk(&self, stream: usize, index: u64, last: bool, len: usize) -> ([u8; 12], Vec<u8>) {
        let (_, mut nonce) = self.stream(stream);
        for (byte, mask) in nonce[4..].iter_mut().zip(index.to_be_bytes()) {
            *byte ^= mask;
        }
        let aad = [
            &b"kvcap v1 chunk"[..],
            &(stream as u32).to_le_bytes(),
            &index.to_le_bytes(),
            &[u8::from(last)],
            &(len as u32).to_le_bytes(),
        ];
        (nonce, aad.concat())
    }

    /// Encrypts one chunk: ciphertext and tag.
    #[must_use]
    pub fn seal(&self, stream: usize, index: u64, last: bool, plain: &[u8]) -> (Vec<u8>, [u8; 16]) {
        let (key, _) = self.stream(stream);
        let (nonce, aad) = self.chunk(stream, index, last, plain.len());
        let mut text = plain.to_vec();
        let buffer = text.as_mut_slice().into();
        let tag = if self.suite == 2 {
            Aes256Gcm::new(&key.into()).encrypt_inout_detached(&nonce.into(), &aad, buffer)
        } else {
            ChaCha20Poly1305::new(&key.into()).encrypt_inout_detached(&nonce.into(), &aad, buffer)
        };
        (text, tag.unwrap().into())
    }
}

/// Hash of a chunk's ciphertext.
#[must_use]
pub fn chunk_digest(ciphertext: &[u8]) -> [u8; 32] {
    b3("kvcap v1 leaf", &[ciphertext])
}

/// Digest of a stream's table.
#[must_use]
pub fn table_digest(stream: usize, rows: &[u8]) -> [u8; 32] {
    b3("kvcap v1 table", &[&(stream as u32).to_le_bytes(), rows])
}

fn wrap_aad(key: &[u8; 32], cti: &[u8]) -> Vec<u8> {
    [&b"kvcap v1 wrap"[..], &wrap_key_id(key), cti].concat()
}

/// Wraps a content key for a recipient.
#[must_use]
pub fn wrap(key: &[u8; 32], nonce: &[u8; 24], cti: &[u8], content_key: &[u8; 32]) -> Vec<u8> {
    let aad = wrap_aad(key, cti);
    XChaCha20Poly1305::new(key.into())
        .encrypt(
            nonce.into(),
            Payload {
                msg: content_key,
                aad: &aad,
            },
        )
        .unwrap()
}

/// The content key in a recipient's entry.
#[must_use]
pub fn unwrap(key: &[u8; 32], nonce: &[u8], cti: &[u8], wrapped: &[u8]) -> [u8; 32] {
    let aad = wrap_aad(key, cti);
    let nonce: [u8; 24] = nonce.try_into().unwrap();
    XChaCha20Poly1305::new(key.into())
        .decrypt(
            (&nonce).into(),
            Payload {
                msg: wrapped,
                aad: &aad,
            },
        )
        .unwrap()
        .try_into()
        .unwrap()
}
