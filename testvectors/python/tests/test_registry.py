"""The tables of this package are those of the specification."""

import re
import unittest
from pathlib import Path

from kvcap_ref import errors

SPEC = Path(__file__).parents[3] / "spec"


class Registry(unittest.TestCase):
    def test_codes_are_those_of_the_specification(self):
        rows = re.findall(r"^\| KVC-(\d{3}) \| `([a-z_.]+)` \| (\d) \|", (SPEC / "errors.md").read_text(), re.M)
        self.assertGreater(len(rows), 90)
        self.assertEqual({int(code): (name, int(status)) for code, name, status in rows}, errors.CODES)

    def test_every_label_of_the_specification_is_used_here(self):
        text = (SPEC / "capsule-v1.md").read_text()
        labels = set(re.findall(r"^\| `(kvcap v1 [a-z ]+)` \|", text, re.M))
        package = Path(errors.__file__).parent
        source = "".join(p.read_text() for p in package.rglob("*.py"))
        self.assertGreater(len(labels), 10)
        self.assertEqual([label for label in labels if f'"{label}"' not in source], [])


if __name__ == "__main__":
    unittest.main()
