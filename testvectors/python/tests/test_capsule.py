"""Whole capsules: the round trip, and that nothing about them can be changed."""

import unittest
from dataclasses import replace

from kvcap_ref import keys, prefix, prologue, verify
from kvcap_ref import open as opening
from kvcap_ref.errors import Refusal

from . import sample
from .sample import plain_streams, verified


def code_of(read, data):
    """The code with which a file is refused, or None."""
    try:
        read(data)
    except Refusal as refusal:
        return refusal.code


class Capsule(unittest.TestCase):
    def test_round_trip(self):
        for suite in (1, 2):
            data = sample.capsule(suite=suite, spare_rows=3)
            verified(data)
            self.assertEqual(plain_streams(data), [s.encoded for s in sample.streams()])

    def test_sealing_is_a_function_of_its_randomness(self):
        self.assertEqual(sample.capsule(), sample.capsule())

    def test_extensions_that_are_not_critical_are_ignored(self):
        verified(sample.capsule(extensions={1: [], 2: {7: b"x"}}))
        with self.assertRaises(Refusal) as refused:
            sample.capsule(extensions={1: [7], 2: {7: b"x"}})
        self.assertEqual(refused.exception.code, 506)

    def test_every_bit_flip_is_refused(self):
        """Every bit of what is parsed, one of every byte of the rest; opening sees one byte in eight."""
        data = sample.capsule(spare_rows=1)
        frame = prologue.parse(data)
        for at in range(len(data)):
            parsed = at < frame.envelope_end or frame.tables <= at < frame.tables + frame.tables_len
            for bit in range(8) if parsed else (at % 8,):
                changed = bytearray(data)
                changed[at] ^= 1 << bit
                self.assertIsNotNone(code_of(verified, bytes(changed)), f"byte {at} bit {bit}")
                if at % 8 == bit == 0:
                    self.assertIsNotNone(code_of(plain_streams, bytes(changed)), f"byte {at} bit {bit}")

    def test_every_cut_is_refused(self):
        data = sample.capsule()
        for length in [*range(200), *range(200, len(data), 197), len(data) - 1]:
            for read in (verified, plain_streams):
                self.assertIsNotNone(code_of(read, data[:length]), f"{length} bytes")
        for read in (verified, plain_streams):
            self.assertEqual(code_of(read, data + b"\0"), 108)

    def test_expiry_is_a_boundary(self):
        data, exp = sample.capsule(), sample.CLAIMS.exp
        verified(data, exp - 1)
        for now, code in ((exp, 402), (sample.NOW - 61, 403)):
            with self.assertRaises(Refusal) as refused:
                verified(data, now)
            self.assertEqual(refused.exception.code, code)
        verified(data, sample.NOW - 60)

    def test_what_the_caller_states_is_compared(self):
        data = sample.capsule()
        ctx = sample.context()
        good = verify.Expected(
            audiences=frozenset({"restorer"}),
            subject="ann",
            org="lab",
            model=ctx[2][1],
            tokenizer=ctx[3],
            rope=ctx[5],
            format="safetensors",
            facts=[["order", "head"]],
            runtime=("raw", ""),
            positions=(0, 130),
            prefix=(prefix.prefix_key(sample.WRAP), prefix.prefix_value(sample.TOKENS)),
            banks=((0, 0, 0),),
            dtypes=(1, 1),
            budget=sum(len(s.encoded) for s in sample.streams()),
        )
        verified(data, expected=good)
        # what the caller does not state, and a version that the capsule does not, is not compared
        verified(data, expected=replace(good, facts=[], runtime=("raw", "2")))
        other = [
            (405, {"audiences": frozenset({"restorer.evil"})}),
            (406, {"subject": "bob"}),
            (406, {"subject": None}),
            (407, {"org": "other"}),
            (408, {"scope": "kv:rest"}),
            (502, {"suites": frozenset({2})}),
            (507, {"cti": bytes(16)}),
            (601, {"model": bytes(32)}),
            (602, {"tokenizer": ctx[3] | {4: "x"}}),
            (603, {"rope": [ctx[5][0] | {3: 2}]}),
            (603, {"rope": []}),
            (604, {"format": "x"}),
            (604, {"facts": [["order", "token"]]}),
            (604, {"facts": [["block", "32"]]}),
            (604, {"dtypes": (1, 2)}),
            (608, {"runtime": ("mlx-lm", None)}),
            (606, {"positions": (0, 131)}),
            (605, {"prefix": (prefix.prefix_key(sample.WRAP), bytes(32))}),
            (605, {"prefix": (bytes(32), prefix.prefix_value(sample.TOKENS))}),
            (607, {"banks": ((0, 1, 0),)}),
            (910, {"budget": good.budget - 1}),
        ]
        for code, change in other:
            with self.assertRaises(Refusal) as refused:
                verify.verify_header(data, sample.TRUST, sample.NOW, replace(good, **change))
            self.assertEqual(refused.exception.code, code, change)

    def test_trust_in_a_key_has_bounds(self):
        data = sample.capsule()
        now = sample.NOW
        bounds = [
            (301, []),
            (311, [{}, {}]),
            (304, [{"status": "compromised"}]),
            (303, [{"not_before": now + 1}]),
            (303, [{"sign_until": now}]),
            (303, [{"verify_until": now}]),
            (302, [{"for_capsules": False}]),
            (302, [{"suites": frozenset({2})}]),
            (312, [{"issuer": "another"}]),
            (None, [{"sign_until": now + 1, "status": "retired", "issuer": "maker", "suites": frozenset({1})}]),
        ]
        for code, fields in bounds:
            trust = [keys.Trusted(sample.PUBLIC, **({"issuer": "maker"} | f)) for f in fields]
            try:
                verify.verify(data, trust, now, sample.EXPECTED)
                self.assertIsNone(code)
            except Refusal as refusal:
                self.assertEqual(refusal.code, code)

    def test_another_wrapping_key_is_no_recipient(self):
        with self.assertRaises(Refusal) as refused:
            opening.open_capsule(sample.capsule(), sample.TRUST, bytes(32), sample.NOW, sample.EXPECTED)
        self.assertEqual(refused.exception.code, 809)

    def test_a_child_does_not_open_alone(self):
        data = sample.capsule(ctx=sample.context() | {13: {1: bytes(32), 2: [0, 0]}})
        verified(data)
        self.assertEqual(code_of(plain_streams, data), 701)


if __name__ == "__main__":
    unittest.main()
