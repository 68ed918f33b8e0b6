"""Signed, encrypted, compressed capsules of a language model's KV cache.

seal, verify, open and inspect take a path or an object with the buffer protocol. Whom to trust, whose keys and which
model is a Profile's: the user's own (docs/reference/config.md) where none is given. What is refused raises KvcapError,
whose `code` never changes its meaning. Long calls let other threads run; `kvcap.aio` has them for asyncio.

For the runtimes' own objects: kvcap.transformers, kvcap.mlx_lm, kvcap.llama_cpp.
"""

from ._kvcap import (
    Checkpoint,
    Claims,
    Key,
    KvcapError,
    Model,
    Opened,
    Profile,
    Registry,
    Resumed,
    Sealed,
    Session,
    SessionManager,
    Tensors,
    Verdict,
    Verifying,
    change_registry,
    create_registry,
    inspect,
    model_id,
    new_root_key,
    new_signing_key,
    new_wrapping_key,
    open,
    read_public_key,
    seal,
    verify,
)

__all__ = [
    "Checkpoint",
    "Claims",
    "Key",
    "KvcapError",
    "Model",
    "Opened",
    "Profile",
    "Registry",
    "Resumed",
    "Sealed",
    "Session",
    "SessionManager",
    "Tensors",
    "Verdict",
    "Verifying",
    "change_registry",
    "create_registry",
    "inspect",
    "model_id",
    "new_root_key",
    "new_signing_key",
    "new_wrapping_key",
    "open",
    "read_public_key",
    "seal",
    "verify",
]
