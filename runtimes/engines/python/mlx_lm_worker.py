"""mlx-lm behind a pipe: python -c SOURCE MODEL SLOTS CONTEXT.

Requests are lines of JSON on standard input, `{"id": 1, "do": "evaluate", ...}`, and answers lines of JSON on standard
output with the same id: events, then one line with `done` or `refused`. `{"cancel": 1}` stops what has that id. The
process ends when its input does. One thing is computed at a time.

do        takes                          gives
tokens    kind, body: a text of JSON     done.tokens
answer    slot, kind, body               events reused, then text; done with counts and reason
evaluate  slot, tokens                   done with counts
save      slot, path                     done.tokens: what the state is of
restore   slot, path, tokens
erase     slot
"""

import json
import os
import queue
import sys
import threading
import time

# what a library prints is no answer
ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)

from importlib.metadata import version  # noqa: E402

import mlx.core as mx  # noqa: E402
from mlx_lm import load  # noqa: E402
from mlx_lm.models.cache import (  # noqa: E402
    can_trim_prompt_cache,
    load_prompt_cache,
    make_prompt_cache,
    save_prompt_cache,
    trim_prompt_cache,
)
from mlx_lm.sample_utils import make_logits_processors, make_sampler  # noqa: E402

#: tokens of a prompt that are evaluated in one step
STEP = 512


class Refused(Exception):
    def __init__(self, message, status=400):
        super().__init__(message)
        self.status = status


class Slot:
    """A cache and the tokens that it is of."""

    def __init__(self, model):
        self.cache, self.tokens = make_prompt_cache(model), []


class Worker:
    def __init__(self, model, slots, context):
        # the tokenizer runs no code of the model's folder
        self.model, self.tokenizer = load(model)
        self.slots = [Slot(self.model) for _ in range(slots)]
        self.context = context
        self.requests, self.cancelled = queue.Queue(), set()

    # in and out

    def listen(self):
        """Takes requests until there are no more, which is the end of whoever made them."""
        for line in sys.stdin:
            request = json.loads(line)
            if "cancel" in request:
                self.cancelled.add(request["cancel"])
            else:
                self.requests.put(request)
        os._exit(0)

    def say(self, **event):
        ANSWERS.write(json.dumps(event) + "\n")
        ANSWERS.flush()

    def run(self):
        self.say(ready={"version": version("mlx-lm")})
        threading.Thread(target=self.listen, daemon=True).start()
        while True:
            request = self.requests.get()
            number = request["id"]
            try:
                self.say(id=number, done=getattr(self, request["do"])(request) or {})
            except Refused as refused:
                self.say(id=number, refused={"status": refused.status, "message": str(refused)})
            except Exception as error:  # whatever the library does not like of a request or a file
                self.say(id=number, refused={"status": 500, "message": f"{type(error).__name__}: {error}"})
            self.cancelled.discard(number)

    # prompts

    def tokens(self, request):
        return {"tokens": self.ids(request["kind"], json.loads(request["body"]))}

    def ids(self, kind, body):
        if kind == "completion":
            prompt = body.get("prompt")
            if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
                prompt = prompt[0]
            if isinstance(prompt, str):
                return list(map(int, self.tokenizer.encode(prompt)))
            if isinstance(prompt, list) and all(isinstance(token, int) for token in prompt):
                if not all(0 <= token < len(self.tokenizer) for token in prompt):
                    raise Refused("a token id is not the model's")
                return prompt
            raise Refused("a prompt is one text or one list of token ids")
        if not self.tokenizer.has_chat_template:
            raise Refused("the model has no chat template")
        messages = [self.message(message) for message in body["messages"]]
        ids = self.tokenizer.apply_chat_template(
            messages,
            tools=body.get("tools"),
            add_generation_prompt=True,
            tokenize=True,
            **(body.get("chat_template_kwargs") or {}),
        )
        return list(map(int, ids))

    @staticmethod
    def message(message):
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(part["text"] for part in content)
        return message | {"content": content or ""}

    # slots

    def prefill(self, number, slot, ids):
        """The logits after the prompt, with what the slot has of it reused; tokens reused."""
        if not ids:
            raise Refused("the prompt is empty")
        if len(ids) > self.context:
            raise Refused("the prompt is longer than the slot's context")
        common = 0
        while common < min(len(slot.tokens), len(ids) - 1) and slot.tokens[common] == ids[common]:
            common += 1
        more = len(slot.tokens) - common
        if more and not (can_trim_prompt_cache(slot.cache) and trim_prompt_cache(slot.cache, more) == more):
            slot.cache, common = make_prompt_cache(self.model), 0
        del slot.tokens[common:]
        logits = None
        for at in range(common, len(ids), STEP):
            if number in self.cancelled:
                raise Refused("nobody reads the answer", 499)
            logits = self.step(slot, ids[at : at + STEP])
        return logits, common

    def step(self, slot, tokens):
        logits = self.model(mx.array([tokens]), cache=slot.cache)[:, -1, :]
        mx.eval(logits, [entry.state for entry in slot.cache])
        slot.tokens.extend(tokens)
        return logits

    def evaluate(self, request):
        started = time.perf_counter()
        ids = request["tokens"]
        _, cached = self.prefill(request["id"], self.slots[request["slot"]], ids)
        return counts(cached, len(ids), started)

    def answer(self, request):
        started = time.perf_counter()
        number, body, slot = request["id"], json.loads(request["body"]), self.slots[request["slot"]]
        options = Options(body, self.tokenizer)
        ids = self.ids(request["kind"], body)
        logits, cached = self.prefill(number, slot, ids)
        result = counts(cached, len(ids), started)
        self.say(id=number, reused=result)
        started = time.perf_counter()
        room = min(options.most, self.context - len(ids))
        text, made, reason = Text(self.tokenizer, options.stop), 0, "length"
        while made < room:
            token = options.choose(slot.tokens, logits)
            made += 1
            if token in options.ends:
                reason = "stop"
                break
            piece = text.add(token)
            if piece:
                self.say(id=number, text=piece)
            if text.stopped:
                reason = "stop"
                break
            if number in self.cancelled:
                break
            if made < room:
                logits = self.step(slot, [token])
        if rest := text.rest():
            self.say(id=number, text=rest)
        milliseconds = 1000 * (time.perf_counter() - started)
        return result | {"predicted": made, "predicted_ms": milliseconds, "reason": reason}

    def save(self, request):
        slot = self.slots[request["slot"]]
        if not slot.tokens:
            raise Refused("the slot holds nothing", 409)
        save_prompt_cache(request["path"], slot.cache)
        return {"tokens": slot.tokens}

    def restore(self, request):
        slot, tokens = self.slots[request["slot"]], request["tokens"]
        slot.__init__(self.model)
        cache = load_prompt_cache(request["path"])
        mx.eval([entry.state for entry in cache])
        if [type(entry) for entry in cache] != [type(entry) for entry in slot.cache]:
            raise Refused("the state is of other caches than the model's", 409)
        held = max((entry.offset for entry in cache if hasattr(entry, "offset")), default=len(tokens))
        if not 0 < held <= len(tokens):
            raise Refused("the state is of more tokens than are known", 409)
        slot.cache, slot.tokens = cache, tokens[:held]

    def erase(self, request):
        self.slots[request["slot"]].__init__(self.model)


def counts(cached, prompt, started):
    return {"cached": cached, "evaluated": prompt - cached, "prompt_ms": 1000 * (time.perf_counter() - started)}


class Options:
    """How an answer is chosen, by OpenAI's names; what is not said is as mlx-lm's own server has it."""

    def __init__(self, body, tokenizer):
        def number(*names, default):
            value = next((body[name] for name in names if body.get(name) is not None), default)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise Refused(f"{names[0]} is no number")
            return value

        self.most = int(number("max_completion_tokens", "max_tokens", "n_predict", default=512))
        if (seed := body.get("seed")) is not None:
            mx.random.seed(int(seed))
        self.sampler = make_sampler(
            temp=number("temperature", default=0.0),
            top_p=number("top_p", default=1.0),
            min_p=number("min_p", default=0.0),
            top_k=int(number("top_k", default=0)),
        )
        bias = {int(token): float(more) for token, more in (body.get("logit_bias") or {}).items()}
        penalty = number("repetition_penalty", "repeat_penalty", default=0.0)
        self.processors = make_logits_processors(bias or None, penalty if penalty not in (0, 1) else None)
        stop = body.get("stop") or []
        self.stop = [stop] if isinstance(stop, str) else stop
        self.ends = set() if body.get("ignore_eos") is True else tokenizer.eos_token_ids

    def choose(self, tokens, logits):
        for processor in self.processors:
            logits = processor(mx.array(tokens), logits)
        logits = logits - mx.logsumexp(logits, keepdims=True)
        return int(self.sampler(logits).item())


class Text:
    """The text of tokens as it grows, without what may still become a stop word."""

    def __init__(self, tokenizer, stop):
        self.detokenizer, self.stop = tokenizer.detokenizer, stop
        self.text, self.told, self.stopped = "", 0, False
        self.held = max((len(word) for word in stop), default=1) - 1

    def add(self, token):
        self.detokenizer.add_token(token)
        return self.grown(self.detokenizer.last_segment, self.held)

    def rest(self):
        if self.stopped:
            return ""
        self.detokenizer.finalize()
        return self.grown(self.detokenizer.last_segment, 0)

    def grown(self, more, held):
        self.text += more
        ends = [at for at in (self.text.find(word, max(0, self.told - self.held)) for word in self.stop) if at >= 0]
        if ends:
            self.stopped = True
        end = min(ends) if ends else len(self.text) - held
        piece = self.text[self.told : max(end, self.told)]
        self.told += len(piece)
        return piece


if __name__ == "__main__":
    Worker(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])).run()
