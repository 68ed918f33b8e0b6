"""Headers of safetensors files (runtimes-v1 §1.4)."""

import json
import struct
from dataclasses import dataclass

from .. import codecs
from ..errors import Refusal, require
from .found import Part

MAX_HEADER, MAX_ENTRIES = 100_000_000, 65_536


@dataclass(frozen=True)
class Tensor:
    name: str
    dtype: int
    shape: tuple
    start: int
    end: int

    def whole(self):
        return Part(self.start, self.end - self.start)

    def by_head(self, held, row):
        """Rows of a [1, heads, held, …] tensor."""
        return Part(self.start, self.end - self.start, row, held * row, row)


def is_text(x):
    """Half a surrogate pair is no text."""
    return type(x) is str and not any("\ud800" <= c <= "\udfff" for c in x)


def digits(text):
    """A whole number; `-0` is none."""
    require(text.isdigit() and len(text) <= 20, 921, text)
    return int(text)


def unique(pairs):
    require(all(is_text(key) for key, _ in pairs), 921, "a name is no text")
    require(len({key for key, _ in pairs}) == len(pairs), 921, "a name stands twice")
    return dict(pairs)


def whole_number(x):
    return type(x) is int and 0 <= x < 1 << 64


def read(file):
    """(tensors by name, metadata) of a file (RUN-R-6 to RUN-R-8)."""
    (n,) = struct.unpack("<Q", file.read(0, 8))
    require(n <= MAX_HEADER, 924, "header")
    data = 8 + n
    require(data <= file.length, 921, "header")
    text = file.read(8, n)
    text = text.rstrip(b" ")
    require(text[:1] == b"{" and text[-1:] == b"}", 921, "header")
    try:
        header = json.loads(text.decode(), object_pairs_hook=unique, parse_int=digits)
    except (ValueError, RecursionError) as error:
        raise Refusal(921, repr(error)) from None
    metadata = header.pop("__metadata__", {})
    require(type(metadata) is dict and all(map(is_text, metadata.values())), 921, "metadata")
    require(len(header) <= MAX_ENTRIES and len(metadata) <= MAX_ENTRIES, 924, "entries")
    tensors = {name: tensor(name, entry, data) for name, entry in header.items()}
    at = data
    for found in sorted(tensors.values(), key=lambda t: (t.start, t.end)):
        require(found.start == at, 921, found.name)
        at = found.end
    require(at == file.length, 921, "bytes after the tensors")
    return tensors, metadata


def tensor(name, entry, data):
    require(type(entry) is dict and entry.keys() == {"dtype", "shape", "data_offsets"}, 921, name)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    for numbers in (shape, offsets):
        require(type(numbers) is list and all(map(whole_number, numbers)), 921, name)
    require(len(shape) <= 8 and len(offsets) == 2, 921, name)
    require(dtype in codecs.SAFETENSORS, 922, f"{name}: {dtype}")
    start, end = offsets
    size = codecs.BLOCKS[codecs.SAFETENSORS[dtype]][1]
    for number in shape:
        size *= number
    require(end - start == size, 921, name)
    return Tensor(name, codecs.SAFETENSORS[dtype], tuple(shape), data + start, data + end)


def heads_rows_dim(found):
    require(len(found.shape) == 4, 921, f"{found.name}: {found.shape}")
    require(found.shape[0] == 1, 922, f"{found.name}: several sequences")
    return found.shape[1:]
