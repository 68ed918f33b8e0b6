"""llama.cpp by its C interface, as llama-cpp-python binds it."""

import ctypes
from importlib.metadata import version

import llama_cpp as llama
import numpy as np

from live.runtimes import Base

CONTEXT = 2304
#: tokens evaluated in one step at most
BATCH = 1024
TYPES = {None: llama.GGML_TYPE_F16, "q8_0": llama.GGML_TYPE_Q8_0, "q4_0": llama.GGML_TYPE_Q4_0}


class Runtime(Base):
    version = version("llama-cpp-python")

    def __init__(self, environment):
        super().__init__()
        self.quiet = llama.llama_log_callback(lambda *_: None)
        llama.llama_log_set(self.quiet, ctypes.c_void_p(0))
        llama.llama_backend_init()
        path = environment["model"].encode()
        self.model = llama.llama_model_load_from_file(path, llama.llama_model_default_params())
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = CONTEXT, BATCH, 512
        params.n_threads = params.n_threads_batch = 2
        params.flash_attn_type = int(environment.get("flash", True))
        params.type_k = params.type_v = TYPES[environment.get("cache")]
        params.no_perf = False
        if base := environment.get("rope_base"):
            params.rope_freq_base = base
        self.context = llama.llama_init_from_model(self.model, params)
        self.memory = llama.llama_get_memory(self.context)
        self.vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        if adapter := environment.get("adapter"):
            lora = llama.llama_adapter_lora_init(self.model, adapter.encode())
            one = (llama.llama_adapter_lora_p_ctypes * 1)(lora)
            assert llama.llama_set_adapters_lora(self.context, one, 1, (ctypes.c_float * 1)(1.0)) == 0
        self.clear()

    @property
    def evaluated(self):
        """llama.cpp's own counts, of steps with several tokens and with one. Both say 1 for none."""
        perf = llama.llama_perf_context(self.context)
        several = perf.n_p_eval if perf.n_p_eval > 1 else 0
        return several + (perf.n_eval if self.alone else 0)

    @evaluated.setter
    def evaluated(self, _):
        self.alone = False

    def clear(self):
        llama.llama_memory_clear(self.memory, True)
        llama.llama_perf_context_reset(self.context)
        self.evaluated = 0

    def held(self):
        return llama.llama_memory_seq_pos_max(self.memory, 0) + 1

    def logits(self, tokens):
        out = []
        for start in range(0, len(tokens), BATCH):
            out.append(self.step(tokens[start : start + BATCH]))
        return np.concatenate(out)

    def step(self, tokens):
        first, count = self.held(), len(tokens)
        batch = llama.llama_batch_init(count, 0, 1)
        batch.n_tokens = count
        for index, token in enumerate(tokens):
            batch.token[index], batch.pos[index] = token, first + index
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
            batch.logits[index] = 1
        failed = llama.llama_decode(self.context, batch)
        llama.llama_batch_free(batch)
        assert failed == 0, f"llama_decode: {failed}"
        self.alone |= count == 1
        flat = llama.llama_get_logits(self.context)
        return np.ctypeslib.as_array(flat, (count, self.vocabulary)).copy()

    def save(self, path, tokens):
        ids = (llama.llama_token * len(tokens))(*tokens)
        assert llama.llama_state_seq_save_file(self.context, str(path).encode(), 0, ids, len(tokens)) > 0

    def restore(self, path):
        ids, count = (llama.llama_token * CONTEXT)(), ctypes.c_size_t()
        read = llama.llama_state_seq_load_file(self.context, str(path).encode(), 0, ids, CONTEXT, ctypes.byref(count))
        assert read > 0, "llama.cpp refuses the file"
