"""kill -9 of a gateway and of its engine at random, under load: python -m live.killed KVCAP [SECONDS] [--short]

What was acknowledged is there after every kill: checkpoints by what they restore, capsules to the last byte, and at the
end all of them verify. What may be used once is not used twice.
"""

import argparse
import hashlib
import http.client
import json
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from . import environments, to_gguf
from .configured import CAPSULE, Home
from .gateway import smollm2, words

#: what a client sees of a server that is killed
GONE = (OSError, http.client.HTTPException)
#: capsules that are kept at once: the oldest is deleted then
MOST = 40
#: seconds in which a gateway acknowledges something, on a machine with much else to do
PATIENCE = 60
#: without one of each a run has shown nothing
ACKNOWLEDGED = ("checkpoints", "capsules", "uses", "sessions that went on after a kill")


class Told:
    """What was acknowledged, and what follows from it."""

    def __init__(self):
        self.lock = threading.Lock()
        self.checkpoints = {}  # session: (version, positions, text)
        self.kept = {}  # path: digest
        self.asked = set()  # paths whose deletion was asked for
        self.uses = {}  # id: [session, uses]
        self.counts = Counter()


class Load:
    """Clients until the server is gone."""

    def __init__(self, home, gateway, told, number, length):
        self.home, self.gateway, self.told, self.number, self.length = home, gateway, told, number, length
        self.faults = []

    def threads(self):
        return [threading.Thread(target=self.until_gone, args=work) for work in (
            (self.converses, 0), (self.converses, 1), (self.uses_once, 2),
        )]

    def until_gone(self, work, number):
        try:
            for turn in range(10**6):
                work(f"{self.number}-{number}", turn)
        except GONE:
            pass
        except Exception as fault:
            self.faults.append(fault)

    def ask(self, *arguments, **headers):
        """An answer; an engine that stops is waited for."""
        while (answer := self.gateway.ask(*arguments, **headers)).status == 503:
            self.told.counts["503"] += 1
        if answer.status >= 500:
            raise RuntimeError(f"{arguments[:2]}: {answer.status} {answer.body[:300]!r}")
        return answer

    def complete(self, session, text):
        body = {"prompt": text, "max_tokens": 4, "temperature": 0, "prompt_cache_key": session}
        return self.ask("POST", "/v1/completions", body)

    def converses(self, name, turn):
        session = f"talk-{name}-{turn // 6}"
        text = f"{session} {words(self.length, turn // 6)}" + " And what follows from it?" * (turn % 6)
        answer = self.complete(session, text)
        if answer.status != 200:
            raise RuntimeError(f"a completion: {answer.status} {answer.body[:300]!r}")
        path = f"/v1/sessions/{session}/checkpoint"
        saved = self.ask("POST", path)
        if saved.status in (200, 201):
            record = json.loads(saved.body)
            with self.told.lock:
                self.told.checkpoints[session] = (record["version"], record["state"]["positions"], text)
                self.told.counts["checkpoints"] += 1
        # from the first turn on: on a slow machine there may be no third before the kill
        if turn % 3 == 0 and (taken := self.ask("POST", path, accept=CAPSULE)).status == 201:
            self.puts(taken.body)

    def puts(self, capsule):
        put = self.ask("POST", "/v1/capsules", capsule, content_type=CAPSULE)
        if put.status not in (200, 201):
            raise RuntimeError(f"a capsule is not taken: {put.status} {put.body[:300]!r}")
        with self.told.lock:
            self.told.kept[put.headers["location"]] = hashlib.sha256(capsule).hexdigest()
            self.told.counts["capsules"] += 1
            oldest = next((path for path in self.told.kept if path not in self.told.asked), None)
            if len(self.told.kept) - len(self.told.asked) <= MOST:
                return
            self.told.asked.add(oldest)
        if self.ask("DELETE", oldest).status != 204:
            raise RuntimeError(f"{oldest} is not deleted")

    def uses_once(self, name, turn):
        session = f"once-{name}-{turn}"
        self.complete(session, f"{session} {words(20, turn)}")
        taken = self.ask("POST", f"/v1/sessions/{session}/checkpoint", accept=CAPSULE)
        if taken.status != 201:
            return
        put = self.ask("POST", "/v1/capsules", self.home.single_use(taken.body, session), content_type=CAPSULE)
        capsule = json.loads(put.body)["id"]
        with self.told.lock:
            self.told.uses[capsule] = [session, 0]
        both = [threading.Thread(target=self.use, args=(capsule,)) for _ in range(2)]
        for one in both:
            one.start()
        for one in both:
            one.join()

    def use(self, capsule):
        try:
            session = self.told.uses[capsule][0]
            answer = self.ask("POST", f"/v1/sessions/{session}/resume", {"capsule": capsule})
        except GONE:
            return
        except Exception as fault:
            self.faults.append(fault)
            return
        with self.told.lock:
            if answer.status == 200:
                self.told.uses[capsule][1] += 1
                self.told.counts["uses"] += 1
            elif json.loads(answer.body)["code"] != 410:
                self.faults.append(RuntimeError(f"a use: {answer.status} {answer.body[:300]!r}"))


def check(load, told):
    """All that was acknowledged is so still."""
    for path, digest in told.kept.items():
        answer = load.ask("GET", path)
        if path in told.asked and answer.status == 404:
            continue
        if answer.status != 200 or hashlib.sha256(answer.body).hexdigest() != digest:
            raise SystemExit(f"killed: {path} was acknowledged: {answer.status}")
    for session, (version, positions, text) in told.checkpoints.items():
        record = json.loads(load.ask("GET", f"/v1/sessions/{session}").body)["checkpoint"]
        if record["version"] < version:
            raise SystemExit(f"killed: {session}: version {record['version']}, and {version} was acknowledged")
        answer = load.complete(session, text + " And what follows from it?")
        # what was made after the text is another's continuation: the text itself is in every later state
        least = min(positions, record["state"]["positions"]) - 4
        if answer.restored < least:
            raise SystemExit(f"killed: {session}: {answer.restored} restored of {least}: {answer.headers}")
        told.counts["sessions that went on after a kill"] += 1
    told.checkpoints.clear()
    for capsule, use in list(told.uses.items()):
        answer = load.ask("POST", f"/v1/sessions/{use[0]}/resume", {"capsule": capsule})
        use[1] += answer.status == 200
        if use[1] > 1 or (answer.status != 200 and json.loads(answer.body)["code"] != 410):
            raise SystemExit(f"killed: {capsule} for one use: {use[1]} uses, {answer.status} {answer.body[:200]!r}")


def acknowledged(told):
    return sum(told.counts[what] for what in ACKNOWLEDGED)


def main():
    parser = argparse.ArgumentParser(prog="tests/live/run --killed")
    parser.add_argument("kvcap", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--killed", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--short", action="store_true", help="a small model")
    parser.add_argument("--seconds", type=int, help="600, or 20 in short")
    arguments = parser.parse_args()
    chance, told, began = random.Random(), Told(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model, length, seconds = smollm2(), 60, arguments.seconds or 600
        if arguments.short:
            model, length, seconds = folder / "small.gguf", 30, arguments.seconds or 20
            to_gguf.convert(environments.MODEL, model)
        home = Home(arguments.kvcap, model, folder)
        number = 0
        while time.monotonic() - began < seconds:
            gateway = home.start()
            load = Load(home, gateway, told, number, length)
            check(load, told)
            threads = load.threads()
            before = acknowledged(told)
            for thread in threads:
                thread.start()
            # every other gateway lives until it has acknowledged something, the others may end before that
            patience = time.monotonic() + PATIENCE * (number % 2)
            while acknowledged(told) == before and time.monotonic() < patience:
                time.sleep(0.05)
            # the engine some times, and then what it is before
            for _ in range(chance.randrange(3)):
                time.sleep(chance.uniform(0.3, 4))
                try:
                    os.kill(gateway.engine(), signal.SIGKILL)
                    told.counts["kills of the engine"] += 1
                except (IndexError, OSError):
                    pass  # it is being started again
            time.sleep(chance.uniform(0.3, 4))
            gateway.process.kill()
            gateway.process.wait()
            told.counts["kills of the gateway"] += 1
            for thread in threads:
                thread.join()
            if load.faults:
                raise SystemExit(f"killed: {load.faults[0]}")
            number += 1
        gateway = home.start()
        check(Load(home, gateway, told, number, length), told)
        gateway.end()
        verified = 0
        for path in [*(folder / "capsules").rglob("*.kvcap"), *(folder / "sessions").rglob("*.kvcap")]:
            home.verify(path)
            verified += 1
        left = list(folder.rglob("*.tmp"))
    took = time.monotonic() - began
    print(f"killed: {took:.0f} s; " + ", ".join(f"{count} {what}" for what, count in sorted(told.counts.items())))
    if missing := [what for what in ACKNOWLEDGED if not told.counts[what]]:
        raise SystemExit(f"killed: nothing was tried: no {', no '.join(missing)}")
    print(f"killed: {len(told.uses)} for one use, none used twice; {verified} capsules verify; {len(left)} .tmp left")


if __name__ == "__main__":
    main()
