"""What importing the package costs, and which way its modules look."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import xr_terramind

PACKAGE = Path(xr_terramind.__file__).parent


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


HEAVY = {
    "torch",
    "terratorch",
    "ee",
    "xee",
    "matplotlib",
    "sklearn",
    "huggingface_hub",
    "geopandas",
}


def test_import_loads_nothing_heavy():
    loaded = modules_after("import xr_terramind, xr_terramind.cli.commands")
    assert not (HEAVY | {"openvino", "distributed"}) & loaded


def test_planning_and_lazy_embedding_load_no_torch():
    code = (
        "import xr_terramind as xtm\n"
        "cube = xtm.sample_scene(size_px=448, chunks={'x': 224})\n"
        "cube.terramind.plan()\n"
        "assert cube.terramind.embed(weights='random').chunks"
    )
    assert not HEAVY & modules_after(code)


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "xr_terramind":
                found |= {f"xr_terramind.{alias.name}" for alias in node.names}
            elif node.module.startswith("xr_terramind."):
                found.add(node.module)
    return {name.removeprefix("xr_terramind.") for name in found}


def test_imports_run_one_way():
    rooms = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): imports_of(path)
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }
    placed: set[str] = set()
    while len(placed) < len(rooms):
        ready = {
            room
            for room, needs in rooms.items()
            if room not in placed and needs & set(rooms) <= placed
        }
        assert ready, f"a circle among {sorted(set(rooms) - placed)}"
        placed |= ready


def test_the_graph_knows_neither_torch_nor_xarray():
    for room, unknown in (("graph", ("torch", "xarray")), ("windows", ("dask", "xarray", "torch"))):
        text = (PACKAGE / f"blocks/{room}.py").read_text()
        assert not any(f"import {name}" in text for name in unknown)
