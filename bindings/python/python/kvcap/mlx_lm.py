"""Prompt caches of mlx-lm: sealed where they lie, and loaded from capsules.

A capsule is the one that mlx_lm's save_prompt_cache would give, byte for byte: it writes the header, and what lies in an
array is read there. Every class of cache that mlx-lm can save and spec/runtimes-v1.md §2 knows.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from os import SEEK_CUR, SEEK_END, PathLike
from typing import Any, cast

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models.cache import load_prompt_cache, make_prompt_cache, save_prompt_cache

from . import _kvcap
from ._kvcap import Opened, Profile, Sealed, Tensors

__all__ = ["Loaded", "as_file", "load_into", "save"]


@dataclass(frozen=True)
class Loaded:
    """A prompt cache that was loaded from a capsule."""

    cache: list[Any]
    opened: Opened

    @property
    def tokens(self) -> list[int]:
        """Token ids that the cache has seen."""
        return self.opened.tokens or []


def save(
    cache: list[Any],
    to: str | PathLike[str] | None = None,
    *,
    tokens: Sequence[int],
    metadata: dict[str, str] | None = None,
    profile: Profile | None = None,
    **options: Any,
) -> Sealed:
    """Seals a prompt cache. `tokens` are the ids that it has seen, `metadata` is kept as by save_prompt_cache.

    `options` are those of kvcap.seal. Raises KvcapError as kvcap.seal, also for classes of caches that are not known.
    """
    return _kvcap.seal(
        as_file(cache, metadata),
        to,
        profile=profile,
        tokens=[int(token) for token in tokens],
        runtime="mlx-lm",
        runtime_version=version("mlx-lm"),
        **options,
    )


def load_into(model: Any, source: _kvcap.Source, *, profile: Profile | None = None, **options: Any) -> Loaded:
    """Verifies and opens a capsule into a prompt cache for the model.

    `options` are those of kvcap.open. Raises KvcapError as kvcap.open, ValueError where the model has more or fewer
    layers.
    """
    opened = _kvcap.open(source, profile=profile, **options)
    cache = load_prompt_cache(_Reader(cast(bytearray, opened.state)))
    mx.eval([entry.state for entry in cache])
    wanted = len(make_prompt_cache(model))
    if len(cache) != wanted:
        raise ValueError(f"the model has {wanted} layers and the capsule {len(cache)}")
    return Loaded(cache, opened)


def as_file(cache: list[Any], metadata: dict[str, str] | None = None) -> Tensors:
    """A prompt cache as the file that it would be, over its own memory. It must not change while it is sealed."""
    written = _Recorder()
    save_prompt_cache(written, cache, metadata)
    arrays = {name: value for name, value in tree_flatten([entry.state for entry in cache]) if _is_long(value)}
    header = json.loads(written.header[8:])
    header.pop("__metadata__", None)
    places = []
    for name, entry in sorted(header.items(), key=lambda item: tuple(item[1]["data_offsets"])):
        begin, end = entry["data_offsets"]
        content = _bytes(arrays[name]) if name in arrays else written.short(begin, end)
        if len(content) != end - begin:
            raise ValueError(f"the array {name} is not what mlx-lm writes of it")
        places.append((content, 0, end - begin, ()))
    return Tensors(written.header, places)


#: What mlx-lm writes in pieces no longer than this is kept as it is written.
SHORT = 1 << 16


def _is_long(value: Any) -> bool:
    return isinstance(value, mx.array) and value.nbytes > SHORT


def _bytes(array: mx.array) -> memoryview:
    """An array's memory: MLX lends none of bfloat16 by that name."""
    array = mx.contiguous(array)
    if array.dtype == mx.bfloat16:
        array = array.view(mx.uint16)
    mx.eval(array)
    # its stubs do not say that it lends its memory
    lender: Any = array
    return memoryview(lender).cast("B")


class _Recorder(io.RawIOBase):
    """A file that keeps its header and what is short, and of the rest its length alone."""

    name = "cache.safetensors"

    def __init__(self) -> None:
        self.header = b""
        self._short: dict[int, bytes] = {}
        self._at = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset or whence not in (SEEK_CUR, SEEK_END):
            raise io.UnsupportedOperation("seek")
        return self._at

    def write(self, data: Any) -> int:
        data = memoryview(data).cast("B")
        if self._at < 8 or self._at < 8 + int.from_bytes(self.header[:8], "little"):
            self.header += data
        elif len(data) <= SHORT:
            self._short[self._at - len(self.header)] = bytes(data)
        self._at += len(data)
        return len(data)

    def short(self, begin: int, end: int) -> bytes:
        return self._short.get(begin, b"") if begin < end else b""


class _Reader(io.RawIOBase):
    """An opened state as a file."""

    name = "cache.safetensors"

    def __init__(self, state: bytearray) -> None:
        self._state = memoryview(state)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + {SEEK_CUR: self._at, SEEK_END: len(self._state)}.get(whence, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        piece = self._state[self._at : self._at + len(target)]
        target[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)
