"""What a conversation costs that left its slot and returns to a running server: python -m live.returning KVCAP [--short]

By everything that keeps one, and by a client that kept the capsule and uploads it; and what saving it costs. All
servers run, and take each round in turn, so that they share what else the machine does; who waits computes nothing.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

from live import llama_server, report, results
from live.ways import CAPSULE, SECOND, SYSTEM, Cold, Hearth, Named, Slot, Stillwarm, Uploaded, conversation, second

#: characters of the page in the first turn
LONG, SHORT = 6500, 900
WAYS = (Cold, Slot, Hearth, Stillwarm, Named, Uploaded)
#: rounds of evaluating all again, which takes longest
COLD = 3


def main():
    parser = argparse.ArgumentParser(prog="tests/live/run --returning")
    parser.add_argument("kvcap", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--returning", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--short", action="store_true", help="a short turn, twice, nothing written")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    model = llama_server.smollm2()
    length, rounds = (SHORT, 2) if arguments.short else (LONG, arguments.rounds)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        ways = {}
        try:
            for number, way in enumerate(WAYS):
                place = Path(folder) / str(number)
                place.mkdir()
                ways[way] = way(model, place, arguments.kvcap)
                ways[way].start()
            found, size = measure(ways, length, rounds)
        finally:
            for one in ways.values():
                one.stop()
    tokens = found["tokens"]
    rows = table(found, rounds)
    print(rows)
    if not arguments.short:
        results.write("returning", text(rows, tokens, size, (load, os.getloadavg()[0])))


def measure(ways, length, rounds):
    """Seconds by way, of each round, and of saving; and the length of a capsule."""
    firsts = {}
    for way, one in ways.items():
        firsts[way] = one.ask([SYSTEM, conversation(length, edited=False)])
        one.save()
    asked = {way: second(length, firsts[way]) for way in ways}
    found = {way: [] for way in ways} | {"slot save": [], "checkpoint": [], "increment": []}
    found["tokens"] = firsts[Cold].evaluated
    for number in range(rounds):
        for way, one in ways.items():
            if way is Cold and number >= COLD:
                continue
            one.leave()
            answer = one.ask(asked[way])
            found[way].append(answer)
            if way is Named:
                # its newest state has the answer, and it goes on from there
                asked[way] += [{"role": "assistant", "content": answer.text}, SECOND]
            said = f"{answer.first:.3f} s, of which upload {answer.resumed:.3f}, {answer.evaluated} tokens evaluated"
            print(f"round {number + 1}: {way.name}: {said}", file=sys.stderr, flush=True)
            if way is Slot:
                found["slot save"].append(timed(lambda: one.server.post("/slots/0?action=save", filename="again.bin")))
            elif way is Uploaded:
                found["increment"].append(one.checkpoint().seconds)
                found["checkpoint"].append(one.checkpoint(accept=CAPSULE).seconds)
        for what in ("slot save", "increment", "checkpoint"):
            print(f"round {number + 1}: {what}: {found[what][-1]:.3f} s", file=sys.stderr, flush=True)
    return found, len(ways[Uploaded].capsule)


def timed(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def shown(seconds):
    return f"{statistics.median(seconds):.3f} s ({min(seconds):.3f} to {max(seconds):.3f})"


def table(found, rounds):
    def of(way):
        return [answer.first for answer in found[way]]

    slot, cold = statistics.median(of(Slot)), statistics.median(of(Cold))
    lines = ["| | to the first word | evaluated | beside slot files | encrypted, verified |", "|---|---|---|---|---|"]
    for way in WAYS:
        evaluated = statistics.median(answer.evaluated for answer in found[way])
        kept = {Cold: "nothing is kept", Named: "yes", Uploaded: "yes"}.get(way, "no")
        ratio = statistics.median(of(way)) / slot
        lines.append(f"| {way.name} | {shown(of(way))} | {evaluated:.0f} | {ratio:.2f} × | {kept} |")
    save = statistics.median(found["slot save"])
    lines += ["", "| saving | seconds | beside a slot's save |", "|---|---|---|"]
    for name, what in (
        ("slot save", "llama-server's slot save"),
        ("checkpoint", "a checkpoint, sealed and handed out whole"),
        ("increment", "a checkpoint, sealed and kept: what is new"),
    ):
        lines.append(f"| {what} | {shown(found[name])} | {statistics.median(found[name]) / save:.2f} × |")
    uploaded = statistics.median(of(Uploaded))
    lines += ["", f"Evaluating from nothing takes {cold / uploaded:.0f} times what an upload does to its first word."]
    return "\n".join(lines)


def text(rows, tokens, size, loads):
    return f"""## Beside what keeps conversations unprotected: left its slot, and returns

`tests/live/run --returning`: SmolLM2-135M-Instruct in llama-server {llama_server.VERSION} with one slot, a first turn of {tokens:,} tokens, {size / 1e6:.0f} MB of capsule (exact).
Another conversation has taken the slot, and the second turn is asked: seconds from then to its first word, median, lowest and highest, and the tokens that llama-server evaluated. *Uploaded* is from the first byte of the capsule's upload. What is kept behind an answer has had half a second for that, by hearth-llm and by kvcap.
All servers run, and each takes each round in turn. Load of the machine at the beginning {loads[0]:.1f}, at the end {loads[1]:.1f}; {report.machine(llama_server.PACKAGES)}

{rows}
"""


if __name__ == "__main__":
    main()
