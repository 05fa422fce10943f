"""Accuracy on places that were not learned from.

Neighbouring patches look alike: a score on points next to those that were learned from says little
of other places. So points are grouped into fold squares, and folds are made of whole squares, as
Roberts et al. (2017), "Cross-validation strategies for data with temporal, spatial, hierarchical,
or phylogenetic structure", Ecography 40, 913-929, advise.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xr_terramind.errors import explain, warn
from xr_terramind.result.cells import cell_borders

MAX_FOLDS = 5

SQUARES_ACROSS = 5
"""Fold squares along the larger extent of the points: up to 25 of them in all."""

MIN_SQUARE_PATCHES = 2

CV_SCHEME = "folds of whole square blocks (stratified by class), accuracy on blocks left out"


@dataclass(frozen=True)
class Examples:
    """What is learned from: rows of vectors, several per point where there are several dates.

    Attributes
    ----------
    vectors : ndarray of float32, shape (example, feature)
        Without NaN.
    labels : ndarray of str or int, shape (example,)
    rows, cols : ndarray of int, shape (example,)
        Of the grid.
    n_points : int
    """

    vectors: np.ndarray
    labels: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    n_points: int

    @property
    def classes(self) -> np.ndarray:
        """The labels, each once and in order."""
        return np.unique(self.labels)


def cross_validate(
    estimator: Any, embedding: xr.DataArray, examples: Examples, seed: int
) -> dict[str, Any]:
    """Score copies of a scikit-learn classifier on fold squares that it has not learned from.

    Returns ``cv_scheme``, ``cv_blocks``, ``cv_block_size`` and ``cv_folds``; and ``cv_accuracy``
    and ``cv_accuracy_std`` where there are two folds at least, otherwise after a warning.
    """
    from sklearn.base import clone

    squares, edge = _find_squares(embedding, examples)
    attrs: dict[str, Any] = {
        "cv_scheme": CV_SCHEME,
        "cv_blocks": len(np.unique(squares)),
        "cv_block_size": edge,
    }
    folds = _make_folds(examples, squares, seed)
    if len(folds) < 2:
        _warn_no_score(examples, squares, edge)
        return {**attrs, "cv_folds": 0}
    scores = []
    for train, test in folds:
        fitted = clone(estimator).fit(examples.vectors[train], examples.labels[train])
        scores.append(np.mean(fitted.predict(examples.vectors[test]) == examples.labels[test]))
    return {
        **attrs,
        "cv_folds": len(folds),
        "cv_accuracy": float(np.mean(scores)),
        "cv_accuracy_std": float(np.std(scores)),
    }


def _find_squares(embedding: xr.DataArray, examples: Examples) -> tuple[np.ndarray, float]:
    # By the centres of patches, so that points of one patch share their square.
    centres, patches = [], []
    for dim, index in (("y", examples.rows), ("x", examples.cols)):
        borders = cell_borders(embedding, dim)
        centres.append(((borders[:-1] + borders[1:]) / 2)[index])
        patches.append(np.abs(np.diff(borders)).max())
    places = np.stack(centres, axis=1)
    extent = np.ptp(places, axis=0).max() + max(patches)
    edge = float(max(extent / SQUARES_ACROSS, MIN_SQUARE_PATCHES * max(patches)))
    first = places.min(axis=0) - np.array(patches) / 2
    row, col = np.floor((places - first) / edge).astype(np.int64).T
    return row * (col.max() + 1) + col, edge


def _make_folds(
    examples: Examples, squares: np.ndarray, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedGroupKFold

    n_folds = min(MAX_FOLDS, *_count_squares(examples, squares).values())
    if n_folds < 2:
        return []
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    n_classes = len(examples.classes)
    return [
        (train, test)
        for train, test in folds.split(examples.vectors, examples.labels, squares)
        if test.size and len(np.unique(examples.labels[train])) == n_classes
    ]


def _count_squares(examples: Examples, squares: np.ndarray) -> dict[str, int]:
    # Of each class.
    return {
        str(name): len(np.unique(squares[examples.labels == name])) for name in examples.classes
    }


def _warn_no_score(examples: Examples, squares: np.ndarray, edge: float) -> None:
    counts = _count_squares(examples, squares)
    rarest = min(counts, key=lambda name: counts[name])
    warn(
        explain(
            f"points of class {rarest!r} in {counts[rarest]} of {len(np.unique(squares))} blocks "
            f"with an edge of {edge:g}, which make no two folds",
            "each class in several places, some to learn from and some to test on",
            "The map has no cross-validated accuracy; add points elsewhere.",
        )
    )
