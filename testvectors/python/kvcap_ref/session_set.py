"""Runs the session vectors: accepted ones must give the same, refused ones the same code."""

import gzip
import itertools
import json

from . import operations, resumes, session


def read_event(value):
    session.limited(value, session.MAX_EVENT)
    return session.check_event(value)


def read_record(value):
    session.limited(value, session.MAX_RECORD)
    return session.check_record(value)


def shown_event(event):
    return {"cbor": session.encode(event).hex(), "digest": session.event_digest(event)}


def shown_state(state):
    return {"cbor": session.encode(state).hex(), "empty": not state}


def of_cbor(given):
    return shown_event(session.check_event(session.from_cbor(bytes.fromhex(given["cbor"]), session.MAX_EVENT)))


def of_state(given):
    return shown_state(session.check_agent_state(session.from_json(given["json"], session.MAX_AGENT_STATE)))


def of_record(given):
    record = session.check_record(session.from_json(given["json"], session.MAX_RECORD))
    return {"cbor": session.encode(record).hex()}


def replayed(given):
    return session.replay(read_record(given["record"]), list(map(read_event, given["events"])))


def contextual(given):
    record, events = read_record(given["record"]), list(map(read_event, given["events"]))
    return session.context(record, events, given.get("seen"), given["most"])


def confirmed(given):
    observation, refused = resumes.confirm(given["claim"], given["reuse"], given["milliseconds"])
    if observation:
        return {"observation": observation}
    failed = [{"name": state, "code": 926} for state in refused]
    return {"refused": 926, "ineffective": refused, "plan": session.plan({**given["facts"], "failed": failed})}


def observed(given):
    """The observations of a file, equal ones after each other counted."""
    lines = resumes.whole_lines(b"".join(text.encode() * times for text, times in given["file"]))
    if answered := given.get("confirm"):
        observation, _ = resumes.confirm(answered["claim"], answered["reuse"], answered["milliseconds"])
        lines = resumes.appended(lines, session.to_json(observation).encode())
    runs = [[one, len(list(same))] for one, same in itertools.groupby(map(resumes.read_observation, lines))]
    return {"observations": runs}


def version(given):
    return session.sealed_version(bytes.fromhex(given["history"]), bytes.fromhex(given["log"]), given["names"])


OPERATIONS = {
    "event": lambda given: shown_event(session.check_event(session.from_json(given["line"], session.MAX_EVENT))),
    "event-cbor": of_cbor,
    "agent-state": of_state,
    "record": of_record,
    "put": lambda given: session.check_put(read_record(given["there"]), read_record(given["put"])) or {},
    "origin": lambda given: {"head": session.origin(given["names"])},
    "replay": replayed,
    "context": contextual,
    "plan": session.plan,
    "confirm": confirmed,
    "observations": observed,
    "whole": lambda given: {"whole": resumes.is_whole(bytes.fromhex(given["header"]))},
    "continued": lambda given: {"continued": resumes.may_be_continued(**given)},
    "version": version,
    "kept": lambda given: resumes.kept(given["versions"], given["pinned"], given["keep"]),
}


def run(path):
    return operations.run(json.loads(gzip.decompress(path.read_bytes())), OPERATIONS, "session vectors")
