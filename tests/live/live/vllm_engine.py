"""An engine of vLLM in a process of its own, which answers requests until it is killed.

The environment of bindings/python/run --vllm has what it needs.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[1]
#: of the class of engines here: the CPU's attention wants blocks of 32 rows
SAME = {"seed": 0, "enforce_eager": True, "block_size": 32, "max_model_len": 2048, "dtype": "bfloat16"}
#: what the engine reuses is what a capsule brings, and nothing of an earlier request
ALONE = {"enable_prefix_caching": False}
#: one thread: two that wait for each other take many times as long where other work has one of the cores
VARIABLES = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
             "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "WARNING",
             "VLLM_NO_USAGE_STATS": "1", "LMCACHE_TRACK_USAGE": "false", "DO_NOT_TRACK": "1"}


def connector(profile, folder):
    """KvcapConnector's part of an engine's options."""
    return {
        "kv_connector": "KvcapConnector",
        "kv_connector_module_path": "kvcap.vllm",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"profile": profile, "folder": str(folder)},
    }


class Engine:
    def __init__(self, model, connects=None, **options):
        """`connects` is the engine's kv_transfer_config; `options` are vLLM's."""
        made = SAME | ALONE | {"model": str(model)} | options
        if connects:
            made["kv_transfer_config"] = connects
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-m", "live.vllm_engine", json.dumps(made)],
            env=os.environ | VARIABLES | {"PYTHONPATH": str(HERE)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
        )
        self.version = self.said()["version"]

    def said(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            raise RuntimeError(self.log.read()[-6000:])
        return json.loads(line)

    def ask(self, prompt, steps=1, logits=False, **more):
        """`tokens`, `cached` (not evaluated), `said` (the connector's answer), `seconds`; where asked for, `logits` [steps, words].

        `more` may have `kvcap`, a request's part for the connector, `salt`, `lora`, a folder, and `forced`, the tokens to say.
        """
        with tempfile.TemporaryDirectory() as folder:
            if logits:
                more["logits"] = f"{folder}/logits.npy"
            print(json.dumps({"prompt": prompt, "steps": steps} | more), file=self.process.stdin, flush=True)
            answer = self.said()
            if logits:
                answer["logits"] = np.load(more["logits"])
        return answer

    def drop(self):
        """The engine forgets all that it holds."""
        print(json.dumps({"drop": True}), file=self.process.stdin, flush=True)
        return self.said()["dropped"]

    def kill(self):
        """Without a chance to clean up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


def recorder(rows):
    """A class of vLLM's that keeps the logits of a request as they are, and forces its tokens where it has such."""
    from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

    class Recorder(AdapterLogitsProcessor):
        def is_argmax_invariant(self):
            return False

        def new_req_logits_processor(self, params):
            if "forced" not in (params.extra_args or {}):
                return None
            forced = iter(params.extra_args["forced"])

            def seen(_, logits):
                rows.append(logits.float().numpy().copy())
                if (token := next(forced, None)) is not None:
                    logits.fill_(float("-inf"))
                    logits[token] = 0.0
                return logits

            return seen

    return Recorder


def answer(llm, request, took, rows):
    from vllm import SamplingParams

    prompt = {"prompt_token_ids": request["prompt"]}
    if "salt" in request:
        prompt["cache_salt"] = request["salt"]
    lora = None
    if "lora" in request:
        from vllm.lora.request import LoRARequest

        lora = LoRARequest("adapter", 1, request["lora"])
    extra = {"kv_transfer_params": {"kvcap": request["kvcap"]}} if request.get("kvcap") else {}
    if "logits" in request:
        extra["forced"] = request.get("forced", [])
    sampling = SamplingParams(temperature=0, max_tokens=request["steps"], ignore_eos=True, extra_args=extra)
    took.clear()
    rows.clear()
    start = time.monotonic()
    out = llm.generate(prompt, sampling, use_tqdm=False, lora_request=lora)[0]
    seconds = time.monotonic() - start
    if "logits" in request:
        assert len(rows) == request["steps"], len(rows)
        np.save(request["logits"], np.array(rows, np.float32))
    return {
        "tokens": list(out.outputs[0].token_ids),
        "cached": out.num_cached_tokens,
        "said": (out.kv_transfer_params or {}).get("kvcap"),
        "seconds": seconds,
        "took": dict(took),
    }


def timed(took):
    """What of the connector's work is a capsule's: seconds of opening and of sealing, by name."""
    from kvcap.vllm import KvcapConnector

    def watch(name):
        call = getattr(KvcapConnector, name)

        def measured(*arguments):
            start = time.monotonic()
            try:
                return call(*arguments)
            finally:
                took[name.strip("_")] = took.get(name.strip("_"), 0.0) + time.monotonic() - start

        setattr(KvcapConnector, name, measured)

    for name in ("_open", "_seal", "start_load_kv"):
        watch(name)


def without_a_false_dict():
    """vLLM 0.32.0 asks every object of every module for its `__dict__`, and llvmlite's library, which LMCache brings, has for
    every name a function."""
    from llvmlite.binding.ffi import _lib_wrapper

    found = _lib_wrapper.__getattr__

    def known(library, name):
        if name == "__dict__":
            raise AttributeError(name)
        return found(library, name)

    _lib_wrapper.__getattr__ = known


def main():
    # what others print goes where errors go
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from vllm import LLM, __version__

    options, took, rows = json.loads(sys.argv[1]), {}, []
    if options.get("kv_transfer_config", {}).get("kv_connector") == "KvcapConnector":
        timed(took)
    without_a_false_dict()
    llm = LLM(**options, logits_processors=[recorder(rows)])
    print(json.dumps({"version": __version__}), file=out, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        said = {"dropped": llm.reset_prefix_cache()} if "drop" in request else answer(llm, request, took, rows)
        print(json.dumps(said), file=out, flush=True)


if __name__ == "__main__":
    main()
