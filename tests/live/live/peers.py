"""What a paused conversation costs after a restart, by everything that keeps one: python -m live.peers KVCAP [--short]

A conversation of one long turn is answered, all processes end, new ones start, and its second turn is asked. What is
measured is the time from then to the first word: the loading of the model is not in it. Then its first turn is edited
near its end. Every way takes each run in turn, so that they share what else the machine does.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import warnings
from pathlib import Path

from live import llama_server, report, results
from live.ways import SYSTEM, WAYS, Cold, Kvcap, conversation, second

#: characters of the page in the first turn; of them all but the last few are common to the edited one
LONG, SHORT = 7600, 900


def measure(way, length, folder, model, kvcap):
    """The second turn after a restart, and with its first turn edited, both from what the first one left."""
    place, kept = folder / "way", folder / "kept"
    place.mkdir()
    one = way(model, place, kvcap)
    answers = []
    one.start()
    try:
        first = one.ask([SYSTEM, conversation(length, edited=False)])
        one.save()
    finally:
        one.stop()
    place.rename(kept)
    for edited in (False, True):
        shutil.copytree(kept, place, symlinks=True)
        one.start()
        try:
            answers.append(one.ask(second(length, first, edited)))
        finally:
            one.stop()
        shutil.rmtree(place)
    return answers


def main():
    parser = argparse.ArgumentParser(prog="tests/live/run --peers")
    parser.add_argument("kvcap", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--peers", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--short", action="store_true", help="a short turn, once, nothing written")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--way", action="append", help="these ways alone, nothing written")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    model = llama_server.smollm2()
    length, runs = (SHORT, 1) if arguments.short else (LONG, arguments.runs)
    ways = [way for way in WAYS if not arguments.way or way.name.split()[0] in arguments.way]
    found = {way: [] for way in ways}
    load = os.getloadavg()[0]
    for run in range(runs):
        for way in ways:
            with tempfile.TemporaryDirectory() as folder:
                answers = measure(way, length, Path(folder), model, arguments.kvcap)
            found[way].append(answers)
            for edited, answer in zip(("", ", edited"), answers):
                said = f"{answer.first:.2f} s, {answer.evaluated} tokens evaluated, {answer.text!r}"
                print(f"run {run + 1}: {way.name}{edited}: {said}", file=sys.stderr, flush=True)
    rows = table(found)
    print(rows)
    if not arguments.short and not arguments.way:
        results.write("peers", text(rows, length, runs, (load, os.getloadavg()[0])))


def table(found):
    def shown(answers):
        times = [answer.first for answer in answers]
        evaluated = statistics.median(answer.evaluated for answer in answers)
        return f"{statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f}) | {evaluated:.0f}"

    head = "| | second turn after a restart | evaluated | with its first turn edited | evaluated | encrypted, verified |\n"
    kept = {Cold: "nothing is kept", Kvcap: "yes"}
    return f"{head}|---|---|---|---|---|---|\n" + "".join(
        f"| {way.name} | {' | '.join(map(shown, zip(*runs)))} | {kept.get(way, 'no')} |\n" for way, runs in found.items()
    )


def text(rows, length, runs, loads):
    return f"""## Beside what keeps conversations unprotected: after a restart

`tests/live/run --peers`: SmolLM2-135M-Instruct in llama-server {llama_server.VERSION}, {length:,} characters of the specification in the first turn. All
processes end, new ones start and load the model, and the second turn is asked: seconds from then to its first word, median of {runs} runs, lowest and highest, and the tokens that llama-server evaluated.
Every way took each run in turn. Load of the machine at the beginning {loads[0]:.1f}, at the end {loads[1]:.1f}; {report.machine(llama_server.PACKAGES)}

{rows}
"""


if __name__ == "__main__":
    main()
