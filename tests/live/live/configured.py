"""A gateway by a configuration: keys, a registry and tokens of its own, and the slot of its engine as it is."""

import atexit
import hashlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from .gateway import Gateway

CAPSULE = "application/vnd.kvcap"

#: tokens by name: tenant, subject, permissions
TOKENS = {
    "ana": ("acme", "ana", ("kv:restore", "session:get", "session:put", "capsule:put", "capsule:get")),
    "bob": ("acme", "bob", ("kv:restore", "session:get", "session:put", "capsule:put", "capsule:get")),
    "elsewhere": ("elsewhere", "ana", ("kv:restore", "session:get", "session:put", "capsule:put", "capsule:get")),
    "restores": ("acme", "ana", ("kv:restore",)),
    "operator": (None, None, ("admin",)),
}


class Home:
    """Files of a gateway, which outlive it."""

    def __init__(self, kvcap, model, folder, context=2048, ttl="1h", limits="", save_after=256):
        self.kvcap, self.model, self.folder = kvcap, model, folder
        self.run("keygen", "sign", "-o", "sign.key", "--issuer", "gateway")
        self.run("keygen", "wrap", "-o", "wrap.key")
        self.run("keygen", "root", "-o", "root.key")
        self.run("registry", "init", "keys.kvreg", "--root-key", "root.key")
        self.run("registry", "add", "keys.kvreg", "sign.key.pub", "--root-key", "root.key")
        self.tokens, tables = {}, []
        for name, (tenant, subject, may) in TOKENS.items():
            made = self.run("serve", "--new-token")
            self.tokens[name] = made["token"]
            who = f'tenant = "{tenant}"\nsubject = "{subject}"\n' if tenant else ""
            tables.append(f'[[tokens]]\ndigest = "{made["digest"]}"\n{who}may = {json.dumps(may)}\n')
        self.config = folder / "gateway.toml"
        self.config.write_text(
            f"""listen = "127.0.0.1:0"
folder = "capsules"
audiences = ["here"]
registries = ["keys.kvreg"]
registry-roots = ["root.key.pub"]
ledger = "ledger"
[limits]
rate = 1_000_000
burst = 1_000_000
{limits}
[engine]
kind = "llama-server"
program = "{os.environ.get('KVCAP_LLAMA_SERVER') or Path(sys.executable).parent / 'llama-server-vulkan'}"
model = "{model}"
context = {context}
slots = 1
[keys]
sign-key = "sign.key"
wrap-keys = ["wrap.key"]
ttl = "{ttl}"
[sessions]
save-after = {save_after}
{''.join(tables)}"""
        )
        self.config.chmod(0o600)

    def run(self, *arguments):
        """What the program says, as JSON."""
        command = [self.kvcap, *map(str, arguments), "--json"]
        ran = subprocess.run(command, cwd=self.folder, env=environment(self.folder), capture_output=True, text=True)
        if ran.returncode:
            raise RuntimeError(f"kvcap {' '.join(map(str, arguments))}: {ran.stderr}")
        return json.loads(ran.stdout or "{}")

    def start(self):
        return Started(self)

    def kept(self):
        """Files of what is kept, whole and in the making."""
        return sorted(str(path) for path in (self.folder / "capsules").rglob("*.kvcap*"))

    def single_use(self, capsule, session):
        return self.sealed(capsule, session, "1h", "--single-use")

    def sealed(self, capsule, session, ttl, *more):
        """The state of a capsule, sealed again for a session by the gateway's keys; `sealed.kvcap` is its file."""
        for name in ("taken.kvcap", "state.bin", "sealed.kvcap"):
            (self.folder / name).unlink(missing_ok=True)
        (self.folder / "taken.kvcap").write_bytes(capsule)
        version = runtime_version(self.run("inspect", "taken.kvcap"))
        self.run(
            *("open", "taken.kvcap", "-o", "state.bin", "--model", self.model, "--wrap-key", "wrap.key"),
            *("--audience", "here", "--tenant", "acme", "--subject", "ana", *self.trust()),
        )
        self.run(
            *("seal", "state.bin", "-o", "sealed.kvcap", "--model", self.model, "--sign-key", "sign.key"),
            *("--wrap-key", "wrap.key", "--ttl", ttl, "--renewable-for", "1h", "--audience", "here"),
            *("--tenant", "acme", "--subject", "ana", "--session", session, "--session-version", 1),
            *("--replay-cursor", 0, "--runtime-version", version, *more),
        )
        return (self.folder / "sealed.kvcap").read_bytes()

    def verify(self, path):
        """Everything about a capsule that can be verified without a secret."""
        who = ("--audience", "here", "--tenant", "acme", "--subject", "ana")
        return self.run("verify", path, "--model", self.model, *who, *self.trust())

    def trust(self):
        return ("--registry", "keys.kvreg", "--registry-root", "root.key.pub")


class Started(Gateway):
    """`kvcap serve CONFIG`, asked by `ana` unless another token is named."""

    def __init__(self, home):
        self.home, self.token, self.log = home.folder, home.tokens["ana"], home.folder / "log"
        with open(self.log, "w") as log:
            command = [home.kvcap, "serve", home.config]
            self.process = subprocess.Popen(command, env=environment(home.folder), stderr=log, stdout=log)
        atexit.register(self.process.kill)
        deadline = time.monotonic() + 300
        while not (found := re.search(r"listening at (\S+)", self.log.read_text())):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"kvcap serve: {self.log.read_text()}")
            time.sleep(0.02)
        self.address = found[1]

    def by(self, token):
        """The same gateway, asked by another."""
        other = object.__new__(Started)
        other.__dict__ = self.__dict__ | {"token": token}
        return other


def runtime_version(shown):
    """The runtime's version somewhere in what `kvcap inspect` says."""
    if isinstance(shown, dict):
        if isinstance(shown.get("runtime"), dict) and "version" in shown["runtime"]:
            return shown["runtime"]["version"]
        shown = list(shown.values())
    if isinstance(shown, list):
        return next(filter(None, map(runtime_version, shown)), None)
    return None


def environment(folder):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KVCAP")}
    return kept | {"HOME": str(folder), "XDG_CONFIG_HOME": f"{folder}/config", "XDG_STATE_HOME": f"{folder}/state"}


def slot(engine):
    """Digest of the state in the slot of a llama-server: what it saves itself, asked at its own socket."""
    words = Path(f"/proc/{engine}/cmdline").read_bytes().decode().split("\0")
    address, folder = (words[words.index(name) + 1] for name in ("--host", "--slot-save-path"))
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(address)
    connection.request("POST", "/slots/0?action=save", '{"filename": "looked-at"}', {"Content-Type": "application/json"})
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"the slot cannot be saved: {answer.status} {said}")
    saved = Path(folder) / "looked-at"
    try:
        return hashlib.sha256(saved.read_bytes()).hexdigest()
    finally:
        saved.unlink()


def resume(gateway, session, capsule):
    return gateway.ask("POST", f"/v1/sessions/{session}/resume", capsule, content_type=CAPSULE)
