"""Ways to keep a conversation of llama-server's: nothing, its own slot files, unprotected peers, and the gateway.

Every one answers a chat, lets another conversation take its slot, and goes on; what is measured is the time from the
question to the first word.
"""

import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from live import llama_server
from live.pages import free_port

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "spec/capsule-v1.md"
CONTEXT, STEPS = 4096, 16
SYSTEM = {"role": "system", "content": "Answer in one short sentence."}
SECOND = {"role": "user", "content": "Say it in other words."}
#: another conversation, which takes the slot
OTHER = [{"role": "user", "content": "What is a tensor?"}]
CAPSULE = "application/vnd.kvcap"

def conversation(length, edited):
    text = PAGE.read_text()[:length]
    first = f"{text}\n\nWhat is this {'page' if edited else 'text'} about?"
    return {"role": "user", "content": first}


def second(length, answer, edited=False):
    """The second turn, after an answer to the first."""
    return [SYSTEM, conversation(length, edited), {"role": "assistant", "content": answer.text}, SECOND]


@dataclass
class Answer:
    text: str
    #: seconds to the first word
    first: float
    #: tokens of the prompt that were evaluated, by llama-server's count
    evaluated: int
    #: seconds of these that an upload took
    resumed: float = 0


def stream(address, messages, token=None, session=None):
    """A chat's answer."""
    body = {"model": "m", "messages": messages, "max_tokens": STEPS, "temperature": 0, "stream": True}
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    headers |= {"X-Kvcap-Session": session} if session else {}
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

    def leave(self):
        stream(self.server.address, OTHER)

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

    def leave(self):
        stream(self.address, OTHER)
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

    def leave(self):
        self.client.completion(self.prompt(OTHER), STEPS)

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

    def leave(self):
        stream(self.gateway.address, OTHER, self.gateway.token)
        time.sleep(0.5)

    def ask(self, messages):
        return stream(self.gateway.address, messages, self.gateway.token)


class Named(Kvcap):
    """The same by the session's name."""

    def checkpoint(self, **headers):
        answer = self.gateway.ask("POST", "/v1/sessions/kept/checkpoint", **headers)
        if answer.status not in (200, 201):
            raise RuntimeError(f"checkpoint: {answer.status} {answer.body[:300]!r}")
        return answer

    def ask(self, messages):
        return stream(self.gateway.address, messages, self.gateway.token, "kept")


class Uploaded(Named):
    """The client keeps the capsule and uploads it with its question; the server keeps none of it."""

    name = "kvcap serve, uploaded"

    def save(self):
        self.capsule = self.checkpoint(accept=CAPSULE).body

    def leave(self):
        super().leave()
        if kept := getattr(self, "kept", None):
            # what is kept is not uploaded again
            self.gateway.ask("DELETE", f"/v1/capsules/{kept}")

    def ask(self, messages):
        before = 0
        if hasattr(self, "capsule"):
            path = "/v1/sessions/kept/resume"
            resumed = self.gateway.ask("POST", path, self.capsule, content_type=CAPSULE)
            if resumed.status != 200:
                raise RuntimeError(f"resume: {resumed.status} {resumed.body[:300]!r}")
            self.kept, before = json.loads(resumed.body)["capsule"], resumed.seconds
        answer = super().ask(messages)
        answer.resumed = before
        answer.first += before
        return answer


WAYS = (Cold, Slot, Hearth, Stillwarm, Kvcap)
