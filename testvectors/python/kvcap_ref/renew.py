"""A new header over the same body (lineage-v1 §1)."""

from dataclasses import replace

from . import cbor, ed25519, envelope, keys, recipients, schedule, verify
from .errors import require
from .prologue import Prologue


def _verified(data, trust, now):
    """LIN-N-1, and the exact length of LIN-N-8."""
    claims = verify.framed(data)[1].claims
    own = verify.Expected(subject=claims.sub, org=claims.org, scope=None)
    header = verify.verify_header(data, trust, now, own)
    require(len(data) >= header.prologue.body, 106)
    require(len(data) >= header.prologue.end, 807)
    require(len(data) == header.prologue.end, 108)
    return header, own


def _written(data, header, own, claims, payload, trust, sign_seed):
    """LIN-N-6: the file with a new header, which is verified like any other."""
    protected = envelope.encode_header(keys.sign_key_id(ed25519.public_key(sign_seed)), claims)
    signature = ed25519.sign(sign_seed, envelope.signed_bytes(protected, payload))
    cose = envelope.encode(protected, payload, signature)
    old = header.prologue
    new = Prologue(len(cose), old.tables_len, old.body_len)
    written = new.encode() + cose + bytes(new.tables - new.envelope_end) + data[old.tables :]
    verify.verify_header(written, trust, claims.iat, own)
    return written


def renew(data, trust, sign_seed, now, exp, scope=None):
    """The capsule until `exp`, with no word in its scope that it did not have (LIN-N-5)."""
    header, own = _verified(data, trust, now)
    claims = header.claims
    scope = claims.scope if scope is None else scope
    require(exp <= claims.cap, 404, f"{exp}, cap {claims.cap}")
    require(set(scope.split(" ")) <= set(claims.scope.split(" ")), 408, scope)
    renewed = replace(claims, exp=exp, iat=now, scope=scope)
    return _written(data, header, own, renewed, verify.framed(data)[1].payload, trust, sign_seed)


def rewrap(data, trust, sign_seed, wrapping_key, others, now, random, audience=None):
    """The capsule for `others` alone (LIN-N-7)."""
    header, own = _verified(data, trust, now)
    m, claims, key = header.manifest, header.claims, recipients.of(wrapping_key)
    secret = recipients.content_key(m, claims.cti, key)
    require(verify.equal(schedule.commitment(secret, m.salt, header.ctx), m.commitment), 804)
    payload = verify.framed(data)[1].payload
    value = cbor.decode(payload)
    value[4][3] = [recipients.of(other).entry(m.suite, claims.cti, secret, random) for other in others]
    renewed = replace(claims, iat=now, aud=audience or claims.aud)
    return _written(data, header, own, renewed, cbor.encode(value), trust, sign_seed)
