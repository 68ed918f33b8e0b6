"""Key schedule and encryption (capsule-v1 §§4, 9): from a content key to the bytes of a chunk."""

import struct
from dataclasses import dataclass

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from . import cbor
from .errors import Refusal

AEADS = {1: ChaCha20Poly1305, 2: AESGCM}
TAG = 16


def b3(label, material, n=32):
    """B3 of §1."""
    return blake3(material, derive_key_context=label).digest(n)


def kb3(key, message, n=32):
    """KB3 of §1."""
    return blake3(message, key=key).digest(n)


def u16(x):
    return struct.pack("<H", x)


def u32(x):
    return struct.pack("<I", x)


def u64(x):
    return struct.pack("<Q", x)


def context_digest(claims, context_bytes):
    """ctx of §9.1; `context_bytes` are the raw bytes of the value of manifest key 2."""

    def counted(x):
        return u32(len(x)) + x

    return b3("kvcap v1 context", counted(cbor.encode(claims.fixed())) + counted(context_bytes))


def commitment(content_key, salt, ctx):
    return b3("kvcap v1 commitment", content_key + salt + ctx)


@dataclass(frozen=True)
class StreamKeys:
    """§9.2 and §9.4 for one capsule."""

    suite: int
    root: bytes

    @classmethod
    def derive(cls, suite, content_key, salt, ctx):
        return cls(suite, b3("kvcap v1 streams", content_key + salt + ctx))

    def _parts(self, stream, index, last, length):
        derived = kb3(self.root, u32(stream), 44)
        key, base = derived[:32], derived[32:]
        counter = bytes(4) + index.to_bytes(8, "big")
        nonce = bytes(a ^ b for a, b in zip(base, counter))
        aad = b"kvcap v1 chunk" + u32(stream) + u64(index) + bytes([last]) + u32(length)
        return AEADS[self.suite](key), nonce, aad

    def seal(self, stream, index, last, plain):
        """(ciphertext, tag)"""
        aead, nonce, aad = self._parts(stream, index, last, len(plain))
        sealed = aead.encrypt(nonce, plain, aad)
        return sealed[:-TAG], sealed[-TAG:]

    def open(self, stream, index, last, ciphertext, tag):
        aead, nonce, aad = self._parts(stream, index, last, len(ciphertext))
        try:
            return aead.decrypt(nonce, ciphertext + tag, aad)
        except InvalidTag:
            raise Refusal(806, f"stream {stream} chunk {index}") from None


def wrap_key_id(wrapping_key):
    return b3("kvcap v1 wrap key id", wrapping_key, 16)


def _hchacha20(key, nonce16):
    state = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce16))

    def quarter(a, b, c, d):
        for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[x] = state[x] + state[y] & 0xFFFFFFFF
            mixed = state[z] ^ state[x]
            state[z] = (mixed << n | mixed >> 32 - n) & 0xFFFFFFFF

    for _ in range(10):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<8I", *state[:4], *state[12:])


def _xchacha(wrapping_key, nonce):
    return ChaCha20Poly1305(_hchacha20(wrapping_key, nonce[:16])), bytes(4) + nonce[16:]


def wrap(wrapping_key, key_id, cti, nonce, content_key):
    """XChaCha20-Poly1305 of §9.3."""
    aead, inner = _xchacha(wrapping_key, nonce)
    return aead.encrypt(inner, content_key, b"kvcap v1 wrap" + key_id + cti)


def unwrap(wrapping_key, key_id, cti, nonce, wrapped):
    aead, inner = _xchacha(wrapping_key, nonce)
    try:
        return aead.decrypt(inner, wrapped, b"kvcap v1 wrap" + key_id + cti)
    except InvalidTag:
        raise Refusal(803) from None
