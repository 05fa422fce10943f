"""Every snippet and command of the README and the quickstart runs as printed, in an empty folder.

Pretrained weights come from a hub on this machine that serves random ones, Earth Engine is the
local one, and ``s2.tif`` is a sample scene: nothing else is different from what a reader has.
"""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import xr_terramind as xtm
from tests.support.local_hub import hub_path, local_hub
from xr_terramind.model.encoder import TerraMindEncoder
from xr_terramind.model.modalities import MODALITIES
from xr_terramind.model.random_weights import random_weights
from xr_terramind.model.specs import MODELS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs/quickstart.md"]
USED = ["terramind_v1_tiny", "terramind_v1_small", "terramind_v1_base"]

# A reader's own project is not to be had here: Initialize goes to the local Earth Engine.
PREAMBLE = """
import ee
from google.auth.credentials import AnonymousCredentials

def initialize(project, connect=ee.Initialize):
    connect(url={url!r}, project=project, credentials=AnonymousCredentials())

ee.Initialize = initialize
"""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Return the lines that call the command line."""
    lines = "\n".join(blocks(page, "bash")).splitlines()
    return [line for line in lines if line.startswith("xr-terramind ")]


def checkpoint(key: str) -> bytes:
    with torch.device("meta"):
        encoder = TerraMindEncoder(MODELS[key], MODALITIES["S2L2A"].embedding, 12)
    shapes = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
    packed = io.BytesIO()
    torch.save(random_weights(shapes), packed)
    return packed.getvalue()


@pytest.fixture(scope="module")
def hub():
    with local_hub({hub_path(key): checkpoint(key) for key in USED}) as (address, _):
        yield address


@pytest.fixture
def reader(hub, tmp_path, earth_engine_server):
    """The environment and the folder of somebody who has just installed the package."""
    folder = tmp_path / "folder"
    folder.mkdir()
    scene = xtm.sample_scene(448)
    scene.assign_attrs(long_name=tuple(scene.band.values)).rio.to_raster(folder / "s2.tif")
    environment = {
        **os.environ,
        **earth_engine_server.environment,
        "HF_ENDPOINT": hub,
        "HF_HOME": str(tmp_path / "huggingface"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "MPLBACKEND": "agg",
    }
    return folder, environment


def run(arguments: list[str], reader) -> str:
    folder, environment = reader
    done = subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{arguments[-1]}\n{done.stderr[-3000:]}"
    return done.stdout


@each_page
def test_the_python_runs_as_printed(page, reader, earth_engine_server):
    preamble = PREAMBLE.format(url=earth_engine_server.url)
    found = blocks(page, "python")
    assert found
    run([sys.executable, "-W", "ignore", "-c", "\n".join([preamble, *found])], reader)


@pytest.mark.slow
@each_page
def test_the_commands_run_as_printed(page, reader):
    for command in commands(page):
        run(["bash", "-c", command], reader)


def test_the_readme_has_what_these_tests_look_for():
    assert len(blocks(PAGES[0], "python")) >= 2
    assert {line.split()[1] for line in commands(PAGES[0])} >= {"check", "plan", "embed", "models"}
