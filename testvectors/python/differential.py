"""Looks for capsules about which this package and the `kvcap` program disagree.

    differential.py path/to/kvcap [number of capsules] [seed]

Each capsule is a good one with one or two faults: in its header or manifest, signed again, so that both
programs get past the signature; or anywhere in the file. Both must accept it, or refuse it with the same
code; where a manifest breaks several rules of step 6 of capsule-v1 §3.2, the code may be that of either.
"""

import copy
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from kvcap_ref import cbor, codecs, ed25519, envelope, keys, manifest, prologue, seal, verify
from kvcap_ref.errors import Refusal
from tests import sample


def rich():
    """A capsule that has most kinds of fields."""
    table = [0, sample.F64_ONE, sample.F64_ONE * 2]
    context = sample.context() | {8: 5, 11: [table], 10: [4, [3]]}
    context[2] = context[2] | {4: [[sample.digest("adapter"), sample.F64_ONE]]}
    scalings = [[0], [3, *[sample.F64_ONE] * 3, 8192], [7, [16, 24], True]]
    context[5] = [context[5][0] | {1: [n], 5: scaling} for n, scaling in enumerate(scalings)]
    positions = seal.section(manifest.POSITIONS, bytes(8 * 130))
    parts = [*sample.streams(), seal.section(manifest.OTHER, b"x", "extra"), positions]
    for layer, codec in ((1, [2, 4, 64]), (2, [3])):
        for role in (0, 1):
            part = sample.bank(role, layer, 8)
            if role == 0 or codec[0] == 2:
                part.entry[9] = codec
                if role == 0:
                    part.entry[13] = 0
            described = manifest.make_stream(part.entry)
            context_of = (range(130), table) if role == 0 else ((), None)
            finite = bytes(b & 0xBF for b in part.encoded)  # no f16 exponent of all ones
            encoded, receipt = codecs.encode(described, finite, context_of)
            parts.append(seal.Stream(part.entry, encoded, receipt))
    listed = sample.bank(manifest.INDEX_KEY, 0, 4)
    listed.entry[7] = [1, 6]
    flat = copy.deepcopy(listed.entry) | {2: manifest.RECURRENT, 6: [1, 26, 40], 7: [2]}
    parts += [listed, seal.Stream(flat, listed.encoded)]
    return sample.capsule(ctx=context, parts=parts, extensions={1: [], 2: {3: b"ignored"}}, spare_rows=2)


class Mutator:
    def __init__(self, rng):
        self.rng = rng

    def places(self, value):
        """(container, key) of every value below."""
        pairs = value.items() if type(value) is dict else enumerate(value) if type(value) is list else ()
        for key, inner in list(pairs):
            yield value, key
            yield from self.places(inner)

    def value(self, value):
        rng = self.rng
        container, key = rng.choice(list(self.places(value)))
        old = container[key]
        action = rng.randrange(10)
        if action == 0:
            del container[key]
        elif action == 1:
            self.insert(container, key, old)
        elif action == 2 and type(container) is list:
            other = rng.randrange(len(container))
            container[key], container[other] = container[other], container[key]
        elif action == 3:
            container[key] = self.other_type()
        else:
            container[key] = self.near(old)

    def insert(self, container, key, old):
        if type(container) is list:
            container.insert(key, copy.deepcopy(old))
        else:
            container[self.rng.choice([0, 14, 15, 20, -1, "x", key + 1 if type(key) is int else 3])] = copy.deepcopy(
                old
            )

    def other_type(self):
        return self.rng.choice([0, 1, -1, 1 << 63, b"", bytes(32), "", "text", [], [0], {}, {1: 1}, True, False])

    def near(self, old):
        rng = self.rng
        if type(old) is bool:
            return not old
        if type(old) is int:
            steps = [old + 1, old - 1, old + 8, 0, 1, 2, old * 2, 1 << 32, (1 << 64) - 1, -old - 1, 4096, 65537]
            return max(-(1 << 64), min((1 << 64) - 1, rng.choice(steps)))
        if type(old) is bytes:
            flipped = bytearray(old or b"\0")
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
            return rng.choice([old[:-1], old + b"\0", b"\xff" * len(old), bytes(len(old)), bytes(flipped), old * 2])
        if type(old) is str:
            return rng.choice([old + "\x7f", old + "\x00", "", old * 2, "é" * 513, old + "\x85", old.upper()])
        if type(old) is list:
            return rng.choice([old * 2, old[:1], [], old[::-1], [old], old + [0]])
        return rng.choice([{}, old | {99: 0}, [old]])

    def raw(self, data):
        data = bytearray(data)
        at = self.rng.randrange(len(data))
        action = self.rng.randrange(4)
        if action == 0:
            data[at] ^= 1 << self.rng.randrange(8)
        elif action == 1:
            data[at] = self.rng.randrange(256)
        elif action == 2:
            del data[at]
        else:
            data[at:at] = bytes([self.rng.choice([0x18, 0x5F, 0x80, 0xA0, 0xC1, 0xF6, 0xF9, 0x1C, 0xFF, 0x61, 0x41])])
        return bytes(data)

    def part(self, encoded):
        if self.rng.random() < 0.3:
            return self.raw(encoded)
        value = cbor.decode(encoded)
        for _ in range(self.rng.choice([1, 1, 1, 2])):
            self.value(value)
        return cbor.encode(value)

    def file(self, data):
        """A fault that anybody on the way can make."""
        frame = prologue.parse(data)
        ends = [64, frame.envelope_end, frame.tables, frame.tables + frame.tables_len, frame.body, frame.end]
        at = self.rng.choice([self.rng.randrange(len(data)), self.rng.choice(ends) + self.rng.randrange(-2, 3)])
        at = min(at, len(data))
        action = self.rng.randrange(4)
        if action == 0:
            return data[:at]
        if action == 1:
            return data[:at] + self.rng.randbytes(self.rng.choice([1, 48, 4096])) + data[at:]
        if action == 2:
            at = self.rng.randrange(72)
        changed = bytearray(data + b"\0")
        changed[at] ^= 1 << self.rng.randrange(8)
        return bytes(changed[: len(data)])

    def capsule(self, data):
        if self.rng.random() < 0.15:
            return self.file(data)
        frame, cose = verify.framed(data)
        protected, payload = cose.protected, cose.payload
        if self.rng.random() < 0.2:
            protected = self.part(protected)
        else:
            payload = self.part(payload)
        return resigned(data, frame, protected, payload, consistent=self.rng.random() < 0.7)


def resigned(data, frame, protected, payload, consistent):
    signature = ed25519.sign(sample.SEED, envelope.signed_bytes(protected, payload))
    cose = envelope.encode(protected, payload, signature)
    body_len = frame.body_len
    if consistent:
        # So that a changed length is judged by its own rule and not by CAP-M-2.
        try:
            measured = cbor.decode(payload)[3]
            body_len = sum(int.from_bytes(m[0], "little") for m in measured)
        except (Refusal, KeyError, TypeError, IndexError):
            pass
    if not 0 <= body_len < 1 << 40:
        body_len = frame.body_len
    new = prologue.Prologue(len(cose), frame.tables_len, body_len)
    head = new.encode() + cose
    return head + bytes(new.tables - len(head)) + data[frame.tables :]


def ours(data):
    try:
        verify.verify(data, sample.TRUST, sample.NOW, DIFFERENTIAL)
        return 0
    except Refusal as refusal:
        return refusal.code


STEP_6 = {501, 502, 503, 504, 505, 506, 507, 703, 802, 808, 901, 903}  # capsule-v1 §3.2, after CAP-C-1 to CAP-C-5
DIFFERENTIAL = verify.Expected(audiences=frozenset({"restorer"}), subject="ann", org="lab")


def theirs(kvcap, path, public):
    command = [kvcap, "verify", path, "--trust", public, "--audience", "restorer", "--subject", "ann", "--tenant", "lab"]
    command += ["--accept-unchecked", "ancestors,speculative-prefill,multi-token-prediction,quantized-attention"]
    done = subprocess.run([*map(str, command), "--at", str(sample.NOW)], capture_output=True, text=True)
    found = re.search(r"KVC-(\d{3})", done.stderr)
    if done.returncode and not found:
        raise SystemExit(f"exit {done.returncode}: {done.stderr}")
    return int(found[1]) if done.returncode else 0


def main():
    kvcap, count = Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 300
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    mutator, codes, differing = Mutator(random.Random(seed)), Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        path, public = Path(folder) / "capsule", Path(folder) / "pub"
        public.write_text(f"{keys.ISSUER}maker\n{keys.format_key(keys.PUBLIC, sample.PUBLIC)}\n")
        good = rich()
        for i in range(count):
            data = good if i == 0 else mutator.capsule(good)
            path.write_bytes(data)
            here, there = ours(data), theirs(kvcap, path, public)
            codes[here] += 1
            if here != there and not {here, there} <= STEP_6:
                differing += 1
                kept = Path(tempfile.gettempdir()) / f"differs-{seed}-{i}.kvcap"
                kept.write_bytes(data)
                print(f"{kept}: {here} here, {there} there")
    shown = ", ".join(f"{code}: {n}" for code, n in sorted(codes.items()))
    print(f"{count} capsules, {differing} judged differently ({shown})")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
