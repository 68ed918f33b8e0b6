//! HPKE (RFC 9180) in base mode, with HKDF-SHA256 and ChaCha20-Poly1305 and one of two KEMs: what
//! wraps a content key for a public key (capsule-v1 §9.3).

use std::convert::Infallible;

use hpke::{
    Deserializable, OpModeR, OpModeS, Serializable,
    aead::{AeadTag, ChaCha20Poly1305},
    kdf::HkdfSha256,
    kem::{X25519HkdfSha256, XWing},
    rand_core::{TryCryptoRng, TryRng},
    setup_sender_with_rng, single_shot_open_inout_detached,
    single_shot_seal_inout_detached_with_rng,
};
use zeroize::Zeroizing;

use crate::{crypto::aead::Refused, error::Result, hazmat::Entropy};

/// The key encapsulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kem {
    /// DHKEM(X25519, HKDF-SHA256), 0x0020.
    X25519,
    /// X-Wing, 0x647A.
    XWing,
}

/// An encapsulated secret, and the wrapped key.
pub(crate) type Wrapped = (Vec<u8>, [u8; 48]);

/// What is authenticated beside the wrapped key.
#[derive(Clone, Copy)]
pub(crate) struct Bound<'a> {
    pub(crate) info: &'a [u8],
    pub(crate) aad: &'a [u8],
}

/// The public half of a secret key.
pub(crate) fn public(kem: Kem, secret: &[u8; 32]) -> Vec<u8> {
    fn of<K: hpke::Kem>(secret: &[u8; 32]) -> Vec<u8> {
        // of every 32 bytes there is a key, with either KEM
        K::PrivateKey::from_bytes(secret)
            .map(|secret| K::sk_to_pk(&secret).to_bytes().to_vec())
            .unwrap_or_default()
    }
    match kem {
        Kem::X25519 => of::<X25519HkdfSha256>(secret),
        Kem::XWing => of::<XWing>(secret),
    }
}

/// Whether a secret can be agreed with a public key: it is well formed, and its X25519 point is not of
/// small order.
pub(crate) fn is_sound(kem: Kem, public: &[u8]) -> bool {
    fn of<K: hpke::Kem>(public: &[u8]) -> bool {
        // nothing is encrypted with what this gives
        let mut stream = Stream(blake3::Hasher::new().finalize_xof());
        K::PublicKey::from_bytes(public).is_ok_and(|key| {
            let mode = OpModeS::Base;
            setup_sender_with_rng::<ChaCha20Poly1305, HkdfSha256, K>(&mode, &key, &[], &mut stream)
                .is_ok()
        })
    }
    match kem {
        Kem::X25519 => of::<X25519HkdfSha256>(public),
        Kem::XWing => of::<XWing>(public) && is_sound(Kem::X25519, point(public)),
    }
}

/// The X25519 point at the end of an X-Wing public key or encapsulated secret. X-Wing lets either be of
/// small order or not, by implementation; here they are not.
fn point(of: &[u8]) -> &[u8] {
    of.last_chunk::<32>().map_or(&[], |point| point)
}

/// Wraps `content` for a public key.
pub(crate) fn seal(
    kem: Kem,
    public: &[u8],
    bound: Bound<'_>,
    content: &[u8; 32],
    entropy: &mut Entropy,
) -> Result<Result<Wrapped, Refused>> {
    let mut stream = Stream::new(entropy)?;
    Ok(match kem {
        Kem::X25519 => seal_by::<X25519HkdfSha256>(public, bound, content, &mut stream),
        Kem::XWing => seal_by::<XWing>(public, bound, content, &mut stream),
    })
}

fn seal_by<K: hpke::Kem>(
    public: &[u8],
    bound: Bound<'_>,
    content: &[u8; 32],
    stream: &mut Stream,
) -> Result<Wrapped, Refused> {
    let public = K::PublicKey::from_bytes(public).map_err(|_| Refused)?;
    let mut wrapped = [0; 48];
    let (text, end) = wrapped.split_at_mut(32);
    text.copy_from_slice(content);
    let (enc, tag) = single_shot_seal_inout_detached_with_rng::<ChaCha20Poly1305, HkdfSha256, K>(
        &OpModeS::Base,
        &public,
        bound.info,
        text.into(),
        bound.aad,
        stream,
    )
    .map_err(|_| Refused)?;
    end.copy_from_slice(&tag.to_bytes());
    Ok((enc.to_bytes().to_vec(), wrapped))
}

/// The inverse of [`seal`].
pub(crate) fn open(
    kem: Kem,
    secret: &[u8; 32],
    bound: Bound<'_>,
    enc: &[u8],
    wrapped: &[u8; 48],
) -> Result<Zeroizing<[u8; 32]>, Refused> {
    match kem {
        Kem::X25519 => open_by::<X25519HkdfSha256, 32>(secret, bound, enc, wrapped),
        Kem::XWing if !is_sound(Kem::X25519, point(enc)) => Err(Refused),
        Kem::XWing => open_by::<XWing, 32>(secret, bound, enc, wrapped),
    }
}

fn open_by<K: hpke::Kem, const N: usize>(
    secret: &[u8; 32],
    bound: Bound<'_>,
    enc: &[u8],
    wrapped: &[u8],
) -> Result<Zeroizing<[u8; N]>, Refused> {
    let (text, end) = wrapped.split_at_checked(N).ok_or(Refused)?;
    let mut content = Zeroizing::new([0; N]);
    content.copy_from_slice(text);
    let parts = K::PrivateKey::from_bytes(secret)
        .and_then(|secret| Ok((secret, K::EncappedKey::from_bytes(enc)?)))
        .and_then(|(secret, enc)| Ok((secret, enc, AeadTag::from_bytes(end)?)));
    let (secret, enc, tag) = parts.map_err(|_| Refused)?;
    single_shot_open_inout_detached::<ChaCha20Poly1305, HkdfSha256, K>(
        &OpModeR::Base,
        &secret,
        &enc,
        bound.info,
        content.as_mut_slice().into(),
        bound.aad,
        &tag,
    )
    .map_err(|_| Refused)?;
    Ok(content)
}

/// Randomness that cannot fail halfway: 32 bytes of the generator's, extended as far as a KEM asks.
struct Stream(blake3::OutputReader);

impl Stream {
    fn new(entropy: &mut Entropy) -> Result<Self> {
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut *seed)?;
        let mut hasher = blake3::Hasher::new_derive_key("kvcap v1 hpke randomness");
        hasher.update(&*seed);
        Ok(Self(hasher.finalize_xof()))
    }
}

impl TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Stream {}

#[cfg(test)]
mod tests;
