"""tc: entropy-coded frames of one length (codecs-v1 §12). Decoding alone: encoders are free."""

import struct

import numpy as np

from ..errors import require
from .dtype import BLOCKS, saturate, widen

LANES, SLOTS = 32, 4096
MIN_RATE, MAX_RATE = 16, 1024

# §12.3: a base a line: the frequency of the escape, then those of the symbols 0, 1, ...
FREQUENCIES = """
1 4077 9
1 4045 25
1 3973 61
1 3841 127
1 3631 231 1
1 3361 365 2
1 3045 519 6
1 2707 676 17 1
1 2373 815 44 2
1 2057 918 94 6 1
1 1769 971 173 17 2
1 1511 974 270 41 6 1
1 1285 935 365 85 16 3 1
1 1089 867 439 147 37 9 3 1
1 925 782 479 216 75 23 7 2 1
1 775 693 488 274 126 49 18 7 3 1 1
1 655 604 470 311 177 88 39 17 7 3 2 1 1
1 549 522 437 325 216 130 71 36 18 9 4 2 1 1 1
1 465 447 394 319 239 165 106 64 36 20 11 6 3 2 1 1 1
1 391 381 348 300 244 187 136 94 62 39 24 14 9 5 3 2 1 1 1 1
1 329 323 303 273 236 195 155 119 88 62 43 29 19 13 8 5 4 2 2 1 1 1 1
2 274 273 262 243 219 191 163 134 108 84 64 48 35 25 18 12 9 6 4 3 2 2 1 1 1 1 1
2 236 231 224 212 197 179 160 139 119 100 82 66 53 41 32 24 18 13 10 7 5 4 3 2 2 1 1 1 1 1 1
5 195 194 191 184 174 163 150 136 122 108 94 80 68 57 47 38 31 25 19 15 12 9 7 6 4 3 3 2 2 1 1 1 1
"""
# §12.4: 2^(i/32) as binary32, by its bits
STEPS = """
3f800000 3f82cd87 3f85aac3 3f88980f 3f8b95c2 3f8ea43a 3f91c3d3 3f94f4f0
3f9837f0 3f9b8d3a 3f9ef532 3fa27043 3fa5fed7 3fa9a15b 3fad583f 3fb123f6
3fb504f3 3fb8fbaf 3fbd08a4 3fc12c4d 3fc5672a 3fc9b9be 3fce248c 3fd2a81e
3fd744fd 3fdbfbb8 3fe0ccdf 3fe5b907 3feac0c7 3fefe4ba 3ff5257d 3ffa83b3
"""
STEPS = np.array([int(bits, 16) for bits in STEPS.split()], "<u4").view("<f4")
ESCAPE = 1 << 20


class Base:
    """For each slot the symbol, its frequency, and how far in its interval the slot is."""

    def __init__(self, line):
        escape, *sides = map(int, line.split())
        symbols = range(1 - len(sides), len(sides))
        intervals = [(symbol, sides[abs(symbol)]) for symbol in symbols] + [(ESCAPE, escape)]
        self.symbol = np.repeat([s for s, _ in intervals], [f for _, f in intervals])
        self.frequency = np.repeat([f for _, f in intervals], [f for _, f in intervals]).astype("<u8")
        self.within = np.concatenate([np.arange(f) for _, f in intervals]).astype("<u8")


BASES = [Base(line) for line in FREQUENCIES.strip().splitlines()]


def table(number):
    """(base, bits below a symbol)"""
    if number < len(BASES):
        return BASES[number], 0
    return BASES[20 + number % 4], (number - 20) // 4


def frame_len(heads, tokens, dim, rate):
    channels = heads * dim
    values, overhead = channels * tokens, 136 + 2 * channels
    rated = rate * values // 512 + overhead * (256 - tokens) // 256
    return max(rated, overhead + -(-values // 256))


class Lanes:
    def __init__(self, states, words):
        self.states, self.words, self.at = np.array(states, "<u8"), words, 0

    def renew(self, count):
        """Steps 2 and 4 of the table."""
        (low,) = np.nonzero(self.states[:count] < 65536)
        taken = self.words[self.at : self.at + len(low)]
        require(len(taken) == len(low), 902, "no word is left")
        self.states[low] = self.states[low] << np.uint64(16) | taken.astype("<u8")
        self.at += len(low)

    def channel(self, number, count):
        base, bits = table(number)
        out = np.zeros(count, "<i8")
        for first in range(0, count, LANES):
            n = min(LANES, count - first)
            slot = (self.states[:n] % SLOTS).astype("<i8")
            symbol = base.symbol[slot]
            self.states[:n] = base.frequency[slot] * (self.states[:n] // SLOTS) + base.within[slot]
            self.renew(n)
            low = np.zeros(n, "<i8")
            if bits:
                low = (self.states[:n] % (1 << bits)).astype("<i8")
                self.states[:n] >>= np.uint64(bits)
                self.renew(n)
            q = symbol * (1 << bits) + low - (1 << bits) // 2
            out[first : first + n] = np.where(symbol == ESCAPE, ESCAPE, q)
        return out


def numbers(stream, count, bits):
    used = np.unpackbits(np.frombuffer(stream, "u1"), bitorder="little")
    require(not used[count * bits :].any(), 902, "bits after the last channel")
    digits = used[: count * bits].reshape(count, bits).astype("<i8")
    return digits @ (1 << np.arange(bits, dtype="<i8"))


def decode(frame, heads, tokens, dim, dtype, rate, rotation, first, fitted=None):
    """The plain bytes of a frame. `fitted` is what the profile knows of the bank, with transform 1 or 2."""
    require(len(frame) == frame_len(heads, tokens, dim, rate), 903, "frame length")
    if rotation is not None:
        rotation.angles(first, tokens)
    k, stored, width, escapes = struct.unpack("<hBBI", frame[:8])
    channels = heads * dim
    require(-3200 <= k <= (4064 if fitted else 4096), 904, "step")
    require(stored <= min(16, tokens) and width <= 16, 904, "rows or bits")
    require(escapes <= channels * (tokens - stored), 904, "escapes")
    element = BLOCKS[dtype][1]
    lengths = [128, -(-6 * channels // 8), -(-width * channels // 8), stored * channels * element, 2 * escapes]
    ends = np.cumsum([8, *lengths])
    require(ends[-1] <= len(frame), 904, "fields")
    states, tables, offsets, rows, escaped = (frame[a:b] for a, b in zip(ends, ends[1:]))
    words = frame[ends[-1] :]
    states = np.frombuffer(states, "<u4")
    require((states >= 65536).all(), 902, "state")
    tables = numbers(tables, channels, 6)
    require((tables < 60).all(), 902, "table")
    offsets = numbers(offsets, channels, width)
    if width:
        offsets = offsets - (offsets >> (width - 1) << width)
    plain = np.frombuffer(rows, "u1").reshape(heads, stored, dim * element)
    require(np.isfinite(widen(rows, dtype)).all(), 905, "stored element")
    lanes = Lanes(states, np.frombuffer(words[: len(words) // 2 * 2], "<u2"))
    coded = tokens - stored
    q = np.array([lanes.channel(n, coded) for n in tables], "<i8").reshape(channels, coded)
    require((q == ESCAPE).sum() == escapes, 902, "escapes")
    require((lanes.states == 65536).all(), 902, "states at the end")
    require(not any(words[2 * lanes.at :]), 902, "bytes after the words")
    q[q == ESCAPE] = np.frombuffer(escaped, "<i2")
    unit = STEPS[k % 32] * np.float32(2.0 ** (k // 32 - 3))
    with np.errstate(over="ignore"):
        y = values(q, offsets, unit, fitted).reshape(heads, dim, coded).transpose(0, 2, 1)
    if rotation is not None:
        y = rotation.forth(y, first + stored)
    coded_rows = np.frombuffer(saturate(np.ascontiguousarray(y), dtype), "u1")
    coded_rows = coded_rows.reshape(heads, coded, dim * element)
    return np.concatenate([plain, coded_rows], axis=1).tobytes()


def values(q, offsets, unit, fitted):
    """§12.4 before the rotation: `[channel][token]`."""
    if fitted is None:
        return bounded((8 * q + offsets[:, None]).astype("<f4") * unit)
    rests = fitted.sums(offsets[:, None]).astype("<f4") * unit
    bias = bounded(rests + fitted.mean[:, None])
    return bounded(fitted.sums(q).astype("<f4") * (np.float32(8) * unit) + bias)


def bounded(y):
    limit = np.finfo("<f4").max
    return np.clip(y, -limit, limit)
