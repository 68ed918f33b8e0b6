"""Opening with a wrapping key (capsule-v1 §3.3): the content key, then chunk after chunk."""

import struct

from . import codecs, manifest, prefix, recipients, schedule, table
from .errors import Refusal, require
from .verify import Expected, check_unused, equal, unread_tables, verify_header


class Opened:
    """Gives plain streams; no byte of a chunk leaves before its leaf and its tag have passed."""

    def __init__(self, data, header, tables, stream_keys):
        self.data = data
        self.header = header
        self.manifest = header.manifest
        self.claims = header.claims
        self.tables = tables
        self.stream_keys = stream_keys
        self.profile = None  # codecs-v1 §12.7, by `use`
        self.offsets, at = [], header.prologue.body
        for m in self.manifest.measured:
            self.offsets.append(at)
            at += m.encoded_len

    def chunk(self, stream, chunk):
        self.tables[stream].check()
        at = self.offsets[stream] + chunk.start
        ciphertext = self.data[at : at + chunk.length]
        self.tables[stream].check_leaf(chunk.index, ciphertext)
        tag = self.tables[stream].tag(chunk.index)
        return self.stream_keys.open(stream, chunk.index, chunk.last, ciphertext, tag)

    def placed(self, stream):
        return table.chunks(self.manifest.measured[stream].encoded_len, self.manifest.streams[stream].chunk_len)

    def chunks(self, stream):
        """Plaintext of each chunk of a stream, in order (CAP-A-2)."""
        return (self.chunk(stream, chunk) for chunk in self.placed(stream))

    def range(self, stream, start, end):
        """Encoded bytes of a stream, from the chunks that cover them."""
        require(stream < len(self.manifest.streams), 810, f"stream {stream}")
        require(start <= end <= self.manifest.measured[stream].encoded_len, 810, f"{start} to {end}")
        covering = [c for c in self.placed(stream) if c.start < end and start < c.start + c.length]
        opened = b"".join(self.chunk(stream, c) for c in covering)
        skip = start - covering[0].start if covering else 0
        return opened[skip : skip + end - start]

    def encoded(self, stream):
        return b"".join(self.chunks(stream))

    def plain(self, stream):
        """The canonical bytes of a bank, or the bytes of a section."""
        described = self.manifest.streams[stream]
        encoded = self.encoded(stream)
        if isinstance(described, manifest.Section):
            return encoded
        return self.decoded(stream, encoded)

    def decoded(self, stream, encoded):
        """The canonical bytes of a bank, from its encoded ones."""
        bank = self.manifest.streams[stream]
        fitted = None
        if codecs.needs_profile(bank.codec):
            require(self.profile, 908, "no profile")
            fitted = self.profile.fitted(bank)
        return codecs.decode(bank, encoded, self.context_of(bank), fitted)

    def use(self, file):
        """Takes a profile's file for its banks (COD-F-5, COD-F-7)."""
        require(codecs.profile.digest(file) == self.manifest.context.get(15), 908, "another profile")
        self.profile = codecs.profile.parse(file)
        require(self.profile.model_id == self.manifest.context[2][1], 909, "a profile of another model")

    def context_of(self, bank):
        """What a codec needs beside its own bytes: the positions of the rows, and the rotation table."""
        if bank.rotation is None:
            return (), None
        if bank.rows[0] == 0:
            positions = range(bank.rows[1], bank.rows[1] + bank.shape[2])
        else:
            positions = struct.unpack(f"<{bank.shape[2]}q", self.encoded(bank.rows[1]))
        return positions, self.manifest.context[11][bank.rotation]

    def section(self, kind):
        index = self.manifest.section(kind)
        return None if index is None else self.plain(index)


def receipts(opened):
    """What was measured of each bank: (receipt or None, (limit, seen) or None), codecs-v1 §10.4."""
    rest, found = opened.section(manifest.RECEIPTS) or b"", []
    for bank in (s for s in opened.manifest.streams if isinstance(s, manifest.Bank)):
        record = asked = None
        if codecs.is_lossy(bank.codec):
            record, rest = rest[:32], rest[32:]
            codecs.receipt.check(record)
        if bank.asked is not None:
            asked, rest = struct.unpack("<2d", rest[:16]), rest[16:]
            require(all(number >= 0 for number in asked), 905, "what was measured of another codec")
        found.append((record, asked))
    return found


def check_prefix(opened, prefix_key):
    """CAP-P-2."""
    stated = opened.manifest.prefix
    if stated[1] == 0:
        return
    value = opened.section(manifest.PREFIX)
    if stated[1] == 2 or prefix.prefix_key_id(prefix_key) == stated[2]:
        prefix.check(stated, prefix_key, value)
    sealed = opened.section(manifest.TOKENS)
    if sealed is not None:
        tokens = struct.unpack(f"<{len(sealed) // 4}I", sealed)
        require(len(tokens) == stated[4] and prefix.prefix_value(tokens) == value, 605, "token ids")


def open_capsule(data, trust, wrapping_key, now, expected=Expected(), prefix_key=None):
    header = verify_header(data, trust, now, expected)
    require(header.manifest.parent is None, 701)
    return open_member(data, header, wrapping_key, prefix_key)


def open_member(data, header, wrapping_key, prefix_key=None):
    """Opens a verified capsule, whose parents are opened too where it has any."""
    m = header.manifest
    tables = unread_tables(data, header)
    require(len(data) >= header.prologue.end, 807, f"{len(data)} bytes of {header.prologue.end}")
    require(len(data) == header.prologue.end, 108)
    check_unused(data, header, tables)
    wrapping_key = recipients.of(wrapping_key)
    secret = recipients.content_key(m, header.claims.cti, wrapping_key)
    require(equal(schedule.commitment(secret, m.salt, header.ctx), m.commitment), 804)
    stream_keys = schedule.StreamKeys.derive(m.suite, secret, m.salt, header.ctx)
    opened = Opened(data, header, tables, stream_keys)
    check_prefix(opened, prefix_key or prefix.prefix_key(wrapping_key.key))
    return opened
