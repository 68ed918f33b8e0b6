#!/bin/bash -eu
# Builds every fuzz target into $OUT, each with its seeds and its dictionary, as OSS-Fuzz runs it: in $SRC/kvcap, with
# cargo-fuzz and the nightly toolchain of the Dockerfile. Arguments name the targets, where these are not to be all.
cd "$SRC/kvcap"
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(basename -s .rs fuzz/fuzz_targets/*.rs)
# `fuzz` has to be cargo's first argument: by it the image's own `cargo` knows a build for coverage
[ $# -gt 0 ] || cargo fuzz build --fuzz-dir fuzz -O --debug-assertions
built=${CARGO_TARGET_DIR:-fuzz/target}/x86_64-unknown-linux-gnu/release
for target in "${targets[@]}"; do
    [ $# -eq 0 ] || cargo fuzz build --fuzz-dir fuzz -O --debug-assertions "$target"
    cp "$built/$target" "$OUT/"
    if [ -d "fuzz/seeds/$target" ]; then
        python3 -m zipfile -c "$OUT/${target}_seed_corpus.zip" fuzz/seeds/"$target"/*
    fi
    # which dictionary a target has, fuzz/smoke says
    dictionary=$(fuzz/smoke --dictionary "$target")
    [ -z "$dictionary" ] || cp "fuzz/dictionaries/$dictionary.dict" "$OUT/$target.dict"
done
