"""What a restart costs at one point of a day: from the slot's own file, from the session, and from nothing."""

import shutil
import time
from dataclasses import dataclass, field
from statistics import median


@dataclass
class Way:
    """One way to be back: tokens evaluated until the first new one, and seconds of each run."""

    evaluated: set = field(default_factory=set)
    #: until the state's file is there, until the slot has it, until the first new token; and of all processors
    opened: list = field(default_factory=list)
    restored: list = field(default_factory=list)
    first: list = field(default_factory=list)
    computed: list = field(default_factory=list)

    def time(self, name):
        return median(getattr(self, name))

    def total(self):
        return median(map(sum, zip(self.opened, self.restored, self.first)))


@dataclass
class Restart:
    """One point of the day."""

    turns: int
    #: of the next request, and of it those that the state holds
    asked: int
    held: int
    saved: dict = field(repr=False)
    #: bytes of all capsules of the session
    kept: int = 0
    ways: dict = field(default_factory=dict)


def measure(day, turns, words, report, runs):
    """Restarts with the next turn's request, each in a fresh server; the day's own server goes on afterwards."""
    begin, middle, end = day.template
    said = f"{end}{begin}user{middle}{words}{end}{begin}assistant{middle}"
    request = day.held + day.server.ids(said)
    found = Restart(turns, len(request), len(day.held), report, day.kvcap("status", day.name)["capsule_bytes"])
    slot = day.folder / "slot.bin"
    day.server.slot("save", slot.name)
    (day.server.slots / slot.name).rename(slot)

    def opened(file):
        report = day.kvcap("resume", day.name, "-o", file)
        return report["computed"]

    def copied(file):
        shutil.copyfile(slot, file)
        return 0.0

    for _ in range(runs):
        for name, put in (("slot file", copied), ("kvcap resume", opened), ("transcript replayed", None)):
            once(day, request, found.ways.setdefault(name, Way()), put)
    slot.unlink()
    return found


def once(day, request, way, put):
    with day.fresh() as server:
        before, started = server.computed(), time.perf_counter()
        file = server.slots / "state.bin"
        computed = put(file) if put else 0.0
        way.opened.append(time.perf_counter() - started)
        way.restored.append(server.slot("restore", file.name) if put else 0.0)
        timings = server.complete(request, 1)["timings"]
        way.first.append(timings["prompt_ms"] / 1000)
        way.evaluated.add(timings["prompt_n"])
        way.computed.append(computed + server.computed() - before)
