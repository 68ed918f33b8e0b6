"""The test programs of the workspace, as cargo builds them, for what runs them from outside.

Asking cargo for one package alone would build it again with features of its own.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def programs(flags=("--workspace",)):
    """Builds what is not built, and returns each program's package, name, folder to run in and path.

    The name of a library's own tests is `lib`.
    """
    command = ["cargo", "test", "--no-run", "--message-format=json", *flags]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    found = []
    for line in done.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if not message.get("executable") or not message["profile"]["test"]:
            continue
        target, folder = message["target"], Path(message["manifest_path"]).parent
        # `path+file:///…/capsule#kvcap@0.1.0`, or without the name where the folder has it
        package = message["package_id"].split("#")[1].split("@")[0]
        package = folder.name if package[0].isdigit() else package
        name = "lib" if "lib" in target["kind"] else target["name"]
        found.append((package, name, folder, message["executable"]))
    return found
