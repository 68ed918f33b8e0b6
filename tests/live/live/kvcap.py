"""The program, as a user runs it."""

import json
import resource
import subprocess
import time


class Refused(Exception):
    def __init__(self, code, message):
        super().__init__(f"KVC-{code}: {message}")
        self.code = code


class Kvcap:
    def __init__(self, program):
        self.program = str(program)

    def __call__(self, *arguments):
        """The report of one run, with seconds of the whole process: `wall`, and `computed` by its CPUs. Raises `Refused`."""
        command = [self.program, *map(str, arguments), "--json"]
        started, before = time.perf_counter(), computed()
        done = subprocess.run(command, capture_output=True, text=True)
        wall = time.perf_counter() - started
        report = json.loads(done.stdout or "{}")
        if not report.get("ok"):
            error = report.get("error") or {"code": 0, "message": done.stderr}
            raise Refused(error["code"], error["message"])
        return report | {"wall": wall, "computed": computed() - before}


def computed():
    """Seconds of CPU of all processes that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def model_options(environment):
    """The options that name the model of an environment and what was changed at run time."""
    options = ["--model", environment["model"]]
    if base := environment.get("rope_base"):
        options += ["--runtime-opt", f"rope-freq-base={base}"]
    if adapter := environment.get("adapter"):
        options += ["--adapter", adapter]
    return options
