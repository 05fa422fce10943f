"""Any cube -> a DataArray with dimensions ([time,] band, y, x)."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from xr_terramind.cube.bands import Source, band_of, belonging, share_nodata
from xr_terramind.cube.geometry import crs_of
from xr_terramind.errors import BandError, GridError, explain
from xr_terramind.model.modalities import Modality, band_labels

# Names that a dimension may have, in lower case. The result always says band, y, x and time.
_DIM_NAMES = {
    "band": ("band", "bands", "channel", "channels", "variable", "spectral"),
    "y": ("y", "lat", "latitude", "northing", "projection_y_coordinate"),
    "x": ("x", "lon", "longitude", "easting", "projection_x_coordinate"),
    "time": ("time", "t", "date", "datetime"),
}

# Grid mappings that a file read without decode_coords="all" leaves among the data variables.
_GRID_MAPPING_ATTRS = ("crs_wkt", "spatial_ref", "grid_mapping_name")


def as_dataarray(obj: xr.DataArray | xr.Dataset, modality: Modality) -> xr.DataArray:
    """Stack a Dataset with one variable per band along ``band``; return a DataArray as it is.

    Raises
    ------
    BandError
        Where no variable has spatial dimensions.
    """
    if isinstance(obj, xr.DataArray):
        return obj
    images = [
        name
        for name, variable in obj.data_vars.items()
        if {_find_role(dim) for dim in variable.dims} >= {"y", "x"}
    ]
    if not images:
        raise BandError(
            explain(
                f"a Dataset with variables {list(obj.data_vars)}",
                "one variable per band, with dimensions y and x",
                "Pass the DataArray that holds the pixels.",
            )
        )
    if len(images) == 1 and any(_find_role(dim) == "band" for dim in obj[images[0]].dims):
        return _keep_crs(obj[images[0]], obj)
    bands = dict(zip(_name_bands(obj, images), (obj[name] for name in images), strict=True))
    # Bands that disagree on nodata cannot share one attribute: theirs becomes NaN.
    bands = share_nodata(bands, modality)
    stacked = xr.Dataset(bands, attrs=obj.attrs).drop_vars("band", errors="ignore")
    array = stacked.to_dataarray("band")
    array.attrs = {
        **_find_shared_attrs([bands[n] for n in belonging(bands, modality)]),
        **obj.attrs,
    }
    return _keep_crs(array, obj)


def _name_bands(obj: xr.Dataset, images: list[Hashable]) -> list[Hashable]:
    # rioxarray's band_as_variable calls them band_1, band_2, ...; their long_name knows more.
    described = [obj[name].attrs.get("long_name") for name in images]
    names = [
        text if band_of(name) is None and band_of(text) is not None else name
        for name, text in zip(images, described, strict=True)
    ]
    return names if len(set(names)) == len(names) else images


def _find_shared_attrs(bands: Sequence[xr.DataArray]) -> dict[Hashable, Any]:
    first = bands[0].attrs
    return {
        key: value
        for key, value in first.items()
        if all(key in band.attrs and np.array_equal(band.attrs[key], value) for band in bands)
    }


def _keep_crs(array: xr.DataArray, dataset: xr.Dataset) -> xr.DataArray:
    if crs_of(array) is not None:
        return array
    for name, variable in dataset.variables.items():
        if any(key in variable.attrs for key in _GRID_MAPPING_ATTRS):
            return array.assign_coords({name: variable}).rio.write_grid_mapping(name)
    return array


def _find_role(dim: Hashable) -> str | None:
    name = str(dim).lower()
    return next((role for role, names in _DIM_NAMES.items() if name in names), None)


def describe_source(obj: xr.DataArray | xr.Dataset) -> Source:
    """Say what the caller calls the dimensions, and whether 0 was read as NaN."""
    own = {_find_role(dim): dim for dim in obj.dims}
    variables = [obj] if isinstance(obj, xr.DataArray) else list(obj.data_vars.values())
    return Source(
        band=own.get("band", "band" if isinstance(obj, xr.DataArray) else None),
        y=own.get("y", "y"),
        x=own.get("x", "x"),
        masks_zero=any(variable.encoding.get("_FillValue") == 0 for variable in variables),
    )


def order_dims(array: xr.DataArray) -> xr.DataArray:
    """Rename and order the dimensions to ``([time,] band, y, x)``.

    Raises
    ------
    GridError
        For missing, doubled or further dimensions.
    """
    array = name_band_dim(array)
    roles = {dim: _find_role(dim) for dim in array.dims}
    taken = [role for role in roles.values() if role]
    surplus = [str(dim) for dim, role in roles.items() if role is None]
    if "y" not in taken or "x" not in taken or len(set(taken)) < len(taken):
        raise _dims_error(array, "Rename them with cube.rename({...}).")
    if surplus:
        raise _dims_error(
            array,
            f"Choose one entry of {', '.join(surplus)} with cube.isel(...), "
            "or rename the dimension.",
        )
    order = [role for role in ("time", "band", "y", "x") if role in taken]
    return _rename_dims(array, {dim: role for dim, role in roles.items() if role}).transpose(*order)


def name_band_dim(array: xr.DataArray) -> xr.DataArray:
    """Call the dimension of the bands ``band``.

    Raises
    ------
    GridError
        Where there is none, or more than one.
    """
    found = [dim for dim in array.dims if _find_role(dim) == "band"]
    if len(found) != 1:
        raise _dims_error(
            array,
            "Stack the bands with xarray.concat([...], dim='band'), or give a single band its "
            "dimension with cube.expand_dims('band').",
        )
    return _rename_dims(array, {found[0]: "band"})


def _rename_dims(array: xr.DataArray, roles: dict[Hashable, str]) -> xr.DataArray:
    renames = {dim: role for dim, role in roles.items() if dim != role}
    # A scalar coordinate of the new name that is left over must not stand in the way.
    return array.drop_vars([name for name in renames.values() if name in array.coords]).rename(
        renames
    )


def _dims_error(array: xr.DataArray, remedy: str) -> GridError:
    return GridError(
        explain(
            f"dimensions {tuple(str(dim) for dim in array.dims)}",
            "one dimension each for band, y and x, and perhaps time, in any order",
            remedy,
        )
    )


def add_band_dim(array: xr.DataArray, modality: Modality) -> xr.DataArray:
    """Give a two-dimensional image of a one-band modality (a DEM) its band dimension."""
    if len(modality.bands) > 1 or any(_find_role(dim) == "band" for dim in array.dims):
        return array
    return array.drop_vars("band", errors="ignore").expand_dims(band=band_labels(modality.bands))
