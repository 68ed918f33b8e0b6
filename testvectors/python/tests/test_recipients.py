"""Recipients of types 2 and 3, and new headers over the same body."""

import hashlib
import unittest
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives import hpke as theirs
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from kvcap_ref import cbor, hpke, keys, manifest, recipients, renew, verify
from kvcap_ref import open as opening
from kvcap_ref.errors import Refusal

from . import sample
from .test_keys import code_of

KNOWN = Path(__file__).parents[3] / "capsule" / "src" / "crypto" / "hpke"
SECRETS = [recipients.Secret(number, bytes([number] * 32)) for number in (2, 3)]
SYMMETRIC = recipients.of(sample.WRAP)
# The points of small order of Curve25519 and of its twist, below the field's prime.
SMALL_ORDER = [
    bytes(32),
    bytes([1]) + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (2**255 - 20).to_bytes(32, "little"),
]
DAY = 86_400


def known_answers(name):
    lines = (KNOWN / name).read_text().splitlines()
    return {k: bytes.fromhex(v) for k, v in (line.split(" ") for line in lines if line and line[0] != "#")}


def sealed(*others, claims=sample.CLAIMS):
    return sample.seal.seal(
        claims,
        sample.context(),
        sample.streams(),
        sample.SEED,
        [sample.WRAP, *others],
        sample.stream_of_bytes(b"capsule"),
    )


def opened(data, key, now=sample.NOW, expected=sample.EXPECTED):
    return opening.open_capsule(data, sample.TRUST, key, now, expected).section(manifest.TOKENS)


def entries(data):
    return cbor.decode(verify.framed(data)[1].payload)[4][3]


class Hpke(unittest.TestCase):
    def test_known_answers(self):
        for kem, name in ((hpke.X25519, "rfc9180.kat"), (hpke.XWing, "xwing.kat")):
            known = known_answers(name)
            self.assertEqual(kem.public(known["skRm"]), known["pkRm"])
            kem.check(known["pkRm"])
            opened = hpke.open(kem, known["skRm"], known["enc"], known["info"], known["aad"], known["ct"])
            self.assertEqual(opened, known["pt"])

    def test_x_wing_of_its_draft(self):
        """The first vector of draft-connolly-cfrg-xwing-kem: its encapsulation key and shared secret, by digests."""
        stated = Path(__file__).with_name("xwing.txt").read_text().splitlines()
        seed, public, enc, shared = (bytes.fromhex(line) for line in stated if line[0] != "#")
        self.assertEqual(hashlib.sha256(hpke.XWing.public(seed)).digest(), public)
        self.assertEqual(hpke.XWing.decapsulate(seed, enc), shared)

    def test_x_wing_with_a_point_of_small_order(self):
        """Sealed with an X25519 secret of zeros, as some implementations of X-Wing open it."""
        known = known_answers("xwing_zero.kat")
        point = hpke.XWing.public(known["skRm"])[-32:]
        mlkem, _ = hpke.XWing._expand(known["skRm"])
        shared = hpke.XWing._combine(mlkem.decapsulate(known["enc"][:1088]), bytes(32), bytes(32), point)
        aead, nonce = hpke.schedule(hpke.XWing, shared, known["info"])
        self.assertEqual(aead.decrypt(nonce, known["ct"], known["aad"]), known["pt"])
        message = known["enc"], known["info"], known["aad"], known["ct"]
        self.assertEqual(code_of(hpke.open, hpke.XWing, known["skRm"], *message), 803)

    def test_the_same_as_the_library(self):
        """PyCA's own HPKE opens what is sealed here, and the other way round."""
        kems = ((hpke.X25519, theirs.KEM.X25519), (hpke.XWing, theirs.KEM.MLKEM768_X25519))
        for (kem, number), secret in zip(kems, SECRETS):
            suite = theirs.Suite(number, theirs.KDF.HKDF_SHA256, theirs.AEAD.CHACHA20_POLY1305)
            public, info, aad = kem.public(secret.key), b"info", b"aad"
            enc, sealed = hpke.seal(kem, public, info, aad, b"text", sample.stream_of_bytes())
            private, other = library_keys(kem, secret.key, public)
            self.assertEqual(openssl.hpke._decrypt_with_aad(suite, enc + sealed, private, info, aad), b"text")
            message = openssl.hpke._encrypt_with_aad(suite, b"text", other, info, aad)
            enc, sealed = message[: kem.enc_len], message[kem.enc_len :]
            self.assertEqual(hpke.open(kem, secret.key, enc, info, aad, sealed), b"text")

    def test_keys_with_which_nothing_can_be_agreed(self):
        x_wing = SECRETS[1].public.key
        for point in SMALL_ORDER:
            self.assertEqual(code_of(recipients.Public, 2, point), 305)
            self.assertEqual(code_of(recipients.Public, 3, x_wing[:-32] + point), 305)
        self.assertEqual(code_of(recipients.Public, 3, b"\x01\x0d\x00" + x_wing[3:]), 305)  # 3,329
        recipients.Public(3, b"\x00\x0d\x00" + x_wing[3:])  # 3,328


def library_keys(kem, secret, public):
    if kem is hpke.X25519:
        return hpke.X25519PrivateKey.from_private_bytes(secret), X25519PublicKey.from_public_bytes(public)
    mlkem, x25519 = hpke.XWing._expand(secret)
    private = theirs.MLKEM768X25519PrivateKey(mlkem, hpke.X25519PrivateKey.from_private_bytes(x25519))
    halves = MLKEM768PublicKey.from_public_bytes(public[:1184]), X25519PublicKey.from_public_bytes(public[1184:])
    return private, theirs.MLKEM768X25519PublicKey(*halves)


class Recipients(unittest.TestCase):
    def test_every_recipient_opens(self):
        for secret in SECRETS:
            data = sealed(secret.public)
            plain = opened(data, sample.WRAP)
            self.assertEqual(opened(data, secret), plain)
            other = recipients.Secret(secret.type, bytes(32))
            self.assertEqual(code_of(opened, data, other), 809)
            # the right id under another type
            self.assertEqual(code_of(opened, data, recipients.Secret(1, secret.key)), 809)

    def test_forms(self):
        good = [entry for secret in SECRETS for entry in entries(sealed(secret.public))]
        symmetric, x25519, _, x_wing = good
        recipients.check([symmetric, x25519], "")
        recipients.check([symmetric, x_wing], "")
        bad = [[x25519, x_wing], [x25519, x25519], [[4, *x25519[1:]]], [[True, *x25519[1:]]], [x25519[:3]]]
        for entry in (symmetric, x25519, x_wing):
            for field in (1, 2, 3):
                for wrong in (entry[field][:-1], entry[field] + b"\0", entry[field].hex()):
                    bad.append([[*entry[:field], wrong, *entry[field + 1 :]]])
        for listed in bad:
            self.assertEqual(code_of(recipients.check, listed, ""), 808)

    def test_damage_and_other_capsules(self):
        for secret in SECRETS:
            cti, key = bytes(16), bytes(range(32))
            entry = secret.public.entry(1, cti, key, sample.stream_of_bytes())
            self.assertEqual(secret.unwrap(1, cti, entry), key)
            self.assertEqual(code_of(secret.unwrap, 2, cti, entry), 803)
            self.assertEqual(code_of(secret.unwrap, 1, b"\1" * 16, entry), 803)
            for field in (1, 2, 3):
                flipped = [*entry]
                flipped[field] = bytes([entry[field][0] ^ 1]) + entry[field][1:]
                self.assertEqual(code_of(secret.unwrap, 1, cti, flipped), 803)
            for point in SMALL_ORDER:
                weak = [*entry[:2], entry[2][:-32] + point, entry[3]]
                self.assertEqual(code_of(secret.unwrap, 1, cti, weak), 803)

    def test_key_files(self):
        for kind, number in (keys.PUBLICS | keys.SECRETS).items():
            secret = recipients.Secret(number, sample.WRAP)
            key = secret.public.key if kind in keys.PUBLICS else secret.key
            self.assertEqual(keys.parse_key(keys.format_key(kind, key), kind), key)


class NewHeaders(unittest.TestCase):
    def renewed(self, data, now, exp, scope=None):
        return renew.renew(data, sample.TRUST, sample.SEED, now, exp, scope)

    def test_no_chain_of_renewals_passes_the_cap(self):
        data, now = sealed(), sample.NOW
        for _ in range(3):
            now += 1800
            data = self.renewed(data, now, now + 3600)
            self.assertEqual(opened(data, sample.WRAP, now), opened(sealed(), sample.WRAP))
        cap = sample.NOW + 30 * DAY
        self.assertEqual(verify.framed(data)[1].claims.cap, cap)
        self.assertEqual(code_of(self.renewed, data, now, cap + 1), 404)
        last = self.renewed(data, now, cap)
        self.assertEqual(code_of(self.renewed, last, cap, cap), 402)

    def test_the_cap_is_the_issuers_own_where_he_gave_one(self):
        cap = sample.NOW + 5000
        data = sealed(claims=replace(sample.CLAIMS, cap=cap))
        self.renewed(data, sample.NOW, cap)
        self.assertEqual(code_of(self.renewed, data, sample.NOW, cap + 1), 404)
        past = replace(sample.CLAIMS, cap=sample.CLAIMS.exp - 1)
        self.assertEqual(code_of(lambda: sealed(claims=past)), 404)
        once = sealed(claims=replace(sample.CLAIMS, single_use=True, cap=sample.CLAIMS.exp))
        self.assertEqual(code_of(self.renewed, once, sample.NOW, sample.CLAIMS.exp + 1), 404)
        self.renewed(once, sample.NOW, sample.CLAIMS.exp)

    def test_scope(self):
        self.assertEqual(code_of(self.renewed, sealed(), sample.NOW, sample.CLAIMS.exp, "kv:restore kv:copy"), 408)
        self.renewed(sealed(), sample.NOW, sample.CLAIMS.exp, "kv:restore")

    def test_rewrapped(self):
        x25519, x_wing = SECRETS
        data = sealed(x25519.public)
        new = renew.rewrap(
            data, sample.TRUST, sample.SEED, x25519, [x_wing.public], sample.NOW, sample.stream_of_bytes(b"new"), "them"
        )
        header = verify.verify_header(new, sample.TRUST, sample.NOW, sample.EXPECTED)
        self.assertEqual(header.claims.aud, "them")
        self.assertEqual(header.lineage(), sample.verified(data).lineage())
        self.assertEqual(opened(new, x_wing), opened(data, sample.WRAP))
        for former in (x25519, SYMMETRIC):
            self.assertEqual(code_of(opened, new, former), 809)
        with self.assertRaises(Refusal):
            renew.rewrap(
                data, sample.TRUST, sample.SEED, x25519, [x25519.public, x_wing.public], sample.NOW, bytes, None
            )


if __name__ == "__main__":
    unittest.main()
