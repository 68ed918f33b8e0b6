"""Seals any safetensors file as opaque banks (runtimes-v1 §5); `states` writes it back."""

import json
import struct

from . import codecs, manifest, seal
from .errors import Refusal, require

MAX_HEADER = 100_000_000


def tensors(data):
    """(name, dtype, shape, start, end) of each tensor with data, in the order of the data (RUN-R-6, RUN-R-7)."""
    require(len(data) >= 8, 921, "no header")
    (n,) = struct.unpack_from("<Q", data)
    require(n <= MAX_HEADER, 924, "header")
    require(8 + n <= len(data) and data[8:9] == b"{", 921, "header")

    def unique(pairs):
        require(len({k for k, _ in pairs}) == len(pairs), 921, "a name stands twice")
        return dict(pairs)

    try:
        header = json.loads(bytes(data[8 : 8 + n]).rstrip(b" ").decode(), object_pairs_hook=unique)
        header.pop("__metadata__", None)
        found = [(k, t["dtype"], t["shape"], *(8 + n + o for o in t["data_offsets"])) for k, t in header.items()]
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(921, repr(error)) from None
    at = 8 + n
    for name, dtype, shape, start, end in sorted(found, key=lambda t: t[3:]):
        require(dtype in codecs.SAFETENSORS, 922, f"{name}: {dtype}")
        require(start == at and end - start == codecs.plain_len(codecs.SAFETENSORS[dtype], [1, *shape]), 921, name)
        at = end
        if end > start:
            yield name, dtype, shape, start, end
    require(at == len(data), 921, "bytes after the tensors")


def residue(data, first):
    """§1.3: the regions are one run up to the end of the file, so that the rest is one segment."""
    return struct.pack("<QIQQ", len(data), 1, 0, first) + bytes(data[:first])


def read(data):
    """(bank streams, residue) of a state file."""
    banks, first = [], len(data)
    for index, (_, dtype, shape, start, end) in enumerate(tensors(data)):
        first = min(first, start)
        encoded = bytes(data[start:end])
        entry = {
            1: 0,
            2: manifest.OPAQUE,
            3: 0,
            4: index,
            5: codecs.SAFETENSORS[dtype],
            6: [1, *shape],
            7: [2],
            8: 0,
            9: [codecs.EXACT],
            10: len(encoded),
            11: seal.chunk_len(len(encoded)),
        }
        banks.append(seal.Stream(entry, encoded))
    require(banks, 922, "no bank")
    return banks, residue(data, first)
