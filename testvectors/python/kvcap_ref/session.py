"""Sessions: events, records, replay, contexts and ladders of session-v1."""

import json
import re

import blake3

from . import cbor
from .errors import Refusal, require

MAX_INTEGER = 2**53 - 1
MAX_EVENT, MAX_RECORD, MAX_SUMMARY, MAX_AGENT_STATE = 1 << 20, 16 << 20, 256 << 10, 1 << 20
MAX_REPLAY, MAX_LOG = 65_536, 256 << 20
MESSAGES = ("user", "assistant", "tool")
KINDS = MESSAGES + ("milestone", "note", "revert")
CAUSES = ("asked", "turns", "tool", "milestone", "idle", "expiry", "exit", "signal", "revert", "branch")
STATUSES = ("pending", "active", "done", "dropped")


# §2 Values


def no_float(text):
    raise Refusal(950, f"a number that is no integer: {text}")


def integer(text):
    require(text != "-0", 950, "a zero with a sign")
    # a text of more digits than the largest has is not worth computing
    require(len(text) <= 17 and abs(int(text)) <= MAX_INTEGER, 950, "an integer beyond 53 bits")
    return int(text)


def pairs(members):
    found = dict(members)
    require(len(found) == len(members), 950, "a member stands twice")
    return found


def encode(value):
    """Deterministic CBOR, which the strict scanner has read again."""
    try:
        data = cbor.encode(value)
    except (TypeError, ValueError) as error:
        raise Refusal(950, str(error)) from None
    cbor.decode(data)
    return data


def limited(value, most):
    data = encode(value)
    require(len(data) <= most, 951, "larger than allowed")
    return data


def from_json(text, most):
    try:
        value = json.loads(
            text, parse_float=no_float, parse_constant=no_float, parse_int=integer, object_pairs_hook=pairs
        )
    except (ValueError, RecursionError) as error:
        raise Refusal(950, str(error)) from None
    return checked_value(value, most)


def from_cbor(data, most):
    require(len(data) <= most, 951, "larger than allowed")
    return checked_value(cbor.decode(data), most)


def checked_value(value, most):
    """A value that JSON and CBOR both have."""

    def walk(item):
        if isinstance(item, dict):
            for key, inner in item.items():
                require(type(key) is str, 950, "a key that is no text")
                walk(key)
                walk(inner)
        elif isinstance(item, list):
            for inner in item:
                walk(inner)
        elif type(item) is int:
            require(abs(item) <= MAX_INTEGER, 950, "an integer beyond 53 bits")
        elif type(item) is str:
            require(not re.search("[\ud800-\udfff]", item), 950, "half of a pair of surrogates")
        else:
            require(type(item) is bool, 950, "null, or a byte string")

    try:
        walk(value)
    except RecursionError:
        raise Refusal(204, "nested too deep") from None
    limited(value, most)
    return value


def to_json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def labelled(label, data):
    return blake3.blake3(data, derive_key_context=label).hexdigest()


def members(value, required, optional=()):
    """Exactly these members: `required` and any of `optional`, each judged by its function."""
    require(type(value) is dict, 950, "no object")
    known = {**dict(required), **dict(optional)}
    for name in value:
        require(name in known, 950, f"no member {name}")
    for name in dict(required):
        require(name in value, 950, f"{name} is missing")
    for name, item in value.items():
        require(known[name](item), 950, f"{name}")
    return value


def text(value):
    return type(value) is str


def number(value):
    return type(value) is int and value >= 0


def boolean(value):
    return type(value) is bool


def hexadecimal(digits):
    return lambda value: text(value) and bool(re.fullmatch(f"[0-9a-f]{{{digits}}}", value))


digest, capsule_id = hexadecimal(64), hexadecimal(32)


def name(value):
    control = text(value) and any(ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F for c in value)
    return text(value) and 1 <= len(value.encode()) <= 1024 and not control


def depth(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


# §4.2 Agent state


def list_of(judge):
    return lambda value: type(value) is list and all(map(judge, value))


def known(judges, needed=None):
    """An object whose known members are judged, and whose others are kept."""

    def judge(value):
        if type(value) is not dict or needed is not None and needed not in value:
            return False
        return all(judges[key](item) for key, item in value.items() if key in judges)

    return judge


REPOSITORY = {"remote": text, "branch": text, "commit": text, "dirty": boolean}
PLAN = {"step": text, "status": lambda value: value in STATUSES}
JOB = {"id": text, "what": text, "where": text, "submitted": number, "status": text}
ARTIFACT = {"path": text, "digest": text, "what": text}
AGENT_STATE = known(
    {
        "objective": text,
        "repository": known(REPOSITORY),
        "plan": list_of(known(PLAN, "step")),
        "jobs": list_of(known(JOB, "id")),
        "artifacts": list_of(known(ARTIFACT, "path")),
        "decisions": list_of(text),
        "known_issues": list_of(text),
        "next_actions": list_of(text),
    }
)


def check_agent_state(value):
    require(depth(value) <= 6, 204, "more than six levels")
    require(AGENT_STATE(value), 950, "agent state")
    limited(value, MAX_AGENT_STATE)
    return value


# §3 Log

EVENT = {
    "seq": lambda value: number(value) and value > 0,
    "at": number,
    "kind": lambda value: value in KINDS,
    "body": lambda value: type(value) in (str, dict),
    "previous": digest,
}


def check_event(event):
    members(event, EVENT)
    kind, body = event["kind"], event["body"]
    require(kind == "milestone" or depth(body) <= 5, 204, "nested too deep")
    if kind == "revert":
        require(type(body) is dict and set(body) == {"to"}, 950, "body of a revert")
        require(number(body["to"]) and body["to"] < event["seq"], 950, "a revert to itself or later")
    elif type(body) is dict:
        require(kind not in MESSAGES or "role" not in body, 950, "a message names its role")
        if kind == "milestone" and "agent_state" in body:
            check_agent_state(body["agent_state"])
    return event


def event_digest(event):
    return labelled("kvcap v1 event", encode(event))


def origin(names):
    return labelled("kvcap v1 log", encode([names.get("tenant", ""), names.get("subject", ""), names["session"]]))


# §4.1 Records

CAPSULE = {
    "id": capsule_id,
    "lineage": digest,
    "version": number,
    "cursor": number,
    "positions": number,
    "bytes": number,
    "expires": number,
    "model": digest,
    "ancestors": list_of(capsule_id),
    "controller": boolean,
}
BRANCH_OF = {"session": text, "version": number}


def of(shape, optional=()):
    return lambda value: members(value, shape, optional) is value


RECORD = {
    "form": lambda value: value == 1 and type(value) is int,
    "session": name,
    "version": lambda value: number(value) and value > 0,
    "at": number,
    "cause": lambda value: value in CAUSES,
    "replay_cursor": number,
    "head": digest,
    "turns": number,
    "messages": number,
    "summary": text,
    "summary_cursor": number,
    "recent": list_of(lambda event: check_event(event) is event),
    "agent_state": lambda value: check_agent_state(value) is value,
}
RECORD_OPTIONAL = {
    "tenant": name,
    "subject": name,
    "parent_version": number,
    "branch_of": of(BRANCH_OF),
    "capsule": of(CAPSULE, {"session": name}),
}


def check_record(record):
    members(record, RECORD, RECORD_OPTIONAL)
    require(record.get("parent_version", -1) < record["version"], 950, "the parent is not before it")
    numbers = [record["summary_cursor"], *(event["seq"] for event in record["recent"])]
    require(all(a < b for a, b in zip(numbers, numbers[1:])), 950, "recent messages do not ascend")
    require(numbers[-1] <= record["replay_cursor"], 950, "a recent message after the cursor")
    require(all(event["kind"] in MESSAGES for event in record["recent"]), 950, "a recent event that is no message")
    require(record["turns"] <= record["messages"], 950, "fewer messages than turns")
    if capsule := record.get("capsule"):
        own = "session" not in capsule
        require(not own or capsule["version"] <= record["version"], 950, "a capsule of a later version")
        require(capsule["cursor"] <= record["replay_cursor"], 950, "a capsule that has seen more")
    require(len(record["summary"].encode()) <= MAX_SUMMARY, 951, "summary")
    return record


def check_put(there, put):
    if put["version"] == there["version"]:
        require(encode(put) == encode(there), 954, "other content")
    else:
        require(put["version"] == there["version"] + 1, 954, "not the next version")


# §5 Replay


def take(record, events):
    """(live events after the record, cursor, head)."""
    cursor, head = record["replay_cursor"], record["head"]
    seen, live = {cursor: head}, []
    live_after = {cursor: live}
    for event in events:
        if event["seq"] <= cursor:
            require(seen.get(event["seq"]) in (None, event_digest(event)), 953, "another event of this number")
            continue
        require(len(seen) <= MAX_REPLAY, 951, "too many events")
        require(event["seq"] == cursor + 1, 952, "an event is missing")
        require(event["previous"] == head, 953, "the event goes on from another log")
        cursor, head = event["seq"], event_digest(event)
        seen[cursor] = head
        if event["kind"] == "revert":
            to = event["body"]["to"]
            require(to >= record["replay_cursor"], 958, "a revert to before the record")
            live = live_after[to]
        else:
            live = [*live, event]
        live_after[cursor] = live
    return live, cursor, head


def brought(event):
    """The agent state that a milestone brings, or None."""
    if event["kind"] == "milestone" and type(event["body"]) is dict:
        return event["body"].get("agent_state")
    return None


def said(event):
    body = event["body"]
    content = body if type(body) is str else body.get("content", "")
    return content if type(content) is str else ""


def plain_summary(summary, leaving):
    for event in leaving:
        if event["kind"] in ("user", "assistant"):
            line = said(event)[:200].replace("\n", " ").replace("\r", " ")
            summary += f"{event['kind']}: {line}\n"
    while len(summary.encode()) > 16_384:
        _, _, rest = summary.partition("\n")
        summary = rest or summary.encode()[:16_384].decode(errors="ignore")
    return summary


def replay(record, events, summarize=plain_summary):
    live, cursor, head = take(record, events)
    following = {**record, "replay_cursor": cursor, "head": head, "recent": list(record["recent"])}
    for event in live:
        following["agent_state"] = following["agent_state"] if brought(event) is None else brought(event)
        if event["kind"] not in MESSAGES:
            continue
        recent = following["recent"]
        if event["kind"] == "user":
            begins = [at for at, one in enumerate(recent) if one["kind"] == "user"]
            if len(begins) >= 8:
                leaving, following["recent"] = recent[: begins[5]], recent[begins[5] :]
                following["summary"] = summarize(following["summary"], leaving)
                following["summary_cursor"] = leaving[-1]["seq"]
            following["turns"] += 1
        following["messages"] += 1
        following["recent"].append(event)
    return check_record(following)


# §6 Context


def message(event):
    body = event["body"]
    return {**(body if type(body) is dict else {"content": body}), "role": event["kind"]}


def context(record, events, seen, most):
    live, _, _ = take(record, events)
    seen = record["replay_cursor"] if seen is None else seen
    require(seen >= record["summary_cursor"], 958, "seen less than what was summarized")
    require(seen <= record["replay_cursor"], 950, "seen more than the record")
    state = record["agent_state"]
    for event in live:
        state = state if brought(event) is None else brought(event)
    parts = []
    if record["summary"]:
        parts.append("Summary of the conversation so far:\n" + record["summary"].rstrip("\n"))
    if state:
        parts.append("State of the work:\n" + to_json(state))
    first = [{"role": "system", "content": "\n\n".join(parts)}] if parts else []
    all_messages = [event for event in record["recent"] + live if event["kind"] in MESSAGES]
    stable = [event for event in all_messages if event["seq"] <= seen]
    delta = [message(event) for event in all_messages if event["seq"] > seen]

    def size():
        return sum(len(to_json(one).encode()) for one in first + list(map(message, stable)) + delta)

    left_out = 0
    while size() > most:
        require(stable, 951, "what is to be evaluated does not fit")
        end = next((at for at, one in enumerate(stable) if at and one["kind"] == "user"), len(stable))
        left_out, stable = left_out + end, stable[end:]
    return {"stable": first + list(map(message, stable)), "delta": delta, "left_out": left_out}


# §7 Ladder

SENTENCES = {
    "exact": "The conversation goes on where it stopped.",
    "shorter": "Part of the model's memory was restored; the rest of the conversation is read again.",
    "history-only": "The model's memory could not be restored; it reads a summary and the latest turns again, "
    "and may miss details of earlier ones.",
    "fresh": "Nothing of the earlier conversation could be used; this is a new one.",
}
HISTORY_ONLY = {308, 309, 310, 311, *range(313, 317), 401, 412, *range(601, 605), *range(608, 613), *range(930, 934)}
STOP = {907, *range(940, 949), *range(952, 956)}


def judge(state, exact, facts):
    positions = state["positions"]
    common = state.get("common", positions)
    restored = min(common, positions)
    if "code" in state:
        return restored, state["code"]
    if common < positions and (exact or common == 0):
        return restored, 960
    if common < positions and state["whole"]:
        return restored, 961
    if facts["context"] and restored + facts["reserve"] > facts["context"]:
        return restored, 959
    return restored, None


def step(rung, state=None, positions=0, code=None):
    shown = {"rung": rung}
    if state:
        shown |= {"state": state["name"], "positions": positions}
    return shown if code is None else shown | {"code": code}


def fail(facts, failed):
    """The facts after a state has failed with a code."""
    code = failed["code"]
    require(code not in STOP, code, "for its user to mend")
    every = code in HISTORY_ONLY or code == 956

    def after(states):
        hit = [every or state["name"] == failed["name"] for state in states]
        return [{"code": code, **state} if one else state for one, state in zip(hit, states)]

    history = {"code": code, **facts["history"]} if code == 956 else facts["history"]
    return {**facts, "states": after(facts["states"]), "bases": after(facts["bases"]), "history": history}


def plan(facts):
    for failed in facts.get("failed", []):
        facts = fail(facts, failed)
    states, bases, history = facts["states"], facts["bases"], facts["history"]
    require(len(states) + len(bases) <= 256, 951, "too many states")
    first = step("exact", states[0], *judge(states[0], True, facts)) if states else step("exact", code=957)
    shorter = [step("shorter", state, *judge(state, False, facts)) for state in states + bases]
    last = step("history-only", code=history.get("code", 956 if history["messages"] == 0 else None))
    steps = [first, *shorter, last, step("fresh")]
    free = [one for one in steps if "code" not in one]
    # of equal ones max() takes the first
    longest = max((one for one in free if one["rung"] == "shorter"), key=lambda one: one["positions"], default=None)
    taken = first if "code" not in first else longest or next(one for one in free if one["rung"] != "shorter")
    return {"steps": steps, "taken": taken, "reason": first.get("code", 0), "sentence": SENTENCES[taken["rung"]]}


# §11.1 Versions that a relay keeps

PIECE = {
    "form": lambda value: value == 1 and type(value) is int,
    "origin": name,
    "created": number,
    "after": number,
}


def items(data):
    while data:
        require(len(data) >= 4, 950, "a length that is cut")
        length = int.from_bytes(data[:4], "little")
        require(length <= MAX_EVENT, 951, "an item is too long")
        require(len(data) >= 4 + length, 950, "an item that is cut")
        yield data[4 : 4 + length]
        data = data[4 + length :]


def sealed_version(history, log, names):
    """The version that the sections of a capsule hold, of a session of these names."""
    record = check_record(from_cbor(history, MAX_RECORD))
    require({n: record[n] for n in ("tenant", "subject", "session") if n in record} == names, 950, "another session's")
    require(len(log) <= MAX_LOG, 951, "log")
    first, *rest = list(items(log)) or [None]
    require(first is not None, 950, "no items")
    piece = members(from_cbor(first, MAX_EVENT), PIECE, {"capsule": of(CAPSULE, {"session": name})})
    if "capsule" in piece:
        record = check_record({**record, "capsule": piece["capsule"]})
    events = [check_event(from_cbor(item, MAX_EVENT)) for item in rest]
    cursor, head = piece["after"], None
    if cursor == 0:
        head = origin({**names, "session": piece["origin"]})
    for event in events:
        require(event["seq"] == cursor + 1, 952, "an event is missing")
        require(head in (None, event["previous"]), 953, "the event goes on from another log")
        cursor, head = event["seq"], event_digest(event)
    require(cursor == record["replay_cursor"], 952, "the events do not end at the cursor")
    require(head in (None, record["head"]), 953, "the events end in another log")
    return {
        "record": record,
        "origin": piece["origin"],
        "created": piece["created"],
        "after": piece["after"],
        "events": events,
    }
