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


# The top entries, floor by floor: each may import what stands below its own floor, and itself.
FLOORS = (
    {"cli"},
    {"accessor"},
    {"embed", "explore", "storage"},
    {"result"},
    {"inference", "sources"},
    {"options"},
    {"cube", "blocks"},
    {"model"},
    {"errors", "_version"},
)


def imports_of(path: Path) -> set[str]:
    """The package's own modules that a file imports, as ``cube.bands``; inside functions, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xr_terramind"):
            found.add(node.module)
            for alias in node.names:  # a module of a folder, or a name of a module
                beside = PACKAGE.parent / node.module.replace(".", "/") / alias.name
                if beside.is_dir() or beside.with_suffix(".py").is_file():
                    found.add(f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Import):
            found |= {one.name for one in node.names if one.name.startswith("xr_terramind.")}
    return {name.removeprefix("xr_terramind").lstrip(".") for name in found} - {""}


def rooms() -> dict[str, set[str]]:
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): imports_of(path)
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }


def entry(room: str) -> str:
    return room.partition(".")[0]


def test_every_entry_has_a_floor():
    entries = {entry(room) for room in rooms()}
    assert entries == set().union(*FLOORS)


def test_folders_import_only_what_stands_below_them():
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    upwards = [
        f"{room} imports {need}"
        for room, needs in rooms().items()
        for need in needs
        if entry(need) != entry(room) and floor[entry(need)] <= floor[entry(room)]
    ]
    assert not upwards


def test_a_folder_is_small_and_tells_its_story():
    for folder in [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]:
        if folder.name == "__pycache__":
            continue
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= 9, folder
        story = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
        assert story and len(story.splitlines()) >= 3, folder
        for path in files:
            assert len(path.read_text().splitlines()) <= 330, path


def test_imports_run_one_way():
    found = rooms()
    names = set(found)
    found = {room: needs & names for room, needs in found.items()}
    placed: set[str] = set()
    while len(placed) < len(found):
        ready = {room for room, needs in found.items() if room not in placed and needs <= placed}
        assert ready, f"a circle among {sorted(names - placed)}"
        placed |= ready


def test_the_graph_knows_neither_torch_nor_xarray():
    for room, unknown in (("graph", ("torch", "xarray")), ("windows", ("dask", "xarray", "torch"))):
        text = (PACKAGE / f"blocks/{room}.py").read_text()
        assert not any(f"import {name}" in text for name in unknown)
