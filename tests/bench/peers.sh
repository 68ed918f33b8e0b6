#!/usr/bin/env bash
# The same state through kvcap and through what one would use instead: whole processes, one after the
# other in each round, files in the page cache, outputs fresh and durable on both sides (kvcap syncs
# its output itself, the others' is synced by `sync FILE`).
#
#   KVCAP=path/to/kvcap KVCAP_BENCH=path/to/kvcap-bench tests/bench/peers.sh [ROUNDS [BYTES [FOLDER]]]
#
# Prints tables in Markdown. Debian's packages are installed where commands are missing (as root);
# safetensors and numpy come from PyPI into the working folder, which is removed at the end.
set -euo pipefail
kvcap=${KVCAP:-kvcap}
bench=${KVCAP_BENCH:-kvcap-bench}
rounds=${1:-9}
bytes=${2:-415047224}
work=$(mktemp -d "${3:-${TMPDIR:-/tmp}}/kvcap-peers.XXXXXX")
trap 'rm -rf "$work"' EXIT
for command in zstd age minisign b3sum gpg openssl; do
    command -v "$command" >/dev/null || missing=1
done
[ -z "${missing:-}" ] || apt-get install -qq -y zstd age minisign b3sum gnupg openssl >/dev/null
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check safetensors numpy
cd "$work"
mkdir times sizes
export GNUPGHOME=$work/gnupg LC_ALL=C
mkdir -m 700 gnupg

"$bench" state --bytes "$bytes" -o state --model model.kvid >made
"$kvcap" --quiet keygen sign -o sign.key
"$kvcap" --quiet keygen wrap -o wrap.key
age-keygen -o age.key 2>/dev/null
minisign -G -W -p mini.pub -s mini.key >/dev/null
openssl rand -hex 32 >passphrase
# numpy has no bf16: the same bytes under a type of the same size
python3 - <<'PY'
state = open("state", "rb").read()
length = int.from_bytes(state[:8], "little")
header = state[8 : 8 + length].replace(b'"BF16"', b'"I16" ')
open("state.i16", "wb").write(state[:8] + header + state[8 + length :])
PY
cat >load.py <<'PY'
import sys
from safetensors.numpy import load_file
banks = [bank.copy() for bank in load_file(sys.argv[1]).values()]
PY
sync state state.i16

# timed NAME OUTPUT COMMAND: OUTPUT (- for none) is removed before and must be there after
timed() {
    local name=$1 output=$2 start end
    rm -f "$output"
    start=$EPOCHREALTIME
    bash -c "set -euo pipefail; $3" >/dev/null 2>stderr || { cat stderr >&2; exit 1; }
    end=$EPOCHREALTIME
    echo $((${end/./} - ${start/./})) >>"times/$name"
    [ "$output" = - ] || stat -c %s "$output" >"sizes/$name"
}

seal="$kvcap --quiet seal state --model model.kvid --sign-key sign.key --wrap-key wrap.key --ttl 24h --danger-no-prefix"
open="$kvcap --quiet open --model model.kvid --trust sign.key.pub --wrap-key wrap.key"
gpg="gpg --batch --quiet --pinentry-mode loopback --passphrase-file passphrase"
enc="openssl enc -pbkdf2 -pass file:passphrase"
recipient=$(age-keygen -y age.key)

kvcap_pair() { # NAME OPTIONS
    timed "protect $1" "$1.kvcap" "$seal -o $1.kvcap $2"
    timed "restore $1" out "$open $1.kvcap -o out"
    # the lossy ones do not come back byte for byte
    case $1 in exact* | compress*) cmp -s state out || { echo "$1 differs" >&2; exit 1; } ;; esac
}

for _ in $(seq "$rounds"); do
    timed "protect cp" copy "cp state copy; sync copy"
    timed "restore cp" out "cp copy out; sync out"
    kvcap_pair exact-1 "--suite chacha20-poly1305"
    kvcap_pair exact-2 "--suite aes-256-gcm"
    kvcap_pair compress-1 "--suite chacha20-poly1305 --compress"
    kvcap_pair compress-2 "--suite aes-256-gcm --compress"
    kvcap_pair compress-fine-1 "--suite chacha20-poly1305 --compress=fine"
    kvcap_pair compress-fine-2 "--suite aes-256-gcm --compress=fine"
    kvcap_pair q8-2 "--suite aes-256-gcm --encoding q8"
    timed "protect zstd-age-b3sum" z.age \
        "zstd -q -1 -T2 -c state | age -r $recipient >z.age; sync z.age; b3sum z.age >z.b3"
    timed "restore zstd-age-b3sum" out \
        "b3sum --quiet -c z.b3; age -d -i age.key z.age | zstd -q -d -c >out; sync out"
    timed "protect zstd-age-minisign" z.age \
        "zstd -q -1 -T2 -c state | age -r $recipient >z.age; sync z.age; minisign -S -W -s mini.key -m z.age"
    timed "restore zstd-age-minisign" out \
        "minisign -V -q -p mini.pub -m z.age; age -d -i age.key z.age | zstd -q -d -c >out; sync out"
    timed "protect age" a.age "age -r $recipient -o a.age state; sync a.age"
    timed "restore age" out "age -d -i age.key -o out a.age; sync out"
    timed "protect tar-gpg" t.gpg \
        "tar -c state | $gpg --symmetric --cipher-algo AES256 -z 0 -o t.gpg; sync t.gpg"
    timed "restore tar-gpg" out "$gpg -d t.gpg | tar -xO >out; sync out"
    timed "protect tar-openssl" t.enc \
        "tar -c state | $enc -chacha20 -out t.enc; sync t.enc"
    timed "restore tar-openssl" out "$enc -d -chacha20 -in t.enc | tar -xO >out; sync out"
    timed "restore safetensors" - "venv/bin/python load.py state.i16"
    timed "check kvcap" - "$kvcap --quiet verify exact-1.kvcap --trust sign.key.pub --model model.kvid"
    timed "check b3sum" - "b3sum exact-1.kvcap"
    timed "check sha256sum" - "sha256sum exact-1.kvcap"
    timed "check kvcap-version" - "$kvcap --version"
    timed "check true" - "true"
    rm -f out copy ./*.kvcap z.* a.age t.*
done

# microseconds of the least and of the middle round
least() { sort -n "times/$1" | head -1; }
median() { sort -n "times/$1" | sed -n "$(((rounds + 1) / 2))p"; }
seconds() { awk -v us="$1" 'BEGIN { printf "%.3f", us / 1e6 }'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", a / b }'; }

echo "$bytes bytes of bf16, $rounds rounds; least and median seconds of whole processes."
echo
echo "| | protect | | restore | | stored |"
echo "|---|---|---|---|---|---|"
row() { # NAME TEXT
    local cells="| $2 "
    for way in protect restore; do
        if [ -e "times/$way $1" ]; then
            cells+="| $(seconds "$(least "$way $1")") | $(seconds "$(median "$way $1")") "
        else
            cells+="| | "
        fi
    done
    [ -e "sizes/protect $1" ] && cells+="| $(ratio "$(cat "sizes/protect $1")" "$bytes") |" || cells+="| |"
    echo "$cells"
}
row exact-1 "kvcap, exact, suite 1"
row exact-2 "kvcap, exact, suite 2"
row compress-1 "kvcap, exact + compress, suite 1"
row compress-2 "kvcap, exact + compress, suite 2"
row compress-fine-1 "kvcap, exact + compress=fine, suite 1"
row compress-fine-2 "kvcap, exact + compress=fine, suite 2"
row q8-2 "kvcap, q8 (with loss), suite 2"
row cp '`cp`, no protection'
row zstd-age-b3sum '`zstd -1 -T2`, `age`, `b3sum` of the result'
row zstd-age-minisign '`zstd -1 -T2`, `age`, `minisign` of the result'
row age '`age` alone'
row tar-gpg '`tar`, `gpg --symmetric`'
row tar-openssl '`tar`, `openssl enc -chacha20` (no integrity)'
row safetensors 'safetensors into numpy, then a copy'
echo
echo "| of the exact capsule | least | median |"
echo "|---|---|---|"
check() { echo "| $2 | $(seconds "$(least "check $1")") | $(seconds "$(median "check $1")") |"; }
check kvcap '`kvcap verify`, every byte, without a secret'
check b3sum '`b3sum`'
check sha256sum '`sha256sum`'
check kvcap-version '`kvcap --version`'
check true 'an empty command: what each figure here has too much'
echo
echo "| of the medians | wanted | found |"
echo "|---|---|---|"
against() { # TEXT WANTED A B
    echo "| $1 | $2 | $(ratio "$(median "$3")" "$(median "$4")") |"
}
for way in compress compress-fine; do
    for suite in 1 2; do
        against "${way/-/=}, suite $suite: how much faster than zstd, age, b3sum it seals" "≥ 3" \
            "protect zstd-age-b3sum" "protect $way-$suite"
        against "… and opens" "≥ 2.2" "restore zstd-age-b3sum" "restore $way-$suite"
    done
    echo "| its size to theirs | ≤ 0.85 | $(awk -v a="$(cat "sizes/protect $way-1")" -v b="$(cat "sizes/protect zstd-age-b3sum")" \
        'BEGIN { printf "%.4f", a / b }') |"
done
against "exact, suite 2 to cp: seal" "≤ 1.4" "protect exact-2" "protect cp"
against "… open" "≤ 1.4" "restore exact-2" "restore cp"
against "exact, suite 1 to cp: seal" "≤ 2" "protect exact-1" "protect cp"
against "… open" "≤ 2" "restore exact-1" "restore cp"
against "verify to b3sum" "≤ 2" "check kvcap" "check b3sum"
echo
echo "\`\`\`"
"$kvcap" --version
zstd --version
echo "age $(age --version)"
minisign -v
b3sum --version
gpg --version | head -1
openssl version
tar --version | head -1
cp --version | head -1
venv/bin/python -c 'import sys, numpy, safetensors
print("python", sys.version.split()[0], "numpy", numpy.__version__, "safetensors", safetensors.__version__)'
echo "\`\`\`"
