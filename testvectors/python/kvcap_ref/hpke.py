"""HPKE (RFC 9180) in base mode with HKDF-SHA256 and ChaCha20-Poly1305, by X25519 or X-Wing: opening
alone, with the KEMs' primitives from PyCA (capsule-v1 §8.3)."""

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .errors import Refusal

X25519, XWING = 2, 3
KEM_ID = {X25519: 0x0020, XWING: 0x647A}
HKDF_SHA256, CHACHA20_POLY1305 = 0x0001, 0x0003
XWING_LABEL = rb"\./" + rb"/^" + b"\\"


def number(n):
    return n.to_bytes(2, "big")


def extract(suite, salt, label, secret):
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + secret, "sha256")


def expand(suite, prk, label, info, length):
    info = number(length) + b"HPKE-v1" + suite + label + info
    out, block = b"", b""
    while len(out) < length:
        block = hmac.digest(prk, block + info + bytes([len(out) // 32 + 1]), "sha256")
        out += block
    return out[:length]


def raw(public):
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def exchange(private, point):
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(point))
    except ValueError:  # a point of small order
        raise Refusal(803) from None


def xwing(seed):
    """(ML-KEM-768 key, X25519 key) of an X-Wing seed."""
    expanded = hashlib.shake_256(seed).digest(96)
    return MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), X25519PrivateKey.from_private_bytes(expanded[64:])


def public_key(kind, secret):
    if kind == X25519:
        return raw(X25519PrivateKey.from_private_bytes(secret).public_key())
    lattice, curve = xwing(secret)
    return raw(lattice.public_key()) + raw(curve.public_key())


def decapsulate(kind, secret, enc):
    if kind == X25519:
        private = X25519PrivateKey.from_private_bytes(secret)
        suite = b"KEM" + number(KEM_ID[kind])
        prk = extract(suite, b"", b"eae_prk", exchange(private, enc))
        return expand(suite, prk, b"shared_secret", enc + raw(private.public_key()), 32)
    lattice, curve = xwing(secret)
    shared = lattice.decapsulate(enc[:1088]) + exchange(curve, enc[1088:])
    return hashlib.sha3_256(shared + enc[1088:] + raw(curve.public_key()) + XWING_LABEL).digest()


def open_first(kind, secret, enc, info, aad, ciphertext):
    """The first message of the context, or KVC-803."""
    suite = b"HPKE" + number(KEM_ID[kind]) + number(HKDF_SHA256) + number(CHACHA20_POLY1305)
    context = b"\0" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
    prk = extract(suite, decapsulate(kind, secret, enc), b"secret", b"")
    key, nonce = expand(suite, prk, b"key", context, 32), expand(suite, prk, b"base_nonce", context, 12)
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, aad)
    except InvalidTag:
        raise Refusal(803) from None
