"""Embeddings -> how alike all places are to one: cosines, of -1 to 1."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr
from dask.base import is_dask_collection
from pyproj import Transformer
from pyproj.exceptions import CRSError

from xr_terramind.cube.geometry import crs_of
from xr_terramind.errors import GridError, explain
from xr_terramind.explore.cosines import check_comparable, check_shared_dims, cosines
from xr_terramind.explore.vectors import as_map, has_data, model_attrs
from xr_terramind.result.cells import cell_borders, cells_at, whole_vectors
from xr_terramind.result.check import check_grid, check_one_grid

_PLACE = "place"


def similarity(
    embedding: xr.DataArray, vector: Any = None, *, x: Any = None, y: Any = None, crs: Any = None
) -> xr.DataArray:
    """Map how alike all places are to one: the cosine of their vectors.

    Parameters
    ----------
    embedding : xarray.DataArray
        Dims feature, y, x and perhaps time.
    vector : array, shape (feature,) or (place, feature), optional
        What to compare with; a DataArray with feature and perhaps one more dim keeps its
        coordinates. Dims that the embedding has, too, such as ``time``, are compared label by
        label.
    x, y : float or sequence of float, optional
        The place, or several, in place of `vector`: the vector of the patch that holds it, of
        each date where there are several.
    crs : any that pyproj reads, optional
        Of `x` and `y`, for example ``"EPSG:4326"`` for longitudes and latitudes; the
        embedding's own where it is left out.

    Returns
    -------
    xarray.DataArray
        float32, -1 to 1, dims ``([place,] [time,] y, x)`` with ``place_x`` and ``place_y`` in the
        embedding's CRS. NaN where the embedding is, or a vector has no length: all over the map
        where the place is on a lazy embedding's patch without data. Several places or vectors give
        the dim ``place``. Lazy where the embedding is.

    Raises
    ------
    GridError
        For a place outside the grid, or, where the embedding is in memory, in a patch without
        data; for vectors of another length or model; for neither place nor vector, or both.
    """
    check_grid(embedding)
    if (vector is None) == (x is None and y is None):
        found = "neither a vector nor a place" if vector is None else "both a vector and a place"
        remedy = "Pass a vector, or x=... and y=... (and their crs=...)."
        raise GridError(explain(found, "one of the two", remedy))
    if vector is None:
        check_one_grid(embedding)
        references = _pick_places(embedding, x, y, crs)
        what = "place"
    else:
        references = _check_vector(embedding, vector)
        what = "given vector"
    result = _compare(embedding, references).rename("similarity")
    result.attrs = {
        "long_name": f"cosine similarity to the {what}",
        "units": "1",
        **model_attrs(embedding),
    }
    return result


def _compare(embedding: xr.DataArray, references: xr.DataArray) -> xr.DataArray:
    new_dims = [dim for dim in references.dims if dim not in embedding.dims]
    dim = new_dims[0] if new_dims else _name_places(embedding)
    if not new_dims:
        references = references.expand_dims(dim)
    if references.chunks is not None:
        references = references.chunk({dim: -1})
    found = xr.apply_ufunc(
        cosines,
        whole_vectors(embedding.transpose(..., "y", "x")),
        whole_vectors(references),
        input_core_dims=[["feature"], [dim, "feature"]],
        output_core_dims=[[dim]],
        dask="parallelized",
        output_dtypes=[np.float32],
        keep_attrs=True,  # the CRS stands in those of a coordinate
    )
    found = as_map(found.transpose(dim, ..., "y", "x"), embedding, np.nan)
    return found if new_dims else found.isel({dim: 0})


def _pick_places(embedding: xr.DataArray, x: Any, y: Any, crs: Any) -> xr.DataArray:
    # ([place,] [time,] feature), lazy where the embedding is: one cell per place is computed
    xs, ys, is_one = _read_places(x, y)
    own_xs, own_ys = _project_places(embedding, xs, ys, crs)
    rows, cols, inside = cells_at(embedding, own_xs, own_ys)
    if not inside.all():
        first = int(np.argmin(inside))
        place, own = (xs[first], ys[first]), (own_xs[first], own_ys[first])
        raise _explain_outside(embedding, place, own, crs)
    new = _name_places(embedding)
    cells = {"y": xr.Variable(new, rows), "x": xr.Variable(new, cols)}
    vectors = embedding.variable.isel(cells).transpose(new, ..., "feature")
    if not is_dask_collection(embedding.variable):
        _check_data(vectors, new, xs, ys)
    about = "of the place, in the embedding's CRS"
    references = xr.DataArray(
        vectors,
        coords={
            "place_x": (new, own_xs, {"long_name": f"x {about}"}),
            "place_y": (new, own_ys, {"long_name": f"y {about}"}),
        },
    )
    return references.isel({new: 0}) if is_one else references


def _name_places(embedding: xr.DataArray) -> str:
    # The embedding of a cube of many places may have that dimension itself.
    return _PLACE if _PLACE not in embedding.dims else f"{_PLACE}_compared"


def _read_places(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray, bool]:
    expected = "one number each, or as many of x as of y"
    if x is None or y is None:
        found = f"{'y' if x is None else 'x'} without {'x' if x is None else 'y'}"
        raise GridError(explain(found, "both", "Pass x=... and y=...."))
    try:
        xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    except (TypeError, ValueError) as error:
        found = f"x={x!r} and y={y!r}"
        raise GridError(explain(found, expected, "Pass numbers.")) from error
    if xs.shape != ys.shape or xs.ndim > 1 or not xs.size:
        found = f"x of shape {xs.shape} and y of shape {ys.shape}"
        raise GridError(explain(found, expected, "Pass two flat sequences of one length."))
    return np.atleast_1d(xs), np.atleast_1d(ys), xs.ndim == 0


def _project_places(
    embedding: xr.DataArray, xs: np.ndarray, ys: np.ndarray, crs: Any
) -> tuple[np.ndarray, np.ndarray]:
    if crs is None:
        return xs, ys
    own = crs_of(embedding)
    if own is None:
        found = f"crs={crs!r} for an embedding without a CRS"
        remedy = "Leave crs out, or write the embedding's with embedding.rio.write_crs(...)."
        raise GridError(explain(found, "places in the embedding's own coordinates", remedy))
    try:
        transformer = Transformer.from_crs(crs, own.to_wkt(), always_xy=True)
    except CRSError as error:
        found = f"crs={crs!r}, which pyproj does not read ({error})"
        remedy = 'For longitudes and latitudes pass crs="EPSG:4326".'
        raise GridError(explain(found, "the CRS of x and y", remedy)) from error
    own_xs, own_ys = transformer.transform(xs, ys)
    return np.asarray(own_xs), np.asarray(own_ys)


def _explain_outside(
    embedding: xr.DataArray, place: tuple[float, float], own: tuple[float, float], crs: Any
) -> GridError:
    x_borders, y_borders = cell_borders(embedding, "x"), cell_borders(embedding, "y")
    there = f", which is ({own[0]:.12g}, {own[1]:.12g}) in the embedding's CRS" if crs else ""
    return GridError(
        explain(
            f"the place ({place[0]:.12g}, {place[1]:.12g}){there}, outside the grid",
            f"x from {x_borders.min():.12g} to {x_borders.max():.12g} and y from "
            f"{y_borders.min():.12g} to {y_borders.max():.12g}",
            "Pass a place inside, or say which CRS x and y are in: "
            'crs="EPSG:4326" for longitudes and latitudes.',
        )
    )


def _check_data(vectors: xr.Variable, new: str, xs: np.ndarray, ys: np.ndarray) -> None:
    seen = has_data(vectors)
    seen = seen.any([dim for dim in seen.dims if dim != new]).values
    if not seen.all():
        first = int(np.argmin(seen))
        found = f"the place ({xs[first]:.12g}, {ys[first]:.12g}) in a patch without data"
        remedy = "Choose another: valid_fraction is above 0 where there is data."
        raise GridError(explain(found, "one with an embedding", remedy))


def _check_vector(embedding: xr.DataArray, vector: Any) -> xr.DataArray:
    # (feature,) or (place, feature), with coordinates along its own dim only
    if not isinstance(vector, xr.DataArray):
        values = vector if is_dask_collection(vector) else np.asarray(vector)
        dims = (
            (_name_places(embedding), "feature")[-values.ndim :] if values.ndim in (1, 2) else None
        )
        if dims is None:
            raise _explain_shape(embedding, f"a vector of shape {values.shape}")
        vector = xr.DataArray(values, dims=dims)
    own_dims = [dim for dim in vector.dims if dim != "feature"]
    n_new = len(set(own_dims) - set(embedding.dims))
    if "feature" not in vector.dims or n_new > 1 or {"y", "x"} & set(own_dims):
        raise _explain_shape(embedding, f"a vector of dimensions {vector.dims}")
    if vector.sizes["feature"] != embedding.sizes["feature"]:
        raise _explain_shape(embedding, f"a vector of {vector.sizes['feature']} features")
    if vector.dtype.kind not in "fiu":
        raise _explain_shape(embedding, f"a vector of {vector.dtype}")
    check_comparable(embedding, vector, "vector")
    check_shared_dims(embedding, vector)
    coords = {
        _rename_place(name): coord.variable
        for name, coord in vector.coords.items()
        if coord.dims and set(coord.dims) <= set(own_dims)
    }
    bare = xr.DataArray(vector.variable)
    return bare.assign_coords(
        {n: coord for n, coord in coords.items() if n in own_dims or n not in embedding.coords}
    )


def _rename_place(name: Hashable) -> Hashable:
    # Vectors that were picked with embedding.isel(x=points, y=points) know where.
    return {"x": "place_x", "y": "place_y"}.get(str(name), name)


def _explain_shape(embedding: xr.DataArray, found: str) -> GridError:
    n_features = embedding.sizes["feature"]
    expected = (
        f"numbers of shape ({n_features},) or (place, {n_features}), or a DataArray with the "
        "dimension feature and one more at most, neither y nor x"
    )
    return GridError(explain(found, expected, "Take it from the same kind of embedding."))
