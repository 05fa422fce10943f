"""Arrange a source cube: find its dimensions, bands, pixel grid and nodata values."""

import math
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from xr_terramind.cube.bands import band_of, match_bands
from xr_terramind.cube.dims import as_dataarray, canonical_dims, lone_band, nodata_values
from xr_terramind.cube.geometry import PixelGrid, pixel_grid
from xr_terramind.errors import BandError, GridError, ValueRangeError, explain
from xr_terramind.model.modalities import Modality, band_labels


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


def band_names(array: xr.DataArray) -> list[str] | None:
    """Return the names that a cube gives its bands, or None where it gives none.

    Parameters
    ----------
    array : xarray.DataArray
        With a ``band`` dimension.

    Returns
    -------
    list of str or None
        From the ``band`` coordinate, or from a ``long_name`` with one entry a band (as rioxarray
        reads GDAL's band descriptions). Band numbers 1, 2, ... or 0, 1, ... are no names.
    """
    n_bands = array.sizes["band"]
    if "band" in array.coords:
        values = np.atleast_1d(array.coords["band"].values)
        counts = (np.arange(n_bands), np.arange(1, n_bands + 1))
        if not any(np.array_equal(values, count) for count in counts):
            return [str(value) for value in values]
    described = array.attrs.get("long_name")
    if isinstance(described, list | tuple | np.ndarray) and len(described) == n_bands:
        names = [str(name) for name in described]
        if any(band_of(name) for name in names):
            return names
    return None


def arrange_bands(
    array: xr.DataArray, modality: Modality, *, pick: bool = False
) -> tuple[xr.DataArray, dict[str, Hashable], bool]:
    """Bring bands into the model's order and names.

    Parameters
    ----------
    array : xarray.DataArray
        With a ``band`` dimension.
    modality : Modality
        Whose order is wanted.
    pick : bool, default False
        Pass over surplus bands instead of refusing them.

    Returns
    -------
    arranged : xarray.DataArray
    names : dict
        Model band -> the cube's own name.
    assumed : bool
        The cube names no bands, and has as many as the model.

    Raises
    ------
    BandError
        For bands that are missing, doubled, surplus, or unnamed in another number.
    """
    names = band_names(array)
    if names is None:
        n_bands = array.sizes["band"]
        if n_bands != len(modality.bands):
            raise BandError(
                explain(
                    f"{n_bands} bands without names",
                    f"the {len(modality.bands)} of {modality.name}: {', '.join(modality.bands)}",
                    "Name them with cube.assign_coords(band=[...]), or choose another modality.",
                )
            )
        order, names = list(range(n_bands)), list(modality.bands)
        assumed = n_bands > 1  # a single band has only one order
    else:
        order = match_bands(names, modality, pick=pick)
        # What an earlier arrange() had to assume stays an assumption.
        assumed = array.attrs.get("band_order") == "assumed"
    attrs = {key: value for key, value in array.attrs.items() if key != "long_name"}
    if isinstance(array.attrs.get("long_name"), str):
        attrs["long_name"] = array.attrs["long_name"]
    if assumed:
        attrs["band_order"] = "assumed"
    # Coordinates along band (wavelengths, descriptions) follow; its own index gets new names.
    picked = array if order == list(range(array.sizes["band"])) else array.isel(band=order)
    arranged = picked.assign_coords(band=band_labels(modality.bands))
    arranged.attrs = attrs
    return (
        arranged,
        {band: names[i] for band, i in zip(modality.bands, order, strict=True)},
        assumed,
    )


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
