"""Prompt caches of mlx-lm (runtimes-v1 §2)."""

import re
import struct
from collections import Counter

from ..codecs.dtype import BF16, F16, F32, SAFETENSORS, TRIPLET
from ..errors import Refusal, require
from ..manifest import CONVOLUTION, INDEX_KEY, KEY, LATENT, RECURRENT, ROPE_KEY, VALUE
from . import safetensors
from .found import Found, numbered, positions, rows_of
from .safetensors import heads_rows_dim

FLOATS = F16, BF16, F32
U32, I32, I64 = SAFETENSORS["U32"], SAFETENSORS["I32"], SAFETENSORS["I64"]
NONE = object()
PATH = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){0,11}")
NUMBER = re.compile(r"[+-]?[0-9]+")
MAX_SLOTS, MAX_NESTING = 64, 2


class Text(str):
    pass


def tree(items):
    """Nested lists from (path, leaf); every list is whole."""
    root = {}
    for path, leaf in items:
        require(PATH.fullmatch(path), 922, path)
        *steps, last = map(int, path.split("."))
        node = root
        for step in steps:
            node = node.setdefault(step, {})
            require(type(node) is dict, 921, path)
        require(last not in node, 921, path)
        node[last] = leaf

    def listed(node):
        if type(node) is not dict:
            return node
        require(sorted(node) == list(range(len(node))), 921, "a list with gaps")
        return [listed(node[i]) for i in range(len(node))]

    return listed(root)


def value(kind, found, file):
    """What the third list says of a tensor."""
    require(kind in ("scalar", "none", "string"), 922, kind)
    size = found.end - found.start
    if kind == "none":
        require(found.shape == (0,), 921, found.name)
        return NONE
    if kind == "string":
        require(found.dtype == I32 and size <= 256, 921, found.name)
        points = struct.unpack(f"<{size // 4}I", file.read(found.start, size))
        require(all(p < 0x110000 and not 0xD800 <= p < 0xE000 for p in points), 921, found.name)
        return Text("".join(map(chr, points)))
    require(found.shape == (), 921, found.name)
    if found.dtype not in (I32, I64):
        return None
    return struct.unpack("<i" if found.dtype == I32 else "<q", file.read(found.start, size))[0]


def layouts(tensors, metadata, file):
    """(class, state, meta_state or None) of each layer (§2.1)."""
    lists = {"0": {}, "1": {}, "2": {}}
    new = metadata.get("2.0") == ""
    require("Cache" in metadata.get("1.0" if new else "2.0", ""), 922, "no prompt cache")
    for key, text in metadata.items():
        first, dot, rest = key.partition(".")
        require(dot and first in lists, 922, f"metadata {key}")
        lists[first][rest] = text
    classes = tree(lists["1" if new else "2"].items())
    require(all(type(name) is str for name in classes), 921, "classes")
    kinds = {}
    if new:
        for pair in tree(lists["2"].items())[1:]:
            known = type(pair) is list and len(pair) == 2 and all(type(x) is str for x in pair)
            require(known and pair[0] not in kinds, 921, "third list")
            kinds[pair[0]] = pair[1]
        require(kinds.keys() <= tensors.keys(), 921, "a tensor that is not there")
    values = [(name, value(kinds[name], t, file) if name in kinds else t) for name, t in tensors.items()]
    if new:
        states, infos = tree(values), [None] * len(classes)
    elif is_swift(classes, lists["0"], tensors):
        states, infos = by_layer(values, len(classes)), by_layer(lists["0"].items(), len(classes))
    else:
        require(lists["0"], 922, "no numbers at all, as in early versions of mlx-swift-lm")
        states, infos = tree(values), tree(lists["0"].items())
    require(len(states) == len(classes) == len(infos), 921, "classes, states and numbers")
    return list(zip(classes, states, infos))


def is_swift(classes, numbers, tensors):
    """RUN-M-14."""

    def own(layer, name):
        if name == "QuantizedKVCache":
            return f"{layer}.5" in tensors
        if name == "ChunkedKVCache":
            return numbers.get(f"{layer}.0") == "None"
        return name != "RotatingKVCache"

    return all(path.count(".") == 1 for path in numbers) and any(own(*item) for item in enumerate(classes))


def by_layer(items, count):
    """The lists of mlx-swift-lm: a layer may have nothing."""
    layers = [[] for _ in range(count)]
    for path, leaf in items:
        require(PATH.fullmatch(path), 922, path)
        layer, dot, rest = path.partition(".")
        require(dot and int(layer) < count, 921, path)
        layers[int(layer)].append((rest, leaf))
    return [tree(layer) for layer in layers]


def number(x):
    """A whole number, from either layout."""
    require(type(x) is int or type(x) is str and NUMBER.fullmatch(x), 921, "a number")
    require(-(1 << 63) <= int(x) < 1 << 63, 921, "a number of more than 64 bits")
    return int(x)


def size(x):
    require(number(x) >= 0, 921, "a negative number")
    return number(x)


def array(x):
    require(x is NONE or isinstance(x, safetensors.Tensor), 921, "a tensor")
    return None if x is NONE else x


class Reader:
    def __init__(self, hints):
        self.counts, self.offset = Counter(), None
        # RUN-M-6: of which layers the manifest says that they are of latent attention
        dims = {}
        for bank in hints:
            if bank.role in (LATENT, ROPE_KEY) and bank.shape[0] == 0:
                dims.setdefault((bank.layer, bank.role), bank.shape[3])
        self.latent = {layer: (dims[layer, LATENT], dims.get((layer, ROPE_KEY))) for layer, _ in dims if (layer, LATENT) in dims}

    def covers(self, offset):
        self.offset = offset if self.offset is None else self.offset
        require(offset == self.offset, 923, "caches of different lengths")

    def made(self, *found):
        for bank in found:
            self.counts[bank.layer, bank.role] += 1
            yield bank

    def cache(self, layer, name, state, info, depth=0):
        """Banks of a cache: its slots, and up to 0.31 its numbers beside them (§2.2)."""
        require(type(state) is list, 922, name)
        if info is None:
            return self.in_state(layer, name, state, depth)
        if type(info) is list and any(type(part) is list for part in info):
            return self.python_list(layer, name, state, info, depth)
        return self.beside(layer, name, state, [info] if type(info) is str else info, depth)

    def in_state(self, layer, name, state, depth):
        match name, state:
            case "KVCache", [keys, values, offset]:
                yield from self.pair(layer, keys, values, size(offset), ("from", 0), 0, size(offset))
            case "ConcatenateKVCache", [keys, values]:
                yield from self.pair(layer, keys, values, None, ("from", 0), 0, None)
            case "QuantizedKVCache", [keys, values, offset, group, bits]:
                yield from self.quantized(layer, keys, values, offset, group, bits)
            case "RotatingKVCache", [keys, values, offset, keep, max_size, idx]:
                yield from self.rotating(layer, keys, values, offset, keep, max_size, idx)
            case "ChunkedKVCache", [keys, values, offset, chunk, start]:
                offset, chunk, start = map(size, (offset, chunk, start))
                require(keys is NONE or start <= offset, 923, "a chunk that starts after its end")
                yield from self.pair(layer, keys, values, offset - start, ("from", start), chunk, offset)
            case "ArraysCache", [list(arrays), left_padding, lengths]:
                for found in map(array, (left_padding, lengths)):
                    require(found is None or found.shape == (1,), 922, "several sequences")
                yield from self.arrays(layer, arrays)
            case "CacheList", caches if depth < MAX_NESTING:
                for cache in caches:
                    require(type(cache) is list and len(cache) == 2 and type(cache[1]) is Text, 922, name)
                    yield from self.cache(layer, str(cache[1]), cache[0], None, depth + 1)
            case _:
                raise Refusal(922, f"{name} of {len(state)} slots")

    def beside(self, layer, name, state, words, depth):
        """One empty text stands for no numbers."""
        match name, state, [] if words == [""] else words:
            case "KVCache" | "KVCacheSimple" | "QuantizedKVCache" | "RotatingKVCache" | "ChunkedKVCache", [], _:
                return
            case "KVCache" | "KVCacheSimple" | "ConcatenateKVCache", [keys, values], []:
                yield from self.pair(layer, keys, values, None, ("from", 0), 0, None)
            case "QuantizedKVCache", [keys, values], [offset, group, bits]:
                yield from self.quantized(layer, keys, values, offset, group, bits)
            case "QuantizedKVCache", [keys, values], [step, offset, group, bits]:
                number(step)
                yield from self.quantized(layer, keys, values, offset, group, bits)
            case "QuantizedKVCache", [*six], [step, offset, group, bits] if len(six) == 6:
                number(step)
                yield from self.quantized(layer, six[:3], six[3:], offset, group, bits)
            case "RotatingKVCache", [keys, values], [keep, max_size, offset, idx]:
                yield from self.rotating(layer, keys, values, offset, keep, max_size, idx)
            case "RotatingKVCache", [keys, values], [keep, max_size, step, offset, idx]:
                number(step)
                yield from self.rotating(layer, keys, values, offset, keep, max_size, idx)
            case "ChunkedKVCache", [keys, values], [chunk, start]:
                require(number(start) == 0, 922, "a chunk that does not tell its rows")
                chunk = 0 if chunk == "None" else size(chunk)
                yield from self.pair(layer, keys, values, None, ("from", 0), chunk, None)
            case "ArraysCache" | "MambaCache", arrays, []:
                yield from self.arrays(layer, arrays)
            case "ArraysCache" | "MambaCache", arrays, [slots, places, *batch]:
                require(len(batch) <= 2 and not any("," in text for text in batch), 922, "several sequences")
                slots, places = number(slots), [number(place) for place in places.split(",")] if places else []
                require(0 <= slots <= MAX_SLOTS, 922, f"{slots} slots")
                require(len(places) == len(arrays) == len(set(places)), 921, "places")
                require(all(0 <= place < slots for place in places), 921, "places")
                placed = dict(zip(places, arrays))
                yield from self.arrays(layer, [placed.get(slot, NONE) for slot in range(slots)])
            case "CacheList", [_, *_], [count, *children] if depth < MAX_NESTING:
                yield from self.swift_list(layer, state, number(count), children, depth)
            case _:
                raise Refusal(922, f"{name} of {len(state)} slots and {len(words)} numbers")

    def python_list(self, layer, name, state, info, depth):
        known = name == "CacheList" and depth < MAX_NESTING and len(info) == 2 and all(type(x) is list for x in info)
        require(known and len(info[0]) == len(info[1]) == len(state), 922, name)
        for inner, cache, numbers in zip(info[0], state, info[1]):
            require(type(inner) is str, 922, name)
            yield from self.cache(layer, inner, cache, numbers, depth + 1)

    def swift_list(self, layer, state, count, children, depth):
        seen = 0
        while len(children) >= 3:
            name, (tensors, numbers), rest = children[0], map(size, children[1:3]), children[3:]
            require(tensors <= len(state) and numbers <= len(rest), 921, "more is named than there is")
            yield from self.beside(layer, name, state[:tensors], rest[:numbers], depth + 1)
            state, children, seen = state[tensors:], rest[numbers:], seen + 1
        require(not state and not children and seen == count, 921, "more than is named")

    def pair(self, layer, keys, values, tokens, rows, window, offset):
        """Banks of keys and values of which `tokens` rows are in use; `tokens` None: all."""
        keys, values = array(keys), array(values)
        require((keys is None) == (values is None), 921, "keys or values alone")
        if keys is None:
            require(not offset, 921, "tokens of no tensor")
            return
        heads, held, key_dim = heads_rows_dim(keys)
        require(keys.dtype in FLOATS, 922, keys.name)
        require(heads and key_dim, 921, "keys without elements")
        value_heads, value_held, value_dim = heads_rows_dim(values)
        require((heads, held) == (value_heads, value_held), 923, "heads or rows")
        tokens = held if tokens is None else tokens
        for role, found, dim in zip(self.roles(layer, heads, key_dim, value_dim), (keys, values), (key_dim, value_dim)):
            if found.end == found.start:
                continue
            require(found.dtype in FLOATS, 922, found.name)
            require(tokens > 0, 922, "rolled back")
            require(tokens <= held, 923, "offset past the rows")
            (row,) = rows_of(found.dtype, dim)
            part = found.by_head(held, row)
            yield from self.made(Found(role, layer, found.dtype, [0, heads, tokens, dim], rows, window, (part,)))
        self.covers(held if offset is None else offset)

    def roles(self, layer, heads, key_dim, value_dim):
        """RUN-M-6."""
        if value_dim == 0:
            return INDEX_KEY, INDEX_KEY
        sizes = self.latent.get(layer)
        if sizes is None or None in sizes or heads != 1:
            return KEY, VALUE
        if not self.counts[layer, LATENT] or sizes == (key_dim, value_dim):
            return LATENT, ROPE_KEY
        return INDEX_KEY, INDEX_KEY

    def quantized(self, layer, keys, values, offset, group, bits):
        offset, group, bits = size(offset), number(group), number(bits)
        if keys is NONE and values is NONE:
            require(offset == 0, 921, "tokens of no tensor")
            return
        for parts in (keys, values):
            whole = type(parts) is list and len(parts) == 3 and all(isinstance(p, safetensors.Tensor) for p in parts)
            require(whole, 922, "triplet")
        for role, parts in zip((KEY, VALUE), (keys, values)):
            yield from self.made(self.triplet(layer, role, parts, offset, bits, group))
        require(keys[0].shape[:3] == values[0].shape[:3], 923, "heads or rows")
        self.covers(offset)

    def triplet(self, layer, role, parts, tokens, bits, group):
        """RUN-M-2."""
        codes, scales, biases = parts
        known = bits in (3, 4, 5, 6, 8) and group in (32, 64, 128) and scales.dtype in FLOATS
        require(known, 922, f"{bits} bits in groups of {group}")
        heads, held, words = heads_rows_dim(codes)
        dim = group * heads_rows_dim(scales)[2]
        alike = scales.shape == biases.shape == (1, heads, held, dim // group) and scales.dtype == biases.dtype
        require(alike and codes.dtype == U32 and words * 32 == dim * bits and heads and dim, 923, codes.name)
        require(tokens > 0, 922, "rolled back")
        require(tokens <= held, 923, "offset past the rows")
        dtype = [TRIPLET, bits, group, scales.dtype]
        regions = tuple(t.by_head(held, row) for t, row in zip(parts, rows_of(dtype, dim)))
        return Found(role, layer, dtype, [0, heads, tokens, dim], ("from", 0), 0, regions)

    def rotating(self, layer, keys, values, offset, keep, max_size, idx):
        o, k, m, i = map(size, (offset, keep, max_size, idx))
        found = array(keys)
        if found is None:
            yield from self.pair(layer, keys, values, 0, None, 0, o)
            return
        tokens, rows = ring(heads_rows_dim(found)[1], o, k, m, i)
        yield from self.pair(layer, keys, values, tokens, rows, m, o)

    def arrays(self, layer, state):
        arrays = list(map(array, state))
        dims = [None if found is None else len(found.shape) for found in arrays]
        taps = len(dims) == 2 and dims[0] == 3 and (dims[1] is None or dims[1] >= 3)
        for slot, found in enumerate(arrays):
            if found is None:
                continue
            require(found.shape[:1] == (1,), 922, "several sequences")
            require(found.end > found.start, 922, "no elements")
            role = CONVOLUTION if taps and slot == 0 else RECURRENT
            yield from self.made(Found(role, layer, found.dtype, [1, *found.shape], None, 0, (found.whole(),)))


def ring(r, o, k, m, i):
    """(rows in use, their positions): RUN-M-8 to RUN-M-11."""
    require(k < m, 923, "keep")
    if i == o <= r:
        return o, ("from", 0)
    require(o > r >= m and (i == r or (r == m and k < i < r)), 923, "ring")
    held = (row if row < k else o - i + row if row < i else o - r + k + row - i for row in range(r))
    return r, ("from", o - r) if i == r and k == 0 else positions(held)


def parse(file, hints):
    tensors, metadata = safetensors.read(file)
    caches = layouts(tensors, metadata, file)
    reader = Reader(hints)
    found = []
    for layer, (name, state, info) in enumerate(caches):
        found += reader.cache(layer, name, state, info)
    return list(numbered(found))
