"""Recipients (capsule-v1 §§8, 9.3): wrapping keys of three types, and the entries that they open."""

from dataclasses import dataclass

from . import hpke, schedule
from .errors import Refusal, require

SYMMETRIC, X25519, XWING = 1, 2, 3
KEMS = {X25519: hpke.X25519, XWING: hpke.XWing}
# Length of an entry's third field: nonce, or enc.
ENC_LEN = {SYMMETRIC: 24, X25519: 32, XWING: 1120}
WRAPPED_LEN = 48


def public_key_id(public):
    return schedule.b3("kvcap v1 hpke key id", public, 16)


def _info(suite):
    return b"kvcap v1 hpke" + schedule.u64(suite)


def _aad(key_id, cti):
    return b"kvcap v1 wrap" + key_id + cti


@dataclass(frozen=True)
class Public:
    """The public half of a key of type 2 or 3."""

    type: int
    key: bytes

    def __post_init__(self):
        KEMS[self.type].check(self.key)

    @property
    def id(self):
        return public_key_id(self.key)

    def entry(self, suite, cti, content_key, random):
        enc, wrapped = hpke.seal(KEMS[self.type], self.key, _info(suite), _aad(self.id, cti), content_key, random)
        return [self.type, self.id, enc, wrapped]


@dataclass(frozen=True)
class Secret:
    """A wrapping key."""

    type: int
    key: bytes

    @property
    def public(self):
        return Public(self.type, KEMS[self.type].public(self.key))

    @property
    def id(self):
        return schedule.wrap_key_id(self.key) if self.type == SYMMETRIC else self.public.id

    def entry(self, suite, cti, content_key, random):
        if self.type != SYMMETRIC:
            return self.public.entry(suite, cti, content_key, random)
        nonce = random(24)
        return [SYMMETRIC, self.id, nonce, schedule.wrap(self.key, self.id, cti, nonce, content_key)]

    def unwrap(self, suite, cti, entry):
        _, key_id, enc, wrapped = entry
        if self.type == SYMMETRIC:
            return schedule.unwrap(self.key, key_id, cti, enc, wrapped)
        return hpke.open(KEMS[self.type], self.key, enc, _info(suite), _aad(key_id, cti), wrapped)


def of(key):
    """Bytes alone are a key of type 1."""
    return Secret(SYMMETRIC, key) if isinstance(key, bytes) else key


def content_key(m, cti, key):
    """CAP-R-2."""
    for entry in m.recipients:
        if (entry[0], entry[1]) == (key.type, key.id):
            return key.unwrap(m.suite, cti, entry)
    raise Refusal(809, key.id.hex())


def check_entry(x, where):
    """CAP-R-1."""
    good = type(x) is list and len(x) == 4 and type(x[0]) is int and x[0] in ENC_LEN
    good = good and all(type(b) is bytes and len(b) == n for b, n in zip(x[1:], (16, ENC_LEN[x[0]], WRAPPED_LEN)))
    require(good, 808, where)


def check(entries, where):
    """CAP-R-1, CAP-R-3, CAP-R-4."""
    for i, entry in enumerate(entries):
        check_entry(entry, f"{where}[{i}]")
    require(len({entry[1] for entry in entries}) == len(entries), 808, f"{where}: a key id stands twice")
    require(not {X25519, XWING} <= {entry[0] for entry in entries}, 808, f"{where}: types 2 and 3 together")
