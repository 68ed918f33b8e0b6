#!/bin/bash -eu
# Builds every fuzz target into $OUT, each with its seeds and its dictionary, as OSS-Fuzz runs it: in $SRC/kvcap, with
# a nightly toolchain and cargo-fuzz.
cd "$SRC/kvcap"
cargo +nightly fuzz build --fuzz-dir fuzz -O --debug-assertions
built=${CARGO_TARGET_DIR:-fuzz/target}/x86_64-unknown-linux-gnu/release
for source in fuzz/fuzz_targets/*.rs; do
    target=$(basename "$source" .rs)
    cp "$built/$target" "$OUT/"
    if [ -d "fuzz/seeds/$target" ]; then
        python3 -m zipfile -c "$OUT/${target}_seed_corpus.zip" fuzz/seeds/"$target"/*
    fi
    # which dictionary a target has, fuzz/smoke says
    dictionary=$(fuzz/smoke --dictionary "$target")
    [ -z "$dictionary" ] || cp "fuzz/dictionaries/$dictionary.dict" "$OUT/$target.dict"
done
