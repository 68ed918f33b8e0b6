"""mlx-lm on MLX's CPU backend."""

import mlx.core as mx
import numpy as np
from importlib.metadata import version
from mlx.utils import tree_map
from mlx_lm import load
from mlx_lm.models.cache import KVCache, load_prompt_cache, make_prompt_cache, save_prompt_cache

from live.runtimes import Base

QUANTIZED = {"q8": (64, 8), "q4": (64, 4)}
#: held-out tokens evaluated in one step
STEP = 64


class Runtime(Base):
    version = version("mlx-lm")

    def __init__(self, environment):
        super().__init__()
        mx.set_default_device(mx.cpu)
        base = environment.get("rope_base")
        overrides = {"rope_theta": base} if base else {}
        self.model, _ = load(environment["model"], model_config=overrides, adapter_path=environment.get("adapter"))
        self.quantized = QUANTIZED.get(environment.get("cache"))
        self.clear()

    def clear(self):
        self.cache = make_prompt_cache(self.model)
        self.evaluated = 0

    def held(self):
        return max((entry.offset for entry in self.cache if hasattr(entry, "offset")), default=0)

    def logits(self, tokens):
        out = self.model(mx.array([tokens]), cache=self.cache)[0].astype(mx.float32)
        if self.quantized:
            group, bits = self.quantized
            # as mlx-lm's generation does after each step with kv_bits
            self.cache = [
                entry.to_quantized(group_size=group, bits=bits) if isinstance(entry, KVCache) else entry
                for entry in self.cache
            ]
        mx.eval(out, [entry.state for entry in self.cache])
        self.evaluated += len(tokens)
        return np.array(out)

    def predictions(self, tokens):
        """In binary32, from the cache as it is: MLX's CPU kernel for quantized binary16 takes a quarter of a second a token."""
        self.model.set_dtype(mx.float32)
        for entry in self.cache:
            entry.state = tree_map(widened, entry.state)
        rows = [self.logits(tokens[at : at + STEP]) for at in range(0, len(tokens), STEP)]
        self.model.set_dtype(mx.float16)
        return np.concatenate(rows)

    def save(self, path, tokens):
        save_prompt_cache(path, self.cache)

    def restore(self, path):
        self.cache = load_prompt_cache(path)
        mx.eval([entry.state for entry in self.cache])

    def drop_layer(self):
        """Loses the last layer's cache, as a faulty saver might."""
        self.cache = self.cache[:-1]


def widened(value):
    """The same numbers in binary32; codes and offsets as they are."""
    float_ = isinstance(value, mx.array) and mx.issubdtype(value.dtype, mx.floating)
    return value.astype(mx.float32) if float_ else value
