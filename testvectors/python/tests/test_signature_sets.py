"""The Ed25519 sets of Wycheproof and CCTV under rule CAP-E-11."""

import csv
import gzip
import unittest
from pathlib import Path

from kvcap_ref import ed25519
from kvcap_ref.errors import Refusal

FOLDER = Path(__file__).parents[2] / "ed25519"


def code_of(row):
    key, message, signature = (bytes.fromhex(row[name]) for name in ("key", "msg", "sig"))
    try:
        ed25519.check_public_key(key)
        ed25519.verify(key, message, signature)
    except Refusal as refusal:
        return refusal.code
    return 0


class Sets(unittest.TestCase):
    def check(self, name, count):
        with gzip.open(FOLDER / f"{name}.tsv.gz", "rt") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        self.assertEqual(len(rows), count)
        for row in rows:
            self.assertEqual(code_of(row), int(row["code"]), row)

    def test_wycheproof(self):
        self.check("wycheproof", 151)

    def test_cctv(self):
        self.check("cctv", 914)


if __name__ == "__main__":
    unittest.main()
