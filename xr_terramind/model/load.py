"""Verified weights in the network."""

from functools import lru_cache
from typing import TYPE_CHECKING

from xr_terramind.model.modalities import Modality
from xr_terramind.model.specs import ModelSpec
from xr_terramind.model.weights import WeightsRef, read_weights

if TYPE_CHECKING:
    import torch

    from xr_terramind.model.encoder import TerraMindEncoder


def build_encoder(spec: ModelSpec, modality: Modality) -> "TerraMindEncoder":
    """Build an encoder on torch's meta device: names and shapes only, no memory."""
    import torch

    from xr_terramind.model.encoder import TerraMindEncoder

    with torch.device("meta"):
        return TerraMindEncoder(spec, modality.embedding, len(modality.bands))


def read_state(
    spec: ModelSpec, modality: Modality, weights: WeightsRef
) -> dict[str, "torch.Tensor"]:
    """Read exactly the encoder's keys; see `xr_terramind.model.weights.read_weights`.

    A file holds the projection of all bands. Of a subset of bands it is verified whole, and the
    columns of the others are left out, which is as if those bands stood at the pretraining mean.
    """
    full = modality.full or modality
    shapes = build_encoder(spec, full).state_dict()
    state = read_weights(weights, spec, {key: tuple(value.shape) for key, value in shapes.items()})
    if modality.full is not None:
        key = f"encoder_embeddings.{modality.embedding}.proj.weight"
        # Patches are flattened as (row, column, band); see `encoder.cut_patches`.
        columns = state[key].reshape(spec.dim, -1, len(full.bands))
        state[key] = columns[..., list(modality.positions)].reshape(spec.dim, -1)
    return state


@lru_cache(maxsize=16)
def verify_weights(spec: ModelSpec, modality: Modality, weights: WeightsRef) -> None:
    """Read a local weights file once, so that a bad one is refused before any work is planned.

    Raises
    ------
    WeightsError
        As `xr_terramind.model.weights.read_weights`.
    """
    read_state(spec, modality, weights)


def load_encoder(spec: ModelSpec, modality: Modality, weights: WeightsRef) -> "TerraMindEncoder":
    """Build the encoder and load verified weights into it, in float32 on the CPU.

    Raises
    ------
    WeightsError
        As `xr_terramind.model.weights.read_weights`.
    """
    encoder = build_encoder(spec, modality)
    encoder.load_state_dict(read_state(spec, modality, weights), strict=True, assign=True)
    return encoder.eval().requires_grad_(False)
