"""seal, verify and open for asyncio: each runs in a thread and takes what the plain call takes.

A call that is cancelled goes on to its end in its thread: what it writes appears whole or not at all.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from . import _kvcap

__all__ = ["open", "seal", "verify"]

P = ParamSpec("P")
T = TypeVar("T")


def _in_a_thread(call: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    @wraps(call)
    async def run(*positional: P.args, **named: P.kwargs) -> T:
        return await asyncio.to_thread(call, *positional, **named)

    return run


seal = _in_a_thread(_kvcap.seal)
verify = _in_a_thread(_kvcap.verify)
open = _in_a_thread(_kvcap.open)
