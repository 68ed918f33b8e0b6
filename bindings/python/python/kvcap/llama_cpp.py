"""Sequences of llama-cpp-python: sealed without a file of the plain state, and loaded from capsules.

A capsule is the one that llama_state_seq_save_file's file would give, byte for byte: llama.cpp writes that file into memory
that has no name (memfd of Linux) and reads it from there. What Llama.save_state keeps besides, the logits of every token,
is not in it: llama.cpp computes those of the next token anew.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from typing import Any, cast

import llama_cpp

from . import _kvcap
from ._kvcap import Opened, Profile, Sealed

__all__ = ["Loaded", "as_file", "load_into", "save"]


@dataclass(frozen=True)
class Loaded:
    """A sequence that was loaded from a capsule."""

    tokens: list[int]
    opened: Opened


def save(
    llama: Any,
    to: str | PathLike[str] | None = None,
    *,
    tokens: Sequence[int] | None = None,
    sequence: int = 0,
    profile: Profile | None = None,
    **options: Any,
) -> Sealed:
    """Seals a sequence of a Llama. `tokens` are the ids that it has seen, by default those that the Llama remembers.

    `options` are those of kvcap.seal. Raises KvcapError as kvcap.seal, OSError where llama.cpp does not give the state.
    """
    with as_file(llama, tokens, sequence) as state:
        return _kvcap.seal(state, to, profile=profile, runtime="llama-cpp", runtime_version=_version(), **options)


def load_into(
    llama: Any, source: _kvcap.Source, *, sequence: int = 0, profile: Profile | None = None, **options: Any
) -> Loaded:
    """Verifies and opens a capsule into a sequence of a Llama, which then goes on from its tokens.

    `options` are those of kvcap.open. Raises KvcapError as kvcap.open, OSError where llama.cpp does not take the state.
    """
    opened = _kvcap.open(source, profile=profile, **options)
    state = cast(bytearray, opened.state)
    capacity = int(llama.n_ctx())
    ids = (llama_cpp.llama_token * capacity)()
    count = ctypes.c_size_t()
    with _nameless() as (descriptor, path):
        with open(descriptor, "wb", closefd=False) as file:
            file.write(state)
        taken = llama_cpp.llama_state_seq_load_file(llama.ctx, path, sequence, ids, capacity, ctypes.byref(count))
    if taken != len(state):
        raise OSError(f"llama.cpp took {taken} of {len(state)} bytes: is the model or the context another one?")
    tokens = list(ids[: count.value])
    if sequence == 0:
        llama.input_ids[: len(tokens)] = tokens
        llama.n_tokens = len(tokens)
    return Loaded(tokens, opened)


@contextmanager
def as_file(llama: Any, tokens: Sequence[int] | None = None, sequence: int = 0) -> Iterator[memoryview]:
    """A sequence as the file that llama.cpp would write, in memory."""
    if tokens is None:
        tokens = [int(token) for token in llama.input_ids[: llama.n_tokens]]
    ids = (llama_cpp.llama_token * len(tokens))(*tokens)
    with _nameless() as (descriptor, path):
        written = llama_cpp.llama_state_seq_save_file(llama.ctx, path, sequence, ids, len(ids))
        if written == 0 or written != os.fstat(descriptor).st_size:
            raise OSError("llama.cpp did not give the sequence's state")
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as state:
            yield state


@contextmanager
def _nameless() -> Iterator[tuple[int, bytes]]:
    """A file in memory that no folder has, and the name by which this process alone opens it."""
    descriptor = os.memfd_create("kvcap", os.MFD_CLOEXEC)
    try:
        yield descriptor, f"/proc/self/fd/{descriptor}".encode()
    finally:
        os.close(descriptor)


def _version() -> str:
    """llama-cpp-python's own, which names the llama.cpp within."""
    try:
        return version("llama-cpp-python")
    except PackageNotFoundError:
        return ""
