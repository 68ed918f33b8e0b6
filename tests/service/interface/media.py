"""How schemathesis sends and reads the media types of a relay: as the bytes that they are."""

import json

import schemathesis


def raw(value: object) -> bytes:
    value = getattr(value, "data", value)
    if isinstance(value, bytes):
        return value
    return value.encode(errors="surrogatepass") if isinstance(value, str) else json.dumps(value).encode()


@schemathesis.serializer("application/vnd.kvcap", "application/partial-upload")
def send(_context: object, value: object) -> bytes:
    return raw(value)


@schemathesis.deserializer("application/vnd.kvcap")
def read(_context: object, response: schemathesis.Response) -> str:
    return response.content.decode("latin-1")
