#!/usr/bin/env bash
# The front door: every script of the project by one name. Without a name it lists them and what each
# takes, on two cores once the crates are downloaded; with one it runs it: `./do test`, `./do fuzz 60`.
#
# A recipe is three lines: `#: what it does | what it takes`, its name, and the command that already exists.
set -euo pipefail
cd "$(dirname "$0")"

list() {
    awk -F ' [|] ' '
        /^## / { printf "\n%s\n", substr($0, 4) }
        /^#: / { what = substr($1, 4); takes = $2 }
        /^    [a-z-]+\)$/ { sub(/\)/, ""); printf "  %-14s %-64s %s\n", substr($0, 5), what, takes }
    ' do
}

program() { # a built kvcap, for what runs it from outside
    [ -n "${KVCAP:-}" ] || cargo build --quiet -p kvcap-cli
    KVCAP=$(realpath "${KVCAP:-${CARGO_TARGET_DIR:-target}/debug/kvcap}")
    export KVCAP
}

name=${1:-}
shift || true
case $name in
    "" | help | --help | -h)
        printf 'usage: ./do NAME [ARGUMENTS]\n'
        list
        ;;

## Every day
#: the story of a capsule on a real saved state | a build
    demo)
        cargo run --release -- demo ;;
#: every test | a build, then 3 minutes
    test)
        cargo test --workspace --features kvcap-server/gateway "$@" ;;
#: formatting and lints | a build
    lint)
        cargo fmt --all --check && cargo clippy --workspace --all-targets --features kvcap-server/gateway -- -D warnings ;;
#: formats the code as it is checked in | nightly toolchain
    format)
        cargo +nightly fmt --all -- --config imports_granularity=Crate ;;
#: every check that a change must pass | 40 minutes; Python, C++, PyPI
    ci)
        .ci/run ;;

## More proof
#: the reviewer's command: both readers, bad inputs, planted faults, the map | 10 minutes; Python, PyPI
    review)
        testvectors/review/run "$@" ;;
#: the second implementation: the vectors, and against the program | 3 minutes; Python, PyPI
    python)
        program && testvectors/python/run ;;
#: the third implementation, a reader in TypeScript, over the vectors | 1 minute; Node, npm
    typescript)
        testvectors/typescript/run ;;
#: the inspector: one page that verifies in a browser, target/inspect.html | 2 minutes; the Rust target wasm32-unknown-unknown
    inspect-page)
        web/inspect/build ;;
#: the inspector in Chromium over the vectors; --short: a few | 3 minutes; Chromium, Node, npm
    inspect-test)
        web/inspect/test/run "$@" ;;
#: what only a Mac can tell: Metal, NEON, a report to paste | half an hour; a Mac with Apple silicon
    mac)
        tests/platforms/mac "$@" ;;
#: the Python wheel: types, tests, vectors; --short: no transformers; --full: memory too; --vllm: vLLM and LMCache | 5 minutes, 6, 0.5, 6 or 7 GB; Python, PyPI
    wheel)
        bindings/python/run "$@" ;;
#: the C library: header, tests under AddressSanitizer, vectors; --header writes it, --install | a build, then 1 minute; gcc, g++
    c-library)
        bindings/c/run "$@" ;;
#: llama.cpp as npm and PyPI have it, for the example in C, and the folder's name | 1 minute, 50 MB; npm, PyPI
    llama-cpp)
        bindings/c/llama.cpp ;;
#: the Node module: types, tests, vectors | a build, then 1 minute; Node, npm
    node-module)
        bindings/node/run "$@" ;;
#: the wheels of kvcap and its npm package, for every system; --for TARGET | 10 minutes a system; mingw, PyPI, npm
    pack-bindings)
        bindings/pack "$@" ;;
#: seal and open from Rust, C, Node and Python in one run; --write writes the table | a build for release, then 2 minutes
    measure-bindings)
        bindings/measure "$@" ;;
#: saved, killed, restored and continued in mlx-lm | 2 minutes, 0.4 GB; PyPI
    live)
        tests/live/run --short "$@" ;;
#: the same in all runtimes, and docs/results/live.md | 30 minutes, 6 GB; PyPI
    live-all)
        tests/live/run "$@" ;;
#: capsules in vLLM's and LMCache's own processes, and their section of live.md | 15 minutes, 7 GB; PyPI
    live-vllm)
        tests/live/run --runtime vllm "$@" ;;
#: a real model in llama-server; --short writes nothing | 10 minutes or 1, 0.4 GB; PyPI
    live-real)
        tests/live/run --runtime llama-server "$@" ;;
#: every engine through its one suite; --short: a small model | 3 minutes, 0.8 GB; PyPI
    engines)
        tests/live/run --engines "$@" ;;
#: the gateway beside unprotected peers, after a restart; --short writes nothing | 20 minutes, 0.4 GB; PyPI
    peers)
        tests/live/run --peers "$@" ;;
#: the same for a conversation that left its slot, and what saving costs | 5 minutes, 0.4 GB; PyPI
    returning)
        tests/live/run --returning "$@" ;;
#: a thousand sessions on one slot; --short: 50 of a small model | 15 minutes, 0.4 GB; PyPI
    many)
        tests/live/run --many "$@" ;;
#: builds llama-server for this processor, and prints its path | 10 minutes, 70 MB; C++, PyPI
    llama-server)
        tests/live/build-llama-server ;;
#: installs PostgreSQL, Redis, docker-registry and Chromium where there are none, for tests that start them | a minute; root on Debian
    servers)
        tests/scale/servers ;;
#: writes what compose.yaml mounts: passwords, tokens, configurations | a built kvcap with `shared`
    deploy-setup)
        service/deploy/setup "$@" ;;
#: what compose.yaml starts, as processes: used, watched, a relay killed; --short | 5 minutes or 1; PostgreSQL, Redis, Prometheus, PyPI
    deploy)
        tests/scale/deploy "$@" ;;
#: relays, database, bucket and edge that die or are cut off, and what they had acknowledged | 30 minutes, or as many seconds as named; PostgreSQL, PyPI, root for cuts
    scale)
        tests/scale/run "$@" ;;
#: the rules of every store over an Azure bucket (Azurite) | a build, then 2 minutes; PostgreSQL, Redis, npm, 0.4 GB
    scale-azure)
        tests/scale/with-azure "$@" ;;
#: runs a command in a network whose links can be cut, each relay's alone | root; Debian's iproute2
    links)
        tests/scale/links "$@" ;;
#: relays of an earlier version, named by its kvcap, and of this one under the same faults | 2 minutes, or as many seconds as named; as scale
    upgrade)
        tests/scale/upgrade "$@" ;;
#: a gateway before a real model in llama-server: sessions that leave, return, are edited | 10 minutes; PyPI
    live-gateway)
        tests/live/run --gateway "$@" ;;
#: a day of a coding agent in llama-server; --short: a small model | 5 minutes or half of one, 0.4 GB; PyPI
    day)
        tests/live/run --day "$@" ;;
#: what each encoding costs a real model; --short writes nothing | 40 minutes or 1, 0.4 GB; PyPI
    quality)
        tests/quality/run "$@" ;;
#: a profile of a model for tc, from texts | some minutes, 0.1 GB; PyPI
    profile)
        codecs/profile/train "$@" ;;
#: how much of a session has to be restored; --short writes nothing | 15 minutes or half of one, 0.4 GB; PyPI
    hot-window)
        tests/live/run --hot-window "$@" ;;
#: the MLX backend on the CPU against the oracle | 5 minutes; C++, PyPI
    mlx)
        program && codecs/mlx/linux/test ;;
#: every fuzz target for 20 seconds, or the seconds given | 8 minutes and a build; nightly, cargo-fuzz
    fuzz)
        fuzz/smoke "$@" ;;
#: fuzz targets for minutes of CPU each, and a table | 4 hours; nightly, cargo-fuzz
    fuzz-long)
        fuzz/long "$@" ;;
#: tests under a checker of memory: address or miri | 30 minutes; nightly
    sanitize)
        .ci/sanitize "$@" ;;
#: a state of 4 GiB, or the MiB given, in 448 MiB of memory | 5 minutes, 8 GB of disk
    large)
        tests/cli/large/run "$@" ;;
#: measures docs/results/speed.md again | 15 quiet minutes, 14 GB of memory; PyPI
    bench)
        tests/bench/run "$@" ;;
#: what 10,000 sessions on a disk cost, and a page of results | 1 minute and a build
    bench-sessions)
        tests/bench/sessions "$@" ;;
#: what a header tells of a prompt, by option of seal; --short writes nothing, --write the table | 3 minutes and a build; Python
    leaks)
        program && tests/bench/leaks "$@" ;;
#: whether comparisons and keys take a time that tells of them, by Welch's t | 1 minute and a build
    timing)
        cargo run --quiet --release -p kvcap-bench --features hazmat -- timing "$@" ;;
#: how long the static program takes to start, beside `true`; or another PROGRAM | seconds after `./do dist`, and a build
    bench-start)
        cargo run --quiet -p kvcap-bench --features hazmat -- start \
            --program "${1:-${CARGO_TARGET_DIR:-target}/dist/x86_64-unknown-linux-musl/dist/kvcap}" ;;
#: what sealing and opening by each encoding costs, and a table of docs/results/codecs.md | 3 minutes and a build
    bench-encodings)
        tests/bench/encodings "$@" ;;
#: a running relay and gateway by schemathesis, and in a browser; --short | 8 minutes or 2; PyPI, Chromium
    interface)
        tests/service/interface/run "$@" ;;
#: every wrong capsule and every wrong way to send one, before relay, gateway and a real engine | a build, then 5 minutes; PyPI
    attack)
        cargo test -p kvcap-server --test server -- attacks:: asking:: parts:: crowds:: putting:: tls::
        cargo test -p kvcap-server --features gateway --test gateway -- attacks:: capsules::
        tests/live/run --attack "$@" ;;
#: kill -9 of relay, gateway and engine at random under load, for so many seconds each | a build, then 30 minutes; PyPI
    killed)
        export KVCAP_KILL_SECONDS=${1:-600}
        cargo test -p kvcap-server --test server -- --nocapture killed::
        cargo test -p kvcap-server --features gateway --test gateway -- --nocapture killed::
        tests/live/run --killed --seconds "$KVCAP_KILL_SECONDS" ;;
#: how cost grows with capsules, sessions and relays; tables and plots of docs/results/scale.md; --short | a build for release, then 3 minutes; PostgreSQL, PyPI
    growth)
        tests/scale/growth "$@" ;;
#: what a relay takes to give a capsule out, with and without an edge, before an S3 server | a build for release, then 2 minutes; PostgreSQL, PyPI
    bench-edge)
        tests/scale/with-s3 cargo run --release --quiet -p kvcap-bench --features hazmat,shared -- edge "$@" ;;
#: what a relay costs beside a plain sink, and docs/results/server.md | 5 minutes and a build, 26 GB of disk
    bench-server)
        tests/bench/server "$@" ;;
#: the tests 20 times beside two busy loops a core, failures by test | 2 hours; Python
    load)
        .ci/load "$@" ;;

#: what the tests of the libraries run of them, by folder; --write writes the table | 13 minutes; llvm-tools
    coverage)
        .ci/coverage "$@" ;;
#: changes code a little, many times, and says what no test sees: FILE or FOLDER | 5 minutes and some seconds each; cargo-mutants
    mutants)
        .ci/mutants "$@" ;;
#: the reviewed list of crates against the lock files; --update adds rows for somebody to write | seconds; Python
    crates)
        .ci/crates "$@" ;;
#: licences and origins of all that is linked; --advisories: known faults too | seconds; PyPI
    deny)
        .ci/deny "$@" ;;
#: other systems, as far as this one can: built, checked, emulated; --short | 30 minutes; qemu-user, cross compilers
    platforms)
        tests/platforms/run "$@" ;;
#: the release for Linux on x86-64 built twice, in two folders, and compared; --against SHA256SUMS; --short PROGRAM | 40 minutes; as dist
    reproduce)
        .ci/reproduce "$@" ;;
#: what users download: archives, wheels, digests; --for all; --sign KEY | 10 minutes a system; musl-tools, Python
    dist)
        .ci/dist "$@" ;;

## What is generated
#: the vectors, and spec/example.md | 1 minute
    vectors)
        cargo run -p kvcap-testvectors --features hazmat --bin generate ;;
#: a folder of testvectors/frozen, which is never written again | 1 minute
    freeze)
        cargo run -p kvcap-testvectors --features hazmat --bin freeze "$@" ;;
#: the seeds of the fuzz targets | 1 minute; Python
    seeds)
        program && fuzz/make-seeds ;;
#: saved states again: mlx-lm, llama.cpp or llama-server; a FOLDER | 1 to 60 minutes; PyPI
    fixtures)
        tests/fixtures/make/run "$@" ;;
#: the tables of transformers' configurations; --check compares | half a minute; PyPI
    oracle)
        tests/runtimes/oracle/run "$@" ;;
#: the book, into target/book | seconds; mdBook
    book)
        docs/build "$@" ;;
#: the book's sessions and docs/reference/cli.md as the program prints them, spec/openapi.json | a build
    pages)
        export KVCAP_PAGES=write
        cargo test -p kvcap-cli --features server --test book
        cargo test -p kvcap-server --features gateway --test gateway interface ;;
#: the public API against docs/api; --update writes it | 3 minutes; nightly
    api)
        cargo run --manifest-path tests/api/Cargo.toml -- "$@" ;;

    *)
        printf './do: no recipe %s; ./do lists them\n' "$name" >&2
        exit 2
        ;;
esac
