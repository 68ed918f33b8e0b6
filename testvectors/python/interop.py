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
# of `FIXTURES`, and the kvcap option of their runtime; what is not of the fixtures' model has layers of its own
STATES = {
    "hf": ["hf_f16.safetensors"],
    "llama-cpp": ["llama_ggsn10_q8_0.bin", "llama_ggsq3_f16_fa.bin", "llama_ggsq3_q4_0.bin", "llama_ggsq3_f16_vtrans.bin"],
    "mlx-lm": ["mlx031_q8.safetensors", "mlx032_f16.safetensors", "mlx032_q4.safetensors", "mlx031_f16.safetensors"],
}
LAYERS = {
    "mlx031_list.safetensors": 2,
    "mlx031_tiny.safetensors": 1,
    "mlx032_hybrid.safetensors": 3,
    "mlx032_list.safetensors": 2,
    "mlx032_rotating.safetensors": 2,
    "mlx032_tiny.safetensors": 1,
}
# of mlx-lm before 0.28: numbers that begin with the step, and MambaCache; its flat list is refused (RUN-M-12)
OLD = sorted(path for path in (FIXTURES / "mlx_lm_0.26.4").iterdir() if path.stem != "list")
# of llama.cpp b11434: rotated and not, values by channel, a slot with an image
RELEASE = ["f16_vtrans.ggsn", "image.slot", "q4_0.ggsq", "q8_0.ggsn", "q8_0_unrotated.ggsq"]
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


def caches(path):
    """The number of caches of a file of mlx-lm up to 0.31."""
    (n,) = struct.unpack_from("<Q", data := Path(path).read_bytes())
    return sum(key.startswith("2.") for key in json.loads(data[8 : 8 + n])["__metadata__"])


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
        # ids for states of more positions
        self.many_tokens = folder / "many-tokens.json"
        self.many_tokens.write_text(json.dumps(list(range(100, 100 + 4 * TOKENS))))
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

    def unknown(self, layers):
        """A model of so many layers of which nothing is known."""
        profile = json.loads(self.model.read_text())
        profile["rope"] = []
        profile["geometry"]["layers"] = [{"kind": "unknown"}] * layers
        path = self.new("unknown.kvid")
        path.write_text(json.dumps(profile))
        return path

    def restored(self, state, runtime, model, encoding):
        """A state file from here is kvcap's byte for byte; nothing but the capsule is told."""
        capsule, theirs, ours = self.new("theirs.kvcap"), self.new("state"), self.new("state")
        tokens = [] if runtime == "llama-cpp" else ["--tokens", self.many_tokens]
        options = ["--runtime", runtime, "--ttl", "24h", *tokens, *encoding]
        call(self.kvcap, "seal", state, "-o", capsule, "--model", model, *self.keys(), *options)
        call(self.kvcap, "open", capsule, *self.opening(), "--model", model, "-o", theirs)
        call(*self.reference("open", capsule, *self.opening(), "-o", ours))
        same = theirs.read_bytes() == ours.read_bytes()
        assert same, f"{state.name} {encoding}: another state file"
        print(f"ok  sealed by kvcap, written back here  {state.name} {' '.join(encoding)}")

    def chained(self, state, runtime):
        """An increment over the state's first half gives the whole file, here as there."""
        whole, first, parent, increment = (self.new(f"{name}.kvcap") for name in ("whole", "first", "parent", "increment"))
        half, ours, theirs = self.new("half"), self.new("state"), self.new("state")
        tokens = [] if runtime == "llama-cpp" else ["--tokens", self.tokens]
        options = ["--runtime", runtime, "--ttl", "24h", "--model", self.model, *self.keys()]
        call(self.kvcap, "seal", state, "-o", whole, *options, *tokens)
        cut = "--trust", self.public, *self.keys(), "--tokens", TOKENS // 2
        call(self.kvcap, "truncate", whole, "-o", first, *cut)
        call(self.kvcap, "open", first, *self.opening(), "--model", self.model, "-o", half)
        if tokens:
            short = self.new("tokens.json")
            short.write_text(json.dumps(json.loads(self.tokens.read_text())[: TOKENS // 2]))
            call(self.kvcap, "seal", half, "-o", parent, *options, "--tokens", short)
        else:
            call(self.kvcap, "seal", half, "-o", parent, *options)
        call(self.kvcap, "seal", state, "-o", increment, *options, *tokens, "--parent", parent, "--trust", self.public)
        call(self.kvcap, "open", increment, *self.opening(), "--model", self.model, "--chain", parent, "-o", theirs)
        call(*self.reference("open", increment, *self.opening(), "--parent", parent, "-o", ours))
        assert ours.read_bytes() == theirs.read_bytes(), f"{state.name}: another state file of a chain"
        print(f"ok  a chain of kvcap, written back here  {state.name}")

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
        trust = [keys.read_trusted(self.public)]
        wrapping_key = keys.read_key(self.wrap, keys.SECRET_WRAP)
        opened = opening.open_capsule(capsule.read_bytes(), trust, wrapping_key, int(time.time()))
        tensors, count, receipts = safetensors(state), 0, iter(opening.receipts(opened))
        for i, bank in enumerate(opened.manifest.streams):
            if not isinstance(bank, manifest.Bank):
                continue
            signed, _ = next(receipts)
            if signed is None:
                continue
            name = f"layers.{bank.layer}.{'keys' if bank.role == manifest.KEY else 'values'}"
            plain = blocks(tensors[name], bank)
            encoded, receipt = codecs.encode(bank, plain, opened.context_of(bank))
            assert encoded == opened.encoded(i), f"{name} {bank.codec}: another encoding"
            assert receipt == signed, f"{name} {bank.codec}: another receipt"
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
        for runtime, names in STATES.items():
            for name in names:
                # the last of each runtime under every encoding
                for encoding in ENCODINGS if name == names[-1] else ENCODINGS[:1]:
                    exchange.restored(FIXTURES / name, runtime, exchange.model, encoding)
            exchange.chained(FIXTURES / names[-1], runtime)
        for name, layers in LAYERS.items():
            exchange.restored(FIXTURES / name, "mlx-lm", exchange.unknown(layers), [])
        for state in OLD:
            exchange.restored(state, "mlx-lm", exchange.unknown(caches(state)), [])
        for name in RELEASE:
            exchange.restored(FIXTURES / "llama_cpp_b11434" / name, "llama-cpp", exchange.unknown(2), [])
    print("exchange: everything agrees")


if __name__ == "__main__":
    main()
