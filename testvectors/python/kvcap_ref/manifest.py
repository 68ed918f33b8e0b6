"""The manifest (capsule-v1 §§6-7): its fields in the order of their keys, then the cross checks."""

import math
import struct
from collections import Counter
from dataclasses import dataclass

from . import cbor, codecs, recipients
from .errors import require
from .fields import (
    any64,
    array,
    ascending_numbers,
    boolean,
    digest,
    f64,
    field,
    flag,
    i64,
    is_uint,
    limited,
    list_of,
    map_of,
    named,
    one,
    sized,
    string,
    tuple_of,
    u32,
    uint,
)
from .prologue import ROW
from .table import chunk_count

MAX_STREAMS, MAX_RECIPIENTS, MAX_LAYERS, MAX_ADAPTERS = 4096, 16, 65_536, 64
MIN_CHUNK, MAX_CHUNK, MAX_CHUNKS = 4096, 16 << 20, (1 << 32) - 1
SUITES = (1, 2)

KEY, VALUE, LATENT, ROPE_KEY, RECURRENT, CONVOLUTION, INDEX_KEY, OPAQUE = range(8)
TOKENS, HISTORY, AGENT_STATE, RESIDUE, POSITIONS, PREFIX, OTHER, RECEIPTS = range(1, 9)


@dataclass(frozen=True)
class Bank:
    role: int
    layer: int
    index: int
    dtype: object
    shape: list
    rows: list
    window: int
    codec: list
    plain_len: int
    chunk_len: int
    rotation: int | None
    asked: list | None = None  # the codec that was asked for, where a finer one was chosen
    hadamard: int = 0

    def receipt_len(self):
        """Bytes of the receipts section that are about this bank (CAP-S-8)."""
        return 32 * codecs.is_lossy(self.codec) + 16 * (self.asked is not None)


@dataclass(frozen=True)
class Section:
    kind: int
    name: str
    plain_len: int
    chunk_len: int


@dataclass(frozen=True)
class Measured:
    encoded_len: int
    table: bytes


@dataclass(frozen=True)
class Manifest:
    context: dict
    context_bytes: bytes
    measured_bytes: bytes
    streams: list
    measured: list
    salt: bytes
    commitment: bytes
    recipients: list
    tables_len: int

    @property
    def suite(self):
        return self.context[1]

    @property
    def prefix(self):
        return self.context[6]

    @property
    def positions(self):
        return tuple(self.context[7])

    @property
    def parent(self):
        return self.context.get(13)

    def section(self, kind):
        """Index of the section of a kind that occurs once, or None."""
        found = (i for i, s in enumerate(self.streams) if isinstance(s, Section) and s.kind == kind)
        return next(found, None)


def suite(x, where):
    uint(x, where)
    require(x in SUITES, 502, f"suite {x}")


def capture_flags(x, where):
    field(is_uint(x) and x < 8, where)


def layers(x, where):
    tuple_of(uint, ascending_numbers(u32))(x, where)
    require(x[0] <= MAX_LAYERS, 503, where)


SCALINGS = {
    0: (),
    1: (f64,),
    2: (f64, uint, f64, f64, f64, f64, f64, boolean),
    3: (f64, f64, f64, uint),
    4: (list_of(f64, 1), list_of(f64, 1), uint, f64, boolean),
    5: (list_of(f64, 1),),
    6: (f64,),
    7: (list_of(u32, 1), boolean),
}


def scaling(x, where):
    array(x, where, 1)
    field(is_uint(x[0]) and x[0] in SCALINGS, where)
    tuple_of(uint, *SCALINGS[x[0]])(x, where)


def frequencies(x, where):
    field(type(x) is bytes and len(x) % 8 == 0 and 1 <= len(x) // 8 <= 1024, where)
    field(all(map(math.isfinite, struct.unpack(f"<{len(x) // 8}d", x))), f"{where} is not finite")


def prefix(x, where):
    schemes = {
        0: map_of({1: uint}),
        1: map_of({1: uint, 2: sized(16), 3: digest, 4: uint}),
        2: map_of({1: uint, 3: digest, 4: uint}),
    }
    field(type(x) is dict and is_uint(x.get(1)) and x[1] in schemes, where)
    schemes[x[1]](x, where)


def dtype(x, where):
    if type(x) is list:
        tuple_of(uint, uint, uint, uint)(x, where)
    else:
        uint(x, where)
    field(codecs.known_dtype(x), f"{where} is unknown")


def shape(x, where):
    list_of(uint, 1)(x, where)
    field(x[0] in (0, 1), where)
    if x[0] == 0:
        field(len(x) == 4, where)
    require(len(x) <= 9, 503, where)


def rows(x, where):
    list_of(uint, 1)(x, where)
    field(x[0] in (0, 1, 2) and len(x) == (1 if x[0] == 2 else 2), where)
    if x[0] == 1:
        u32(x[1], where)


def chunk_len(x, where):
    uint(x, where)
    require(MIN_CHUNK <= x <= MAX_CHUNK, 503, where)


def role(x, where):
    field(is_uint(x) and x <= OPAQUE, where)


codec = list_of(uint)


def block(x, where):
    u32(x, where)
    field(x != 0, f"{where} is 0, which is left out")


BANK = map_of(
    {1: uint, 2: role, 3: u32, 4: u32, 5: dtype, 6: shape, 7: rows, 8: uint, 9: codec, 10: uint, 11: chunk_len},
    {12: codec, 13: u32, 14: block},
)
SECTION = map_of({1: uint, 2: uint, 3: string, 10: uint, 11: chunk_len})


def stream(x, where):
    field(type(x) is dict and is_uint(x.get(1)) and x[1] in (0, 1), where)
    (BANK if x[1] == 0 else SECTION)(x, where)
    if x[1] == 1:
        field(TOKENS <= x[2] <= RECEIPTS, f"{where} kind {x[2]}")
        field((x[2] == OTHER) == bool(x[3]), f"{where}: name of a section")


def recipient_list(x, where):
    array(x, where, 1)
    require(len(x) <= MAX_RECIPIENTS, 503, where)
    recipients.check(x, where)


def measured(x, where):
    tuple_of(any64, digest)(x, where)


def extensions(x, where):
    def values(v, at):
        field(type(v) is dict and v and all(is_uint(k) for k in v), at)
        field(all(type(b) is bytes for b in v.values()), at)

    map_of({1: ascending_numbers(uint), 2: values})(x, where)
    require(not x[1], 506, f"{where}: {x[1]}")


ROPE = map_of({1: ascending_numbers(u32, 1), 2: flag, 3: u32, 4: f64, 5: scaling, 6: i64, 7: flag})
MODEL = map_of({1: digest, 2: digest, 3: digest, 4: limited(list_of(tuple_of(digest, f64)), MAX_ADAPTERS), 5: string})
TOKENIZER = map_of({1: digest, 2: u32, 3: string, 4: string, 5: named(u32)}, {6: digest})
RUNTIME = map_of({1: string, 2: string, 3: string, 4: named(string)})
CONTEXT = map_of(
    {
        1: suite,
        2: MODEL,
        3: TOKENIZER,
        4: RUNTIME,
        5: list_of(ROPE),
        6: prefix,
        7: tuple_of(uint, uint),
        8: capture_flags,
        9: uint,
        10: layers,
        11: limited(list_of(tuple_of(flag, f64, frequencies)), MAX_LAYERS),
        12: limited(list_of(stream, 1), MAX_STREAMS),
    },
    {13: map_of({1: digest, 2: tuple_of(uint, uint)}), 14: one, 15: digest},
)
KEYS = map_of({1: sized(32), 2: digest, 3: recipient_list})
MANIFEST = map_of(
    {1: uint, 2: CONTEXT, 3: limited(list_of(measured, 1), MAX_STREAMS), 4: KEYS, 5: uint}, {6: extensions}
)


def make_stream(x):
    if x[1] == 1:
        return Section(x[2], x[3], x[10], x[11])
    return Bank(*(x[k] for k in range(2, 12)), x.get(13), x.get(12), x.get(14, 0))


def parse(payload, prologue, claims):
    """Step 6 of §3.2."""
    value, raw = cbor.decode_map(payload, 501)
    MANIFEST(value, "manifest")
    context, keys = value[2], value[4]
    manifest = Manifest(
        context,
        raw[2],
        raw[3],
        [make_stream(s) for s in context[12]],
        [Measured(int.from_bytes(m[0], "little"), m[1]) for m in value[3]],
        keys[1],
        keys[2],
        keys[3],
        value[5],
    )
    require(value[1] == 1, 507, f"version {value[1]}")
    cross_check(manifest, prologue)
    require(14 not in context or claims.sub is claims.session is None, 507, "a base image of somebody")
    return manifest


def cross_check(manifest, prologue):
    """What needs several fields: CAP-M-2, CAP-M-5, CAP-M-6, CAP-M-11, CAP-P-2, CAP-P-5, CAP-S, CAP-T-1, CAP-T-4."""
    for i, (s, m) in enumerate(zip(manifest.streams, manifest.measured)):
        require(chunk_count(m.encoded_len, s.chunk_len) <= MAX_CHUNKS, 503, f"chunks of stream {i}")
    total = sum(m.encoded_len for m in manifest.measured)
    require(manifest.tables_len == prologue.tables_len, 507, "tables_len")
    require(total < 1 << 64, 504, "stream lengths overflow")
    require(total == prologue.body_len, 507, f"body_len {prologue.body_len}, streams {total}")
    rows = sum(chunk_count(m.encoded_len, s.chunk_len) for s, m in zip(manifest.streams, manifest.measured))
    require(rows * ROW <= prologue.tables_len, 802, f"{rows} rows in {prologue.tables_len} bytes")
    start, end = manifest.positions
    axis = any(isinstance(s, Bank) and s.shape[0] == 0 for s in manifest.streams)
    require(start < end or (start, end) == (0, 0) and not axis, 507, f"positions {start} to {end}")
    require(len(manifest.measured) == len(manifest.streams), 507, "measured and streams")
    if manifest.parent is not None:
        require(start == manifest.parent[2][1], 703, f"start {start}, parent's end {manifest.parent[2][1]}")

    banks = [s for s in manifest.streams if isinstance(s, Bank)]
    check_layers(manifest.context, banks)
    sections = [s for s in manifest.streams if isinstance(s, Section)]
    check_sections(manifest.prefix, sections)
    for i, (s, m) in enumerate(zip(manifest.streams, manifest.measured)):
        if isinstance(s, Bank):
            check_bank(manifest, s, m, f"stream {i}")
        else:
            require(m.encoded_len == s.plain_len, 507, f"stream {i}: encoded length of a section")
    check_receipts(banks, sections)
    fitted = any(codecs.needs_profile(bank.codec) for bank in banks)
    require((15 in manifest.context) == fitted, 507, "a profile, or a codec that has one, without the other")


def check_layers(context, banks):
    count, empty = context[10]
    identities = Counter((b.role, b.layer, b.index) for b in banks)
    require(all(n == 1 for n in identities.values()), 505, "two banks have one identity")
    require(
        all(b.layer < count for b in banks) and all(n < count for n in empty), 507, "layer over the number of layers"
    )
    held = {b.layer for b in banks}
    require(held.isdisjoint(empty) and len(held) + len(empty) == count, 507, "layers with and without state")
    roles = Counter((b.layer, b.role) for b in banks)
    for layer in held:
        require(roles[layer, KEY] == roles[layer, VALUE], 507, f"keys and values of layer {layer}")
        together = roles[layer, ROPE_KEY] in (0, roles[layer, LATENT])
        require(together, 507, f"latents and rope keys of layer {layer}")
    rotated = [n for rope in context[5] for n in rope[1]]
    require(len(set(rotated)) == len(rotated), 507, "a layer with two ropes")
    require(all(n < count for n in rotated), 507, "rope of a layer over the number of layers")


def check_sections(stated, sections):
    names = Counter((s.kind, s.name) for s in sections if s.kind != POSITIONS)
    require(all(n == 1 for n in names.values()), 505, "two sections of one kind")
    require((stated[1] != 0) == ((PREFIX, "") in names), 507, "prefix and its section")
    for s in sections:
        if s.kind == PREFIX:
            require(s.plain_len == 32, 507, "length of the prefix section")
        if s.kind == POSITIONS:
            require(s.plain_len % 8 == 0, 507, "length of a positions section")
        if s.kind == TOKENS:
            counted = stated[1] != 0 and s.plain_len == 4 * stated[4]
            require(counted, 507, "token ids that the prefix does not count")


def check_receipts(banks, sections):
    """CAP-S-8."""
    sealed = [s.plain_len for s in sections if s.kind == RECEIPTS]
    wanted = sum(bank.receipt_len() for bank in banks)
    require(sealed == ([wanted] if wanted else []), 507, f"receipts of {sealed} bytes, {wanted} wanted")


def check_bank(manifest, bank, measure, where):
    plain = codecs.plain_len(bank.dtype, bank.shape)
    require(plain == bank.plain_len and plain > 0, 507, f"{where}: plain length {bank.plain_len}, not {plain}")
    require((bank.shape[0] == 0) == (bank.rows[0] != 2), 507, f"{where}: rows of a shape")
    start, end = manifest.positions
    tokens = bank.shape[2] if bank.shape[0] == 0 else 0
    if bank.rows[0] == 0:
        stop = bank.rows[1] + tokens
        inside = stop <= end if bank.window else start <= bank.rows[1] and stop == end
        require(inside, 507, f"{where}: rows to {stop}, positions {start} to {end}")
        if manifest.parent is not None and not bank.window:
            require(bank.rows[1] == start, 703, f"{where}: rows from {bank.rows[1]}, positions from {start}")
    if bank.rows[0] == 1:
        index = bank.rows[1]
        listed = manifest.streams[index] if index < len(manifest.streams) else None
        good = isinstance(listed, Section) and listed.kind == POSITIONS and listed.plain_len == 8 * tokens
        require(good, 507, f"{where}: rows listed in stream {index}")
    codecs.check(bank, measure.encoded_len, where)
    check_rotation(manifest, bank, codecs.is_lossy(bank.codec), where)


def check_rotation(manifest, bank, lossy, where):
    """CAP-S-9."""
    if bank.rotation is None:
        require(bank.codec[0] != codecs.Q4C, 507, f"{where}: q4c without a rotation table")
        return
    require(bank.rotation < len(manifest.context[11]), 507, f"{where}: rotation table")
    require(lossy and bank.role in (KEY, ROPE_KEY), 507, f"{where}: rotation table of an exact bank")
