"""Verification without a secret (capsule-v1 §3.2). The first failure ends it."""

import hmac
from dataclasses import dataclass, field

from . import ed25519, envelope, keys, manifest, prefix, prologue, schedule, table
from .errors import require

MAX_LIFETIME = 30 * 86_400
MAX_SKEW = 60


@dataclass(frozen=True)
class Expected:
    """What the caller states; None is not compared."""

    cti: bytes | None = None
    suites: frozenset | None = None
    audiences: frozenset | None = None
    subject: str | None = None
    org: str | None = None
    scope: str | None = "kv:restore"
    model: bytes | None = None
    tokenizer: dict | None = None
    rope: list | None = None
    dtypes: tuple | None = None  # of keys, of values
    format: str | None = None
    facts: list | None = None
    runtime: tuple | None = None  # (name, version or None)
    positions: tuple | None = None
    prefix: tuple | None = None  # (prefix key, P)
    banks: tuple = ()  # (role, layer, index) of each that is needed
    budget: int | None = None
    session: tuple | None = None  # (id, version or None, replay cursor or None)
    revoked: frozenset = frozenset()  # ids of capsules (registry-v1 REG-G-10)
    max_lifetime: int = MAX_LIFETIME
    skew: int = MAX_SKEW


@dataclass(frozen=True)
class Verified:
    prologue: prologue.Prologue
    claims: envelope.Claims
    manifest: manifest.Manifest
    ctx: bytes
    tables: list = field(default_factory=list)

    def lineage(self):
        """The digest of lineage-v1 §2 by which a child names this capsule."""
        m = self.manifest
        return schedule.b3("kvcap v1 lineage", self.ctx + m.salt + m.commitment + m.measured_bytes)


def framed(data):
    """Steps 1 to 3: (prologue, envelope) of a file of which nothing is trusted yet."""
    frame = prologue.parse(data)
    require(len(data) >= frame.tables, 106, "the envelope")
    require(not any(data[frame.envelope_end : frame.tables]), 107, "padding of the envelope")
    return frame, envelope.parse(data[prologue.SIZE : frame.envelope_end])


def verify_header(data, trust, now, expected=Expected()):
    """Steps 1 to 10."""
    frame, cose = framed(data)
    key = keys.find(trust, cose.kid)
    ed25519.verify(key.public, cose.signed(), cose.signature)
    claims = cose.claims
    parsed = manifest.parse(cose.payload, frame, claims)
    key.check_use(claims.iat, now, parsed.suite, claims.iss)
    require(expected.suites is None or parsed.suite in expected.suites, 502, f"suite {parsed.suite}")
    require(claims.cti not in expected.revoked, 409, claims.cti.hex())
    check_time(claims, now, expected)
    check_claims(claims, expected)
    require(expected.cti is None or claims.cti == expected.cti, 507, "cti")
    check_binding(parsed, expected)
    return Verified(frame, claims, parsed, schedule.context_digest(claims, parsed.context_bytes))


def check_time(claims, now, expected):
    """Step 8."""
    require(claims.nbf < claims.exp and claims.iat < claims.exp, 401, "nbf and iat are before exp")
    require(now < claims.exp, 402, f"now {now}, exp {claims.exp}")
    skew = min(expected.skew, MAX_SKEW)
    require(claims.nbf <= now + skew and claims.iat <= now + skew, 403, f"now {now}")
    lifetime = claims.exp - claims.iat
    require(lifetime <= min(expected.max_lifetime, MAX_LIFETIME), 404, f"{lifetime} s")
    require(claims.exp <= claims.cap, 404, f"exp {claims.exp}, cap {claims.cap}")


def check_claims(claims, expected):
    """Step 9."""
    require(expected.audiences is None or claims.aud in expected.audiences, 405, claims.aud)
    require(claims.sub in (None, expected.subject), 406, str(claims.sub))
    require(claims.org in (None, expected.org), 407, str(claims.org))
    for stated, found in zip(expected.session or (), claims.session or (None,) * 3):
        require(stated is None or stated == found, 413, f"{found!r}, not {stated!r}")
    require(expected.scope is None or expected.scope in claims.scope.split(" "), 408, claims.scope)


def check_binding(m, expected):
    """Step 10, of what the caller states."""
    context = m.context
    banks = {(b.role, b.layer, b.index): b for b in m.streams if isinstance(b, manifest.Bank)}

    def same(want, got, code, what):
        require(want is None or want == got, code, what)

    same(expected.model, context[2][1], 601, "model id")
    if expected.tokenizer is not None:
        for k in (1, 2, 4, 5, 6):
            require(expected.tokenizer.get(k) == context[3].get(k), 602, f"tokenizer field {k}")
    if expected.rope is not None:
        check_rope(context, banks, expected.rope)
    same(expected.format, context[4][3], 604, "format")
    facts = dict(context[4][4])
    for name, value in expected.facts or ():
        same(value, facts.get(name, ""), 604, f"fact {name}")
    for (role, layer, _), bank in banks.items():
        if expected.dtypes is not None and role in (manifest.KEY, manifest.VALUE):
            same(expected.dtypes[role], bank.dtype, 604, f"element type of role {role}, layer {layer}")
    if expected.runtime is not None:
        name, version = expected.runtime
        same(name, context[4][1], 608, "runtime")
        same(version, context[4][2] or version, 608, "version of the runtime")
    same(expected.positions, m.positions, 606, "positions")
    if expected.prefix is not None:
        prefix.check(context[6], *expected.prefix)
    for identity in expected.banks:
        require(identity in banks, 607, f"bank {identity}")
    total = sum(s.plain_len for s in m.streams)
    require(expected.budget is None or total <= expected.budget, 910, f"{total} bytes")


def check_rope(context, banks, expected):
    def by_layer(ropes):
        # Pairing, dims, theta and scaling are the model's; the rest are facts of the state.
        return {layer: [rope[k] for k in (2, 3, 4, 5)] for rope in ropes for layer in rope[1]}

    want, got = by_layer(expected), by_layer(context[5])
    for layer in sorted({layer for role, layer, _ in banks if role in (manifest.KEY, manifest.ROPE_KEY)}):
        require(want.get(layer) == got.get(layer), 603, f"layer {layer}")


def read_tables(data, header):
    """Step 11."""
    tables = unread_tables(data, header)
    for each in tables:
        each.check()
    check_unused(data, header, tables)
    return tables


def unread_tables(data, header):
    """The tables, of which none is compared with its signed digest yet."""
    frame = header.prologue
    require(len(data) >= frame.body, 106, "the tables")
    return table.parse(data[frame.tables : frame.tables + frame.tables_len], header.manifest)


def check_unused(data, header, tables):
    """CAP-F-5 behind the rows that are used."""
    used = sum(len(each.rows) for each in tables)
    require(not any(data[header.prologue.tables + used : header.prologue.body]), 107, "behind the tables")


def placed_chunks(header):
    """(stream, chunk, offset in the file) of every chunk, in the order of the body."""
    at = header.prologue.body
    for i, (s, m) in enumerate(zip(header.manifest.streams, header.manifest.measured)):
        for chunk in table.chunks(m.encoded_len, s.chunk_len):
            yield i, chunk, at + chunk.start
        at += m.encoded_len


def verify(data, trust, now, expected=Expected()):
    """Every byte, by public keys alone."""
    return check_body(data, verify_header(data, trust, now, expected))


def check_body(data, header):
    """Steps 11 and 12."""
    tables = read_tables(data, header)
    for i, chunk, at in placed_chunks(header):
        ciphertext = data[at : at + chunk.length]
        require(len(ciphertext) == chunk.length, 807, f"stream {i} chunk {chunk.index}")
        tables[i].check_leaf(chunk.index, ciphertext)
    require(len(data) == header.prologue.end, 108, f"{len(data) - header.prologue.end} bytes")
    return Verified(header.prologue, header.claims, header.manifest, header.ctx, tables)


def equal(a, b):
    """Equality in constant time."""
    return hmac.compare_digest(a, b)
