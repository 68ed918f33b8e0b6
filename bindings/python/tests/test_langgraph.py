"""KvcapSaver: LangGraph's own conformance package, and a graph whose node saves and resumes a state."""

import asyncio
from typing import TypedDict

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

import kvcap
from conftest import FIXTURES
from kvcap.langgraph import CAPSULE, SESSION, VERSION, KvcapSaver

STATE = FIXTURES / "hf_f16.safetensors"


@pytest.fixture
def sessions(profile, tmp_path):
    return kvcap.SessionManager(profile=profile, folder=tmp_path / "sessions")


@pytest.fixture
def tokens(profile):
    made = kvcap.seal(STATE, profile=profile, danger_no_prefix=True)
    return list(range(7, 7 + made.positions[1]))


class Pruning(InMemorySaver):
    """A saver that has what is optional."""

    asked: list[tuple[str, object]] = []

    async def aprune(self, thread_ids, *, strategy="keep_latest"):
        self.asked.append(("aprune", (tuple(thread_ids), strategy)))

    def copy_thread(self, source_thread_id, target_thread_id):
        self.asked.append(("copy_thread", (source_thread_id, target_thread_id)))


@pytest.mark.parametrize("saved", [False, True])
def test_the_wrapped_saver_conforms(sessions, tokens, saved):
    """Also where each checkpoint that is put has a state."""

    class Saving(KvcapSaver):
        async def aput(self, config, checkpoint, metadata, new_versions):
            if saved and self.sessions.load_or_create(config["configurable"]["thread_id"]).token_count == 0:
                self.save(config, STATE, tokens=tokens)
            return await super().aput(config, checkpoint, metadata, new_versions)

    @checkpointer_test(name="KvcapSaver")
    async def factory():
        yield Saving(InMemorySaver(), sessions)

    report = asyncio.run(validate(factory))
    assert report.passed_all_base(), report.to_dict()
    assert sum(result.tests_passed for result in report.results.values()) > 40


def test_what_is_optional_is_there_where_the_wrapped_saver_has_it(sessions):
    plain, more = KvcapSaver(InMemorySaver(), sessions), KvcapSaver(Pruning(), sessions)
    with pytest.raises(NotImplementedError):
        plain.copy_thread("a", "b")
    assert "aprune" not in vars(type(plain)) and isinstance(more, KvcapSaver)
    more.copy_thread("a", "b")
    asyncio.run(more.aprune(["a"], strategy="delete"))
    assert Pruning.asked == [("copy_thread", ("a", "b")), ("aprune", (("a",), "delete"))]
    with pytest.raises(NotImplementedError):
        more.prune(["a"])


class Turns(TypedDict):
    turns: int
    rungs: list[str]


def graph(saver, tokens):
    """A node that resumes what it can and saves its state in the first turn alone."""

    def model(state, config):
        resumed = saver.resume(config, tokens=[*tokens, 1, 2])
        if resumed is not None:
            assert resumed.state == STATE.read_bytes() and resumed.token_count == len(tokens)
        elif state["turns"] == 1:
            saver.save(config, STATE, tokens=tokens)
        return {"turns": state["turns"] + 1, "rungs": [*state["rungs"], resumed.rung if resumed else "cold"]}

    building = StateGraph(Turns)
    building.add_node("model", model)
    building.add_edge(START, "model")
    building.add_edge("model", END)
    return building.compile(checkpointer=saver)


def test_a_graph_goes_on_from_the_state_that_its_checkpoint_names(sessions, tokens, tmp_path):
    inner = InMemorySaver()
    config = {"configurable": {"thread_id": "a thread / 1"}}
    running = graph(KvcapSaver(inner, sessions), tokens)
    assert running.invoke({"turns": 0, "rungs": []}, config)["rungs"] == ["cold"]
    assert CAPSULE not in running.get_state(config).metadata
    running.invoke({"turns": 1}, config)
    named = running.get_state(config).metadata
    assert (named[SESSION], named[VERSION]) == ("a thread / 1", 1)
    [capsule] = (tmp_path / "sessions").rglob("*.kvcap")
    assert kvcap.inspect(capsule).id == named[CAPSULE]

    # another process has the checkpoints and the sessions, and no more
    again = graph(KvcapSaver(inner, sessions), tokens)
    answer = again.invoke({"turns": 2}, config)
    assert answer["rungs"] == ["cold", "cold", "exact"]
    assert again.get_state(config).metadata[CAPSULE] == named[CAPSULE]
    saver = KvcapSaver(inner, sessions)
    listed = list(saver.list(config, filter={CAPSULE: named[CAPSULE]}))
    assert 0 < len(listed) < len(list(saver.list(config)))

    # a branch from before the state names none, whatever the thread's newest does
    before = next(kept for kept in again.get_state_history(config) if CAPSULE not in kept.metadata)
    branch = saver.put(before.config, next(iter(saver.list(before.config))).checkpoint, {"source": "fork"}, {})
    assert CAPSULE not in saver.get_tuple(branch).metadata


def test_a_thread_that_is_deleted_names_nothing_when_it_begins_again(sessions, tokens):
    saver = KvcapSaver(InMemorySaver(), sessions)
    config = {"configurable": {"thread_id": "a"}}
    saver.save(config, STATE, tokens=tokens)
    saver.delete_thread("a")
    assert graph(saver, tokens).invoke({"turns": 5, "rungs": []}, config)["rungs"] == ["cold"]
    assert all(CAPSULE not in kept.metadata for kept in saver.list(config))

