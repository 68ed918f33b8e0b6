"""All of it: python -m live.driver KVCAP [--short] [--runtime NAME]…"""

import argparse
import sys
import tempfile
from pathlib import Path

from live import across, invalid, quality, report, valid
from live.bench import Bench, Plan, agreement

RUNTIMES = ("mlx-lm", "llama.cpp", "transformers")
FULL = Plan(prefix=1000, steps=64, cycles=3)
SHORT = Plan(prefix=64, steps=16, cycles=1)


def conform(bench, say, short):
    """Everything about one runtime, as a `report.Result`."""
    runtime, plan = bench.runtime, bench.plan
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
        benches = {name: Bench(name, plan, Path(folder) / name, arguments.kvcap) for name in names}
        results = [conform(bench, say, arguments.short) for bench in benches.values()]
        crossings = [] if len(names) == 1 else list(across.run(benches, say))
        refusals = list(across.refused(benches)) if crossings else []
    print(report.markdown(results, crossings, refusals))
    faults = [fault for result in results for fault in result.faults()]
    faults += report.faults(crossings, refusals, plan)
    for fault in faults:
        say(f"FAULT {fault}")
    if faults:
        sys.exit(1)
    if names == RUNTIMES and not arguments.short:
        report.write(results, crossings, refusals)


if __name__ == "__main__":
    main()
