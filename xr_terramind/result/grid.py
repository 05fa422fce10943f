"""Tokens -> labelled DataArray: coordinates, CRS and attributes that survive every file format."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from dask.base import is_dask_collection

from xr_terramind.blocks.plan import Plan
from xr_terramind.blocks.windows import Axis
from xr_terramind.cube.geometry import PixelGrid
from xr_terramind.cube.transforms import read_transform
from xr_terramind.model.specs import PATCH_PX
from xr_terramind.result.cells import CELL_SIZE, EVEN, is_even
from xr_terramind.result.coords import Kept, keep_coords


@dataclass(frozen=True)
class Cells:
    """Footprints of the output's cells along one axis, in source pixels.

    Attributes
    ----------
    centres_px : ndarray of float
        Centre of each cell; pixel 0 lies from -0.5 to 0.5.
    step_px : float or None
        Distance of neighbours; None where they are not all equally far.
    edge_px : float
        Edge of a cell's footprint: windows may share pixels.
    """

    centres_px: np.ndarray
    step_px: float | None
    edge_px: float


def patch_cells(axis: Axis) -> Cells:
    """Return one cell per patch: patch i covers the source pixels [16 i, 16 i + 16)."""
    return Cells(PATCH_PX * np.arange(axis.n_patches) + (PATCH_PX - 1) / 2, PATCH_PX, PATCH_PX)


def window_cells(axis: Axis) -> Cells:
    """Return one cell per window: the part of it that lies in the extent, in whole patches."""
    windows = range(axis.n_windows)
    starts = np.array([axis.start(window) for window in windows])
    edges = PATCH_PX * np.array([axis.window_patches(window) for window in windows])
    # A lone window has no neighbour: it reaches as far as it is wide.
    steps = np.unique(np.diff(starts) if axis.n_windows > 1 else edges)
    regular = len(steps) == 1 and len(np.unique(edges)) == 1
    step_px = float(steps[0]) if regular else None
    return Cells(starts + edges / 2 - 0.5, step_px, float(edges[0]))


def resized_cells(axis: Axis) -> Cells:
    """Return one cell per patch of the resized extent."""
    side = axis.window_px // PATCH_PX
    step = axis.size_px / side
    return Cells((np.arange(side) + 0.5) * step - 0.5, step, step)


def cells_of(plan: Plan, *, fit: str, output: str) -> tuple[Cells, Cells]:
    """Return the cells along y and x that a kind of output has."""
    if output == "windows" and fit == "windows":
        return window_cells(plan.rows), window_cells(plan.cols)
    if output == "windows":
        whole = [
            Cells(np.array([axis.size_px / 2 - 0.5]), axis.size_px, axis.size_px)
            for axis in plan.axes
        ]
        return whole[0], whole[1]
    make = resized_cells if fit == "resize" else patch_cells
    return make(plan.rows), make(plan.cols)


def label(
    features: Any,
    valid: Any,
    source: xr.DataArray,
    grid: PixelGrid,
    cells: tuple[Cells, Cells],
    attrs: Mapping[str, Any],
    origins: Mapping[str, xr.Variable],
) -> xr.DataArray:
    """Put names, coordinates, CRS and attributes on encoded cells.

    Parameters
    ----------
    features : array, shape (..., feature, y, x)
        NumPy or Dask; in front the dims that the cube has there.
    valid : array, shape (..., y, x)
        Valid fraction of each cell.
    source : xarray.DataArray
        The arranged cube: its other coordinates are kept where they still apply.
    grid : PixelGrid
        Of the cube.
    cells : pair of Cells
        Along y and x.
    attrs : mapping
        Of the result.
    origins : mapping of str to xarray.Variable
        First pixel's centre of each image along y or x, where images lie apart.
    """
    rows, cols = cells
    image_dims = source.dims[:-3]
    kept = keep_coords(source)
    coords = _chunk_alike(kept.coords, source.dims, features)
    result = xr.DataArray(
        features,
        dims=(*image_dims, "feature", "y", "x"),
        coords={
            **coords,
            "feature": np.arange(features.shape[-3]),
            "y": _place_cells("y", origins.get("y", grid.y0), grid.dy * rows.centres_px, kept),
            "x": _place_cells("x", origins.get("x", grid.x0), grid.dx * cols.centres_px, kept),
            "valid_fraction": (
                (*image_dims, "y", "x"),
                valid,
                {"long_name": "share of valid pixels in the footprint", "units": "1"},
            ),
        },
        name="embedding",
        attrs={
            **attrs,
            CELL_SIZE: [abs(grid.dy) * rows.edge_px, abs(grid.dx) * cols.edge_px],
        },
    )
    return _georeference(result, grid, rows, cols, is_one_grid=not origins)


def _place_cells(dim: str, origin: Any, along: np.ndarray, kept: Kept) -> xr.Variable:
    # (y,) or (x,), or one axis for each image: (sample, y)
    centres = xr.Variable((), origin) if isinstance(origin, float) else origin
    placed: xr.Variable = centres + xr.Variable((dim,), along)
    placed.attrs = kept.axis_attrs[dim]
    return placed


def _chunk_alike(
    coords: Mapping[Hashable, xr.Variable], dims: tuple[Hashable, ...], features: Any
) -> dict[Hashable, xr.Variable]:
    # Lazy coordinates in the chunks of the vectors: xarray and Zarr refuse two ways to cut one dim.
    if not is_dask_collection(features):
        return dict(coords)
    chunks = dict(zip(dims[:-3], features.chunks, strict=False))
    return {
        name: variable.copy(data=variable.data.rechunk(tuple(chunks[d] for d in variable.dims)))
        if is_dask_collection(variable)
        else variable
        for name, variable in coords.items()
    }


def _georeference(
    result: xr.DataArray, grid: PixelGrid, rows: Cells, cols: Cells, *, is_one_grid: bool
) -> xr.DataArray:
    # CRS and transform where the cube has a CRS; none is invented. Without an even step of rows and
    # columns there is no transform, and the coordinates speak alone.
    result = result.rio.write_nodata(np.nan, encoded=True)
    if grid.crs is None:
        return result
    result = result.rio.write_crs(grid.crs)
    if rows.step_px is None or cols.step_px is None or not is_one_grid:
        return result
    # From the centres: windows that overlap are wider than their step.
    west = grid.x0 + grid.dx * (cols.centres_px[0] - cols.step_px / 2)
    north = grid.y0 + grid.dy * (rows.centres_px[0] - rows.step_px / 2)
    transform = Affine(grid.dx * cols.step_px, 0, west, 0, grid.dy * rows.step_px, north)
    return result.rio.write_transform(transform)


def has_transform(result: xr.DataArray) -> bool:
    """Say whether a transform is stored beside the CRS."""
    return read_transform(result) is not None


def with_own_transform(result: xr.DataArray) -> xr.DataArray:
    """Write the transform anew where the coordinates have moved on.

    What was coarsened, or selected, keeps the transform of what it was made of. An array comes back
    as it was where both agree, where coordinates tell no step, or without a transform.
    """
    if not has_transform(result) or not all(_has_step(result, dim) for dim in ("y", "x")):
        return result
    stored, own = result.rio.transform(), result.rio.transform(recalc=True)
    if own.almost_equals(stored, EVEN * abs(own.a)):
        return result
    return result.rio.write_transform(own)


def _has_step(result: xr.DataArray, dim: str) -> bool:
    return result.sizes.get(dim, 0) > 1 and is_even(result[dim].values)


def keep_encoding(array: xr.Variable | xr.DataArray, *names: str) -> dict[Any, Any]:
    """Return some of an array's encoding: ``grid_mapping``, for example, finds the CRS."""
    return {name: array.encoding[name] for name in names if name in array.encoding}


def pool_grid(grid: xr.DataArray, pooling: str) -> xr.DataArray:
    """Reduce a grid ``(..., feature, y, x)`` to one vector for the whole extent.

    The mean or the maximum of the cells that are not NaN, NaN where there is none;
    ``valid_fraction`` is the mean over the extent.
    """
    over = ["y", "x"]
    if pooling == "mean":
        # Summed in float64, so that the chunks of the sum do not show; 0 cells leave NaN.
        total = grid.sum(over, skipna=True, min_count=1, dtype=np.float64)
        pooled = total / grid.count(over)
    else:
        pooled = grid.fillna(-np.inf).max(over)
        pooled = pooled.where(pooled > -np.inf)
    pooled = pooled.astype(np.float32).rename("embedding")
    pooled.attrs = {name: value for name, value in grid.attrs.items() if name != CELL_SIZE}
    share = grid.valid_fraction.variable
    mean_share = share.mean(over, dtype=np.float64).astype(np.float32)
    mean_share.attrs = share.attrs
    return pooled.assign_coords(valid_fraction=mean_share)
