"""The residue, and a file of which only its segments can be read (runtimes-v1 §§1.3, 8)."""

import struct
from bisect import bisect_right

from ..errors import require

MAX_SEGMENTS, MAX_BYTES = 12_193, 256 << 20


class Residue:
    def __init__(self, data):
        """RUN-R-4."""
        require(len(data) >= 12, 921, "residue")
        self.length, n = struct.unpack_from("<QI", data)
        require(n <= MAX_SEGMENTS, 924, f"{n} segments")
        at = 12 + 16 * n
        require(at <= len(data), 921, "residue")
        require(len(data) - at <= MAX_BYTES, 924, "bytes of the residue")
        self.segments, floor = [], -1
        for i in range(n):
            start, length = struct.unpack_from("<QQ", data, 12 + 16 * i)
            require(length > 0 and start > floor and start + length <= self.length, 921, f"segment {i}")
            require(at + length <= len(data), 921, f"segment {i}")
            self.segments.append((start, data[at : at + length]))
            at, floor = at + length, start + length
        require(at == len(data), 921, "bytes after the segments")
        self.starts = [start for start, _ in self.segments]

    def read(self, offset, length):
        """RUN-R-15: a byte of a hole is the end of the file."""
        if length == 0:
            return b""
        i = bisect_right(self.starts, offset) - 1
        require(i >= 0, 921, f"byte {offset} is not there")
        start, data = self.segments[i]
        found = data[offset - start : offset - start + length]
        require(len(found) == length, 921, f"byte {offset} is not there")
        return found

    def room(self, banks):
        """RUN-R-14, of banks by their plain lengths."""
        held = sum(len(data) for _, data in self.segments)
        require(self.length - held >= sum(banks), 923, "the holes are too short for the banks")
        require(len(self.segments) <= 3 * len(banks) + 1, 923, "more segments than regions leave")

    def holes(self):
        at, found = 0, []
        for start, data in self.segments:
            if at < start:
                found.append((at, start))
            at = start + len(data)
        if at < self.length:
            found.append((at, self.length))
        return found
