"""What all folders of tests share: example chips, and a cache that is not the user's."""

import os
import shutil
from pathlib import Path

import pytest

from tests.support.blocks import small_blocks as make_small_blocks

# The workers of pytest-xdist share the cores: one thread of PyTorch each, in what they start, too.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

_HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def examples() -> Path:
    """The folder of TerraMind's real example chips; tests that need it skip without it."""
    named = os.environ.get("XR_TERRAMIND_EXAMPLES")
    folder = Path(named) if named else _HERE.parents[1] / "shared/data/terramind_examples"
    if not folder.is_dir():
        pytest.skip("no example chips: name their folder in XR_TERRAMIND_EXAMPLES")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _cache_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> None:
    # Converted encoders are shared by all tests, by the processes that they start, and by the
    # workers of pytest-xdist: an encoder that two of them convert at once ends as one whole entry,
    # so that no lock is needed.
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # each worker's own folder lies in that of the run
    os.environ["XR_TERRAMIND_CACHE"] = str(folder / "cache")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("XR_TERRAMIND_", "RS_EMBED_TERRAMIND_")):
            if name not in ("XR_TERRAMIND_EXAMPLES", "XR_TERRAMIND_CACHE"):
                monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def small_blocks():
    """One block of each window, in this process."""
    with make_small_blocks():
        yield


@pytest.fixture(scope="module")
def one_thread():
    """Have PyTorch use one thread, as in other processes: the last bits depend on it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache and loaded encoders of the test's own; large ones are not left behind."""
    from xr_terramind.inference import loaded

    loaded._load_engine.cache_clear()
    folder = tmp_path / "own_cache"
    monkeypatch.setenv("XR_TERRAMIND_CACHE", str(folder))
    yield folder
    loaded._load_engine.cache_clear()
    shutil.rmtree(folder, ignore_errors=True)
