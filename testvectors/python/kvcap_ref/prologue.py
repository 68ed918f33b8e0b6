"""The first 64 bytes and the layout they give (capsule-v1 §2)."""

import struct
from dataclasses import dataclass

from .errors import require

MAGIC = bytes.fromhex("894b56430d0a1a0a")
SIZE = 64
PAGE = 4096
ROW = 48
MAX_ENVELOPE = 1 << 20
MAX_TABLES = 64 << 20


def align(x):
    return -(-x // PAGE) * PAGE


@dataclass(frozen=True)
class Prologue:
    envelope_len: int
    tables_len: int
    body_len: int

    @property
    def envelope_end(self):
        return SIZE + self.envelope_len

    @property
    def tables(self):
        """T of the specification."""
        return align(self.envelope_end)

    @property
    def body(self):
        """B of the specification."""
        return align(self.tables + self.tables_len)

    @property
    def end(self):
        return self.body + self.body_len

    def encode(self):
        return struct.pack("<8sHHIQQ32x", MAGIC, 1, 0, self.envelope_len, self.tables_len, self.body_len)


def parse(data):
    """CAP-F-1 to CAP-F-3."""
    require(len(data) >= SIZE, 101)
    magic, major, reserved, envelope_len, tables_len, body_len = struct.unpack_from("<8sHHIQQ", data)
    require(magic == MAGIC, 102)
    require(major == 1, 103, f"version {major}")
    require(reserved == 0 and not any(data[32:64]), 104)
    require(1 <= envelope_len <= MAX_ENVELOPE, 105, "envelope_len")
    require(tables_len % ROW == 0 and tables_len <= MAX_TABLES, 105, "tables_len")
    prologue = Prologue(envelope_len, tables_len, body_len)
    require(prologue.end < 1 << 64, 105, "body_len")
    return prologue
