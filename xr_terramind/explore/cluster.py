"""Embeddings -> groups of patches that look alike: k-means."""

import operator
import warnings
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from xr_terramind.errors import EngineError, GridError, explain
from xr_terramind.explore.vectors import map_vectors, model_attrs, name_classes, sample_vectors
from xr_terramind.result.check import check_grid

NO_CLUSTER = -1
"""Label of cells without an embedding."""

_STARTS = 10  # k-means ends in the optimum next to where it starts; the best of ten is kept


def cluster(embedding: xr.DataArray, n: int, *, seed: int = 0) -> xr.DataArray:
    """Group patches whose vectors are alike: k-means, fitted on a sample of the cells.

    Parameters
    ----------
    embedding : xarray.DataArray
        Dims feature, y, x and perhaps time. Of a lazy one, chunks with a cell of the sample are
        computed.
    n : int
        Number of clusters, from 2.
    seed : int, default 0
        The same seed gives the same labels.

    Returns
    -------
    xarray.DataArray
        int16 labels, dims ``([time,] y, x)``: 0 for the largest cluster of the sample that was
        fitted, and so on, the same for all dates; -1 where the embedding is NaN. The coordinate
        ``category`` names them cell by cell, ``flag_values`` and ``flag_meanings`` as CF has it.
        Nodata stands in the attribute ``nodata``, not in ``_FillValue``: xarray would turn labels
        into floats when it reads them back. Lazy where the embedding is, once the clusters are
        fitted.

    Raises
    ------
    GridError
        Where there is no grid, or fewer than `n` different vectors.
    EngineError
        For an `n` that is no whole number from 2.
    """
    check_grid(embedding)
    n = _check_number(n)
    centres = _fit_centres(sample_vectors(embedding, n, seed), n, seed)
    labels = map_vectors(
        partial(_find_nearest, centres=centres), embedding, fill=NO_CLUSTER, dtype=np.int16
    ).rename("cluster")
    labels.attrs = {
        "long_name": "cluster of the embedding",
        "flag_values": list(range(n)),
        "flag_meanings": " ".join(f"cluster_{label}" for label in range(n)),
        "nodata": NO_CLUSTER,
        "n_clusters": n,
        "seed": seed,
        **model_attrs(embedding),
    }
    return name_classes(labels, [f"cluster {label}" for label in range(n)])


def _check_number(n: Any) -> int:
    try:
        number = operator.index(n)
    except TypeError:
        number = 0
    if number < 2:
        remedy = "Say how many groups the map should show, for example n=6."
        raise EngineError(explain(f"n={n!r} clusters", "a whole number from 2", remedy))
    return number


def _fit_centres(vectors: np.ndarray, n: int, seed: int) -> np.ndarray:
    # (cell, feature) -> (cluster, feature), the largest cluster first
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # too few vectors: an error below
        fitted = KMeans(n, n_init=_STARTS, random_state=seed).fit(vectors)
    labels, first, size = np.unique(fitted.labels_, return_index=True, return_counts=True)
    if len(labels) < n:
        found = f"{len(labels)} different vectors"
        remedy = f"Pass n={max(len(labels), 2)} at most, or a larger extent."
        raise GridError(explain(found, f"{n} at least, one per cluster", remedy))
    centres: np.ndarray = fitted.cluster_centers_[np.lexsort((first, -size))]
    return centres


def _find_nearest(rows: np.ndarray, *, centres: np.ndarray) -> np.ndarray:
    # (cell, feature) -> (cell,)
    from sklearn.metrics import pairwise_distances_argmin

    nearest: np.ndarray = pairwise_distances_argmin(rows, centres)
    return nearest
