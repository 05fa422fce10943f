"""Where cells lie: their borders, and the cell that holds a place, whatever way the axes run."""

import numpy as np
import xarray as xr

from xr_terramind.cube.transforms import read_transform
from xr_terramind.errors import GridError, explain

CELL_SIZE = "cell_size"
"""Attribute with the height and width of a cell's footprint, in units of the CRS."""

EVEN = 1e-3
"""Of a step: neighbours are evenly spaced within it, as coordinates in degrees are rounded."""


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
    """
    rows = _find_cells(cell_borders(embedding, "y"), np.asarray(ys, np.float64))
    cols = _find_cells(cell_borders(embedding, "x"), np.asarray(xs, np.float64))
    inside = (rows >= 0) & (cols >= 0)
    return np.where(inside, rows, -1), np.where(inside, cols, -1), inside


def cell_borders(embedding: xr.DataArray, dim: str) -> np.ndarray:
    """Return where cells begin and end along an axis, float64 of shape (cell + 1,).

    Cell i lies from border i to border i + 1, half way between neighbours, also where their
    footprints overlap, as those of windows may. The outermost reach to the end of their footprint,
    or as far outwards as inwards where that is not known.

    Raises
    ------
    GridError
        Where coordinates are missing, not finite or out of order, or the size of a cell is unknown.
    """
    centres = read_centres(embedding, dim)
    if centres.size == 1:
        half = _find_lone_step(embedding, dim) / 2
        return np.array([centres[0] - half, centres[0] + half])
    steps = np.diff(centres)
    edge = _read_edge(embedding, dim)
    # The mean step of all cells is more exact than single differences of rounded coordinates.
    if is_even(centres) and edge <= np.abs(steps).max() * (1 + EVEN):
        step = (centres[-1] - centres[0]) / (centres.size - 1)
        return centres[0] + step * (np.arange(centres.size + 1) - 0.5)
    outermost = np.sign(steps[0]) * max(edge, np.abs(steps).max()) / 2
    between = centres[:-1] + steps / 2
    return np.array([centres[0] - outermost, *between, centres[-1] + outermost])


def footprints(embedding: xr.DataArray, dim: str) -> tuple[np.ndarray, np.ndarray]:
    """Return where the footprint of each cell begins and ends: those of windows may overlap.

    Two arrays of float64, shape (cell,), the lower one first whatever way the axis runs. Raises as
    `cell_borders` does.
    """
    centres, edge = read_centres(embedding, dim), _read_edge(embedding, dim)
    if centres.size == 1:
        edge = max(edge, _find_lone_step(embedding, dim))
    elif is_even(centres):
        edge = max(edge, cell_step(embedding, dim))
    return centres - edge / 2, centres + edge / 2


def cell_step(embedding: xr.DataArray, dim: str) -> float:
    """Return the distance of evenly spaced neighbours, or the edge of a single cell."""
    centres = read_centres(embedding, dim)
    if centres.size == 1:
        return float(np.diff(cell_borders(embedding, dim))[0])
    return float(abs(centres[-1] - centres[0])) / (centres.size - 1)


def is_even(centres: np.ndarray) -> bool:
    """Say whether neighbours are equally far apart, within a thousandth of their distance."""
    if centres.size < 3:
        return True
    steps = np.diff(centres)
    return bool(np.ptp(steps) <= EVEN * np.abs(steps).max())


def north_up(array: xr.DataArray) -> xr.DataArray:
    """Turn rows to run from north to south, and columns from west to east."""
    ys, xs = read_centres(array, "y"), read_centres(array, "x")
    return array.isel(
        y=slice(None, None, -1 if ys[0] < ys[-1] else 1),
        x=slice(None, None, -1 if xs[0] > xs[-1] else 1),
    )


def whole_vectors(array: xr.DataArray) -> xr.DataArray:
    """Bring the features of each vector into one chunk, where the array is lazy."""
    if array.chunks is None:
        return array
    # Not array.chunk(...), which makes all coordinates lazy, too: a store would leave them out.
    return array.copy(data=array.data.rechunk({array.dims.index("feature"): -1}))


def read_centres(embedding: xr.DataArray, dim: str) -> np.ndarray:
    """Return the coordinate of an axis as float64, or say why it tells no places."""
    if dim not in embedding.coords:
        found = f"a grid without the coordinate {dim}"
    else:
        values = np.asarray(embedding[dim].values)
        centres = values.astype(np.float64) if values.dtype.kind in "iuf" else np.array([np.nan])
        steps = np.diff(centres)
        if np.isfinite(centres).all() and (np.all(steps > 0) or np.all(steps < 0)):
            return centres
        found = f"a coordinate {dim} that is not finite, or neither rises nor falls throughout"
    remedy = f"Bring them into order with embedding.sortby({dim!r}), or embed again."
    raise GridError(explain(found, "the centres of the cells, in order", remedy))


def _find_cells(borders: np.ndarray, places: np.ndarray) -> np.ndarray:
    # -1 for places beyond the borders; NaN is sorted behind the last of them.
    n_cells = borders.size - 1
    ascending = borders[0] < borders[-1]
    upwards = borders if ascending else borders[::-1]
    found = np.searchsorted(upwards, places, side="right") - 1
    found = np.where(places == upwards[-1], n_cells - 1, found)
    inside = (found >= 0) & (found < n_cells)
    return np.where(inside, found if ascending else n_cells - 1 - found, -1)


def _read_edge(embedding: xr.DataArray, dim: str) -> float:
    # Of a cell's footprint, 0 where nothing says it; after a change of grid it is out of date, but
    # then it is shorter than a step.
    size = embedding.attrs.get(CELL_SIZE)
    if not isinstance(size, list | tuple | np.ndarray) or len(size) != 2:
        return 0.0
    return float(size["yx".index(dim)])


def _find_lone_step(embedding: xr.DataArray, dim: str) -> float:
    # One row or column says nothing of its size: the transform does, or the other axis.
    transform = read_transform(embedding)
    if transform is not None:
        return abs(float(transform.a if dim == "x" else transform.e))
    other = read_centres(embedding, "y" if dim == "x" else "x")
    if other.size > 1:
        return float(np.abs(np.diff(other)).max())
    found = "a single cell without a transform"
    expected = "one that says how large it is"
    raise GridError(explain(found, expected, "Write it with embedding.rio.write_transform(...)."))
