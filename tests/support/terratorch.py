"""TerraTorch's own models with seeded weights, and what they make of a cube's pixels."""

from pathlib import Path

import numpy as np
import torch
import xarray as xr

from tests.support.weights import save
from xr_terramind.model.modalities import MODALITIES
from xr_terramind.model.specs import MODELS

TOLERANCE = 1e-4


def build(registry, key: str, modality: str = "S2L2A", seed: int = 7):
    """Build TerraTorch's model with seeded weights, none of them trivial (0 or 1)."""
    torch.manual_seed(seed)
    model = registry.build(key, modalities=[modality]).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 or name.endswith("mod_emb"):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def save_model(model, folder: Path) -> str:
    return str(save(model.state_dict(), folder / "weights.pt"))


def reference(model, pixels: np.ndarray, key: str, modality: str, layer: int = -1) -> np.ndarray:
    """Clip and normalise as the contract says, then TerraTorch: (window, feature, row, column)."""
    mode = MODALITIES[modality]
    mean, std = (
        np.array(numbers, np.float32)[:, None, None]
        for numbers in mode.statistics[MODELS[key].statistics]
    )
    values = pixels.astype(np.float32)
    if mode.clip:
        values = values.clip(*mode.clip)
    with torch.inference_mode():
        tokens = model({modality: torch.from_numpy((values - mean) / std)})[layer].numpy()
    side = pixels.shape[-1] // 16
    return tokens.reshape(len(pixels), side, side, -1).transpose(0, 3, 1, 2)


def difference(embedding: xr.DataArray, expected: np.ndarray) -> float:
    assert embedding.shape == expected.shape
    assert np.abs(expected).max() > 0.5  # a comparison of zeros would prove nothing
    return float(np.abs(embedding.values - expected).max())
