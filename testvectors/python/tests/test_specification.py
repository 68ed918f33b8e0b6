"""The examples that the specification prints, and the accepted vectors, read by others as well."""

import json
import re
import unittest
from pathlib import Path

import numpy as np

from kvcap_ref import cbor, codecs, keys, vectors, verify
from kvcap_ref import open as opening
from kvcap_ref.codecs import dtype
from kvcap_ref.manifest import Bank
from kvcap_ref.schedule import b3

from . import others

ROOT = Path(__file__).parents[3]
VECTORS = ROOT / "testvectors" / "vectors"


def example(name):
    """The lines `label  hex` of a block of codecs-v1.md, as {label: bytes}."""
    text = (ROOT / "spec" / "codecs-v1.md").read_text()
    block = re.search(rf"<!-- example: {name} -->\s*```\n(.*?)```", text, re.S)[1]
    found, label = {}, None
    for line in block.splitlines():
        label = line[:9].strip() or label
        found[label] = found.get(label, b"") + bytes.fromhex(line[9:])
    return found


class Codecs(unittest.TestCase):
    def check(self, name, bank, values, context=((), None)):
        stated = example(name)
        plain = np.array(values, "<f2").tobytes()
        self.assertEqual(plain, stated["plain"])
        encoded, receipt = codecs.encode(bank, plain, context)
        self.assertEqual(encoded, stated["codes"] + stated["scales"] + stated["biases"])
        self.assertEqual(codecs.decode(bank, encoded, context), stated["decoded"])
        self.assertEqual(receipt, stated["receipt"])

    def test_affine(self):
        bank = Bank(1, 0, 0, dtype.F16, [0, 1, 1, 32], [0, 0], 0, [2, 4, 32], 64, 4096, None)
        self.check("affine", bank, [-1, -0.5, 0, 0.5, 1, 1.5, 2] + [0.25] * 25)

    def test_q4c(self):
        bank = Bank(0, 0, 0, dtype.F16, [0, 1, 2, 4], [0, 3], 0, [3], 16, 4096, 0)
        table = [0, b"", np.array([1, 0.5], "<f8").tobytes()]
        self.check("q4c", bank, [1, 2, 3, 4, 2, 0, -1, 0.5], (range(3, 5), table))

    def test_padding(self):
        text = (ROOT / "spec" / "codecs-v1.md").read_text()
        table = re.search(r"<!-- example: padding -->\s*(\|.*?)\n\n", text, re.S)[1]
        rows = [re.split(r" *\| *", row)[2:-1] for row in table.splitlines()]
        lengths, _, padme, fine = ([int(n) for n in row if n.isdigit()] for row in rows)
        self.assertEqual(len(lengths), 6)
        for padding, stated in zip(codecs.PADDINGS, (padme, fine)):
            self.assertEqual([codecs.padded(n, padding) for n in lengths], stated)


class Example(unittest.TestCase):
    def test_the_bytes_of_the_example_are_a_capsule(self):
        text = (ROOT / "spec" / "example.md").read_text()
        stated = dict(re.findall(r"^(\S.*?) {2,}([0-9a-f]{64})$", text, re.M))
        data = bytearray()
        for offset, row in re.findall(r"^([0-9a-f]{4})  ((?:[0-9a-f]{2} ?)+)", text, re.M):
            at = int(offset, 16)
            self.assertLessEqual(len(data), at, "rows overlap")
            data += bytes(at - len(data)) + bytes.fromhex(row)
        trust = [keys.Trusted(bytes.fromhex(stated["public key"]), "prefill-1")]
        claims = verify.framed(bytes(data))[1].claims
        expected = verify.Expected(subject=claims.sub, org=claims.org)
        wrapping_key = bytes.fromhex(stated["wrapping key"])
        opened = opening.open_capsule(bytes(data), trust, wrapping_key, claims.iat, expected)
        for i in range(len(opened.manifest.streams)):
            opened.plain(i)
        others.check(bytes(data), trust[0].public)


class ModelId(unittest.TestCase):
    def test_worked_example(self):
        text = (ROOT / "spec" / "model-id-v1.md").read_text()
        stated = {k: bytes.fromhex(v) for k, v in re.findall(r"^\| ([\w. -]+) \| `([0-9a-f]{64})` \|", text, re.M)}
        file = ROOT / "tests" / "fixtures" / "model" / "model.safetensors"
        files = [["model.safetensors", file.stat().st_size, stated["model.safetensors"]]]
        self.assertEqual(b3("kvcap v1 weights", cbor.encode(files)), stated["weights digest"])
        plain = b3("kvcap v1 model id", cbor.encode([files, stated["config digest"], []]))
        self.assertEqual(plain, stated["model id"])
        adapters = [[stated["adapter digest"], bytes.fromhex("3fe0000000000000")]]
        adapted = b3("kvcap v1 model id", cbor.encode([files, stated["config digest"], adapters]))
        self.assertEqual(adapted, stated["model id with the adapter"])


class Vectors(unittest.TestCase):
    def test_accepted_vectors_are_read_by_others(self):
        index = json.loads((VECTORS / "manifest.json").read_text())
        read = set()
        for vector in index["vectors"]:
            if vector["code"] or vector["file"] in read:
                continue
            read.add(vector["file"])
            data = vectors.load(VECTORS / vector["file"])
            kid = verify.framed(data)[1].kid
            trust = vectors.trust_of(index["default_context"] | vector["context"])
            with self.subTest(vector["name"]):
                others.check(data, keys.find(trust, kid).public)
        self.assertGreater(len(read), 30)


if __name__ == "__main__":
    unittest.main()
