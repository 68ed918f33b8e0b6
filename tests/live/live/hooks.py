"""The hook of an agent's command line on recorded and on written input: python -m live.hooks KVCAP"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
HOOK = ROOT / "docs/howto/agent_hook.py"
INPUT = ROOT / "tests/live/hooks"
#: a saved slot, and the folder of its model
STATE, MODEL = ROOT / "tests/fixtures/llama_ggsq3_f16_fa.bin", ROOT / "tests/fixtures/model"
KINDS = ["user", "tool", "assistant", "user", "assistant"]


class Slots(BaseHTTPRequestHandler):
    """Stands in for llama-server: a slot is saved as a file of its folder."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        shutil.copy(STATE, self.server.folder / body["filename"])
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


class Bench:
    def __init__(self, kvcap, folder):
        self.kvcap, self.folder = kvcap, folder
        self.transcript = folder / "transcript.jsonl"
        shutil.copy(INPUT / "transcript.jsonl", self.transcript)
        self.path = {"PATH": os.pathsep.join([str(kvcap.parent), os.environ["PATH"]])}
        self.home = {name: str(folder / name) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME")}
        self.verb("init", "--model", MODEL, "--runtime", "llama-cpp", "--yes")

    def run(self, command, told="", **environment):
        environment = {**os.environ, **self.home, **self.path, **environment}
        return subprocess.run(command, input=told, env=environment, text=True, capture_output=True)

    def verb(self, *words):
        ran = self.run([self.kvcap, *words, "--json"])
        check(ran.returncode == 0, words, ran.stdout, ran.stderr)
        return json.loads(ran.stdout)

    def hook(self, told, **environment):
        return self.run([sys.executable, HOOK], told, **environment)

    def play(self, name="written.jsonl", **environment):
        """What the hook prints for each input."""
        lines = (INPUT / name).read_text().replace("TRANSCRIPT", str(self.transcript)).splitlines()
        printed = []
        for line in lines:
            ran = self.hook(line, **environment)
            check(ran.returncode == 0, line, ran.stdout, ran.stderr)
            printed.append(ran.stdout)
        return json.loads(lines[0])["session_id"], printed


def check(holds, *what):
    if not holds:
        sys.exit(" ".join(["FAULT hooks:", *map(str, what)]))


def without_server(bench):
    session, printed = bench.play()
    events = bench.verb("events", "list", session)["events"]
    check([event["kind"] for event in events] == KINDS, events)
    bodies = [event["body"]["content"] for event in events]
    check(bodies[0].startswith("Why does") and "401 Unauthorized" in bodies[1], bodies)
    check(bodies[2:] == ["It sends no token.", "Mend it.", "The token is read now."], bodies)
    check(events[1]["body"]["name"] == "Bash", events[1])
    status = bench.verb("status", session[:6])
    check((status["checkpoints"], status["capsules"], status["events_after"]) == (4, 0, 0), status)
    said = [text for text in printed if text]
    check(len(said) == 1 and "1 turns" in said[0] and "reads a summary" in said[0], printed)


def recorded(bench):
    """What the Codex CLI 0.171.0 gave its hooks: one turn, and another after it was ended and resumed."""
    session, printed = bench.play("codex-0.171.0.jsonl")
    events = bench.verb("events", "list", session)["events"]
    check([event["kind"] for event in events] == KINDS, events)
    bodies = [event["body"]["content"] for event in events]
    check(bodies[1] == "a\nb\nlogin: 401 token expired\n" and bodies[3] == "Fix it.", bodies)
    status = bench.verb("status", session)
    check((status["checkpoints"], status["events_after"]) == (4, 0), status)
    said = [text for text in printed if text]
    check(len(said) == 1 and "1 turns" in said[0], printed)


def with_server(bench):
    slots = bench.folder / "slots"
    slots.mkdir()
    with HTTPServer(("localhost", 0), Slots) as server:
        server.folder = slots
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://localhost:{server.server_port}"
        session, printed = bench.play(KVCAP_SERVER=url, KVCAP_SLOTS=str(slots))
        server.shutdown()
    check(not list(slots.iterdir()), "a state was left in the clear")
    check(any("goes on where it stopped" in text for text in printed), printed)
    beside = Path(f"{bench.transcript}.kvcap")
    check(beside.is_file(), "no capsule beside the transcript")
    newest = bench.verb("status", session)["checkpoint"]["state"]
    check(beside.stat().st_size == newest["capsule_bytes"], newest)
    resumed = bench.verb("resume", session, "--beside", bench.transcript, "-o", bench.folder / "out.bin")
    check((bench.folder / "out.bin").read_bytes() == STATE.read_bytes(), resumed)


def refusals(bench):
    """What goes wrong is said, and stops no agent: an exit status of 2 would."""
    start = {"session_id": "none", "hook_event_name": "SessionStart"}
    ran = bench.hook(json.dumps(start))
    check((ran.returncode, ran.stdout, ran.stderr) == (0, "", ""), "a new session", ran)
    other = bench.hook(json.dumps({**start, "hook_event_name": "Notification"}))
    check((other.returncode, other.stdout) == (0, ""), "another event", other)
    for told in ["", "no JSON", "[]", "{}", json.dumps({**start, "session_id": "a\nb", "hook_event_name": "Stop"})]:
        ran = bench.hook(told)
        check(ran.returncode == 1 and ran.stderr.strip() and "Traceback" not in ran.stderr, repr(told), ran)
    stop = json.dumps({**start, "hook_event_name": "Stop", "last_assistant_message": "x"})
    ran = bench.hook(stop, KVCAP_SERVER="http://localhost:1", KVCAP_SLOTS=str(bench.folder))
    check(ran.returncode == 1 and "URLError" in ran.stderr, "no server", ran)


def main():
    for part in (without_server, recorded, with_server, refusals):
        with tempfile.TemporaryDirectory() as folder:
            part(Bench(Path(sys.argv[1]), Path(folder)))
    print("hooks: as expected", file=sys.stderr)


if __name__ == "__main__":
    main()
