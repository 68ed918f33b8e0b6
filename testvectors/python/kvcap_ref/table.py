"""Chunk tables (capsule-v1 §6.4): how a stream is cut, and the rows that pin its ciphertext."""

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
    """The rows of one stream, checked against the signed digest."""

    stream: int
    rows: bytes

    def tag(self, index):
        return self.rows[ROW * index : ROW * index + TAG]

    def check_leaf(self, index, ciphertext):
        signed = self.rows[ROW * index + TAG : ROW * (index + 1)]
        require(hmac.compare_digest(leaf(ciphertext), signed), 805, f"stream {self.stream} chunk {index}")


def parse(region, manifest):
    """T-1, T-2 and F-5 over the table region: one `Table` a stream."""
    sizes = [ROW * chunk_count(m.encoded_len, s.chunk_len) for s, m in zip(manifest.streams, manifest.measured)]
    require(sum(sizes) <= len(region), 802, f"{sum(sizes)} bytes of rows in {len(region)}")
    tables, at = [], 0
    for i, size in enumerate(sizes):
        rows = bytes(region[at : at + size])
        require(digest(i, rows) == manifest.measured[i].table, 801, f"stream {i}")
        tables.append(Table(i, rows))
        at += size
    require(not any(region[at:]), 107, "unused table row")
    return tables
