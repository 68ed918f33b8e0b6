"""LMCache's second tier in capsules: each chunk signed, encrypted and bound to its key, whatever keeps it.

KvcapL2Adapter is loaded by LMCache's `plugin` adapter and wraps any other:

    {"type": "plugin", "module_path": "kvcap.lmcache", "class_name": "KvcapL2Adapter",
     "adapter_params": {"inner": {"type": "fs", "base_path": "/cache"}, "profile": "default"}}

A chunk's key (hash of all tokens up to its end, model, rank, group, salt) stands in the place of the capsule's prompt, so
a chunk under another key is refused (KVC-605), and with it one at another position. A chunk that is refused, for whatever
reason, is a miss; the others of its batch are loaded.
"""

from __future__ import annotations

import itertools
import json
import logging
import select
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from lmcache.lmcache_native import Bitmap
from lmcache.v1.distributed.internal_api import L2StoreResult
from lmcache.v1.distributed.l2_adapters import create_l2_adapter
from lmcache.v1.distributed.l2_adapters.base import L2AdapterInterface
from lmcache.v1.distributed.l2_adapters.config import get_l2_adapter_config_class
from lmcache.v1.memory_management import MemoryObj, MemoryObjMetadata, TensorMemoryObj
from lmcache.v1.platform import consume_fd, create_event_notifier

from . import _kvcap
from ._kvcap import KvcapError, Profile, Tensors

__all__ = ["KvcapL2Adapter", "load", "key_ids", "seal", "stored_size"]

logger = logging.getLogger(__name__)

#: A stored chunk: its capsule's length, the capsule, and room up to a length that all chunks of a layout have.
_LENGTH = 8
#: Longest that a capsule's header, tables and key are beyond the chunk's own bytes.
_ROOM = 1 << 15


def key_ids(key: Any) -> list[int]:
    """A key as a prompt's ids: each byte of its parts, which are told apart by their lengths."""
    parts = (key.model_name.encode(), key.cache_salt.encode(), key.chunk_hash)
    numbers = (key.kv_rank, key.object_group_id)
    text = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    return list(text + b"".join(number.to_bytes(8, "little") for number in numbers))


def stored_size(plain: int) -> int:
    """Bytes that a chunk of `plain` bytes takes where it is stored."""
    # a tag and a table's row for each piece of the body: less than one in 512
    return _LENGTH + plain + plain // 512 + _ROOM


def seal(chunk: Any, key: Any, profile: Profile) -> bytes:
    """Seals a chunk's bytes, an object with the buffer protocol, under its key."""
    view = memoryview(chunk).cast("B")
    entry = {"dtype": "U8", "shape": [len(view)], "data_offsets": [0, len(view)]}
    text = json.dumps({"chunk": entry}).encode()
    text += b" " * (-len(text) % 8)
    tensors = Tensors(len(text).to_bytes(8, "little") + text, [(view, 0, len(view), [])])
    sealed = _kvcap.seal(tensors, profile=profile, tokens=key_ids(key), runtime="raw")
    assert sealed.capsule is not None
    return sealed.capsule


def load(capsule: Any, key: Any, into: Any, profile: Profile) -> None:
    """Verifies and opens a chunk's capsule into memory of its length.

    Raises KvcapError where it is refused, ValueError where its length is another.
    """
    opened = _kvcap.open(capsule, profile=profile, tokens=key_ids(key))
    state = memoryview(opened.state or b"")
    data = state[8 + int.from_bytes(state[:8], "little") :]
    out = memoryview(into).cast("B")
    if len(data) != len(out):
        raise ValueError(f"the chunk has {len(data)} bytes and its place {len(out)}")
    out[:] = data


class KvcapL2Adapter(L2AdapterInterface):  # type: ignore[misc]
    """Wraps another adapter. `profile` is a profile's name, or a dict of settings; `workers` seal and open at once."""

    def __init__(self, params: dict[str, Any], l1_memory_desc: Any = None) -> None:
        super().__init__()
        given = params.get("profile")
        self._profile = Profile(**given) if isinstance(given, dict) else Profile.load(given)
        inner = dict(params["inner"])
        config = get_l2_adapter_config_class(inner["type"]).from_dict(inner)
        self._inner = create_l2_adapter(config, l1_memory_desc)
        self._pool = ThreadPoolExecutor(int(params.get("workers", 2)), thread_name_prefix="kvcap")
        self._stored, self._loaded = create_event_notifier(), create_event_notifier()
        self._lock = threading.Lock()
        self._ids = itertools.count()
        self._done_stores: dict[int, L2StoreResult] = {}
        self._done_loads: dict[int, Any] = {}
        # tasks of the inner adapter: ours, and what they use until they are done
        self._storing: dict[int, tuple[int, list[MemoryObj]]] = {}
        self._loading: dict[int, tuple[int, list[Any], list[MemoryObj], list[MemoryObj]]] = {}
        self._closing = False
        self._thread = threading.Thread(target=self._relay, name="kvcap-l2", daemon=True)
        self._thread.start()

    # store: seal each, then the inner adapter's store

    def submit_store_task(self, keys: list[Any], objects: list[MemoryObj]) -> int:
        task = next(self._ids)
        self._pool.submit(self._guard, self._store, task, list(keys), list(objects))
        return task

    def _store(self, task: int, keys: list[Any], objects: list[MemoryObj]) -> None:
        sealed = []
        try:
            for key, chunk in zip(keys, objects, strict=True):
                capsule = seal(chunk.byte_array, key, self._profile)
                sealed.append(_buffer(stored_size(len(chunk.byte_array)), capsule))
        except Exception:
            logger.exception("a chunk could not be sealed: its batch is not stored")
            self._finish_store(task, L2StoreResult(False, 0))
            return
        with self._lock:
            self._storing[self._inner.submit_store_task(keys, sealed)] = (task, sealed)

    def _finish_store(self, task: int, result: L2StoreResult) -> None:
        with self._lock:
            self._done_stores[task] = result
        self._stored.notify()

    def pop_completed_store_tasks(self) -> dict[int, L2StoreResult]:
        with self._lock:
            done, self._done_stores = self._done_stores, {}
        return done

    # load: the inner adapter's load, then open each; what is refused is a miss

    def submit_load_task(self, keys: list[Any], objects: list[MemoryObj]) -> int:
        task = next(self._ids)
        held = [_buffer(stored_size(len(chunk.byte_array))) for chunk in objects]
        with self._lock:
            self._loading[self._inner.submit_load_task(keys, held)] = (task, list(keys), held, list(objects))
        return task

    def _open(self, task: int, found: Any, keys: list[Any], held: list[MemoryObj], objects: list[MemoryObj]) -> None:
        good = Bitmap(len(keys))
        for at in found.get_indices_list():
            try:
                load(_capsule(held[at]), keys[at], objects[at].byte_array, self._profile)
                good.set(at)
            except KvcapError as refused:
                logger.warning("a chunk was refused and is a miss: %s", refused)
            except Exception:
                logger.exception("a chunk could not be opened and is a miss")
        with self._lock:
            self._done_loads[task] = good
        self._loaded.notify()

    def query_load_result(self, task_id: int) -> Any:
        with self._lock:
            return self._done_loads.pop(task_id, None)

    def _relay(self) -> None:
        """Takes what the inner adapter has done until this one is closed."""
        stored, loaded = self._inner.get_store_event_fd(), self._inner.get_load_event_fd()
        poll = select.poll()
        for file in (stored, loaded):
            poll.register(file, select.POLLIN)
        while not self._closing:
            for file, _ in poll.poll(200):
                consume_fd(file)
            # looked for at each turn: a task may be done before it is known here
            for inner, result in self._inner.pop_completed_store_tasks().items():
                with self._lock:
                    task, _ = self._storing.pop(inner)
                self._finish_store(task, result)
            with self._lock:
                waiting = list(self._loading)
            for inner in waiting:
                found = self._inner.query_load_result(inner)
                if found is not None:
                    with self._lock:
                        task, keys, held, objects = self._loading.pop(inner)
                    self._pool.submit(self._guard, self._open, task, found, keys, held, objects)

    @staticmethod
    def _guard(call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception:
            logger.exception("a task of kvcap's adapter failed")

    # the rest is the inner adapter's

    def get_store_event_fd(self) -> int:
        return int(self._stored.fileno())

    def get_load_event_fd(self) -> int:
        return int(self._loaded.fileno())

    def get_lookup_and_lock_event_fd(self) -> int:
        return int(self._inner.get_lookup_and_lock_event_fd())

    def submit_lookup_and_lock_task(self, keys: list[Any], group_layout_descs: dict[int, Any]) -> int:
        return int(self._inner.submit_lookup_and_lock_task(keys, group_layout_descs))

    def query_lookup_and_lock_result(self, task_id: int) -> Any:
        return self._inner.query_lookup_and_lock_result(task_id)

    def submit_unlock(self, keys: list[Any]) -> None:
        self._inner.submit_unlock(keys)

    def register_listener(self, listener: Any) -> None:
        self._inner.register_listener(listener)

    def set_backend_identity(self, name: str, shared: bool = False) -> None:
        super().set_backend_identity(name, shared)
        self._inner.set_backend_identity(name, shared)

    @property
    def supports_global_eviction(self) -> bool:
        return bool(self._inner.supports_global_eviction)

    def delete(self, keys: list[Any]) -> None:
        self._inner.delete(keys)

    def list_l2_keys(self, model_name: str | None = None, page_size: int = 500, cursor: str | None = None) -> Any:
        return self._inner.list_l2_keys(model_name, page_size, cursor)

    def get_usage(self) -> Any:
        return self._inner.get_usage()

    def report_status(self) -> dict[str, Any]:
        inner = self._inner.report_status()
        return {"is_healthy": inner["is_healthy"] and self._thread.is_alive(), "type": "KvcapL2Adapter", "inner": inner}

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        self._pool.shutdown(wait=True)
        self._inner.close()
        for event in (self._stored, self._loaded):
            event.close()


def _buffer(length: int, capsule: bytes = b"") -> MemoryObj:
    """Memory of LMCache's kind, with a capsule after its length."""
    bytes_ = torch.zeros(length, dtype=torch.uint8)
    shape = bytes_.shape
    if capsule:
        if _LENGTH + len(capsule) > length:
            raise ValueError(f"the capsule has {len(capsule)} bytes, and its place {length - _LENGTH}")
        view = memoryview(bytes_.numpy())
        view[:_LENGTH] = len(capsule).to_bytes(_LENGTH, "little")
        view[_LENGTH : _LENGTH + len(capsule)] = capsule
    metadata = MemoryObjMetadata(shape, bytes_.dtype, 0, length, 1, shapes=[shape], dtypes=[bytes_.dtype])
    return TensorMemoryObj(bytes_, metadata, None)


def _capsule(stored: MemoryObj) -> memoryview:
    view = memoryview(stored.byte_array).cast("B")
    length = int.from_bytes(view[:_LENGTH], "little")
    if length > len(view) - _LENGTH:
        raise ValueError("the chunk's length leads beyond its bytes")
    return view[_LENGTH : _LENGTH + length]
