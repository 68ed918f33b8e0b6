"""Sealing (capsule-v1 §3.1)."""

import os
from dataclasses import dataclass

from . import cbor, ed25519, envelope, keys, manifest, recipients, schedule, table, verify
from .prologue import PAGE, ROW, Prologue


@dataclass(frozen=True)
class Stream:
    """One stream as it goes into the body: its manifest entry, and its encoded bytes."""

    entry: dict
    encoded: bytes
    receipt: bytes | None = None


def section(kind, plain, name=""):
    return Stream({1: 1, 2: kind, 3: name, 10: len(plain), 11: chunk_len(len(plain))}, plain)


def chunk_len(length):
    """1 MiB, or the whole stream where that is less."""
    return min(max(length, PAGE), 1 << 20)


def with_receipts(streams):
    """The same, and after them the receipts of the lossy banks."""
    receipts = b"".join(s.receipt for s in streams if s.receipt is not None)
    return [*streams, section(manifest.RECEIPTS, receipts)] if receipts else streams


def body(streams, stream_keys):
    """(ciphertext, rows) of each stream."""
    for i, stream in enumerate(streams):
        ciphertext, rows = bytearray(), bytearray()
        for chunk in table.chunks(len(stream.encoded), stream.entry[11]):
            plain = stream.encoded[chunk.start : chunk.start + chunk.length]
            sealed, tag = stream_keys.seal(i, chunk.index, chunk.last, plain)
            ciphertext += sealed
            rows += table.row(tag, sealed)
        yield bytes(ciphertext), bytes(rows)


def seal(claims, context, streams, sign_seed, wrapping_keys, random=os.urandom, spare_rows=0, extensions=None):
    """The bytes of a capsule. `context` is the value of manifest key 2 without its streams;
    `claims.cti` and all secrets come from `random`. What the rules refuse is not sealed."""
    claims = envelope.Claims(**(vars(claims) | {"cti": random(16)}))
    streams = with_receipts(streams)
    context = context | {12: [s.entry for s in streams]}
    context_bytes = cbor.encode(context)
    secret, salt = random(32), random(32)
    ctx = schedule.context_digest(claims, context_bytes)
    stream_keys = schedule.StreamKeys.derive(context[1], secret, salt, ctx)

    parts = list(body(streams, stream_keys))
    rows = b"".join(r for _, r in parts) + bytes(ROW * spare_rows)
    measured = []
    for i, (ciphertext, stream_rows) in enumerate(parts):
        measured.append([schedule.u64(len(ciphertext)), table.digest(i, stream_rows)])
    entries = [recipients.of(key).entry(context[1], claims.cti, secret, random) for key in wrapping_keys]
    value = {
        1: 1,
        2: context,
        3: measured,
        4: {1: salt, 2: schedule.commitment(secret, salt, ctx), 3: entries},
        5: len(rows),
    }
    if extensions is not None:
        value[6] = extensions
    payload = cbor.encode(value)

    public = ed25519.public_key(sign_seed)
    protected = envelope.encode_header(keys.sign_key_id(public), claims)
    signature = ed25519.sign(sign_seed, envelope.signed_bytes(protected, payload))
    cose = envelope.encode(protected, payload, signature)
    frame = Prologue(len(cose), len(rows), sum(len(c) for c, _ in parts))
    capsule = b"".join(
        [
            frame.encode(),
            cose,
            bytes(frame.tables - frame.envelope_end),
            rows,
            bytes(frame.body - frame.tables - len(rows)),
            *(c for c, _ in parts),
        ]
    )
    # A request that a reader would refuse is refused here, by the reader's own rules.
    expected = verify.Expected(scope=None, subject=claims.sub, org=claims.org)
    verify.verify_header(capsule, [keys.Trusted(public, claims.iss)], claims.iat, expected)
    return capsule
