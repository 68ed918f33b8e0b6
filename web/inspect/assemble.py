"""Makes one HTML file of the page, the verifier and the rules of the specification.

usage: assemble.py VERIFIER.wasm OUT.html
"""

import base64
import hashlib
import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
SPEC = HERE / "../../spec"
CODE_ROW = re.compile(r"^\| KVC-(\d{3}) \| `([^`]+)` \| \d \| (.+) \|$", re.M)
RULE = re.compile(r"^- \*\*((?:CAP|REG|LIN|COD)-[A-Z]-\d+)\*\* (.+(?:\n  .+)*)", re.M)
CODES = re.compile(r"KVC-(\d{3}(?:(?:, | and |, KVC-)\d{3})*)")


def rules() -> dict:
    """Each code's meaning, and the rules that name it, as the pages have them."""
    codes = {int(number): {"name": name, "meaning": meaning}
             for number, name, meaning in CODE_ROW.findall((SPEC / "errors.md").read_text())}
    found: dict[int, list] = {}
    for page in ("capsule-v1", "registry-v1", "lineage-v1", "codecs-v1"):
        for rule, text in RULE.findall((SPEC / f"{page}.md").read_text()):
            text = re.sub(r"\*\*|\[([^\]]+)\]\([^)]+\)", lambda m: m[1] or "", " ".join(text.split()))
            named = {int(n) for group in CODES.findall(text) for n in re.findall(r"\d{3}", group)}
            for code in named:
                found.setdefault(code, []).append({"id": rule, "page": page, "text": text})
    assert len(codes) > 80 and len(found) > 60, "the specification is written in another form"
    return {"codes": codes, "rules": found}


def page(wasm: bytes) -> str:
    def digest(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    part = {name: (HERE / "page" / name).read_text() for name in ("index.html", "style.css", "page.js", "worker.js")}
    csp = "; ".join([
        "default-src 'none'",
        f"script-src {digest(part['page.js'])} 'wasm-unsafe-eval'",
        f"style-src {digest(part['style.css'])}",
        "worker-src blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
    ])
    filled = {
        "@CSP@": csp,
        "@STYLE@": part["style.css"],
        "@WASM@": base64.b64encode(wasm).decode(),
        # a script ends at the first `</`, whatever its type
        "@RULES@": json.dumps(rules(), sort_keys=True, ensure_ascii=False).replace("</", "<\\/"),
        "@WORKER@": part["worker.js"],
        "@SCRIPT@": part["page.js"],
    }
    assert "</" not in part["worker.js"] + part["page.js"]
    return re.sub("@[A-Z]+@", lambda mark: filled[mark[0]], part["index.html"])


if __name__ == "__main__":
    verifier, out = map(Path, sys.argv[1:])
    out.write_text(page(verifier.read_bytes()))
