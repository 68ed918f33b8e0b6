"""What the three runtimes have in common here.

An environment says what a runtime runs with: `model` (a folder or GGUF file), and what a test varies,
`rope_base` (a number given at run time), `adapter` (a LoRA), `cache` (the runtime's own quantized cache), `flash`
(llama.cpp's flash attention, on by default) and `dtype` (transformers', bfloat16 by default).
"""

import importlib

MODULES = {"mlx-lm": "mlx_lm_runtime", "llama.cpp": "llama_cpp_runtime", "transformers": "transformers_runtime"}


def load(name, environment):
    """The runtime `name` with its model loaded and an empty cache."""
    return importlib.import_module(f"live.{MODULES[name]}").Runtime(environment)


class Base:
    """A loaded model and one sequence's cache."""

    def __init__(self):
        #: tokens that went through the model since `clear`
        self.evaluated = 0

    def held(self):
        """Tokens in the cache, by the runtime's own word."""
        raise NotImplementedError

    def clear(self):
        """An empty cache."""
        raise NotImplementedError

    def logits(self, tokens):
        """Evaluates `tokens` in one step; the logits after each, float32 [tokens, vocabulary]."""
        raise NotImplementedError

    def predictions(self, tokens):
        """What `logits` gives, for many tokens whose quality is measured; the cache is not used afterwards."""
        return self.logits(tokens)

    def save(self, path, tokens):
        """Saves the cache by the runtime's own mechanism; `tokens` are those it is of."""
        raise NotImplementedError

    def restore(self, path):
        """Loads a saved cache."""
        raise NotImplementedError

    def close(self):
        """Frees what Python would free in the wrong order."""
