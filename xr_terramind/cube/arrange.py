"""A cube in the order that the model takes, and what is refused whatever its bands are."""

import math
from collections.abc import Hashable
from dataclasses import dataclass

import xarray as xr

from xr_terramind.cube.bands import AS_USUAL, Source
from xr_terramind.cube.geometry import PixelGrid
from xr_terramind.errors import GridError, ValueRangeError, explain
from xr_terramind.model.modalities import Modality


@dataclass(frozen=True)
class Cube:
    """A source cube in the order that the model takes, as `inspect_cube` arranges it."""

    data: xr.DataArray  # ([time,] band, y, x), bands in the model's order and names
    modality: Modality  # with the bands that are there
    names: dict[str, Hashable]  # model band -> the name that it has in the source
    assumed: bool  # the source names no bands, so that the model's order was assumed
    grid: PixelGrid
    nodata: tuple[float, ...]  # raw values for no data; NaN and infinity always stand for it
    source: Source = AS_USUAL  # what its owner calls the dimensions

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size as (time, y, x), 1 for a cube without time."""
        sizes = self.data.sizes
        return sizes.get("time", 1), sizes["y"], sizes["x"]

    @property
    def is_lazy(self) -> bool:
        """Whether the pixels are a Dask array."""
        return self.data.chunks is not None


def check_dtype(array: xr.DataArray) -> None:
    """Refuse strings, complex numbers, booleans, times and objects."""
    if array.dtype.kind not in "iuf":
        raise ValueRangeError(
            explain(
                f"values of dtype {array.dtype}",
                "integers or floats",
                "Convert them with cube.astype('float32').",
            )
        )


def check_sizes(array: xr.DataArray) -> None:
    """Refuse a cube without a pixel, or of a size that nobody knows yet."""
    if any(math.isnan(size) for size in array.shape):
        raise GridError(
            explain(
                f"a cube of shape {array.shape}, whose chunk sizes are unknown",
                "sizes that are known before anything is computed",
                "Call compute_chunk_sizes() on its Dask array first.",
            )
        )
    empty = [str(dim) for dim, size in array.sizes.items() if size == 0]
    if empty:
        raise GridError(
            explain(
                f"an empty cube of shape {dict(array.sizes)}",
                "at least one pixel, band and date",
                f"Look at the selection that left {', '.join(empty)} empty.",
            )
        )
