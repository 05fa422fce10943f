"""Two embeddings of one grid -> how much they differ."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr
from dask.base import is_dask_collection

from xr_terramind.cube.geometry import crs_of
from xr_terramind.errors import GridError, explain
from xr_terramind.explore.cosines import check_comparable, check_shared_dims, one_less_cosine
from xr_terramind.explore.vectors import as_map, model_attrs
from xr_terramind.result.cells import whole_vectors
from xr_terramind.result.check import check_grid

_SAME_PLACE = 0.01  # of a step


def change(embedding: xr.DataArray, other: xr.DataArray) -> xr.DataArray:
    """Map how much two embeddings of the same grid differ: one less the cosine.

    Parameters
    ----------
    embedding : xarray.DataArray
        Dims feature, y, x and perhaps time.
    other : xarray.DataArray
        Of another date, for example; same grid, same model and layer. Where both have several
        dates they are the same ones; where one has, each of them is compared with the other.

    Returns
    -------
    xarray.DataArray
        float32, 0 (the same direction) to 2, dims ``([time,] y, x)``, NaN where either is;
        ``valid_fraction`` is the lesser of both. Scalar coordinates that differ are left out; two
        single dates stand in the attrs ``date_from`` and ``date_to`` (of `other`). Lazy where
        either is.

    Raises
    ------
    GridError
        For another grid, other dates, or vectors of another model or layer.
    """
    check_grid(embedding)
    check_grid(other)
    check_comparable(embedding, other, "other")
    other = _align(embedding, other)
    check_shared_dims(embedding, other)
    result = xr.apply_ufunc(
        one_less_cosine,
        whole_vectors(_drop_conflicts(embedding, other)),
        whole_vectors(_drop_coords(other)),
        input_core_dims=[["feature"], ["feature"]],
        dask="parallelized",
        output_dtypes=[np.float32],
        keep_attrs=True,  # the CRS stands in those of a coordinate
    )
    result = as_map(result.transpose(..., "y", "x"), embedding, np.nan).rename("change")
    result.attrs = {
        "long_name": "change of the embedding: one less the cosine similarity",
        "units": "1",
        **_read_dates(embedding, other),
        **model_attrs(embedding),
    }
    return _add_valid_fraction(result, embedding, other)


def _align(embedding: xr.DataArray, other: xr.DataArray) -> xr.DataArray:
    # `other` with the very coordinates of the embedding, its rows and columns in the same order.
    ours, theirs = crs_of(embedding), crs_of(other)
    if ours != theirs:
        raise _explain_grid(f"the CRS {_name_crs(theirs)}", _name_crs(ours))
    for dim in ("y", "x"):
        n_here, n_there = embedding.sizes[dim], other.sizes[dim]
        if n_here != n_there:
            raise _explain_grid(f"{n_there} cells along {dim}", str(n_here))
        if dim not in embedding.coords or dim not in other.coords:
            continue
        wanted = embedding[dim].values.astype(np.float64)
        found = other[dim].values
        if wanted.shape != found.shape and wanted.ndim + found.ndim > 2:
            raise _explain_grid(f"one {dim} for {_count(other, dim)}", _count(embedding, dim))
        if _is_same_place(wanted, found[..., ::-1]) and not _is_same_place(wanted, found):
            other = other.isel({dim: slice(None, None, -1)})
        elif not _is_same_place(wanted, found):
            raise _explain_grid(_describe_span(dim, found), _describe_span(dim, wanted))
        other = other.assign_coords({dim: embedding[dim].variable})
    return other


def _is_same_place(wanted: np.ndarray, found: np.ndarray) -> bool:
    step = np.abs(np.diff(wanted)).min() if wanted.size > 1 else 1.0
    return bool((np.abs(wanted - found) <= _SAME_PLACE * step).all())


def _describe_span(dim: str, values: np.ndarray) -> str:
    first, last = values.flat[0], values.flat[-1]
    return f"{dim} of {values.shape[-1]} cells from {first:.12g} to {last:.12g}"


def _count(array: xr.DataArray, dim: str) -> str:
    in_front = [str(other) for other in array[dim].dims if other != dim]
    return f"each {', '.join(in_front)}" if in_front else "all images"


def _name_crs(crs: Any) -> str:
    return "none" if crs is None else str(crs.to_string())


def _explain_grid(found: str, expected: str) -> GridError:
    remedy = "Embed both from cubes on one grid, for example with cube.rio.reproject_match(...)."
    return GridError(explain(f"{found} in other", f"{expected}, as the embedding has", remedy))


def _drop_coords(other: xr.DataArray) -> xr.DataArray:
    # Only what tells its own dates, if it alone has several.
    return other.drop_vars([name for name, coord in other.coords.items() if name not in other.dims])


def _drop_conflicts(embedding: xr.DataArray, other: xr.DataArray) -> xr.DataArray:
    conflicts = [
        name
        for name, coord in embedding.coords.items()
        if name == "valid_fraction"
        or (not coord.dims and name != embedding.rio.grid_mapping and _differs(coord, name, other))
    ]
    return embedding.drop_vars(conflicts)


def _differs(coord: xr.DataArray, name: Hashable, other: xr.DataArray) -> bool:
    if name not in other.coords:
        return False
    theirs = other.coords[name].variable
    lazy = is_dask_collection(coord.variable) or is_dask_collection(theirs)
    return lazy or not coord.variable.equals(theirs)


def _read_dates(embedding: xr.DataArray, other: xr.DataArray) -> dict[str, str]:
    dates = [_read_date(array) for array in (embedding, other)]
    return dict(zip(("date_from", "date_to"), dates, strict=True)) if all(dates) else {}


def _read_date(embedding: xr.DataArray) -> str:
    time = embedding.coords.get("time")
    if time is None or time.dims or is_dask_collection(time.variable):
        return ""
    if time.dtype.kind == "M":
        return "" if np.isnat(time.values) else str(np.datetime_as_string(time.values, unit="auto"))
    value = time.item()
    return str(value.isoformat()) if hasattr(value, "isoformat") else ""


def _add_valid_fraction(
    result: xr.DataArray, embedding: xr.DataArray, other: xr.DataArray
) -> xr.DataArray:
    if "valid_fraction" not in embedding.coords or "valid_fraction" not in other.coords:
        return result
    ours, theirs = (array["valid_fraction"].variable for array in (embedding, other))
    lesser: Any = np.minimum(ours, theirs)  # a Variable, as both are
    lesser = lesser.transpose(..., "y", "x")
    lesser.attrs = {"long_name": "lesser share of valid pixels in both footprints", "units": "1"}
    return result.assign_coords(valid_fraction=lesser)
