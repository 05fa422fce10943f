"""Embeddings -> pictures: the strongest directions of the features as red, green and blue.

Fitting and drawing are two steps. What was fitted, a basis, is a small Dataset: the same vector has
the same colour wherever the same basis is used.
"""

from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from xr_terramind.errors import EngineError, GridError, did_you_mean, explain, warn
from xr_terramind.explore.vectors import map_vectors, model_attrs, same_features, sample_vectors
from xr_terramind.result.check import check_grid

_COLOURS = ("red", "green", "blue")
_DIMS = {
    "mean": ("feature",),
    "components": ("rgb", "feature"),
    "low": ("rgb",),
    "high": ("rgb",),
}
_METHOD = "pca"
_ROBUST_PERCENT = 2.0
_FLAT = 1e-5  # of the widest colour's range: what float32 makes of a direction without variance


def rgb_basis(embedding: xr.DataArray, *, robust: bool = True, seed: int = 0) -> xr.Dataset:
    """Fit the colours that `to_rgb` shows, to keep them and use them for other scenes.

    Parameters
    ----------
    embedding : xarray.DataArray
        Dims feature, y, x and perhaps time: all dates are fitted together. Of a lazy one, chunks
        with a cell of the sample are computed.
    robust : bool, default True
        Stretch each colour from its 2nd to its 98th percentile instead of its extremes.
    seed : int, default 0
        Chooses the cells that the principal components are fitted on, where there are many.

    Returns
    -------
    xarray.Dataset
        float32: ``mean`` (feature), ``components`` (rgb, feature), ``low`` and ``high`` (rgb); it
        can be written to any file.

    Raises
    ------
    GridError
        Where there is no grid, or fewer than three features or cells with an embedding.
    """
    check_grid(embedding)
    if embedding.sizes["feature"] < len(_COLOURS):
        found = f"vectors of {embedding.sizes['feature']} features"
        expected = "three at least, one per colour"
        raise GridError(explain(found, expected, "Keep the dimension 'feature' whole."))
    vectors = sample_vectors(embedding, len(_COLOURS), seed)
    mean, components, projected = _fit_components(vectors.astype(np.float64), seed)
    percent = (_ROBUST_PERCENT, 100 - _ROBUST_PERCENT) if robust else (0, 100)
    low, high = np.percentile(projected, percent, axis=0)
    values = {"mean": mean, "components": components, "low": low, "high": high}
    basis = xr.Dataset(
        {name: (_DIMS[name], value.astype(np.float32)) for name, value in values.items()},
        # Objects are what Zarr has a specification for; NumPy's strings of fixed width are not.
        coords={"rgb": np.array(_COLOURS, object)},
        attrs={
            "long_name": "principal components of an embedding, for red, green and blue",
            "method": _METHOD,
            "robust": int(robust),
            "n_cells": len(vectors),
            **model_attrs(embedding),
        },
    )
    basis["low"].attrs["long_name"] = "projection that is drawn as 0"
    basis["high"].attrs["long_name"] = "projection that is drawn as 1"
    if "feature" in embedding.coords:
        basis = basis.assign_coords(feature=embedding["feature"].variable)
    return basis


def to_rgb(
    embedding: xr.DataArray,
    method: str = _METHOD,
    *,
    basis: xr.Dataset | None = None,
    robust: bool = True,
    seed: int = 0,
) -> xr.DataArray:
    """Show the three strongest directions of an embedding as red, green and blue.

    Parameters
    ----------
    embedding : xarray.DataArray
        Dims feature, y, x and perhaps time.
    method : {"pca"}, default "pca"
        Principal components of the features.
    basis : xarray.Dataset, optional
        From `rgb_basis`: the same vector has the same colour in every scene. Without it one is
        fitted on a sample of the cells, for which those of a lazy embedding are computed.
    robust : bool, default True
        Stretch from the 2nd to the 98th percentile; a basis has its own stretch.
    seed : int, default 0
        As for `rgb_basis`.

    Returns
    -------
    xarray.DataArray
        Dims ``([time,] y, x, rgb)``, float32 from 0 to 1, NaN where the embedding is; a colour
        whose direction has no variance is 0.5 everywhere. Lazy where the embedding is.
        ``.plot.imshow(rgb="rgb")`` draws it.

    Raises
    ------
    GridError
        Where there is no grid, fewer than three cells with an embedding, or a basis of other
        features.
    EngineError
        For another method.

    Warns
    -----
    TerraMindWarning
        For a basis of another model or layer.
    """
    check_grid(embedding)
    if method != _METHOD:
        remedy = f"Leave it out.{did_you_mean(str(method), [_METHOD])}"
        raise EngineError(explain(f"method={method!r}", f"{_METHOD!r}", remedy))
    if basis is None:
        basis = rgb_basis(embedding, robust=robust, seed=seed)
    else:
        _check_basis(basis, embedding)
    numbers = {
        name: basis[name].transpose(*dims).values.astype(np.float32) for name, dims in _DIMS.items()
    }
    colours = map_vectors(
        partial(_stretch, **numbers),
        embedding,
        fill=np.nan,
        dtype=np.float32,
        into={"rgb": list(_COLOURS)},
    ).rename(_METHOD)
    colours.attrs = {"long_name": "principal components of the embedding", **model_attrs(embedding)}
    return colours


def _fit_components(vectors: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # (cell, feature) -> mean (feature,), components (rgb, feature), projections (cell, rgb)
    from sklearn.decomposition import PCA

    with np.errstate(invalid="ignore"):  # shares of the variance, where there is none
        fitted = PCA(n_components=len(_COLOURS), random_state=seed).fit(vectors)
    return fitted.mean_, fitted.components_, fitted.transform(vectors)


def _stretch(
    rows: np.ndarray, *, mean: np.ndarray, components: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    # (cell, feature) -> (cell, rgb)
    projected = (rows - mean) @ components.T
    spread = high - low
    flat = spread <= _FLAT * spread.max()
    stretched = (projected - low) / np.where(flat, 1, spread)
    return np.where(flat, np.float32(0.5), np.clip(stretched, 0, 1))


def _check_basis(basis: Any, embedding: xr.DataArray) -> None:
    found = _find_misfit(basis, embedding)
    if found:
        raise GridError(
            explain(
                found,
                f"a Dataset with {', '.join(_DIMS)} for the {embedding.sizes['feature']} features "
                "of the embedding",
                "Pass what rgb_basis() returned for an embedding of the same model.",
            )
        )
    for name in ("model_key", "layer_index"):
        theirs, ours = basis.attrs.get(name), embedding.attrs.get(name)
        if None not in (theirs, ours) and theirs != ours:
            warn(
                explain(
                    f"a basis of {name} {theirs}",
                    f"{ours}, as the embedding has",
                    "Its colours mean nothing here: fit a basis on an embedding of this model.",
                )
            )


def _find_misfit(basis: Any, embedding: xr.DataArray) -> str:
    if not isinstance(basis, xr.Dataset):
        return f"a basis that is a {type(basis).__name__}"
    if missing := [name for name in _DIMS if name not in basis.variables]:
        return f"a basis without {', '.join(missing)}"
    for name, dims in _DIMS.items():
        if set(basis[name].dims) != set(dims):
            return f"a basis with {name} of dimensions {basis[name].dims}"
    if basis.sizes["rgb"] != len(_COLOURS):
        return f"a basis of {basis.sizes['rgb']} colours"
    if basis.sizes["feature"] != embedding.sizes["feature"]:
        return f"a basis of {basis.sizes['feature']} features"
    if not same_features(basis, embedding):
        return "a basis of other features"
    return ""
