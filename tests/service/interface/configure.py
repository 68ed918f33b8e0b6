"""Makes the configuration of a relay for a test: configure.py KVCAP FOLDER."""

import json
import subprocess
import sys
from pathlib import Path

program, home = sys.argv[1], Path(sys.argv[2])


def kvcap(*args: str) -> dict:
    ran = subprocess.run([program, *args, "--json"], cwd=home, check=True, stdout=subprocess.PIPE)
    return json.loads(ran.stdout)


kvcap("keygen", "sign", "-o", "issuer.key")
token = kvcap("serve", "--new-token")
(home / "token").write_text(token["token"])
(home / "relay.toml").write_text(f"""listen = "127.0.0.1:0"
folder = "kept"
audiences = ["cache.example.com"]
trust = ["issuer.key.pub"]
[limits]
rate = 1_000_000
burst = 1_000_000
silence = "2s"
[[tokens]]
digest = "{token['digest']}"
may = ["capsule:put", "capsule:get", "session:put", "session:get", "admin"]
""")
(home / "relay.toml").chmod(0o600)
