"""Sessions: what replay, contexts, ladders and resumes accept, refuse, and leave as it was."""

import copy
import unittest

from kvcap_ref import resumes, session
from kvcap_ref.errors import Refusal

NAMES = {"session": "s"}
STATE = {"name": "a", "positions": 100, "whole": False}


def log(*entries):
    """Events of (kind, body), chained from the origin."""
    head, events = session.origin(NAMES), []
    for seq, (kind, body) in enumerate(entries, 1):
        events.append({"seq": seq, "at": 7, "kind": kind, "body": body, "previous": head})
        head = session.event_digest(session.check_event(events[-1]))
    return events


def talk(turns):
    return log(*[(kind, f"{kind} {turn}") for turn in range(1, turns + 1) for kind in ("user", "assistant")])


def record(**members):
    """The record of an empty log."""
    empty = {
        **{"form": 1, **NAMES, "version": 1, "at": 7, "cause": "asked", "replay_cursor": 0},
        **{"head": session.origin(NAMES), "turns": 0, "messages": 0, "summary": "", "summary_cursor": 0},
        **{"recent": [], "agent_state": {}},
    }
    return session.check_record({**empty, **members})


def facts(*states, **others):
    return {"context": 0, "reserve": 0, "states": list(states), "bases": [], "history": {"messages": 2}, **others}


class Session(unittest.TestCase):
    def refused(self, code, call, *arguments):
        with self.assertRaises(Refusal) as refused:
            call(*arguments)
        self.assertEqual(refused.exception.code, code)


class Replay(Session):
    def test_twice_is_once_and_two_devices_are_one(self):
        events = talk(3)
        once = session.replay(record(), events)
        self.assertEqual((once["turns"], once["messages"], once["replay_cursor"]), (3, 6, 6))
        self.assertEqual(session.replay(record(), events + events), once)
        self.assertEqual(session.replay(record(), events[:4] + events[2:] + events[:5]), once)
        self.assertEqual(session.replay(once, events), once)
        self.assertEqual(session.replay(session.replay(record(), events[:3]), events), once)

    def test_a_gap_an_order_and_another_log_are_refused_and_change_nothing(self):
        before = record()
        kept = copy.deepcopy(before)
        events, others = talk(3), talk(4)[:-1] + log(("note", "x"))
        self.refused(952, session.replay, before, events[1:])
        self.refused(952, session.replay, before, events[:2] + events[3:])
        self.refused(952, session.replay, before, [events[0], events[2], events[1]])
        forked = {**events[2], "body": "another"}
        self.refused(953, session.replay, before, events[:3] + [forked])
        self.refused(953, session.replay, before, events[:2] + [forked] + events[3:])
        self.refused(953, session.replay, before, [*events, others[-1]])
        # the event at the record's cursor has to be the record's
        moved = session.replay(before, events[:3])
        self.refused(953, session.replay, moved, [forked])
        self.assertEqual(before, kept)

    def test_a_revert_takes_back_and_brings_back(self):
        said = [("user", "1"), ("assistant", "2"), ("user", "3")]
        back = session.replay(record(), log(*said, ("revert", {"to": 1}), ("user", "5")))
        self.assertEqual([event["body"] for event in back["recent"]], ["1", "5"])
        self.assertEqual((back["replay_cursor"], back["turns"]), (5, 2))
        again = session.replay(record(), log(*said, ("revert", {"to": 1}), ("revert", {"to": 3})))
        self.assertEqual([event["body"] for event in again["recent"]], ["1", "2", "3"])
        events = log(*said, ("revert", {"to": 1}))
        self.refused(958, session.replay, session.replay(record(), events[:2]), events)
        self.refused(950, log, ("revert", {"to": 1}))

    def test_five_turns_leave_before_a_ninth(self):
        eight = session.replay(record(), talk(8))
        self.assertEqual((len(eight["recent"]), eight["summary"], eight["summary_cursor"]), (16, "", 0))
        nine = session.replay(record(), talk(9))
        self.assertEqual((len(nine["recent"]), nine["summary_cursor"]), (8, 10))
        self.assertEqual(nine["summary"].splitlines()[0], "user: user 1")
        self.assertEqual(len(nine["summary"].splitlines()), 10)
        asked = []

        def summarize(summary, leaving):
            asked.append((summary, [event["seq"] for event in leaving]))
            return "short"

        self.assertEqual(session.replay(record(), talk(9), summarize)["summary"], "short")
        self.assertEqual(asked, [("", list(range(1, 11)))])
        self.refused(951, session.replay, record(), talk(9), lambda *_: "x" * (session.MAX_SUMMARY + 1))

    def test_the_last_milestone_holds(self):
        one, two = {"objective": "a"}, {"objective": "b", "own": 1}
        events = log(*[("milestone", {"agent_state": state}) for state in (one, two)], ("milestone", "text"))
        self.assertEqual(session.replay(record(), events)["agent_state"], two)
        back = log(*[("milestone", {"agent_state": state}) for state in (one, two)], ("revert", {"to": 1}))
        self.assertEqual(session.replay(record(), back)["agent_state"], one)

    def test_the_plain_summary_is_bounded(self):
        lines = session.plain_summary("", log(("user", "a\nb"), ("tool", "c"), ("assistant", {"content": "d" * 300})))
        self.assertEqual(lines, f"user: a b\nassistant: {'d' * 200}\n")
        full = session.plain_summary("x" * 9000 + "\n" + "y" * 9000 + "\n", [])
        self.assertEqual(full, "y" * 9000 + "\n")
        self.assertEqual(session.plain_summary("é" * 9000, []), "é" * 8192)


class Context(Session):
    def test_what_was_seen_is_stable_and_the_rest_is_not(self):
        events = talk(3)
        saved = session.replay(record(), events[:4])
        found = session.context(saved, events, None, 10_000)
        self.assertEqual([message["content"] for message in found["delta"]], ["user 3", "assistant 3"])
        self.assertEqual((len(found["stable"]), found["left_out"]), (4, 0))
        found = session.context(saved, events, 2, 10_000)
        self.assertEqual((len(found["stable"]), len(found["delta"])), (2, 4))
        self.refused(950, session.context, saved, events, 5, 10_000)
        later = session.replay(record(), talk(9))
        self.refused(958, session.context, later, [], 9, 10_000)

    def test_the_oldest_turns_are_left_out_and_nothing_new(self):
        saved = session.replay(record(), talk(3))
        whole = session.context(saved, [], None, 10_000)
        size = sum(len(session.to_json(message)) for message in whole["stable"])
        self.assertEqual(session.context(saved, [], None, size)["left_out"], 0)
        shorter = session.context(saved, [], None, size - 1)
        self.assertEqual((shorter["left_out"], shorter["stable"]), (2, whole["stable"][2:]))
        self.assertEqual(session.context(saved, [], None, 0)["stable"], [])
        self.refused(951, session.context, saved, [], 0, size - 1)

    def test_summary_and_state_come_first(self):
        state = {"objective": "o", "own": ["\n"]}
        saved = record(summary="one\ntwo\n", agent_state=state)
        (first,) = session.context(saved, [], None, 10_000)["stable"]
        self.assertEqual(
            first["content"],
            "Summary of the conversation so far:\none\ntwo\n\n"
            'State of the work:\n{"objective":"o","own":["\\n"]}',
        )
        self.assertEqual(session.context(record(), [], None, 0), {"stable": [], "delta": [], "left_out": 0})


class Ladder(Session):
    def taken(self, given):
        found = session.plan(given)
        return found["taken"]["rung"], found["taken"].get("state"), found["reason"]

    def test_a_rung_is_taken_for_its_reason(self):
        older = {**STATE, "name": "b", "positions": 60}
        for wanted, given in [
            (("exact", "a", 0), facts(STATE, older)),
            (("shorter", "a", 960), facts({**STATE, "common": 70}, older)),
            (("shorter", "b", 960), facts({**STATE, "common": 50}, older)),
            (("shorter", "b", 960), facts({**STATE, "common": 50, "whole": True}, older)),
            (("history-only", None, 960), facts({**STATE, "common": 0})),
            (("shorter", "b", 802), facts({**STATE, "code": 802}, older)),
            (("shorter", "b", 959), facts(STATE, older, context=110, reserve=20)),
            (("exact", "a", 0), facts(STATE, older, context=120, reserve=20)),
            (("history-only", None, 957), facts()),
            (("fresh", None, 957), facts(history={"messages": 0})),
            (("shorter", "c", 957), facts(bases=[{**STATE, "name": "c"}])),
        ]:
            self.assertEqual(self.taken(given), wanted)

    def test_why_not_is_said_of_each(self):
        found = session.plan(facts({**STATE, "common": 50, "whole": True}, {**STATE, "name": "b", "code": 407}))
        codes = [(one["rung"], one.get("code")) for one in found["steps"]]
        self.assertEqual(
            codes, [("exact", 960), ("shorter", 961), ("shorter", 407), ("history-only", None), ("fresh", None)]
        )

    def test_a_code_leads_where_the_table_says(self):
        older = {**STATE, "name": "b"}
        leads = {926: "shorter", 805: "shorter", 999: "shorter", 601: "history-only", 956: "fresh"}
        for code, wanted in leads.items():
            given = facts(STATE, older, failed=[{"name": "a", "code": code}])
            self.assertEqual(self.taken(given)[0], wanted)
        for code in [907, 940, 946, 947, 952, 955]:
            self.refused(code, session.plan, facts(STATE, older, failed=[{"name": "a", "code": code}]))
        many = [{**STATE, "name": str(number)} for number in range(257)]
        self.refused(951, session.plan, facts(*many))


class Resumes(Session):
    CLAIM = {"milliseconds": 7250, "rung": "exact", "positions": 100, "state": "a", "ineffective": []}

    def test_one_token_less_confirms_and_two_do_not(self):
        found, refused = resumes.confirm(self.CLAIM, {"restored": 99, "evaluated": 20}, 8000)
        self.assertEqual((found["at"], found["milliseconds"], found["asked"]), (7, 750, 119))
        self.assertIsNone(refused)
        self.assertEqual(resumes.confirm(self.CLAIM, {"restored": 98, "evaluated": 20}, 8000), (None, ["a"]))
        # of a request that ends before the state, as many as it has
        found, _ = resumes.confirm(self.CLAIM, {"restored": 49, "evaluated": 1}, 0)
        self.assertEqual((found["asked"], found["milliseconds"]), (50, 0))
        again = {**self.CLAIM, "ineffective": ["b"]}
        self.assertEqual(resumes.confirm(again, {"restored": 0, "evaluated": 1000}, 0), (None, ["b", "a"]))
        self.refused(950, resumes.confirm, {**self.CLAIM, "rung": "longer"}, {"restored": 1, "evaluated": 1}, 0)

    def test_a_torn_line_goes_and_of_too_many_the_older_half(self):
        for data, lines in [
            (b"", []),
            (b"a\n", [b"a"]),
            (b"a\nb", [b"a"]),
            (b"a\n\0\n", [b"a"]),
            (b"a\n\0\n\0", [b"a", b"\0"]),
            (b"a\n\n", [b"a", b""]),
        ]:
            self.assertEqual(resumes.whole_lines(data), lines)
        lines = list(range(2048))
        self.assertEqual(resumes.appended(lines[1:], 0), [*lines[1:], 0])
        self.assertEqual(resumes.appended(lines, 0), [*lines[1024:], 0])

    def test_an_increment_lives_for_half_of_its_time(self):
        capsule = {"expires": 1051, "ancestors": []}
        self.assertTrue(resumes.may_be_continued(capsule, 1000, 1102))
        self.assertFalse(resumes.may_be_continued(capsule, 1000, 1103))
        self.assertTrue(resumes.may_be_continued({**capsule, "ancestors": ["x"] * 14}, 1000, 1100))
        self.assertFalse(resumes.may_be_continued({**capsule, "ancestors": ["x"] * 15}, 1000, 1100))

    def test_what_is_kept_keeps_its_chain(self):
        states = [{"version": n, "capsule": {"id": str(n), "ancestors": [str(n - 1)] * (n > 2)}} for n in (1, 2, 3)]
        found = resumes.kept([*states, {"version": 4}], [], 1)
        self.assertEqual((found["versions"], found["capsules"]), ([3, 4], ["2", "3"]))
        self.assertEqual((found["removable_versions"], found["removable_capsules"]), ([1, 2], ["1"]))
        self.assertEqual(resumes.kept(states, [1, 9], 0)["versions"], [1, 3])


class Values(Session):
    def test_what_two_implementations_would_not_agree_on_is_refused(self):
        for text in ["null", "1.0", "1e3", "-0", str(2**53), '"\\ud800"', '{"a":1,"a":1}', "{", "[NaN]"]:
            self.refused(950, session.from_json, text, 100)
        self.assertEqual(session.from_json(str(2**53 - 1), 100), 2**53 - 1)
        self.refused(951, session.from_json, '"' + "x" * 100 + '"', 100)

    def test_a_version_is_put_once(self):
        first = record()
        self.assertIsNone(session.check_put(first, record()))
        self.assertIsNone(session.check_put(first, record(version=2)))
        self.refused(954, session.check_put, first, record(at=8))
        self.refused(954, session.check_put, first, record(version=3))

    def test_a_record_says_nothing_that_cannot_be(self):
        first = talk(1)
        for members in [
            {"parent_version": 1},
            {"summary_cursor": 1},
            {"turns": 1},
            {"recent": first},
            {"recent": first[::-1], "replay_cursor": 2},
            {"recent": log(("note", "x")), "replay_cursor": 1},
            {"unknown": 1},
        ]:
            with self.subTest(members):
                self.refused(950, lambda: record(**members))


if __name__ == "__main__":
    unittest.main()
