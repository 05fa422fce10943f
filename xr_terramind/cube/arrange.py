"""Arrange a source cube: find its dimensions, bands, pixel grid and nodata values."""

import math
from collections.abc import Hashable
from dataclasses import dataclass

import xarray as xr

from xr_terramind.cube.bands import arrange_bands
from xr_terramind.cube.dims import as_dataarray, canonical_dims, lone_band, nodata_values
from xr_terramind.cube.geometry import PixelGrid, pixel_grid
from xr_terramind.errors import GridError, ValueRangeError, explain
from xr_terramind.model.modalities import Modality


@dataclass(frozen=True)
class Cube:
    """A source cube in the order that the model takes.

    Attributes
    ----------
    data : xarray.DataArray
        Dims ``([time,] band, y, x)``, bands in the model's order and names.
    modality : Modality
        What the bands are.
    names : dict
        Model band -> the name that it has in the source.
    assumed : bool
        The source names no bands, so that the model's order was assumed.
    grid : PixelGrid
        Where the pixels lie.
    nodata : tuple of float
        Raw values that stand for no data (NaN and infinity always do).
    """

    data: xr.DataArray
    modality: Modality
    names: dict[str, Hashable]
    assumed: bool
    grid: PixelGrid
    nodata: tuple[float, ...]

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
    """Refuse what is no image of real numbers.

    Parameters
    ----------
    array : xarray.DataArray

    Raises
    ------
    ValueRangeError
        For strings, complex numbers, booleans, times and objects.
    """
    if array.dtype.kind not in "iuf":
        raise ValueRangeError(
            explain(
                f"values of dtype {array.dtype}",
                "integers or floats",
                "Convert them with cube.astype('float32').",
            )
        )


def check_sizes(array: xr.DataArray) -> None:
    """Refuse a cube without a pixel, or of a size that nobody knows yet.

    Parameters
    ----------
    array : xarray.DataArray

    Raises
    ------
    GridError
    """
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


def arrange_cube(obj: xr.DataArray | xr.Dataset, modality: Modality) -> Cube:
    """Arrange a cube for the model; the caller's object is left alone.

    Parameters
    ----------
    obj : xarray.DataArray or xarray.Dataset
    modality : Modality

    Returns
    -------
    Cube

    Raises
    ------
    BandError, GridError, ValueRangeError
        Where bands, dimensions, grid or dtype do not fit.
    """
    array = canonical_dims(lone_band(as_dataarray(obj), modality))
    check_sizes(array)
    check_dtype(array)
    data, names, assumed = arrange_bands(array, modality)
    return Cube(data, modality, names, assumed, pixel_grid(array), nodata_values(array))
