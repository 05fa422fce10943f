"""Embeddings as rows of vectors, and rows as maps again: lazily where the embedding is lazy.

What runs on vectors is a plain function of rows, (cell, feature) -> (cell,) or (cell, value). It
sees no NaN, and cells without an embedding come out as the fill value.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from xarray.coding.strings import create_vlen_dtype

from xr_terramind.errors import GridError, explain
from xr_terramind.result.cells import whole_vectors
from xr_terramind.result.grid import keep_encoding

MAX_SAMPLE = 20_000
"""Cells that colours and clusters are fitted on: more change neither visibly."""

MODEL_ATTRS = ("model_key", "modality", "layer_index", "normalization")
"""Attributes that say what the features mean."""

_CELL = "cell of the sample"  # no name that a dimension has

_PART_NUMBERS = 2**24  # 64 MiB of float32

VectorFunction = Callable[[np.ndarray], np.ndarray]


def sample_vectors(embedding: xr.DataArray, n_least: int, seed: int) -> np.ndarray:
    """Choose cells at random and compute their vectors: float32 (cell, feature), without NaN.

    Which cells depends on the shape and the seed, not on chunks or the order of y, x and feature.
    Of a lazy embedding all chunks with such a cell are computed, but only their vectors are kept.
    There are at most `MAX_SAMPLE`, in the order of the grid; fewer than `n_least` are a
    `GridError`.
    """
    cells = embedding.variable.transpose(..., "y", "x", "feature")
    n_cells = int(np.prod(cells.shape[:-1]))
    generator = np.random.default_rng(seed)
    vectors = _compute_some(cells, np.arange(n_cells), generator)
    if len(vectors) < n_least and n_cells > MAX_SAMPLE:
        # Data may lie in so few cells that the sample missed them: now all are looked at.
        vectors = _compute_some(cells, np.flatnonzero(has_data(cells)), generator)
    if len(vectors) < n_least:
        found = f"{len(vectors)} cells that are not NaN"
        remedy = "Look at valid_fraction: the source may be all nodata."
        raise GridError(explain(found, f"{n_least} at least", remedy))
    return vectors


def _compute_some(
    cells: xr.Variable, candidates: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    # (..., feature) and flat indices of cells -> (cell, feature)
    if len(candidates) > MAX_SAMPLE:
        candidates = generator.choice(candidates, MAX_SAMPLE, replace=False, shuffle=False)
    indices = np.unravel_index(np.sort(candidates), cells.shape[:-1])
    places = {
        dim: xr.Variable(_CELL, index) for dim, index in zip(cells.dims[:-1], indices, strict=True)
    }
    vectors = np.asarray(cells.isel(places).transpose(_CELL, "feature").values, np.float32)
    return vectors[np.isfinite(vectors).all(axis=1)]


def map_vectors(
    function: VectorFunction,
    embedding: xr.DataArray,
    *,
    fill: float,
    dtype: type[np.generic],
    into: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Run a function on the vectors of all cells.

    Parameters
    ----------
    function : callable
        Of float32 rows without NaN, (cell, feature), to (cell,); or to (cell, value) with `into`.
    embedding : xarray.DataArray
        Dims feature, y, x and perhaps others, in any order.
    fill : float
        What cells without an embedding hold.
    dtype : type
        Of the result.
    into : mapping of one dim to its labels, optional
        The dim that takes the place of ``feature``; it comes last. Labels that are strings become
        objects, which is how Zarr keeps them.

    Returns
    -------
    xarray.DataArray
        Dims ``([time,] y, x[, value])``, as `as_map` returns it; in the chunks of a lazy embedding.
    """
    new = {dim: _as_objects(labels) for dim, labels in (into or {}).items()}
    embedding = whole_vectors(embedding.transpose(..., "feature", "y", "x"))
    sizes = {dim: len(labels) for dim, labels in new.items()}
    result: xr.DataArray = xr.apply_ufunc(
        _apply_to_rows,
        embedding,
        kwargs={"function": function, "fill": fill, "dtype": dtype, "shape": tuple(sizes.values())},
        input_core_dims=[["feature"]],
        output_core_dims=[list(new)],
        dask="parallelized",
        output_dtypes=[dtype],
        dask_gufunc_kwargs={"output_sizes": sizes},
        keep_attrs=True,  # the CRS stands in those of a coordinate
    )
    return as_map(result, embedding, fill).assign_coords(new)


def as_map(result: xr.DataArray, embedding: xr.DataArray, fill: float) -> xr.DataArray:
    """Give `result`, of `xarray.apply_ufunc`, what a map needs: the CRS, and NaN as its nodata.

    Its attrs and encoding are replaced in place. NaN is nodata where it is `fill`, which cells
    without an embedding hold.
    """
    result.attrs = {}
    result.encoding = keep_encoding(embedding, "grid_mapping")
    if np.isnan(fill):
        result.encoding["_FillValue"] = np.float32(np.nan)
    return result


def has_data(vectors: xr.Variable) -> Any:
    """Say of each vector whether all its features are finite; lazy where `vectors` is."""
    return xr.apply_ufunc(np.isfinite, vectors, dask="allowed").all("feature")


def model_attrs(embedding: xr.DataArray) -> dict[str, Any]:
    """Return the attributes that say what the features mean, where they are known."""
    return {name: embedding.attrs[name] for name in MODEL_ATTRS if name in embedding.attrs}


def same_features(one: xr.DataArray | xr.Dataset, other: xr.DataArray | xr.Dataset) -> bool:
    """Say whether features are labelled alike, where both are labelled."""
    labels = [obj.coords["feature"].values for obj in (one, other) if "feature" in obj.coords]
    return len(labels) < 2 or bool(np.array_equal(labels[0], labels[1]))


def name_classes(labels: xr.DataArray, names: Sequence[str]) -> xr.DataArray:
    """Write out the classes of a map of labels, as the coordinate ``category``.

    Strings with the same dims, lazy where `labels` is, which NetCDF and Zarr take as they are.
    Label 0 is the first name, and so on; -1, which is no class, is ``""``.
    """
    # Objects marked as strings: NumPy's own fixed width has no specification in Zarr 3, and lazy
    # objects without the mark are computed to find out what they are.
    dtype = create_vlen_dtype(str)
    lookup = np.array([*names, ""], dtype)  # -1 is the last
    category = xr.apply_ufunc(
        _look_up,
        labels.drop_vars(labels.coords),
        kwargs={"names": lookup},
        dask="parallelized",
        output_dtypes=[dtype],
    )
    category.attrs = {"long_name": "name of the class"}
    return labels.assign_coords(category=category)


def _look_up(labels: np.ndarray, *, names: np.ndarray) -> np.ndarray:
    return names[labels]


def _as_objects(labels: Any) -> Any:
    values = np.asarray(labels)
    return values.astype(object) if values.dtype.kind == "U" else labels


def _apply_to_rows(
    values: np.ndarray,
    *,
    function: VectorFunction,
    fill: float,
    dtype: type[np.generic],
    shape: tuple[int, ...],
) -> np.ndarray:
    # (..., feature) -> (..., *shape), part by part: rows are a copy, and functions make more
    out = np.empty((*values.shape[:-1], *shape), dtype)
    n_parts = -(-values.size // _PART_NUMBERS) or 1
    parts = (np.array_split(array, n_parts) for array in (values, out))
    for part, part_out in zip(*parts, strict=True):
        rows = part.reshape(-1, values.shape[-1])
        seen = np.isfinite(rows).all(axis=1)
        found = np.full((len(rows), *shape), fill, dtype)
        if seen.any():
            found[seen] = function(np.ascontiguousarray(rows[seen], np.float32))
        part_out[...] = found.reshape(part_out.shape)
    return out
