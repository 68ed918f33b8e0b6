#!/usr/bin/env python3
"""A hook of an agent's command line: the JSON on stdin becomes events and checkpoints of a session of kvcap's.

KVCAP_SERVER and KVCAP_SLOTS name a llama-server and its folder of slots: then a checkpoint has the model's state, and
its capsule stands beside the transcript. It never stops the agent: a failure is said on stderr, with exit status 1.
"""

import json
import os
import subprocess
import sys
import urllib.request

#: characters that are kept of a message
LONGEST = 100_000


def kvcap(*words, stdin=""):
    """The answer to a verb: one object."""
    ran = subprocess.run(["kvcap", *words, "--json"], input=stdin, capture_output=True, text=True)
    return json.loads(ran.stdout)


def done(answer):
    if not answer["ok"]:
        sys.exit(f"kvcap: error[KVC-{answer['error']['code']}]: {answer['error']['message']}")
    return answer


def append(session, kind, text, **more):
    if text.strip():
        body = json.dumps({"content": text[:LONGEST], **more})
        done(kvcap("events", "append", session, "--kind", kind, "--body", "-", stdin=body))


def said_last(transcript):
    """The words of the last answer in a transcript, which has an object a line."""
    words = ""
    if transcript and os.path.exists(transcript):
        with open(transcript, encoding="utf-8") as lines:
            for line in lines:
                message = json.loads(line).get("message") or {}
                if message.get("role") == "assistant":
                    content = message.get("content") or ""
                    parts = [{"text": content}] if isinstance(content, str) else content
                    words = "\n".join(part.get("text") or "" for part in parts) or words
    return words


def checkpoint(session, transcript):
    server, slots = os.environ.get("KVCAP_SERVER"), os.environ.get("KVCAP_SLOTS")
    if not server or not slots:
        return done(kvcap("checkpoint", session))
    state = os.path.join(slots, f"{os.getpid()}.bin")
    request = json.dumps({"filename": os.path.basename(state)}).encode()
    urllib.request.urlopen(urllib.request.Request(f"{server}/slots/0?action=save", request)).close()
    try:
        beside = ["--beside", transcript] if transcript else []
        return done(kvcap("checkpoint", session, state, *beside))
    finally:
        os.remove(state)


def main():
    told = json.load(sys.stdin)
    session, transcript, event = told["session_id"], told.get("transcript_path"), told["hook_event_name"]
    if event == "SessionStart":
        # what is printed is read by the model
        resumed = kvcap("resume", session)
        if resumed["ok"]:
            print(f"{resumed['sentence']} {resumed['current']['turns']} turns are in the log of session {session}.")
        elif resumed["error"]["code"] != 955:
            done(resumed)
    elif event == "UserPromptSubmit":
        append(session, "user", told["prompt"])
    elif event == "PostToolUse":
        answer = told.get("tool_response") or ""
        text = answer if isinstance(answer, str) else json.dumps(answer)
        append(session, "tool", text, name=told["tool_name"], input=json.dumps(told.get("tool_input"))[:LONGEST])
    elif event == "Stop":
        append(session, "assistant", told.get("last_assistant_message") or said_last(transcript))
        checkpoint(session, transcript)
    elif event in ("PreCompact", "SessionEnd"):
        checkpoint(session, transcript)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        sys.exit(f"agent_hook: {type(error).__name__}: {error}")
