"""Key files, the strict signature rule, and the key wrap."""

import os
import tempfile
import unittest
from pathlib import Path

from kvcap_ref import ed25519, keys, schedule
from kvcap_ref.errors import Refusal

from . import sample


def code_of(function, *arguments):
    try:
        function(*arguments)
    except Refusal as refusal:
        return refusal.code


def torsion():
    """The encodings of the eight points of small order."""
    point, found = None, set()
    y = 2
    while len(found) < 8:
        point = ed25519.decompress(y.to_bytes(32, "little"))
        y += 1
        if point is not None:
            small = multiply(ed25519.L, point)
            for _ in range(8):
                found.add(encode(small))
                small = add(small, multiply(ed25519.L, point))
    return found


def add(a, b):
    (x1, y1), (x2, y2) = a, b
    t = ed25519.D * x1 * x2 * y1 * y2 % ed25519.P
    x = (x1 * y2 + x2 * y1) * pow(1 + t, -1, ed25519.P)
    return x % ed25519.P, (y1 * y2 + x1 * x2) * pow(1 - t, -1, ed25519.P) % ed25519.P


def multiply(n, point):
    total = (0, 1)
    while n:
        if n & 1:
            total = add(total, point)
        point, n = add(point, point), n >> 1
    return total


def encode(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


class Signatures(unittest.TestCase):
    def test_weak_and_non_canonical_keys_are_refused(self):
        small = torsion()
        self.assertEqual(len(small), 8)
        aliases = [(y + ed25519.P | sign << 255).to_bytes(32, "little") for y in (0, 1) for sign in (0, 1)]
        minus_zero = [(1 | 1 << 255).to_bytes(32, "little"), (ed25519.P - 1 | 1 << 255).to_bytes(32, "little")]
        no_point = [(2).to_bytes(32, "little")]
        for key in [*small, *aliases, *minus_zero, *no_point, bytes(31)]:
            self.assertEqual(code_of(ed25519.check_public_key, key), 305, key.hex())
        ed25519.check_public_key(sample.PUBLIC)

    def test_strict_verification(self):
        message = b"message"
        signature = ed25519.sign(sample.SEED, message)
        ed25519.verify(sample.PUBLIC, message, signature)
        s = int.from_bytes(signature[32:], "little") + ed25519.L
        cases = [
            (306, signature[:63]),
            (306, signature[:32] + s.to_bytes(32, "little")),
            (307, bytes(64)),
            (307, signature[:32] + bytes(32)),
            (307, bytes([signature[0] ^ 1]) + signature[1:]),
        ]
        for code, bad in cases:
            self.assertEqual(code_of(ed25519.verify, sample.PUBLIC, message, bad), code)
        self.assertEqual(code_of(ed25519.verify, sample.PUBLIC, b"other", signature), 307)

    def test_a_key_with_a_small_component_verifies_without_the_cofactor(self):
        """A = [a]B + T with T of order 2: only the cofactored equation holds unless k is even."""
        import hashlib

        base = ed25519.decompress((4 * pow(5, -1, ed25519.P) % ed25519.P).to_bytes(32, "little"))
        a, r = 12345, 6789
        public = encode(add(multiply(a, base), (0, ed25519.P - 1)))
        ed25519.check_public_key(public)
        big_r = encode(multiply(r, base))
        codes = set()
        for n in range(8):
            message = bytes([n])
            k = int.from_bytes(hashlib.sha512(big_r + public + message).digest(), "little") % ed25519.L
            s = (r + k * a) % ed25519.L
            code = code_of(ed25519.verify, public, message, big_r + s.to_bytes(32, "little"))
            self.assertEqual(code, 307 if k % 2 else None)
            codes.add(code)
        self.assertEqual(codes, {None, 307})


class KeyFiles(unittest.TestCase):
    def test_forms(self):
        for kind in (keys.SECRET_SIGN, keys.SECRET_WRAP, keys.PUBLIC):
            line = keys.format_key(kind, sample.PUBLIC)
            for text in (f"# comment\n\n{line}\n", line + " ", f"# comment\r\n\r\n{line}\t\r\n"):
                self.assertEqual(keys.parse_key(text, kind), sample.PUBLIC, text)
            bad = ["", line + "\n" + line, line[:-1], line + "0", line[:-1] + ("0" if line[-1] != "0" else "1")]
            bad += [line.swapcase(), " " + line, line[:20] + " " + line[20:]]
            for text in bad:
                self.assertEqual(code_of(keys.parse_key, text, kind), 942, text)

    def test_issuers(self):
        line = keys.format_key(keys.PUBLIC, sample.PUBLIC)
        for text, issuer in (
            (line, None),
            (f"issuer: prefill-1\u3000 \r\n{line}", "prefill-1"),
            (f"{line}\nissuer: a  b", "a  b"),
            (f"issuer: {'é' * 512}\n{line}", "é" * 512),
        ):
            keys.parse_key(text, keys.PUBLIC)
            self.assertEqual(keys.issuer_in(text), issuer)
        wrong = ["\u2003x", " x", "a\x1fb", "a\x1f", "a\x7fb", "a\x9fb", "é" * 512 + "x", "a\nissuer: a"]
        for name in wrong:
            self.assertEqual(code_of(keys.issuer_in, f"issuer: {name}\n{line}"), 942, name)
        # a line that does not begin with the one space, and one of nothing but it, are other lines
        for other in ("issuer:x", "issuer: ", " issuer: x"):
            self.assertEqual(code_of(keys.parse_key, f"{other}\n{line}", keys.PUBLIC), 942, other)

    def test_mode(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "key")
            with open(path, "w") as file:
                file.write(keys.format_key(keys.SECRET_WRAP, sample.WRAP))
            for mode, code in ((0o600, None), (0o640, 943), (0o602, 943), (0o711, None)):
                os.chmod(path, mode)
                self.assertEqual(code_of(keys.read_key, path, keys.SECRET_WRAP), code)


class Locked(unittest.TestCase):
    """The line under a passphrase that capsule-v1 §8 shows."""

    def test_the_specifications_example_opens_with_its_passphrase_alone(self):
        page = (Path(__file__).parents[3] / "spec" / "capsule-v1.md").read_text()
        lines = [line for line in page.splitlines() if line.startswith(keys.LOCKED) and "<" not in line]
        self.assertEqual(len(lines), 1)
        text = keys.unlock(f"# a key\n{lines[0]}\n", "correct horse battery staple")
        self.assertEqual(len(keys.parse_key(text, keys.SECRET_WRAP)), 32)
        self.assertEqual(code_of(keys.unlock, lines[0], "correct horse battery stapl"), 946)
        self.assertEqual(code_of(keys.unlock, lines[0], ""), 946)
        for wrong in (lines[0].lower(), lines[0][:-1], keys.LOCKED, lines[0] + "G0"):
            self.assertEqual(code_of(keys.unlock, wrong, "correct horse battery staple"), 942)


class Wrap(unittest.TestCase):
    def test_hchacha20(self):
        """The vector of draft-irtf-cfrg-xchacha-03 §2.2.1."""
        nonce = bytes.fromhex("000000090000004a0000000031415927")
        expected = "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
        self.assertEqual(schedule._hchacha20(bytes(range(32)), nonce).hex(), expected)

    def test_wrap_is_bound_to_key_and_capsule(self):
        key_id, cti, nonce = bytes(16), bytes(16), bytes(24)
        wrapped = schedule.wrap(sample.WRAP, key_id, cti, nonce, bytes(32))
        self.assertEqual(schedule.unwrap(sample.WRAP, key_id, cti, nonce, wrapped), bytes(32))
        for other in ((key_id, b"\1" * 16), (b"\1" * 16, cti)):
            self.assertEqual(code_of(schedule.unwrap, sample.WRAP, *other, nonce, wrapped), 803)


if __name__ == "__main__":
    unittest.main()
