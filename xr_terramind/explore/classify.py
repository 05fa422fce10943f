"""Classes learned from labelled points, mapped, and judged on places that were not learned from."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xr_terramind.errors import EngineError, GridError, did_you_mean, explain, import_optional, warn
from xr_terramind.explore.cross_validation import Examples, cross_validate
from xr_terramind.explore.sample import find_cells, vectors_at
from xr_terramind.explore.vectors import map_vectors
from xr_terramind.result.check import check_grid

if TYPE_CHECKING:
    import geopandas as gpd


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
        Dims ``([time,] feature, y, x)``. Of a lazy one, only chunks that hold points are computed
        to learn from.
    points : geopandas.GeoDataFrame
        In any CRS. Those outside the grid, on patches without data or without a label are left out,
        with a warning. Of a time series, a label holds for all dates, each of which is an example
        to learn from.
    column : str
        Which of its columns holds the labels: text, whole numbers or booleans.
    estimator : scikit-learn classifier, optional
        A copy of it is fitted to the labels. By default logistic regression on standardised
        features: ``make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))``.
    seed : int, default 0
        Of the folds, and of every ``random_state`` of the estimator that is None.

    Returns
    -------
    xarray.Dataset
        ``label``, int16 ``([time,] y, x)``: the number of the class in the coordinate ``category``,
        -1 where the embedding is NaN. ``probability``, float32 ``(category, [time,] y, x)``, where
        the estimator has ``predict_proba``. Lazy where the embedding is.

        The attrs tell the accuracy of spatially blocked cross-validation: points of one square are
        never in the training and the test set at once, so that neighbours do not vouch for each
        other. ``cv_accuracy`` and ``cv_accuracy_std``, mean and standard deviation over the folds;
        ``cv_folds``, at most 5, and no more than any class has squares; ``cv_blocks``, how many
        squares hold points; ``cv_block_size``, their edge in units of the CRS: a fifth of the
        larger extent of the points, two patches at least; ``cv_scheme``, ``n_points``, ``classes``,
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
    examples = _collect_examples(embedding, points, column)
    unfitted = _prepare_estimator(estimator, seed)
    attrs = {
        **cross_validate(unfitted, embedding, examples, seed),
        "n_points": examples.n_points,
        "classes": [str(name) for name in examples.classes],
        "estimator": " ".join(repr(unfitted).split()),
        "column": str(column),
    }
    fitted = unfitted.fit(examples.vectors, examples.labels)
    return _map_classes(fitted, embedding, examples.classes).assign_attrs(attrs)


def _check_points(points: Any, column: str) -> None:
    gpd = import_optional("geopandas", "vector")
    if not isinstance(points, gpd.GeoDataFrame):
        found = f"points as {type(points).__name__}"
        remedy = "Make one with gpd.GeoDataFrame({'class': labels}, geometry=points)."
        raise GridError(explain(found, "a GeoDataFrame with a column of labels", remedy))
    names = [str(name) for name in points.columns if name != points.active_geometry_name]
    if column not in points.columns or column == points.active_geometry_name:
        expected = f"one of {', '.join(names) or 'some columns, but there are none'}"
        remedy = "Name the column that holds the labels." + did_you_mean(str(column), names)
        raise GridError(explain(f"column={column!r}", expected, remedy))


def _collect_examples(embedding: xr.DataArray, points: "gpd.GeoDataFrame", column: str) -> Examples:
    labelled = points[column].notna().to_numpy()
    rows, cols, inside = find_cells(embedding, points)
    used = labelled & inside
    rows, cols = rows[used], cols[used]
    vectors, _ = vectors_at(embedding, rows, cols)  # (point, time, feature)
    seen = np.isfinite(vectors).all(axis=2)
    n_dark = int((~seen.any(axis=1)).sum())
    _warn_left_out(len(points), int((~labelled).sum()), int((labelled & ~inside).sum()), n_dark)
    labels = _read_classes(points[column][used], column)
    point, _ = np.nonzero(seen)
    examples = Examples(
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
    warn(
        explain(
            f"{n_outside} of {n_points} points outside the grid, {n_dark} on patches without data, "
            f"{n_unlabelled} without a label",
            "labelled points on patches with data",
            "They are left out.",
        )
    )


def _read_classes(labels: Any, column: str) -> np.ndarray:
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


def _prepare_estimator(estimator: Any, seed: int) -> Any:
    from sklearn.base import clone, is_classifier

    if estimator is None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        estimator = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    if isinstance(estimator, type) or not hasattr(estimator, "fit") or not is_classifier(estimator):
        found = f"the estimator {estimator!r}"
        remedy = "Pass for example sklearn.ensemble.RandomForestClassifier()."
        raise EngineError(explain(found, "a classifier with the interface of scikit-learn", remedy))
    copy = clone(estimator)
    unset = {
        name: seed
        for name, value in copy.get_params(deep=True).items()
        if value is None and name.rpartition("__")[2] == "random_state"
    }
    return copy.set_params(**unset)


def _map_classes(fitted: Any, embedding: xr.DataArray, classes: np.ndarray) -> xr.Dataset:
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
