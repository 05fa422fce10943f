"""Which patch holds a place: by the borders of the cells, whatever way the axes run."""

import numpy as np
import xarray as xr

from xr_terramind.errors import GridError, explain
from xr_terramind.result.grid import CELL_SIZE

_EVEN = 1e-3  # of a step


def cells_at(
    embedding: xr.DataArray, xs: np.ndarray, ys: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the cells that hold places.

    Parameters
    ----------
    embedding : xarray.DataArray
        With coordinates ``y`` and ``x``, ascending or descending.
    xs, ys : array, shape (place,)
        In the embedding's CRS.

    Returns
    -------
    rows, cols : ndarray of int, shape (place,)
        Indices along ``y`` and ``x``; -1 for places outside.
    inside : ndarray of bool, shape (place,)
        Whether a cell holds the place; False where a coordinate is not finite. A border belongs to
        the cell with the larger coordinates, the last border to the last cell.

    Raises
    ------
    GridError
        As `cell_borders`.
    """
    rows = _cells_along(cell_borders(embedding, "y"), np.asarray(ys, np.float64))
    cols = _cells_along(cell_borders(embedding, "x"), np.asarray(xs, np.float64))
    inside = (rows >= 0) & (cols >= 0)
    return np.where(inside, rows, -1), np.where(inside, cols, -1), inside


def cell_borders(embedding: xr.DataArray, dim: str) -> np.ndarray:
    """Return where cells begin and end along an axis.

    Parameters
    ----------
    embedding : xarray.DataArray
    dim : {"y", "x"}

    Returns
    -------
    ndarray of float64, shape (cell + 1,)
        In the order of the coordinate: cell i lies from border i to border i + 1, half way between
        neighbours, also where their footprints overlap, as those of windows may. The outermost
        reach to the end of their footprint, or as far outwards as inwards where that is not known.

    Raises
    ------
    GridError
        Where coordinates are missing, not finite or out of order, or the size of a cell is unknown.
    """
    centres = _centres(embedding, dim)
    if centres.size == 1:
        half = _lone_step(embedding, dim) / 2
        return np.array([centres[0] - half, centres[0] + half])
    steps = np.diff(centres)
    edge = _edge(embedding, dim)
    if is_even(centres) and edge <= np.abs(steps).max() * (1 + _EVEN):
        step = (centres[-1] - centres[0]) / (centres.size - 1)
        return centres[0] + step * (np.arange(centres.size + 1) - 0.5)
    outermost = np.sign(steps[0]) * max(edge, np.abs(steps).max()) / 2
    between = centres[:-1] + steps / 2
    return np.array([centres[0] - outermost, *between, centres[-1] + outermost])


def footprints(embedding: xr.DataArray, dim: str) -> tuple[np.ndarray, np.ndarray]:
    """Return where the footprint of each cell begins and ends: those of windows may overlap.

    Parameters
    ----------
    embedding : xarray.DataArray
        Evenly spaced along `dim`, or with the size of its cells in its attrs.
    dim : {"y", "x"}

    Returns
    -------
    low, high : ndarray of float64, shape (cell,)
        ``low < high``, whatever way the axis runs.

    Raises
    ------
    GridError
        As `cell_borders`.
    """
    centres, edge = _centres(embedding, dim), _edge(embedding, dim)
    if centres.size == 1:
        edge = max(edge, _lone_step(embedding, dim))
    elif is_even(centres):
        edge = max(edge, cell_step(centres))
    return centres - edge / 2, centres + edge / 2


def cell_step(centres: np.ndarray) -> float:
    """Return the distance of evenly spaced neighbours.

    Parameters
    ----------
    centres : ndarray, shape (cell,)

    Returns
    -------
    float
    """
    return float(abs(centres[-1] - centres[0])) / (centres.size - 1)


def is_even(centres: np.ndarray) -> bool:
    """Say whether neighbours are equally far apart, within a thousandth of their distance.

    Parameters
    ----------
    centres : ndarray, shape (cell,)

    Returns
    -------
    bool
    """
    if centres.size < 3:
        return True
    steps = np.diff(centres)
    return bool(np.ptp(steps) <= _EVEN * np.abs(steps).max())


def _cells_along(borders: np.ndarray, places: np.ndarray) -> np.ndarray:
    # -1 for places beyond the borders; NaN is sorted behind the last of them.
    n_cells = borders.size - 1
    ascending = borders[0] < borders[-1]
    upwards = borders if ascending else borders[::-1]
    found = np.searchsorted(upwards, places, side="right") - 1
    found = np.where(places == upwards[-1], n_cells - 1, found)
    inside = (found >= 0) & (found < n_cells)
    return np.where(inside, found if ascending else n_cells - 1 - found, -1)


def _centres(embedding: xr.DataArray, dim: str) -> np.ndarray:
    if dim not in embedding.coords:
        found = f"a grid without the coordinate {dim}"
    else:
        values = np.asarray(embedding[dim].values)
        centres = values.astype(np.float64) if values.dtype.kind in "iuf" else np.array([np.nan])
        steps = np.diff(centres)
        if np.isfinite(centres).all() and (np.all(steps > 0) or np.all(steps < 0)):
            return centres
        found = f"a coordinate {dim} that is not finite, or neither rises nor falls throughout"
    raise GridError(
        explain(
            found,
            "the centres of the cells, in order",
            f"Bring them into order with embedding.sortby({dim!r}), or embed again.",
        )
    )


def _edge(embedding: xr.DataArray, dim: str) -> float:
    # Of a cell's footprint, 0 where nothing says it; after a change of grid it is out of date, but
    # then it is shorter than a step.
    size = embedding.attrs.get(CELL_SIZE)
    if not isinstance(size, list | tuple | np.ndarray) or len(size) != 2:
        return 0.0
    return float(size["yx".index(dim)])


def _lone_step(embedding: xr.DataArray, dim: str) -> float:
    # One row or column says nothing of its size: the transform does, or the other axis.
    mapping = embedding.coords.get(embedding.rio.grid_mapping)
    numbers = [] if mapping is None else str(mapping.attrs.get("GeoTransform", "")).split()
    if len(numbers) == 6:
        return abs(float(numbers[1 if dim == "x" else 5]))
    other = _centres(embedding, "y" if dim == "x" else "x")
    if other.size > 1:
        return float(np.abs(np.diff(other)).max())
    raise GridError(
        explain(
            "a single cell without a transform",
            "one that says how large it is",
            "Write it with embedding.rio.write_transform(...).",
        )
    )
