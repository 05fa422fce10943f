"""Embeddings as rows of vectors, and rows as maps again: lazily where the embedding is lazy.

What runs on vectors is a plain function of rows, (cell, feature) -> (cell,) or (cell, value). It
sees no NaN, and cells without an embedding come out as the fill value.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from xr_terramind.errors import GridError, explain

MAX_SAMPLE = 20_000
"""Cells that colours and clusters are fitted on: more change neither visibly."""

VectorFunction = Callable[[np.ndarray], np.ndarray]


def check_grid(embedding: Any, *, with_crs: bool = False) -> None:
    """Refuse what is no grid of vectors.

    Parameters
    ----------
    embedding : object
    with_crs : bool, default False
        Ask for a CRS, too.

    Raises
    ------
    GridError
        For anything but floats with the dims feature, y and x.
    """
    is_array = isinstance(embedding, xr.DataArray)
    if not is_array or not {"feature", "y", "x"} <= set(embedding.dims):
        raise GridError(
            explain(
                f"dimensions {tuple(embedding.dims)}",
                "an embedding with feature, y and x",
                "Use embed(output='grid') or embed(output='windows').",
            )
        )
    if embedding.dtype.kind != "f":
        raise GridError(
            explain(
                f"an embedding of {embedding.dtype}",
                "floats",
                "Turn int8 into floats first, with ds.terramind.dequantize().",
            )
        )
    if with_crs and embedding.rio.crs is None:
        raise GridError(
            explain(
                "an embedding without a CRS",
                "one that says where its patches lie",
                "Write it with embedding.rio.write_crs(...).",
            )
        )


def sample_vectors(embedding: xr.DataArray, n_least: int, seed: int) -> np.ndarray:
    """Choose cells at random and compute their vectors.

    Which cells depends on the shape and the seed, not on chunks. Of a lazy embedding all chunks
    with such a cell are computed, but only their vectors are kept.

    Parameters
    ----------
    embedding : xarray.DataArray
        Dims feature, y, x and perhaps others.
    n_least : int
        Cells with an embedding that are needed.
    seed : int

    Returns
    -------
    ndarray of float32, shape (cell, feature)
        At most `MAX_SAMPLE`, without NaN, in the order of the grid.

    Raises
    ------
    GridError
        Where there are fewer than `n_least`.
    """
    dims = [dim for dim in embedding.dims if dim != "feature"]
    shape = tuple(embedding.sizes[dim] for dim in dims)
    n_cells = int(np.prod(shape))
    chosen = np.arange(n_cells)
    if n_cells > MAX_SAMPLE:
        generator = np.random.default_rng(seed)
        chosen = np.sort(generator.choice(n_cells, MAX_SAMPLE, replace=False, shuffle=False))
    places = {
        dim: xr.Variable("cell", index)
        for dim, index in zip(dims, np.unravel_index(chosen, shape), strict=True)
    }
    picked = embedding.variable.isel(places).transpose("cell", "feature")
    vectors = np.asarray(picked.values, np.float32)
    vectors = vectors[np.isfinite(vectors).all(axis=1)]
    if len(vectors) < n_least:
        raise GridError(
            explain(
                f"{len(vectors)} cells that are not NaN",
                f"{n_least} at least",
                "Look at valid_fraction: the source may be all nodata.",
            )
        )
    return vectors


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
        Dims ``([time,] feature, y, x)``.
    fill : float
        What cells without an embedding hold.
    dtype : type
        Of the result.
    into : mapping of one dim to its labels, optional
        The dim that takes the place of ``feature``; it comes last.

    Returns
    -------
    xarray.DataArray
        Dims ``([time,] y, x[, value])`` with the embedding's coordinates and encoding of its CRS,
        without its attrs; lazy where the embedding is, in its chunks.
    """
    new = dict(into or {})
    if embedding.chunks is not None:
        embedding = embedding.chunk({"feature": -1})
    sizes = {dim: len(labels) for dim, labels in new.items()}
    result: xr.DataArray = xr.apply_ufunc(
        _on_rows,
        embedding,
        kwargs={"function": function, "fill": fill, "dtype": dtype, "shape": tuple(sizes.values())},
        input_core_dims=[["feature"]],
        output_core_dims=[list(new)],
        dask="parallelized",
        output_dtypes=[dtype],
        dask_gufunc_kwargs={"output_sizes": sizes},
        keep_attrs=True,  # the CRS stands in those of a coordinate
    )
    result.attrs = {}
    mapping = embedding.encoding.get("grid_mapping")
    if mapping is not None:
        result.encoding["grid_mapping"] = mapping
    return result.assign_coords(new)


def _on_rows(
    values: np.ndarray,
    *,
    function: VectorFunction,
    fill: float,
    dtype: type[np.generic],
    shape: tuple[int, ...],
) -> np.ndarray:
    # (..., feature) -> (..., *shape)
    rows = values.reshape(-1, values.shape[-1])
    seen = np.isfinite(rows).all(axis=1)
    out = np.full((len(rows), *shape), fill, dtype)
    if seen.any():
        out[seen] = function(np.ascontiguousarray(rows[seen], np.float32))
    return out.reshape(*values.shape[:-1], *shape)
