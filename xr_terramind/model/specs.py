"""The five TerraMind encoders: their keys, sizes and files on the Hugging Face hub."""

from dataclasses import dataclass

from xr_terramind.errors import EngineError, did_you_mean, explain

PATCH_PX = 16
"""Edge of a patch; one token stands for ``PATCH_PX`` x ``PATCH_PX`` pixels."""

PRETRAINING_PX = 224
"""Edge of the images that TerraMind was pretrained on (14 x 14 patches)."""


@dataclass(frozen=True)
class ModelSpec:
    """Shape and origin of one TerraMind encoder.

    Sizes are those of ``terramind_register.py`` in TerraTorch 1.2.11.
    """

    key: str  # TerraTorch's registry key
    dim: int  # features of a token
    depth: int  # layers
    heads: int  # attention heads per layer
    gated: bool  # SwiGLU without biases (base, large) instead of GELU with biases (tiny, small)
    statistics: str  # which pretraining statistics it expects, "v1" or "v01"
    hub_id: str  # repository and file on the Hugging Face hub
    hub_file: str

    @property
    def hidden(self) -> int:
        """Width of the feed-forward layer: 4 x dim, two thirds of it where gated."""
        return int(2 * (4 * self.dim) / 3) if self.gated else 4 * self.dim

    def parameters(self, n_bands: int) -> int:
        """Count the learned numbers of an encoder with one modality of so many bands.

        The position embedding is fixed, and does not count.
        """
        patch_embedding = PATCH_PX**2 * n_bands * self.dim + self.dim
        attention = 4 * self.dim**2 + (0 if self.gated else 4 * self.dim)
        feed_forward = (
            3 * self.dim * self.hidden
            if self.gated
            else 2 * self.dim * self.hidden + self.hidden + self.dim
        )
        norms = 2 * self.dim
        return patch_embedding + self.depth * (attention + feed_forward + norms) + self.dim


def _v1(size: str, dim: int, depth: int, heads: int, gated: bool) -> ModelSpec:
    return ModelSpec(
        key=f"terramind_v1_{size}",
        dim=dim,
        depth=depth,
        heads=heads,
        gated=gated,
        statistics="v1",
        hub_id=f"ibm-esa-geospatial/TerraMind-1.0-{size}",
        hub_file=f"TerraMind_v1_{size}.pt",
    )


MODELS: dict[str, ModelSpec] = {
    spec.key: spec
    for spec in (
        _v1("tiny", dim=192, depth=12, heads=3, gated=False),
        _v1("small", dim=384, depth=12, heads=6, gated=False),
        _v1("base", dim=768, depth=12, heads=12, gated=True),
        _v1("large", dim=1024, depth=24, heads=16, gated=True),
        ModelSpec(
            key="terramind_v01_base",
            dim=768,
            depth=12,
            heads=12,
            gated=True,
            statistics="v01",
            hub_id="FAST-EO/TerraMind-0.1-base",
            hub_file="TerraMind_v01_base.pt",
        ),
    )
}


def model_spec(key: str) -> ModelSpec:
    """Look up a model by its TerraTorch registry key, for example ``"terramind_v1_small"``.

    Raises
    ------
    EngineError
        For an unknown key.
    """
    if isinstance(key, str) and key in MODELS:
        return MODELS[key]
    raise EngineError(
        explain(
            f"model={key!r}",
            f"one of {', '.join(MODELS)}",
            "xr_terramind.list_models() shows them." + did_you_mean(str(key), list(MODELS)),
        )
    )
