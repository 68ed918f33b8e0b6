"""Sessions: saved, reverted, resumed, and each user's own."""

import io

import pytest

import kvcap
from conftest import FIXTURES

STATE = FIXTURES / "hf_f16.safetensors"


@pytest.fixture
def manager(profile, tmp_path):
    return kvcap.SessionManager(profile=profile, folder=tmp_path / "sessions")


@pytest.fixture
def tokens(profile):
    made = kvcap.seal(STATE, profile=profile, danger_no_prefix=True)
    return list(range(7, 7 + made.positions[1]))


def test_a_session_is_saved_and_resumed(manager, tokens):
    session = manager.load_or_create("chat")
    assert (session.token_count, session.turns, session.versions) == (0, 0, [])
    session.append("user", "hello")
    session.append("assistant", "good day")
    saved = session.save(STATE, tokens=tokens)
    assert (saved.version, saved.turns, saved.token_count) == (1, 1, len(tokens))
    again = manager.load_or_create("chat")
    assert again.token_count == len(tokens)
    assert again.events() == [(1, "user", "hello"), (2, "assistant", "good day")]
    resumed = again.resume(tokens=[*tokens, 1, 2, 3])
    assert resumed.rung == "exact" and resumed.state == STATE.read_bytes()
    assert (resumed.token_count, resumed.events_after) == (len(tokens), 0)
    other = again.resume(tokens=[9999, *tokens])
    assert other.state is None and other.code is not None


class Dripping(io.RawIOBase):
    """A stream that takes a few bytes at a time."""

    def __init__(self):
        self.taken = bytearray()

    def writable(self):
        return True

    def write(self, piece):
        self.taken += piece[:1000]
        return min(len(piece), 1000)


def test_a_version_is_given_out_too(manager, profile, tokens, tmp_path):
    session = manager.load_or_create("chat")
    dripping, memory = Dripping(), io.BytesIO()
    given = []
    for text, to in (("one", tmp_path / "one.kvcap"), ("two", memory), ("three", dripping)):
        session.append("user", text)
        saved = session.save(STATE, to, tokens=tokens)
        given.append(("chat", saved.version, saved.replay_cursor))
    with pytest.raises(kvcap.KvcapError) as there:
        session.save(STATE, tmp_path / "one.kvcap", tokens=tokens)
    assert there.value.code == 941
    session.append("user", "four")
    with pytest.raises(ValueError):
        session.save(None, memory)
    out = [(tmp_path / "one.kvcap").read_bytes(), memory.getvalue(), bytes(dripping.taken)]
    for capsule, session in zip(out, given, strict=True):
        opened = kvcap.open(capsule, profile=profile, tokens=tokens)
        assert opened.verdict.session == session
        assert opened.state == STATE.read_bytes()


def test_a_turn_is_taken_back(manager, tokens):
    session = manager.load_or_create("chat")
    for turn in range(3):
        session.append("user", f"question {turn}")
        session.append("assistant", f"answer {turn}")
        session.save(STATE if turn == 0 else None, tokens=tokens if turn == 0 else None)
    assert session.turns == 3 and session.versions == [1, 2, 3]
    back = session.revert_to_turn(1)
    assert (back.version, back.turns, back.token_count) == (4, 1, len(tokens))
    assert session.turns == 1
    with pytest.raises(kvcap.KvcapError) as refused:
        session.revert_to_turn(9)
    assert refused.value.code == 955


def test_users_have_their_own(manager, tokens, keys):
    ana, bob = (manager.load_or_create("chat", user=user) for user in ("ana", "bob"))
    ana.append("user", "mine")
    ana.save(STATE, tokens=tokens)
    assert bob.events() == [] and bob.resume().rung == "fresh"
    assert ana.resume(tokens=tokens).state == STATE.read_bytes()
    assert manager.sessions(user="ana") == ["chat"] and manager.sessions() == []
    [capsule] = (keys / "sessions").rglob("*.kvcap")
    with pytest.raises(kvcap.KvcapError) as refused:
        kvcap.verify(capsule, profile=kvcap.Profile(trust=keys / "issuer.key.pub", subject="bob"))
    assert refused.value.code == 406


def test_an_event_of_no_kind_is_refused(manager):
    with pytest.raises(ValueError, match="no such kind"):
        manager.load_or_create("chat").append("revert", "1")
