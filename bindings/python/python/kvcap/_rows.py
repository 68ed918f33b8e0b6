"""Keys and values by layer as the file of runtimes-v1 §4 and back, and the places of rows in a paged cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from ._kvcap import Tensors

Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor]
#: Puts keys and values [rows, heads, dim] into a cache at slots.
Writer: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], None]

_NAMES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}
_BITS = {2: torch.int16, 4: torch.int32}


def as_file(layers: list[Pair], length: int) -> Tensors:
    """Layers [1, heads, length, dim], which lie in one piece, as the file that they would be."""
    header: dict[str, Any] = {"__metadata__": {"seq_len": str(length)}}
    places = []
    end = 0
    for number, pair in enumerate(layers):
        for name, tensor in zip(("keys", "values"), pair, strict=True):
            begin, end = end, end + tensor.numel() * tensor.element_size()
            entry = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
            header[f"layers.{number}.{name}"] = entry
            places.append((tensor, 0, end - begin, ()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return Tensors(len(text).to_bytes(8, "little") + text, places)


def layers(state: bytearray) -> tuple[int, list[Pair]]:
    """Tokens and layers of such a file, over its memory. ValueError where a layer lacks keys or values."""
    data = 8 + int.from_bytes(state[:8], "little")
    header = json.loads(bytes(state[8:data]))
    length = int(header.pop("__metadata__", {}).get("seq_len", 0))
    dtypes = {name: dtype for dtype, name in _NAMES.items()}

    def tensor(name: str) -> torch.Tensor:
        if name not in header:
            raise ValueError(f"the state has no {name}")
        entry = header.pop(name)
        begin, end = entry["data_offsets"]
        dtype = dtypes[entry["dtype"]]
        flat = torch.frombuffer(state, dtype=dtype, count=(end - begin) // dtype.itemsize, offset=data + begin)
        return flat.view(entry["shape"])

    made: list[Pair] = []
    while header:
        number = len(made)
        made.append((tensor(f"layers.{number}.keys"), tensor(f"layers.{number}.values")))
    return length, made


@dataclass
class Places:
    """Where the elements of a block's rows lie in a head's part of it, [rows * dim] each."""

    keys: torch.Tensor
    values: torch.Tensor
    rows: int
    dim: int

    @classmethod
    def of(cls, write: Writer, cache: torch.Tensor, spec: Any) -> Places:
        """Finds them out: each element of a block's rows is given bits of its own and written by the runtime.

        Some caches hold rows in another order than they came in (CPUs' matrix units want them so), and which one is the
        runtime's secret. ValueError where bits do not come back as they were.
        """
        rows, dim, heads = int(spec.block_size), int(spec.head_size), int(spec.num_kv_heads)
        each = rows * dim
        bits = _BITS[cache.element_size()]
        # normal numbers, so that nobody takes one for zero
        first = 1 << (8 if cache.element_size() == 2 else 24)
        if first + 2 * each >= 1 << 15 and cache.element_size() == 2:
            raise ValueError("a block has more elements than a probe can tell apart")
        numbers = torch.arange(first, first + 2 * each, dtype=bits, device=cache.device).view(2, rows, 1, dim)
        keys, values = (part.expand(rows, heads, dim).contiguous().view(cache.dtype) for part in numbers)
        scratch = torch.zeros_like(cache[:1])
        write(keys, values, scratch, torch.arange(rows, device=cache.device))
        held = scratch.reshape(heads, -1).view(bits).long() - first
        order = held[0].argsort()
        places = order[held[0][order] >= 0]
        written = held[:, places]
        if len(places) != 2 * each or not (written == torch.arange(2 * each, device=cache.device)).all():
            raise ValueError("the runtime does not keep keys and values as they are")
        return cls(places[:each], places[each:], rows, dim)

    def read(self, cache: torch.Tensor, block_ids: torch.Tensor, length: int) -> Pair:
        """Copies the first `length` rows of blocks, [1, heads, length, dim]."""
        blocks = cache[block_ids.to(cache.device)]
        count, heads = blocks.shape[:2]
        flat = blocks.reshape(count, heads, -1)

        def part(places: torch.Tensor) -> torch.Tensor:
            rows = flat[:, :, places].view(count, heads, self.rows, self.dim)
            whole = rows.transpose(0, 1).reshape(1, heads, count * self.rows, self.dim)
            return whole[:, :, :length].contiguous().cpu()

        return part(self.keys), part(self.values)
