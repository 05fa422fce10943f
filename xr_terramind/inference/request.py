"""What a worker needs to know to encode a block, without the model itself."""

from dataclasses import dataclass
from typing import Literal

from xr_terramind.model.weights import WeightsRef


@dataclass(frozen=True, kw_only=True)
class EncodeRequest:
    """All that a worker needs to know to encode a block; small, hashable, without a model.

    Attributes
    ----------
    model, modality : str
    weights : WeightsRef
    layer : int
    engine, device, precision : str
        ``"auto"`` is settled on the machine that encodes.
    normalize : str
    clip : tuple of float or None
    nodata : tuple of float
        Raw values that stand for no data.
    window_px : int
    batch_size : int or "auto"
    min_valid_fraction : float
    pooling : {"mean", "max"} or None
        None returns a vector a patch, otherwise one a window.
    flip_y, flip_x : bool
        The cube's first row lies south, its first column east: windows are turned north up for
        the model, and their tokens back.
    """

    model: str
    modality: str
    weights: WeightsRef
    layer: int = -1
    engine: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    normalize: str = "zscore"
    clip: tuple[float, float] | None = None
    nodata: tuple[float, ...] = ()
    window_px: int = 224
    batch_size: int | Literal["auto"] = "auto"
    min_valid_fraction: float = 0.0
    pooling: str | None = None
    flip_y: bool = False
    flip_x: bool = False

    @property
    def flips(self) -> tuple[int, ...]:
        """The axes of an image (..., y, x) that are turned."""
        return (-2,) * self.flip_y + (-1,) * self.flip_x
