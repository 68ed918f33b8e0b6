"""Codecs (codecs-v1): the registry, where each applies, lengths, and streams to plain bytes."""

import struct

from ..errors import require
from . import affine, planes, profile, q4c, receipt, tc
from .dtype import (
    BF16,
    BLOCKS,
    F16,
    F32,
    SAFETENSORS,
    frame_count,
    frames,
    known_dtype,
    plain_len,
    sum_of_frames,
    widen,
)
from .rotation import Rotation

EXACT, PLANES16, AFFINE, Q4C, PLANES32, TC = range(6)
FLOATS = (F16, BF16, F32)
# Roles of banks (capsule-v1 §7.1).
KEY, VALUE, LATENT, ROPE_KEY = range(4)


def is_packed(codec):
    return codec[0] in (PLANES16, PLANES32)


def is_lossy(codec):
    return codec[0] in (AFFINE, Q4C, TC)


def needs_profile(codec):
    return codec[0] == TC and codec[1] != 0


def registered(codec):
    """COD-R-1."""
    if codec[:1] == [AFFINE]:
        return len(codec) == 3 and codec[1] in (3, 4, 5, 6, 8) and codec[2] in (32, 64, 128)
    if codec[:1] == [TC]:
        return len(codec) == 3 and codec[1] <= profile.WHOLE and tc.MIN_RATE <= codec[2] <= tc.MAX_RATE
    return len(codec) == 1 and codec[0] in (EXACT, PLANES16, Q4C, PLANES32)


def applies(bank):
    """COD-R-2."""
    tokens = bank.shape[0] == 0
    return {
        EXACT: True,
        PLANES16: bank.dtype in (F16, BF16),
        PLANES32: bank.dtype == F32,
        AFFINE: bank.dtype in FLOATS and tokens and bank.role in (KEY, VALUE, LATENT, ROPE_KEY),
        Q4C: bank.dtype in FLOATS and tokens and bank.role in (KEY, ROPE_KEY),
        TC: bank.dtype in FLOATS
        and tokens
        and bank.role in (KEY, VALUE, LATENT, ROPE_KEY)
        and (not needs_profile(bank.codec) or profile.within_limits(bank.codec[1], bank.shape[1], bank.shape[3])),
    }[bank.codec[0]]


def frame_len(bank, frame):
    """The encoded length of a frame, or the worst case where it varies (§8.4)."""
    kind = bank.codec[0]
    if kind == AFFINE:
        return affine.frame_len(bank.shape[1] * frame.tokens, bank.shape[3], bank.dtype, *bank.codec[1:])
    if kind == Q4C:
        return q4c.frame_len(bank.shape[1], frame.tokens, bank.shape[3])
    if kind == TC:
        return tc.frame_len(bank.shape[1], frame.tokens, bank.shape[3], bank.codec[2])
    return frame.plain_len if kind == EXACT else planes.worst(frame.plain_len)


# §8.2: b of the two ladders
PADDINGS = PADME, FINE = 0, 3


def padded(length, padding=PADME):
    """§8.2."""
    if length < 2:
        return length
    e = length.bit_length() - 1
    k = e.bit_length() + padding
    mask = (1 << max(e - k, 0)) - 1
    return (length + mask) & ~mask


def check(bank, encoded_len, where):
    """CAP-S-7 of capsule-v1."""
    for codec in [bank.codec] if bank.asked is None else [bank.codec, bank.asked]:
        require(registered(codec), 901, f"{where}: codec {codec}")
    require(applies(bank), 903, f"{where}: codec {bank.codec} on dtype {bank.dtype}, role {bank.role}")
    total = sum_of_frames(bank, lambda frame: frame_len(bank, frame))
    if is_packed(bank.codec):
        require(encoded_len <= padded(total + 4 * frame_count(bank)), 903, f"{where}: over the worst case")
    else:
        require(encoded_len == total, 903, f"{where}: {encoded_len} bytes, {total} by its codec")


def rotation_of(bank, positions, table):
    """`table` is the manifest's [pairing, attention factor, frequencies], or None."""
    if table is None:
        return None
    frequencies = struct.unpack(f"<{len(table[2]) // 8}d", table[2])
    return Rotation(table[0], frequencies, positions, bank.shape[3])


def split(bank, encoded):
    """(frame, its encoded bytes) in order (§8)."""
    if not is_packed(bank.codec):
        at = 0
        for frame in frames(bank):
            length = frame_len(bank, frame)
            yield frame, encoded[at : at + length]
            at += length
        require(at == len(encoded), 903, f"{len(encoded)} bytes, {at} by its codec")
        return
    n = frame_count(bank)
    require(len(encoded) >= 4 * n, 903, "shorter than its index")
    body = len(encoded) - 4 * n
    lengths = struct.unpack(f"<{n}I", encoded[body:])
    for frame, length in zip(frames(bank), lengths):
        require(1 <= length <= frame_len(bank, frame), 904, f"frame of {length} bytes")
    total = sum(lengths)
    require(len(encoded) in [padded(total + 4 * n, p) for p in PADDINGS], 903, "length of the stream")
    require(not any(encoded[total:body]), 902, "bytes between frames and index")
    at = 0
    for frame, length in zip(frames(bank), lengths):
        yield frame, encoded[at : at + length]
        at += length


def decode_frame(bank, frame, encoded, rotation, fitted=None):
    kind = bank.codec[0]
    if kind == AFFINE:
        rows = bank.shape[1] * frame.tokens
        return affine.decode(encoded, rows, bank.shape[3], bank.dtype, *bank.codec[1:])
    if kind == Q4C:
        return q4c.decode(encoded, bank.shape[1], frame.tokens, bank.shape[3], bank.dtype, rotation, frame.first_token)
    if kind == TC:
        extent = bank.shape[1], frame.tokens, bank.shape[3]
        return tc.decode(encoded, *extent, bank.dtype, bank.codec[2], rotation, frame.first_token, fitted)
    if kind == EXACT:
        require(len(encoded) == frame.plain_len, 903, "frame length")
        return bytes(encoded)
    return planes.decode(encoded, frame.plain_len, BLOCKS[bank.dtype][1])


def encode_frame(bank, frame, plain, rotation):
    kind = bank.codec[0]
    if kind == AFFINE:
        rows = bank.shape[1] * frame.tokens
        return affine.encode(plain, rows, bank.shape[3], bank.dtype, *bank.codec[1:])
    if kind == Q4C:
        return q4c.encode(plain, bank.shape[1], frame.tokens, bank.shape[3], bank.dtype, rotation, frame.first_token)
    return bytes(plain) if kind == EXACT else planes.encode(plain, BLOCKS[bank.dtype][1])


def decode(bank, encoded, context=((), None), fitted=None):
    """The plain bytes of a bank. `context` is (positions of its rows, rotation table or None), `fitted` what the profile
    knows of the bank."""
    require(fitted or not needs_profile(bank.codec), 908, "no profile")
    rotation = rotation_of(bank, *context)
    return b"".join(decode_frame(bank, frame, part, rotation, fitted) for frame, part in split(bank, encoded))


def encode(bank, plain, context=((), None), padding=PADME):
    """(encoded stream, receipt or None); a packed stream is padded by `padding`."""
    rotation = rotation_of(bank, *context)
    parts, at, measured = [], 0, []
    for frame in frames(bank):
        original = plain[at : at + frame.plain_len]
        at += frame.plain_len
        parts.append(encode_frame(bank, frame, original, rotation))
        measured.append((frame, original, parts[-1]))
    if is_packed(bank.codec):
        index = b"".join(struct.pack("<I", len(p)) for p in parts)
        total = sum(map(len, parts)) + len(index)
        return b"".join([*parts, bytes(padded(total, padding) - total), index]), None
    if not is_lossy(bank.codec):
        return b"".join(parts), None
    return b"".join(parts), receipt_of(bank, measured, rotation)


def receipt_of(bank, measured, rotation):
    """The receipt over (frame, original bytes, encoded bytes)."""
    _, heads, tokens, dim = bank.shape

    def values(data, frame):
        return widen(data, bank.dtype).reshape(heads, frame.tokens, dim)

    widened = (
        (f.first_token, values(original, f), values(decode_frame(bank, f, encoded, rotation), f))
        for f, original, encoded in measured
    )
    return receipt.measure(widened, heads, tokens, dim, rotation)
