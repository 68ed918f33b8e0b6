"""Sealing, verifying, opening and inspecting, over files and memory."""

import asyncio
import ctypes
import sys
import threading
import time

import numpy
import pytest

import kvcap
from conftest import FIXTURES
from kvcap import aio

STATES = [
    "hf_f16.safetensors",
    "mlx031_q8.safetensors",
    "mlx032_f16.safetensors",
    "llama_ggsq3_f16_fa.bin",
    "llama_ggsq3_q4_0.bin",
    "llama_ggsn10_q8_0.bin",
]


def sealed(profile, state, to=None, **options):
    return kvcap.seal(state, to, profile=profile, danger_no_prefix=True, **options)


@pytest.mark.parametrize("name", STATES)
def test_a_state_comes_back_byte_for_byte_from_file_and_memory(profile, tmp_path, name):
    path, capsule = FIXTURES / name, tmp_path / "state.kvcap"
    content = path.read_bytes()
    made = sealed(profile, path, capsule)
    assert made.capsule is None and made.length == capsule.stat().st_size
    in_memory = sealed(profile, bytearray(content)).capsule
    assert in_memory is not None and len(in_memory) == made.length
    for source in (capsule, str(capsule), in_memory, memoryview(in_memory), capsule.read_bytes()):
        opened = kvcap.open(source, profile=profile)
        assert opened.state == content and opened.length == len(content)
    kvcap.open(capsule, tmp_path / "restored", profile=profile)
    assert (tmp_path / "restored").read_bytes() == content
    assert (tmp_path / "restored").stat().st_mode & 0o777 == 0o600


class Exports:
    """An object that lends its memory by DLPack alone, as torch's tensors do."""

    def __init__(self, array, device=(1, 0)):
        self.array, self.device = array, device

    def __dlpack__(self):
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        return self.device


def exported(data, shape, bits, lanes=1, strides=None):
    """A capsule of DLPack around bytes, field by field, and what keeps it."""
    number = ctypes.c_int64 * len(shape)

    class Tensor(ctypes.Structure):
        _fields_ = [
            ("data", ctypes.c_void_p),
            ("device", ctypes.c_int32 * 2),
            ("dimensions", ctypes.c_int32),
            ("code", ctypes.c_uint8),
            ("bits", ctypes.c_uint8),
            ("lanes", ctypes.c_uint16),
            ("shape", ctypes.POINTER(ctypes.c_int64)),
            ("strides", ctypes.POINTER(ctypes.c_int64)),
            ("offset", ctypes.c_uint64),
            ("owner", ctypes.c_void_p),
            ("deleter", ctypes.c_void_p),
        ]

    held = ctypes.create_string_buffer(data, len(data))
    tensor = Tensor(ctypes.addressof(held), (1, 0), len(shape), 1, bits, lanes, number(*shape))
    if strides is not None:
        tensor.strides = number(*strides)
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]

    class Made:
        keeps = (held, tensor)
        name = b"dltensor"

        def __dlpack__(self):
            return new(ctypes.addressof(tensor), self.name, None)

        def __dlpack_device__(self):
            return (1, 0)

    return Made()


def test_a_tensor_is_the_bytes_that_it_holds(profile, tmp_path):
    content = (FIXTURES / "hf_f16.safetensors").read_bytes()
    whole = numpy.frombuffer(bytearray(b"before" + content), numpy.uint8)
    tensor = Exports(whole[6:])
    held = sys.getrefcount(tensor.array)
    capsule = sealed(profile, tensor).capsule
    after = sys.getrefcount(tensor.array)
    assert capsule is not None and after == held
    in_rows = Exports(numpy.frombuffer(bytearray(capsule[: len(capsule) // 8 * 8]), numpy.float16).reshape(1, 2, -1, 2))
    with pytest.raises(kvcap.KvcapError) as cut:
        kvcap.open(in_rows, profile=profile)
    assert cut.value.code == 807
    lent = Exports(numpy.frombuffer(bytearray(capsule), numpy.uint8))
    assert kvcap.open(lent, profile=profile).state == content
    assert kvcap.verify(lent, profile=profile).id == kvcap.inspect(lent).id
    for shape, bits, lanes, strides in (
        ((len(capsule),), 8, 1, None),
        ((len(capsule),), 4, 2, (1,)),
        ((len(capsule), 1), 8, 1, (1, 77)),
        ((1, len(capsule), 1), 8, 1, None),
    ):
        assert kvcap.open(exported(bytes(capsule), shape, bits, lanes, strides), profile=profile).state == content


@pytest.mark.parametrize(
    "given",
    [
        Exports(numpy.zeros(64, numpy.uint8), (2, 0)),
        Exports(numpy.zeros(64, numpy.uint8)[::2]),
        Exports(numpy.zeros((8, 8), numpy.uint8).T),
        Exports(numpy.broadcast_to(numpy.zeros(1, numpy.uint8), 64)),
        exported(bytes(64), (128,), 4),
        exported(bytes(64), (8, 8), 8, strides=(1, 8)),
        exported(bytes(64), (-1, 64), 8),
        exported(bytes(64), (1 << 40, 1 << 40), 8),
    ],
    ids=["device", "gaps", "turned", "repeated", "halves", "columns", "negative", "endless"],
)
def test_a_tensor_whose_bytes_cannot_be_read_as_they_lie_is_refused(profile, given):
    with pytest.raises(BufferError):
        sealed(profile, given)


def test_what_is_no_memory_is_no_source(profile):
    with pytest.raises(TypeError):
        sealed(profile, 7)
    made = exported(bytes(64), (64,), 8)
    made.name = b"used_dltensor"
    with pytest.raises(ValueError):
        sealed(profile, made)


def test_a_verdict_says_who_vouched_for_what_and_what_was_not_checked(profile, state, tmp_path):
    made = sealed(profile, state, tmp_path / "a.kvcap")
    verdict = kvcap.verify(tmp_path / "a.kvcap", profile=profile)
    assert (verdict.id, verdict.issuer, verdict.audience) == (made.id, "prefill.example.com", "local")
    assert verdict.positions == made.positions and verdict.chain == [made.id]
    assert verdict.model_id == kvcap.model_id(FIXTURES / "model").id
    assert verdict.body is not None and verdict.body[0] > 0
    assert "prompt" in verdict.unchecked and "body" not in verdict.unchecked and "model" not in verdict.unchecked
    header = kvcap.verify(tmp_path / "a.kvcap", profile=profile, header_only=True)
    assert header.body is None and "body" in header.unchecked
    said = kvcap.verify(tmp_path / "a.kvcap", profile=profile, accept_unchecked=verdict.unchecked)
    assert said.unaccepted == []


def test_what_a_capsule_says_of_itself_is_shown_without_a_key(profile, state, tmp_path):
    made = sealed(profile, state, tmp_path / "a.kvcap")
    claims = kvcap.inspect(tmp_path / "a.kvcap")
    assert (claims.id, claims.expires, claims.positions) == (made.id, made.expires, made.positions)
    assert claims.runtime[0] == "transformers" and claims.length == made.length
    assert "unverified" in repr(claims)


def test_a_refusal_carries_its_code_and_what_a_stranger_may_hear(profile, settings, state, tmp_path):
    sealed(profile, state, tmp_path / "a.kvcap")
    damaged = bytearray((tmp_path / "a.kvcap").read_bytes())
    damaged[-1] ^= 1
    with pytest.raises(kvcap.KvcapError, match="^KVC-805 ") as refused:
        kvcap.verify(damaged, profile=profile)
    assert (refused.value.code, refused.value.name) == (805, "body.leaf")
    elsewhere = kvcap.Profile(**settings, audience="elsewhere")
    with pytest.raises(kvcap.KvcapError) as refused:
        kvcap.verify(tmp_path / "a.kvcap", profile=elsewhere)
    assert (refused.value.code, refused.value.found) == (405, "local")
    assert "local" not in refused.value.public
    with pytest.raises(kvcap.KvcapError) as refused:
        kvcap.open(tmp_path / "missing.kvcap", profile=profile)
    assert refused.value.code == 940 and "missing.kvcap" in (refused.value.where or "")


def test_layers_and_positions_are_opened_alone(profile, state, tmp_path):
    sealed(profile, state, tmp_path / "a.kvcap")
    whole = kvcap.open(tmp_path / "a.kvcap", profile=profile)
    layer = kvcap.open(tmp_path / "a.kvcap", profile=profile, layers=(0, 1))
    rows = kvcap.open(tmp_path / "a.kvcap", profile=profile, layers=(0, 1), positions=(0, 2))
    assert whole.length > layer.length > rows.length
    assert layer.state is not None and b"layer.0.key" in layer.state
    with pytest.raises(kvcap.KvcapError) as refused:
        kvcap.open(tmp_path / "a.kvcap", profile=profile, layers=(0, 4000))
    assert refused.value.code == 810


def test_tokens_bind_a_capsule_to_its_prompt_and_come_back(profile, state, tmp_path):
    length = sealed(profile, state).positions[1]
    tokens = list(range(5, 5 + length))
    kvcap.seal(state, tmp_path / "a.kvcap", profile=profile, tokens=tokens, history=b"hello")
    opened = kvcap.open(tmp_path / "a.kvcap", profile=profile, tokens=tokens)
    assert opened.tokens == tokens and "prompt" not in opened.verdict.unchecked
    with pytest.raises(kvcap.KvcapError) as refused:
        kvcap.open(tmp_path / "a.kvcap", profile=profile, tokens=[1, *tokens[1:]])
    assert refused.value.code == 605


@pytest.mark.parametrize("size", [1, 7, 64, 4096, 1 << 20])
def test_a_capsule_is_verified_as_its_bytes_come(profile, state, tmp_path, size):
    made = sealed(profile, state)
    capsule = made.capsule
    assert capsule is not None
    verifying = kvcap.Verifying(profile=profile)
    said = None
    for at in range(0, len(capsule), size):
        said = verifying.feed(capsule[at : at + size])
    assert said is not None and said.body is None
    verdict = verifying.finish()
    assert verdict.id == made.id and verdict.body is not None
    with pytest.raises(kvcap.KvcapError):
        verifying.finish()


def test_a_refusal_ends_what_is_fed_and_bytes_that_end_early_are_refused(profile, state):
    capsule = bytearray(sealed(profile, state).capsule or b"")
    short = kvcap.Verifying(profile=profile)
    short.feed(capsule[:-1])
    with pytest.raises(kvcap.KvcapError) as refused:
        short.finish()
    assert refused.value.code == 807
    capsule[300] ^= 1
    wrong = kvcap.Verifying(profile=profile)
    with pytest.raises(kvcap.KvcapError):
        wrong.feed(capsule)
    with pytest.raises(kvcap.KvcapError) as refused:
        wrong.feed(b"more")
    assert refused.value.code == 944


def test_progress_is_told_and_what_it_raises_ends_the_call(profile, state, tmp_path):
    heard = []
    sealed(profile, state, tmp_path / "a.kvcap", progress=lambda done, all: heard.append((done, all)))
    assert heard and heard[-1][0] == heard[-1][1]

    def stop(done, all):
        raise InterruptedError("enough")

    for call in (
        lambda: sealed(profile, state, tmp_path / "b.kvcap", progress=stop),
        lambda: kvcap.open(tmp_path / "a.kvcap", tmp_path / "out", profile=profile, progress=stop),
        lambda: kvcap.verify(tmp_path / "a.kvcap", profile=profile, progress=stop),
    ):
        with pytest.raises(InterruptedError, match="enough"):
            call()
    assert not (tmp_path / "b.kvcap").exists() and not (tmp_path / "out").exists()


def test_long_calls_let_others_run(profile, settings, state, tmp_path):
    """Another thread sees the callback wait: it could not while the call held the interpreter."""
    seen = threading.Event()
    threading.Thread(target=lambda: (time.sleep(0.01), seen.set())).start()
    sealed(profile, state, progress=lambda done, all: seen.wait(10))
    assert seen.is_set()

    async def both():
        kept = aio.seal(state, tmp_path / "a.kvcap", profile=profile, danger_no_prefix=True)
        await asyncio.gather(kept, aio.seal(state, profile=profile, danger_no_prefix=True))
        return await aio.open(tmp_path / "a.kvcap", profile=profile), await aio.verify(
            tmp_path / "a.kvcap", profile=profile
        )

    opened, verdict = asyncio.run(both())
    assert opened.state == state.read_bytes() and opened.verdict.id == verdict.id


def test_an_increment_opens_with_its_parent(profile, tmp_path):
    state = FIXTURES / "mlx032_f16.safetensors"
    sealed(profile, state, tmp_path / "a.kvcap")
    with pytest.raises(kvcap.KvcapError) as refused:
        sealed(profile, FIXTURES / "hf_f16.safetensors", parent=tmp_path / "a.kvcap")
    assert refused.value.code // 100 in (7, 9)


def test_nothing_is_replaced_unless_asked(profile, state, tmp_path):
    sealed(profile, state, tmp_path / "a.kvcap")
    with pytest.raises(kvcap.KvcapError) as refused:
        sealed(profile, state, tmp_path / "a.kvcap")
    assert refused.value.code == 941
    sealed(profile, state, tmp_path / "a.kvcap", replace=True)


def test_element_types_may_be_expected(profile, state, tmp_path):
    capsule = sealed(profile, state).capsule
    for call in (kvcap.verify, kvcap.open):
        call(capsule, profile=profile, dtypes=("f16", "f16"))
        with pytest.raises(kvcap.KvcapError) as refused:
            call(capsule, profile=profile, dtypes=("bf16", "bf16"))
        assert refused.value.code == 604
