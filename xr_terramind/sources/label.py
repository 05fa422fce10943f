"""Pixels on a grid -> a labelled cube: what every source hands to its user."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr
from odc.geo.geobox import GeoBox

from xr_terramind.model.modalities import band_labels


def label_cube(
    pixels: Any,
    grid: GeoBox,
    bands: Sequence[str],
    times: Any,
    *,
    name: str,
    attrs: Mapping[str, Any],
) -> xr.DataArray:
    """Put bands, times, pixel centres, CRS and transform on an array ``([time,] band, y, x)``.

    `times` is an array along ``time``, or one date (or None) for pixels without that dimension.
    """
    west, north, step = grid.affine.c, grid.affine.f, grid.affine.a
    coords: dict[str, Any] = {
        "band": band_labels(bands),
        "y": north - step * (np.arange(grid.height) + 0.5),
        "x": west + step * (np.arange(grid.width) + 0.5),
    }
    if times is not None:
        coords["time"] = times
    dims = ("time", "band", "y", "x")[-pixels.ndim :]
    cube = xr.DataArray(pixels, coords=coords, dims=dims, name=name, attrs=dict(attrs))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Use `@` matmul", PendingDeprecationWarning)
        return cube.rio.write_crs(str(grid.crs)).rio.write_transform(grid.affine)
