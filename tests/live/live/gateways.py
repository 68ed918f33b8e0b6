"""`kvcap serve` before a real engine: its own llama-server, one that runs already, mlx-lm; and who speaks to it."""

import atexit
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path


def program():
    """llama-server: one that was built here, or PyPI's."""
    own = os.environ.get("KVCAP_LLAMA_SERVER")
    return own or Path(sys.executable).parent / "llama-server-vulkan"


def until(what, process, log, patience=300):
    """Waits for a process to have said something; returns the match."""
    deadline = time.monotonic() + patience
    while not (found := re.search(what, log.read_text())):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args[0]}: {log.read_text()[-3000:]}")
        time.sleep(0.02)
    return found


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


class Serving:
    """A `kvcap serve` with a home of its own, which outlives it."""

    def __init__(self, kvcap, home, arguments):
        self.kvcap, self.home, self.log = kvcap, home, home / "log"
        command = [str(word) for word in (kvcap, "serve", *arguments)]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(command, env=self.environment(), cwd=home, stderr=log, stdout=log)
        # one that a failure leaves behind ends with this process
        atexit.register(self.process.kill)

    def environment(self):
        own = {"HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home / "config")}
        own["XDG_STATE_HOME"] = str(self.home / "state")
        return {name: value for name, value in os.environ.items() if not name.startswith("KVCAP")} | own

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection(self.address, timeout=600)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers["Authorization"] = f"Bearer {self.token}"
        if not isinstance(body, (bytes, type(None))):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        started = time.perf_counter()
        try:
            connection.request(method, path, body, headers)
        except (BrokenPipeError, ConnectionResetError):
            pass  # who is refused while he sends has his answer all the same
        response = connection.getresponse()
        content = response.read()
        seconds = time.perf_counter() - started
        connection.close()
        return Answer(response.status, response.getheaders(), content, seconds)

    def complete(self, session, prompt, count=8):
        body = {"prompt": prompt, "max_tokens": count, "temperature": 0, "prompt_cache_key": session}
        return self.ask("POST", "/v1/completions", body)

    def chat(self, session, messages, count=8, **more):
        body = {"messages": messages, "max_tokens": count, "temperature": 0, "prompt_cache_key": session}
        return self.ask("POST", "/v1/chat/completions", body | more)

    #: what the engine's process is called
    engine_name = "llama-server"

    def engine(self):
        """The process of the engine."""
        below, found = [self.process.pid], []
        while below:
            process = below.pop()
            children = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children")]
            below += [int(child) for child in " ".join(children).split()]
            name = Path(f"/proc/{process}/comm").read_text().strip()
            found += [process] if name.startswith(self.engine_name) else []
        return found[0]

    def kill_engine(self):
        os.kill(self.engine(), signal.SIGKILL)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(120)
        if code != 0:
            raise RuntimeError(f"kvcap serve ended with {code}: {self.log.read_text()}")


class Gateway(Serving):
    """`kvcap serve --model`."""

    def __init__(self, kvcap, model, home, context=4096, arguments=()):
        command = ["--model", model, "--engine", program(), "--listen", "127.0.0.1:0"]
        command += ["--context", context, *(f"--engine-arg={argument}" for argument in arguments)]
        super().__init__(kvcap, home, command)
        self.address = until(r"http://(\S+)/v1", self.process, self.log)[1]
        self.token = (home / "state/kvcap/serve/token").read_text().strip()


class Attached(Serving):
    """`kvcap serve --upstream` before a llama-server that somebody else runs: here this process."""

    def __init__(self, kvcap, model, home, context=4096, arguments=()):
        self.model, self.context, self.arguments, self.port = model, context, arguments, free_port()
        self.slots = home / "slots"
        self.slots.mkdir(mode=0o700, exist_ok=True)
        self.server_log = home / "llama-server.log"
        self.start_engine(home)
        command = ["--upstream", f"http://127.0.0.1:{self.port}", "--slots", self.slots, "--listen", "127.0.0.1:0"]
        super().__init__(kvcap, home, command)
        self.address = until(r"http://(\S+)/v1", self.process, self.log)[1]
        self.token = (home / "state/kvcap/serve/token").read_text().strip()

    def start_engine(self, home):
        command = [program(), "-m", self.model, "-c", self.context, "-np", 1, "--device", "none", "--no-ui", "--jinja"]
        # it puts a file's name behind the folder as it is
        command += ["--slot-save-path", f"{self.slots}/", "--host", "127.0.0.1", "--port", self.port, *self.arguments]
        with open(self.server_log, "w") as log:
            command = [str(word) for word in command]
            self.server = subprocess.Popen(command, stderr=log, stdout=log)
        atexit.register(self.server.kill)
        deadline = time.monotonic() + 300
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            if self.server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"llama-server: {self.server_log.read_text()[-3000:]}")
            time.sleep(0.05)

    def kill_engine(self):
        """Nobody restarts it but who runs it."""
        self.server.kill()
        self.server.wait()
        self.start_engine(self.home)

    def end(self):
        super().end()
        left = [path.name for path in self.slots.iterdir()]
        if left:
            raise RuntimeError(f"states in clear are left: {left}")
        self.server.kill()
        self.server.wait()


class Configured(Serving):
    """`kvcap serve CONFIG` with an mlx-lm of this Python as its engine."""

    engine_name = "python"

    def __init__(self, kvcap, model, home, context=4096):
        config = home / "gateway.toml"
        if not config.exists():
            self.configure(kvcap, model, home, context)
        super().__init__(kvcap, home, [config])
        self.address = until(r"listening at (\S+)", self.process, self.log)[1]
        self.token = (home / "token").read_text()

    def configure(self, kvcap, model, home, context):
        def run(*words):
            said = subprocess.run([kvcap, *words, "--json"], cwd=home, check=True, stdout=subprocess.PIPE).stdout
            return json.loads(said)

        run("keygen", "sign", "-o", "sign.key")
        run("keygen", "wrap", "-o", "wrap.key")
        token = run("serve", "--new-token")
        (home / "token").write_text(token["token"])
        may = ["kv:restore", "session:get", "session:put", "capsule:put", "capsule:get", "admin"]
        config = home / "gateway.toml"
        config.write_text(f"""listen = "127.0.0.1:0"
folder = "capsules"
audiences = ["here"]
trust = ["sign.key.pub"]
[engine]
kind = "mlx-lm"
program = {json.dumps(sys.executable)}
model = {json.dumps(str(model))}
context = {context}
[keys]
sign-key = "sign.key"
wrap-keys = ["wrap.key"]
[sessions]
find = true
bases = "bases"
[[tokens]]
digest = "{token["digest"]}"
may = {json.dumps(may)}
""")
        config.chmod(0o600)


def free_port():
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
