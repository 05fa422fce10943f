"""Random weights that are the same in every process: for tests, demos and trying things out."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Shapes = Mapping[str, tuple[int, ...]]

RANDOM_SEED = 0


def random_weights(shapes: Shapes, seed: int = RANDOM_SEED) -> dict[str, "torch.Tensor"]:
    """Draw weights as TerraMind is initialised, the same in every process.

    Linear layers are drawn Glorot-uniform (query, key and value each on its own), biases are 0,
    norms 1, modality embeddings normal with 0.02, as in TerraTorch's ``TerraMindViT``.
    """
    import torch

    def draw(key: str, shape: tuple[int, ...]) -> "torch.Tensor":
        # A stream of its own for each key: drawing one modality does not shift another.
        digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
        stream = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        if key.endswith("pos_emb"):
            return sincos_positions(shape)
        if key.endswith("mod_emb"):
            return torch.randn(shape, generator=stream) * 0.02
        if len(shape) == 1:
            return torch.ones(shape) if "norm" in key and "weight" in key else torch.zeros(shape)
        rows = shape[0] // 3 if ".qkv." in key else shape[0]
        limit = (6.0 / (rows + shape[1])) ** 0.5
        return torch.empty(shape).uniform_(-limit, limit, generator=stream)

    return {key: draw(key, tuple(shape)) for key, shape in shapes.items()}


def sincos_positions(shape: tuple[int, ...]) -> "torch.Tensor":
    """Return TerraMind's fixed sine-cosine position embedding, shape (1, patches, features).

    As in MoCo v3 (Chen et al. 2021, arXiv:2104.02057): a quarter of the features each for the
    sine and cosine of row and column, at wavelengths from 2 pi to 10000 x 2 pi patches. The
    patches are those of a square image.
    """
    import torch

    side = int(shape[1] ** 0.5)
    n_frequencies = shape[2] // 4
    frequencies = 10000.0 ** -(torch.arange(n_frequencies, dtype=torch.float32) / n_frequencies)
    along = torch.arange(side, dtype=torch.float32)[:, None] * frequencies
    by_row = along[:, None, :].expand(side, side, -1).reshape(-1, n_frequencies)
    by_col = along[None, :, :].expand(side, side, -1).reshape(-1, n_frequencies)
    waves = [by_row.sin(), by_row.cos(), by_col.sin(), by_col.cos()]
    return torch.cat(waves, dim=1)[None]
