"""Check a source cube: the cheap things at once, the values on a sample."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import xarray as xr
from dask.base import compute

from xr_terramind.cube.arrange import Cube, check_dtype, check_sizes
from xr_terramind.cube.bands import (
    arrange_bands,
    invalid_pixels,
    lacking_issues,
    nodata_values,
    subset_issues,
)
from xr_terramind.cube.dims import add_band_dim, as_dataarray, describe_source, order_dims
from xr_terramind.cube.geometry import PixelGrid, pixel_grid, pixel_size_m
from xr_terramind.cube.report import InputReport, Issue, make_warning
from xr_terramind.cube.values import sample_values, value_facts, value_issues
from xr_terramind.errors import TerraMindError
from xr_terramind.model.modalities import Modality

PIXEL_SIZE_M = 10.0
"""Ground sampling distance of the images that TerraMind was pretrained on."""

SAMPLE_WINDOWS = 4
"""Windows that `check` reads of a lazy cube where the caller names no number."""

_PIXEL_SIZE_TOLERANCE = 0.1

T = TypeVar("T")


def inspect_cube(
    obj: xr.DataArray | xr.Dataset,
    modality: Modality,
    *,
    window_px: int,
    fit: str,
    missing_bands: str = "error",
) -> tuple[InputReport, Cube | None]:
    """Arrange a cube for the model, and run the checks that need no pixel.

    The caller's object is left alone. There is a Cube where the report holds no errors. `fit`
    ``"resize"`` has no windows that could be larger than the extent. Where `missing_bands` is
    ``"mean"``, the Cube's modality has the bands that are there.
    """
    source = describe_source(obj)
    issues: list[Issue] = []

    def attempt(code: str, step: Callable[[], T]) -> T | None:
        # A step that fails does not end the others: one look shows all that is wrong.
        try:
            return step()
        except TerraMindError as error:
            issues.append(Issue(code, "error", str(error), type(error)))
            return None

    def find_dims() -> xr.DataArray:
        array = order_dims(add_band_dim(as_dataarray(obj, modality), modality))
        check_sizes(array)
        return array

    array = attempt("dims", find_dims)
    facts = {"modality": f"{modality.name} ({modality.unit})"}
    if array is None:
        return InputReport(tuple(issues), facts), None
    facts |= _array_facts(array)
    attempt("dtype", lambda: check_dtype(array))
    arranged = attempt(
        "bands",
        lambda: arrange_bands(array, modality, missing_bands=missing_bands, source=source),
    )
    grid = attempt("grid", lambda: pixel_grid(array))
    if arranged is not None:
        facts["bands"] = ", ".join(f"{band}={name}" for band, name in arranged[1].items())
        modality = modality.subset(list(arranged[1]))
        issues += subset_issues(modality, arranged[1], array.dtype)
    if modality.full is not None:
        facts["missing"] = f"{', '.join(modality.missing)}, at the mean of pretraining"
    if grid is not None:
        facts |= _grid_facts(grid, array)
        issues += _grid_issues(grid, array)
    if fit == "windows":
        issues += _extent_issues(array, window_px)
    if arranged is not None and arranged[2]:
        issues.append(_assumed_issue(modality))
    report = InputReport(tuple(sorted(issues, key=lambda issue: issue.severity)), facts)
    if not report.ok or arranged is None or grid is None:
        return report, None
    data, names, assumed = arranged
    return report, Cube(data, modality, names, assumed, grid, nodata_values(array), source)


def check_cube(
    obj: xr.DataArray | xr.Dataset,
    modality: Modality,
    *,
    window_px: int,
    fit: str = "windows",
    missing_bands: str = "error",
    sample: int | None = None,
) -> InputReport:
    """Check a cube, and the values of a sample of its windows.

    `sample` windows are read, spread over the cube; by default 4 of a lazy cube, and of a cube in
    memory every value up to a stride.
    """
    report, cube = inspect_cube(
        obj, modality, window_px=window_px, fit=fit, missing_bands=missing_bands
    )
    if cube is None:
        return report
    windows = _read_windows(cube, window_px, sample)
    values = np.concatenate([sample_values(window) for window in windows], axis=-1)
    invalid = invalid_pixels(values, cube.nodata, cube.modality)
    issues = [
        *report.issues,
        *lacking_issues(windows, cube.nodata, cube.modality, cube.source),
        *value_issues(values, invalid, cube.modality),
    ]
    facts = {**report.facts, **value_facts(values, invalid)}
    return InputReport(tuple(sorted(issues, key=lambda issue: issue.severity)), facts)


def _grid_issues(grid: PixelGrid, array: xr.DataArray) -> Iterator[Issue]:
    size = pixel_size_m(grid, (array.sizes["y"], array.sizes["x"]))
    if grid.crs is None:
        yield make_warning(
            "no-crs",
            "no CRS",
            "an EPSG code, so that the embedding knows where it lies",
            f"{_crs_remedy(array)} x and y are kept all the same.",
        )
    elif size and any(abs(edge / PIXEL_SIZE_M - 1) > _PIXEL_SIZE_TOLERANCE for edge in size):
        yield make_warning(
            "pixel-size",
            f"pixels of {size[0]:.4g} x {size[1]:.4g} m on the ground",
            f"{PIXEL_SIZE_M:g} m, as TerraMind was trained on",
            "Resample with cube.rio.reproject(cube.rio.estimate_utm_crs(), resolution=10).",
        )


def _crs_remedy(array: xr.DataArray) -> str:
    name = array.encoding.get("grid_mapping", array.attrs.get("grid_mapping"))
    if name is None or name in array.coords:
        return "Write it with cube.rio.write_crs('EPSG:...');"
    return (
        "Write it with cube.rio.write_crs('EPSG:...'), or open the file with decode_coords='all', "
        f"which brings its variable {name!r} along;"
    )


def _extent_issues(array: xr.DataArray, window_px: int) -> Iterator[Issue]:
    height_px, width_px = array.sizes["y"], array.sizes["x"]
    if min(height_px, width_px) < window_px:
        yield make_warning(
            "small-extent",
            f"an extent of {height_px} x {width_px} pixels, smaller than a window",
            f"{window_px} x {window_px} pixels at least; patches will see padding",
            "Open a larger area, or use fit='resize'.",
        )


def _assumed_issue(modality: Modality) -> Issue:
    return make_warning(
        "band-order-assumed",
        f"{len(modality.bands)} bands without names",
        "named bands",
        f"The order {', '.join(modality.bands)} was assumed; name the bands with "
        "cube.assign_coords(band=[...]) to be sure.",
    )


def _array_facts(array: xr.DataArray) -> dict[str, str]:
    sizes = ", ".join(f"{dim} {size}" for dim, size in array.sizes.items())
    return {"cube": f"{sizes}, {array.dtype}{', lazy' if array.chunks is not None else ''}"}


def _grid_facts(grid: PixelGrid, array: xr.DataArray) -> dict[str, str]:
    north = "south" if grid.flip_y else "north"
    facts = {"crs": "none" if grid.crs is None else str(grid.crs.to_string())[:60]}
    size = pixel_size_m(grid, (array.sizes["y"], array.sizes["x"]))
    facts["pixel"] = f"{abs(grid.dx):.6g} x {abs(grid.dy):.6g} in the CRS, {north} up" + (
        f"; {size[0]:.4g} x {size[1]:.4g} m on the ground" if size else ""
    )
    return facts


def _read_windows(cube: Cube, window_px: int, sample: int | None) -> list[np.ndarray]:
    if sample is None and not cube.is_lazy:
        return [np.asarray(cube.data.values)]
    n_windows = SAMPLE_WINDOWS if sample is None else max(1, int(sample))
    # Windows on the diagonal of (time, y, x): few reads see first and last date, and two corners.
    along = np.linspace(0.0, 1.0, n_windows) if n_windows > 1 else np.array([0.5])
    n_times, height_px, width_px = cube.shape
    pieces = []
    for share in along:
        top = round(share * max(0, height_px - window_px))
        left = round(share * max(0, width_px - window_px))
        piece = cube.data.isel(y=slice(top, top + window_px), x=slice(left, left + window_px))
        pieces.append(
            piece.isel(time=round(share * (n_times - 1))) if "time" in piece.dims else piece
        )
    return [np.asarray(piece) for piece in compute(*(piece.data for piece in pieces))]
