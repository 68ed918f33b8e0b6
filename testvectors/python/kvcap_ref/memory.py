"""What a verifier remembers (registry-v1 §5), for as long as the process lives."""

from .envelope import Claims
from .errors import require
from .schedule import b3, u32

SKEW = 60


def optional(text):
    """opt(x) of capsule-v1 §8.1."""
    if text is None:
        return b"\0"
    data = text if isinstance(text, bytes) else text.encode()
    return b"\1" + u32(len(data)) + data


class Memory:
    def __init__(self, latest=None):
        self.latest = latest or 0
        self.used = set()
        self.highest = {}

    def observe(self, now):
        """U-1: the time to judge by."""
        require(now + SKEW >= self.latest, 412, f"{now}, {self.latest} seen")
        self.latest = max(now, self.latest)
        return self.latest

    def record(self, claims: Claims):
        """U-4 and U-5, before the first byte of plaintext."""
        use = b3("kvcap v1 use", optional(claims.iss) + optional(claims.cti))
        parts = (claims.iss, claims.org, claims.sub)
        session = b3("kvcap v1 session", b"".join(optional(part) for part in parts))
        require(not (claims.single_use and use in self.used), 410)
        if claims.seq is not None:
            require(claims.seq >= self.highest.get(session, 0), 411, str(claims.seq))
            self.highest[session] = claims.seq
        if claims.single_use:
            self.used.add(use)


def record(memory, claims):
    """U-3: without a memory a capsule for one use is not opened."""
    if memory is None:
        require(not claims.single_use, 410, "there is no memory")
    else:
        memory.record(claims)
