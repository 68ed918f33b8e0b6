"""A KV connector of vLLM: one capsule of a request in, one out, held by the client.

    vllm serve MODEL --kv-transfer-config '{"kv_connector": "KvcapConnector", "kv_connector_module_path": "kvcap.vllm",
        "kv_role": "kv_both", "kv_connector_extra_config": {"profile": "default", "folder": "/var/lib/capsules"}}'

A request says in kv_transfer_params what it wants, and its answer says there what became of it:

    {"kvcap": {"open": NAME, "seal": NAME}}       files of `folder`
    {"kvcap": {"open_base64": TEXT, "seal_base64": true}}

    {"kvcap": {"restored": 992, "sealed": {"id": …, "positions": 1016, "base64": …}}}
    {"kvcap": {"restored": 0, "code": 605, "refused": "…"}}

A capsule that is refused restores nothing: the prompt is computed. Model, adapters, rope, tokens, element types, runtime
and its version are the capsule's binding; the request's cache_salt is its subject.
"""

from __future__ import annotations

import base64
import re
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import vllm
from transformers import AutoConfig
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
)
from vllm.model_executor.models.utils import extract_layer_index
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.request import RequestStatus

from . import _kvcap, _rows
from ._kvcap import KvcapError, Profile

__all__ = ["KvcapConnector"]

VERSION = f"vllm-{vllm.__version__}"
#: Names of element types in a capsule.
_TYPES = {torch.bfloat16: "bf16", torch.float16: "f16", torch.float32: "f32"}
#: A file of the folder, and nothing that leads out of it.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
#: KVC-605, binding.prefix.
_PREFIX = 605
#: How long a step of the scheduler waits for a capsule that is being opened, before it looks at other requests.
_PATIENCE = 0.005

#: Worker sides of this process by engine: sealing reads their memory.
_WORKERS: dict[str, KvcapConnector] = {}


@dataclass
class _Load:
    """Rows to write, and the slots that they go to."""

    slots: torch.Tensor
    first: int
    layers: list[tuple[torch.Tensor, torch.Tensor]]


@dataclass
class _Loads(KVConnectorMetadata):  # type: ignore[misc]
    loads: list[_Load] = field(default_factory=list)


@dataclass
class _Opened:
    """A verified capsule's rows; none, and why, where it was refused."""

    layers: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    positions: int = 0
    refusal: dict[str, Any] = field(default_factory=dict)


class KvcapConnector(KVConnectorBase_V1):  # type: ignore[misc]
    """Restores and seals requests' capsules in an engine of one worker, whose layers all attend to every position."""

    def __init__(self, vllm_config: Any, role: KVConnectorRole, kv_cache_config: Any) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        self._spec = _known(vllm_config, kv_cache_config)
        self._block = int(self._spec.block_size)
        self._layers: dict[str, Any] = vllm_config.compilation_config.static_forward_context
        self._caches: dict[str, torch.Tensor] = {}
        self._places: _rows.Places | None = None
        if role == KVConnectorRole.WORKER:
            _WORKERS[self._kv_transfer_config.engine_id] = self
            return
        extra = self._kv_transfer_config.kv_connector_extra_config
        folder = extra.get("folder")
        self._folder = Path(folder) if folder else None
        self._given = extra.get("profile")
        self._settings = _settings(vllm_config.model_config, self._given)
        self._profile(None, None)  # what is wrong with it is said now
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="kvcap")
        self._opening: dict[str, Future[_Opened]] = {}
        self._first: dict[str, int] = {}
        self._answers: dict[str, dict[str, Any]] = {}
        self._next = _Loads()

    @property
    def requires_kv_delivery(self) -> bool:
        return False

    # the scheduler's side

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int | None, bool]:
        wanted = _wanted(request)
        if not {"open", "open_base64"} & wanted.keys():
            return 0, False
        opening = self._opening.get(request.request_id)
        if opening is None:
            if request.request_id in self._answers:
                return 0, False  # it was preempted: what it restored before is computed again
            opening = self._pool.submit(self._open, request, wanted)
            self._opening[request.request_id] = opening
        try:
            opened = opening.result(_PATIENCE)
        except NotYet:
            return None, False
        self._first[request.request_id] = num_computed_tokens
        whole = min(opened.positions, request.num_prompt_tokens - 1) // self._block * self._block
        return max(0, whole - num_computed_tokens), False

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        opening = self._opening.pop(request.request_id, None)
        if opening is None:
            return
        opened = opening.result()
        self._answers[request.request_id] = {"restored": num_external_tokens} | opened.refusal
        if num_external_tokens:
            first = self._first[request.request_id]
            slots = _slots(torch.tensor(blocks.get_block_ids()[0]), self._block)
            self._next.loads.append(_Load(slots[first : first + num_external_tokens], first, opened.layers))
        self._first.pop(request.request_id, None)

    def build_connector_meta(self, scheduler_output: Any) -> KVConnectorMetadata:
        made, self._next = self._next, _Loads()
        return made

    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        self._opening.pop(request.request_id, None)
        self._first.pop(request.request_id, None)
        answer = self._answers.pop(request.request_id, {})
        wanted = _wanted(request)
        done = request.status in (RequestStatus.FINISHED_STOPPED, RequestStatus.FINISHED_LENGTH_CAPPED)
        if done and {"seal", "seal_base64"} & wanted.keys():
            try:
                answer["sealed"] = self._seal(request, wanted, block_ids)
            except KvcapError as refused:
                answer |= {"code": refused.code, "refused": refused.public}
            except _Unknown as refused:
                answer |= refused.answer()
        return False, {"kvcap": answer} if answer else None

    def _open(self, request: Any, wanted: dict[str, Any]) -> _Opened:
        try:
            _plain(request)
            source: Any = self._file(wanted["open"]) if "open" in wanted else _decoded(wanted["open_base64"])
            opened, common = self._opened(source, request)
            assert opened.state is not None
            length, layers = _rows.layers(opened.state)
            shape = (self._spec.num_kv_heads, length, self._spec.head_size)
            if len(layers) != len(self._kv_cache_config.kv_cache_groups[0].layer_names) or any(
                tensor.shape[1:] != shape for pair in layers for tensor in pair
            ):
                raise _Unknown(604, "the state has other layers, heads or rows than the engine's cache")
            return _Opened(layers, common)
        except KvcapError as refused:
            return _Opened(refusal={"code": refused.code, "refused": refused.public})
        except _Unknown as refused:
            return _Opened(refusal=refused.answer())

    def _opened(self, source: Any, request: Any) -> tuple[Any, int]:
        """An opened capsule, and how many tokens it has in common with the prompt."""
        name = _TYPES[self._spec.dtype]
        terms: dict[str, Any] = {
            "profile": self._profile(request.lora_request, request.cache_salt),
            "dtypes": (name, name),
        }
        prompt = list(request.prompt_token_ids)
        claimed = _kvcap.inspect(source).positions[1]  # opening holds the prompt to it
        try:
            return _kvcap.open(source, tokens=prompt[:claimed], **terms), claimed
        except KvcapError as refused:
            if refused.code != _PREFIX:
                raise
        # of another prompt, which may begin alike: rows see what is before them alone
        opened = _kvcap.open(source, **terms)
        pairs = zip(prompt, opened.tokens or [], strict=False)
        common = next((at for at, (one, other) in enumerate(pairs) if one != other), None)
        if common is None:
            common = min(len(prompt), len(opened.tokens or []))
        if common < self._block:
            raise _Unknown(_PREFIX, "the capsule and the prompt have no block of tokens in common")
        return opened, common

    def _seal(self, request: Any, wanted: dict[str, Any], block_ids: list[int]) -> dict[str, Any]:
        _plain(request)
        worker = _WORKERS.get(self._kv_transfer_config.engine_id)
        if worker is None:
            raise _Unknown(922, "the engine's worker is another process")
        # the last token was sampled and not computed
        length = min(request.num_computed_tokens, request.num_tokens - 1)
        to = self._file(wanted["seal"]) if "seal" in wanted else None
        sealed = _kvcap.seal(
            _rows.as_file(worker.rows(block_ids, length), length),
            to,
            profile=self._profile(request.lora_request, request.cache_salt),
            tokens=list(request.all_token_ids[:length]),
            runtime="hf",
            runtime_version=VERSION,
        )
        said: dict[str, Any] = {"id": sealed.id, "positions": length, "length": sealed.length}
        if sealed.capsule is not None:
            said["base64"] = base64.b64encode(sealed.capsule).decode()
        return said

    def _profile(self, lora: Any, salt: str | None) -> Profile:
        """The settings for a request: its adapter, and its salt as the subject."""
        more: dict[str, Any] = dict(self._settings)
        if lora is not None:
            more["adapter"] = [lora.lora_path]
        if salt:
            more["subject"] = salt
        if isinstance(self._given, dict):
            return Profile(**self._given | more)
        return Profile.load(self._given, **more)

    def _file(self, name: Any) -> Path:
        if self._folder is None:
            raise _Unknown(944, "the engine has no folder of capsules")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise _Unknown(944, "a capsule's name has letters, digits, '_', '-' and '.' alone")
        return self._folder / name

    # the worker's side

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        names = self._kv_cache_config.kv_cache_groups[0].layer_names
        self._caches = {name: kv_caches[name] for name in sorted(names, key=extract_layer_index)}
        name, cache = next(iter(self._caches.items()))
        self._places = _rows.Places.of(self._writer(name), cache, self._spec)

    def _writer(self, name: str) -> _rows.Writer:
        """The runtime's own function that puts rows into a cache: it alone knows how they lie there."""
        layer = self._layers[name]

        def write(keys: torch.Tensor, values: torch.Tensor, cache: torch.Tensor, slots: torch.Tensor) -> None:
            layer.impl.do_kv_cache_update(layer, keys, values, cache, slots)

        return write

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        for load in self._get_connector_metadata().loads:
            last = load.first + len(load.slots)
            for (name, cache), pair in zip(self._caches.items(), load.layers, strict=True):
                # [1, heads, rows, dim] → [rows, heads, dim]
                keys, values = (
                    tensor[0, :, load.first : last].transpose(0, 1).contiguous().to(cache.device) for tensor in pair
                )
                self._writer(name)(keys, values, cache, load.slots.to(cache.device))

    def rows(self, block_ids: list[int], length: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Copies keys and values of each layer, [1, heads, length, dim]."""
        assert self._places is not None
        ids = torch.tensor(block_ids[: -(-length // self._block)])
        return [self._places.read(cache, ids, length) for cache in self._caches.values()]

    def wait_for_layer_load(self, layer_name: str) -> None:
        return

    def save_kv_layer(self, layer_name: str, kv_layer: Any, attn_metadata: Any, **kwargs: Any) -> None:
        return

    def wait_for_save(self) -> None:
        return


class _Unknown(Exception):
    """What this connector refuses itself, under the code of errors.md that fits."""

    def __init__(self, code: int, what: str) -> None:
        super().__init__(what)
        self.code = code

    def answer(self) -> dict[str, Any]:
        return {"code": self.code, "refused": str(self)}


def _known(vllm_config: Any, kv_cache_config: Any) -> Any:
    """The one kind of cache that is known."""
    parallel = vllm_config.parallel_config
    if parallel.world_size != 1:
        raise ValueError("KvcapConnector is for engines of one worker")
    if vllm_config.speculative_config is not None:
        raise ValueError("KvcapConnector is for engines without speculative decoding")
    groups = kv_cache_config.kv_cache_groups
    spec: Any = groups[0].kv_cache_spec if len(groups) == 1 else None
    if type(spec) is not FullAttentionSpec or spec.sliding_window or spec.attention_chunk_size:
        raise ValueError("KvcapConnector is for models whose layers all attend to every position")
    if spec.dtype not in _TYPES or spec.kv_quant_mode.value != 0:
        raise ValueError("KvcapConnector is for caches of bfloat16, float16 or float32")
    if spec.head_size_v != spec.head_size:
        raise ValueError("KvcapConnector is for keys and values of one length")
    return spec


def _settings(model_config: Any, given: Any) -> dict[str, Any]:
    """What the engine knows of itself: its model, its version, and a rope that it was told instead of the model's."""
    folder = Path(model_config.model)
    made: dict[str, Any] = {"runtime": "hf", "runtime_version": VERSION}
    if not (isinstance(given, dict) and "model" in given):
        if not folder.is_dir():
            raise ValueError("the model is no folder here: name one, or its .kvid, in the profile's `model`")
        made["model"] = str(folder)
    if folder.is_dir():
        own = AutoConfig.from_pretrained(folder).get_text_config().rope_parameters
        told = model_config.hf_text_config.rope_parameters
        if own != told:
            if {**own, "rope_theta": None} != {**told, "rope_theta": None}:
                raise ValueError("the engine was told another kind of rope than the model's")
            made["runtime_opt"] = [f"rope-freq-base={float(told['rope_theta'])}"]
    return made


def _wanted(request: Any) -> dict[str, Any]:
    params = request.kv_transfer_params
    wanted = params.get("kvcap") if isinstance(params, dict) else None
    return wanted if isinstance(wanted, dict) else {}


def _plain(request: Any) -> None:
    """Tokens tell all of a prompt, unless there is more in it."""
    if request.mm_features or request.prompt_embeds is not None or request.prompt_token_ids is None:
        raise _Unknown(922, "a prompt of more than tokens is not known")


def _decoded(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        raise _Unknown(944, "the capsule is no base64") from None


def _slots(block_ids: torch.Tensor, block: int) -> torch.Tensor:
    return (block_ids[:, None] * block + torch.arange(block)[None, :]).flatten()
