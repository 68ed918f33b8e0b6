"""A long session of a coding agent, and turns that need something of it: how far back, a workload each."""

import random
from dataclasses import dataclass
from pathlib import Path

from live.agent import tokens

ROOT = Path(__file__).parents[3]
#: the pages that an agent reads in each session, piece by piece, up to the same place
PAGES = ("spec/capsule-v1.md", "spec/runtimes-v1.md", "spec/model-id-v1.md")
END, PIECE = 40_000, 400
SYSTEM = "You are a coding agent. You read a specification part by part, and remember what was agreed."

#: tokens between a fact and the end of the session, first and last of each workload, where the largest window has 8,192
DISTANCES = {"edit": (60, 400), "debug": (950, 1450), "review": (2000, 3500), "handover": (4300, 7500)}
#: what is said, asked, and answered before the part that needs the past
FACTS = {
    "edit": [
        ("The function to change is called {}.", "Which function is to change?", "The function to change is called"),
        ("The branch for this edit is {}.", "Which branch is this edit for?", "The branch for this edit is"),
        ("The test that covers it is {}.", "Which test covers it?", "The test that covers it is"),
        ("The reviewer of this edit is {}.", "Who reviews this edit?", "The reviewer of this edit is"),
    ],
    "debug": [
        ("The job that failed is {}.", "Which job failed?", "The job that failed is"),
        ("The host where it failed is {}.", "On which host did it fail?", "The host where it failed is"),
        ("The flag that hides the fault is {}.", "Which flag hides the fault?", "The flag that hides the fault is"),
        ("The commit that broke it is {}.", "Which commit broke it?", "The commit that broke it is"),
    ],
    "review": [
        ("We name the new module {}.", "What is the new module's name?", "We name the new module"),
        ("The format's old name was {}.", "What was the format's old name?", "The format's old name was"),
        ("The crate that we must not use is {}.", "Which crate must we not use?", "The crate that we must not use is"),
        ("The ticket of this change is {}.", "Which ticket is this change for?", "The ticket of this change is"),
    ],
    "handover": [
        ("The customer who reported it is {}.", "Which customer reported it?", "The customer who reported it is"),
        ("The release that waits for it is {}.", "Which release waits for it?", "The release that waits for it is"),
        ("The build machine is called {}.", "What is the build machine called?", "The build machine is called"),
        ("The next meeting is in room {}.", "In which room is the next meeting?", "The next meeting is in room"),
    ],
}
WORDS = "heron oak delta quartz maple raven cedar onyx falcon birch amber lotus condor willow basalt fern".split()
#: the workload that needs no one thing of the past: the page read on
ON = "reading on"
ON_TOKENS = 48


@dataclass
class Probe:
    """A turn that needs the past: tokens after the session's, and those that are then predicted."""

    workload: str
    asked: list
    needed: list


class Workload:
    """One session and its probes, in a model's tokens; `most` is the largest window."""

    def __init__(self, page, server, template, most):
        self.server, self.template = server, template
        text = (ROOT / page).read_text()
        values = random.Random(page)
        words = values.sample(WORDS, len(WORDS))
        facts, self.probes = [], []
        for workload, (first, last) in DISTANCES.items():
            for at, (said, asked, answered) in enumerate(FACTS[workload]):
                value = f" {words.pop()}-{values.randrange(10, 100)}"
                distance = first + (last - first) * at // (len(FACTS[workload]) - 1)
                facts.append((distance * most // 8192, said.format(value.strip())))
                self.probes.append(self.probe(workload, asked, answered, value))
        read_on = self.ids([("user", "Read on."), ("tool", text[END : END + 8 * ON_TOKENS])])
        cut = len(self.ids([("user", "Read on.")])) + len(server.ids(f"{template[0]}tool{template[1]}"))
        self.probes.append(Probe(ON, read_on[:cut], read_on[cut : cut + ON_TOKENS]))
        self.first = [("system", SYSTEM)], self.ids([("system", SYSTEM)])
        self.turns = self.session(page, text, facts, most)

    def ids(self, messages):
        """Tokens of messages, without the beginning of an answer."""
        begin, middle, _ = self.template
        return tokens(self.server, messages, self.template)[: -len(self.server.ids(f"{begin}assistant{middle}"))]

    def probe(self, workload, asked, answered, value):
        asked = tokens(self.server, [("user", asked)], self.template) + self.server.ids(answered)
        return Probe(workload, asked, self.server.ids(value))

    def session(self, page, text, facts, most):
        """Turns with their tokens, the first first; facts stand as near to their distance as turns allow."""
        facts, turns, length, end = sorted(facts), [], 0, END
        while length < most or facts:
            if facts and facts[0][0] <= length:
                turn = [("user", facts.pop(0)[1]), ("assistant", "I will remember it.")]
            else:
                end -= PIECE
                turn = [("user", f"Read the next part of {page}."), ("tool", text[end : end + PIECE])]
                turn.append(("assistant", "I have read it."))
            ids = self.ids(turn)
            turns.append((turn, ids))
            length += len(ids)
        return turns[::-1]

    def window(self, room):
        """The system's words and the newest turns that fit into `room` tokens: messages, and tokens."""
        messages, ids = self.first
        first = len(self.turns)
        left = room - len(ids)
        while first > 0 and len(self.turns[first - 1][1]) <= left:
            first -= 1
            left -= len(self.turns[first][1])
        for turn, of_turn in self.turns[first:]:
            messages, ids = messages + turn, ids + of_turn
        return messages, ids
