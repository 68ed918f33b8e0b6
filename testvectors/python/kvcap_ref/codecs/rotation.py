"""Rotation of key rows by angles that agree to the last bit (codecs-v1 §7.1, §7.2)."""

import struct

import numpy as np

from ..errors import require

HALF, INTERLEAVED = 0, 1


def bits(text):
    return struct.unpack(">d", bytes.fromhex(text))[0]


TWO_OVER_PI, MAGIC = bits("3FE45F306DC9C883"), bits("4338000000000000")
PI_2 = [bits(h) for h in ("3FF921FB00000000", "3E95110B00000000", "3D318469898CC517")]
SIN = ["BFC5555555555549", "3F8111111110F8A6", "BF2A01A019C161D5", "3EC71DE357B1FE7D", "BE5AE5E68A2B9CEB"]
SIN = [bits(h) for h in [*SIN, "3DE5D93A5ACFD57C"]]
COS = ["3FA555555555554C", "BF56C16C16C15177", "3EFA01A019CB1590", "BE927E4F809C52AD", "3E21EE9EBDB4B1C4"]
COS = [bits(h) for h in [*COS, "BDA8FAE9BE8838D4"]]


def polynomial(coefficients, z):
    total = np.full_like(z, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = c + z * total
    return total


def sincos(a):
    """(sin, cos) of f64 angles as f64."""
    t = a * TWO_OVER_PI + MAGIC
    quadrant = t.view("<i8") & 3
    n = t - MAGIC
    r = ((a - n * PI_2[0]) - n * PI_2[1]) - n * PI_2[2]
    z = r * r
    sn = r + (r * z) * polynomial(SIN, z)
    cs = (1 - z * 0.5) + (z * z) * polynomial(COS, z)
    sin = np.choose(quadrant, [sn, cs, -sn, -cs])
    cos = np.choose(quadrant, [cs, -sn, -cs, sn])
    return sin, cos


class Rotation:
    """The table of a bank: pairing and frequencies, with a position for each of its rows."""

    def __init__(self, pairing, frequencies, positions, dim):
        self.pairing, self.dim = pairing, dim
        self.frequencies = np.asarray(frequencies, "<f8")
        self.positions = positions
        p = len(self.frequencies)
        require(2 * p <= dim, 903, f"{p} pairs in {dim} elements")
        require(np.isfinite(self.frequencies).all(), 905, "inverse frequency")
        farthest = max((abs(n) for n in positions), default=0)
        require(farthest <= 1 << 53, 903, "position")
        fastest = float(np.abs(self.frequencies).max()) if p else 0.0
        require(float(farthest) * fastest <= 2.0**30, 904, "angle")

    def angles(self, first, tokens):
        """(cos, sin) in f32, one row a token and one column a pair."""
        positions = self.positions[first : first + tokens]
        require(len(positions) == tokens, 903, "a row without a position")
        at = np.array(positions, "<f8")
        sin, cos = sincos(at[:, None] * self.frequencies[None, :])
        return cos.astype("<f4"), sin.astype("<f4")

    def _pairs(self):
        p = len(self.frequencies)
        if self.pairing == HALF:
            return slice(0, p), slice(p, 2 * p)
        return slice(0, 2 * p, 2), slice(1, 2 * p, 2)

    def forth(self, rows, first):
        """Rows `[head, token, dim]` in f32, as the runtime holds them."""
        return self._turn(rows, first, forth=True)

    def back(self, rows, first):
        return self._turn(rows, first, forth=False)

    def _turn(self, rows, first, forth):
        c, s = self.angles(first, rows.shape[1])
        a, b = self._pairs()
        x, y = rows[..., a], rows[..., b]
        turned = rows.copy()
        with np.errstate(over="ignore", invalid="ignore"):
            if forth:
                turned[..., a] = x * c - y * s
                turned[..., b] = y * c + x * s
            else:
                turned[..., a] = x * c + y * s
                turned[..., b] = y * c - x * s
        return turned
