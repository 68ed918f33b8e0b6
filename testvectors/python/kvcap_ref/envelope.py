"""The COSE_Sign1 of capsule-v1 §5: its four elements, the protected header and the claims."""

from dataclasses import dataclass

from . import cbor
from .errors import Refusal, require

ALG_ED25519 = -19
CONTENT_TYPE = "application/vnd.kvcap.manifest+cbor"
TYPE = "application/vnd.kvcap"
ALG, CRIT, CONTENT, KID, CLAIMS, TYP = 1, 2, 3, 4, 15, 16
KNOWN_LABELS = {ALG, CONTENT, KID, CLAIMS, TYP}

ISS, SUB, AUD, EXP, NBF, IAT, CTI, SCOPE = 1, 2, 3, 4, 5, 6, 7, 9
ORG, SEQ, SINGLE_USE, CAP = -70001, -70002, -70003, -70004
SESSION, VERSION, CURSOR = -70005, -70006, -70007
OPEN = {AUD, EXP, IAT, SCOPE}  # what a later header may change (lineage-v1 §1)
MAX_LIFETIME = 30 * 86_400


def is_text(value, least, most):
    """A text of `least` to `most` UTF-8 bytes without control characters."""
    if type(value) is not str or not least <= len(value.encode()) <= most:
        return False
    return not any(c < " " or "\x7f" <= c <= "\x9f" for c in value)


@dataclass(frozen=True)
class Claims:
    iss: str
    aud: str
    exp: int
    nbf: int
    iat: int
    cti: bytes
    scope: str
    sub: str | None = None
    org: str | None = None
    seq: int | None = None
    single_use: bool = False
    cap: int | None = None
    session: tuple | None = None  # (id, version, replay cursor)

    def __post_init__(self):
        # what sealers say who say nothing
        if self.cap is None:
            object.__setattr__(self, "cap", max(self.exp, self.iat + MAX_LIFETIME))

    def fixed(self):
        """What no later header changes, and enters the keys of the body (§9.1)."""
        return {key: claim for key, claim in self.encode().items() if key not in OPEN}

    def encode(self):
        claims = {ISS: self.iss, AUD: self.aud, EXP: self.exp, NBF: self.nbf, IAT: self.iat}
        claims |= {CTI: self.cti, SCOPE: self.scope, CAP: self.cap}
        once = 1 if self.single_use else None
        optional = {SUB: self.sub, ORG: self.org, SEQ: self.seq, SINGLE_USE: once}
        optional |= dict(zip((SESSION, VERSION, CURSOR), self.session or ()))
        return claims | {k: v for k, v in optional.items() if v is not None}


def parse_claims(value):
    """CAP-E-9."""
    require(type(value) is dict, 401, "claims are not a map")

    def text(x):
        return is_text(x, 1, 1024)

    def uint(x):
        return type(x) is int and x >= 0

    required = {ISS: text, AUD: text, EXP: uint, NBF: uint, IAT: uint, SCOPE: text, CAP: uint}
    required[CTI] = lambda x: type(x) is bytes and len(x) == 16
    optional = {SUB: text, ORG: text, SEQ: uint, SINGLE_USE: lambda x: type(x) is int and x == 1}
    optional |= {SESSION: text, VERSION: uint, CURSOR: uint}
    for key, claim in value.items():
        valid = (required | optional).get(key)
        require(valid is not None and valid(claim), 401, f"claim {key}")
    for key in required:
        require(key in value, 401, f"claim {key} is missing")
    of_session = [key in value for key in (SESSION, VERSION, CURSOR)]
    require(all(of_session) or not any(of_session), 401, "half a session")
    session = tuple(value[key] for key in (SESSION, VERSION, CURSOR)) if all(of_session) else None
    get = value.get
    needed = (value[k] for k in (ISS, AUD, EXP, NBF, IAT, CTI, SCOPE))
    return Claims(*needed, get(SUB), get(ORG), get(SEQ), SINGLE_USE in value, get(CAP), session)


@dataclass(frozen=True)
class Envelope:
    protected: bytes
    payload: bytes
    signature: bytes
    kid: bytes
    claims: Claims | None

    def signed(self):
        return signed_bytes(self.protected, self.payload)


def signed_bytes(protected, payload):
    """Sig_structure of CAP-E-10."""
    return cbor.encode(["Signature1", protected, b"", payload])


def _byte_string(reader, detached=210):
    """One byte string by CAP-E-2, CAP-E-4, CAP-E-5; `detached` is the code for null."""
    require(reader.pos < len(reader.data), 201, "envelope runs out of bytes")
    first = reader.data[reader.pos]
    if first >> 5 != cbor.BYTES:
        raise Refusal(detached if first == 0xF6 else 210, "not a byte string")
    return bytes(reader.take(reader.head()[1]))


def parse(data):
    """CAP-E-1 to CAP-E-9, without looking into the payload."""
    return parse_with(data, CONTENT_TYPE, TYPE, claims=True)


def parse_with(data, content, typ, claims):
    """The same for a document of another type, with or without claims."""
    reader = cbor.Decoder(data)
    require(reader.take(1)[0] == 0xD2, 210, "not tag 18")
    array = reader.take(1)[0]
    require(array != 0x9F, 202, "indefinite array")
    require(array == 0x84, 210, "not an array of four")
    protected = _byte_string(reader)
    require(protected, 214, "empty protected header")
    unprotected = reader.take(1)[0]
    if unprotected != 0xA0:
        raise Refusal(211 if unprotected >> 5 == cbor.MAP else 210, "unprotected header")
    payload = _byte_string(reader, detached=217)
    signature = _byte_string(reader)
    require(len(signature) == 64, 306, f"{len(signature)} bytes")
    reader.end()
    kid, claims = parse_header(protected, content, typ, claims)
    return Envelope(protected, payload, signature, kid, claims)


def parse_header(protected, content, typ, claims):
    """CAP-E-7 to CAP-E-9."""
    known = KNOWN_LABELS if claims else KNOWN_LABELS - {CLAIMS}

    def judge(label):
        require(label != CRIT, 215)
        require(label in known, 213, f"label {label}")

    require(protected[0] >> 5 == cbor.MAP, 210, "protected header is not a map")
    header, _ = cbor.decode_map(protected, 210, judge)
    for label in sorted(known):
        require(label in header, 214, f"label {label}")
    require(type(header[ALG]) is int and header[ALG] == ALG_ED25519, 212)
    require(header[CONTENT] == content and header[TYP] == typ, 216)
    require(type(header[KID]) is bytes and len(header[KID]) == 16, 301, "kid is not 16 bytes")
    return header[KID], parse_claims(header[CLAIMS]) if claims else None


def encode_header(kid, claims):
    header = {ALG: ALG_ED25519, CONTENT: CONTENT_TYPE, KID: kid, CLAIMS: claims.encode(), TYP: TYPE}
    return cbor.encode(header)


def encode(protected, payload, signature):
    return b"\xd2" + cbor.encode([protected, {}, payload, signature])
