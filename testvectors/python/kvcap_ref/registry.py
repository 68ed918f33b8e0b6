"""The key registry (registry-v1): who is trusted and what is revoked, signed by a root."""

from dataclasses import dataclass

from . import cbor, ed25519, envelope, keys
from .errors import Refusal, require
from .schedule import b3

MAX_BYTES, MAX_KEYS, MAX_REVOKED = 4 << 20, 1024, 65_536
SKEW = 60
CONTENT, TYPE = "application/vnd.kvcap.keys+cbor", "application/vnd.kvcap.registry"
CAPSULES, RETIRED, COMPROMISED = 1, 1, 2
LARGEST = (1 << 64) - 1


@dataclass(frozen=True)
class Registry:
    version: int
    issued: int
    expires: int
    keys: list
    revoked: frozenset
    previous: bytes | None
    digest: bytes


def root_id(public):
    return b3("kvcap v1 root key id", public, 16)


def digest(data):
    return b3("kvcap v1 registry", data)


def listed(condition, what):
    require(condition, 313, what)


def uint(x, what):
    listed(type(x) is int and x >= 0, what)
    return x


def fields(x, required, optional, what):
    listed(type(x) is dict and required <= x.keys() <= required | optional, what)


def entry(x):
    """(its id, the trusted key) of one entry."""
    fields(x, {1, 2, 3, 4, 5, 8}, {6, 7}, "fields of a key")
    listed(type(x[1]) is bytes and len(x[1]) == 32, "public key")
    listed(uint(x[2], "purpose") in (1, 2), "purpose")
    listed(envelope.is_text(x[3], 1, 1024), "issuer")
    suites = x[4]
    listed(type(suites) is list and suites, "suites")
    listed(all(uint(s, "suite") >= 0 for s in suites) and all(a < b for a, b in zip(suites, suites[1:])), "suites")
    uint(x[5], "not before")
    for key in (6, 7):
        listed(uint(x.get(key, 0), "end") != LARGEST, "an end that is none")
    listed(uint(x[8], "status") <= COMPROMISED, "status")
    listed(x[8] != RETIRED or 6 in x, "a retired key without an end")
    status = "compromised" if x[8] == COMPROMISED else "active"
    trusted = keys.Trusted(x[1], x[3], frozenset(suites), x[5], x.get(6), x.get(7), status, x[2] == CAPSULES)
    return trusted


def revocation(x):
    listed(type(x) is list and len(x) == 2 and type(x[0]) is bytes and len(x[0]) == 16, "revocation")
    uint(x[1], "revocation")
    return x[0]


def listing(payload, root, file_digest):
    """REG-G-3 to REG-G-5."""
    x = cbor.decode(payload)
    listed(type(x) is dict, "a listing is a map")
    fields(x, {1, 2, 3, 4, 5, 6}, {7}, "fields of the listing")
    listed(uint(x[1], "format") == 1, "format")
    version, issued, expires = (uint(x[k], "number") for k in (2, 3, 4))
    listed(version != 0 and (version == 1) == (7 not in x), "version")
    listed(issued < expires, "expires")
    listed(type(x[5]) is list and len(x[5]) <= MAX_KEYS, "keys")
    trusted = [entry(k) for k in x[5]]
    kids = [key.kid for key in trusted]
    for one, two in zip(kids, kids[1:]):
        require(one != two, 311)
        listed(one < two, "order of keys")
    require(all(key.public != root for key in trusted), 302, "the root lists itself")
    listed(type(x[6]) is list and len(x[6]) <= MAX_REVOKED, "revocations")
    revoked = [revocation(r) for r in x[6]]
    listed(all(a < b for a, b in zip(revoked, revoked[1:])), "order of revocations")
    previous = x.get(7)
    listed(previous is None or type(previous) is bytes and len(previous) == 32, "previous")
    return Registry(version, issued, expires, trusted, frozenset(revoked), previous, file_digest)


def read(data, root):
    """REG-G-1 to REG-G-5: a registry that the root has signed, whether or not it has expired."""
    require(len(data) <= MAX_BYTES, 313)
    require(data[:1] == b"\xd2", 308)
    cose = envelope.parse_with(data, content=CONTENT, typ=TYPE, claims=False)
    require(cose.kid == root_id(root), 308)
    try:
        ed25519.verify(root, cose.signed(), cose.signature)
    except Refusal:
        raise Refusal(308) from None
    return listing(cose.payload, root, digest(data))


def check_time(registry, now):
    """REG-G-6."""
    require(now < registry.expires, 310)
    require(registry.issued <= now + SKEW, 412)


def follows(registry, seen):
    """REG-G-7: `seen` is (version, digest)."""
    if (registry.version, registry.digest) == seen:
        return
    require(registry.version == seen[0] + 1 and registry.previous == seen[1], 309)


def newest(files, root, seen, now):
    """The last of several versions, each after the one before."""
    ed25519.check_public_key(root)
    for i, data in enumerate(files):
        registry = read(data, root)
        if i == len(files) - 1:
            check_time(registry, now)
        if seen is not None:
            follows(registry, seen)
        seen = registry.version, registry.digest
    return registry
