"""Pixels without data, and values that stand for none."""

import math
import sys
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xr_terramind.cube.bands.names import read_bands
from xr_terramind.model.modalities import Modality

if TYPE_CHECKING:
    import xarray as xr

Array = Any  # numpy.ndarray or torch.Tensor

_NODATA_ATTRS = ("_FillValue", "missing_value", "nodata", "fill_value")


def drop_nodata(attrs: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
    """Return attributes without those that name values for no data."""
    return {key: value for key, value in attrs.items() if key not in _NODATA_ATTRS}


def nodata_values(array: "xr.DataArray") -> tuple[float, ...]:
    """Read the values that stand for no data off the attributes; NaN always does."""
    found = {
        float(number)
        for key in _NODATA_ATTRS
        for number in np.atleast_1d(array.attrs.get(key, np.nan))
        if isinstance(number, int | float | np.number) and np.isfinite(number)
    }
    return tuple(sorted(found))


def belonging(names: Iterable[Hashable], modality: Modality) -> list[Hashable]:
    """Pick the layers that are bands of the modality; all of them where none is known as such.

    Layers beside the bands, such as a scene classification, say nothing of their nodata.
    """
    listed = list(names)
    known = (modality.full or modality).bands
    bands = read_bands(listed)
    found = [name for name, band in zip(listed, bands, strict=True) if band in known]
    return found or listed


def share_nodata(
    layers: "Mapping[Hashable, xr.DataArray]", modality: Modality
) -> "dict[Hashable, xr.DataArray]":
    """Make layers that declare different values for no data agree: each one's become NaN.

    Sentinel-2's 0 is left alone, declared or not: it counts only where all bands have it, which
    `invalid_pixels` sees. Layers that are no bands of the modality neither count nor change.
    """
    bands = belonging(layers, modality)
    fills = {name: counting_values(nodata_values(layers[name]), modality) for name in bands}
    if len(set(fills.values())) == 1:
        return dict(layers)
    return {
        name: _mask_values(layer, fills[name]) if fills.get(name) else layer
        for name, layer in layers.items()
    }


def counting_values(nodata: Sequence[float], modality: Modality) -> tuple[float, ...]:
    """Leave out the value that does not count in a single band: Sentinel-2's 0."""
    return tuple(value for value in nodata if not (modality.is_sentinel2 and value == 0))


def _mask_values(layer: "xr.DataArray", nodata: tuple[float, ...]) -> "xr.DataArray":
    masked = layer.where(~layer.isin(nodata))
    masked.attrs = drop_nodata(layer.attrs)
    return masked


def invalid_pixels(values: Array, nodata: Sequence[float], modality: Modality) -> Array:
    """Find the pixels (..., y, x) that hold no data in raw values (..., band, y, x).

    A pixel is invalid where any band is NaN, infinite or nodata. Sentinel-2 products mark missing
    pixels by 0 in all bands, while a single band may truly be 0 over dark water: there, 0 counts
    only where all bands have it, even where the file declares 0 as its nodata value.

    NumPy arrays and torch tensors alike give their own kind of array.
    """
    library = sys.modules[type(values).__module__.partition(".")[0]]  # numpy or torch
    # The extremes tell both without a temporary of the size of the cube; NaN shows in them, too.
    low, high = library.amin(values, -3), library.amax(values, -3)
    invalid = ~((low > -math.inf) & (high < math.inf))
    for value in counting_values(nodata, modality):
        with np.errstate(over="ignore"):  # beyond float32, where such values are infinite
            invalid |= (values == value).any(-3)
    if modality.is_sentinel2:
        invalid |= (low == 0) & (high == 0)
    return invalid
