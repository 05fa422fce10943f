"""Notebooks: run from top to bottom, offline; as a script, run and stored with what they show.

python -m tests.support.notebooks [NOTEBOOK ...]
"""

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient

from tests.support.earth_engine import LocalEarthEngine

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

# They run against the local Earth Engine; all others run without any.
ON_EARTH_ENGINE = {"earth_engine.ipynb"}


def read(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def settings_of(server: LocalEarthEngine) -> dict[str, str]:
    return {**server.environment, "EARTH_ENGINE_URL": server.url}


def execute(path: Path, folder: Path, settings: dict[str, str]) -> nbformat.NotebookNode:
    """Run a notebook without stored outputs in ``folder / "run"``.

    What it leaves in a temporary folder is in ``folder / "temporary"``. CellExecutionError quotes
    cell and traceback.
    """
    notebook = read(path)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    for name in ("run", "temporary"):
        (folder / name).mkdir()
    environment = {
        **os.environ,
        **settings,
        "XR_TERRAMIND_PRETRAINED": "0",
        "IPYTHONDIR": str(folder / "ipython"),  # or it keeps its history in the home
        "TMPDIR": str(folder / "temporary"),
    }
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder / "run")}},
    )
    client.execute(env=environment)
    return notebook


def main(paths: list[Path]) -> None:
    for path in paths:
        with ExitStack() as stack:
            settings = {}
            if path.name in ON_EARTH_ENGINE:
                settings = settings_of(stack.enter_context(LocalEarthEngine()))
            folder = stack.enter_context(TemporaryDirectory())
            nbformat.write(execute(path, Path(folder), settings), path)
        print(path.name)


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or NOTEBOOKS)
