"""Codecs: exact ones come back to the bit, lossy ones by their rule, hostile frames are refused."""

import math
import struct
import unittest

import numpy as np
import zstandard

from kvcap_ref import codecs
from kvcap_ref.codecs import affine, dtype, planes, rotation
from kvcap_ref.errors import Refusal
from kvcap_ref.manifest import Bank

ALL_HALVES = np.arange(1 << 16, dtype="<u2").tobytes()


def bank(codec, kind=dtype.F16, shape=(0, 2, 300, 8), role=0, rotation_table=None):
    shape = list(shape)
    length = dtype.plain_len(kind, shape)
    rows = [0, 0] if shape[0] == 0 else [2]
    return Bank(role, 0, 0, kind, shape, rows, 0, codec, length, 4096, rotation_table)


def code_of(function, *arguments):
    try:
        function(*arguments)
    except Refusal as refusal:
        return refusal.code


class Exact(unittest.TestCase):
    def test_every_pattern_comes_back(self):
        rng = np.random.default_rng(1)
        smooth = rng.normal(size=1 << 14).astype("<f4").tobytes()
        for plain, kind, codec in [
            (ALL_HALVES, dtype.F16, 1),
            (ALL_HALVES, dtype.BF16, 1),
            (ALL_HALVES, dtype.F32, 4),
            (smooth, dtype.F32, 4),
            (rng.bytes(1 << 17), 36, 0),
        ]:
            elements, size = dtype.block(kind)
            dim = 64
            heads_tokens = len(plain) // (dim // elements * size)
            b = bank([codec], kind, (0, 1, heads_tokens, dim))
            plain = plain[: b.plain_len]
            encoded, receipt = codecs.encode(b, plain)
            self.assertIsNone(receipt)
            codecs.check(b, len(encoded), "bank")
            self.assertEqual(codecs.decode(b, encoded), plain)

    def test_planes_make_it_smaller(self):
        values = np.random.default_rng(2).normal(size=(256, 64)).astype("<f4")
        b = bank([1], dtype.BF16, (0, 1, 256, 64))
        plain = dtype.narrow(values, dtype.BF16)
        self.assertLess(len(codecs.encode(b, plain)[0]) * 1.35, len(plain))

    def test_lengths_of_packed_streams(self):
        b = bank([1], dtype.F16, (0, 2, 300, 64))
        plain = np.random.default_rng(3).normal(size=b.plain_len // 2).astype("<f2").tobytes()
        encoded, _ = codecs.encode(b, plain)
        first = struct.unpack("<2I", encoded[-8:])

        def with_index(*lengths):
            return encoded[:-8] + struct.pack("<2I", *lengths)

        self.assertEqual(code_of(codecs.decode, b, with_index(0, first[1])), 904)
        self.assertEqual(code_of(codecs.decode, b, with_index(256 * 2 * 128 + 2, first[1])), 904)
        self.assertEqual(code_of(codecs.decode, b, with_index(first[0] // 2, first[1])), 903)
        self.assertEqual(code_of(codecs.decode, b, encoded[:7]), 903)
        used = sum(first) + 8
        fine, _ = codecs.encode(b, plain, padding=codecs.FINE)
        self.assertEqual(len(encoded), -(-used // 2048) * 2048)
        self.assertEqual(len(fine), -(-used // 256) * 256)
        self.assertEqual(codecs.decode(b, fine), plain)
        for length in (used, len(fine) + 256, len(encoded) - 256, len(encoded) + 2048):
            self.assertNotIn(length, (len(fine), len(encoded)))
            changed = encoded[: sum(first)] + bytes(length - used) + encoded[-8:]
            self.assertEqual(code_of(codecs.decode, b, changed), 903)
        gap = sum(first)
        for stream in (encoded, fine):
            self.assertLess(gap, len(stream) - 8)
            changed = stream[:gap] + b"\1" + stream[gap + 1 :]
            self.assertEqual(code_of(codecs.decode, b, changed), 902)

    def test_padded(self):
        lengths = (0, 1, 2, 9, 128, 129, 257, 32769, 65537, 1000000)
        for padding, expected in {
            codecs.PADME: [0, 1, 2, 10, 128, 144, 272, 34816, 67584, 1015808],
            codecs.FINE: [0, 1, 2, 9, 128, 130, 258, 33024, 65792, 1001472],
        }.items():
            self.assertEqual([codecs.padded(n, padding) for n in lengths], expected)


def zstd_frame(content, blocks, descriptor=0x20, window=b"", size=None):
    size = len(content) if size is None else size
    return planes.MAGIC + bytes([descriptor]) + window + bytes([size]) + blocks


def block(kind, length, data, last=True):
    return struct.pack("<I", length << 3 | kind << 1 | last)[:3] + data


class Zstd(unittest.TestCase):
    def test_frames(self):
        text = b"\x41" * 40
        raw = block(planes.RAW, 40, text)
        run = block(planes.RUN, 40, b"\x41")
        good = zstandard.ZstdCompressor(write_checksum=False).compress(text)
        for frame in (zstd_frame(text, raw), zstd_frame(text, run), good):
            self.assertEqual(planes.decompress(frame, 40), text)
        checksum = zstandard.ZstdCompressor(write_checksum=True).compress(text)
        unsized = zstandard.ZstdCompressor(write_content_size=False, write_checksum=False).compress(text)
        refused = [
            (902, b""),
            (902, b"\x50\x2a\x4d\x18" + bytes(10)),
            (902, b"\x27" + good[1:]),
            (902, checksum),
            (902, unsized),
            (902, zstd_frame(text, raw, descriptor=0x28)),
            (902, zstd_frame(text, b"\1" + raw, descriptor=0x21)),
            (904, zstd_frame(text, raw, descriptor=0x40, window=bytes([14 << 3]), size=40)),
            (903, zstd_frame(text, raw, size=41)),
            (902, zstd_frame(text, block(planes.RAW, 39, text[:39]))),
            (904, zstd_frame(text, block(planes.RUN, 41, b"\x41"))),
            (904, zstd_frame(text, block(planes.RAW, 30, text[:30], False) + block(planes.RUN, 30, b"\x41"))),
            (902, zstd_frame(text, block(planes.RESERVED, 40, text))),
            (902, zstd_frame(text, block(planes.RAW, 40, text[:39]))),
            (902, zstd_frame(text, block(planes.RAW, 40, text, False))),
            (902, good + good),
            (902, good + b"\0"),
            (902, zstd_frame(text, block(planes.COMPRESSED, 5, b"\xff" * 5))),
        ]
        for i, (code, frame) in enumerate(refused):
            self.assertEqual(code_of(planes.decompress, frame, 40), code, i)

    def test_blocks_that_give_more_or_less(self):
        text = bytes(range(64)) * 8
        good = zstandard.ZstdCompressor(level=19, write_checksum=False).compress(text)
        self.assertEqual(planes.decompress(good, 512), text)
        at = good.index((512 - 256).to_bytes(2, "little"), 5)
        for size, code in ((511, 904), (513, 902)):
            changed = good[:at] + (size - 256).to_bytes(2, "little") + good[at + 2 :]
            self.assertEqual(code_of(planes.decompress, changed, size), code)

    def test_frames_of_planes(self):
        plain = bytes(64)
        self.assertEqual(planes.decode(b"\0" + plain, 64, 2), plain)
        for code, frame in [(902, b""), (902, b"\2" + plain), (903, b"\0" + plain[1:]), (903, b"\0\0" + plain)]:
            self.assertEqual(code_of(planes.decode, frame, 64, 2), code)
        for code, frame in [(902, b"\1" + plain[:31]), (904, b"\1" + plain)]:
            self.assertEqual(code_of(planes.decode, frame, 64, 2), code)


def half(x):
    return struct.unpack("<e", struct.pack("<e", x))[0]


def single(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


class Affine(unittest.TestCase):
    def test_decoding_against_plain_loops(self):
        rng = np.random.default_rng(4)
        for bits in (3, 4, 5, 6, 8):
            for dim, group in ((64, 32), (40, 32), (7, 64)):
                g = -(-dim // group)
                codes = rng.integers(0, 1 << bits, size=(3, g * group))
                codes[:, dim:] = 0
                scales = (rng.normal(size=(3, g)) * 1000).astype("<f2")
                biases = rng.uniform(-65000, 65000, size=(3, g)).astype("<f2")
                frame = affine.pack(codes, bits) + scales.tobytes() + biases.tobytes()
                found = affine.decode(frame, 3, dim, dtype.F16, bits, group)
                expected = []
                for r in range(3):
                    for i in range(dim):
                        s, b = float(scales[r, i // group]), float(biases[r, i // group])
                        y = single(single(int(codes[r, i]) * s) + b)
                        expected.append(struct.pack("<e", max(-65504.0, min(65504.0, y))))
                self.assertEqual(found, b"".join(expected))

    def test_rounding_to_bf16(self):
        patterns = np.arange(0, 1 << 32, 65521, dtype="<u8").astype("<u4")
        values = patterns.view("<f4")
        values = values[np.isfinite(values)]
        rounded = dtype.widen(dtype.saturate(values, dtype.BF16), dtype.BF16)
        lower = dtype.widen((values.view("<u4") >> 16).astype("<u2").tobytes(), dtype.BF16)
        self.assertTrue(np.isfinite(rounded).all())
        error, below = np.abs(rounded.astype("<f8") - values), np.abs(lower.astype("<f8") - values)
        self.assertTrue((error <= below).all())
        tie = np.array([0x3F808000, 0x3F818000], "<u4").view("<f4")
        self.assertEqual(np.frombuffer(dtype.narrow(tie, dtype.BF16), "<u2").tolist(), [0x3F80, 0x3F82])

    def test_round_trip_within_a_step(self):
        rng = np.random.default_rng(5)
        for kind in (dtype.F16, dtype.BF16, dtype.F32):
            for bits, most in ((8, 0.01), (4, 0.12)):
                b = bank([2, bits, 64], kind, (0, 2, 300, 80))
                values = rng.normal(size=b.plain_len // dtype.block(kind)[1]).astype("<f4")
                plain = dtype.narrow(values, kind)
                encoded, receipt = codecs.encode(b, plain)
                codecs.check(b, len(encoded), "bank")
                rmse, largest, cosine, centred = struct.unpack("<4d", receipt)
                self.assertLess(rmse, most)
                self.assertGreater(cosine, 0.99)
                self.assertEqual(centred, 0)
                decoded = dtype.widen(codecs.decode(b, encoded), kind)
                self.assertEqual(largest, np.abs(decoded - dtype.widen(plain, kind)).max())

    def test_constant_and_extreme_groups(self):
        for value in (0.0, -0.0, -3.5, 65504.0, 2.0**-24):
            plain = np.full(64, value, "<f2").tobytes()
            frame = affine.encode(plain, 1, 64, dtype.F16, 4, 64)
            decoded = affine.decode(frame, 1, 64, dtype.F16, 4, 64)
            self.assertEqual(np.frombuffer(decoded, "<f2").tolist(), [value] * 64)
        wide = np.array([-65504, 65504] * 32, "<f2").tobytes()
        decoded = affine.decode(affine.encode(wide, 1, 64, dtype.F16, 8, 64), 1, 64, dtype.F16, 8, 64)
        # The zero is met exactly, the far end to a step of about 512.
        self.assertEqual(np.frombuffer(decoded, "<f2").tolist(), [-64992, 65504] * 32)
        for bad in (math.nan, math.inf):
            plain = np.full(64, bad, "<f2").tobytes()
            self.assertEqual(code_of(affine.encode, plain, 1, 64, dtype.F16, 4, 64), 905)

    def test_hostile_frames(self):
        frame = affine.encode(np.ones(40, "<f2").tobytes(), 1, 40, dtype.F16, 4, 64)
        self.assertEqual(code_of(affine.decode, frame[:-1], 1, 40, dtype.F16, 4, 64), 903)
        padded = frame[:20] + b"\1" + frame[21:]
        self.assertEqual(code_of(affine.decode, padded, 1, 40, dtype.F16, 4, 64), 902)
        for at in (32, 34):
            infinite = frame[:at] + b"\x00\x7c" + frame[at + 2 :]
            self.assertEqual(code_of(affine.decode, infinite, 1, 40, dtype.F16, 4, 64), 905)


TABLE = [0, b"", struct.pack("<4d", 1.0, 0.5, 0.25, 0.125)]


class Q4c(unittest.TestCase):
    def test_sine_and_cosine(self):
        angles = np.concatenate([np.linspace(-50, 50, 4001), np.arange(-(1 << 20), 1 << 20, 977.0)])
        sin, cos = rotation.sincos(angles)
        for a, s, c in zip(angles, sin, cos):
            self.assertAlmostEqual(s, math.sin(a), delta=1e-12)
            self.assertAlmostEqual(c, math.cos(a), delta=1e-12)

    def test_round_trip(self):
        rng = np.random.default_rng(6)
        for pairing in (0, 1):
            for kind in (dtype.F16, dtype.BF16, dtype.F32):
                for dim in (8, 11):
                    b = bank([3], kind, (0, 2, 300, dim), rotation_table=0)
                    context = range(1000, 1300), [pairing, *TABLE[1:]]
                    turner = codecs.rotation_of(b, *context)
                    x = (rng.normal(size=(2, 300, dim)) * 0.1 + np.arange(dim)).astype("<f4")
                    plain = b"".join(dtype.narrow(turner.forth(x[:, at : at + 256], at), kind) for at in (0, 256))
                    encoded, receipt = codecs.encode(b, plain, context)
                    codecs.check(b, len(encoded), "bank")
                    rmse, _, _, centred = struct.unpack("<4d", receipt)
                    self.assertLess(rmse, 0.02)
                    self.assertLess(rmse, centred)
                    self.assertLess(centred, 0.2)
                    self.assertEqual(len(codecs.decode(b, encoded, context)), b.plain_len)

    def test_limits_of_the_rotation(self):
        make = rotation.Rotation
        self.assertEqual(code_of(make, 0, [1.0] * 5, range(3), 8), 903)
        self.assertEqual(code_of(make, 0, [1.0], [(1 << 53) + 1], 8), 903)
        self.assertEqual(code_of(make, 0, [math.inf], [1], 8), 905)
        self.assertEqual(code_of(make, 0, [1.0], [-(1 << 30) - 1], 8), 904)
        self.assertIsNone(code_of(make, 0, [1.0], [-(1 << 30)], 8))
        self.assertEqual(code_of(make(0, [1.0], range(3), 8).angles, 2, 2), 903)


class Registry(unittest.TestCase):
    def test_what_is_not_registered_or_does_not_apply(self):
        for codec in ([5], [0, 1], [2], [2, 7, 64], [2, 4, 48], [3, 1], [128]):
            self.assertEqual(code_of(codecs.check, bank(codec), 0, ""), 901, codec)
        elsewhere = [
            bank([1], dtype.F32),
            bank([4], dtype.F16),
            bank([2, 4, 64], 4),
            bank([2, 4, 64], role=4),
            bank([3], role=1),
            bank([2, 4, 64], shape=(1, 64)),
        ]
        for b in elsewhere:
            self.assertEqual(code_of(codecs.check, b, 0, ""), 903)
        self.assertEqual(code_of(codecs.check, bank([0]), 1, ""), 903)

    def test_lengths_of_shapes(self):
        self.assertEqual(dtype.plain_len([48, 4, 64, 1], [0, 2, 3, 128]), 2 * 3 * (64 + 8))
        self.assertEqual(dtype.plain_len(36, [0, 1, 1, 64]), 68)
        self.assertEqual(code_of(dtype.plain_len, 36, [0, 1, 1, 65]), 507)
        self.assertEqual(code_of(dtype.plain_len, 36, [1, 32, 34]), 507)
        self.assertEqual(dtype.plain_len(36, [1, 34, 32]), 34 * 34)
        self.assertEqual(code_of(dtype.plain_len, 3, [1, 1 << 63]), 507)
        self.assertEqual(dtype.plain_len(3, [1]), 4)


if __name__ == "__main__":
    unittest.main()
