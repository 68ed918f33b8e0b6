"""What an adapter finds: banks, and where their rows lie (runtimes-v1 §§1.1, 1.2)."""

from collections import Counter
from dataclasses import dataclass, field, replace

from .. import codecs
from ..codecs.dtype import BLOCKS, TRIPLET, row_bytes
from ..errors import require

MAX_BANKS = 4064


@dataclass(frozen=True)
class Part:
    """A region; `row` bytes of (head, token) at head · by_head + token · by_token, element after element by `by_dim`."""

    start: int
    length: int
    row: int = 0
    by_head: int = 0
    by_token: int = 0
    by_dim: int = 0

    @property
    def end(self):
        return self.start + self.length


@dataclass(frozen=True)
class Found:
    role: int
    layer: int
    dtype: object
    shape: list
    rows: object  # ("from", start), ("listed", tuple) or None
    window: int = 0
    parts: tuple = field(default=(), compare=False)
    index: int = 0
    hadamard: int = field(default=0, compare=False)


def rows_of(dtype, dim):
    """Bytes of a row in each part of a bank."""
    if type(dtype) is int:
        return [row_bytes(dtype, dim)]
    _, bits, group, params = dtype
    numbers = dim // group * BLOCKS[params][1]
    return [dim * bits // 8, numbers, numbers]


def positions(listed):
    """The first, where they are consecutive; otherwise all."""
    listed = tuple(listed)
    if listed == tuple(range(listed[0], listed[0] + len(listed))):
        return "from", listed[0]
    return "listed", listed


def numbered(banks):
    """Index counts the banks of one role in one layer."""
    seen = Counter()
    for bank in banks:
        key = bank.role, bank.layer
        yield replace(bank, index=seen[key])
        seen[key] += 1


def check(banks, length):
    """RUN-R-1 to RUN-R-3."""
    require(banks, 922, "no bank")
    require(len(banks) <= MAX_BANKS, 924, f"{len(banks)} banks")
    names = {(bank.role, bank.layer, bank.index) for bank in banks}
    require(len(names) == len(banks), 923, "two banks of one name")
    for bank in banks:
        where = f"role {bank.role} of layer {bank.layer}"
        tokens = bank.shape[2] if bank.shape[0] == 0 else None
        require((tokens is None) == (bank.rows is None) and tokens != 0, 923, where)
        require(tokens is None or bank.rows[0] == "from" or len(bank.rows[1]) == tokens, 923, where)
        for part in bank.parts:
            require(part.end <= length, 921, where)
            if tokens is not None:
                _, heads, _, dim = bank.shape
                last = (heads - 1) * part.by_head + (tokens - 1) * part.by_token + part.row
                last += (dim - 1) * part.by_dim if part.by_dim else 0
                require(last <= part.length, 921, where)
            else:
                require(part.length == codecs.plain_len(bank.dtype, bank.shape), 921, where)
    places = sorted((part.start, part.end) for bank in banks for part in bank.parts if part.length)
    require(all(a[1] <= b[0] for a, b in zip(places, places[1:])), 921, "regions overlap")
    return places


def is_triplet(dtype):
    return type(dtype) is not int and dtype[0] == TRIPLET
