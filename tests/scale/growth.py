"""How cost grows with capsules, sessions and relays: `tests/scale/growth` says what it needs."""

import argparse
import http.client
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from deploy import KVCAP, ROOT, Deployed, sealed

BENCH = os.environ["KVCAP_BENCH"]
RESULTS = ROOT / "docs/results"
MODEL = ROOT / "docs/scale.md"
#: what docs/scale.md asks about: capsules kept, bytes of one, days for which it is kept, times that it is read, requests of a put
ASKED = {"capsules": 10**8, "bytes": 9_000_000, "days": 7, "reads": 2, "parts": 4}
#: bytes a second that a core verifies (docs/results/speed.md), and that a machine's network of 10 Gbit/s carries
VERIFIED, CARRIED = 2.4e9, 1.25e9
#: list prices of S3 Standard in us-east-1 in dollars: a GB and month, a thousand writes, a thousand reads
PRICES = (0.023, 0.005, 0.0004)
#: rows by which the size of an index is calibrated, and those that are predicted by them
CALIBRATED, PREDICTED = (10_000, 100_000), 1_000_000


def main():
    given = argparse.ArgumentParser()
    given.add_argument("--short", action="store_true")
    short = given.parse_args().short
    rows = (1, 100, 1000) if short else (1, 100, *CALIBRATED, PREDICTED)
    index = bench("growth", "--rows", ",".join(map(str, rows)), "--rounds", 20 if short else 200)
    sessions = [
        bench("sessions", "--count", count, "--bytes", 1_000_000, "--events", 1000, "--rounds", 3 if short else 7,
              "--program", KVCAP)
        for count in ((1, 100) if short else (1, 100, 10_000, 100_000))
    ]
    servers = relays((1, 2) if short else (1, 2, 3, 4), 2 if short else 15)
    for part in (index_table(index), session_table(sessions), server_table(servers)):
        print(part)
    if short:
        return
    page = RESULTS / "scale.md"
    between(page, "growth", f"{machine()}\n\n{index_table(index)}\n\n{session_table(sessions)}\n\n{server_table(servers)}\n")
    calibrated, following = model(index, servers)
    between(MODEL, "calibrated", calibrated)
    between(MODEL, "follows", following)
    plot(index, sessions, servers)


def bench(*words):
    with tempfile.NamedTemporaryFile() as facts:
        subprocess.run([BENCH, "--facts", facts.name, *map(str, words)], check=True, stdout=subprocess.DEVNULL)
        return json.loads(Path(facts.name).read_text())


def relays(counts, seconds):
    """Requests a second, and what the processor computed for each, with so many relays over one database and bucket."""
    found = []
    for count in counts:
        work = Path(tempfile.mkdtemp(prefix="kvcap-growth"))
        work.chmod(0o711)
        deployed = Deployed(work, None, count)
        del deployed.services["prometheus"]
        if count == 1:
            del deployed.services["relay-2"]
            deployed.relays = ["relay-1"]
        # what the relays can do is asked, and not what they let one tenant do
        with (deployed.made / "relay/relay.toml").open("a") as settings:
            settings.write("\n[limits]\nrate = 1000000\nburst = 1000000\n")
        try:
            deployed.start()
            found.append(under_load(deployed, seconds))
        finally:
            deployed.end()
            shutil.rmtree(work)
    return found


def under_load(deployed, seconds, clients=8):
    token = (deployed.made / "tokens/client").read_text().strip()
    ports = [deployed.port(relay, 8470) for relay in deployed.relays]
    capsules = [sealed(deployed.work, "cache.example.com") for _ in range(clients)]
    parts = {"relays": deployed.relays, "database": ["postgres"], "bucket": ["bucket"]}
    computed = lambda: {part: sum(cpu(deployed.running[name].pid) for name in names) for part, names in parts.items()}
    with multiprocessing.Pool(clients) as pool:
        asked = [(ports, token, capsule, at, seconds) for at, capsule in enumerate(capsules)]
        before, begun = computed(), time.monotonic()
        done = pool.map(client, asked)
        took, after = time.monotonic() - begun, computed()
    answers = sum(len(times) for one in done for times in one.values())
    milliseconds = {what: statistics.median(at for one in done for at in one[what]) * 1e3 for what in done[0]}
    each = {part: (after[part] - before[part]) / answers * 1e3 for part in parts}
    return {"relays": len(deployed.relays), "a_second": answers / took, "milliseconds": milliseconds, "cpu": each,
            "bytes": len(capsules[0])}


def client(asked):
    """Puts, reads and deletes a capsule, each through the next relay, until time is up. Returns seconds of each."""
    ports, token, capsule, at, seconds = asked
    connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=60) for port in ports]
    head = {"Authorization": f"Bearer {token}"}
    times = {"put": [], "read": [], "delete": []}
    place, ends = None, time.monotonic() + seconds
    while time.monotonic() < ends:
        for what, method, status in (("put", "POST", 201), ("read", "GET", 200), ("delete", "DELETE", 204)):
            at += 1
            connection = connections[at % len(connections)]
            since = time.monotonic()
            if what == "put":
                connection.request(method, "/v1/capsules", capsule, head | {"Content-Type": "application/vnd.kvcap"})
            else:
                connection.request(method, place, headers=head)
            answer = connection.getresponse()
            body = answer.read()
            times[what].append(time.monotonic() - since)
            if answer.status != status or (what == "read" and body != capsule):
                raise RuntimeError(f"{what}: {answer.status} {body[:500]}")
            if what == "put":
                place = f"/v1/capsules/{json.loads(body)['id']}"
    return times


def cpu(process):
    """Seconds that the processor computed for a process and all that it has begun."""
    ticks = os.sysconf("SC_CLK_TCK")
    children, own = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(stat.parent.name)
        children.setdefault(int(fields[1]), []).append(pid)
        own[pid] = sum(map(int, fields[11:15])) / ticks  # with those that have ended
    waiting, seconds = [process], 0
    while waiting:
        pid = waiting.pop()
        seconds += own.get(pid, 0)
        waiting += children.get(pid, ())
    return seconds


def index_table(index):
    lines = ["### Capsules in the index", "",
             "`kvcap-bench growth`: an operation of the store of relays that share, with so many capsules kept already; the bucket is a "
             "folder, so that the index is what grows. Beside each, a folder of one relay, which asks no other process. Medians of "
             f"{index['rounds']}; *writes* are the database's transactions, *log* what it writes ahead of them.", "",
             "| kept | operation | ms | folder, ms | ratio | writes | log, bytes |", "|---:|---|---:|---:|---:|---:|---:|"]
    for one in index["costs"]:
        lines.append(f"| {one['rows']:,} | {one['what']} | {one['seconds'] * 1e3:.3f} | {one['folder_seconds'] * 1e3:.3f} | "
                     f"{one['ratio']:,.1f} | {one['transactions']:.1f} | {one['log_bytes']:,.0f} |")
    lines += ["", "| capsules | table with its indexes, bytes | each |", "|---:|---:|---:|"]
    for one in index["sizes"]:
        lines.append(f"| {one['rows']:,} | {one['bytes']:,} | {one['bytes'] / max(one['rows'], 1):,.0f} |")
    return "\n".join(lines)


def session_table(sessions):
    lines = ["### Sessions of a device", "",
             "`kvcap-bench sessions`: with so many sessions in the folder, beside plain work on the same disk; least of the rounds.", "",
             "| sessions | operation | s | plain, s | ratio |", "|---:|---|---:|---:|---:|"]
    for one in sessions:
        for cost in one["costs"]:
            lines.append(f"| {one['sessions']:,} | {cost['what']} | {cost['seconds']:.5f} | {cost['plain_seconds']:.5f} | "
                         f"{cost['ratio']:.2f} |")
    return "\n".join(lines)


def server_table(servers):
    lines = ["### Relays", "",
             f"`tests/scale/growth`: relays that share one PostgreSQL and one S3 server, all on this machine, and eight clients that put, read "
             f"and delete capsules of {servers[0]['bytes']:,} bytes, each request through the next relay. All share the same cores, so that "
             "more relays cannot answer more; what counts is that none is worse for another, and what an answer has each part compute.", "",
             "| relays | answers a second | put, ms | read, ms | delete, ms | CPU of relays, ms an answer | of the database | of the bucket |",
             "|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for one in servers:
        ms, each = one["milliseconds"], one["cpu"]
        lines.append(f"| {one['relays']} | {one['a_second']:.0f} | {ms['put']:.1f} | {ms['read']:.1f} | {ms['delete']:.1f} | "
                     f"{each['relays']:.2f} | {each['database']:.2f} | {each['bucket']:.2f} |")
    return "\n".join(lines)


def model(index, servers):
    """What the model is calibrated by, and how it does at a size that it was not."""
    sizes = {one["rows"]: one["bytes"] for one in index["sizes"]}
    (few, many), wanted = CALIBRATED, PREDICTED
    each = (sizes[many] - sizes[few]) / (many - few)
    predicted = sizes[few] + each * (wanted - few)
    costs = {(one["rows"], one["what"]): one for one in index["costs"]}
    put, delete = (costs[many, what] for what in ("put", "delete"))
    cpu = {part: statistics.median(one["cpu"][part] for one in servers) for part in servers[0]["cpu"]}
    at_many = {what: costs[many, what]["seconds"] * 1e3 for what in ("put", "look up", "find 8 ancestors")}
    at_wanted = {what: costs[wanted, what]["seconds"] * 1e3 for what in at_many}
    lines = ["| | measured |", "|---|---:|",
             f"| index of a capsule: row and indexes, from {few:,} to {many:,} | {each:,.0f} bytes |",
             f"| a put: transactions, log of the database | {put['transactions']:.1f}, {put['log_bytes']:,.0f} bytes |",
             f"| a deletion: the same | {delete['transactions']:.1f}, {delete['log_bytes']:,.0f} bytes |",
             f"| CPU of an answer: relay, database, bucket | {cpu['relays']:.2f}, {cpu['database']:.2f}, {cpu['bucket']:.2f} ms |", "",
             f"Held against {wanted:,} capsules, by which it was not calibrated:", "",
             "| | predicted | measured | difference |", "|---|---:|---:|---:|",
             f"| table with indexes | {predicted:,.0f} bytes | {sizes[wanted]:,} bytes | {sizes[wanted] / predicted - 1:+.1%} |"]
    for what, seconds in at_many.items():
        lines.append(f"| {what} | {seconds:.3f} ms | {at_wanted[what]:.3f} ms | {at_wanted[what] / seconds - 1:+.0%} |")
    return "\n".join(lines) + "\n", follows(each, put, delete, cpu)


def follows(each, put, delete, cpu):
    """What the model says of what docs/scale.md asks about."""
    n, size, days, reads, parts = ASKED.values()
    come = n / (86_400 * days)
    answers = come * (2 + reads)  # put, read, expire
    month = 86_400 * 30
    carried = come * size * (1 + reads)
    stored, written, read = (n * size / 1e9 * PRICES[0], come * parts * month / 1e3 * PRICES[1], come * reads * month / 1e3 * PRICES[2])
    rows = [
        ("bucket: bytes", f"*N s* = {n * size / 1e15:.2f} PB"),
        ("bucket: requests a second", f"*u p* = {come * parts:,.0f} writes, *u r* = {come * reads:,.0f} reads, 2 *u* = {2 * come:,.0f} deletions; "
                                      "none that lists"),
        ("database: bytes", f"*N i* = {n * each / 1e9:.0f} GB"),
        ("database: transactions a second that write", f"{come * (put['transactions'] + delete['transactions']):,.0f}"),
        ("database: log", f"{come * (put['log_bytes'] + delete['log_bytes']) / 1e6:.1f} MB/s"),
        ("relays: bytes", f"*u s* (1 + *r*) = {carried / 1e9:.1f} GB/s: {-(-carried // CARRIED):.0f} networks of 10 Gbit/s"),
        ("relays: cores", f"{come * size / VERIFIED:.1f} that verify, {answers * cpu['relays'] / 1e3:.1f} for the answers"),
        ("database: cores", f"{answers * cpu['database'] / 1e3:.1f}"),
        ("dollars a month", f"{stored:,.0f} for bytes, {written:,.0f} for writes, {read:,.0f} for reads"),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)]) + "\n"


def plot(index, sessions, servers):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "kvcap", "font.size": 9})
    from matplotlib import pyplot

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(12, 4), layout="constrained")
    for what in dict.fromkeys(one["what"] for one in index["costs"]):
        points = [(one["rows"], one["seconds"] * 1e3) for one in index["costs"] if one["what"] == what]
        left.plot(*zip(*points), "o-", label=what)
    left.set(xscale="log", yscale="log", xlabel="capsules in the index", ylabel="ms, median", title="An operation")
    left.set_ylim(bottom=0.01)
    for what in [cost["what"] for cost in sessions[0]["costs"]]:
        points = [(one["sessions"], cost["seconds"] * 1e3) for one in sessions for cost in one["costs"] if cost["what"] == what]
        middle.plot(*zip(*points), "o-", label=what.replace("`", ""))
    middle.set(xscale="log", yscale="log", xlabel="sessions of a device", ylabel="ms, least", title="A session's work")
    for part in servers[0]["cpu"]:
        right.plot([one["relays"] for one in servers], [one["cpu"][part] for one in servers], "o-", label=part)
    right.set(xlabel="relays", ylabel="CPU, ms an answer", title="What an answer computes", xticks=[one["relays"] for one in servers])
    right.set_ylim(bottom=0)
    for axes in (left, middle, right):
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    figure.savefig(RESULTS / "scale.svg", metadata={"Date": None})


def between(page, name, text):
    """Puts a text between the marks of a page."""
    before, rest = page.read_text().split(f"<!-- {name} -->\n")
    _, after = rest.split(f"<!-- /{name} -->\n")
    page.write_text(f"{before}<!-- {name} -->\n{text}<!-- /{name} -->\n{after}")


def machine():
    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return (f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, {platform.system()}, load average "
            f"{os.getloadavg()[0]:.1f} at the end. {time.strftime('%Y-%m-%d')}.")


if __name__ == "__main__":
    main()
