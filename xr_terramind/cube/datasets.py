"""A Dataset -> the array that holds the bands, without the layers that lie beside them."""

import re
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from xr_terramind.cube.bands import (
    Source,
    band_names,
    band_of,
    belonging,
    match_bands,
    share_nodata,
)
from xr_terramind.cube.dims import find_band_dims, find_role, guess_axes, is_quality
from xr_terramind.cube.geometry import crs_of
from xr_terramind.errors import BandError, explain
from xr_terramind.model.modalities import Modality

# Grid mappings that a file read without decode_coords="all" leaves among the data variables.
_GRID_MAPPING_ATTRS = ("crs_wkt", "spatial_ref", "grid_mapping_name")

# How well a stack of bands fits a modality: the least is the best.
_EXACT, _WITH_SURPLUS, _IN_PART, _UNNAMED, _OTHER = range(5)


def as_dataarray(obj: xr.DataArray | xr.Dataset, modality: Modality) -> xr.DataArray:
    """Take the bands out of a Dataset; return a DataArray as it is.

    They are one variable with a dimension for them, or one variable each. Masks and quality layers
    beside them are left out.

    Raises
    ------
    BandError
        Where no variable has spatial dimensions, or several hold bands that fit alike.
    """
    if isinstance(obj, xr.DataArray):
        return obj
    images = [
        name
        for name, variable in obj.data_vars.items()
        if {find_role(dim) for dim in variable.dims} >= {"y", "x"}
    ]
    if not images:
        raise BandError(
            explain(
                f"a Dataset with variables {list(obj.data_vars)}",
                "one variable per band, with dimensions y and x",
                _say_axes(obj),
            )
        )
    stacks = [name for name in images if _count_bands(obj[name]) > 1]
    layers = {name: _squeeze_band(obj[name]) for name in images if name not in stacks}
    bands = _pick_bands(layers, modality)
    if stacks and not set(modality.bands) <= {band_of(name) for name in bands}:
        array = obj[_choose_stack(obj, stacks, modality)]
    elif len(images) == 1 and find_band_dims(obj[images[0]]):
        array = obj[images[0]]
    else:
        array = _stack(obj, bands, modality)
    return _keep_crs(_keep_facts(array, obj), obj)


def describe_source(obj: xr.DataArray | xr.Dataset) -> Source:
    """Say what the caller calls the dimensions, and whether 0 was read as NaN."""
    layers = [obj] if isinstance(obj, xr.DataArray) else list(obj.data_vars.values())
    layers = [one for one in layers if {find_role(dim) for dim in one.dims} >= {"y", "x"}]
    own = {find_role(dim): dim for one in layers for dim in one.dims}
    stacks = [one for one in layers if isinstance(obj, xr.DataArray) or _count_bands(one) > 1]
    band: Hashable | None = None
    if stacks:
        band = next(iter(find_band_dims(stacks[0])), "band")
    return Source(
        band=band,
        y=own.get("y", "y"),
        x=own.get("x", "x"),
        masks_zero=any(one.encoding.get("_FillValue") == 0 for one in layers),
    )


def _say_axes(obj: xr.Dataset) -> str:
    # The pixels are what has most values.
    largest = max(obj.data_vars.values(), key=lambda one: one.size, default=None)
    if largest is None:
        return "Pass the DataArray that holds the pixels."
    renames = guess_axes(largest)
    if {*renames.values()} | {find_role(dim) for dim in largest.dims} >= {"y", "x"}:
        return f"Rename its dimensions: cube.rename({renames})."
    return "Pass the DataArray that holds the pixels."


def _count_bands(array: xr.DataArray) -> int:
    return max((array.sizes[dim] for dim in find_band_dims(array)), default=0)


# -- One variable with a dimension for its bands --------------------------------------------------


def _choose_stack(obj: xr.Dataset, stacks: list[Hashable], modality: Modality) -> Hashable:
    ranks = {name: _rank_stack(obj[name], modality) for name in stacks}
    best = [name for name in stacks if ranks[name] == min(ranks.values())]
    # S1GRD and S1RTC have the same bands: the variable's own name may tell.
    named = [name for name in best if re.sub(r"\W|_", "", str(name).upper()) == modality.name]
    chosen = named if len(named) == 1 else best
    if len(chosen) > 1:
        raise BandError(
            explain(
                f"several variables that hold bands: {', '.join(map(repr, chosen))}",
                f"one with the bands of {modality.name}",
                f"Pass it alone, for example ds[{chosen[0]!r}].",
            )
        )
    return chosen[0]


def _rank_stack(array: xr.DataArray, modality: Modality) -> int:
    named = array.rename({find_band_dims(array)[0]: "band"}) if _has_lone_band_dim(array) else None
    if named is None:
        return _OTHER
    names = band_names(named)
    if names is None:
        return _UNNAMED if named.sizes["band"] == len(modality.bands) else _OTHER
    kept = [name for name in names if band_of(name) in modality.bands or not is_quality(name)]
    try:
        match_bands(kept, modality, pick=True)
    except BandError:
        return _IN_PART if {*map(band_of, kept)} & {*modality.bands} else _OTHER
    return _EXACT if len(kept) == len(modality.bands) else _WITH_SURPLUS


def _has_lone_band_dim(array: xr.DataArray) -> bool:
    found = find_band_dims(array)
    return len(found) == 1 and (found[0] == "band" or "band" not in array.coords)


# -- One variable for each band -------------------------------------------------------------------


def _squeeze_band(layer: xr.DataArray) -> xr.DataArray:
    # Files of one band each, merged: the variable's name says which, the one label is a number.
    dims = find_band_dims(layer)
    return layer.squeeze(dims) if dims else layer


def _pick_bands(
    layers: dict[Hashable, xr.DataArray], modality: Modality
) -> dict[Hashable, xr.DataArray]:
    named = dict(zip(_name_bands(layers), layers.values(), strict=True))
    bands = {
        name: layer
        for name, layer in named.items()
        if band_of(name) in modality.bands or not is_quality(name)
    }
    return bands or named


def _name_bands(layers: dict[Hashable, xr.DataArray]) -> list[Hashable]:
    # rioxarray's band_as_variable calls them band_1, band_2, ...; their long_name knows more.
    described = [layer.attrs.get("long_name") for layer in layers.values()]
    names = [
        text if band_of(name) is None and band_of(text) is not None else name
        for name, text in zip(layers, described, strict=True)
    ]
    return names if len(set(names)) == len(names) else list(layers)


def _stack(
    obj: xr.Dataset, bands: dict[Hashable, xr.DataArray], modality: Modality
) -> xr.DataArray:
    bare = {name: band.drop_vars("band", errors="ignore") for name, band in bands.items()}
    # Bands that disagree on nodata cannot share one attribute: theirs becomes NaN.
    bare = share_nodata(bare, modality)
    array = xr.Dataset(bare, attrs=obj.attrs).to_dataarray("band")
    counting = [bare[name] for name in belonging(bare, modality)]
    array.attrs = {**_find_shared_attrs(counting), **obj.attrs}
    return array


def _find_shared_attrs(bands: Sequence[xr.DataArray]) -> dict[Hashable, Any]:
    first = bands[0].attrs
    return {
        key: value
        for key, value in first.items()
        if all(key in band.attrs and np.array_equal(band.attrs[key], value) for band in bands)
    }


# -- What is said beside the bands ----------------------------------------------------------------


def _keep_facts(array: xr.DataArray, obj: xr.Dataset) -> xr.DataArray:
    # Variables of one value for each image (place, date, tile) are its coordinates, and so are x
    # and y of each image, which Zarr and NetCDF give back as variables.
    in_front = {dim for dim in array.dims if find_role(dim) not in ("band", "y", "x")}
    facts = {
        name: variable.variable
        for name, variable in obj.data_vars.items()
        if set(variable.dims) <= in_front | ({name} if find_role(name) in ("y", "x") else set())
        and name not in array.coords
        and not any(key in variable.attrs for key in _GRID_MAPPING_ATTRS)
    }
    return array.assign_coords(facts)


def _keep_crs(array: xr.DataArray, dataset: xr.Dataset) -> xr.DataArray:
    if crs_of(array) is not None:
        return array
    for name, variable in dataset.variables.items():
        if any(key in variable.attrs for key in _GRID_MAPPING_ATTRS):
            return array.assign_coords({name: variable}).rio.write_grid_mapping(name)
    return array
