"""Byte planes and the zstd frame of the exponents (codecs-v1 §5)."""

import struct

import numpy as np
import zstandard

from ..errors import Refusal, require

MAGIC = bytes.fromhex("28b52ffd")
MAX_WINDOW = 8 << 20
MAX_BLOCK = 128 << 10
RAW, RUN, COMPRESSED, RESERVED = range(4)


def worst(plain_len):
    return 1 + plain_len


def decode(frame, plain_len, width):
    """One frame of elements of `width` bytes (COD-P-1)."""
    require(len(frame) > 0, 902, "empty frame")
    mode, body = frame[0], frame[1:]
    if mode == 0:
        require(len(body) == plain_len, 903, f"{len(body)} bytes, {plain_len} stated")
        return bytes(body)
    require(mode == 1, 902, f"mode {mode}")
    require(len(frame) <= plain_len, 904, "longer than the plain bytes")
    n = plain_len // width
    stored = n * (width - 1)
    require(len(body) >= stored, 902, "ends inside a plane")
    planes = [body[k * n : (k + 1) * n] for k in range(width - 1)]
    planes.append(decompress(body[stored:], n))
    kind = f"<u{width}"
    rotated = np.zeros(n, kind)
    for k, plane in enumerate(planes):
        rotated |= np.frombuffer(plane, "u1").astype(kind) << np.array(8 * k, kind)
    one, top = np.array(1, kind), np.array(8 * width - 1, kind)
    return (rotated >> one | (rotated & one) << top).astype(kind).tobytes()


# Literals coded, matches hardly looked for: this binding cannot switch the search off.
COMPRESSION = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_DFAST, window_log=17, hash_log=6, chain_log=6, min_match=7, write_checksum=False
)


def encode(plain, width):
    """Mode 1 where it gains at least 3 %, as the reference encoder does."""
    kind = f"<u{width}"
    elements = np.frombuffer(plain, kind)
    one, top = np.array(1, kind), np.array(8 * width - 1, kind)
    rotated = (elements << one | elements >> top).astype(kind)
    planes = rotated.view("u1").reshape(-1, width).T
    exponents = zstandard.ZstdCompressor(compression_params=COMPRESSION).compress(planes[-1].tobytes())
    frame = b"\1" + planes[:-1].tobytes() + exponents
    return frame if len(frame) * 100 <= len(plain) * 97 else b"\0" + plain


def decompress(data, n):
    """COD-P-2 to COD-P-8: the content of one zstd frame of exactly n bytes."""
    window, blocks = check(data, n)
    # zstd's error for a frame that gives more than its header says is not told from others. So the same
    # blocks are put under a header that does not state the content size, and their bytes counted.
    decoder = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    source = MAGIC + bytes([0, window]) + bytes(blocks)
    try:
        content = decoder.stream_reader(source, read_across_frames=False).read(n + 1)
    except zstandard.ZstdError as error:
        raise Refusal(902, str(error)) from None
    require(len(content) <= n, 904, "more than the content size")
    require(len(content) == n, 902, f"{len(content)} bytes, {n} stated")
    return content


def check(data, n):
    """COD-P-2 to COD-P-7: (window descriptor to decode with, bytes of all blocks)."""
    at = 0

    def take(count):
        nonlocal at
        require(len(data) - at >= count, 902, "zstd frame is cut short")
        at += count
        return bytes(data[at - count : at])

    require(take(4) == MAGIC, 902, "not a zstd frame")
    descriptor = take(1)[0]
    single = bool(descriptor & 0x20)
    require(not descriptor & 0x0F, 902, "reserved bit, checksum or dictionary")
    if single:
        window_byte = next(b for b in range(256) if window_size(b) >= n)
    else:
        window_byte = take(1)[0]
        require(window_size(window_byte) <= MAX_WINDOW, 904, "window")
    flag = descriptor >> 6
    require(single or flag, 902, "no content size")
    field = take([1, 2, 4, 8][flag])
    size = int.from_bytes(field, "little") + (256 if flag == 1 else 0)
    require(size == n, 903, f"content size {size}, {n} expected")

    most = min(size if single else window_size(window_byte), MAX_BLOCK)
    start, last, stated = at, False, 0
    while not last:
        (head,) = struct.unpack("<I", take(3) + b"\0")
        last, kind, length = bool(head & 1), head >> 1 & 3, head >> 3
        require(kind != RESERVED, 902, "reserved block")
        take(1 if kind == RUN else length)
        require(length <= most, 904, "block size")
        stated += length if kind in (RAW, RUN) else 0
        require(stated <= n, 904, "raw and run blocks")
    require(at == len(data), 902, "bytes follow the last block")
    return window_byte, data[start:]


def window_size(descriptor):
    base = 1 << (10 + (descriptor >> 3))
    return base + base // 8 * (descriptor & 7)
