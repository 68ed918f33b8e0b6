"""What a verifier remembers (registry-v1 §5), for as long as the process lives."""

from .errors import require
from .schedule import b3, u32

SKEW = 60
STEP = 86_400


def optional(text):
    """opt(x) of capsule-v1 §9.1."""
    if text is None:
        return b"\0"
    data = text.encode()
    return b"\1" + u32(len(data)) + data


class Memory:
    def __init__(self, latest=None):
        self.latest = latest or 0
        self.used = set()
        self.highest = {}

    def observe(self, now):
        """REG-U-1: the time to judge by; a step of more than a day is not remembered."""
        require(now + SKEW >= self.latest, 412, f"{now}, {self.latest} seen")
        if 0 < now - self.latest <= STEP:
            self.latest = now
        return max(now, self.latest)

    def confirm(self, time):
        """REG-U-1: a capsule's header has passed at this time."""
        self.latest = max(time, self.latest)

    def record(self, header):
        """REG-U-4 and REG-U-5, before the first byte of plaintext."""
        claims = header.claims
        use = b3("kvcap v1 use", header.ctx)
        parts = (claims.iss, claims.org, claims.sub, claims.session and claims.session[0])
        session = b3("kvcap v1 session", b"".join(optional(part) for part in parts))
        require(not (claims.single_use and use in self.used), 410)
        if claims.seq is not None:
            require(claims.seq >= self.highest.get(session, 0), 411, str(claims.seq))
            self.highest[session] = claims.seq
        if claims.single_use:
            self.used.add(use)


def record(memory, header):
    """REG-U-3: without a memory a capsule for one use is not opened."""
    if memory is None:
        require(not header.claims.single_use, 410, "there is no memory")
    else:
        memory.record(header)
