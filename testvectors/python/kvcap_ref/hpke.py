"""HPKE (RFC 9180) in base mode with HKDF-SHA256 and ChaCha20-Poly1305, for one message, and its two KEMs:
DHKEM(X25519, HKDF-SHA256), and X-Wing (draft-connolly-cfrg-xwing-kem)."""

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from .errors import Refusal, require

KDF_SHA256, AEAD_CHACHA = 0x0001, 0x0003
MLKEM_PUBLIC, MLKEM_CIPHERTEXT = 1184, 1088
SMALL_ORDER = "an X25519 point of small order"


def i2osp(x, n):
    return x.to_bytes(n, "big")


class Kdf:
    """LabeledExtract and LabeledExpand of RFC 9180 §4 for one suite id."""

    def __init__(self, suite_id):
        self.suite_id = suite_id

    def extract(self, salt, label, material):
        return hmac.digest(salt, b"HPKE-v1" + self.suite_id + label + material, "sha256")

    def expand(self, key, label, info, n):
        info = i2osp(n, 2) + b"HPKE-v1" + self.suite_id + label + info
        out, block, counter = b"", b"", 1
        while len(out) < n:
            block = hmac.digest(key, block + info + i2osp(counter, 1), "sha256")
            out, counter = out + block, counter + 1
        return out[:n]


def agree(private, public):
    """X25519, or None where the result is all zeros."""
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return None


def x25519_public(private):
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


class X25519:
    id, public_len, enc_len = 0x0020, 32, 32
    kdf = Kdf(b"KEM" + i2osp(0x0020, 2))

    public = staticmethod(x25519_public)

    @classmethod
    def check(cls, public):
        """KVC-305."""
        require(len(public) == cls.public_len and agree(bytes(32), public) is not None, 305, SMALL_ORDER)

    @classmethod
    def _derive(cls, shared, enc, public):
        secret = cls.kdf.extract(b"", b"eae_prk", shared)
        return cls.kdf.expand(secret, b"shared_secret", enc + public, 32)

    @classmethod
    def encapsulate(cls, public, random):
        """(shared secret, enc)"""
        ephemeral = random(32)
        enc = x25519_public(ephemeral)
        return cls._derive(agree(ephemeral, public), enc, public), enc

    @classmethod
    def decapsulate(cls, private, enc):
        shared = agree(private, enc)
        require(shared is not None, 803, SMALL_ORDER)
        return cls._derive(shared, enc, x25519_public(private))


class XWing:
    id, public_len, enc_len = 0x647A, 1216, 1120
    label = b"\\.//^\\"

    @staticmethod
    def _expand(seed):
        expanded = hashlib.shake_256(seed).digest(96)
        return MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), expanded[64:]

    @classmethod
    def public(cls, seed):
        mlkem, x25519 = cls._expand(seed)
        return mlkem.public_key().public_bytes_raw() + x25519_public(x25519)

    @classmethod
    def check(cls, public):
        """KVC-305: what FIPS 203 §7.2 asks of an encapsulation key, and the X25519 half."""
        require(len(public) == cls.public_len, 305, "length")
        mlkem = public[:MLKEM_PUBLIC]
        # two coefficients of 12 bits in three bytes; the last 32 bytes are rho
        for a, b, c in zip(*[iter(mlkem[:-32])] * 3):
            require(max(a | (b & 15) << 8, b >> 4 | c << 4) < 3329, 305, "ML-KEM coefficients")
        X25519.check(public[MLKEM_PUBLIC:])

    @classmethod
    def _combine(cls, mlkem, x25519, enc, public):
        return hashlib.sha3_256(mlkem + x25519 + enc + public + cls.label).digest()

    @classmethod
    def encapsulate(cls, public, random):
        """(shared secret, enc); the randomness of ML-KEM is the library's own."""
        inner, ciphertext = MLKEM768PublicKey.from_public_bytes(public[:MLKEM_PUBLIC]).encapsulate()
        ephemeral, point = random(32), public[MLKEM_PUBLIC:]
        enc = x25519_public(ephemeral)
        return cls._combine(inner, agree(ephemeral, point), enc, point), ciphertext + enc

    @classmethod
    def decapsulate(cls, seed, enc):
        mlkem, x25519 = cls._expand(seed)
        inner = mlkem.decapsulate(enc[:MLKEM_CIPHERTEXT])
        shared = agree(x25519, enc[MLKEM_CIPHERTEXT:])
        require(shared is not None, 803, SMALL_ORDER)
        return cls._combine(inner, shared, enc[MLKEM_CIPHERTEXT:], x25519_public(x25519))


def schedule(kem, shared, info):
    """(AEAD, nonce) of the first message: KeySchedule in base mode, RFC 9180 §5.1."""
    kdf = Kdf(b"HPKE" + i2osp(kem.id, 2) + i2osp(KDF_SHA256, 2) + i2osp(AEAD_CHACHA, 2))
    context = b"\0" + kdf.extract(b"", b"psk_id_hash", b"") + kdf.extract(b"", b"info_hash", info)
    secret = kdf.extract(shared, b"secret", b"")
    key, nonce = kdf.expand(secret, b"key", context, 32), kdf.expand(secret, b"base_nonce", context, 12)
    return ChaCha20Poly1305(key), nonce


def seal(kem, public, info, aad, plain, random):
    """(enc, ciphertext with tag)"""
    shared, enc = kem.encapsulate(public, random)
    aead, nonce = schedule(kem, shared, info)
    return enc, aead.encrypt(nonce, plain, aad)


def open(kem, private, enc, info, aad, ciphertext):
    aead, nonce = schedule(kem, kem.decapsulate(private, enc), info)
    try:
        return aead.decrypt(nonce, ciphertext, aad)
    except InvalidTag:
        raise Refusal(803) from None
