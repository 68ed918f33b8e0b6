"""A checkpoint saver of LangGraph that keeps, beside each checkpoint, the id of the capsule with the model's state.

It wraps any saver: checkpoints stay there. States go, sealed, into a session of kvcap.SessionManager with the thread's
id, and a checkpoint's metadata names session, version and capsule, no content.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
)

from . import _kvcap
from ._kvcap import Resumed, SessionManager

__all__ = ["CAPSULE", "SESSION", "VERSION", "KvcapSaver"]

#: Members of a checkpoint's metadata: the session of the state, its version there, the capsule's id.
SESSION, VERSION, CAPSULE = "kvcap_session", "kvcap_version", "kvcap_capsule"

#: What a saver may leave out. Who looks for it looks at the class.
_OPTIONAL = ("delete_for_runs", "copy_thread", "prune")

_Kept = dict[str, Any]


class KvcapSaver(BaseCheckpointSaver[Any]):
    """Wraps a saver. A node of the graph calls `save` and `resume` with its own config."""

    def __new__(cls, saver: BaseCheckpointSaver[Any], sessions: SessionManager | None = None) -> KvcapSaver:
        has = {name: _forward(name) for name in _OPTIONAL if _overrides(saver, name)}
        has |= {"a" + name: _aforward("a" + name) for name in _OPTIONAL if _overrides(saver, "a" + name)}
        made: KvcapSaver = object.__new__(type(cls.__name__, (cls,), has) if has else cls)
        return made

    def __init__(self, saver: BaseCheckpointSaver[Any], sessions: SessionManager | None = None) -> None:
        super().__init__(serde=saver.serde)
        self.saver = saver
        self.sessions = sessions if sessions is not None else SessionManager()
        # the newest state of a thread that this process has saved, and the one that a namespace's checkpoint had last
        self._saved: dict[str, _Kept] = {}
        self._named: dict[tuple[str, str], _Kept] = {}

    def save(
        self, config: RunnableConfig, state: _kvcap.Source, *, tokens: Sequence[int] | None = None, **options: Any
    ) -> _kvcap.Checkpoint:
        """Seals a state into the thread's session. The thread's next checkpoints name it.

        `options` are those of Session.save. Raises KvcapError as Session.save.
        """
        thread = _thread(config)
        made = self.sessions.load_or_create(thread).save(state, tokens=tokens, **options)
        self._saved[thread] = {SESSION: thread, VERSION: made.version, CAPSULE: made.capsule}
        return made

    def resume(
        self, config: RunnableConfig, *, tokens: Sequence[int] | None = None, reserve: int = 0
    ) -> Resumed | None:
        """Verifies and opens the best state for these tokens of the session that the config's checkpoint names.

        None where it names none. Raises KvcapError as Session.resume.
        """
        kept = self.saver.get_tuple(_graphs(config))
        session = kept.metadata.get(SESSION) if kept else None
        if session is None:
            return None
        return self.sessions.load_or_create(str(session)).resume(tokens=tokens, reserve=reserve)

    def _names(self, config: RunnableConfig, parent: CheckpointTuple | None) -> _Kept:
        """What a new checkpoint names: a state saved since its parent, or what its parent names."""
        thread = _thread(config)
        place = (thread, str(config["configurable"].get("checkpoint_ns", "")))
        saved = self._saved.get(thread)
        if saved is not None and self._named.get(place) is not saved:
            self._named[place] = saved
            return saved
        held: Mapping[str, Any] = parent.metadata if parent else {}
        return {name: held[name] for name in (SESSION, VERSION, CAPSULE) if name in held}

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        parent = self.saver.get_tuple(config) if get_checkpoint_id(config) else None
        named: Any = {**metadata, **self._names(config, parent)}
        return self.saver.put(config, checkpoint, named, new_versions)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        parent = await self.saver.aget_tuple(config) if get_checkpoint_id(config) else None
        named: Any = {**metadata, **self._names(config, parent)}
        return await self.saver.aput(config, checkpoint, named, new_versions)

    # The rest is the wrapped saver's.

    @property
    def config_specs(self) -> list[Any]:
        return self.saver.config_specs

    def get_next_version(self, current: Any, channel: None) -> Any:
        return self.saver.get_next_version(current, channel)

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> BaseCheckpointSaver[Any]:
        clone = copy.copy(self)
        clone.saver = self.saver.with_allowlist(extra_allowlist)
        clone.serde = clone.saver.serde
        return clone

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self.saver.get_tuple(config)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await self.saver.aget_tuple(config)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        return self.saver.list(config, filter=filter, before=before, limit=limit)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        async for kept in self.saver.alist(config, filter=filter, before=before, limit=limit):
            yield kept

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self.saver.put_writes(config, writes, task_id, task_path)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        await self.saver.aput_writes(config, writes, task_id, task_path)

    def delete_thread(self, thread_id: str) -> None:
        self._forget(thread_id)
        self.saver.delete_thread(thread_id)

    async def adelete_thread(self, thread_id: str) -> None:
        self._forget(thread_id)
        await self.saver.adelete_thread(thread_id)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return self.saver.get_delta_channel_history(config=config, channels=channels)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return await self.saver.aget_delta_channel_history(config=config, channels=channels)

    def _forget(self, thread: str) -> None:
        self._saved.pop(thread, None)
        for place in [place for place in self._named if place[0] == thread]:
            del self._named[place]


def _thread(config: RunnableConfig) -> str:
    return str(config["configurable"]["thread_id"])


def _graphs(config: RunnableConfig) -> RunnableConfig:
    """The config of the graph's checkpoint. A node's own config has a namespace of the node's."""
    held = config["configurable"]
    names = {name: held[name] for name in ("thread_id", "checkpoint_id") if held.get(name)}
    return {"configurable": {**names, "checkpoint_ns": ""}}


def _overrides(saver: BaseCheckpointSaver[Any], name: str) -> bool:
    return getattr(type(saver), name, None) is not getattr(BaseCheckpointSaver, name)


def _forward(name: str) -> Callable[..., Any]:
    def forwarded(self: KvcapSaver, *positional: Any, **named: Any) -> Any:
        return getattr(self.saver, name)(*positional, **named)

    return forwarded


def _aforward(name: str) -> Callable[..., Awaitable[Any]]:
    async def forwarded(self: KvcapSaver, *positional: Any, **named: Any) -> Any:
        return await getattr(self.saver, name)(*positional, **named)

    return forwarded
