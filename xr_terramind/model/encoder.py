"""The TerraMind image encoder as one small torch module.

It only ever runs forward, so it adds and activates in place: on a CPU the fresh memory of each
intermediate costs more than the arithmetic done on it.

A pre-norm vision transformer (Jakubik et al. 2025, arXiv:2504.11171) without a class token. Module
and parameter names are those of TerraTorch's ``TerraMindViT``, so that its state dicts load as they
are; a test holds names, shapes and numbers equal.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from xr_terramind.model.specs import PATCH_PX, PRETRAINING_PX, ModelSpec

_NORM_EPS = 1e-6


class TerraMindEncoder(nn.Module):
    """Normalised windows in, the tokens of one layer out.

    `embedding` names the modality's patch embedding, for example ``"untok_sen2l2a@224"``.
    """

    def __init__(self, spec: ModelSpec, embedding: str, n_bands: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.encoder_embeddings = nn.ModuleDict({embedding: PatchEmbedding(spec.dim, n_bands)})
        self.encoder = nn.ModuleList(EncoderLayer(spec) for _ in range(spec.depth))
        self.encoder_norm = Norm(spec.dim)

    def forward(self, pixels: Tensor, layer: int = -1) -> Tensor:
        """Encode normalised windows (window, band, y, x) to tokens (window, patch, feature).

        Height and width are multiples of 16. Layers behind the one that is wanted do not run; the
        last one's output goes through the final norm, as in TerraTorch.
        """
        last = layer % len(self.encoder)
        tokens = self.encoder_embeddings[self.embedding](pixels)
        for encoder_layer in self.encoder[: last + 1]:
            tokens = encoder_layer(tokens)
        return self.encoder_norm(tokens) if last == len(self.encoder) - 1 else tokens


class PatchEmbedding(nn.Module):
    """Cut windows into patches and project them; add where they lie and what they show."""

    def __init__(self, dim: int, n_bands: int) -> None:
        super().__init__()
        side = PRETRAINING_PX // PATCH_PX
        self.proj = nn.Linear(PATCH_PX * PATCH_PX * n_bands, dim, bias=False)
        self.mod_emb = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_emb: Tensor
        self.register_buffer("pos_emb", torch.zeros(1, side * side, dim))

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.proj(cut_patches(pixels))  # (window, patch, feature)
        rows, cols = pixels.shape[-2] // PATCH_PX, pixels.shape[-1] // PATCH_PX
        return tokens.add_(self.positions(rows, cols) + self.mod_emb)

    def positions(self, rows: int, cols: int) -> Tensor:
        """Return the position embedding, bicubically interpolated for other window sizes."""
        _, n_patches, dim = self.pos_emb.shape
        side = int(n_patches**0.5)
        if (rows, cols) == (side, side):
            return self.pos_emb
        image = self.pos_emb.reshape(1, side, side, dim).permute(0, 3, 1, 2)
        image = functional.interpolate(
            image, size=(rows, cols), mode="bicubic", align_corners=False
        )
        return image.permute(0, 2, 3, 1).reshape(1, rows * cols, dim)


def cut_patches(pixels: Tensor) -> Tensor:
    """Cut windows (window, band, y, x) into flat patches (window, patch, 16 * 16 * band).

    Patches run along rows first; within one, TerraMind's order is (row, column, band).
    """
    n_windows, n_bands, height, width = pixels.shape
    rows, cols = height // PATCH_PX, width // PATCH_PX
    cut = pixels.reshape(n_windows, n_bands, rows, PATCH_PX, cols, PATCH_PX)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(n_windows, rows * cols, -1)


class EncoderLayer(nn.Module):
    """Attention and a feed-forward layer, each behind a norm and a residual."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.norm1 = Norm(spec.dim)
        self.attn = Attention(spec.dim, spec.heads, bias=not spec.gated)
        self.norm2 = Norm(spec.dim)
        self.mlp = GatedMlp(spec.dim, spec.hidden) if spec.gated else Mlp(spec.dim, spec.hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens += self.attn(self.norm1(tokens))
        tokens += self.mlp(self.norm2(tokens))
        return tokens


class Attention(nn.Module):
    """Multi-head self-attention, fused."""

    def __init__(self, dim: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.proj = nn.Linear(dim, dim, bias=bias)

    def forward(self, tokens: Tensor) -> Tensor:
        n_windows, n_tokens, dim = tokens.shape
        qkv = self.qkv(tokens).reshape(n_windows, n_tokens, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (window, head, token, feature)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(n_windows, n_tokens, dim))


class Mlp(nn.Module):
    """GELU feed-forward layer of tiny and small."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(torch.ops.aten.gelu_(self.fc1(tokens)))


class GatedMlp(nn.Module):
    """SwiGLU feed-forward layer of base and large (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden, bias=False)
        self.fc2 = nn.Linear(hidden, dim, bias=False)
        self.fc3 = nn.Linear(dim, hidden, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        gate = functional.silu(self.fc1(tokens), inplace=True)
        return self.fc2(gate.mul_(self.fc3(tokens)))


class Norm(nn.Module):
    """Layer norm without a learned bias; the zero bias stands in TerraMind's state dicts."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias: Tensor
        self.register_buffer("bias", torch.zeros(dim))

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.layer_norm(
            tokens, self.weight.shape, self.weight, self.bias, eps=_NORM_EPS
        )
