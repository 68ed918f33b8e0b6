"""One runtime: its processes, started, killed and restarted around capsules."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

import numpy as np

from live import environments
from live.kvcap import Kvcap, model_options

ROOT = Path(__file__).parent.parent
KVCAP_NAMES = {"mlx-lm": "mlx-lm", "llama.cpp": "llama-cpp", "transformers": "hf"}
#: of state files; MLX goes by it
SUFFIXES = {"mlx-lm": ".safetensors", "llama.cpp": ".bin", "transformers": ".safetensors"}
SECRETS = ("issuer.key", "reader.key")


@dataclass
class Plan:
    """How much is run."""

    prefix: int
    steps: int
    cycles: int
    #: how often each invalid capsule is opened before its code is believed
    attempts: int = 3


class Bench:
    def __init__(self, runtime, plan, folder, program, packages=None):
        """`packages` is a folder of packages that its processes import in the place of those installed."""
        self.runtime, self.plan, self.folder = runtime, plan, folder
        found = os.environ.get("PYTHONPATH", "")
        self.variables = {**os.environ, "PYTHONPATH": f"{packages}{os.pathsep}{found}" if packages else found}
        folder.mkdir()
        self.program = program
        self.kvcap = Kvcap(program)
        self.environments = environments.make(runtime, folder / "environments")
        prompts = json.loads((environments.MODEL / "prompts.json").read_text())
        self.prompt, self.other = prompts["rustdoc"], prompts["python"]
        self.tokens = self.write("prompt.json", self.prompt[: plan.prefix])
        self.other_tokens = self.write("other.json", self.other[: plan.prefix])
        self.sign, self.wrap = (folder / name for name in SECRETS)
        self.kvcap("keygen", "sign", "-o", self.sign)
        self.kvcap("keygen", "wrap", "-o", self.wrap)
        self.trust = ["--trust", f"{self.sign}.pub"]
        self.jobs = 0
        self.version = None

    def state(self, name):
        """The path of a state file."""
        return self.folder / f"{name}{SUFFIXES[self.runtime]}"

    def write(self, name, content):
        path = self.folder / name
        path.write_text(json.dumps(content))
        return path

    # processes

    def job(self, do, environment="base", **more):
        """A job's file and the command that runs it."""
        self.jobs += 1
        path = self.folder / f"job{self.jobs}.json"
        job = {
            "do": do,
            "runtime": self.runtime,
            "environment": self.environments[environment] | more.pop("extra", {}),
            "prompt": self.prompt,
            "prefix": self.plan.prefix,
            "steps": self.plan.steps,
            "kvcap": self.program,
            "logits": str(path.with_suffix(".npy")),
        }
        path.write_text(json.dumps(job | more, default=str))
        return path, [sys.executable, "-m", "live.worker", str(path)]

    def answer(self, path):
        answer = json.loads(path.with_suffix(".answer").read_text())
        logits = path.with_suffix(".npy")
        if logits.exists():
            answer["logits"] = np.load(logits)
            logits.unlink()
        return answer

    def run(self, do, environment="base", **more):
        """Runs a process to its end."""
        path, command = self.job(do, environment, **more)
        done = subprocess.run(command, cwd=ROOT, env=self.variables, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{self.runtime} {do}: {done.stderr[-3000:]}")
        return self.answer(path)

    def live(self, environment="base", **more):
        """Starts a process that computes and saves a state and goes on. It stays until `kill`."""
        path, command = self.job("live", environment, **more)
        process = subprocess.Popen(
            command, cwd=ROOT, env=self.variables, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True
        )
        said = process.stdout.readline()
        while said and said.strip() != "ready":
            said = process.stdout.readline()
        if not said:
            raise RuntimeError(f"{self.runtime} live: {process.stderr.read()[-3000:]}")
        answer = self.answer(path)
        self.version = answer["version"]
        return process, answer

    def kill(self, process):
        """Without a chance to clean up."""
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL

    # capsules

    def seal(self, state, out, *options, model=None, environment="base", ttl="1d"):
        return self.kvcap(
            *("seal", state, "-o", out, "--ttl", ttl, "--tokens", self.tokens),
            *(["--model", model] if model else model_options(self.environments[environment])),
            *("--sign-key", self.sign, "--wrap-key", self.wrap),
            *self.stated_version(options),
            *options,
        )

    def stated_version(self, options):
        return () if "--runtime-version" in options else ("--runtime-version", self.version)

    def expectations(self, environment="base"):
        """What a restoring process demands of a capsule."""
        return [
            *self.trust,
            *model_options(self.environments[environment]),
            *("--runtime", f"{KVCAP_NAMES[self.runtime]}={self.version}"),
        ]

    def verify(self, capsule, environment="base"):
        return self.kvcap("verify", capsule, *self.expectations(environment))

    def resume(self, capsule, environment="base", tokens=None, options=(), **more):
        """A fresh process that opens the capsule, or else rebuilds the state."""
        opening = [capsule, *self.expectations(environment), "--wrap-key", self.wrap]
        return self.restore([*opening, "--tokens", tokens or self.tokens, *options], environment, **more)

    def restore(self, opening, environment, **more):
        """The same with these arguments of `kvcap open`."""
        self.jobs += 1
        folder = self.folder / f"restore{self.jobs}"
        folder.mkdir()
        state = folder / f"state{SUFFIXES[self.runtime]}"
        return self.run("resume", environment, state=state, open=opening, **more)

    def receipt(self, capsule, answer, environment="base"):
        """Raises `Refused` unless the restore saved what the capsule claims."""
        return self.kvcap(
            *("check-restore", capsule, *self.expectations(environment), "--prompt", self.plan.prefix + 1),
            *("--evaluated", answer["evaluated"]),
        )


def wait_until(instant):
    time.sleep(max(0.0, instant - time.time()) + 0.05)


def agreement(one, other):
    """Tokens that agree from the first on, and the largest difference of logits as far as the contexts agree."""
    pairs = list(zip(one["tokens"], other["tokens"]))
    same = next((at for at, (a, b) in enumerate(pairs) if a != b), len(pairs))
    rows = min(same + 1, len(pairs))
    difference = np.abs(one["logits"][:rows] - other["logits"][:rows]).max()
    return same, float(difference)
