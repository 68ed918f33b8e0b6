"""The key registry (registry-v1): who is trusted and what is revoked, signed by a root."""

from dataclasses import dataclass, replace

from . import cbor, ed25519, envelope, keys
from .errors import Refusal, require
from .schedule import b3

MAX_BYTES, MAX_KEYS, MAX_REVOKED = 4 << 20, 1024, 65_536
SKEW = 60
CONTENT, TYPE = "application/vnd.kvcap.keys+cbor", "application/vnd.kvcap.registry"
ROOTS_CONTENT, ROOTS_TYPE = "application/vnd.kvcap.roots+cbor", "application/vnd.kvcap.roots"
STAMP_CONTENT, STAMP_TYPE = "application/vnd.kvcap.timestamp+cbor", "application/vnd.kvcap.timestamp"
MAX_STATEMENTS, MAX_SIGNATURES, MAX_ROOTS, WEEK = 64, 32, 32, 7 * 86_400
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
    statements: tuple = ()  # those that were looked at, the newest last (§8)
    stamp: object = None


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


def listing(payload, roots, file_digest):
    """REG-G-3 to REG-G-5; none of `roots` is listed."""
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
    require(all(key.public not in roots for key in trusted), 302, "a root is listed")
    listed(type(x[6]) is list and len(x[6]) <= MAX_REVOKED, "revocations")
    revoked = [revocation(r) for r in x[6]]
    listed(all(a < b for a, b in zip(revoked, revoked[1:])), "order of revocations")
    previous = x.get(7)
    listed(previous is None or type(previous) is bytes and len(previous) == 32, "previous")
    return Registry(version, issued, expires, trusted, frozenset(revoked), previous, file_digest)


@dataclass(frozen=True)
class Document:
    """A COSE_Sign (§8.2): its signatures by id."""

    header: bytes
    payload: bytes
    signatures: dict

    def signers(self, publics):
        """REG-M-4: those of `publics` that have signed."""
        found = []
        for public in publics:
            kid = root_id(public)
            if kid in self.signatures:
                signed = cbor.encode(["Signature", self.header, signature_header(kid), b"", self.payload])
                check_signature(public, signed, self.signatures[kid])
                found.append(public)
        return found


def check_signature(public, signed, signature):
    try:
        ed25519.verify(public, signed, signature)
    except Refusal:
        raise Refusal(308) from None


def signature_header(kid):
    return cbor.encode({1: envelope.ALG_ED25519, 4: kid})


def document(data, content, typ):
    """REG-M-2."""
    listed(data[:2] == b"\xd8\x62", "no COSE_Sign")
    x = cbor.decode(data[2:])
    listed(type(x) is list and len(x) == 4 and type(x[0]) is bytes and x[1] == {} and type(x[2]) is bytes, "document")
    listed(x[0] == cbor.encode({3: content, 16: typ}), "header")
    listed(type(x[3]) is list and len(x[3]) <= MAX_SIGNATURES, "signatures")
    signatures, last = {}, b""
    for s in x[3]:
        listed(type(s) is list and len(s) == 3 and type(s[0]) is bytes and s[1] == {}, "signature")
        kid = s[0][-16:]
        listed(s[0] == signature_header(kid) and last < kid, "signature header")
        listed(type(s[2]) is bytes and len(s[2]) == 64, "signature")
        signatures[kid], last = s[2], kid
    return Document(x[0], x[2], signatures)


ALL = None


def speaks(limit, issuer):
    return limit is None or issuer in limit


@dataclass(frozen=True)
class Statement:
    version: int
    issued: int
    expires: int
    chain: bytes
    threshold: int
    roots: dict  # public key to the set of its issuers, or None
    stamps: list
    previous: bytes | None
    digest: bytes
    signed: Document

    def check(self, by):
        """Signed by the roots of `by`: gives those that have."""
        signers = self.signed.signers(by.roots)
        require(len(signers) >= by.threshold, 308)
        return signers

    def check_speak(self, signers, issuers):
        """REG-M-9, REG-M-14: `ALL` stands for no limit."""
        limits = [self.roots[public] for public in signers]
        for issuer in issuers:
            require(sum(speaks(limit, issuer) for limit in limits) >= self.threshold, 316)

    def given(self, before):
        """What it gives that the statement before did not."""
        given = set()
        for public, limit in self.roots.items():
            own = {ALL} if limit is None else limit
            given |= {i for i in own if public not in before.roots or not speaks(before.roots[public], i)}
        if self.threshold < before.threshold or self.stamps != before.stamps:
            given.add(ALL)
        return given


def public_key(x):
    listed(type(x) is bytes and len(x) == 32, "public key")
    ed25519.check_public_key(x)
    return x


def issuers_of(x):
    listed(type(x) is list and 1 <= len(x) <= 1024 and all(envelope.is_text(i, 1, 1024) for i in x), "issuers")
    names = [i.encode() for i in x]
    listed(all(a < b for a, b in zip(names, names[1:])), "order of issuers")
    return frozenset(x)


def statement(signed):
    """REG-M-3."""
    x = cbor.decode(signed.payload)
    fields(x, {1, 2, 3, 4, 5, 6, 7, 8}, {9}, "fields of a statement")
    listed(uint(x[1], "format") == 1, "format")
    version, issued, expires, threshold = (uint(x[k], "number") for k in (2, 3, 4, 6))
    listed(version != 0 and (version == 1) == (9 not in x), "version")
    listed(issued < expires, "expires")
    listed(type(x[5]) is bytes and len(x[5]) == 16, "chain")
    listed(all(type(x[k]) is list and len(x[k]) <= MAX_ROOTS for k in (7, 8)), "keys")
    roots = []
    for root in x[7]:
        fields(root, {1}, {2}, "fields of a root")
        roots.append((public_key(root[1]), issuers_of(root[2]) if 2 in root else None))
    stamps = [public_key(key) for key in x[8]]
    listed(1 <= threshold <= len(roots), "threshold")
    for publics in ([public for public, _ in roots], stamps):
        kids = [root_id(public) for public in publics]
        listed(all(a < b for a, b in zip(kids, kids[1:])), "order of keys")
    require(not set(stamps) & {public for public, _ in roots}, 302)
    previous = x.get(9)
    listed(previous is None or type(previous) is bytes and len(previous) == 32, "previous")
    own = b3("kvcap v1 roots", signed.payload)
    return Statement(version, issued, expires, x[5], threshold, dict(roots), stamps, previous, own, signed)


@dataclass(frozen=True)
class Stamp:
    cose: object
    issued: int
    expires: int
    of: tuple  # chain, version, digest


def timestamp(data):
    """REG-M-11, its form."""
    cose = envelope.parse_with(data, content=STAMP_CONTENT, typ=STAMP_TYPE, claims=False)
    x = cbor.decode(cose.payload)
    fields(x, {1, 2, 3, 4, 5, 6}, set(), "fields of a timestamp")
    listed(uint(x[1], "format") == 1, "format")
    issued, expires, version = (uint(x[k], "number") for k in (2, 3, 5))
    listed(issued < expires <= issued + WEEK, "life")
    listed(all(type(x[k]) is bytes and len(x[k]) == n for k, n in ((4, 16), (6, 32))), "digests")
    return Stamp(cose, issued, expires, (x[4], version, x[6]))


@dataclass(frozen=True)
class Root:
    """What a verifier is given: a key or a statement's digest, and issuers where it is not trusted with all."""

    key: bytes | None
    statement: bytes | None = None
    issuers: tuple = ()


def walk(statements, root):
    """REG-M-5, REG-M-6, REG-M-14: the statements that are looked at."""
    if root.statement is None:
        first = statements[0]
        require(first.version == 1 and first.chain == root_id(root.key), 314)
        require(first.signed.signers([root.key]), 308)
    else:
        digests = [s.digest for s in statements]
        require(root.statement in digests, 314)
        statements = statements[digests.index(root.statement) :]
    statements[0].check(statements[0])
    for old, new in zip(statements, statements[1:]):
        require(new.version == old.version + 1 and new.previous == old.digest, 314)
        require(new.chain == old.chain and new.issued >= old.issued, 314)
        signers = new.check(old)
        new.check(new)
        old.check_speak(signers, new.given(old))
    return statements


def bundle(data, root):
    """§8, at any time."""
    x = cbor.decode(data)
    listed(type(x) is list and len(x) == 3 and type(x[0]) is list and type(x[1]) is bytes, "bundle")
    listed(1 <= len(x[0]) <= MAX_STATEMENTS and type(x[2]) is list and len(x[2]) <= 1, "bundle")
    listed(all(type(part) is bytes for part in x[0] + x[2]), "bundle")
    statements = [statement(document(s, ROOTS_CONTENT, ROOTS_TYPE)) for s in x[0]]
    signed = document(x[1], CONTENT, TYPE)
    stamp = timestamp(x[2][0]) if x[2] else None
    statements = walk(statements, root)
    newest = statements[-1]
    signers = signed.signers(newest.roots)
    require(len(signers) >= newest.threshold, 308)
    publics = list(newest.roots) + newest.stamps
    registry = listing(signed.payload, publics, digest(signed.payload))
    newest.check_speak(signers, {key.issuer for key in registry.keys})
    return replace(registry, statements=tuple(statements), stamp=stamp)


def read(data, root):
    """REG-G-1 to REG-G-5, or §8: a registry that the root has signed, whether or not it has expired."""
    require(len(data) <= MAX_BYTES, 313)
    if data[:1] == b"\x83":
        registry = bundle(data, root)
    else:
        require(data[:1] == b"\xd2", 308)
        cose = envelope.parse_with(data, content=CONTENT, typ=TYPE, claims=False)
        require(root.statement is None and cose.kid == root_id(root.key), 308)
        check_signature(root.key, cose.signed(), cose.signature)
        registry = listing(cose.payload, [root.key], digest(data))
    require(not root.issuers or all(key.issuer in root.issuers for key in registry.keys), 316)
    return registry


def check_time(registry, now):
    """REG-M-7, REG-M-11 and REG-G-6."""
    if registry.statements:
        newest = registry.statements[-1]
        require(now < newest.expires, 310)
        require(newest.issued <= now + SKEW, 412)
        check_stamp(registry, newest, now)
    require(now < registry.expires, 310)
    require(registry.issued <= now + SKEW, 412)


def check_stamp(registry, newest, now):
    stamp = registry.stamp
    if stamp is None:
        require(not newest.stamps, 315)
        return
    signers = [public for public in newest.stamps if root_id(public) == stamp.cose.kid]
    require(signers, 308)
    check_signature(signers[0], stamp.cose.signed(), stamp.cose.signature)
    require(stamp.of == (newest.chain, registry.version, registry.digest), 315)
    require(now < stamp.expires, 315)
    require(stamp.issued <= now + SKEW, 412)


def follows_roots(registry, seen):
    """REG-M-12: `seen` is (version, digest) of a statement."""
    require(registry.statements, 314)
    known = {s.version: s.digest for s in registry.statements}
    require(known.get(seen[0], seen[1]) == seen[1], 314)
    require(seen[0] in known or registry.statements[0].version > seen[0], 314)


def follows(registry, seen):
    """REG-G-7: `seen` is (version, digest)."""
    if (registry.version, registry.digest) == seen:
        return
    require(registry.version == seen[0] + 1 and registry.previous == seen[1], 309)


def newest(files, root, seen, seen_roots, now):
    """The last of several versions, each after the one before."""
    if root.key is not None:
        ed25519.check_public_key(root.key)
    for i, data in enumerate(files):
        registry = read(data, root)
        if i == len(files) - 1:
            check_time(registry, now)
        if seen is not None:
            follows(registry, seen)
        if seen_roots is not None:
            follows_roots(registry, seen_roots)
        seen = registry.version, registry.digest
    return registry
