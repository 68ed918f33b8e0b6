"""Everything wrong that can be handed in as a state, before a real engine: python -m live.attack KVCAP [--short]

Each is refused with its code, leaves no file, and the engine's slot is compared before and after, as it saves it itself.
How the relay answers each of the vectors with its own code, at its own time, is `cargo test -p kvcap-server`'s.
"""

import argparse
import json
import random
import socket
import tempfile
import threading
import time
from pathlib import Path

from . import environments, to_gguf
from .configured import CAPSULE, Home, resume, slot
from .gateway import smollm2, words

VECTORS = Path(__file__).resolve().parents[3] / "testvectors/vectors"
PARTIAL = "application/partial-upload"


class Attack:
    def __init__(self, home, gateway):
        self.home, self.gateway = home, gateway
        self.engine = gateway.engine()
        self.count = 0

    def before(self):
        self.slot, self.kept = slot(self.engine), self.home.kept()

    def after(self, what):
        if slot(self.engine) != self.slot:
            raise SystemExit(f"attack: {what}: the slot has changed")
        if self.home.kept() != self.kept:
            raise SystemExit(f"attack: {what}: something is left: {set(self.home.kept()) - set(self.kept)}")

    def refused(self, what, answer, *expected):
        """An answer is a refusal, one of these if any are named: a status, or a status and a code."""
        self.count += 1
        status, code = told(answer)
        if not 400 <= status < 500 or (expected and (status, code) not in expected and status not in expected):
            raise SystemExit(f"attack: {what}: {status} KVC-{code}, not {expected or 'refused'}")


def told(answer):
    problem = answer.headers.get("content-type") == "application/problem+json"
    return answer.status, json.loads(answer.body).get("code", 0) if problem else 0


def raw(gateway, head, body=b"", ends=True):
    """What comes back on a connection of one's own: the status, or 0 where it is closed."""
    host, port = gateway.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(f"{head}\r\nhost: gateway\r\nauthorization: Bearer {gateway.token}\r\n\r\n".encode() + body)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        said = b""
        while chunk := connection.recv(65536):
            said += chunk
    answers = [line for line in said.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    return [int(line.split()[1]) for line in answers]


def vectors(attack, most):
    index = json.loads((VECTORS / "manifest.json").read_text())["vectors"]
    for vector in index[:: max(1, len(index) // most)]:
        file = (VECTORS / vector["file"]).read_bytes()
        attack.refused(vector["name"], resume(attack.gateway, "good", file))
    attack.after("vectors")


def altered(attack, capsule, most):
    """A bit in every part, and cut in every part, with its true length and with another."""
    chance = random.Random(7)
    for at in [8, 13, 70, 200, 4100, len(capsule) - 5, *(chance.randrange(len(capsule)) for _ in range(most))]:
        wrong = bytearray(capsule)
        wrong[at] ^= 1 << chance.randrange(8)
        attack.refused(f"a bit at {at}", resume(attack.gateway, "good", bytes(wrong)), 403, 409, 422)
    for cut in [0, 1, 63, 64, 4095, 4096, *(chance.randrange(len(capsule)) for _ in range(most))]:
        attack.refused(f"cut at {cut}", resume(attack.gateway, "good", capsule[:cut]), 422)
        head = f"POST /v1/sessions/good/resume HTTP/1.1\r\ncontent-type: {CAPSULE}\r\ncontent-length: {len(capsule)}"
        attack.count += 1
        if [status for status in raw(attack.gateway, head, capsule[:cut]) if status < 400]:
            raise SystemExit(f"attack: cut at {cut}, another length: accepted")
    for at, length in ((12, 4), (16, 8), (24, 8)):
        wrong = capsule[:at] + b"\xff" * length + capsule[at + length :]
        attack.refused(f"a length at {at}", resume(attack.gateway, "good", wrong), (422, 105))
    attack.after("altered")


def ambiguous(attack):
    head = f"POST /v1/sessions/good/resume HTTP/1.1\r\ncontent-type: {CAPSULE}\r\n"
    for fields in (
        "content-length: 9223372036854775807",
        "content-length: 5\r\ncontent-length: 6",
        "content-length: +5",
        "content-length: 5, 6",
        "content-length : 5",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: xchunked",
        "content-length: 5\r\ntransfer-encoding: xchunked",
        "x\r\n: y",
    ):
        attack.count += 1
        behind = b"0\r\n\r\nPOST /v1/sessions/good/revert HTTP/1.1\r\ncontent-length: 0\r\n\r\n"
        answers = raw(attack.gateway, head + fields, behind)
        if len(answers) > 1 or [status for status in answers if status < 400]:
            raise SystemExit(f"attack: {fields!r}: {answers}")
    for name in ("..", "%2e%2e", "a%2Fb", "..%2F..%2Fcapsules", "%00", "good%0d%0a", "good/../good"):
        head = f"POST /v1/sessions/{name}/resume HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 2"
        attack.count += 1
        if answers := [status for status in raw(attack.gateway, head, b"{}") if not 400 <= status < 500]:
            raise SystemExit(f"attack: the name {name}: {answers}")
    for capsule in ("../../etc/passwd", "0" * 32, "0" * 31, "", "/" * 32):
        attack.refused(capsule, attack.gateway.ask("POST", "/v1/sessions/good/resume", {"capsule": capsule}), 404)
    attack.after("ambiguous")


def others(attack, capsule):
    for name, expected in (
        ("bob", (403, 406)),
        ("elsewhere", (403, 407)),
        ("restores", (403, 0)),
        ("operator", (403, 0)),
    ):
        answer = resume(attack.gateway.by(attack.home.tokens[name]), "good", capsule)
        attack.refused(f"by {name}", answer, expected)
    attack.refused("by nobody", resume(attack.gateway.by("x"), "good", capsule), (401, 0))
    attack.after("others")
    # it is kept for its owner, whose other session is not the capsule's
    attack.refused("another session", resume(attack.gateway, "else", capsule), (403, 413))
    if slot(attack.engine) != attack.slot:
        raise SystemExit("attack: another session: the slot has changed")


def slow(attack, capsule):
    """Who sends nothing more is told and let go."""
    head = f"POST /v1/sessions/good/resume HTTP/1.1\r\ncontent-type: {CAPSULE}\r\ncontent-length: {len(capsule)}"
    for sent in (0, 100, len(capsule) - 1):
        attack.count += 1
        if (answers := raw(attack.gateway, head, capsule[:sent], ends=False)) != [408]:
            raise SystemExit(f"attack: silent after {sent}: {answers}")
    attack.after("slow")


def late(attack, capsule):
    """An upload that goes on after the capsule's expiry, and after its revocation."""
    begins = time.monotonic()
    expiring = attack.home.sealed(capsule, "good", "8s")
    upload = begin(attack, expiring)
    revoked = attack.home.sealed(capsule, "good", "1h")
    other = begin(attack, revoked)
    capsule = attack.home.run("inspect", "sealed.kvcap")["unverified"]["capsule_id"]
    attack.home.run("registry", "revoke", "keys.kvreg", capsule, "--root-key", "root.key")
    attack.refused("an upload that goes on after revocation", append(attack, other, revoked), (403, 409))
    attack.refused("one that begins after it", resume(attack.gateway, "good", revoked), (403, 409))
    time.sleep(max(0, 9 - (time.monotonic() - begins)))
    attack.refused("an upload that goes on after expiry", append(attack, upload, expiring), (403, 402))
    attack.refused("one that begins after it", resume(attack.gateway, "good", expiring), (403, 402))
    attack.after("late")


def begin(attack, file):
    fields = {"content_type": CAPSULE, "upload_complete": "?0"}
    begun = attack.gateway.ask("POST", "/v1/capsules", file[: len(file) // 2], **fields)
    if begun.status != 201:
        raise SystemExit(f"attack: an upload in parts does not begin: {told(begun)}")
    return begun.headers["location"]


def append(attack, upload, file):
    at = len(file) // 2
    fields = {"content_type": PARTIAL, "upload_offset": str(at), "upload_complete": "?1"}
    return attack.gateway.ask("PATCH", upload, file[at:], **fields)


def once(attack, capsule):
    """A capsule for one use, by sixteen connections at once, and again."""
    file = attack.home.single_use(capsule, "once")
    put = attack.gateway.ask("POST", "/v1/capsules", file, content_type=CAPSULE)
    body = {"capsule": json.loads(put.body)["id"]}
    answers = [None] * 16

    def use(number):
        answers[number] = told(attack.gateway.ask("POST", "/v1/sessions/once/resume", body))

    threads = [threading.Thread(target=use, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    attack.count += 16
    if sorted(answers) != [(200, 0)] + [(403, 410)] * 15:
        raise SystemExit(f"attack: one use by sixteen: {answers}")
    attack.before()
    attack.refused("used again", attack.gateway.ask("POST", "/v1/sessions/once/resume", body), (403, 410))
    attack.refused("uploaded again", resume(attack.gateway, "once", file), (403, 410))
    attack.after("once")


def main():
    parser = argparse.ArgumentParser(prog="tests/live/run --attack")
    parser.add_argument("kvcap", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--attack", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--short", action="store_true", help="a small model, some of the vectors")
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model, length, most = smollm2(), 400, 10_000
        if arguments.short:
            model, length, most = folder / "small.gguf", 100, 60
            to_gguf.convert(environments.MODEL, model)
        home = Home(arguments.kvcap, model, folder, limits='silence = "1s"')
        gateway = home.start()
        gateway.complete("good", words(length), 1)
        capsule = gateway.ask("POST", "/v1/sessions/good/checkpoint", accept=CAPSULE).body
        attack = Attack(home, gateway)
        attack.before()
        vectors(attack, most)
        altered(attack, capsule, 6 if arguments.short else 60)
        ambiguous(attack)
        slow(attack, capsule)
        late(attack, capsule)
        others(attack, capsule)
        # what was attacked goes on as if nothing had been
        after = gateway.complete("good", words(length) + " And then", 4)
        if (after.status, after.source, after.rung) != (200, "slot", "exact"):
            raise SystemExit(f"attack: the session does not go on: {after.headers}")
        once(attack, capsule)
        gateway.end()
    seconds = time.monotonic() - began
    print(f"attack: {attack.count} attacks refused, the slot as it was, nothing left; {seconds:.0f} s")


if __name__ == "__main__":
    main()
