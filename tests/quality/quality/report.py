"""Tables of encodings for a page."""

from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs/results/codecs.md"
START, END = "<!-- made by tests/quality/run -->", "<!-- end -->"


def page(texts, product, foreign):
    kinds = {kind: [text.name for text in texts if text.kind == kind] for kind in ("prose", "code")}
    parts = [table(product, kinds)] if product else []
    if foreign:
        parts += ["Other methods, in short implementations of our own (`tests/quality/quality/others.py`), in the same run:",
                  table(foreign, kinds)]  # fmt: skip
    parts += ["KL of each text:", by_text(product + foreign, texts)]
    return "\n\n".join(parts)


def table(rows, kinds):
    lines = [
        "| encoding | bits a value | KL, prose | KL, code | 99 % of KL | first choice | ΔNLL |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        prose, code = (row.summary(names) for names in kinds.values())
        worse = max(prose, code, key=lambda part: part["kl"])
        bits = max(prose["bits"], code["bits"])
        lines.append(
            f"| `{row.name}` | {bits:.2f} | {with_interval(prose)} | {with_interval(code)} | {number(worse['kl99'])} "
            f"| {100 * worse['top1']:.1f} % | {worse['nll']:+.1e} |"
        )
    return "\n".join(lines)


def by_text(rows, texts):
    names = [text.name for text in texts]
    lines = ["| encoding | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in rows:
        found = [number(row.tokens[name][0].mean()) for name in names]
        lines.append(f"| `{row.name}` | " + " | ".join(found) + " |")
    return "\n".join(lines)


def with_interval(part):
    low, high = part["interval"]
    return number(part["kl"]) if part["kl"] == 0 else f"{number(part['kl'])} ({number(low)} to {number(high)})"


def number(value):
    return "0" if value == 0 else f"{value:.1e}"


def write(text):
    """Puts the tables where the page has them."""
    before, rest = PAGE.read_text().split(START)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{START}\n\n{text}\n\n{END}{after}")
