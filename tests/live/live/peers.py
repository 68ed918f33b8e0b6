"""What a paused conversation costs after a restart, by everything that keeps one: python -m live.peers KVCAP [--short]

A conversation of one long turn is answered, all processes end, new ones start, and its second turn is asked. What is
measured is the time from then to the first word: the loading of the model is not in it. Then its first turn is edited
near its end. Every way takes each run in turn, so that they share what else the machine does.
"""

import argparse
import hashlib
import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from live import llama_server, report
from live.pages import free_port

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "docs/results/server.md"
PAGE = ROOT / "spec/capsule-v1.md"
CONTEXT, STEPS = 4096, 16
#: characters of the page in the first turn; of them all but the last few are common to the edited one
LONG, SHORT = 7600, 900
SYSTEM = {"role": "system", "content": "Answer in one short sentence."}
BEGIN, END = "<!-- peers -->\n", "<!-- /peers -->\n"


def conversation(length, edited):
    text = PAGE.read_text()[:length]
    first = f"{text}\n\nWhat is this {'page' if edited else 'text'} about?"
    return {"role": "user", "content": first}


SECOND = {"role": "user", "content": "Say it in other words."}


@dataclass
class Answer:
    text: str
    #: seconds to the first word
    first: float
    #: tokens of the prompt that were evaluated, by llama-server's count
    evaluated: int


def stream(address, messages, token=None):
    """A chat's answer."""
    body = {"model": "m", "messages": messages, "max_tokens": STEPS, "temperature": 0, "stream": True}
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    connection = http.client.HTTPConnection(address, timeout=600)
    started, first, words, evaluated = time.perf_counter(), None, [], 0
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(f"{address}: {response.status} {response.read()[:500]}")
    for line in response:
        data = line.strip().removeprefix(b"data: ")
        if not line.startswith(b"data: ") or data == b"[DONE]":
            continue
        event = json.loads(data)
        choices, evaluated = event["choices"], event.get("timings", {}).get("prompt_n", evaluated)
        word = choices[0]["delta"].get("content") if choices else None
        if word:
            first = first or time.perf_counter() - started
            words.append(word)
    connection.close()
    return Answer("".join(words), first, evaluated)


class Server:
    """llama-server at a port, as every way has it."""

    def __init__(self, model, slots, keep_prompts=False):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        command = [llama_server.newest.binary_path(), "-m", model, "-c", CONTEXT, "-np", 1, "-t", os.cpu_count()]
        command += ["--device", "none", "--no-ui", "--port", self.port, "--slot-save-path", f"{slots}/"]
        command += [] if keep_prompts else ["--cache-ram", 0]
        self.process = subprocess.Popen(
            list(map(str, command)),
            env=llama_server.newest.launch_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until_healthy(self.address, self.process)

    def post(self, path, **body):
        connection = http.client.HTTPConnection(self.address, timeout=600)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status} {content[:500]}")
        return json.loads(content)

    def stop(self):
        self.process.kill()
        self.process.wait()


def until_healthy(address, process):
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args[0]} ended with {process.returncode}")
        try:
            connection = http.client.HTTPConnection(address, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)


class Cold:
    """llama-server, which keeps nothing."""

    name = "computed again"

    def __init__(self, model, folder, kvcap):
        self.model, self.folder = model, folder

    def start(self):
        self.server = Server(self.model, self.folder)

    def stop(self):
        self.server.stop()

    def save(self):
        pass

    def ask(self, messages):
        return stream(self.server.address, messages)


class Slot(Cold):
    """llama-server's own slot files, by a client that knows the right one."""

    name = "llama-server's slot files"

    def save(self):
        self.server.post("/slots/0?action=save", filename="state.bin")
        self.saved = True

    def ask(self, messages):
        before = 0
        if getattr(self, "saved", False):
            started = time.perf_counter()
            self.server.post("/slots/0?action=restore", filename="state.bin")
            before = time.perf_counter() - started
        answer = stream(self.server.address, messages)
        answer.first += before
        return answer


class Hearth:
    """hearth-llm, a proxy with plain snapshots."""

    name = "hearth-llm 0.1.1"

    def __init__(self, model, folder, kvcap):
        self.model, self.folder = model, folder
        (folder / "bin").mkdir()
        (folder / "bin/llama-server").symlink_to(llama_server.newest.binary_path())

    def start(self):
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        path = f"{self.folder}/bin{os.pathsep}{os.environ['PATH']}"
        command = [Path(sys.executable).parent / "hearth", "serve", "--model", self.model, "--port", port]
        command += ["--upstream-port", free_port(), "--ctx", CONTEXT, "--cache-dir", self.folder / "cache"]
        command += ["--", "-t", os.cpu_count(), "--device", "none", "--no-ui"]
        self.process = subprocess.Popen(
            list(map(str, command)),
            env=(llama_server.newest.launch_environment() or os.environ) | {"PATH": path},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until_healthy(self.address, self.process)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()

    def save(self):
        """It saves after the answer, in its own time."""
        saved = self.folder / "cache/manifest.json"
        while not saved.exists() or not any((self.folder / "cache").glob("*.kv")):
            time.sleep(0.05)
        time.sleep(0.5)

    def ask(self, messages):
        return stream(self.address, messages)


class Stillwarm:
    """stillwarm, a library with plain saves and a sidecar."""

    name = "stillwarm 0.1.1"

    def __init__(self, model, folder, kvcap):
        self.model, self.folder = model, folder
        self.digest = hashlib.sha256(Path(model).read_bytes()).hexdigest()

    def start(self):
        import stillwarm

        self.server = Server(self.model, self.folder)
        self.client = stillwarm.LlamaServer(f"http://{self.server.address}")
        profile = stillwarm.ServerProfile(
            model_sha256=self.digest,
            flash_attn="on",
            cache_type_k="f16",
            cache_type_v="f16",
            swa_full=False,
            ctx_size=CONTEXT,
        )
        self.session = stillwarm.Session(self.client, profile, cache_dir=self.folder)

    def stop(self):
        self.server.stop()

    def save(self):
        self.saved = True

    def prompt(self, messages):
        return self.server.post("/apply-template", messages=messages)["prompt"]

    def ask(self, messages):
        prompt = self.prompt(messages)
        if not getattr(self, "saved", False):
            return Answer(self.session.ask("session", prompt, n_predict=STEPS).content, 0, 0)
        started = time.perf_counter()
        self.session.restore("session")
        timings = self.client.completion(prompt, 1)["timings"]
        first = time.perf_counter() - started
        return Answer(self.client.completion(prompt, STEPS)["content"], first, timings["prompt_n"])


class Kvcap:
    """The gateway: sealed, verified, and found without a name."""

    name = "kvcap serve"

    def __init__(self, model, folder, kvcap):
        self.model, self.folder, self.kvcap = model, folder, kvcap

    def start(self):
        from live.gateway import Gateway

        threads = ("-t", str(os.cpu_count()), "--device", "none")
        self.gateway = Gateway(self.kvcap, self.model, self.folder, CONTEXT, threads)

    def stop(self):
        self.gateway.process.send_signal(signal.SIGTERM)
        self.gateway.process.wait()

    def save(self):
        """It saves what it holds when it is told to end."""

    def ask(self, messages):
        return stream(self.gateway.address, messages, self.gateway.token)


WAYS = (Cold, Slot, Hearth, Stillwarm, Kvcap)


def measure(way, length, folder, model, kvcap):
    """The second turn after a restart, and with its first turn edited, both from what the first one left."""
    place, kept = folder / "way", folder / "kept"
    place.mkdir()
    one = way(model, place, kvcap)
    answers = []
    one.start()
    try:
        first = one.ask([SYSTEM, conversation(length, edited=False)])
        one.save()
    finally:
        one.stop()
    place.rename(kept)
    for edited in (False, True):
        shutil.copytree(kept, place, symlinks=True)
        one.start()
        try:
            now = conversation(length, edited=edited)
            answers.append(one.ask([SYSTEM, now, {"role": "assistant", "content": first.text}, SECOND]))
        finally:
            one.stop()
        shutil.rmtree(place)
    return answers


def main():
    parser = argparse.ArgumentParser(prog="tests/live/run --peers")
    parser.add_argument("kvcap", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--peers", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--short", action="store_true", help="a short turn, once, nothing written")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--way", action="append", help="these ways alone, nothing written")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    model = llama_server.smollm2()
    length, runs = (SHORT, 1) if arguments.short else (LONG, arguments.runs)
    ways = [way for way in WAYS if not arguments.way or way.name.split()[0] in arguments.way]
    found = {way: [] for way in ways}
    load = os.getloadavg()[0]
    for run in range(runs):
        for way in ways:
            with tempfile.TemporaryDirectory() as folder:
                answers = measure(way, length, Path(folder), model, arguments.kvcap)
            found[way].append(answers)
            for edited, answer in zip(("", ", edited"), answers):
                said = f"{answer.first:.2f} s, {answer.evaluated} tokens evaluated, {answer.text!r}"
                print(f"run {run + 1}: {way.name}{edited}: {said}", file=sys.stderr, flush=True)
    rows = table(found)
    print(rows)
    if not arguments.short and not arguments.way:
        write(rows, length, runs, (load, os.getloadavg()[0]))


def table(found):
    def shown(answers):
        times = [answer.first for answer in answers]
        evaluated = statistics.median(answer.evaluated for answer in answers)
        return f"{statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f}) | {evaluated:.0f}"

    head = "| | second turn after a restart | evaluated | with its first turn edited | evaluated | encrypted, verified |\n"
    kept = {Cold: "nothing is kept", Kvcap: "yes"}
    return f"{head}|---|---|---|---|---|---|\n" + "".join(
        f"| {way.name} | {' | '.join(map(shown, zip(*runs)))} | {kept.get(way, 'no')} |\n" for way, runs in found.items()
    )


def write(rows, length, runs, loads):
    """Its part of the page of results, in the place of the one that was there."""
    text = RESULTS.read_text() if RESULTS.exists() else "# Results: the server\n"
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    part = f"""## Beside what keeps conversations unprotected

`tests/live/run --peers`: SmolLM2-135M-Instruct in llama-server {llama_server.VERSION}, {length:,} characters of the specification in the first turn. All
processes end, new ones start and load the model, and the second turn is asked: seconds from then to its first word, median of {runs} runs, lowest and highest, and the tokens that llama-server evaluated.
Every way took each run in turn. Load of the machine at the beginning {loads[0]:.1f}, at the end {loads[1]:.1f}; {report.machine(llama_server.PACKAGES)}

{rows}
"""
    RESULTS.write_text(before.rstrip() + "\n\n" + BEGIN + part + END + after)


if __name__ == "__main__":
    main()
