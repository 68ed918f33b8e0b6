"""Notes of a registry's versions (registry-v1 §9): the specification's example, and what is none."""

import unittest
from pathlib import Path

from kvcap_ref import note
from kvcap_ref.errors import Refusal

PAGE = (Path(__file__).parents[3] / "spec" / "registry-v1.md").read_text()
PUBLIC = bytes.fromhex("ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c")
EXAMPLE = PAGE[PAGE.index("kvcap.registry/9db6") :].split("```")[0]


class Notes(unittest.TestCase):
    def code(self, text):
        with self.assertRaises(Refusal) as refused:
            note.read(text, [PUBLIC])
        return refused.exception.code

    def test_the_example_is_read(self):
        chain, version, digest = note.read(EXAMPLE, [PUBLIC])
        self.assertEqual((chain, version, digest), (note.root_id(PUBLIC), 3, bytes(range(32))))
        stranger = f"{EXAMPLE}{note.DASH}example.org AAAAAA==\n"
        self.assertEqual(note.read(stranger, [PUBLIC])[1], 3)

    def test_what_is_no_note_is_refused(self):
        self.assertEqual(self.code(EXAMPLE.split(note.DASH)[0]), 308)
        self.assertEqual(self.code(EXAMPLE.replace("\n3\n", "\n4\n")), 308)
        for wrong in (
            EXAMPLE.replace("\n3\n", "\n03\n"),
            EXAMPLE.replace("kvcap.registry/", "kvcap.registry"),
            EXAMPLE.replace("\n\n", "\n"),
            EXAMPLE.replace(note.DASH, "- "),
            "x" * 4097,
        ):
            self.assertEqual(self.code(wrong), 313)

    def test_two_of_one_version_are_a_split_view(self):
        chain = note.root_id(PUBLIC)
        note.check([(chain, 3, bytes(32)), (chain, 4, bytes([1] * 32)), (chain, 3, bytes(32))])
        for other in ((chain, 3, bytes([1] * 32)), (bytes(16), 4, bytes(32))):
            with self.assertRaises(Refusal) as refused:
                note.check([(chain, 3, bytes(32)), other])
            self.assertEqual(refused.exception.code, 309)


if __name__ == "__main__":
    unittest.main()
