"""The strict scanner: its codes, and that it agrees with a decoder written by others."""

import io
import random
import unittest

import cbor2

from kvcap_ref import cbor
from kvcap_ref.errors import Refusal

REFUSED = {
    201: ["", "1c", "1f", "3f", "18", "1900", "5b7fffffffffffffff", "61", "62c328", "63eda080", "ff", "fc", "dc", "df"]
    + ["82", "a1", "a101"],
    202: ["1817", "190017", "1a0000ffff", "1b00000000ffffffff", "3817", "5800", "7801", "9800", "9fff", "bfff", "5fff"]
    + ["7fff", "a202000100", "a2616100616000", "a1" + "5f", "a220000000"],
    203: ["a201000100", "a2616100616100"],
    204: ["9b7fffffffffffffff", "ba00020001", "8181818181818181" + "80", "a100" * 8 + "a0", "9a00040000"],
    205: ["f93c00", "fa00000000", "fb0000000000000000", "f6", "f7", "f0", "f814", "c101", "c24101", "d86401", "d8"]
    + ["a14100" + "00", "a18000", "a1a000", "a1f400"],
    206: ["0000", "a000"],
}
ACCEPTED = ["00", "17", "1818", "1bffffffffffffffff", "20", "3bffffffffffffffff", "40", "60", "80", "a0", "f4", "f5"]
ACCEPTED += ["a3" + "01f4" + "20f5" + "616140", "81" * 8 + "00", "62c3a9", "9a00030d40" + "00" * 200_000]


def scanned(data):
    try:
        return cbor.decode(data), None
    except Refusal as refusal:
        return None, refusal.code


def by_cbor2(data):
    """(value, whether its canonical encoding by cbor2 is the input), or None if it is not one item."""
    stream = io.BytesIO(data)
    try:
        value = cbor2.load(stream)
        if stream.read():
            return None
        return value, plain(value) and cbor2.dumps(value, canonical=True) == data
    except Exception:
        return None


def plain(value):
    """Whether cbor2 read only what the profile allows."""
    if type(value) is list:
        return all(map(plain, value))
    if type(value) is dict:
        return all(type(k) in (int, str) and plain(k) for k in value) and all(map(plain, value.values()))
    return type(value) in (int, str, bytes, bool) and (type(value) is not int or -(1 << 64) <= value < 1 << 64)


class Scanner(unittest.TestCase):
    def test_each_rule_has_its_code(self):
        for code, inputs in REFUSED.items():
            for text in inputs:
                self.assertEqual(scanned(bytes.fromhex(text)), (None, code), text[:40])

    def test_what_is_accepted_encodes_to_itself(self):
        for text in ACCEPTED:
            data = bytes.fromhex(text)
            value, code = scanned(data)
            self.assertIsNone(code, text[:40])
            self.assertEqual(cbor.encode(value), data)

    def test_the_item_limit_is_exact(self):
        for count, code in ((262_143, None), (262_144, 204)):
            data = b"\x9a" + count.to_bytes(4, "big") + b"\0" * count
            self.assertEqual(scanned(data)[1], code)

    def test_agrees_with_cbor2(self):
        """What the scanner accepts cbor2 reads as the same value; what cbor2 would write back
        unchanged, and the profile allows, the scanner accepts."""
        rng = random.Random(1)
        seeds = [bytes.fromhex(h) for h in ACCEPTED[:-1]] + [cbor.encode(some_value(rng, 4)) for _ in range(300)]
        accepted = 0
        for _ in range(20_000):
            data = bytearray(rng.choice(seeds))
            for _ in range(rng.randrange(4)):
                at = rng.randrange(len(data) + 1)
                data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
            value, code = scanned(bytes(data))
            other = by_cbor2(bytes(data))
            if code is None:
                accepted += 1
                self.assertIsNotNone(other, data.hex())
                self.assertEqual(value, other[0], data.hex())
                self.assertEqual(cbor.encode(value), data)
            elif other is not None and other[1]:
                # cbor2's canonical form sorts keys by length first (RFC 7049), ours by bytes.
                self.assertIn(code, (202, 204), data.hex())
        self.assertGreater(accepted, 2000)


def some_value(rng, depth):
    kind = rng.randrange(7 if depth else 5)
    if kind == 5:
        return [some_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 6:
        keys = [rng.randrange(-40, 40) for _ in range(rng.randrange(4))]
        return {k: some_value(rng, depth - 1) for k in keys}
    numbers = rng.choice([30, 300, 70_000, 1 << 33])
    return [
        rng.randrange(numbers),
        -1 - rng.randrange(numbers),
        rng.randbytes(rng.randrange(30)),
        "ä" * rng.randrange(20),
        True,
    ][kind]


if __name__ == "__main__":
    unittest.main()
