"""What several test modules share: example chips, TerraTorch, tiny models."""

import os
from pathlib import Path

import pytest

_HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def examples() -> Path:
    """The folder of TerraMind's real example chips; tests that need it skip without it."""
    named = os.environ.get("XR_TERRAMIND_EXAMPLES")
    folder = Path(named) if named else _HERE.parents[1] / "shared/data/terramind_examples"
    if not folder.is_dir():
        pytest.skip("no example chips: name their folder in XR_TERRAMIND_EXAMPLES")
    return folder


@pytest.fixture(scope="session")
def registry():
    """TerraTorch's BACKBONE_REGISTRY; the import takes some twenty seconds, once a session."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TerraTorch's many dependencies, not ours to mend
        from terratorch.registry import BACKBONE_REGISTRY

        # Backbones are registered as their module is imported.
        import terratorch.models.backbones.terramind  # noqa: F401  # isort: skip
    import torch

    # TerraTorch's import lowers it to "medium", where CPUs with bfloat16 units round to 0.02.
    torch.set_float32_matmul_precision("highest")
    return BACKBONE_REGISTRY


@pytest.fixture(scope="session", autouse=True)
def _cache_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> None:
    # Converted encoders are shared by all tests, and by the processes that they start.
    os.environ["XR_TERRAMIND_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("XR_TERRAMIND_", "RS_EMBED_TERRAMIND_")):
            if name not in ("XR_TERRAMIND_EXAMPLES", "XR_TERRAMIND_CACHE"):
                monkeypatch.delenv(name)
