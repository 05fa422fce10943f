"""Check a source cube: the cheap things at once, the values on a sample."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import numpy as np
import xarray as xr
from dask.base import compute

from xr_terramind.cube.arrange import Cube, check_dtype, check_sizes
from xr_terramind.cube.bands import arrange_bands, lacking_issues, nodata_values, subset_issues
from xr_terramind.cube.caller import AS_USUAL, Caller
from xr_terramind.cube.datasets import as_dataarray, describe_caller
from xr_terramind.cube.dims import (
    add_band_dim,
    drop_quality,
    list_quality,
    order_dims,
    split_images,
)
from xr_terramind.cube.geometry import PixelGrid, list_image_codes, pixel_grid, pixel_size_m
from xr_terramind.cube.place import place_issues
from xr_terramind.cube.report import InputReport, Issue, make_warning
from xr_terramind.cube.values.images import (
    Image,
    cut_images,
    read_told,
    sample_values,
    value_facts,
)
from xr_terramind.cube.values.judge import no_valid_pixel_issue, value_issues
from xr_terramind.errors import TerraMindError
from xr_terramind.model.modalities import Modality

SAMPLE_WINDOWS = 4
"""Windows that `check` reads of a lazy cube where the caller names no number."""

SAMPLE_DATES = 24
"""Dates of a lazy series that it reads one more window of, the same one of each."""

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
    issues: list[Issue] = []

    def attempt(code: str, step: Callable[[], T]) -> T | None:
        # A step that fails does not end the others: one look shows all that is wrong.
        try:
            return step()
        except TerraMindError as error:
            issues.append(Issue(code, "error", str(error), type(error)))
            return None

    def find_dims() -> tuple[xr.DataArray, Caller]:
        array = order_dims(add_band_dim(as_dataarray(obj, modality), modality), modality)
        caller = describe_caller(obj, modality)._replace(left_out=list_quality(array, modality))
        array = drop_quality(array, modality)
        check_sizes(array)
        return array, caller

    array, caller = attempt("dims", find_dims) or (None, AS_USUAL)
    facts = {"modality": f"{modality.name} ({modality.unit})"}
    if array is None:
        return InputReport(tuple(issues), facts), None
    facts |= _array_facts(array)
    attempt("dtype", lambda: check_dtype(array))
    arranged = attempt(
        "bands",
        lambda: arrange_bands(array, modality, missing_bands=missing_bands, caller=caller),
    )
    placed, origins, codes = attempt("grid", lambda: _place_first(array)) or (array, {}, [])
    grid = attempt("grid", lambda: pixel_grid(placed, caller))
    if arranged is not None:
        facts["bands"] = ", ".join(f"{band}={name}" for band, name in arranged[1].items())
        modality = modality.subset(list(arranged[1]))
        issues += subset_issues(modality, arranged[1], array.dtype)
    if modality.full is not None:
        facts["missing"] = f"{', '.join(modality.missing)}, at the mean of pretraining"
    if grid is not None:
        facts |= _grid_facts(grid, placed)
        located: PixelGrid = grid
        issues += attempt("grid", lambda: list(place_issues(placed, located, caller))) or []
        if len(codes) > 1:  # one CRS is claimed where all images have it
            grid = replace(grid, crs=None)
            facts["crs"] = f"{', '.join(codes[:4])}{', ...' * (len(codes) > 4)}, image by image"
    if fit == "windows":
        issues += _extent_issues(array, window_px)
    if arranged is not None and arranged[2]:
        issues.append(_assumed_issue(modality))
    report = InputReport(tuple(sorted(issues, key=lambda issue: issue.severity)), facts)
    if not report.ok or arranged is None or grid is None:
        return report, None
    data, names, assumed = arranged
    told, nodata = read_told(data.attrs), nodata_values(array)
    return report, Cube(data, modality, names, assumed, grid, nodata, told, origins, caller)


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

    `sample` windows are read, spread over the cube; by default 4 of a lazy cube and one per date
    of 24 dates, and of a cube in memory every value up to a stride.
    """
    report, cube = inspect_cube(
        obj, modality, window_px=window_px, fit=fit, missing_bands=missing_bands
    )
    if cube is None:
        return report
    windows = _read_windows(cube, window_px, sample)
    images = _sample_images(cube, windows)
    issues = [
        *report.issues,
        *lacking_issues([pixels for _, pixels in windows], cube.nodata, cube.modality, cube.caller),
        *value_issues(images, cube.modality, cube.told, cube.nodata),
    ]
    if not any(image.pixels.size for image in images):
        issues.append(no_valid_pixel_issue())
    facts = {**report.facts, **value_facts(images)}
    return InputReport(tuple(sorted(issues, key=lambda issue: issue.severity)), facts)


def _place_first(array: xr.DataArray) -> tuple[xr.DataArray, dict[str, xr.Variable], list[str]]:
    # Images that lie apart stand for each other where the first one does: pixels are of one size.
    placed, origins = split_images(array)
    codes = list_image_codes(placed)
    return (placed.rio.write_crs(codes[0], "spatial_ref") if codes else placed), origins, codes


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
    facts = {"crs": "none" if grid.crs is None else str(grid.crs.to_string())[:60]}
    size = pixel_size_m(grid, (array.sizes["y"], array.sizes["x"]))
    up = "south up" if grid.flip_y else "north up" if grid.north else "the first row is the top"
    where = "in the CRS" if grid.is_located else "of an image without a place"
    facts["pixel"] = f"{abs(grid.dx):.6g} x {abs(grid.dy):.6g} {where}, {up}" + (
        f"; {size[0]:.4g} x {size[1]:.4g} m on the ground" if size else ""
    )
    return facts


def _read_windows(
    cube: Cube, window_px: int, sample: int | None
) -> list[tuple[int | None, np.ndarray]]:
    # The number of an image and a window of it; None for all images as a whole.
    if sample is None and not cube.is_lazy:
        return [(None, np.asarray(cube.data.values))]
    pieces = {}  # (image, row, column) of a window -> its pixels
    for number, top, left in _sample_places(cube, window_px, sample):
        piece = cube.image(number).isel(y=slice(top, top + window_px))
        pieces[number, top, left] = piece.isel(x=slice(left, left + window_px))
    read = compute(*(piece.data for piece in pieces.values()))
    return [(number, np.asarray(piece)) for (number, *_), piece in zip(pieces, read, strict=True)]


def _sample_images(cube: Cube, windows: list[tuple[int | None, np.ndarray]]) -> list[Image]:
    labels = cube.image_names
    by_image: dict[int | None, list[np.ndarray]] = {}
    for number, window in windows:
        by_image.setdefault(number, []).append(sample_values(window))
    return [
        image
        for number, pieces in sorted(by_image.items(), key=lambda item: item[0] or 0)
        for image in cut_images(
            np.concatenate(pieces, axis=-1),
            cube.nodata,
            cube.modality,
            labels if number is None else [labels[number]],
        )
    ]


def _sample_places(cube: Cube, window_px: int, sample: int | None) -> list[tuple[int, int, int]]:
    n_windows = SAMPLE_WINDOWS if sample is None else max(1, int(sample))
    # Windows on the diagonal of (image, y, x): few reads see first and last image, and two corners.
    along = np.linspace(0.0, 1.0, n_windows) if n_windows > 1 else np.array([0.5])
    n_images, height_px, width_px = cube.shape
    free = max(0, height_px - window_px), max(0, width_px - window_px)
    places = [
        (round(share * (n_images - 1)), round(share * free[0]), round(share * free[1]))
        for share in along
    ]
    if sample is None and n_images > 1:
        # The same ground on many dates tells which of them differ.
        numbers = np.linspace(0, n_images - 1, min(n_images, SAMPLE_DATES)).round().astype(int)
        places += [(int(number), free[0] // 2, free[1] // 2) for number in numbers]
    return places
