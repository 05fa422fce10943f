"""Cosines of vectors, and whether two embeddings may be compared at all."""

from typing import Any

import numpy as np
import xarray as xr

from xr_terramind.errors import GridError, explain
from xr_terramind.explore.vectors import MODEL_ATTRS, same_features

_COMPARABLE = (*MODEL_ATTRS, "weights_sha256")


def cosines(values: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Compare all vectors (..., y, x, feature) with some, ([time, 1, 1,] place, feature).

    Returns float32 (..., y, x, place), NaN where a vector is, or has no length.
    """
    values, references = (np.asarray(array, np.float32) for array in (values, references))
    # Rows of y and x at once are what matrix products are fast for.
    transposed = np.swapaxes(
        references[..., 0, :, :] if references.ndim > 2 else references, -1, -2
    )
    with np.errstate(invalid="ignore"):
        dots = values @ transposed
    return _divide(dots, _measure_lengths(values)[..., None] * _measure_lengths(references))


def one_less_cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Compare vectors (..., feature) one by one: float32 (...), 0 to 2.

    NaN where a vector is, or has no length.
    """
    one, other = (np.asarray(array, np.float32) for array in (one, other))
    with np.errstate(invalid="ignore"):
        dots = np.einsum("...f,...f->...", one, other, dtype=np.float64)
    return np.float32(1) - _divide(dots, _measure_lengths(one) * _measure_lengths(other))


def _measure_lengths(vectors: np.ndarray) -> np.ndarray:
    # Squares of float32 may be too large or too small for it.
    with np.errstate(invalid="ignore"):
        return np.sqrt(np.einsum("...f,...f->...", vectors, vectors, dtype=np.float64))


def _divide(dots: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        quotient = dots / np.where(lengths > 0, lengths, np.nan)
    return np.clip(quotient, -1, 1).astype(np.float32)


def check_comparable(embedding: xr.DataArray, other: xr.DataArray, called: str) -> None:
    """Refuse vectors whose features mean something else; the message calls `other` as `called`.

    They do where attributes, or labels along feature, stand in both and differ.
    """
    differ = [
        f"{name} {_shorten(theirs)} instead of {_shorten(ours)}"
        for name in _COMPARABLE
        if (theirs := other.attrs.get(name)) not in (None, "")
        and (ours := embedding.attrs.get(name)) not in (None, "")
        and theirs != ours
    ]
    if not differ and not same_features(other, embedding):
        differ = ["other labels along feature"]
    if differ:
        expected = "vectors of one model, modality, layer and normalization"
        remedy = "Embed both in the same way. Where the attrs are wrong, drop_attrs() drops them."
        raise GridError(explain(f"{called} with {', '.join(differ)}", expected, remedy))


def _shorten(value: Any) -> str:
    text = str(value)
    return text if len(text) < 50 else f"{text[:12]}..."


def check_shared_dims(embedding: xr.DataArray, other: xr.DataArray) -> None:
    """Refuse dimensions, such as time, that both have with other labels."""
    for dim in set(embedding.dims) & set(other.dims) - {"feature", "y", "x"}:
        same = embedding.sizes[dim] == other.sizes[dim]
        if same and dim in embedding.coords and dim in other.coords:
            same = embedding.indexes[dim].equals(other.indexes[dim])
        if not same:
            raise GridError(
                explain(
                    f"two dimensions {dim} of {embedding.sizes[dim]} and {other.sizes[dim]} labels "
                    "that are not the same",
                    f"equal labels along {dim}, or {dim} in one of both only",
                    f"Choose one to compare with: .isel({dim}=0), or the common ones with "
                    'xr.align(..., join="inner").',
                )
            )
