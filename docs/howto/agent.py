"""One turn of an agent whose model remembers: python agent.py SESSION WORDS"""

import json
import pathlib
import subprocess
import sys
import time
import urllib.request

MODEL, SERVER, SLOTS = "model.gguf", "http://localhost:8080", pathlib.Path("slots").absolute()


def kvcap(*words):
    return json.loads(subprocess.run(["kvcap", *map(str, words), "--json"], capture_output=True).stdout)


def server(path, **body):
    data = json.dumps(body).encode() if body else None
    with urllib.request.urlopen(urllib.request.Request(SERVER + path, data)) as answer:
        return json.load(answer)


def started():
    options = ["-c", "4096", "-np", "1", "--slot-save-path", f"{SLOTS}/", "--port", SERVER.rsplit(":")[-1]]
    process = subprocess.Popen(["llama-server", "-m", MODEL, *options], stderr=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            return server("/health") and process
        except OSError:
            time.sleep(0.2)
    sys.exit("llama-server did not start")


session, words = sys.argv[1:]
state, request = SLOTS / "chat.bin", SLOTS / "request.json"
SLOTS.mkdir(mode=0o700, exist_ok=True)
kvcap("events", "append", session, words, "--kind", "user")
process = started()
try:
    # each message by itself, so that the ids of what was said stay the same; the marks are the model's
    said = [f"<|im_start|>{e['kind']}\n{e['body']}<|im_end|>\n" for e in kvcap("events", "list", session)["events"]]
    prompt = sum((server("/tokenize", content=text)["tokens"] for text in [*said, "<|im_start|>assistant\n"]), [])
    request.write_text(json.dumps(prompt))
    resumed = kvcap("resume", session, "-o", state, "--tokens", request)
    print(resumed["sentence"] if resumed["ok"] else resumed["error"]["message"], file=sys.stderr)
    if resumed["ok"]:
        server("/slots/0?action=restore", filename="chat.bin")
        state.unlink()
    answer = server("/completion", prompt=prompt, n_predict=24, temperature=0, id_slot=0, cache_prompt=True)
    reused, evaluated = answer["timings"]["cache_n"], answer["timings"]["prompt_n"]
    print(f"{reused} of {len(prompt)} tokens were not evaluated again", file=sys.stderr)
    kvcap("resume", session, "--reused", reused, "--evaluated", evaluated)
    kvcap("events", "append", session, answer["content"], "--kind", "assistant")
    server("/slots/0?action=save", filename="chat.bin")
    saved = kvcap("checkpoint", session, state)
    state.unlink()
    print(answer["content"] if saved["ok"] else saved["error"]["message"])
finally:
    process.terminate()
    process.wait()
