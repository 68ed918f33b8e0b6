"""The parts of docs/results/server.md and of other pages of results, each between two marks of its own."""

from pathlib import Path

PAGE = Path(__file__).resolve().parents[3] / "docs/results/server.md"


def write(name, text, file=PAGE):
    """Puts a part in the place of the one that was there; at the end, where there was none."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    page = file.read_text()
    before, _, rest = page.partition(begin)
    after = rest.partition(end)[2]
    file.write_text(before.rstrip() + "\n\n" + begin + text + end + after)
