"""Checkpoints of seeded random weights: as tensors, and as files."""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file

from xr_terramind.model.encoder import TerraMindEncoder
from xr_terramind.model.modalities import MODALITIES
from xr_terramind.model.random_weights import random_weights
from xr_terramind.model.specs import MODELS

TINY = MODELS["terramind_v1_tiny"]
NORM = "encoder_norm.weight"
PATCH = "encoder_embeddings.untok_sen2l2a@224.proj.weight"

State = dict[str, torch.Tensor]


def shapes_of(modality: str = "S2L2A", key: str = "terramind_v1_tiny") -> dict[str, tuple]:
    with torch.device("meta"):
        mode = MODALITIES[modality]
        encoder = TerraMindEncoder(MODELS[key], mode.embedding, len(mode.bands))
    return {name: tuple(value.shape) for name, value in encoder.state_dict().items()}


def make_state(seed: int = 1) -> State:
    """Other numbers than weights="random"; no norm is trivial."""
    state = random_weights(shapes_of(), seed=seed)
    return {
        name: value + 0.1 if value.ndim == 1 and "weight" in name else value
        for name, value in state.items()
    }


def save(state: object, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def checksum(state: State) -> str:
    packed = b"".join(name.encode() + state[name].numpy().tobytes() for name in sorted(state))
    return hashlib.sha256(packed).hexdigest()
