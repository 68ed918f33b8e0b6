"""Caches as transformers' saved states, and the program that seals and opens them."""

import json
import os
import subprocess

import numpy as np


def write_tensors(path, tensors, metadata):
    """A safetensors file, every tensor as f16."""
    header, parts, offset = {"__metadata__": metadata}, [], 0
    for name, tensor in tensors.items():
        data = tensor.astype("<f2").tobytes()
        header[name] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [offset, offset + len(data)]}
        parts.append(data)
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.writelines(parts)


def write(path, cache):
    """A `DynamicCache`: keys and values of each layer, `[1, heads, tokens, dim]`."""
    tensors = {}
    for layer, (keys, values) in enumerate(zip(*cache)):
        tensors |= {f"layers.{layer}.keys": keys[None], f"layers.{layer}.values": values[None]}
    write_tensors(path, tensors, {"seq_len": str(cache[0].shape[2])})


def read(path):
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)

    def bank(name):
        described = header[name]
        first, end = described["data_offsets"]
        return np.frombuffer(data[start + first : start + end], "<f2").reshape(described["shape"])[0]

    layers = range(len(header) // 2)
    return tuple(np.stack([bank(f"layers.{layer}.{kind}") for layer in layers]) for kind in ("keys", "values"))


class Program:
    """`kvcap` with keys of its own: what an encoding makes of a cache, through a capsule that is really written."""

    def __init__(self, path, folder, model):
        self.path, self.folder, self.model = path, folder, model
        for kind in ("sign", "wrap"):
            self.run("keygen", kind, "-o", folder / f"{kind}.key")

    def run(self, *arguments):
        command = [str(self.path), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"quality: {' '.join(command)}\n{done.stderr}")
        return done.stdout

    def through(self, cache, options, profile=()):
        """The cache that comes back, and the bytes of the capsule."""
        state, capsule, back = (self.folder / name for name in ("state.safetensors", "capsule", "back.safetensors"))
        write(state, cache)
        sign, wrap = self.folder / "sign.key", self.folder / "wrap.key"
        model = ["--model", self.model]
        self.run("seal", state, "-f", "-q", "-o", capsule, *model, "--sign-key", sign, "--wrap-key", wrap,
                 "--ttl", "1h", "--danger-no-prefix", *options, *profile)  # fmt: skip
        self.run("open", capsule, "-f", "-q", "-o", back, *model, "--trust", f"{sign}.pub", "--wrap-key", wrap,
                 *profile)  # fmt: skip
        return read(back), os.path.getsize(capsule)
