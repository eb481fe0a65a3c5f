"""The architecture: imports run downward only, and start-up loads nothing that it does not use."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import roicli

PACKAGE = Path(roicli.__file__).parent
# The guide's scripts run elsewhere.
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if "guide" not in path.parts)

# Room -> rooms that it may import, itself aside.
BOTTOM = {"errors", "words", "files", "checksums", "newfiles", "arrays", "child", "progress", "interrupts", "stores"}
VALUES = {"spec", "regions", "protocols"} | BOTTOM
MAY_IMPORT = {
    "__init__": {"errors", "jobs", "pooling"},
    "__main__": {"cli", "interrupts"},
    "errors": set(),
    "words": set(),
    "files": {"errors", "words"},
    "checksums": set(),
    "newfiles": {"errors", "stores", "words"},
    "stores": {"errors", "files"},
    "arrays": {"errors", "words", "files", "stores"},
    "child": {"errors", "words", "files", "interrupts", "stores"},
    "progress": set(),
    "interrupts": set(),
    "protocols": {"arrays", "files"},
    "spec": BOTTOM,
    "conventions": BOTTOM | {"spec"},
    "regions": BOTTOM | {"protocols"},
    "pooling": VALUES,
    "sources": VALUES,
    "boxfiles": VALUES | {"__init__"},  # for the version
    "outputs": VALUES,
    "execution": VALUES | {"__init__", "pooling"},
    "resume": VALUES | {"outputs"},
    "picture": VALUES | {"pooling"},
    "jobs": VALUES
    | {"__init__", "conventions", "resume", "execution", "picture", "outputs", "sources", "boxfiles", "pooling"},
    "cli": {"__init__", "boxfiles", "jobs", "outputs", "picture", "pooling", "sources"} | VALUES,
}
HEAVY = {"click", "rich", "PIL", "h5py", "msgspec", "concurrent.futures", "multiprocessing"}


def room(module: Path) -> str:
    return module.parts[0] if len(module.parts) > 1 else module.stem


@cache
def parsed(module: Path) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text())


def imports(module: Path) -> set[str]:
    """Dotted names that `module` imports anywhere, at its top or inside a function."""
    found = set()
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imported_rooms(module: Path) -> set[str]:
    inner = {name.split(".")[1] for name in imports(module) if name.startswith("roicli.")}
    return {"__init__" if name == "__version__" else name for name in inner} - {room(module)}


def test_imports_run_downward():
    upward = {}
    for module in MODULES:
        found = imported_rooms(module)
        if module == Path("__init__.py"):
            found |= {home.split(".")[0] for home in roicli._HOMES.values()}
        home = room(module)
        if found := found - MAY_IMPORT[home]:
            upward[str(module)] = found
    assert upward == {}


def test_only_the_command_line_knows_the_terminal():
    terminal = {"click", "rich"}
    knowing = {str(module) for module in MODULES if {name.split(".")[0] for name in imports(module)} & terminal}
    assert {name for name in knowing if not name.startswith("cli/")} == set()


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import roicli", HEAVY | {"numpy"}),
        ("from roicli import roi_align", HEAVY),
        ("import roicli.sources, roicli.outputs", {"click", "rich", "PIL", "h5py"}),
        ("import roicli.cli.main", HEAVY - {"click"} | {"numpy"}),
    ],
)
def test_start_up_loads_little(statement, absent):
    code = f"{statement}; import sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not absent & set(loaded)


def test_a_small_job_loads_little(tmp_path):
    np.save(tmp_path / "map.npy", np.ones((2, 8, 8), np.float32))
    (tmp_path / "boxes.json").write_text("[[0, 0, 32, 32]]")
    arguments = ["roicli", "align", "map.npy", "boxes.json", "-o", "out.npy", "--spatial-scale", "1/4", "--quiet"]
    code = f"import os, sys; sys.argv = {arguments}; os._exit = lambda code: print(*sys.modules); "
    code += "from roicli.__main__ import main; main()"
    job = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert np.load(tmp_path / "out.npy").tolist() == np.ones((1, 2, 7, 7)).tolist()
    dear = {"h5py", "rich", "numpy.ma", "secrets", "fractions", "concurrent.futures", "multiprocessing", "logging"}
    dear |= {"zipfile", "shutil", "bz2", "lzma", "hashlib"}
    assert not dear & set(job.stdout.split())


def modules_that_say(pattern: str) -> set[str]:
    """Modules with a string, or a docstring, that has the pattern."""
    found = set()
    for module in MODULES:
        strings = (node.value for node in ast.walk(parsed(module)) if isinstance(node, ast.Constant))
        if any(re.search(pattern, string) for string in strings if isinstance(string, str)):
            found.add(str(module))
    return found


def test_only_the_command_line_names_flags():
    """Below it a hint names the parameter."""
    naming = modules_that_say(r"(^|[^-\w])--[a-z]\w+")
    assert {name for name in naming if not name.startswith("cli/")} == set()


def test_messages_are_plain():
    assert modules_that_say(r"(?<!here )\b(is|are) no\b(?! longer| more)") == set()


def test_files_stay_small():
    assert {
        str(module): lines for module in MODULES if (lines := len((PACKAGE / module).read_text().splitlines())) > 400
    } == {}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_only_sampling_multiplies_by_a_spatial_scale(module):
    """And `reference`, the deliberate second copy."""
    if module in (Path("pooling/sampling.py"), Path("pooling/reference.py")):
        return
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Mult | ast.Div):
            names = {name.attr for name in ast.walk(node) if isinstance(name, ast.Attribute)}
            names |= {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
            assert "spatial_scale" not in names, f"line {node.lineno}"
            if room(module) in ("pooling", "jobs", "execution"):
                assert "scale" not in names, f"line {node.lineno}"
