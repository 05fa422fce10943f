"""Classes learned from labelled points, mapped, and judged on places that were not learned from.

Neighbouring patches look alike: a score on points next to those that were learned from says little
of other places. So points are grouped into square blocks, and folds are made of whole blocks, as
Roberts et al. (2017), "Cross-validation strategies for data with temporal, spatial, hierarchical,
or phylogenetic structure", Ecography 40, 913-929, advise.
"""

import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xr_terramind.errors import EngineError, GridError, TerraMindWarning, did_you_mean, explain
from xr_terramind.explore.cells import check_grid, map_vectors
from xr_terramind.explore.places import cell_borders
from xr_terramind.explore.points import find_cells, import_geopandas, vectors_at

if TYPE_CHECKING:
    import geopandas as gpd

MAX_FOLDS = 5

BLOCKS_ACROSS = 5
"""Blocks along the larger extent of the points: up to 25 of them in a square."""

MIN_BLOCK_PATCHES = 2

CV_SCHEME = "folds of whole square blocks (stratified by class), accuracy on blocks left out"


@dataclass(frozen=True)
class _Examples:
    """What is learned from: rows of vectors, several a point where there are several dates."""

    vectors: np.ndarray  # (example, feature), float32 without NaN
    labels: np.ndarray  # (example,), str or int
    rows: np.ndarray  # (example,), of the grid
    cols: np.ndarray
    n_points: int

    @property
    def classes(self) -> np.ndarray:
        return np.unique(self.labels)


def classify(
    embedding: xr.DataArray,
    points: "gpd.GeoDataFrame",
    column: str,
    estimator: Any = None,
    *,
    seed: int = 0,
) -> xr.Dataset:
    """Learn classes from labelled points, and map them.

    Parameters
    ----------
    embedding : xarray.DataArray
        Dims ``([time,] feature, y, x)``. Of a lazy one, only chunks that hold points are computed.
        Of a time series, a label holds for all dates, each of which is an example to learn from.
    points : geopandas.GeoDataFrame
        In any CRS. Those outside the grid, on patches without data or without a label are left out.
    column : str
        Which of its columns holds the labels: text, whole numbers or booleans.
    estimator : scikit-learn classifier, optional
        A copy of it is fitted to the labels. By default
        ``make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))``.
    seed : int, default 0
        Of the folds, and of every ``random_state`` of the estimator that is None.

    Returns
    -------
    xarray.Dataset
        ``label``, int16 ``([time,] y, x)``: the number of the class in the coordinate ``category``,
        -1 where the embedding is NaN. ``probability``, float32 ``(category, [time,] y, x)``, where
        the estimator has ``predict_proba``. Lazy where the embedding is.

        Attrs: ``cv_accuracy`` and ``cv_accuracy_std``, mean and standard deviation over the folds;
        ``cv_folds``, at most 5, and no more than any class has blocks; ``cv_blocks``, how many
        blocks hold points; ``cv_block_size``, their edge in units of the CRS: a fifth of the larger
        extent of the points, two patches at least; ``cv_scheme``, ``n_points``, ``classes``,
        ``estimator``, ``column``. A fold that would leave a class with nothing to learn from is not
        counted; with fewer than two folds there is no accuracy, ``cv_folds`` is 0 and a warning
        says why.

    Raises
    ------
    GridError
        For an embedding without grid or CRS, points that `sample` would not take, a column that is
        missing or holds no classes, and fewer than two classes on the grid.
    EngineError
        For an estimator that is no classifier.
    ImportError
        Without geopandas.
    """
    check_grid(embedding, with_crs=True)
    _check_points(points, column)
    examples = _examples(embedding, points, column)
    unfitted = _prepared(estimator, seed)
    attrs = {
        **_cross_validate(unfitted, embedding, examples, seed),
        "n_points": examples.n_points,
        "classes": [str(name) for name in examples.classes],
        "estimator": " ".join(repr(unfitted).split()),
        "column": str(column),
    }
    fitted = unfitted.fit(examples.vectors, examples.labels)
    return _mapped(fitted, embedding, examples.classes).assign_attrs(attrs)


def _check_points(points: Any, column: str) -> None:
    gpd = import_geopandas()
    if not isinstance(points, gpd.GeoDataFrame):
        raise GridError(
            explain(
                f"points as {type(points).__name__}",
                "a GeoDataFrame with a column of labels",
                "Make one with gpd.GeoDataFrame({'class': labels}, geometry=points).",
            )
        )
    names = [str(name) for name in points.columns if name != points.active_geometry_name]
    if column not in points.columns or column == points.active_geometry_name:
        raise GridError(
            explain(
                f"column={column!r}",
                f"one of {', '.join(names) or 'some columns, but there are none'}",
                "Name the column that holds the labels." + did_you_mean(str(column), names),
            )
        )


def _examples(embedding: xr.DataArray, points: "gpd.GeoDataFrame", column: str) -> _Examples:
    labelled = points[column].notna().to_numpy()
    rows, cols, inside = find_cells(embedding, points)
    used = labelled & inside
    rows, cols = rows[used], cols[used]
    vectors, _ = vectors_at(embedding, rows, cols)  # (point, time, feature)
    seen = np.isfinite(vectors).all(axis=2)
    n_dark = int((~seen.any(axis=1)).sum())
    _warn_left_out(len(points), int((~labelled).sum()), int((labelled & ~inside).sum()), n_dark)
    labels = _as_classes(points[column][used], column)
    point, _ = np.nonzero(seen)
    examples = _Examples(
        vectors[seen], labels[point], rows[point], cols[point], int(seen.any(axis=1).sum())
    )
    if len(examples.classes) < 2:
        known = ", ".join(map(str, examples.classes)) or "none"
        raise GridError(
            explain(
                f"labels of {len(examples.classes)} classes ({known}) on patches with data, "
                f"in the column {column!r}",
                "two at least",
                "Look whether the points lie on the grid and which classes they have.",
            )
        )
    return examples


def _warn_left_out(n_points: int, n_unlabelled: int, n_outside: int, n_dark: int) -> None:
    if not n_unlabelled + n_outside + n_dark:
        return
    message = explain(
        f"{n_outside} of {n_points} points outside the grid, {n_dark} on patches without data, "
        f"{n_unlabelled} without a label",
        "labelled points on patches with data",
        "They are left out.",
    )
    warnings.warn(message, TerraMindWarning, stacklevel=5)  # who called the accessor


def _as_classes(labels: Any, column: str) -> np.ndarray:
    # Whole numbers stay numbers, also where a missing one has made them floats; all else is text.
    values = labels.to_numpy()
    if values.dtype.kind == "f":
        if not np.array_equal(values, np.round(values)):
            raise GridError(
                explain(
                    f"fractions in the column {column!r}, such as "
                    f"{values[values != np.round(values)][0]:g}",
                    "classes: text or whole numbers",
                    "Group them first, for example with pandas.cut(...).astype(str).",
                )
            )
        values = values.astype(np.int64)
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    if all(isinstance(value, int | np.integer) and not isinstance(value, bool) for value in values):
        return np.array(values, np.int64)
    return np.array([str(value) for value in values], np.str_)


def _prepared(estimator: Any, seed: int) -> Any:
    from sklearn.base import clone, is_classifier

    if estimator is None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        estimator = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    if isinstance(estimator, type) or not hasattr(estimator, "fit") or not is_classifier(estimator):
        raise EngineError(
            explain(
                f"the estimator {estimator!r}",
                "a classifier with the interface of scikit-learn",
                "Pass for example sklearn.ensemble.RandomForestClassifier().",
            )
        )
    copy = clone(estimator)
    unset = {
        name: seed
        for name, value in copy.get_params(deep=True).items()
        if value is None and name.rpartition("__")[2] == "random_state"
    }
    return copy.set_params(**unset)


def _cross_validate(
    estimator: Any, embedding: xr.DataArray, examples: _Examples, seed: int
) -> dict[str, Any]:
    from sklearn.base import clone

    blocks, edge = _blocks(embedding, examples)
    attrs: dict[str, Any] = {
        "cv_scheme": CV_SCHEME,
        "cv_blocks": len(np.unique(blocks)),
        "cv_block_size": edge,
    }
    folds = _folds(examples, blocks, seed)
    if len(folds) < 2:
        _warn_no_score(examples, blocks, edge)
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


def _blocks(embedding: xr.DataArray, examples: _Examples) -> tuple[np.ndarray, float]:
    # By the centres of patches, so that points of one patch share their block.
    centres, patches = [], []
    for dim, index in (("y", examples.rows), ("x", examples.cols)):
        borders = cell_borders(embedding, dim)
        centres.append(((borders[:-1] + borders[1:]) / 2)[index])
        patches.append(np.abs(np.diff(borders)).max())
    places = np.stack(centres, axis=1)
    extent = np.ptp(places, axis=0).max() + max(patches)
    edge = float(max(extent / BLOCKS_ACROSS, MIN_BLOCK_PATCHES * max(patches)))
    first = places.min(axis=0) - np.array(patches) / 2
    row, col = np.floor((places - first) / edge).astype(np.int64).T
    return row * (col.max() + 1) + col, edge


def _folds(
    examples: _Examples, blocks: np.ndarray, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedGroupKFold

    n_folds = min(MAX_FOLDS, *_blocks_of_classes(examples, blocks).values())
    if n_folds < 2:
        return []
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    n_classes = len(examples.classes)
    return [
        (train, test)
        for train, test in folds.split(examples.vectors, examples.labels, blocks)
        if test.size and len(np.unique(examples.labels[train])) == n_classes
    ]


def _blocks_of_classes(examples: _Examples, blocks: np.ndarray) -> dict[str, int]:
    return {str(name): len(np.unique(blocks[examples.labels == name])) for name in examples.classes}


def _warn_no_score(examples: _Examples, blocks: np.ndarray, edge: float) -> None:
    counts = _blocks_of_classes(examples, blocks)
    rarest = min(counts, key=lambda name: counts[name])
    message = explain(
        f"points of class {rarest!r} in {counts[rarest]} of {len(np.unique(blocks))} blocks with "
        f"an edge of {edge:g}, which make no two folds",
        "each class in several places, some to learn from and some to test on",
        "The map has no cross-validated accuracy; add points elsewhere.",
    )
    warnings.warn(message, TerraMindWarning, stacklevel=5)  # who called the accessor


def _mapped(fitted: Any, embedding: xr.DataArray, classes: np.ndarray) -> xr.Dataset:
    label = map_vectors(
        partial(_predict, fitted=fitted, classes=classes), embedding, fill=-1, dtype=np.int16
    )
    label.attrs = {
        "long_name": "class",
        "flag_values": np.arange(len(classes), dtype=np.int16),
        "flag_meanings": " ".join("_".join(str(name).split()) for name in classes),
        "nodata": -1,
    }
    maps = {"label": label}
    if hasattr(fitted, "predict_proba"):
        share = map_vectors(
            partial(_predict_proba, fitted=fitted, classes=classes),
            embedding,
            fill=np.nan,
            dtype=np.float32,
            into={"category": classes},
        )
        encoding = share.encoding
        maps["probability"] = share.transpose("category", ...)
        maps["probability"].encoding = encoding
        maps["probability"].attrs = {"long_name": "probability of the class", "units": "1"}
    # Zarr has a specification for strings as objects, not for NumPy's of fixed width.
    names = classes.astype(object) if classes.dtype.kind == "U" else classes
    return xr.Dataset(maps).assign_coords(category=names)


def _predict(rows: np.ndarray, *, fitted: Any, classes: np.ndarray) -> np.ndarray:
    return np.searchsorted(classes, fitted.predict(rows)).astype(np.int16)


def _predict_proba(rows: np.ndarray, *, fitted: Any, classes: np.ndarray) -> np.ndarray:
    # (cell, class), in the order of `classes`
    order = np.searchsorted(fitted.classes_, classes)
    return fitted.predict_proba(rows)[:, order].astype(np.float32)
