"""Is an unfinished store that of this embedding? If not, say in which way it differs."""

import json
from typing import Any

import numpy as np
import xarray as xr
from dask.base import compute

from xr_terramind.errors import StoreError, explain
from xr_terramind.result.coords import read_labels
from xr_terramind.result.quantize import SCALE, block_scale, dequantize, is_quantized

GRAPH = "xr_terramind:graph"
"""Attribute of the group: the name of the Dask array, which stands for all that made it."""

_MAY_DIFFER = {"device", "engine", "xr_terramind_version"}
"""Attributes that may change between two runs: numbers agree across them."""

_TOLERANCE = 2e-4
"""Of features: engines and devices agree to 1e-4 in float32; bfloat16 differs by 1e-2."""


def check_same_embedding(wanted: xr.Dataset, stored: xr.Dataset, place: Any) -> None:
    """Refuse to go on with a store that was made of something else.

    Parameters
    ----------
    wanted : xarray.Dataset
        What is to be written: ``embedding``, and its ``scale`` where it is int8.
    stored : xarray.Dataset
        What stands.
    place : object
        For the message.

    Raises
    ------
    StoreError
        With every difference of options, weights and grid.
    """
    if "embedding" not in stored:
        found = f"the variables {', '.join(map(str, stored.variables)) or 'none'}"
        differences = [f"{found} instead of an embedding"]
    else:
        embedding, other = wanted["embedding"], stored["embedding"]
        differences = [
            *_compare_attrs(embedding.attrs, other.attrs),
            *_compare_grid(embedding, other),
        ]
        if not differences and not wanted.data_vars.keys() <= stored.data_vars.keys():
            differences = [f"no {SCALE!r} beside the embedding there"]
    if differences:
        raise StoreError(
            explain(
                f"another embedding at {place}: {'; '.join(differences)}",
                "the same cube, weights and options as those that it was begun with",
                "Choose another store, or overwrite=True to replace this one.",
            )
        )


def _compare_attrs(wanted: dict[Any, Any], stored: dict[Any, Any]) -> list[str]:
    free = set(_MAY_DIFFER)
    if wanted.get("weights_sha256") and stored.get("weights_sha256"):
        free.add("weights")  # the same file in another folder
    here, there = (
        {name: _encode_json(attrs[name]) for name in attrs} for attrs in (wanted, stored)
    )
    return [
        f"{name} is {_show_value(here, name)} here and {_show_value(there, name)} there"
        for name in {**here, **there}
        if name not in free and here.get(name) != there.get(name)
    ]


def _show_value(attrs: dict[Any, str], name: Any) -> str:
    return repr(json.loads(attrs[name])) if name in attrs else "not set"


def _encode_json(value: Any) -> str:
    # As a store returns it: lists for tuples and arrays, Python's numbers for NumPy's; and as text,
    # in which NaN equals NaN.
    return json.dumps(value, default=lambda other: np.asarray(other).tolist())


def _compare_grid(wanted: xr.DataArray, stored: xr.DataArray) -> list[str]:
    if wanted.dims != stored.dims or wanted.shape != stored.shape:
        return [f"sizes are {dict(wanted.sizes)} here and {dict(stored.sizes)} there"]
    found = []
    if wanted.dtype != stored.dtype:
        found.append(f"values are {wanted.dtype} here and {stored.dtype} there")
    if wanted.rio.crs != stored.rio.crs:
        found.append(f"the CRS is {wanted.rio.crs} here and {stored.rio.crs} there")
    for dim in wanted.indexes:
        # Some labels come back as others: dates of cftime in the standard calendar as NumPy's.
        here, there = read_labels(wanted[dim].variable), stored.get_index(dim)
        if not here.equals(there):
            first = int(next(iter(np.flatnonzero(here != there)), 0))
            found.append(f"{dim}[{first}] is {here[first]} here and {there[first]} there")
    return found


def check_same_values(
    embedding: xr.DataArray, stored: xr.Dataset, block: tuple[slice, ...], place: Any
) -> None:
    """Embed one stored block again, where nothing cheaper says that the cube is the same.

    Parameters
    ----------
    embedding : xarray.DataArray
        Floats, however they are stored.
    stored : xarray.Dataset
        What stands.
    block : tuple of slice
        In cells, along the embedding's dimensions.
    place : object
        For the message.

    Raises
    ------
    StoreError
        Where the values differ.
    """
    part = stored.isel(dict(zip(embedding.dims, block, strict=True)))
    there = dequantize(part) if is_quantized(part) else part["embedding"]
    here, there, scale = compute(
        embedding.data[block], there.data, part[SCALE].data if is_quantized(part) else None
    )
    difference = _measure_difference(here, there)
    if scale is not None:
        # Rounded vectors may be half a step from themselves. Their scales are not rounded: that
        # the largest features agree tells cubes apart, whatever the steps are.
        axis = embedding.dims.index("feature")
        largest = [127 * each for each in (block_scale(here, axis=axis), scale)]
        difference = np.maximum(
            difference - np.expand_dims(np.nan_to_num(scale), axis) / 2,
            np.expand_dims(_measure_difference(*largest), axis),
        )
    if not (worst := float(np.max(difference))) <= _TOLERANCE:  # NaN where only one has no data
        raise StoreError(
            explain(
                f"another embedding at {place}: a block that was embedded again differs from what "
                f"is stored by {worst:.3g}",
                f"the same cube as the one that it was begun with, and so at most {_TOLERANCE}",
                "Choose another store, or overwrite=True to replace this one.",
            )
        )


def _measure_difference(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(here) & np.isnan(there), 0.0, np.abs(here - there))
