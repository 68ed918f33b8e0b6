"""Exchanges capsules with the `kvcap` program, in both directions: interop.py path/to/kvcap

What this package seals `kvcap` must verify and open, and the other way round, for every encoding; a
lossy bank must decode to the same bits in both.
"""

import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kvcap_ref import codecs, keys, manifest
from kvcap_ref import open as opening

FIXTURES = Path(__file__).resolve().parents[2] / "tests" / "fixtures"
TOKENS = 16
ENCODINGS = [[], ["--compress"], *(["--encoding", e] for e in ("q8", "k8v4", "q4", "q4c"))]
SUITES = ["chacha20-poly1305", "aes-256-gcm"]


def call(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\nexit {done.returncode}\n{done.stdout}{done.stderr}")


def refused(code, *command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode == 0 or f"KVC-{code}" not in done.stderr:
        raise SystemExit(f"{' '.join(map(str, command))}\nnot refused with KVC-{code}: {done.stderr}")


def safetensors(path):
    data = Path(path).read_bytes()
    (n,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + n])
    header.pop("__metadata__", None)
    return {name: data[8 + n + t["data_offsets"][0] : 8 + n + t["data_offsets"][1]] for name, t in header.items()}


def blocks(tensor, bank):
    """A tensor of [head][token][dim] as the bank's frames: blocks of 256 tokens, all heads in each."""
    _, heads, tokens, _ = bank.shape
    row = len(tensor) // (heads * tokens)
    cut = [range(start, min(start + 256, tokens)) for start in range(0, tokens, 256)]
    return b"".join(
        tensor[(h * tokens + part.start) * row : (h * tokens + part.stop) * row] for part in cut for h in range(heads)
    )


class Exchange:
    def __init__(self, kvcap, folder):
        self.kvcap, self.folder, self.count = kvcap, folder, 0
        self.sign, self.wrap, self.model = folder / "sign", folder / "wrap", folder / "model.kvid"
        self.tokens = folder / "tokens.json"
        self.tokens.write_text(json.dumps(list(range(100, 100 + TOKENS))))
        self.public = f"{self.sign}.pub"
        call(kvcap, "keygen", "sign", "-o", self.sign)
        call(kvcap, "keygen", "wrap", "-o", self.wrap)
        call(kvcap, "model-id", FIXTURES / "model", "-o", self.model)

    def reference(self, *arguments):
        return sys.executable, "-m", "kvcap_ref", *arguments

    def new(self, name):
        self.count += 1
        return self.folder / f"{self.count:03}-{name}"

    def keys(self):
        return "--sign-key", self.sign, "--wrap-key", self.wrap

    def opening(self):
        return "--trust", self.public, "--wrap-key", self.wrap

    def ours_to_theirs(self, state, suite):
        capsule, out = self.new("ours.kvcap"), self.new("state")
        call(
            *self.reference("seal", state, "-o", capsule, "--model", self.model, *self.keys()),
            "--tokens",
            self.tokens,
            "--suite",
            suite,
        )
        call(self.kvcap, "verify", capsule, "--trust", self.public, "--model", self.model)
        call(self.kvcap, "inspect", capsule)
        call(self.kvcap, "open", capsule, *self.opening(), "--model", self.model, "-o", out)
        assert out.read_bytes() == state.read_bytes(), f"{state.name} came back changed"
        damaged = self.new("damaged.kvcap")
        data = bytearray(capsule.read_bytes())
        data[-1] ^= 1
        damaged.write_bytes(data)
        refused(805, self.kvcap, "verify", damaged, "--trust", self.public, "--model", self.model)
        print(f"ok  sealed here, opened by kvcap     suite {suite}  {state.name}")

    def theirs_to_ours(self, state, runtime, suite, encoding):
        capsule, theirs = self.new("theirs.kvcap"), self.new("state")
        streams = self.new("streams")
        options = ["--runtime", runtime, "--suite", suite, "--ttl", "24h", "--tokens", self.tokens, *encoding]
        call(self.kvcap, "seal", state, "-o", capsule, "--model", self.model, *self.keys(), *options)
        call(self.kvcap, "open", capsule, *self.opening(), "--model", self.model, "-o", theirs)
        call(*self.reference("verify", capsule, "--trust", self.public))
        call(*self.reference("open", capsule, *self.opening(), "--streams", streams))
        plain = {path.read_bytes() for path in streams.iterdir()}
        for name, tensor in safetensors(theirs).items():
            assert not tensor or tensor in plain, f"{state.name} {encoding}: {name} differs"
        lossy = self.reencoded(capsule, state) if runtime == "hf" else 0
        if runtime == "raw":
            out = self.new("raw")
            call(*self.reference("open", capsule, *self.opening(), "-o", out))
            assert out.read_bytes() == theirs.read_bytes() == state.read_bytes(), "raw state came back changed"
        profile = f", {lossy} banks encoded here to the same bits and receipts" if lossy else ""
        print(f"ok  sealed by kvcap, opened here     {suite:18} {state.name} {' '.join(encoding)}{profile}")

    def public_keys(self, state, kind):
        """Each program seals for a key pair that the other made, renews, and rewraps for the other pair."""
        kvcap, ours = [self.kvcap], list(self.reference())
        for program, other, seal, to in (
            (kvcap, ours, ["--recipient", "--runtime", "raw", "--ttl", "24h"], "--recipient"),
            (ours, kvcap, ["--wrap-key"], "--to"),
        ):
            pair, next_pair = self.new("pair"), self.new("pair")
            call(*other, "keygen", kind, "-o", pair)
            call(*program, "keygen", kind, "-o", next_pair)
            sealed, renewed, rewrapped = (self.new(f"{name}.kvcap") for name in ("sealed", "renewed", "rewrapped"))
            recipient, *options = seal
            options += ["--model", self.model, *self.keys(), "--tokens", self.tokens]
            call(*program, "seal", state, "-o", sealed, *options, recipient, f"{pair}.pub")
            self.opened_by_both(state, sealed, pair)
            signing = "--sign-key", self.sign, "--trust", self.public
            call(*program, "renew", sealed, "-o", renewed, *signing, "--ttl", "29d")
            late = "--at", str(int(time.time()) + 2 * 86_400), "--ttl"
            for renewer in (kvcap, ours):
                # a lifetime that is allowed, past the cap of 30 days from the sealing
                refused(404, *renewer, "renew", renewed, "-o", self.new("never"), *signing, *late, "29d")
                call(*renewer, "renew", renewed, "-o", self.new("again.kvcap"), *signing, *late, "27d")
            self.opened_by_both(state, renewed, pair)
            new = to, f"{next_pair}.pub"
            call(*program, "rewrap", renewed, "-o", rewrapped, *signing, "--wrap-key", pair, *new)
            self.opened_by_both(state, rewrapped, next_pair)
            for former in (pair, self.wrap):
                refused(809, *ours, "open", rewrapped, "--trust", self.public, "--wrap-key", former)
        print(f"ok  {kind}: sealed, renewed and rewrapped by each, opened by both   {state.name}")

    def opened_by_both(self, state, capsule, key):
        for reader, options in (([self.kvcap], ["--model", self.model]), (list(self.reference()), [])):
            out = self.new("state")
            call(*reader, "open", capsule, "--trust", self.public, "--wrap-key", key, *options, "-o", out)
            assert out.read_bytes() == state.read_bytes(), f"{capsule.name} came back changed"

    def reencoded(self, capsule, state):
        """How many lossy banks this package's encoder turns into the same stream and receipt."""
        trust = [keys.Trusted(keys.read_key(self.public, keys.PUBLIC))]
        wrapping_key = keys.read_key(self.wrap, keys.SECRET_WRAP)
        opened = opening.open_capsule(capsule.read_bytes(), trust, wrapping_key, int(time.time()))
        tensors, count = safetensors(state), 0
        for i, bank in enumerate(opened.manifest.streams):
            if not isinstance(bank, manifest.Bank) or not codecs.is_lossy(bank.codec):
                continue
            name = f"layers.{bank.layer}.{'keys' if bank.role == manifest.KEY else 'values'}"
            plain = blocks(tensors[name], bank)
            encoded, receipt = codecs.encode(bank, plain, opened.context_of(bank))
            assert encoded == opened.encoded(i), f"{name} {bank.codec}: another encoding"
            assert receipt == opened.manifest.measured[i].receipt, f"{name} {bank.codec}: another receipt"
            count += 1
        return count


def main():
    kvcap = Path(sys.argv[1]).resolve()
    os.chdir(Path(__file__).resolve().parent)
    with tempfile.TemporaryDirectory() as folder:
        exchange = Exchange(kvcap, Path(folder))
        raws = [
            FIXTURES / name for name in ("mlx031_f16.safetensors", "mlx032_hybrid.safetensors", "mlx032_q4.safetensors")
        ]
        for state in raws:
            for suite in (1, 2):
                exchange.ours_to_theirs(state, suite)
        for kind in ("hpke", "x-wing"):
            exchange.public_keys(raws[0], kind)
        for suite in SUITES:
            for state in raws:
                exchange.theirs_to_ours(state, "raw", suite, [])
            for encoding in ENCODINGS:
                exchange.theirs_to_ours(FIXTURES / "hf_f16.safetensors", "hf", suite, encoding)
    print("exchange: everything agrees")


if __name__ == "__main__":
    main()
