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
from tests.support.weights import shapes_of
from xr_terramind.model.random_weights import random_weights

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
    packed = io.BytesIO()
    torch.save(random_weights(shapes_of(key=key)), packed)
    return packed.getvalue()


@pytest.fixture(scope="module")
def environment(tmp_path_factory, earth_engine_server):
    """That of somebody who has just installed the package; weights are downloaded once."""
    with local_hub({hub_path(key): checkpoint(key) for key in USED}) as (address, _):
        yield {
            **earth_engine_server.environment,
            "HF_ENDPOINT": address,
            "HF_HOME": str(tmp_path_factory.mktemp("huggingface")),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "MPLBACKEND": "agg",
        }


@pytest.fixture
def folder(tmp_path):
    """Where a reader has a scene, and nothing else."""
    scene = xtm.sample_scene(448)
    scene.assign_attrs(long_name=tuple(scene.band.values)).rio.to_raster(tmp_path / "s2.tif")
    return tmp_path


def run(arguments: list[str], folder: Path, environment: dict[str, str], **options) -> str:
    done = subprocess.run(
        arguments,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )
    assert done.returncode == 0, f"{arguments[-1]}\n{done.stderr[-3000:]}"
    return done.stdout


@each_page
def test_the_python_runs_as_printed(page, folder, environment, earth_engine_server):
    preamble = PREAMBLE.format(url=earth_engine_server.url)
    found = blocks(page, "python")
    assert found
    code = "\n".join([preamble, *found])
    run([sys.executable, "-W", "ignore", "-c", code], folder, environment)


# Lines are read from the standard input, and run one after the other: each in a process of its own
# would import for seconds.
RUN_LINES = """
import shlex, sys
from typer.testing import CliRunner
from xr_terramind.cli.commands import app

for line in sys.stdin.read().splitlines():
    ended = CliRunner().invoke(app, shlex.split(line)[1:])
    assert ended.exit_code == 0, f"{line}: {ended.output} {ended.exception!r}"
"""


def test_the_commands_run_as_printed(folder, environment):
    lines = [line for page in PAGES for line in commands(page)]
    run([sys.executable, "-c", RUN_LINES], folder, environment, input="\n".join(lines))


def test_a_command_runs_in_a_shell(folder, environment):
    command = commands(PAGES[0])[0]
    assert "ready to embed" in run(["bash", "-c", command], folder, environment)


def test_the_readme_has_what_these_tests_look_for():
    assert len(blocks(PAGES[0], "python")) >= 2
    assert {line.split()[1] for line in commands(PAGES[0])} >= {"check", "plan", "embed", "models"}
