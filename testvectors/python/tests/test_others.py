"""Tools that nobody here wrote read what this package writes."""

import unittest

from cwt import VerifyError

from kvcap_ref import cbor, prologue

from . import others, sample


class Others(unittest.TestCase):
    def test_own_capsule(self):
        others.check(sample.capsule(), sample.PUBLIC)

    def test_they_notice(self):
        data = bytearray(sample.capsule())
        data[prologue.parse(data).envelope_end - 1] ^= 1
        with self.assertRaises(VerifyError):
            others.check_signature(data, sample.PUBLIC)
        manifest = cbor.decode(others.envelope_of(sample.capsule()).payload)
        for change in ({9: 1}, {4: {}}, {1: 2}, {3: []}, {5: "x"}):
            self.assertFalse(others.matches(cbor.encode(manifest | change)), change)


if __name__ == "__main__":
    unittest.main()
