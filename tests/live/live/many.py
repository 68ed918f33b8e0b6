"""A thousand sessions that share one slot: python -m live.many KVCAP [--short] [--sessions N]

Each says something, leaves, and returns once; each must come back from its capsule, by the engine's own count.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from . import environments, llama_server, report, results, to_gguf
from .gateway import Gateway, smollm2, words

#: words of a session's first turn
LENGTH = 40


def main():
    parser = argparse.ArgumentParser(prog="tests/live/run --many")
    parser.add_argument("kvcap", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--many", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--short", action="store_true", help="a small model, nothing written")
    parser.add_argument("--sessions", type=int, help="1000, or 50 in short")
    arguments = parser.parse_args()
    load, began = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model, count = smollm2(), arguments.sessions or 1000
        if arguments.short:
            model, count = folder / "small.gguf", arguments.sessions or 50
            to_gguf.convert(environments.MODEL, model)
        gateway = Gateway(arguments.kvcap, model, folder, 2048)
        first = [gateway.complete(name(number), text(number), 1) for number in range(count)]
        back = [gateway.complete(name(number), text(number) + " And then?", 1) for number in range(count)]
        for number, (one, again) in enumerate(zip(first, back)):
            if (again.source, again.rung) != ("capsule", "exact") or again.restored < one.evaluated:
                raise SystemExit(f"many: {name(number)} did not come back: {again.headers}")
        memory = Path(f"/proc/{gateway.process.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
        kept = sum(path.stat().st_size for path in folder.rglob("*.kvcap"))
        gateway.end()
    print(rows := table(count, first, back, int(memory) * 1024, kept, time.monotonic() - began))
    if not arguments.short:
        results.write("many", page(rows, count, (load, os.getloadavg()[0])))


def name(number):
    return f"session-{number}"


def text(number):
    return f"{number}: {words(LENGTH, number + 1)}"


def table(count, first, back, memory, kept, seconds):
    def of(answers):
        times = sorted(answer.seconds for answer in answers)
        return f"{statistics.median(times):.3f} s, 99 % below {times[len(times) * 99 // 100]:.3f} s"

    def tokens(answers, what):
        return statistics.median(getattr(answer, what) for answer in answers)

    return f"""| {count:,} sessions, one slot | |
|---|---|
| a session's first answer, and the one before saved | {of(first)}; {tokens(first, "evaluated"):.0f} tokens evaluated |
| its second, from its capsule, and the one before saved | {of(back)}; {tokens(back, "restored"):.0f} restored, {tokens(back, "evaluated"):.0f} evaluated |
| returned from its capsule, exact, by the engine's count | {count:,} of {count:,} |
| memory of the gateway at most | {memory / 1e6:.0f} MB |
| on the disk | {kept / 1e9:.2f} GB, sealed |
| all of it | {seconds:.0f} s |"""


def page(rows, count, loads):
    return f"""## Many sessions on one engine

`tests/live/run --many`: SmolLM2-135M-Instruct in llama-server {llama_server.VERSION} with one slot, through `kvcap serve --model`. Each session says {LENGTH} words, leaves the slot to the next, and returns once.
Load of the machine at the beginning {loads[0]:.1f}, at the end {loads[1]:.1f}; {report.machine(llama_server.PACKAGES)}

{rows}
"""


if __name__ == "__main__":
    main()
