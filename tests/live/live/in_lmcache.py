"""LMCache's server with capsules as its second tier, under a vLLM of its own connector: what comes back, and what is a miss."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import kvcap
from live.engine_report import CHUNKS, Chunks
from live.vllm_engine import Engine

STEPS = 16
#: nothing is told to anybody outside
QUIET = {"LMCACHE_TRACK_USAGE": "false", "DO_NOT_TRACK": "1", "LMCACHE_DISABLE_BANNER": "1"}
#: tokens of a chunk
CHUNK = 256


class Server:
    """`lmcache server` over a folder, until it is killed."""

    def __init__(self, folder, profile):
        self.port = free_port()
        inner = {"type": "fs", "base_path": str(folder)}
        adapter = {"type": "plugin", "module_path": "kvcap.lmcache", "class_name": "KvcapL2Adapter",
                   "adapter_params": {"inner": inner, "profile": profile}}
        self.log = folder.with_suffix(".log")
        command = [sys.executable, "-P", "-m", "lmcache.cli.main", "server", "--host", "127.0.0.1", "--port", self.port]
        command += ["--http-host", "127.0.0.1", "--http-port", free_port(), "--chunk-size", CHUNK, "--disable-observability"]
        command += ["--supported-transfer-mode", "engine_driven"]
        command += ["--l1-size-gb", "1", "--eviction-policy", "LRU", "--l2-adapter", json.dumps(adapter)]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log,
                                            env=os.environ | QUIET)
        self.until(lambda: reached(self.port), 120)

    def until(self, there, seconds):
        for _ in range(seconds * 10):
            if found := there():
                return found
            if self.process.poll() is not None:
                raise RuntimeError(self.log.read_text()[-6000:])
            time.sleep(0.1)
        raise TimeoutError(self.log.read_text()[-6000:])

    def codes(self):
        """Of chunks that were refused."""
        return [int(code) for code in re.findall(r"a chunk was refused and is a miss: KVC-(\d+)", self.log.read_text())]

    def engine(self, model):
        extra = {"lmcache.mp.host": "tcp://127.0.0.1", "lmcache.mp.port": self.port}
        return Engine(model, {"kv_connector": "LMCacheMPConnector", "kv_role": "kv_both",
                              "kv_connector_module_path": "lmcache.integration.vllm.lmcache_mp_connector",
                              "kv_connector_extra_config": extra})

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


def run(bench):
    """Every way to go on, each with a fresh server and a fresh engine."""
    folder, model = bench.folder / "lmcache", bench.environments["base"]["model"]
    folder.mkdir()
    settings = bench.settings(model=model)
    bench.say("LMCache: a live run")
    l2, hashes = folder / "live", chunk_hashes(bench.prompt)
    with Server(l2, settings) as server, server.engine(model) as engine:
        live = engine.ask(bench.prompt, STEPS)
        stored = server.until(lambda: complete(l2, hashes), 60)
    chunks = Chunks()
    sizes = {file.stat().st_size for file in stored}
    opened = [length_of(file) for file in stored]
    chunks.stored = (len(stored), opened[0], 2 * 6 * CHUNK * 128 * 2)
    assert len(sizes) == 1
    chunks.rows.append(row("computed", live, live, [], 0, []))
    kvcap.new_signing_key(bench.folder / "other.key", issuer="prefill.example.com")
    other = bench.settings(model=model) | {"trust": str(bench.folder / "other.key.pub")}
    weights = bench.settings(model=bench.environments["weights"]["model"])
    brief = bench.settings(model=model) | {"at": int(time.time()) + 7200}
    cases = [
        ("as they are", lambda files: None, settings, CHUNKS, []),
        ("a bit of the second flipped", lambda files: flip(files[1]), settings, CHUNK, [805]),
        ("the second cut", lambda files: cut(files[1]), settings, CHUNK, [807]),
        ("the second exchanged with the third", lambda files: exchange(files[1], files[2]), settings, CHUNK, [605, 605]),
        ("of other weights under the same name", lambda files: None, weights, 0, [601] * 3),
        ("of a key that is not trusted", lambda files: None, other, 0, [301] * 3),
        ("expired", lambda files: None, brief, 0, [402] * 3),
    ]
    for number, (name, change, profile, expected, refused) in enumerate(cases):
        bench.say(f"LMCache: {name}")
        copy = folder / f"case{number}"
        shutil.copytree(l2, copy)
        change(in_order(copy, stored))
        with Server(copy, profile) as server, server.engine(model) as engine:
            answer = engine.ask(bench.prompt, STEPS)
            chunks.rows.append(row(name, answer, live, server.codes(), expected, refused))
    return chunks


def row(name, answer, live, codes, expected, refused):
    return {"name": name, "reused": answer["cached"], "expected": expected, "codes": codes, "refused": refused,
            "same": answer["tokens"] == live["tokens"], "seconds": answer["seconds"]}


def complete(folder, hashes):
    """The files of all whole chunks, in their order, once they are there: a name ends in its chunk's hash."""
    found = [list(folder.glob(f"*{chunk.hex()}.data")) for chunk in hashes]
    return [files[0] for files in found] if all(found) else None


def chunk_hashes(tokens):
    """LMCache's own names of the whole chunks of a prompt."""
    from lmcache.v1.multiprocess.token_hasher import TokenHasher

    return TokenHasher(CHUNK).compute_chunk_hashes(tokens)


def in_order(copy, stored):
    return [copy / file.name for file in stored]


def length_of(file):
    """Of the capsule in a stored chunk, which has room after it."""
    with open(file, "rb") as content:
        return int.from_bytes(content.read(8), "little")


def flip(file):
    with open(file, "r+b") as content:
        content.seek(length_of(file) // 2)
        byte = content.read(1)[0]
        content.seek(-1, 1)
        content.write(bytes([byte ^ 1]))


def cut(file):
    """The capsule loses its last byte; the file keeps its length, which LMCache's own adapter wants."""
    with open(file, "r+b") as content:
        content.write((length_of(file) - 1).to_bytes(8, "little"))


def exchange(one, other):
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def reached(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
