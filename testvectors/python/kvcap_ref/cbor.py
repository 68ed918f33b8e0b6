"""The CBOR profile of capsule-v1 §5.1: a strict decoder, and an encoder of the one form it accepts."""

from .errors import Refusal, require

MAX_DEPTH = 8
MAX_ITEMS = 262_144

UINT, NINT, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)


class Decoder:
    """Reads one item from first byte to last; the first broken rule gives the code."""

    def __init__(self, data):
        self.data = data
        self.pos = 0
        self.items = 0

    def take(self, n):
        require(n <= len(self.data) - self.pos, 201, "runs out of bytes")
        self.pos += n
        return self.data[self.pos - n : self.pos]

    def head(self):
        """(major type, argument) of the next head. The order of the checks is that of §5.1."""
        first = self.take(1)[0]
        major, info = first >> 5, first & 31
        if info >= 28:
            indefinite = info == 31 and major in (BYTES, TEXT, ARRAY, MAP)
            raise Refusal(202 if indefinite else 201, "indefinite length" if indefinite else "reserved head")
        require(major != TAG, 205, "tag")
        require(major != SIMPLE or info in (20, 21), 205, "float or simple value")
        if info >= 24:
            width = 1 << (info - 24)
            value = int.from_bytes(self.take(width), "big")
            require(value >= (24 if width == 1 else 1 << 4 * width), 202, "not the shortest form")
        else:
            value = info
        self.items += 1
        require(self.items <= MAX_ITEMS, 204, "too many items")
        return major, value

    def count(self, n, depth):
        require(depth <= MAX_DEPTH, 204, "nested too deep")
        require(n <= MAX_ITEMS - self.items, 204, "too many items")

    def item(self, depth=1):
        """The next item; `depth` is the one that it has if it is an array or map."""
        major, arg = self.head()
        if major == UINT:
            return arg
        if major == NINT:
            return -1 - arg
        if major == BYTES:
            return bytes(self.take(arg))
        if major == TEXT:
            return self.text(arg)
        if major == ARRAY:
            self.count(arg, depth)
            return [self.item(depth + 1) for _ in range(arg)]
        if major == MAP:
            self.count(2 * arg, depth)
            return {key: self.item(depth + 1) for key in self.keys(arg, depth)}
        return arg == 21

    def text(self, length):
        try:
            return bytes(self.take(length)).decode("utf-8", "strict")
        except UnicodeDecodeError:
            raise Refusal(201, "text is not UTF-8") from None

    def keys(self, n, depth=1):
        """Yields each of n keys, which the caller answers by reading its value."""
        last = None
        for _ in range(n):
            start = self.pos
            key = self.item(depth + 1)
            require(type(key) in (int, str), 205, "map key is neither integer nor text")
            encoded = bytes(self.data[start : self.pos])
            require(encoded != last, 203, "key stands twice")
            require(last is None or encoded > last, 202, "keys out of order")
            last = encoded
            yield key

    def end(self):
        require(self.pos == len(self.data), 206, "bytes follow the item")


def decode(data):
    """The value of exactly one item."""
    decoder = Decoder(data)
    value = decoder.item()
    decoder.end()
    return value


def decode_map(data, not_a_map, judge=lambda key: None):
    """(value, raw bytes of each value) of one map. `judge` sees a key before its value is read."""
    decoder = Decoder(data)
    if data and data[0] >> 5 != MAP:
        decode(data)
        raise Refusal(not_a_map, "not a map")
    _, n = decoder.head()
    decoder.count(2 * n, 1)
    value, raw = {}, {}
    for key in decoder.keys(n):
        judge(key)
        start = decoder.pos
        value[key] = decoder.item(2)
        raw[key] = bytes(data[start : decoder.pos])
    decoder.end()
    return value, raw


def encode_head(major, arg):
    if arg < 24:
        return bytes([major << 5 | arg])
    for info, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if arg < 1 << (8 * width):
            return bytes([major << 5 | info]) + arg.to_bytes(width, "big")
    raise ValueError("integer of more than 64 bits")


def encode(value):
    """The deterministic encoding of ints, bytes, text, lists, dicts and bools."""
    if type(value) is bool:
        return b"\xf5" if value else b"\xf4"
    if type(value) is int:
        return encode_head(UINT, value) if value >= 0 else encode_head(NINT, -1 - value)
    if type(value) is bytes:
        return encode_head(BYTES, len(value)) + value
    if type(value) is str:
        encoded = value.encode()
        return encode_head(TEXT, len(encoded)) + encoded
    if type(value) in (list, tuple):
        return encode_head(ARRAY, len(value)) + b"".join(map(encode, value))
    if type(value) is dict:
        pairs = sorted((encode(k), encode(v)) for k, v in value.items())
        return encode_head(MAP, len(value)) + b"".join(k + v for k, v in pairs)
    raise TypeError(f"no CBOR form for {type(value)}")
