"""python -m trainer MODEL.gguf --id MODEL.kvid --texts FILE… -o PROFILE, or --from PROFILE --id MODEL.kvid -o OTHER"""

import argparse
import json
import sys
from pathlib import Path

from trainer import convert, file, train

LEAST = 2 * train.ASKING  # tokens of a text


def arguments():
    options = argparse.ArgumentParser(prog="codecs/profile/train")
    options.add_argument("model", nargs="?", type=Path, help="GGUF file of the architecture llama")
    options.add_argument("--id", type=Path, required=True, help="the .kvid file of the model that states are of")
    options.add_argument("--texts", nargs="+", type=Path, default=[], help="what the transform is fitted to")
    options.add_argument("--held-out", nargs="+", type=Path, default=[], help="what the promised KL is measured on")
    options.add_argument("--tokens", type=int, default=2048, help="read of each text, from its start [2048]")
    options.add_argument("--transform", type=int, choices=(1, 2), default=2,
                         help="1: each head by itself, a third of the size; 2: all heads of a layer [2]")  # fmt: skip
    options.add_argument("--from", dest="source", type=Path, help="convert this profile, and train none")
    options.add_argument("--pairing", choices=("halves", "neighbours"), required=True,
                         help="of rotated keys: halves in transformers and mlx-lm, neighbours in llama.cpp")  # fmt: skip
    options.add_argument("-o", dest="out", type=Path, required=True)
    options = options.parse_args()
    if not options.source and not (options.model and options.texts and options.held_out):
        sys.exit("train: MODEL, --texts and --held-out, or --from PROFILE")
    return options


def trained(options, model_id):
    from trainer.model import Model, tokenizer

    model = Model(options.model)
    read = tokenizer(model.fields)

    def ids(path, least):
        found = read.encode(path.read_text()).ids[: options.tokens]
        if len(found) < least:
            sys.exit(f"train: {path} has {len(found)} tokens, {least} are needed")
        return found

    texts, held_out = [], [ids(path, 2 * train.HELD_OUT) for path in options.held_out]
    for path in options.texts:
        say(f"measuring {path}")
        texts.append(train.Statistics.of(model, ids(path, LEAST)))
    banks = train.banks(model, texts, options.transform == 2)
    points = train.ladder(model, banks, texts, held_out, say)
    shape = model.kv_heads, model.dim
    file.write(options.out, model_id, banks, shape, points, options.pairing == "neighbours")


def say(words):
    print(f"train: {words}", file=sys.stderr, flush=True)


def main():
    options = arguments()
    model_id = bytes.fromhex(json.loads(options.id.read_text())["model"]["id"])
    if options.source:
        profile = options.source.read_bytes()
        options.out.write_bytes(convert.convert(profile, model_id, options.pairing == "neighbours"))
    else:
        trained(options, model_id)


if __name__ == "__main__":
    main()
