"""llama.cpp's sequence, session and slot files and blobs (runtimes-v1 §3), read as the manifest's banks say."""

import copy
import struct
from dataclasses import dataclass, field

from ..codecs.dtype import BF16, F16, F32, plain_len, row_bytes
from ..errors import Refusal, require
from ..manifest import CONVOLUTION, KEY, RECURRENT, VALUE
from .found import Found, Part, positions

SEQUENCE, SESSION, BLOB, DEEPSEEK_V4 = 0x67677371, 0x6767736E, 0xAF143CD8, 0x34565344
NO_TOKEN = 0xFFFFFFFF
TYPES = {0: F32, 1: F16, 2: 32, 3: 33, 6: 34, 7: 35, 8: 36, 20: 37, 30: BF16}

# §3.2: n_stream, bytes of the extension, outputs, rotation
ROTATED = [(True, 0, False, True), (True, 12, False, True)]
NEW = [(True, 0, False), (True, 12, False)]
BLOBS = [(True, 0, False), (True, 8, False), (True, 12, False)]
LAYOUTS = {
    (SEQUENCE, 4): ROTATED,
    (SESSION, 11): ROTATED,
    (SEQUENCE, 3): NEW,
    (SESSION, 10): NEW,
    (SEQUENCE, 2): [*BLOBS, (False, 0, False)],
    (SESSION, 9): [*BLOBS, (True, 0, True), (False, 0, True)],
}


class Cursor:
    def __init__(self, file):
        self.file, self.at = file, 0

    @property
    def left(self):
        return self.file.length - self.at

    def skip(self, n):
        require(n <= self.left, 921, "the file ends")
        self.at += n
        return self.at - n

    def unpack(self, form):
        size = struct.calcsize("<" + form)
        require(size <= self.left, 921, "the file ends")
        found = struct.unpack("<" + form, self.file.read(self.at, size))
        self.at += size
        return found

    def u32(self):
        return self.unpack("I")[0]

    def u64(self):
        return self.unpack("Q")[0]

    def count(self, size, limit):
        n = self.u32()
        require(n <= limit, 924, f"{n} of at most {limit}")
        require(n * size <= self.left, 921, "the file ends")
        return n


@dataclass
class Tensor:
    dtype: int
    start: int
    row: int
    elements: int
    cells: int
    transposed: bool = False


@dataclass
class Stream:
    positions: list = field(default_factory=list)
    members: list = field(default_factory=list)  # (sequence, position, x, y) of each cell and sequence
    v_trans: int = 0
    rotation: tuple = (None, None)  # of keys and values, where the file says it
    keys: list = field(default_factory=list)
    values: list = field(default_factory=list)


@dataclass
class Attention:
    streams: list


@dataclass
class Recurrent:
    cells: Stream
    n_layer: int
    halves: list


def rows(cursor, cells):
    dtype = type_of(cursor)
    row = cursor.u64()
    unit = row_bytes(dtype, 1) if dtype < 32 else row_bytes(dtype, 32)
    require(row % unit == 0, 921, "a row of broken blocks")
    start = cursor.skip(row * cells)
    return Tensor(dtype, start, row, row // unit * (1 if dtype < 32 else 32), cells)


def transposed(cursor, cells):
    dtype = type_of(cursor)
    element, channels = cursor.u32(), cursor.u32()
    require(dtype < 32 and row_bytes(dtype, 1) == element, 921, "elements of transposed values")
    start = cursor.skip(element * channels * cells)
    return Tensor(dtype, start, element * channels, channels, cells, True)


def type_of(cursor):
    (number,) = cursor.unpack("i")
    require(number in TYPES, 922, f"ggml type {number}")
    return TYPES[number]


def cells(cursor, count, extension, sequences):
    found = Stream()
    for _ in range(count):
        position, n = cursor.unpack("iI")
        require(n in sequences, 921, f"{n} sequences")
        x, y = cursor.unpack("ii") if extension else (0, 0)
        cursor.unpack("i" if extension == 12 else "")
        ids = [cursor.u32() for _ in range(n)]
        require(ids == sorted(set(ids)) and all(i < 256 for i in ids), 921, "sequences")
        found.positions.append(position)
        found.members += [(i, position, x, y) for i in ids or [None]]
    return found


def block(cursor):
    n = cursor.u32()
    require(n == 0 or (64 <= n <= 65536 and n & (n - 1) == 0), 921, f"blocks of {n}")
    return n


def attention(cursor, layout, single, values):
    n_stream, extension, _, *rotation = layout
    count = cursor.count(4, 256) if n_stream else 1
    require(count, 921, "no streams")
    streams = []
    for _ in range(count):
        n = cursor.count(8, 1 << 24)
        if n == 0 and n_stream:
            streams.append(Stream())
            continue
        sequences = range(1, 257) if not single else [1] if n_stream else [0]
        stream = cells(cursor, n, extension, sequences)
        stream.v_trans = cursor.u32()
        require(stream.v_trans in (0, 1), 921, "v_trans")
        layers = cursor.count(12, 4096)
        if rotation:
            stream.rotation = block(cursor), block(cursor)
        stream.keys = [rows(cursor, n) for _ in range(layers)]
        read = transposed if stream.v_trans else rows
        stream.values = [read(cursor, n) for _ in range(layers if values else 0)]
        require(all(t.row for t in stream.keys + stream.values), 921, "empty rows")
        first = next((s for s in streams if s.positions), stream)
        same = (len(first.keys), first.v_trans, first.rotation) == (layers, stream.v_trans, stream.rotation)
        require(same, 921, "streams differ")
        streams.append(stream)
    return Attention(streams)


def recurrent(cursor, single):
    n = cursor.count(8, 1 if single else 256)
    found = cells(cursor, n, 0, [0] if single else range(1, 257))
    ids = [member[0] for member in found.members if member[0] is not None]
    require(len(set(ids)) == len(ids), 921, "two cells of a sequence")
    require(cursor.u32() == 0, 921, "s_trans")
    n_layer = cursor.count(0, 4096)
    tensors = []
    while cursor.left and len(tensors) < 2 * n_layer:
        tensors.append(rows(cursor, n))
    require(tensors and len(tensors) % 2 == 0, 921, "halves")
    k = len(tensors) // 2
    halves = tensors[:k], tensors[k:]
    require(all(len({(t.dtype, t.row) for t in half}) == 1 for half in halves), 921, "layers differ")
    require(halves[0][0].row + halves[1][0].row, 921, "no state")
    return Recurrent(found, n_layer, halves)


def readings(cursor, layout, single, before=()):
    """Every list of sections that reads the file to its last byte (§3.3)."""
    if before and cursor.left == 0:
        yield list(before)
        return
    if before and (isinstance(before[-1], Recurrent) or not layout[0]):
        return
    for kind in ("values", "keys alone", "recurrent"):
        following = copy.copy(cursor)
        try:
            if kind == "recurrent":
                require(layout[0], 921, "without n_stream")
                section = recurrent(following, single)
            else:
                require(len(before) < 2, 921, "three caches")
                section = attention(following, layout, single, kind == "values")
        except Refusal:
            continue
        yield from readings(following, layout, single, (*before, section))


def header(cursor):
    magic = cursor.u32()
    if magic == BLOB:
        return [*ROTATED, *BLOBS], True, cursor.u32()
    version = cursor.u32()
    require((magic, version) in LAYOUTS, 922, f"version {version}")
    single = magic == SEQUENCE
    tokens(cursor, single)
    if not single:
        n = cursor.count(1, 256)
        arch = cursor.file.read(cursor.at, n)
        cursor.skip(n)
        require(arch and all(0x21 <= byte <= 0x7E for byte in arch), 921, "architecture")
    return LAYOUTS[magic, version], single, None


def tokens(cursor, single):
    n = cursor.count(4, 1 << 26)
    end = cursor.at + 4 * n
    first = copy.copy(cursor).u32() if single and n else 0
    if first != NO_TOKEN:
        ids = cursor.unpack(f"{n}i")
        require(all(i >= 0 for i in ids), 923, "a negative id")
        return
    cursor.u32()
    require(cursor.u32() == 1, 922, "version of the record")
    ids = cursor.unpack(f"{cursor.count(4, 1 << 26)}I")
    starts = cursor.unpack(f"{cursor.count(4, 1 << 16)}I")
    for _ in starts:
        length = cursor.u32()
        require(length, 921, "an empty chunk")
        cursor.skip(length)
    padding = end - cursor.at
    require(0 <= padding < 4, 921, "the record does not fill the array")
    require(not any(cursor.unpack(f"{padding}B")), 921, "padding")
    require(list(starts) == sorted(set(starts)) and all(s < len(ids) for s in starts), 921, "starts")
    inside = False
    for at, token in enumerate(ids):
        inside = token == NO_TOKEN and (inside or at in starts)
        require(inside == (token == NO_TOKEN or at in starts) and (inside or token < 1 << 31), 923, f"token {at}")


def outputs(cursor):
    cursor.skip(4 * cursor.u32())
    for _ in range(2):
        cursor.skip(4 * cursor.u64())


def sound(sections, single, sequence):
    """RUN-L-4, RUN-L-5."""
    ids = set() if sequence is None else {sequence}
    every = []
    for section in sections:
        held = section.streams if isinstance(section, Attention) else [section.cells]
        members = [member for stream in held for member in stream.members]
        require(len(set(members)) == len(members), 923, "two cells of one position")
        ids |= {member[0] for member in members if member[0] is not None}
        every += [position for stream in held for position in stream.positions]
    require(every, 922, "no cell")
    require(min(every) >= 0, 923, "a negative position")
    require(not single or len(ids) <= 1, 923, "several sequences")


def banks(sections):
    """(role as the file says, tensor, rows, rotation) in the order of the file (§3.4)."""
    caches = [section for section in sections if isinstance(section, Attention)]
    for cache in caches[1:]:
        require(all(s.values or not s.keys for s in cache.streams), 922, "keys of an indexer")
    for section in sections:
        if isinstance(section, Attention):
            for stream in section.streams:
                if stream.positions:
                    held = positions(stream.positions)
                    keys, values = stream.rotation
                    yield from ((KEY, tensor, held, keys) for tensor in stream.keys)
                    yield from ((VALUE, tensor, held, values) for tensor in stream.values)
        else:
            for role, half in zip((CONVOLUTION, RECURRENT), section.halves):
                yield from ((role, tensor, None, None) for tensor in half if tensor.row and tensor.cells)


def adopt(found, hint):
    """The bank that the manifest says a tensor is (§8)."""
    _, tensor, held, rotation = found
    require(tensor.dtype == hint.dtype, 923, "dtype")
    tokens = hint.shape[2] if hint.shape[0] == 0 else None
    require(tokens == (None if held is None else tensor.cells), 923, "tokens")
    require(tensor.row * tensor.cells == plain_len(hint.dtype, hint.shape), 923, "plain length")
    require(held == hint.rows, 923, "positions")
    size = tensor.row * tensor.cells
    part = Part(tensor.start, size)
    if tokens is not None:
        _, heads, _, dim = hint.shape
        try:
            row = row_bytes(hint.dtype, dim)
        except Refusal:
            raise Refusal(923, "blocks across heads") from None
        part = Part(tensor.start, size, row, row, row * heads)
        if tensor.transposed:
            element = row_bytes(tensor.dtype, 1)
            part = Part(tensor.start, size, element, dim * tokens * element, element, tokens * element)
    if rotation:
        require(tensor.dtype >= 32 and hint.shape[3] % rotation == 0, 923, "RUN-L-11")
    require(rotation in (None, hint.hadamard), 923, "the rotation of a bank")
    return Found(hint.role, hint.layer, hint.dtype, hint.shape, held, hint.window, (part,), hint.index)


def parse(file, hints):
    cursor = Cursor(file)
    layouts, single, sequence = header(cursor)
    require(cursor.left < 4 or copy.copy(cursor).u32() != DEEPSEEK_V4, 922, "DeepSeek-V4")
    read = []
    for layout in layouts:
        start = copy.copy(cursor)
        try:
            if layout[2]:
                outputs(start)
        except Refusal:
            continue
        for sections in readings(start, layout, single):
            if sections not in read:
                read.append(sections)
    require(read, 921, "no layout reads the file")
    meant, refused = [], None
    for sections in read:
        try:
            sound(sections, single, sequence)
            found = list(banks(sections))
            require(len(found) == len(hints), 923, f"{len(found)} banks, {len(hints)} stated")
            meant.append([adopt(*pair) for pair in zip(found, hints)])
        except Refusal as refusal:
            refused = refused or refusal
    if not meant:
        raise refused
    require(len(meant) == 1, 922, "more than one layout reads the file")
    return meant[0]
