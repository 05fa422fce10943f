"""TerraTorch, imported once a session and only for the tests of this folder."""

import warnings

import pytest


@pytest.fixture(scope="session")
def registry():
    """TerraTorch's BACKBONE_REGISTRY; the import takes some twenty seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TerraTorch's many dependencies, not ours to mend
        from terratorch.registry import BACKBONE_REGISTRY

        # Backbones are registered as their module is imported.
        import terratorch.models.backbones.terramind  # noqa: F401  # isort: skip
    import torch

    # TerraTorch's import lowers it to "medium", where CPUs with bfloat16 units round to 0.02.
    torch.set_float32_matmul_precision("highest")
    return BACKBONE_REGISTRY
