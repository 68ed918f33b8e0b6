"""What the binding may link: the project's libraries and the interpreter. Policy and format are theirs."""

import re
import tomllib
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1]
LIBRARIES = {"kvcap", "kvcap-calls", "kvcap-states"}
OTHERS = {"pyo3"}


def test_the_binding_links_the_libraries_and_the_interpreter_alone():
    manifest = tomllib.loads((FOLDER / "Cargo.toml").read_text())
    assert set(manifest["dependencies"]) == LIBRARIES | OTHERS
    assert "dev-dependencies" not in manifest and "build-dependencies" not in manifest


def test_the_binding_touches_memory_in_one_file_and_has_no_cryptography():
    for path in (FOLDER / "src").glob("*.rs"):
        code = re.sub(r"//.*", "", path.read_text())
        # a piece of a buffer is copied out, a tensor's memory is found by DLPack and may be read by any thread, and new
        # objects of two kinds are filled
        assert len(re.findall(r"\bunsafe\b", code)) == (6 if path.name == "memory.rs" else 0), path
        assert not re.search(r"\b(blake3|sha2|cose|aead|hazmat)\b", code), path
        assert "danger_" not in code or path.name == "seal.rs", path


def test_the_types_name_what_the_module_has():
    import kvcap
    from kvcap import _kvcap

    stub = (FOLDER / "python/kvcap/_kvcap.pyi").read_text()
    named = set(re.findall(r"^(?:class|def) ([^\W_]\w*)", stub, re.M))
    assert named == {name for name in vars(_kvcap) if not name.startswith("_")}
    assert named == set(kvcap.__all__)
    for name in named:
        made = getattr(_kvcap, name)
        if isinstance(made, type) and not issubclass(made, Exception):
            body = re.search(rf"^class {name}:\n((?:    .*\n|\n)*)", stub, re.M)
            assert body is not None, name
            said = set(re.findall(r"^    (?:def )?(\w+)[(:]", body[1], re.M)) - {"__new__"}
            has = {member for member in vars(made) if not member.startswith("__") or member in ("__len__", "__bytes__")}
            assert said == has, name
