"""All of it: python -m live.driver KVCAP [--short] [--runtime NAME]…"""

import argparse
import sys
import tempfile
from pathlib import Path

from live import invalid, quality, report, valid
from live.bench import Bench, Plan, agreement

RUNTIMES = ("mlx-lm", "llama.cpp", "transformers")
FULL = Plan(prefix=1000, steps=64, cycles=3)
SHORT = Plan(prefix=64, steps=16, cycles=1)


def conform(runtime, plan, folder, program, say, short):
    """Everything about one runtime, as a `report.Result`."""
    bench = Bench(runtime, plan, folder, program)
    say(f"{runtime}: baseline")
    state, live, cold = valid.baseline(bench)
    result = report.Result(runtime, bench.version, plan, agreement(cold, live), cold["prefill_s"])
    for number in range(plan.cycles):
        say(f"{runtime}: cycle {number + 1} of {plan.cycles}")
        result.cycles += valid.cycles(bench, live, ["exact"], number)
    say(f"{runtime}: other encodings")
    others = [name for name in valid.rows(runtime) if name != "exact"]
    result.cycles += valid.cycles(bench, live, others[:1] if short else others, "n")
    if not short:
        say(f"{runtime}: other caches and layers")
        result.cycles += valid.other_states(bench)
    for fallback in invalid.run(bench, state, cold):
        say(f"{runtime}: {fallback.name}: {', '.join(f'KVC-{code}' for code in fallback.codes)}")
        result.fallbacks.append(fallback)
    result.ineffective = valid.ineffective(bench, bench.folder / "valid.kvcap", cold)
    if not short:
        say(f"{runtime}: quality")
        result.quality = quality.run(bench, valid.rows(runtime))
    return result


def main():
    parser = argparse.ArgumentParser(prog="tests/live/run")
    parser.add_argument("kvcap", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--short", action="store_true", help="mlx-lm alone, 64 tokens, no results written")
    parser.add_argument("--runtime", action="append", choices=RUNTIMES, help="this runtime alone, no results written")
    arguments = parser.parse_args()
    names = arguments.runtime or (RUNTIMES[:1] if arguments.short else RUNTIMES)
    plan = SHORT if arguments.short else FULL

    def say(text):
        print(text, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        results = [
            conform(name, plan, Path(folder) / name, arguments.kvcap, say, arguments.short) for name in names
        ]
    print(report.markdown(results))
    faults = [fault for result in results for fault in result.faults()]
    for fault in faults:
        say(f"FAULT {fault}")
    if faults:
        sys.exit(1)
    if names == RUNTIMES and not arguments.short:
        report.write(results)


if __name__ == "__main__":
    main()
