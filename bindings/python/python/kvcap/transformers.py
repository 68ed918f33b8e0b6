"""Caches of Hugging Face transformers: sealed where they lie, and filled from capsules.

A capsule is the one that the file of spec/runtimes-v1.md §4 would give, byte for byte; no file is written and no tensor
on the CPU copied. Layers that are known: dynamic, static, sliding, linear attention, and those that mix them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any, cast

import torch
import transformers

from . import _kvcap
from ._kvcap import Opened, Profile, Sealed, Tensors

__all__ = ["Loaded", "as_file", "load_into", "save"]

# In the order of safetensors' writer: longer elements first.
_TYPES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32", torch.float64: "F64"}
_ORDER = ("F64", "F32", "BF16", "F16")
_STATES = ("conv_states", "recurrent_states")
_KNOWN = {
    "DynamicLayer",
    "DynamicSlidingWindowLayer",
    "StaticLayer",
    "StaticSlidingWindowLayer",
    "LinearAttentionLayer",
    "LinearAttentionAndFullAttentionLayer",
    "LinearAttentionAndSlidingWindowAttentionLayer",
    "LinearAttentionAndStaticFullAttentionLayer",
}


@dataclass(frozen=True)
class Loaded:
    """A cache that was filled from a capsule."""

    cache: Any
    opened: Opened

    @property
    def tokens(self) -> list[int]:
        """Token ids that the cache has seen: generate is given these and the new ones."""
        return self.opened.tokens or []


def save(
    cache: Any,
    to: str | PathLike[str] | None = None,
    *,
    tokens: Any,
    profile: Profile | None = None,
    **options: Any,
) -> Sealed:
    """Seals a cache of one sequence. `tokens` are the ids that it has seen; those beyond its length are left out.

    `options` are those of kvcap.seal. Raises TypeError for a layer of an unknown kind, KvcapError as kvcap.seal.
    """
    ids = [int(token) for token in torch.as_tensor(tokens).flatten().tolist()]
    return _kvcap.seal(
        as_file(cache),
        to,
        profile=profile,
        tokens=ids[: _length(cache)],
        runtime="hf",
        runtime_version=transformers.__version__,
        **options,
    )


def load_into(
    model: Any,
    source: _kvcap.Source,
    *,
    cache: Any = None,
    profile: Profile | None = None,
    **options: Any,
) -> Loaded:
    """Verifies and opens a capsule into `cache`, an empty one, or into a new DynamicCache of the model.

    `options` are those of kvcap.open. Raises KvcapError as kvcap.open, ValueError where the cache has other layers.
    """
    if cache is None:
        cache = transformers.DynamicCache(config=model.config)
    if _length(cache):
        raise ValueError("the cache is not empty")
    opened = _kvcap.open(source, profile=profile, **options)
    state = cast(bytearray, opened.state)
    length, tensors = _tensors(state)
    for number, layer in enumerate(cache.layers):
        _known(layer)
        mine = {name: tensors.pop(f"layers.{number}.{name}", None) for name in ("keys", "values")}
        if mine["keys"] is not None:
            _fill(layer, mine["keys"].to(model.device), mine["values"].to(model.device), length)
        for name in _STATES:
            for index in getattr(layer, name, {}):
                held = tensors.pop(f"layers.{number}.{name}.{index}", None)
                if held is not None:
                    update = layer.update_conv_state if name == "conv_states" else layer.update_recurrent_state
                    update(held.to(model.device), index)
    if tensors:
        raise ValueError(f"the cache has no place for {sorted(tensors)[0]}: it is of other layers than the capsule's")
    return Loaded(cache, opened)


def as_file(cache: Any) -> Tensors:
    """A cache as the file that it would be, over its own memory. It must not change while it is sealed."""
    named = sorted(_named(cache), key=lambda item: (_ORDER.index(_TYPES[item[1].dtype]), item[0]))
    header: dict[str, Any] = {"__metadata__": {"seq_len": str(_length(cache))}}
    end = 0
    for name, tensor in named:
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return Tensors(len(text).to_bytes(8, "little") + text, [_place(tensor) for _, tensor in named])


def _length(cache: Any) -> int:
    return int(cache.get_seq_length())


def _known(layer: Any) -> None:
    if type(layer).__name__ not in _KNOWN:
        raise TypeError(f"a cache's layer of the kind {type(layer).__name__} is not known")


def _named(cache: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors under their attributes' names."""
    for number, layer in enumerate(cache.layers):
        _known(layer)
        for name in ("keys", "values"):
            tensor = getattr(layer, name, None)
            if tensor is not None and tensor.numel():
                tensor = _rows(layer, tensor)
                if tensor.numel():
                    yield f"layers.{number}.{name}", tensor
        for name in _STATES:
            for index, tensor in getattr(layer, name, {}).items():
                if tensor is not None:
                    yield f"layers.{number}.{name}.{index}", tensor


def _rows(layer: Any, tensor: torch.Tensor) -> torch.Tensor:
    """The rows that are filled, of a layer that has room for more; of a window one less, as dynamic layers keep."""
    if not isinstance(layer, transformers.cache_utils.StaticLayer):
        return tensor
    if not isinstance(layer, transformers.cache_utils.StaticSlidingWindowLayer):
        return tensor[:, :, : int(layer.cumulative_length)]
    held = min(layer.cumulative_length_int, layer.max_cache_len)
    return tensor[:, :, held - min(held, layer.max_cache_len - 1) : held]


def _place(tensor: torch.Tensor) -> tuple[Any, int, int, list[tuple[int, int]]]:
    """Where a tensor lies: its storage, its first byte there, bytes in one piece, and what repeats them."""
    tensor = tensor.detach().cpu()
    size = tensor.element_size()
    storage = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
    piece = size
    outer: list[tuple[int, int]] = []
    for count, stride in reversed(list(zip(tensor.shape, tensor.stride(), strict=True))):
        if not outer and (count == 1 or stride * size == piece):
            piece *= count
        elif count != 1:
            outer.insert(0, (count, stride * size))
    return storage, tensor.storage_offset() * size, piece, outer


def _tensors(state: bytearray) -> tuple[int, dict[str, torch.Tensor]]:
    """The tensors of an opened state, over its memory, and how many tokens they are of."""
    data = 8 + int.from_bytes(state[:8], "little")
    header = json.loads(bytes(state[8:data]))
    length = int(header.pop("__metadata__", {}).get("seq_len", 0))
    types = {name: dtype for dtype, name in _TYPES.items()}
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        dtype = types[entry["dtype"]]
        count = (end - begin) // dtype.itemsize
        flat = torch.frombuffer(state, dtype=dtype, count=count, offset=data + begin)
        tensors[name] = flat.view(entry["shape"])
    return length, tensors


def _fill(layer: Any, keys: torch.Tensor, values: torch.Tensor, length: int) -> None:
    caches = transformers.cache_utils
    rows = keys.shape[2]
    if isinstance(layer, caches.StaticSlidingWindowLayer) and length > rows:
        # the row that has left the window, which is never looked at, and the others end where the layer does
        keys, values = (torch.cat([tensor[:, :, :1], tensor], dim=2) for tensor in (keys, values))
    if isinstance(layer, caches.StaticLayer):
        layer.update(keys, values)
    else:
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
    if isinstance(layer, caches.StaticSlidingWindowLayer):
        layer.cumulative_length_int = length
    elif isinstance(layer, caches.DynamicSlidingWindowLayer):
        layer.cumulative_length = length

