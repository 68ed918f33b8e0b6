"""The strict Ed25519 rule CAP-E-11: what OpenSSL leaves open is checked here on the curve itself."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .errors import Refusal, require

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)


def decompress(encoded):
    """The affine point of a canonical encoding, or None where there is none."""
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    if y >= P:
        return None
    xx = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if x * x % P != xx:
        x = x * SQRT_M1 % P
    if x * x % P != xx or (x == 0 and sign):
        return None
    return (P - x if x & 1 != sign else x), y


def small_order(point):
    """Whether eight times the point is the neutral element, in projective coordinates."""
    x, y, z = *point, 1
    for _ in range(3):
        xx, yy = x * x, y * y
        f = yy - xx
        j = f - 2 * z * z
        x, y, z = (2 * x * y * j) % P, f * (-xx - yy) % P, f * j % P
    return x == 0 and y == z


def check_public_key(encoded):
    """Refuses what is not the canonical encoding of a point of large order (KVC-305)."""
    require(len(encoded) == 32, 305, "public key is not 32 bytes")
    point = decompress(encoded)
    require(point is not None and not small_order(point), 305)


def verify(public_key, message, signature):
    """CAP-E-11, after `check_public_key`. OpenSSL computes [S]B - [k]A and compares its encoding with
    R, which is the cofactorless equation; it does not refuse an R of small order."""
    require(len(signature) == 64, 306)
    require(int.from_bytes(signature[32:], "little") < L, 306, "S is not reduced")
    r = decompress(signature[:32])
    require(r is not None and not small_order(r), 307, "R is weak or not canonical")
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        raise Refusal(307) from None


def public_key(seed):
    key = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def sign(seed, message):
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)
