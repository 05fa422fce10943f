"""Embeddings -> pictures."""

from typing import Any

import numpy as np
import xarray as xr
from dask.base import compute

from xr_terramind.errors import GridError, explain

_MAX_FIT_CELLS = 20_000
_ROBUST_PERCENT = 2.0


def to_rgb(embedding: xr.DataArray, *, robust: bool = True, seed: int = 0) -> xr.DataArray:
    """Show the three strongest directions of the features as red, green and blue.

    Parameters
    ----------
    embedding : xarray.DataArray
        Dims ``([time,] feature, y, x)``. A lazy one is computed.
    robust : bool, default True
        Stretch each colour from its 2nd to its 98th percentile instead of its extremes.
    seed : int, default 0
        Chooses the cells that the principal components are fitted on, where there are many.

    Returns
    -------
    xarray.DataArray
        Dims ``([time,] y, x, rgb)``, values 0 to 1, NaN where the embedding is NaN;
        ``.plot.imshow(rgb="rgb")`` draws it.

    Raises
    ------
    GridError
        Where there is no grid, or fewer than three cells with an embedding.
    """
    if not {"feature", "y", "x"} <= set(embedding.dims):
        raise GridError(
            explain(
                f"dimensions {embedding.dims}",
                "an embedding with feature, y and x",
                "Use embed(output='grid') or embed(output='windows').",
            )
        )
    # Needs scikit-learn, which takes a second to import: only those who look pay for it.
    from sklearn.decomposition import PCA

    cells = embedding.transpose(..., "y", "x", "feature")
    (values,) = compute(cells.data)
    flat = values.reshape(-1, values.shape[-1])
    seen = ~np.isnan(flat).any(axis=1)
    if np.count_nonzero(seen) < 3:
        raise GridError(
            explain(
                f"{np.count_nonzero(seen)} cells that are not NaN",
                "three at least",
                "Look at valid_fraction: the source may be all nodata.",
            )
        )
    fitted: Any = flat[seen]
    if len(fitted) > _MAX_FIT_CELLS:
        fitted = np.random.default_rng(seed).choice(fitted, _MAX_FIT_CELLS, replace=False)
    components = np.full((len(flat), 3), np.nan, np.float32)
    components[seen] = PCA(n_components=3, random_state=seed).fit(fitted).transform(flat[seen])
    percent = (_ROBUST_PERCENT, 100 - _ROBUST_PERCENT) if robust else (0, 100)
    low, high = np.nanpercentile(components, percent, axis=0)
    colours = np.clip((components - low) / np.maximum(high - low, 1e-12), 0, 1)
    return xr.DataArray(
        colours.reshape(*values.shape[:-1], 3).astype(np.float32),
        dims=(*cells.dims[:-1], "rgb"),
        coords={
            **{name: c for name, c in embedding.coords.items() if "feature" not in c.dims},
            "rgb": ["red", "green", "blue"],
        },
        name="pca",
        attrs={"long_name": "principal components of the embedding"},
    )
