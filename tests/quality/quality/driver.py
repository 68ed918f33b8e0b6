"""python -m quality.driver KVCAP [--short] [--encoding 'NAME OPTIONS']… [--resume]

Prints a table of encodings, and of other methods beside them, on a real model. The whole of it goes into
docs/results/codecs.md; --short and --encoding write nothing. --resume takes rows that an earlier run has measured.
"""

import argparse
import hashlib
import json
import shlex
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import trainer.model
from trainer import file, train
from trainer.model import Model, tokenizer

from quality import folder, layers, others, report
from quality.measure import Reference, Row
from quality.states import Program
from quality.texts import CALIBRATION, HELD_OUT, PROMISES, WEIGHTS

HERE = Path(__file__).parent.parent
CACHE = HERE / ".venv/cache"

ENCODINGS = ["exact", "exact --compress", "q8", "tc:5.0", "tc:4.6", "k8v4", "q4c", "q4", "tc:4.0", "tc:3.0",
             "tc:5.0 profile2", "tc:4.0 profile2", "tc:4.0 profile1", "tc:3.0 profile2"]  # fmt: skip
# from a bench to what a cache becomes
OTHERS = {
    "KIVI-like, 4 bits": lambda bench: lambda cache: others.kivi(cache, 4),
    "TurboQuant-like, 4 bits": lambda bench: lambda cache: others.turboquant(cache, 4),
    "CacheGen-like, steps of 1/4": lambda bench: lambda cache: others.cachegen(cache, 0.25),
    "KVTC-like, steps of 1/4": lambda bench: lambda cache: others.kvtc(cache, bench.model, 0.25, bench.bases()),
    "KVTC-like, steps of 1/2": lambda bench: lambda cache: others.kvtc(cache, bench.model, 0.5, bench.bases()),
    "bits by layer, 4.6": lambda bench: lambda cache: layers.through(bench.program, cache, bench.by_layer(4.6)),
}


def say(*words):
    print(*words, file=sys.stderr, flush=True)


class Bench:
    def __init__(self, program, texts, folder, resume):
        self.resume = resume
        self.model = Model(WEIGHTS)
        self.tokenizer = tokenizer(self.model.fields)
        self.program = Program(program, folder, model_folder(self.model))
        self.references = [self.reference(text) for text in texts]
        self._bases, self._trained = None, {}

    def reference(self, text):
        """The text read with the exact cache, kept from one run to the next."""
        ids = text.ids(self.tokenizer)
        kept = kept_as(text.name, text, trainer.model)
        if not kept.exists():
            say(f"quality: reading {text.name}")
            made = Reference.of(self.model, text, ids)
            np.savez(kept, keys=made.cache[0], values=made.cache[1], logs=made.log_probabilities)
        found = np.load(kept)
        return Reference(text, ids, (found["keys"], found["values"]), found["logs"])

    def statistics(self, text):
        """What a profile is made from, kept from one run to the next."""
        kept = kept_as(text.name, text, trainer.model, trainer.fisher, train)
        if not kept.exists():
            say(f"quality: measuring {text.name}")
            made = train.Statistics.of(self.model, text.ids(self.tokenizer))
            np.savez(kept, keys=made.cache[0], values=made.cache[1], metrics=made.metrics)
        found = np.load(kept)
        return train.Statistics((found["keys"], found["values"]), found["metrics"])

    def by_layer(self, bits):
        """Codecs of banks, by what they cost on the calibration, which is kept from one run to the next."""
        kept = kept_as("layers", CALIBRATION, trainer.model, trainer.fisher, layers).with_suffix(".json")
        if not kept.exists():
            found = layers.measured(self.model, self.program, CALIBRATION, self.tokenizer, say)
            kept.write_text(json.dumps([[*bank, own] for bank, own in found.items()]))
        found = {(kind, layer): own for kind, layer, own in json.loads(kept.read_text())}
        return layers.chosen(found, bits)

    def bases(self):
        """Principal components of the calibration, made once."""
        if self._bases is None:
            self._bases = others.bases([self.statistics(text).cache for text in CALIBRATION], self.model)
        return self._bases

    def trained(self, whole):
        """Banks and ladder of a profile of transform 2 (`whole`) or 1, made once a run."""
        if whole not in self._trained:
            texts = [self.statistics(text) for text in CALIBRATION]
            banks = train.banks(self.model, texts, whole)
            held_out = [text.ids(self.tokenizer) for text in PROMISES]
            points = train.ladder(self.model, banks, texts, held_out, lambda point: say(f"quality: profile: {point}"))
            self._trained[whole] = banks, points
        return self._trained[whole]

    def profile(self, whole):
        """The profile's file, made once."""
        modules = trainer.model, trainer.fisher, trainer.transform, trainer.rates, train, file
        kept = kept_as(f"profile{1 + whole}", (whole, CALIBRATION, PROMISES), *modules).with_suffix(".kvtc")
        if not kept.exists():
            banks, points = self.trained(whole)
            model_id = json.loads(self.program.run("model-id", self.program.model, "--json"))["model_id"]
            file.write(kept, bytes.fromhex(model_id), banks, (self.model.kv_heads, self.model.dim), points, False)
        return kept

    def row(self, name, through):
        """`through(cache)` gives back a cache and the bits a value that it took."""
        row, started = Row(name, {}, {}), time.monotonic()
        texts = repr([reference.text for reference in self.references])
        kept = kept_as("row", texts + name)
        if self.resume and kept.exists():
            return Row.load(name, kept)
        for reference in self.references:
            cache, bits = through(reference.cache)
            row.bits[reference.text.name] = bits
            row.tokens[reference.text.name] = reference.compare(self.model, cache)
        row.save(kept)
        whole = row.summary([reference.text.name for reference in self.references])
        say(f"quality: {name}: {whole['bits']:.3f} bits, KL {whole['kl']:.2e}, {time.monotonic() - started:.0f} s")
        return row

    def encoded(self, name):
        encoding, *options = shlex.split(name)
        profile = []
        for transform in (1, 2):
            if f"profile{transform}" in options:  # it is needed to open the capsule, too
                options.remove(f"profile{transform}")
                profile = ["--codec-profile", self.profile(transform == 2)]

        def through(cache):
            back, size = self.program.through(cache, ["--encoding", encoding, *options], profile)
            return back, size * 8 / sum(bank.size for bank in cache)

        return self.row(name, through)


def kept_as(name, what, *made_by):
    """Where a thing is kept: by what it is of, and by the source of the modules that made it."""
    source = b"".join(hashlib.sha256(Path(module.__file__).read_bytes()).digest() for module in made_by)
    return CACHE / f"{name}-{hashlib.sha256(repr(what).encode() + source).hexdigest()[:16]}.npz"


def model_folder(model):
    """The model's folder, made once."""
    out = kept_as("model", None, folder, trainer.model).with_suffix("")
    if not (out / "model.safetensors").exists():
        folder.make(out, model)
    return out


def short(texts):
    """One text of each kind, a few tokens of it."""
    first = {text.kind: text for text in reversed(texts)}
    return [replace(text, context=192, held_out=48) for text in first.values()]


def check(rows):
    """What must hold on any text."""
    found = {row.name: row.summary(row.tokens) for row in rows}
    exact, q8, q4, q4c = (found[name] for name in ("exact", "q8", "q4", "q4c"))
    assert exact["kl"] == 0 and exact["nll"] == 0 and exact["top1"] == 1, exact
    assert 0 < q8["kl"] < q4c["kl"] < q4["kl"], "finer codes lose less"
    assert q4["bits"] < q8["bits"] < exact["bits"], "and take more bits"


def main():
    options = argparse.ArgumentParser()
    options.add_argument("program", type=Path)
    options.add_argument("--short", action="store_true")
    options.add_argument("--encoding", action="append", default=[])
    options.add_argument("--resume", action="store_true")
    options = options.parse_args()

    CACHE.mkdir(parents=True, exist_ok=True)
    texts = short(HELD_OUT) if options.short else HELD_OUT
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.program, texts, Path(folder), options.resume)
        names = options.encoding or (["exact", "q8", "q4", "q4c"] if options.short else [*ENCODINGS, *OTHERS])
        product = [bench.encoded(name) for name in names if name not in OTHERS]
        foreign = [bench.row(name, OTHERS[name](bench)) for name in names if name in OTHERS]
    page = report.page(texts, product, foreign)
    print(page)
    if options.short:
        check(product)
    elif not options.encoding:
        report.write(page)


if __name__ == "__main__":
    main()
