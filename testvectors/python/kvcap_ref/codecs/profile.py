"""Profiles of tc: means and weights of a model's banks (codecs-v1 §12.7)."""

import struct
from dataclasses import dataclass

import numpy as np

from ..errors import require
from ..schedule import b3

PER_HEAD, WHOLE = 1, 2
HEADER, ENTRY, LARGEST = 48, 12, 256 << 20


def within_limits(transform, heads, dim):
    """COD-F-2, and where transforms 1 and 2 apply."""
    channels = heads * dim
    small = 1 <= dim <= 1024 and 1 <= heads <= 1024 and channels <= 16384
    return small and (transform == PER_HEAD or channels <= 1024)


@dataclass
class Fitted:
    """What a profile knows of a bank."""

    transform: int
    heads: int
    dim: int
    mean: np.ndarray
    weights: np.ndarray  # shifted, `[blocks, component, channel]`

    def sums(self, numbers):
        """`numbers[component][…]` through the weights, as signed numbers modulo 2^32, `[channel][…]`."""
        blocks, size, _ = self.weights.shape
        parts = numbers.reshape(blocks, size, -1)
        # |numbers| <= 2^15, weights < 2^15, at most 2^10 of them: exact in f64
        found = (self.weights.swapaxes(1, 2) @ parts.astype("<f8")).astype("<i8").reshape(numbers.shape)
        return (found + (1 << 31) & 0xFFFFFFFF) - (1 << 31)


class Profile:
    def __init__(self, model_id, banks):
        self.model_id, self.banks = model_id, banks

    def fitted(self, bank):
        """COD-F-6."""
        found = self.banks.get((bank.layer, bank.role))
        asked = (bank.codec[1], bank.shape[1], bank.shape[3])
        same = found and bank.index == 0 and (found.transform, found.heads, found.dim) == asked
        require(same, 909, f"layer {bank.layer}, role {bank.role} is not in the profile")
        return found


def digest(file):
    return b3("kvcap v1 codec profile", file)


def parse(file):
    """COD-F-1 to COD-F-4."""
    require(HEADER <= len(file) <= LARGEST, 909, "length of the profile")
    magic, version, n, p, zero = struct.unpack("<8s4H", file[:16])
    good = magic == b"KVTCPROF" and version == 1 and 1 <= n <= 4096 and p <= 64 and zero == 0
    require(good, 909, "first fields of the profile")
    at = HEADER + ENTRY * n
    require(at + p * (4 + 2 * n) <= len(file), 909, "length of the profile")
    entries = [struct.unpack("<IBBHHH", file[a : a + ENTRY]) for a in range(HEADER, at, ENTRY)]
    for layer, role, transform, heads, dim, zero in entries:
        known = role <= 3 and transform in (PER_HEAD, WHOLE) and zero == 0
        require(known and within_limits(transform, heads, dim), 909, f"bank of layer {layer}")
    places = [entry[:2] for entry in entries]
    require(all(a < b for a, b in zip(places, places[1:])), 909, "order of banks")
    at = check_points(file, at, p, [heads * dim for *_, heads, dim, _ in entries])
    sizes = [heads * dim * (heads * dim if transform == WHOLE else dim) for _, _, transform, heads, dim, _ in entries]
    total = at + sum(9 * heads * dim + 3 * size for (*_, heads, dim, _), size in zip(entries, sizes))
    require(total == len(file), 909, "length of the profile")
    banks = {}
    for (layer, role, transform, heads, dim, _), size in zip(entries, sizes):
        channels = heads * dim
        fields = [("<f4", channels), ("u1", channels), ("i1", size), ("<f4", channels), ("<i2", size)]
        found = []
        for kind, count in fields:
            found.append(np.frombuffer(file, kind, count, at))
            at += found[-1].nbytes
        mean, shifts, weights, scale, _ = found
        require(np.isfinite(mean).all() and np.isfinite(scale).all(), 909, "a number that is not finite")
        require((shifts <= 8).all() and (weights != -128).all(), 909, "weights")
        side = channels if transform == WHOLE else dim
        shifted = weights.reshape(-1, side, side) * 2.0 ** shifts.reshape(-1, side, 1)
        banks[layer, role] = Fitted(transform, heads, dim, mean, shifted)
    return Profile(file[16:HEADER], banks)


def check_points(file, at, count, channels):
    """COD-F-3; where the banks begin."""
    before = None
    for _ in range(count):
        promised, *rates = struct.unpack_from(f"<I{len(channels)}H", file, at)
        at += 4 + 2 * len(channels)
        require(all(16 <= rate <= 1024 for rate in rates), 909, "rate of a point")
        weight = sum(rate * c for rate, c in zip(rates, channels))
        require(before is None or (weight > before[1] and promised < before[0]), 909, "order of points")
        before = promised, weight
    return at
