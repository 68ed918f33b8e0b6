"""The process of an agent: python -m live.agent KVCAP SERVER SESSION STEPS; a command a line in, an answer a line out.

It keeps nothing: what was said it reads from the session's log, and what the model knows of it is in the server's slot.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from live import script
from live.kvcap import Kvcap
from live.llama_server import Client

#: the events of a log that are messages
ROLES = ("user", "assistant", "tool")


def live(events):
    """The events that no later `revert` has taken back."""
    after = {0: []}
    for event in events:
        back = event["kind"] == "revert"
        after[event["seq"]] = after[event["body"]["to"]] if back else [*after[event["seq"] - 1], event]
    return after[len(events)]


def tokens(server, messages, template):
    """The request's token ids: each message by itself, so that what comes later changes nothing before it."""
    begin, middle, end = template
    ids = []
    for role, content in messages:
        ids += server.ids(f"{begin}{role}{middle}") + server.ids(content) + server.ids(end)
    return ids + server.ids(f"{begin}assistant{middle}")


def template(server):
    """The model's own marks of a message where it knows them as tokens, else plain words."""
    marked = len(server.ids("<|im_start|>")) == 1
    return ("<|im_start|>", "\n", "<|im_end|>\n") if marked else ("", ": ", "\n")


class Agent:
    def __init__(self, kvcap, folder, session, steps):
        self.kvcap, self.server = Kvcap(kvcap), Client(Path(folder))
        self.session, self.steps = session, int(steps)
        self.template, self.summary = template(self.server), ""

    def append(self, kind, **body):
        file = self.server.folder / "body.json"
        file.write_text(json.dumps(body))
        self.kvcap("events", "append", self.session, "--kind", kind, "--body", file)

    def messages(self):
        events = live(self.kvcap("events", "list", self.session)["events"])
        said = [(event["kind"], event["body"]["content"]) for event in events if event["kind"] in ROLES]
        return [("system", script.SYSTEM + self.summary), *said]

    def carry(self, summary):
        """Knows of what stands in no log here: of a session that came from another device, what its record sums up."""
        self.summary = f"\nSummary of the conversation so far:\n{summary}"

    def ask(self, text, tool):
        """Puts the user's words and a tool's answer into the log."""
        self.append("user", content=text)
        if tool:
            self.append("tool", content=tool)

    def request(self):
        """The token ids of what was said."""
        return tokens(self.server, self.messages(), self.template)

    def answer(self, keep=True):
        """What the model says now, from nothing but the log and the server's slot; `keep` puts it into the log."""
        request = self.request()
        found = self.server.complete(request, self.steps)
        if keep:
            self.append("assistant", content=found["content"])
        return {"request": request, "tokens": found["tokens"], "timings": found["timings"]}

    def milestone(self, state):
        """A milestone with the state of the work."""
        self.append("milestone", agent_state=state)

    def save(self, *options):
        """Saves the slot and puts a checkpoint: its report, and seconds of both."""
        state = self.server.slots / "saved.bin"
        seconds = self.server.slot("save", state.name)
        size = state.stat().st_size
        report = self.kvcap("checkpoint", self.session, state, *options)
        state.unlink()
        return report | {"slot_seconds": seconds, "slot_bytes": size}

    def resume(self, *options):
        """Opens what a state has in common with what was said into the slot: the report, and seconds of both."""
        state, ids = self.server.slots / "resumed.bin", self.server.folder / "request.json"
        request = self.request()
        ids.write_text(json.dumps(request))
        report = self.kvcap("resume", self.session, "-o", state, "--tokens", ids, *options)
        seconds = self.server.slot("restore", state.name)
        state.unlink()
        return report | {"slot_seconds": seconds, "request": request}

    def tell(self, reused, evaluated):
        """The server's count after a resume."""
        return self.kvcap("resume", self.session, "--reused", reused, "--evaluated", evaluated)

    def erase(self):
        """What a server does that does not take what it was given."""
        self.server.slot("erase", "")


class Process:
    """An agent in a process of its own, which dies without a word."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "live.agent", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, name, *arguments):
        self.process.stdin.write(json.dumps([name, *arguments], default=str) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the agent ended within {name}")
        return json.loads(line)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def main():
    agent = Agent(*sys.argv[1:])
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        started = time.perf_counter()
        found = getattr(agent, name)(*arguments)
        if isinstance(found, dict):
            found["took"] = time.perf_counter() - started
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
