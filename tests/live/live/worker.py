"""One process with one runtime: python -m live.worker JOB.json

The job names the runtime, its environment, the prompt and what to do; the answer is written beside it. The
first `prefix` tokens of the prompt are what a state is of, the next one is fed after it, and `steps` tokens follow,
each the most likely one.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from live import quality, runtimes
from live.kvcap import Kvcap, Refused


class Worker:
    def __init__(self, job):
        self.job = job
        self.prompt = job["prompt"]
        self.prefix = job["prefix"]
        started = time.perf_counter()
        self.runtime = runtimes.load(job["runtime"], job["environment"])
        self.answer = {"version": self.runtime.version, "load_s": time.perf_counter() - started}

    def timed(self, name, action, *arguments):
        started = time.perf_counter()
        result = action(*arguments)
        self.answer[name] = time.perf_counter() - started
        return result

    def prefill(self):
        self.timed("prefill_s", self.runtime.logits, self.prompt[: self.prefix])

    def continued(self, tokens):
        """Feeds `tokens`, which end with the prompt, and goes on from there."""
        rows = [self.timed("first_s", self.runtime.logits, tokens)[-1]]
        self.answer["evaluated"] = self.runtime.evaluated
        chosen = [int(rows[0].argmax())]
        while len(chosen) < self.job["steps"]:
            rows.append(self.runtime.logits(chosen[-1:])[-1])
            chosen.append(int(rows[-1].argmax()))
        self.answer["tokens"] = chosen
        np.save(self.job["logits"], np.array(rows, np.float32))

    def live(self):
        """Computes and saves a state, and goes on. The process then waits to be killed."""
        self.prefill()
        if self.job.get("lose_a_layer"):
            self.runtime.drop_layer()
        if state := self.job.get("state"):
            self.timed("save_s", self.runtime.save, state, self.prompt[: self.prefix])
        if self.job["steps"]:
            self.continued([self.prompt[self.prefix]])

    def cold(self):
        self.prefill()
        self.continued([self.prompt[self.prefix]])

    def resume(self):
        """Opens a capsule and goes on; where it is refused, rebuilds the state from nothing."""
        job, runtime = self.job, self.runtime
        state = Path(job["state"])
        kvcap = Kvcap(job["kvcap"])
        codes = []
        for _ in range(job.get("attempts", 1)):
            try:
                self.answer["open_s"] = kvcap("open", *job["open"], "-o", state)["wall"]
                break
            except Refused as refused:
                codes.append(refused.code)
                self.answer["message"] = str(refused)
        self.answer["codes"] = codes
        if state.exists():
            self.timed("materialize_s", runtime.restore, state)
            state.unlink()
            if job.get("drop"):
                runtime.clear()
            self.answer["held"] = runtime.held()
            self.continued(self.prompt[runtime.held() : self.prefix + 1])
            return
        # a refused capsule leaves no file, and the runtime has seen nothing
        self.answer["left"] = sorted(os.listdir(state.parent))
        self.answer["held"] = runtime.held()
        self.cold()

    def restored(self):
        """Goes on from a state that is open already."""
        self.runtime.restore(self.job["state"])
        if not self.runtime.held():
            # what was loaded holds no cache at all
            self.runtime.clear()
        self.continued(self.prompt[self.runtime.held() : self.prefix + 1])

    def quality(self):
        quality.score(self)


def main(path):
    path = Path(path)
    job = json.loads(path.read_text())
    worker = Worker(job)
    getattr(worker, job["do"])()
    part = path.with_suffix(".part")
    part.write_text(json.dumps(worker.answer))
    part.rename(path.with_suffix(".answer"))
    if job["do"] == "live":
        print("ready", flush=True)
        # until killed, or until whoever would kill it is gone
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
