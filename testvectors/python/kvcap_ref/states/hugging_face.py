"""Exports of a dynamic cache (runtimes-v1 §4), and any tensors as opaque banks (§5)."""

import re

from ..errors import require
from ..manifest import CONVOLUTION, KEY, OPAQUE, RECURRENT, VALUE
from . import safetensors
from .found import Found, rows_of
from .safetensors import heads_rows_dim

NUMBER = r"(0|[1-9][0-9]*)"
NAME = re.compile(rf"layers\.{NUMBER}\.(?:(keys|values)|(conv_states|recurrent_states)(?:\.{NUMBER})?)")
STATES = {"recurrent_states": RECURRENT, "conv_states": CONVOLUTION}


def length(metadata, rows):
    """RUN-H-2."""
    require(not any(key.startswith("layers.") for key in metadata), 922, "metadata of layers")
    stated = [metadata[key] for key in ("seq_len", "cumulative_length") if key in metadata]
    require(all(re.fullmatch(r"\+?[0-9]+", text) and int(text) < 1 << 64 for text in stated), 921, "length")
    require(len(set(map(int, stated))) <= 1, 923, "two lengths")
    if stated:
        require(max(rows, default=0) <= int(stated[0]), 923, "more rows than tokens")
        return int(stated[0])
    require(len(set(rows)) <= 1, 922, "layers of different rows, and no length")
    return max(rows, default=0)


def parse(file, _hints):
    tensors, metadata = safetensors.read(file)
    layers = {}
    for name, found in tensors.items():
        match = NAME.fullmatch(name)
        require(match and int(match[1]) < 4096, 922, name)
        slots = layers.setdefault(int(match[1]), {})
        slots[match[2] or (STATES[match[3]], int(match[4] or 0), match[4])] = found
    for layer, slots in layers.items():
        require(("keys" in slots) == ("values" in slots), 921, f"layer {layer}")
        if "keys" in slots:
            key, value = heads_rows_dim(slots["keys"]), heads_rows_dim(slots["values"])
            require(key[:2] == value[:2], 923, f"layer {layer}")
    tokens = length(metadata, [slots["keys"].shape[2] for slots in layers.values() if "keys" in slots])
    for layer, slots in sorted(layers.items()):
        for role, name in ((KEY, "keys"), (VALUE, "values")):
            if name not in slots or slots[name].shape[2] == 0:
                continue
            heads, held, dim = slots.get(name).shape[1:]
            require(heads and dim, 922, f"layer {layer}: rows without elements")
            (row,) = rows_of(slots[name].dtype, dim)
            first = tokens - held
            part = slots[name].by_head(held, row)
            shape, window = [0, heads, held, dim], held + 1 if first else 0
            yield Found(role, layer, slots[name].dtype, shape, ("from", first), window, (part,))
        states = sorted(key for key in slots if type(key) is tuple)
        require(len({key[:2] for key in states}) == len(states), 923, f"layer {layer}")
        for key in states:
            found = slots[key]
            require(found.shape[:1] == (1,), 922, f"layer {layer}: several sequences")
            shape = [1, *found.shape]
            yield Found(key[0], layer, found.dtype, shape, None, 0, (found.whole(),), key[1])


def parse_raw(file, _hints):
    tensors, _ = safetensors.read(file)
    filled = sorted((t for t in tensors.values() if t.end > t.start), key=lambda t: t.start)
    for index, found in enumerate(filled):
        yield Found(OPAQUE, 0, found.dtype, [1, *found.shape], None, 0, (found.whole(),), index)
