"""The two jobs that benchmarks compare: ours, and TerraTorch's own.

Run as a script it writes a checkpoint: python tests/benchmarks/jobs.py FOLDER
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np

SMALL = "terramind_v1_small"


@contextmanager
def own_folder() -> Iterator[Path]:
    """Lend a folder; processes started meanwhile keep converted encoders there, and see no GPU."""
    with TemporaryDirectory() as folder:
        settings = {"XR_TERRAMIND_CACHE": str(Path(folder, "cache")), "CUDA_VISIBLE_DEVICES": ""}
        with patch.dict(os.environ, settings):
            yield Path(folder)


def write_weights(folder: Path, key: str = SMALL) -> Path:
    """Write a checkpoint of seeded random weights that both load."""
    import torch

    from xr_terramind.model.encoder import TerraMindEncoder
    from xr_terramind.model.modalities import MODALITIES
    from xr_terramind.model.random_weights import random_weights
    from xr_terramind.model.specs import MODELS

    with torch.device("meta"):
        encoder = TerraMindEncoder(MODELS[key], MODALITIES["S2L2A"].embedding, 12)
    path = folder / f"{key}.pt"
    shapes = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
    torch.save(random_weights(shapes), path)
    return path


def request_of(weights: str, normalize: str = "zscore"):
    """Return what a worker needs to know to run the small model as the pipeline does."""
    from xr_terramind.inference.request import EncodeRequest, EncoderKey, Input
    from xr_terramind.model.modalities import MODALITIES
    from xr_terramind.model.specs import MODELS
    from xr_terramind.model.weights import locate

    spec, modality = MODELS[SMALL], MODALITIES["S2L2A"]
    scaling = modality.scaling(spec, normalize)
    clip = modality.clip if normalize == "zscore" else None
    found = locate(weights, spec)
    key = EncoderKey(spec=spec, modalities=(modality,), scalings=(scaling,), weights=found)
    source = Input(modality=modality, scaling=scaling, clip=clip)
    return EncodeRequest(key=key, inputs=(source,))


def terratorch_model(weights: str, key: str = SMALL):
    """Build TerraTorch's model as its documentation does."""
    from terratorch.registry import BACKBONE_REGISTRY

    return BACKBONE_REGISTRY.build(key, modalities=["S2L2A"], ckpt_path=weights).eval()


def normalised(pixels: np.ndarray):
    """Clip and z-score as TerraTorch's users do by hand."""
    import torch
    from terratorch.models.backbones.terramind.model import terramind_register as register

    name = "untok_sen2l2a@224"
    mean, std = (
        torch.tensor(table[name])[:, None, None]
        for table in (register.v1_pretraining_mean, register.v1_pretraining_std)
    )
    return (torch.from_numpy(pixels.astype(np.float32)).clamp(0, 10000) - mean) / std


if __name__ == "__main__":
    write_weights(Path(sys.argv[1]))
