"""TerraTorch's own TerraMind, as a reference and for those who want just that."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from xr_terramind.errors import EngineError, explain
from xr_terramind.model.modalities import Modality

if TYPE_CHECKING:
    import torch


def build_terratorch(
    model_key: str,
    modality: Modality,
    state: Mapping[str, "torch.Tensor"],
    *,
    layer: int,
    device: str,
    dtype: "torch.dtype",
) -> Callable[["torch.Tensor"], "torch.Tensor"]:
    """Build a model of TerraTorch's ``BACKBONE_REGISTRY`` and load verified weights into it.

    Parameters
    ----------
    model_key : str
    modality : Modality
    state : mapping of str to Tensor
        Exactly the encoder's keys; TerraTorch's own loading would pass over missing ones.
    layer : int
        Which block's output to return.
    device : str
    dtype : torch.dtype

    Returns
    -------
    callable
        Normalised windows (window, band, y, x) -> tokens (window, patch, feature).

    Raises
    ------
    EngineError
        Where TerraTorch cannot be imported.
    """
    import torch

    precision = torch.get_float32_matmul_precision()
    try:
        from terratorch.registry import BACKBONE_REGISTRY
    # torchvision of another release than torch says so as a RuntimeError.
    except (ImportError, RuntimeError) as error:
        raise EngineError(
            explain(
                f"engine='terratorch', whose import fails: {error}",
                "terratorch with torchgeo 0.8 and torchvision of the same release as torch",
                "Install the pinned set with pip install xr_terramind, or use engine='torch'.",
            )
        ) from error
    model = BACKBONE_REGISTRY.build(model_key, modalities=[modality.name])
    # Importing TerraTorch's models lowers it to "medium" for the whole process.
    torch.set_float32_matmul_precision(precision)
    model.load_state_dict(dict(state), strict=True)
    model = model.to(device=device, dtype=dtype).eval()

    def encode(pixels: "torch.Tensor") -> "torch.Tensor":
        return model({modality.name: pixels})[layer]

    return encode
