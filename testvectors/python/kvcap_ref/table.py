"""Chunk tables (capsule-v1 §7.4): how a stream is cut, and the rows that pin its ciphertext."""

import hmac
from dataclasses import dataclass

from .errors import require
from .prologue import ROW
from .schedule import TAG, b3, u32


@dataclass(frozen=True)
class Chunk:
    index: int
    start: int
    length: int
    last: bool


def chunks(encoded_len, chunk_len):
    n = -(-encoded_len // chunk_len)
    for i in range(n):
        start = i * chunk_len
        yield Chunk(i, start, min(chunk_len, encoded_len - start), i == n - 1)


def chunk_count(encoded_len, chunk_len):
    return -(-encoded_len // chunk_len)


def leaf(ciphertext):
    return b3("kvcap v1 leaf", ciphertext)


def digest(stream, rows):
    return b3("kvcap v1 table", u32(stream) + rows)


def row(tag, ciphertext):
    return tag + leaf(ciphertext)


@dataclass(frozen=True)
class Table:
    """The rows of one stream, and their signed digest."""

    stream: int
    rows: bytes
    signed: bytes

    def check(self):
        """CAP-T-2."""
        require(digest(self.stream, self.rows) == self.signed, 801, f"stream {self.stream}")

    def tag(self, index):
        return self.rows[ROW * index : ROW * index + TAG]

    def check_leaf(self, index, ciphertext):
        signed = self.rows[ROW * index + TAG : ROW * (index + 1)]
        require(hmac.compare_digest(leaf(ciphertext), signed), 805, f"stream {self.stream} chunk {index}")


def parse(region, manifest):
    """One `Table` a stream, as the manifest cuts the table region."""
    tables, at = [], 0
    for i, (s, m) in enumerate(zip(manifest.streams, manifest.measured)):
        size = ROW * chunk_count(m.encoded_len, s.chunk_len)
        tables.append(Table(i, bytes(region[at : at + size]), m.table))
        at += size
    return tables
