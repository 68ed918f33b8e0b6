"""LMCache's chunks through KvcapL2Adapter: what comes back, what is a miss, and the same faults in LMCache's own serde."""

import importlib.util
import select
import shutil

import pytest

import kvcap
from conftest import FIXTURES

if importlib.util.find_spec("lmcache") is None:
    pytest.skip("NOT RUN: LMCache, which ./run --vllm has", allow_module_level=True)

import torch
from lmcache.v1.distributed.api import ObjectKey
from lmcache.v1.distributed.l2_adapters.plugin_l2_adapter import PluginL2AdapterConfig, _create_plugin_adapter
from lmcache.v1.distributed.serde.aesgcm import AesGcmDeserializer, AesGcmSerializer
from lmcache.v1.distributed.serde.key_provider import HkdfKeyProvider
from lmcache.v1.memory_management import MemoryObjMetadata, TensorMemoryObj
from lmcache.v1.platform import consume_fd

from kvcap import lmcache as kv

SHAPE = torch.Size([2, 6, 256, 128])


def chunk(seed=None):
    data = torch.zeros(SHAPE, dtype=torch.bfloat16)
    if seed is not None:
        data = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16)
    raw = data.view(torch.uint8).flatten()
    metadata = MemoryObjMetadata(SHAPE, torch.bfloat16, 0, raw.numel(), 1, shapes=[SHAPE], dtypes=[torch.bfloat16])
    return TensorMemoryObj(raw, metadata, None)


def key(number, salt="ana", rank=0):
    return ObjectKey(number.to_bytes(32, "big"), "small/model", rank, 0, salt)


KEYS = [key(number) for number in range(4)]


@pytest.fixture
def adapter(settings, tmp_path):
    params = {"inner": {"type": "fs", "base_path": str(tmp_path / "l2")}, "profile": settings}
    made = _create_plugin_adapter(PluginL2AdapterConfig("kvcap.lmcache", "KvcapL2Adapter", params))
    yield made
    made.close()


def wait(event, ask):
    for _ in range(300):
        if (answer := ask()) not in (None, {}):
            return answer
        select.select([event], [], [], 0.2)[0] and consume_fd(event)
    raise TimeoutError


def store(adapter, keys, chunks):
    task = adapter.submit_store_task(keys, chunks)
    return wait(adapter.get_store_event_fd(), adapter.pop_completed_store_tasks)[task]


def loaded(adapter, keys):
    """Chunks by number where they were found."""
    places = [chunk() for _ in keys]
    task = adapter.submit_load_task(keys, places)
    found = wait(adapter.get_load_event_fd(), lambda: adapter.query_load_result(task))
    return {at: bytes(places[at].byte_array) for at in found.get_indices_list()}


def content(seeds):
    # a chunk's byte_array does not keep it
    made = [chunk(seed) for seed in seeds]
    return [bytes(one.byte_array) for one in made]


def files(tmp_path):
    return sorted((tmp_path / "l2").glob("*.data"))


def test_chunks_come_back_to_the_last_bit(adapter, tmp_path):
    result = store(adapter, KEYS, [chunk(seed) for seed in range(4)])
    assert result.is_successful() and len(files(tmp_path)) == 4
    assert loaded(adapter, KEYS) == dict(enumerate(content(range(4))))
    assert loaded(adapter, [KEYS[2], key(9), KEYS[1]]) == {0: content([2])[0], 2: content([1])[0]}
    for file in files(tmp_path):
        assert content([0])[0][:64] not in file.read_bytes()


def test_one_bad_chunk_is_a_miss_and_not_its_batch(adapter, tmp_path):
    store(adapter, KEYS, [chunk(seed) for seed in range(4)])
    flipped, cut, nothing, _ = files(tmp_path)
    bytes_ = bytearray(flipped.read_bytes())
    bytes_[len(bytes_) // 2] ^= 1
    flipped.write_bytes(bytes_)
    nothing.write_bytes(bytes(nothing.stat().st_size))
    cut.write_bytes(cut.read_bytes()[:-1])
    assert loaded(adapter, KEYS) == {3: content([3])[0]}


@pytest.mark.parametrize("other", [key(1), key(0, "bob"), key(0, "ana", rank=1)], ids=["chunk", "salt", "rank"])
def test_a_chunk_under_another_key_is_a_miss(adapter, tmp_path, other):
    """Of the same tenant, of another, of another rank."""
    store(adapter, [KEYS[0]], [chunk(0)])
    [stored] = files(tmp_path)
    store(adapter, [other], [chunk(1)])
    [name] = set(files(tmp_path)) - {stored}
    shutil.copyfile(stored, name)
    assert loaded(adapter, [KEYS[0], other]) == {0: content([0])[0]}


def test_a_chunk_of_another_model_or_signer_is_a_miss(adapter, settings, tmp_path, keys):
    store(adapter, [KEYS[0]], [chunk(0)])
    kvcap.new_signing_key(keys / "other.key", issuer="prefill.example.com")
    copied = tmp_path / "copied"
    shutil.copytree(FIXTURES / "model", copied)
    with open(copied / "model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    for changed in ({"trust": keys / "other.key.pub"}, {"model": copied}):
        params = {"inner": {"type": "fs", "base_path": str(tmp_path / "l2")}, "profile": settings | changed}
        other = _create_plugin_adapter(PluginL2AdapterConfig("kvcap.lmcache", "KvcapL2Adapter", params))
        assert loaded(other, [KEYS[0]]) == {}
        other.close()
    assert loaded(adapter, [KEYS[0]]) != {}


def test_a_batch_that_cannot_be_sealed_is_said_to_have_failed(settings, tmp_path):
    params = {"inner": {"type": "fs", "base_path": str(tmp_path / "l2")},
              "profile": {name: settings[name] for name in ("wrap_key", "trust", "model", "ttl")}}
    unsigned = _create_plugin_adapter(PluginL2AdapterConfig("kvcap.lmcache", "KvcapL2Adapter", params))
    assert not store(unsigned, KEYS, [chunk(0)] * 4).is_successful()
    assert files(tmp_path) == []
    unsigned.close()


def test_a_swap_within_a_tenant_is_not_seen_by_lmcaches_own_serde():
    """What the attack does to `aesgcm` of LMCache 0.5.6: no associated data, and a tenant's chunks have one key."""
    keys = HkdfKeyProvider(b"k" * 32, 16, b"lmcache-l2-aesgcm-v1")
    seal, opened = AesGcmSerializer(keys), AesGcmDeserializer(keys)
    stored = chunk_of(SHAPE.numel() * 2 + 29)
    seal.serialize(chunk(0), stored, key(0))
    place = chunk()
    opened.deserialize(stored, place, key(1))
    assert bytes(place.byte_array) == content([0])[0]
    with pytest.raises(Exception):  # of another tenant it is
        opened.deserialize(stored, place, key(0, "bob"))


def chunk_of(length):
    raw = torch.zeros(length, dtype=torch.uint8)
    metadata = MemoryObjMetadata(raw.shape, raw.dtype, 0, length, 1, shapes=[raw.shape], dtypes=[raw.dtype])
    return TensorMemoryObj(raw, metadata, None)
