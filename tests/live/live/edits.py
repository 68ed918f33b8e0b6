"""What models of each kind keep of a conversation whose transcript is edited: its last turn, its tools, its template.

The claim is what is in common by the engine's own template and tokenizer, asked here of the engine itself, and the
gateway's headers have to say exactly that, by the engine's own count.
"""

import argparse
import tempfile
from pathlib import Path

from . import environments, llama_server, report, results, to_gguf
from .gateway import others, require, words
from .gateways import Gateway

#: of this page a part is written
PAGE = results.PAGE.with_name("gateway.md")
#: edits, as the page names them
EDITS = {"last turn": "last turn of the user's", "tools": "a tool's definition, at the front", "template": "the template's name for the user"}

#: tools first, where a changed definition costs most
TEMPLATE = (
    "{% if tools %}<|tools|>\n{{ tools | tojson }}\n{% endif %}"
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
#: calls the user by another name, after tools and system
CHANGED = TEMPLATE.replace("<|{{ message.role }}|>", "<|{{ 'human' if message.role == 'user' else message.role }}|>")


def tools(what):
    """One tool, with a word of its definition."""
    path = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    function = {"name": "look", "description": f"{what} a file of the repository", "parameters": path}
    return [{"type": "function", "function": function}]


def conversation():
    """The first request of a conversation, and the second."""
    first = [
        {"role": "system", "content": words(60, 3)},
        {"role": "user", "content": "What is a capsule of " + words(20, 5)},
    ]
    answer = {"role": "assistant", "content": "A file of " + words(20, 9)}
    return first, [*first, answer, {"role": "user", "content": "What is a tensor of " + words(10, 13)}]


def ids(gateway, messages, **more):
    """What the engine makes of a request, asked at its private socket."""
    line = Path(f"/proc/{gateway.engine()}/cmdline").read_text().split("\0")
    engine = llama_server.Client(Path(line[line.index("--host") + 1]).parent)
    prompt = engine.post("/apply-template", messages=messages, **more)["prompt"]
    return engine.post("/tokenize", content=prompt, add_special=True, parse_special=True)["tokens"]


def in_common(one, other):
    return next((at for at, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))


def edits(kvcap, name, model, arguments):
    """Edits of one model's conversations: what was kept of each, by its name."""
    first, second = conversation()
    look, other = tools("reads"), tools("shows")
    question = {"role": "user", "content": second[-1]["content"].replace("tensor", "matrix")}
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for file, text in (("template", TEMPLATE), ("changed", CHANGED)):
            (home / file).write_text(text)

        def start(file):
            return Gateway(kvcap, model, home, arguments=(*arguments, "--chat-template-file", home / file))

        gateway = start("template")
        held = ids(gateway, second, tools=look)
        ends = [len(ids(gateway, first, tools=look)), len(held)]
        for what in ("last turn", "tools", "template"):
            for messages in (first, second):
                gateway.chat(what, messages, 1, tools=look)
                saved = gateway.ask("POST", f"/v1/sessions/{what.replace(' ', '%20')}/checkpoint")
                require("a turn is saved", saved.status in (200, 201), saved)
        for what, messages, own in (
            ("last turn", [*second[:-1], question], look),
            ("tools", second, other),
            ("template", second, look),
        ):
            if what == "template":
                gateway.end()
                gateway = start("changed")
            asked = ids(gateway, messages, tools=own)
            # takes the only slot, so that what is kept comes from a capsule
            control = gateway.chat(f"from nothing, {what}", messages, tools=own)
            require("a session of its own is fresh", control.restored == 0, control)
            edited = gateway.chat(what, messages, tools=own)
            common = in_common(held, asked)
            rows[what] = (edited.restored, edited.evaluated, edited.code, common)
            require(f"every token is counted: {what}, {len(asked)}", edited.restored + edited.evaluated == len(asked), edited)
            require("nothing is called exact that was edited", edited.rung != "exact", edited)
            require("it says the same as from nothing", edited.text == control.text, edited)
            # a state that cannot be cut is kept where it ends before the edit
            whole = max((end for end in ends if end <= common), default=0)
            kept = {"full": common, "window": 0}.get(kind(name, arguments), whole)
            require(f"what is in common is kept: {what}, {kept}", edited.restored == kept, edited)
            require("there is a reason", edited.code == ("KVC-960" if kept else edited.code) and edited.code, edited)
        gateway.end()
    print(f"gateway: {name}: edits")
    for what, (restored, evaluated, code, common) in rows.items():
        print(f"  {what:<26} {restored:>6} restored {evaluated:>6} evaluated  {code}  {common} in common")
    return rows


def kind(name, arguments):
    """What can be kept of a state: any part of it, all of it alone, or nothing."""
    if name.startswith("full"):
        return "full"
    return "window" if name.startswith("sliding") and "--swa-full" not in arguments else "whole"


def page(found):
    lines = [f"| restored / evaluated | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|"]
    for what, named in EDITS.items():
        rows = [rows[what] for rows in found.values()]
        (common,) = {row[3] for row in rows}
        cells = [f"{restored} / {evaluated}, {code}" for restored, evaluated, code, _ in rows]
        lines.append(f"| {named}: {common} in common | {' | '.join(cells)} |")
    table = "\n".join(lines)
    return f"""## An edited transcript

`tests/live/run --edits`: a chat of two turns with one tool, each turn saved, in llama-server {llama_server.VERSION}; then another conversation takes the slot, and the second turn is asked again with one thing changed. The template puts tools first; it is another file after a restart of the server. What is in common is what the engine's own template and tokenizer make of both requests, asked of the engine; each answer is compared with that of a conversation that was evaluated from nothing. {report.machine(llama_server.PACKAGES)}

{table}
"""


def main():
    arguments = argparse.ArgumentParser(prog="tests/live/run --edits")
    arguments.add_argument("kvcap", help=argparse.SUPPRESS)
    arguments.add_argument("--edits", action="store_true", help=argparse.SUPPRESS)
    arguments.add_argument("--gateway", action="store_true", help=argparse.SUPPRESS)
    arguments.add_argument("--short", action="store_true", help="the small model alone, nothing written")
    arguments = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.gguf"
        to_gguf.convert(environments.MODEL, small)
        models = [("full attention", small, ())]
        if not arguments.short:
            models += others()
        found = {name: edits(arguments.kvcap, *one) for one in models for name in one[:1]}
    if len(found) == 4:
        results.write("edits", page(found), PAGE)


if __name__ == "__main__":
    main()
