"""Places, grids and queries that the tests of the local Earth Engine share."""

from __future__ import annotations

import ee
import pytest
import xarray as xr

from tests.support.earth_engine import S2_SR, Scene, select_scenes

# Xee 0.1.2 with affine 3 warns at every request.
IGNORE_AFFINE = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
SHANGHAI, ZONE_BORDER, CAPE_TOWN = (121.5, 31.2), (120.0, 31.1), (18.42, -33.92)
SUMMER = ("2022-06-01", "2022-09-01")
QUICK = {"max_retries": 1, "initial_delay": 1}  # milliseconds; a delay of 0 crashes

# name: (place, crs, crs_transform); all 48 rows by 40 columns.
GRIDS = {
    "utm": (SHANGHAI, "EPSG:32651", (10.0, 0, 357_000, 0, -10.0, 3_453_000)),
    "half footprint": ((121.47, 31.2), "EPSG:32651", (10.0, 0, 354_700, 0, -10.0, 3_453_000)),
    "degrees": (SHANGHAI, "EPSG:4326", (1e-4, 0, 121.5, 0, -9e-5, 31.2)),
    "two zones": (ZONE_BORDER, "EPSG:32650", (20.0, 0, 786_300, 0, -20.0, 3_443_900)),
    "south": (CAPE_TOWN, "EPSG:32734", (10.0, 0, 261_500, 0, -10.0, 6_243_800)),
}


def query(place=SHANGHAI, cloudy=30, collection=S2_SR) -> ee.ImageCollection:
    """Return the query that `expected_scenes` answers."""
    images = ee.ImageCollection(collection).filterBounds(ee.Geometry.Point(place))
    return images.filterDate(*SUMMER).filter(ee.Filter.lte("CLOUDY_PIXEL_PERCENTAGE", cloudy))


def expected_scenes(place=SHANGHAI, cloudy=30, collection=S2_SR) -> list[Scene]:
    """Return the scenes that `query` finds, by the archive alone."""
    found = select_scenes(*place, *SUMMER, collection)
    return [scene for scene in found if scene.cloudy_percent <= cloudy]


def open_cube(images, grid="utm", **options) -> xr.Dataset:
    """Open a collection, or an image as a collection of one, on one of the `GRIDS`."""
    _, crs, transform = GRIDS[grid]
    if isinstance(images, ee.Image):
        images = ee.ImageCollection([images.set("system:time_start", 0)])
    return xr.open_dataset(
        images,
        engine="ee",
        crs=crs,
        crs_transform=transform,
        shape_2d=(40, 48),
        getitem_kwargs=QUICK,
        **options,
    )
