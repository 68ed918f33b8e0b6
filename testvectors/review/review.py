"""Runs what the specification promises to be proved by, and prints promise, rules, proof and result.

The map is the table "From promise to proof" of spec/README.md: a promise whose row names nothing that ran and
passed fails the review. The planted faults are those of faults.tsv.
"""

import argparse
import csv
import fnmatch
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from programs import programs  # noqa: E402

# Heap, stacks and maps of the program and of the test that runs it, in bytes, while it is given the vectors.
CAP = 256 << 20
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()


def say(text):
    print(f"review: {text}", flush=True)


def run(command, cwd=ROOT, **more):
    """Status and output, both streams together."""
    done = subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more
    )
    return done.returncode, done.stdout


# --- what tests there are -------------------------------------------------------------------------


class Target:
    """A test program of cargo, with the sources that it is made of."""

    def __init__(self, package, name, path):
        self.package, self.name, self.path = package, name, path

    def __str__(self):
        return f"{self.package} {self.name}"

    def covers(self, path):
        """Whether the test program is of `path`: its file, a module of it, or a folder that it lies in."""
        if self.name == "lib":
            return path.is_relative_to(self.path)
        return self.path == path or self.path.is_relative_to(path) or path.is_relative_to(self.path.with_suffix(""))


def targets():
    found = []
    for manifest in ROOT.glob("*/Cargo.toml"), ROOT.glob("*/*/Cargo.toml"):
        for file in manifest:
            data = tomllib.loads(file.read_text())
            package, folder = data.get("package", {}).get("name"), file.parent
            if not package or "workspace" in data or folder == ROOT / "tests/api":
                continue
            if (folder / "src/lib.rs").exists():
                found.append(Target(package, "lib", folder / "src"))
            listed = [(test["name"], folder / test["path"]) for test in data.get("test", []) if "path" in test]
            own = [(path.stem, path) for path in sorted((folder / "tests").glob("*.rs"))]
            found += [Target(package, name, path.resolve()) for name, path in listed + own]
    return found


# --- the map --------------------------------------------------------------------------------------


def braces(text):
    """`a/{b,c}.rs` is `a/b.rs` and `a/c.rs`."""
    found = re.search(r"\{([^}]*)\}", text)
    if not found:
        return [text]
    return [text[: found.start()] + part + text[found.end() :] for part in found[1].split(",")]


def promises():
    """The rows of the map: promise, rules, evidence. Files that a row names as code or evidence are there."""
    text = (ROOT / "spec/README.md").read_text()
    part = text.split("\n## From promise to proof\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line.startswith("|")]
    assert rows[0] == ["promise", "rules", "code", "evidence"], rows[0]
    for promise, _, code, evidence in rows[2:]:
        for word in re.findall(r"`([^`]*/[^`]*)`", f"{code} {evidence}"):
            for name in braces(word):
                if not any((folder / name).exists() for folder in (ROOT, ROOT / "capsule/src")):
                    sys.exit(f"review: {promise}: there is no {name}")
    return [(row[0], row[1], row[3]) for row in rows[2:]]


def vectors_of(evidence, index):
    """The vectors that a row names, by name, group or flag."""
    words = {word for word in re.findall(r"`([^`]*)`", evidence) if re.fullmatch(r"[a-z0-9_*]+", word)}
    groups = {group.lower() for group in re.findall(r"group \*(\w+)\*", evidence)}
    flags = set(re.findall(r"flagged (\w+)", evidence))
    every = "of every vector" in evidence
    return [
        vector["name"]
        for vector in index
        if every
        or vector["group"] in groups
        or flags & set(vector["flags"])
        or any(fnmatch.fnmatchcase(vector["name"], word) for word in words)
    ]


def targets_of(evidence, known):
    """The test programs that a row names by their files, and files that no test program has."""
    named, unknown = [], []
    for word in re.findall(r"`([^`]*/[^`]*)`", evidence):
        for text in braces(word):
            path = (ROOT / text).resolve()
            of_path = [target for target in known if target.covers(path)]
            named += [target for target in of_path if target not in named]
            if not of_path:
                unknown.append(text)
    return named, unknown


# --- what is run ----------------------------------------------------------------------------------


def passed(output):
    return sum(int(count) for count in re.findall(r"test result: ok\. (\d+) passed; 0 failed", output))


def run_targets(wanted, built):
    results = {}
    for number, target in enumerate(wanted, 1):
        begun = time.monotonic()
        folder, program = built[str(target)]
        status, output = run([program, "--quiet"], cwd=folder)
        count = passed(output)
        results[str(target)] = status == 0 and count > 0
        say(f"{number}/{len(wanted)} {target}: {count} passed{'' if status == 0 else ', FAILED'}, {time.monotonic() - begun:.0f} s")
        if status:
            print(output[-3000:])
    return results


def python_reader():
    """Whether the independent reader says of each vector what is written, and notices a code that is not so."""
    status, output = run([HERE.parent / "python/run", "--vectors"])
    print(output[-400:].rstrip())
    with tempfile.TemporaryDirectory(prefix="kvcap-review-") as folder:
        copy = Path(folder) / "vectors"
        shutil.copytree(HERE.parent / "vectors", copy)
        index = json.loads((copy / "manifest.json").read_text())
        refused = next(vector for vector in index["vectors"] if vector["code"])
        refused["code"] += 1
        (copy / "manifest.json").write_text(json.dumps(index))
        noticed, output = run([".venv/bin/python", "-m", "kvcap_ref", "vectors", copy], cwd=HERE.parent / "python")
    noticed = noticed != 0 and refused["name"] in output
    say(f"a wrong code of {refused['name']}: {'noticed' if noticed else 'NOT NOTICED'}")
    return status == 0 and noticed


def capped_program(built):
    """Whether the program, given the vectors, keeps to the cap of memory, which it inherits, and not to a 16th of it."""

    def under(cap):
        folder, program = built["kvcap-cli vectors_cli"]
        limit = lambda: resource.setrlimit(resource.RLIMIT_DATA, (cap, cap))  # noqa: E731
        status, output = run([program, "--quiet"], cwd=folder, preexec_fn=limit)
        return status == 0 and passed(output) > 0, output

    kept, output = under(CAP)
    if not kept:
        print(output[-3000:])
    noticed = not under(CAP >> 4)[0]
    say(f"a cap of {CAP >> 24} MiB: {'too little, as it should be' if noticed else 'NOT NOTICED'}")
    return kept and noticed


def faults():
    with open(HERE / "faults.tsv", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def planted(index):
    """Plants all faults in a copy of the tree, which is built once, and returns those that nothing noticed.

    Each fault is caught by a vector or test of its own, so that one does not hide another. A capsule that is
    accepted is accepted by a reader without checks too: were it refused, the copy would fail for another reason.
    """
    rows, copy = faults(), Path(tempfile.mkdtemp(prefix="kvcap-review-"))
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, copy / name)
        for row in rows:
            file = copy / row["file"]
            text = file.read_text()
            if text.count(row["from"]) != 1:
                sys.exit(f"review: {row['file']} does not hold once: {row['from']}")
            file.write_text(text.replace(row["from"], row["to"]))
        own = {"CARGO_TARGET_DIR": str(TARGET / "review"), "CARGO_INCREMENTAL": "0", "CARGO_PROFILE_DEV_DEBUG": "0"}
        by_test = {tuple(row["caught by"].split()[:2]) for row in rows if not row["caught by"].startswith("vector:")}
        packages, tests = zip(*sorted(by_test | {("kvcap-testvectors", "vectors")}))
        command = ["cargo", "test", "--quiet", "--no-fail-fast"]
        command += [word for package in sorted(set(packages)) for word in ("--package", package)]
        command += [word for test in sorted(set(tests)) for word in ("--test", test)]
        _, output = run(command, cwd=copy, env=os.environ | own)
        if "could not compile" in output or "test result" not in output:
            sys.exit(f"review: the faults do not compile\n{output[-3000:]}")
        failed = {f"vector:{name}" for name in re.findall(r"^(\w+) by \w+: ", output, re.M)}
        failed |= set(re.findall(r"^    (?:\w+::)*(\w+)$", output, re.M))
        accepted = {f"vector:{vector['name']}" for vector in index if not vector["code"]}
        if failed & accepted:
            sys.exit(f"review: with the faults, {sorted(failed & accepted)} is refused")
        missed = [row for row in rows if row["caught by"].split()[-1] not in failed]
        for row in rows:
            say(f"{'NOT CAUGHT' if row in missed else 'caught'}: {row['fault']} ({row['caught by']})")
        return [row["fault"] for row in missed]
    finally:
        shutil.rmtree(copy)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--map", action="store_true", help="print what the map names, and run nothing")
    parser.add_argument("--faults", action="store_true", help="plant the faults, and run nothing else")
    arguments = parser.parse_args()
    begun = time.monotonic()
    index = json.loads((ROOT / "testvectors/vectors/manifest.json").read_text())["vectors"]
    known = targets()
    rows = [(promise, rules, vectors_of(evidence, index), *targets_of(evidence, known)) for promise, rules, evidence in promises()]
    empty = [promise for promise, _, vectors, tests, _ in rows if not vectors and not tests]
    if empty:
        sys.exit(f"review: no proof is named for: {'; '.join(empty)}")
    if arguments.faults:
        return 1 if planted(index) else 0
    if arguments.map:
        for promise, rules, vectors, tests, unknown in rows:
            print(f"{promise}\n  {rules}\n  {len(vectors)} vectors; {', '.join(map(str, tests)) or '-'}; elsewhere: {', '.join(unknown) or '-'}")
        return 0

    wanted = [Target("kvcap-testvectors", "vectors", ROOT / "testvectors/tests/vectors.rs")]
    for _, _, _, tests, _ in rows:
        wanted += [test for test in tests if str(test) not in map(str, wanted)]
    say("builds what is not built")
    built = {f"{package} {name}": (folder, program) for package, name, folder, program in programs()}
    results = run_targets(wanted, built)
    say("the vectors by the independent reader")
    both = python_reader() and results[str(wanted[0])]
    say(f"the vectors by the program, in {CAP >> 20} MiB")
    capped = capped_program(built)
    say("planted faults")
    missed = planted(index)

    print("\npromise, rules, and what passed for it\n")
    broken = []
    for promise, rules, vectors, tests, unknown in rows:
        good = (both or not vectors) and all(results[str(test)] for test in tests)
        broken += [] if good else [promise]
        proofs = [f"{len(vectors)} vectors by both readers"] * bool(vectors) + [str(test) for test in tests]
        print(f"{'ok    ' if good else 'FAILED'}  {promise}\n        {rules}\n        {'; '.join(proofs)}")
        if unknown:
            print(f"        not run here: {', '.join(unknown)}")
    print()
    computed = resource.getrusage(resource.RUSAGE_CHILDREN)
    say(f"{len(rows) - len(broken)} of {len(rows)} promises; vectors under a cap {'ok' if capped else 'FAILED'}; "
        f"{len(faults()) - len(missed)} of {len(faults())} planted faults caught; {time.monotonic() - begun:.0f} s, "
        f"of the processor {computed.ru_utime + computed.ru_stime:.0f} s")
    return 1 if broken or missed or not capped else 0


if __name__ == "__main__":
    sys.exit(main())
