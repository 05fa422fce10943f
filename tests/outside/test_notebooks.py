"""Every notebook runs from top to bottom, and what is stored in it may be shown to anybody."""

import re

import nbformat
import pytest

from tests.support.notebooks import FOLDER, NOTEBOOKS, ON_EARTH_ENGINE, execute, read, settings_of

MAX_BYTES = 600_000

# What a run must have printed, for the notebooks where that says something.
PRINTED = {
    "01_quickstart.ipynb": (
        "embedding: {'feature': 192, 'y': 70, 'x': 70} from {'band': 12, 'y': 1120, 'x': 1120}",
        "valid: 100%",
        "weights: random",
        "as the eager one: True",
        "similarity: {'place': 3, 'y': 70, 'x': 70} float32",
        "west edge like the sea: True",
        "east edge unlike it: True",
        "read back: {'feature': 192, 'y': 70, 'x': 70} EPSG:32632",
    ),
    "02_chaining.ipynb": (
        "part: {'time': 6, 'band': 12, 'y': 580, 'x': 647}",
        "embedding: {'time': 6, 'feature': 192, 'y': 37, 'x': 41}",
        "patches with a vector, by season: [1130, 1130]",
        "points: {'field': 25, 'water': 25, 'wood': 25}",
        "classes: ['field', 'water', 'wood']",
        "accuracy above 0.8: True",
        "reprojected: EPSG:4326 int16",
        "read back: ['change', 'embedding', 'label', 'probability'] EPSG:32632",
        "a row for each patch with a vector: True",
        "rows and features: 75 192",
    ),
    "earth_engine.ipynb": (
        "6 scenes with cloud <= 30 %",
        "embedding: {'feature': 192, 'y': 28, 'x': 28}",
        "valid: 100%",
        "model: terramind_v1_tiny with weights random",
        "read back: {'feature': 192, 'y': 28, 'x': 28} EPSG:32651",
        "series: {'time': 6, 'feature': 192, 'y': 28, 'x': 28}",
    ),
    "large_scene.ipynb": (
        "workers: 2",
        "embedding: {'feature': 192, 'y': 84, 'x': 84} in 4 blocks",
        "written: 2 of 4 blocks",
        "embedded: 2 blocks",
        "written: 4 of 4 blocks",
        "left as they were: 2 blocks",
        "as if nothing had happened",
        "shard: (192, 42, 42)",
        "chunk: (192, 14, 14)",
        "proj:code            EPSG:32632",
        "weights              random",
    ),
}

# Absolute folders and addresses of a machine: of any, and of this one.
PRIVATE = re.compile(
    r"/(?:home|Users|root|tmp|var/folders)/|[A-Z]:\\Users|site-packages|127\.0\.0\.1|localhost|"
    + re.escape(str(FOLDER.parent))
)

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def outputs_of(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def printed(notebook: nbformat.NotebookNode) -> str:
    streams = [out for out in outputs_of(notebook) if out.output_type == "stream"]
    return "".join(out.text for out in streams if out.name == "stdout")


def test_there_are_notebooks():
    assert PRINTED.keys() | ON_EARTH_ENGINE <= {path.name for path in NOTEBOOKS}


@pytest.fixture
def earth_engine(path, request) -> dict[str, str]:
    """What the environment says of the local Earth Engine, to the notebooks that need one."""
    if path.name not in ON_EARTH_ENGINE:
        return {}
    server = request.getfixturevalue("earth_engine_server")
    server.reset()
    return settings_of(server)


@each_notebook
def test_runs_from_top_to_bottom(path, earth_engine, tmp_path):
    notebook = execute(path, tmp_path, earth_engine)

    assert not [out for out in outputs_of(notebook) if out.output_type == "error"]
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    for line in PRINTED.get(path.name, ()):
        assert line in printed(notebook).splitlines()
    left = [*(tmp_path / "run").iterdir(), *(tmp_path / "temporary").rglob("*.zarr")]
    assert not left, "a notebook leaves nothing behind"


@each_notebook
def test_is_stored_with_outputs_and_pictures(path):
    notebook = read(path)

    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert any("image/png" in output.get("data", {}) for output in outputs_of(notebook))
    for line in PRINTED.get(path.name, ()):
        assert line in printed(notebook).splitlines()
    assert path.stat().st_size < MAX_BYTES


@each_notebook
def test_shows_no_error_warning_or_private_path(path):
    notebook = read(path)

    for output in outputs_of(notebook):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", "warnings name folders of the machine they came from"
        shown = [output.get("text", "")]
        shown += [text for kind, text in output.get("data", {}).items() if kind != "image/png"]
        for text in map(str, shown):
            assert not (found := PRIVATE.search(text)), text[found.start() - 80 : found.end() + 80]
    for cell in notebook.cells:
        assert not PRIVATE.search(cell.source)


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("/home/someone/work.py", True),
        ("/tmp/abc/embedding.zarr", True),
        ("http://127.0.0.1:8080", True),
        (str(FOLDER / "embedding.zarr"), True),
        ("./embedding.zarr", False),
        ("2022/06/01", False),
    ],
)
def test_what_counts_as_private(text, private):
    assert bool(PRIVATE.search(text)) is private
