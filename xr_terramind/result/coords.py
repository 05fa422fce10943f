"""Coordinates of a cube -> coordinates of its embedding, as every file takes them.

What files know (numbers, times, text) stays as it is. Times with a zone become UTC, and what has
a text becomes that text; what is left is named.
"""

import warnings
from collections.abc import Hashable
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.base import is_dask_collection
from xarray.coders import CFDatetimeCoder
from xarray.coding.strings import check_vlen_dtype, create_vlen_dtype
from xarray.indexes import PandasMultiIndex

from xr_terramind.errors import explain, warn
from xr_terramind.result.plain import (
    as_text,
    convert_objects,
    fill_array,
    has_zone,
    is_cftime,
    is_file_name,
    is_missing,
    keep_attrs,
    write_texts,
)

_OWN = {"band", "y", "x", "feature", "valid_fraction", "embedding"}
"""Names that mean something else in the result."""

_TIME_ENCODING = ("units", "calendar", "dtype")

# Attributes that say how values are stored. Numbers may have them; whatever xarray encodes itself
# (times, bool) or knows no scale for (text) would come back as something else, or not at all.
_STORAGE = {"_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned", "dtype"}
_TIME_STORAGE = {"units", "calendar"}

# Attributes that name other variables.
_REFERENCES = {
    *("bounds", "climatology", "coordinates", "grid_mapping", "ancillary_variables"),
    *("cell_measures", "formula_terms", "geometry", "node_coordinates", "node_count"),
    *("part_node_count", "interior_ring"),
}

_NotFaithful = (ValueError, OverflowError, TypeError, KeyError, AttributeError, Warning)


class Kept(NamedTuple):
    """What is kept of a cube's coordinates.

    Attributes
    ----------
    coords : dict
        Name -> variable.
    axis_attrs : dict
        ``"y"`` and ``"x"`` -> attributes of the cube's coordinate.
    lost : dict
        Name of a coordinate -> why no file takes it.
    lost_attrs : list of (name, attribute)
        Attributes of coordinates that no file takes.
    """

    coords: dict[Hashable, xr.Variable]
    axis_attrs: dict[str, dict[Hashable, Any]]
    lost: dict[Hashable, str]
    lost_attrs: list[tuple[Hashable, Hashable]]


def keep_coords(source: xr.DataArray) -> Kept:
    """Keep what says something of the embedding, too, in a form that every file takes.

    That is not what runs along band, y or x, nor grid mappings, which are written anew.
    """
    kept = Kept({}, {}, {}, [])
    for name, coord in source.coords.items():
        variable = coord.variable
        if name in (source.rio.grid_mapping, "spatial_ref") or {*coord.dims} & {"band", "y", "x"}:
            continue
        found = make_writable(variable)
        if name in _OWN:
            kept.lost[name] = "the embedding has one of that name"
        elif not is_file_name(name) or " " in str(name):  # xarray lists coordinates with spaces
            kept.lost[name] = "its name"
        elif found is None:
            kept.lost[name] = f"values such as {_name_kind(variable)}"
        else:
            kept.coords[name] = found
    for name, variable in kept.coords.items():
        variable.attrs = _keep_own_attrs(name, variable, kept)
    for dim in ("y", "x"):
        axis = source.coords[dim].variable if dim in source.coords else xr.Variable((), 0.0)
        kept.axis_attrs[dim] = _keep_own_attrs(dim, axis, kept)
    return kept


def keep_writable(embedding: xr.DataArray) -> xr.DataArray:
    """Make what was given to an embedding after it was made writable, too; warn of what is lost."""
    for dim in embedding.dims:
        if isinstance(embedding.xindexes.get(dim), PandasMultiIndex):
            embedding = embedding.reset_index(dim)
    kept = keep_coords(embedding.drop_vars(_OWN & set(embedding.coords)))
    attrs, lost_attrs = keep_attrs(embedding.attrs)
    lost = [f"the coordinate {name!r} ({why})" for name, why in kept.lost.items()]
    lost += [f"the attribute {attr!r} of {name!r}" for name, attr in kept.lost_attrs]
    lost += [f"the attribute {attr!r}" for attr in lost_attrs]
    if lost:
        expected = "numbers, times or text, with a name of their own that has no slash"
        remedy = "The store is without; write it as text to keep it."
        warn(explain(f"what no file takes: {', '.join(lost)}", expected, remedy))
    result: xr.DataArray = embedding.drop_vars(list(kept.lost)).assign_coords(kept.coords)
    result.attrs = attrs
    return result


# -- Values ---------------------------------------------------------------------------------------


def make_writable(variable: xr.Variable) -> xr.Variable | None:
    """Return a variable as every file takes it; None where no file does.

    How times were encoded is kept where it brings them back. All else belongs to the file they came
    from: chunks, codecs, and an integer dtype that without its scale factor would round. A lazy
    variable stays lazy.
    """
    bare = variable.copy(deep=False)
    bare.encoding = {}
    if is_dask_collection(variable):
        return _convert_lazy(variable, bare)
    if _is_plain(variable.dtype):
        return _choose_encoding(_make_common(bare), variable)
    values = fill_array(variable.shape, _list_items(variable))
    converted = convert_objects(values)
    if converted is not None and not _is_faithful(converted):
        converted = write_texts(values)
    if converted is None:
        return None
    if converted is values and variable.dtype.kind == "O" and isinstance(variable.dtype, np.dtype):
        return _choose_encoding(bare, variable)
    bare = xr.Variable(variable.dims, converted, variable.attrs)
    if bare.dtype.kind == "M" and has_zone(values):
        bare.attrs["time_zone"] = "UTC"
    return bare


def _list_items(variable: xr.Variable) -> list[Any]:
    if isinstance(variable, xr.IndexVariable):
        return list(variable.to_index())
    if variable.ndim == 1 and not isinstance(variable.dtype, np.dtype):
        return list(variable.data)
    return list(np.asarray(variable.data, object).ravel())


def _is_plain(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind in "iufbmMSU"


def _make_common(variable: xr.Variable) -> xr.Variable:
    # NetCDF has no float of 16 bits and none beyond 64.
    wanted = {2: np.float32, 16: np.float64}.get(variable.dtype.itemsize)
    return variable.astype(wanted) if variable.dtype.kind == "f" and wanted else variable


def _convert_lazy(variable: xr.Variable, bare: xr.Variable) -> xr.Variable:
    # What objects are is known once they are computed, except where a file says so.
    is_time = " since " in str(variable.encoding.get("units"))
    if is_time or (_is_plain(variable.dtype) and variable.dtype.kind in "mM"):
        names = [name for name in _TIME_ENCODING if name in variable.encoding]
        bare.encoding = {name: variable.encoding[name] for name in names}
        return bare
    if _is_plain(variable.dtype):
        return _make_common(bare)
    if check_vlen_dtype(variable.dtype) is str:
        return bare
    dtype = create_vlen_dtype(str)
    texts = da.map_blocks(_write_block, variable.data, dtype=dtype, meta=np.empty((0,), dtype))
    return xr.Variable(variable.dims, texts, variable.attrs)


def _write_block(block: np.ndarray) -> np.ndarray:
    texts = ["" if is_missing(item) else as_text(item) or "" for item in block.flat]
    return fill_array(block.shape, texts)


def _is_faithful(values: np.ndarray) -> bool:
    # Dates of cftime are written as numbers, which not all calendars have.
    times = xr.Variable([f"dim_{axis}" for axis in range(values.ndim)], values)
    return not _holds_cftime(times) or _comes_back(times)


def _holds_cftime(variable: xr.Variable) -> bool:
    return variable.dtype == object and all(map(is_cftime, variable.values.flat))


def _name_kind(variable: xr.Variable) -> str:
    first = next((item for item in _list_items(variable) if as_text(item) is None), None)
    return f"{type(first).__module__}.{type(first).__qualname__}"


# -- How times are written ------------------------------------------------------------------------


def _choose_encoding(bare: xr.Variable, variable: xr.Variable) -> xr.Variable:
    names = [name for name in _TIME_ENCODING if name in variable.encoding]
    if not names or not _is_time(bare):
        return bare
    encoded = bare.copy(deep=False)
    encoded.attrs = {}
    encoded.encoding = {name: variable.encoding[name] for name in names}
    if _comes_back(encoded):
        bare.encoding = encoded.encoding
    return bare


def _comes_back(times: xr.Variable) -> bool:
    # Whether a file gives back what it was given
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # What xarray says of units that it has to change, nobody wants to hear again and again.
            for kind in (UserWarning, RuntimeWarning):
                warnings.simplefilter("error", kind)
            encoded = xr.conventions.encode_cf_variable(times, name="time")
            coder = CFDatetimeCoder(use_cftime=True) if times.dtype == object else True
            again = xr.conventions.decode_cf_variable("time", encoded, decode_times=coder)
    except _NotFaithful:
        return False
    there, here = np.ravel(again.values), np.ravel(times.values)
    if times.dtype == object:
        return bool(np.all(there == here))
    return bool(np.all((there == here) | (pd.isnull(there) & pd.isnull(here))))


def read_labels(coord: xr.Variable) -> pd.Index:
    """Return the labels of a coordinate as they come back from a file that it was written to."""
    encoded = xr.conventions.encode_cf_variable(coord.to_base_variable(), name="labels")
    again = xr.conventions.decode_cf_variable("labels", encoded)
    return pd.Index(np.asarray(again.values))


# -- Attributes -----------------------------------------------------------------------------------


def _keep_own_attrs(name: Hashable, variable: xr.Variable, kept: Kept) -> dict[Hashable, Any]:
    """Keep the attributes of a coordinate that come back from a file; note those that are lost."""
    found, lost = keep_attrs(variable.attrs)
    names = set(kept.coords)
    for attr in list(found):
        if attr in _REFERENCES:
            # What a variable that is not there would have told is lost with it, not with its name.
            words = str(found[attr]).split()
            if {word for word in words if not word.endswith(":")} - names:
                del found[attr]
        elif not _may_stand(attr, found[attr], variable):
            del found[attr]
            lost.append(attr)
    kept.lost_attrs.extend((name, attr) for attr in lost)
    return found


def _may_stand(attr: Hashable, value: Any, variable: xr.Variable) -> bool:
    if attr not in _STORAGE | _TIME_STORAGE:
        return True
    if _is_time(variable):
        return False
    if attr in _TIME_STORAGE:
        return True
    is_text = isinstance(value, str)
    return variable.dtype.kind in "iuf" and is_text == (attr in ("dtype", "_Unsigned"))


def _is_time(variable: xr.Variable) -> bool:
    if is_dask_collection(variable) and variable.dtype == object:
        return "units" in variable.encoding
    return variable.dtype.kind in "mM" or _holds_cftime(variable)
