"""Element types, frames and lengths (codecs-v1 §2)."""

import math
from dataclasses import dataclass

import numpy as np

from ..errors import require

F16, BF16, F32 = 1, 2, 3
BLOCK_TOKENS = 256
FLAT_FRAME = 1 << 20

# code: (elements a block, bytes a block)
BLOCKS = {F16: (1, 2), BF16: (1, 2), F32: (1, 4), 4: (1, 8), 5: (1, 1), 6: (1, 1), 7: (1, 1)}
BLOCKS |= {16: (1, 1), 17: (1, 1), 18: (1, 2), 19: (1, 2), 20: (1, 4), 21: (1, 4), 22: (1, 8), 23: (1, 8)}
BLOCKS |= {32: (32, 18), 33: (32, 20), 34: (32, 22), 35: (32, 24), 36: (32, 34), 37: (32, 18)}
TRIPLET = 48
TRIPLET_BITS, TRIPLET_GROUPS = (3, 4, 5, 6, 8), (32, 64, 128)

SAFETENSORS = {"F16": F16, "BF16": BF16, "F32": F32, "F64": 4, "F8_E4M3": 5, "F8_E5M2": 6, "BOOL": 7}
SAFETENSORS |= {"U8": 16, "I8": 17, "U16": 18, "I16": 19, "U32": 20, "I32": 21, "U64": 22, "I64": 23}

LARGEST = {
    F16: np.float32(65504),
    BF16: np.array([0x7F7F0000], "<u4").view("<f4")[0],
    F32: np.finfo(np.float32).max,
}


def known_dtype(dtype):
    if type(dtype) is int:
        return dtype in BLOCKS
    kind, bits, group, params = dtype
    return kind == TRIPLET and bits in TRIPLET_BITS and group in TRIPLET_GROUPS and params in (F16, BF16, F32)


def block(dtype):
    """(elements, bytes) of a block."""
    if type(dtype) is int:
        return BLOCKS[dtype]
    _, bits, group, params = dtype
    return group, group * bits // 8 + 2 * BLOCKS[params][1]


def row_bytes(dtype, dim):
    elements, size = block(dtype)
    require(dim % elements == 0, 507, "a row is no whole number of blocks")
    return dim // elements * size


def plain_len(dtype, shape):
    """Bytes of a bank, by COD-L-1 and with the code of CAP-S-2."""
    if shape[0] == 0:
        _, heads, tokens, dim = shape
        length = heads * tokens * row_bytes(dtype, dim)
    else:
        *others, last = shape[1:] or [1]
        length = math.prod(others) * row_bytes(dtype, last)
    require(length < 1 << 64, 507, "shape overflows")
    return length


@dataclass(frozen=True)
class Frame:
    """`tokens` is 0 for a bank without a token axis."""

    first_token: int
    tokens: int
    plain_len: int


def frames(bank):
    if bank.shape[0] == 0:
        _, heads, tokens, dim = bank.shape
        row = heads * row_bytes(bank.dtype, dim)
        for start in range(0, tokens, BLOCK_TOKENS):
            held = min(BLOCK_TOKENS, tokens - start)
            yield Frame(start, held, held * row)
    else:
        for start in range(0, bank.plain_len, FLAT_FRAME):
            yield Frame(0, 0, min(FLAT_FRAME, bank.plain_len - start))


def sum_of_frames(bank, length):
    """Σ length(frame), without a walk over frames that a hostile shape may name by the billion."""
    count, total = frame_count(bank), 0
    if count > 1:
        total = (count - 1) * length(next(frames(bank)))
    return total + length(last_frame(bank))


def frame_count(bank):
    if bank.shape[0] == 0:
        return -(-bank.shape[2] // BLOCK_TOKENS)
    return -(-bank.plain_len // FLAT_FRAME)


def last_frame(bank):
    before = frame_count(bank) - 1
    if bank.shape[0] == 0:
        _, heads, tokens, dim = bank.shape
        held = tokens - BLOCK_TOKENS * before
        return Frame(BLOCK_TOKENS * before, held, held * heads * row_bytes(bank.dtype, dim))
    return Frame(0, 0, bank.plain_len - FLAT_FRAME * before)


def widen(data, dtype):
    """Bytes of f16, bf16 or f32 elements as f32."""
    if dtype == F16:
        return np.frombuffer(data, "<f2").astype("<f4")
    if dtype == BF16:
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, "<f4").astype("<f4")


def narrow(values, dtype):
    """f32 values rounded to the element type, ties to even, as bytes."""
    if dtype == F16:
        return values.astype("<f2").tobytes()
    if dtype == BF16:
        bits = np.ascontiguousarray(values).view("<u4")
        rounded = (bits.astype("<u8") + 0x7FFF + (bits >> 16 & 1)) >> 16
        return rounded.astype("<u2").tobytes()
    return values.astype("<f4").tobytes()


def saturate(values, dtype):
    """sat_T of §1."""
    limit = LARGEST[dtype]
    return narrow(np.clip(values, -limit, limit), dtype)
