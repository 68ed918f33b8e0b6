"""Capsules that must not restore: refused with one code each time, and rebuilt from nothing."""

import shutil
from dataclasses import dataclass

from live import environments
from live.bench import agreement, wait_until

#: environments in which the model computes something else
OTHER = ("rope", "override", "adapter")


@dataclass
class Case:
    name: str
    #: the code it must be refused with
    expected: int
    capsule: str = "valid"
    environment: str = "base"
    other_prompt: bool = False


@dataclass
class Fallback:
    name: str
    expected: int
    codes: list
    #: of the message
    says: str
    #: agrees with a cold start of the same environment, to the last bit of the logits
    as_cold: bool
    #: nothing in the runtime after the refusal, and no file left behind
    clean: bool

    @property
    def ok(self):
        return set(self.codes) == {self.expected} and self.as_cold and self.clean


def cases(runtime):
    # a gguf file's digest covers its tokenizer
    tokenizer = 601 if runtime == "llama.cpp" else 602
    return [
        Case("bank_missing", 607, capsule="bank_missing"),
        Case("model_id_hash_mismatch", 601, environment="weights"),
        Case("tokenizer", tokenizer, environment="words"),
        Case("rope, theta in the config", 601, environment="rope"),
        Case("rope, theta at run time", 603, environment="override"),
        Case("adapter added", 601, environment="adapter"),
        Case("prefix of another prompt", 605, other_prompt=True),
        Case("expired", 402, capsule="expired"),
        Case("truncated", 807, capsule="truncated"),
        Case("flipped bit", 805, capsule="flipped"),
        Case("another runtime version", 608, capsule="version"),
    ]


def run(bench, state, cold):
    """Every case; `state` is the baseline's, `cold` its cold run."""
    capsules = make_capsules(bench, state)
    colds = {"base": cold}
    for case in cases(bench.runtime):
        if case.environment not in colds:
            colds[case.environment] = bench.run("cold", case.environment)
            differs = agreement(colds[case.environment], cold) != (bench.plan.steps, 0.0)
            if case.environment in OTHER and not differs:
                raise RuntimeError(f"{bench.runtime}: {case.environment} changes nothing")
        answer = bench.resume(
            capsules[case.capsule],
            case.environment,
            tokens=bench.other_tokens if case.other_prompt else None,
            attempts=bench.plan.attempts,
        )
        codes = answer["codes"]
        refused = len(codes) == bench.plan.attempts
        yield Fallback(
            name=case.name,
            expected=case.expected,
            codes=codes,
            says=answer.get("message", "accepted"),
            as_cold=refused and agreement(answer, colds[case.environment]) == (bench.plan.steps, 0.0),
            clean=refused and answer["held"] == 0 and answer["left"] == [],
        )


def make_capsules(bench, state):
    names = ("valid", "expired", "version", "truncated", "flipped", "bank_missing")
    capsules = {name: bench.folder / f"{name}.kvcap" for name in names}
    bench.seal(state, capsules["valid"])
    bench.seal(state, capsules["version"], "--runtime-version", "0.0.1")
    expires = bench.seal(state, capsules["expired"], ttl="1s")["expires"]
    for name in ("truncated", "flipped"):
        shutil.copyfile(capsules["valid"], capsules[name])
    length = capsules["valid"].stat().st_size
    with open(capsules["truncated"], "r+b") as file:
        file.truncate(length * 3 // 4)
    with open(capsules["flipped"], "r+b") as file:
        file.seek(length * 3 // 4)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    without_a_layer(bench, capsules["bank_missing"])
    wait_until(expires)
    return capsules


def without_a_layer(bench, capsule):
    """A capsule without the last layer, from a saver that lost it and a sealer that did not look."""
    state = bench.state("short")
    if "short" in bench.environments:
        process, _ = bench.live("short", state=state, steps=0)
    else:
        process, _ = bench.live(state=state, steps=0, lose_a_layer=True)
    bench.kill(process)
    kvid = bench.folder / "model.kvid"
    bench.kvcap("model-id", bench.environments["base"]["model"], "-o", kvid)
    kvid.write_text(environments.of_fewer_layers(kvid.read_text()))
    bench.seal(state, capsule, model=kvid)
