"""Statements that two models are one (model-id-v1 §13)."""

from dataclasses import dataclass

from . import cbor, ed25519, envelope, keys
from .errors import require

LONGEST, SKEW = 4096, 60
CONTENT, TYPE = "application/vnd.kvcap.models+cbor", "application/vnd.kvcap.equivalence"


@dataclass(frozen=True)
class Equivalence:
    models: list
    issuer: str
    issued: int
    expires: int | None
    kid: bytes

    def check(self, one, other):
        """MOD-E-7."""
        require(sorted([one, other]) == self.models, 609)


def formed(condition, what):
    require(condition, 610, what)


def is_time(x):
    return type(x) is int and x >= 0


def read(payload, kid):
    """MOD-E-5."""
    x = cbor.decode(payload)
    formed(type(x) is dict and {1, 2, 3, 4} <= x.keys() <= {1, 2, 3, 4, 5} and type(x[1]) is int and x[1] == 1, "form")
    formed(type(x[2]) is str and x[2] and is_time(x[3]), "issuer or time")
    formed(type(x[4]) is list and len(x[4]) == 2, "models")
    formed(all(type(model) is bytes and len(model) == 32 for model in x[4]) and x[4][0] < x[4][1], "models")
    formed(5 not in x or is_time(x[5]) and x[5] > x[3], "expires")
    return Equivalence(x[4], x[2], x[3], x.get(5), kid)


def verify(data, trust, now):
    """MOD-E-6, MOD-E-8."""
    formed(len(data) <= LONGEST, "too long")
    cose = envelope.parse_with(data, content=CONTENT, typ=TYPE, claims=False)
    key = keys.find(trust, cose.kid)
    ed25519.verify(key.public, cose.signed(), cose.signature)
    said = read(cose.payload, cose.kid)
    require(not key.for_capsules, 302)
    require(key.not_before <= said.issued and (key.sign_until is None or said.issued < key.sign_until), 303)
    require(key.verify_until is None or now < key.verify_until, 303)
    require(said.issued <= now + SKEW, 403)
    require(said.expires is None or now < said.expires, 402)
    require(key.issuer == said.issuer, 312)
    return said
