"""A Dataset -> the array that holds the bands, without the layers that lie beside them."""

import re
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from rioxarray.exceptions import MissingSpatialDimensionError

from xr_terramind.cube.bands import (
    band_names,
    band_of,
    belonging,
    match_bands,
    share_nodata,
)
from xr_terramind.cube.caller import Caller
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
    images = _list_images(obj)
    if not images:
        raise BandError(
            explain(
                f"a Dataset with variables {list(obj.data_vars)}",
                "one variable per band, with dimensions y and x",
                _say_axes(obj),
            )
        )
    stacks, layers = _split_stacks(obj, images)
    bands = _pick_bands(layers, modality)
    if stacks and not _outnumber(bands, [obj[name] for name in stacks], modality):
        array = obj[_choose_stack(obj, stacks, modality)]
    elif len(images) == 1 and find_band_dims(obj[images[0]]):
        array = obj[images[0]]
    else:
        array = _stack(obj, bands, modality)
    return _keep_crs(_keep_facts(array, obj), obj)


def describe_caller(obj: xr.DataArray | xr.Dataset, modality: Modality) -> Caller:
    """Find out how remedies have to write the caller's cube, so that they work on it as it is."""
    names = _list_images(obj) if isinstance(obj, xr.Dataset) else []
    images = [obj] if isinstance(obj, xr.DataArray) else [obj[name] for name in names]
    roles = {find_role(dim): dim for one in images for dim in one.dims}
    band, variables = _describe_bands(obj, names, modality)
    if band is not None:  # masks beside the bands stay behind
        images = [one for one in images if band in map(str, one.dims)] or images
    named, ready = _write_ready(obj, images, roles)
    is_dataset = isinstance(obj, xr.Dataset)
    return Caller(
        band=band,
        y=str(roles.get("y", "y")),
        x=str(roles.get("x", "x")),
        named=named,
        ready=ready,
        keeps_transforms=is_dataset and any("transform" in one.attrs for one in images),
        masks_zero=any(one.encoding.get("_FillValue") == 0 for one in images),
        variables=variables,
    )


def _write_ready(
    obj: xr.DataArray | xr.Dataset, images: list[xr.DataArray], roles: dict[str | None, Hashable]
) -> tuple[str, str]:
    # What rioxarray needs: names of dimensions that it knows, and images of three dimensions.
    y, x = roles.get("y", "y"), roles.get("x", "x")
    named, y_ready, x_ready = "cube", str(y), str(x)
    if not _knows_dims(obj, x, y):
        named += f".rename({ {x: 'x', y: 'y'} })"
        y_ready, x_ready = "y", "x"
    in_front = _list_in_front(images)
    ready, is_deep = named, len(images) == 1 and images[0].ndim > 3
    if isinstance(obj, xr.Dataset):
        ready += _set_grid_mapping(obj)
        if is_deep:
            ready += f".data_vars[{images[0].name!r}]"
    if len(in_front) > 1:
        ready += f".stack({'_'.join(map(str, in_front))}={in_front})"
    if any(one.dims[-2:] != (y, x) for one in images) or len(in_front) > 1:
        ready += f".transpose(..., {y_ready!r}, {x_ready!r})"
    if is_deep and "band" in roles:
        ready += f".to_dataset({roles['band']!r})"
    return named, ready


def _list_in_front(images: list[xr.DataArray]) -> list[Hashable]:
    found: dict[Hashable, None] = {}
    for one in images:
        bands = find_band_dims(one)
        found |= {d: None for d in one.dims if d not in bands and find_role(d) not in ("y", "x")}
    return list(found)


def _knows_dims(obj: xr.DataArray | xr.Dataset, x: Hashable, y: Hashable) -> bool:
    try:
        return (obj.rio.x_dim, obj.rio.y_dim) == (x, y)
    except MissingSpatialDimensionError:
        return False


def _set_grid_mapping(dataset: xr.Dataset) -> str:
    # A file read without decode_coords="all" has its CRS among the data variables.
    for name, variable in dataset.data_vars.items():
        if "spatial_ref" in variable.attrs or "crs_wkt" in variable.attrs:
            return f".set_coords({name!r}).rio.write_grid_mapping({name!r})"
    return ""


def _describe_bands(
    obj: xr.DataArray | xr.Dataset, images: list[Hashable], modality: Modality
) -> tuple[str | None, tuple[tuple[str, str], ...]]:
    # The dimension of the variable that holds the bands; or else each band's name and variable.
    if isinstance(obj, xr.DataArray):
        return str(next(iter(find_band_dims(obj)), "band")), ()
    stacks, layers = _split_stacks(obj, images)
    bands = _pick_bands(layers, modality)
    if stacks and not _outnumber(bands, [obj[name] for name in stacks], modality):
        chosen = min(stacks, key=lambda name: _rank_stack(obj[name], modality))
    elif len(images) == 1 and find_band_dims(obj[images[0]]):
        chosen = images[0]
    else:
        pairs = zip(map(str, _name_bands(layers)), map(str, layers), strict=True)
        return None, tuple((name, variable) for name, variable in pairs if name != variable)
    return str(find_band_dims(obj[chosen])[0]), ()


def _list_images(obj: xr.Dataset) -> list[Hashable]:
    return [
        name
        for name, variable in obj.data_vars.items()
        if {find_role(dim) for dim in variable.dims} >= {"y", "x"}
    ]


def _split_stacks(
    obj: xr.Dataset, images: list[Hashable]
) -> tuple[list[Hashable], dict[Hashable, xr.DataArray]]:
    # -> those with several bands, and the others, without a dimension for them
    stacks = [name for name in images if _count_bands(obj[name]) > 1]
    return stacks, {name: _squeeze_band(obj[name]) for name in images if name not in stacks}


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


def _outnumber(
    layers: Iterable[Hashable], stacks: Iterable[xr.DataArray], modality: Modality
) -> bool:
    # Layers hold all of the model's bands, or more of them than any stack: a picture in colours
    # beside ten bands is no reason to leave these.
    n_bands = len({band_of(name) for name in layers} & {*modality.bands})
    counts = [_count_known(stack, modality) for stack in stacks]
    return n_bands == len(modality.bands) or n_bands > max(counts)


def _count_known(stack: xr.DataArray, modality: Modality) -> int:
    named = _name_lone_band_dim(stack)
    names = None if named is None else band_names(named)
    if names is None:
        return _count_bands(stack)
    return len({band_of(name) for name in names} & {*modality.bands})


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
    named = _name_lone_band_dim(array)
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


def _name_lone_band_dim(array: xr.DataArray) -> xr.DataArray | None:
    found = find_band_dims(array)
    if len(found) != 1 or (found[0] != "band" and "band" in array.coords):
        return None
    return array.rename({found[0]: "band"})


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
