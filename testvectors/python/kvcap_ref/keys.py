"""Keys, key files and trust (capsule-v1 §8)."""

import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from . import ed25519, recipients
from .envelope import is_text
from .errors import Refusal, require
from .schedule import b3

SECRET_SIGN, PUBLIC = "KVCAP-SECRET-SIGN-1", "kvcap-pub-1"
SECRET_WRAP, SECRET_HPKE, SECRET_XWING = "KVCAP-SECRET-WRAP-1", "KVCAP-SECRET-HPKE-1", "KVCAP-SECRET-XWING-1"
PUBLIC_HPKE, PUBLIC_XWING = "kvcap-hpke-1", "kvcap-xwing-1"
LOCKED = "KVCAP-SECRET-LOCKED-1"
SECRETS = {SECRET_WRAP: recipients.SYMMETRIC, SECRET_HPKE: recipients.X25519, SECRET_XWING: recipients.XWING}
PUBLICS = {PUBLIC_HPKE: recipients.X25519, PUBLIC_XWING: recipients.XWING}
LENGTHS = {PUBLIC_XWING: 1216}


def sign_key_id(public):
    return b3("kvcap v1 sign key id", public, 16)


def format_key(kind, key):
    checksum = b3("kvcap v1 key file", kind.encode() + key, 4)
    digits = (key + checksum).hex()
    return kind + (digits if kind.islower() else digits.upper())


ISSUER = "issuer: "


# the property White_Space; str.rstrip() alone takes U+001C to U+001F too
WHITE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"


def lines_of(text):
    lines = (line.rstrip(WHITE) for line in text.split("\n"))
    return [line for line in lines if line and not line.startswith("#")]


def key_line(text):
    lines = [line for line in lines_of(text) if not line.startswith(ISSUER)]
    require(len(lines) == 1, 942, f"{len(lines)} lines instead of one")
    return lines[0]


def own_issuer(public):
    """The issuer that a key speaks for where its file names none."""
    return f"key:{sign_key_id(public).hex()}"


def issuer_in(text):
    """The issuer that a signing key's file names, or None."""
    named = [line.removeprefix(ISSUER) for line in lines_of(text) if line.startswith(ISSUER)]
    require(len(named) <= 1, 942, "two issuers")
    for name in named:
        require(is_text(name, 1, 1024) and name[0] not in WHITE, 942, "an issuer that no capsule can state")
    return named[0] if named else None


def parse_key(text, kind):
    """The bytes of the one key line of a file (KVC-942)."""
    line, length = key_line(text), LENGTHS.get(kind, 32)
    digits = line.removeprefix(kind)
    require(line.startswith(kind) and len(digits) == 2 * (length + 4), 942, f"not a {kind} line")
    try:
        key = bytes.fromhex(digits)[:length]
    except ValueError:
        raise Refusal(942, "not base 16") from None
    require(format_key(kind, key) == line, 942, "wrong case or checksum")
    return key


def unlock(text, passphrase):
    """A secret key's file with its own line in the place of the one under a passphrase (KVC-942, 946)."""
    line = key_line(text)
    digits = line.removeprefix(LOCKED)
    require(line.startswith(LOCKED) and digits == digits.upper() and passphrase, 942 if passphrase else 946)
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        raise Refusal(942, "not base 16") from None
    require(len(data) >= 16 and " " not in digits, 942)
    kdf = Argon2id(salt=data[:16], length=32, iterations=3, lanes=4, memory_cost=64 << 10)
    try:
        key = ChaCha20Poly1305(kdf.derive(passphrase.encode())).decrypt(bytes(12), data[16:], LOCKED.encode())
    except InvalidTag:
        raise Refusal(946) from None
    try:
        return text.replace(line, key.decode())
    except UnicodeDecodeError:
        raise Refusal(942) from None


def _read(path):
    """(text, whether only the owner has access)"""
    try:
        with open(path, "rb") as file:
            private = os.name != "posix" or not os.fstat(file.fileno()).st_mode & 0o066
            return file.read(1 << 16).decode("utf-8"), private
    except OSError as error:
        raise Refusal(940, str(error)) from None
    except UnicodeDecodeError:
        raise Refusal(942, "not text") from None


def read_key(path, kind):
    text, private = _read(path)
    require(kind == PUBLIC or private, 943, path)
    key = parse_key(text, kind)
    if kind == PUBLIC:
        ed25519.check_public_key(key)
    return key


def read_trusted(path):
    """A public key and the issuer that it speaks for."""
    public, named = read_key(path, PUBLIC), issuer_in(_read(path)[0])
    return Trusted(public, named if named is not None else own_issuer(public))


def read_signer(path):
    """(seed, issuer) of a secret signing key's file."""
    seed, named = read_key(path, SECRET_SIGN), issuer_in(_read(path)[0])
    return seed, named if named is not None else own_issuer(ed25519.public_key(seed))


def read_recipient(path):
    """A wrapping key of any type, or a public key of type 2 or 3."""
    text, private = _read(path)
    line = key_line(text)
    for kind, number in PUBLICS.items():
        if line.startswith(kind):
            return recipients.Public(number, parse_key(text, kind))
    for kind, number in SECRETS.items():
        if line.startswith(kind):
            require(private, 943, path)
            return recipients.Secret(number, parse_key(text, kind))
    raise Refusal(942, "not a key of a recipient")


@dataclass(frozen=True)
class Trusted:
    """A public key that a verifier trusts, and how far."""

    public: bytes
    issuer: str
    suites: frozenset | None = None
    not_before: int = 0
    sign_until: int | None = None
    verify_until: int | None = None
    status: str = "active"
    for_capsules: bool = True

    def __post_init__(self):
        ed25519.check_public_key(self.public)

    @property
    def kid(self):
        return sign_key_id(self.public)

    def check_use(self, iat, now, suite, issuer):
        """CAP-K-3 and CAP-K-4."""
        require(iat >= self.not_before, 303, "issued before the key's window")
        require(self.sign_until is None or iat < self.sign_until, 303, "issued after the key's window")
        require(self.verify_until is None or now < self.verify_until, 303, "the key no longer verifies")
        require(self.for_capsules and (self.suites is None or suite in self.suites), 302)
        require(issuer == self.issuer, 312, f"{issuer!r}, not {self.issuer!r}")


def find(trust, kid):
    """CAP-K-1 and CAP-K-2."""
    require(len({key.kid for key in trust}) == len(trust), 311)
    for key in trust:
        if key.kid == kid:
            require(key.status != "compromised", 304)
            return key
    raise Refusal(301, kid.hex())
