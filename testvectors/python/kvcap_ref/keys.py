"""Keys, key files and trust (capsule-v1 §7)."""

import os
from dataclasses import dataclass

from . import ed25519
from .errors import Refusal, require
from .schedule import b3

SECRET_SIGN, SECRET_WRAP, PUBLIC = "KVCAP-SECRET-SIGN-1", "KVCAP-SECRET-WRAP-1", "kvcap-pub-1"


def sign_key_id(public):
    return b3("kvcap v1 sign key id", public, 16)


def wrap_key_id(wrapping_key):
    return b3("kvcap v1 wrap key id", wrapping_key, 16)


def hpke_key_id(public):
    return b3("kvcap v1 hpke key id", public, 16)


def format_key(kind, key):
    checksum = b3("kvcap v1 key file", kind.encode() + key, 4)
    digits = (key + checksum).hex()
    return kind + (digits if kind == PUBLIC else digits.upper())


def parse_key(text, kind):
    """The 32 bytes of the one key line of a file (KVC-942)."""
    lines = [line for line in text.split("\n") if line and not line.startswith("#")]
    require(len(lines) == 1, 942, f"{len(lines)} lines instead of one")
    digits = lines[0].removeprefix(kind)
    require(lines[0].startswith(kind) and len(digits) == 72, 942, f"not a {kind} line")
    try:
        key = bytes.fromhex(digits)[:32]
    except ValueError:
        raise Refusal(942, "not base 16") from None
    require(format_key(kind, key) == lines[0], 942, "wrong case or checksum")
    return key


def read_key(path, kind):
    try:
        with open(path, "rb") as file:
            if kind != PUBLIC and os.name == "posix":
                mode = os.fstat(file.fileno()).st_mode
                require(not mode & 0o066, 943, path)
            text = file.read(1 << 16).decode("utf-8")
    except OSError as error:
        raise Refusal(940, str(error)) from None
    except UnicodeDecodeError:
        raise Refusal(942, "not text") from None
    key = parse_key(text, kind)
    if kind == PUBLIC:
        ed25519.check_public_key(key)
    return key


@dataclass(frozen=True)
class Trusted:
    """A public key that a verifier trusts, and how far."""

    public: bytes
    issuer: str | None = None
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
        """K-3 and K-4."""
        require(iat >= self.not_before, 303, "issued before the key's window")
        require(self.sign_until is None or iat < self.sign_until, 303, "issued after the key's window")
        require(self.verify_until is None or now < self.verify_until, 303, "the key no longer verifies")
        require(self.for_capsules and (self.suites is None or suite in self.suites), 302)
        require(self.issuer is None or issuer == self.issuer, 312, f"{issuer!r}, not {self.issuer!r}")


def find(trust, kid):
    """K-1 and K-2."""
    require(len({key.kid for key in trust}) == len(trust), 311)
    for key in trust:
        if key.kid == kid:
            require(key.status != "compromised", 304)
            return key
    raise Refusal(301, kid.hex())
