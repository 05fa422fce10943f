"""Every pixel that comes through Xee from the local Earth Engine is the known one."""

from __future__ import annotations

import ee
import numpy as np
import pytest
import xarray as xr

from tests.support.earth_engine import (
    CLOUD_SCORE_PLUS,
    S2_TOA,
    expected_pixels,
    linked,
    select_scenes,
)
from tests.support.earth_engine.queries import (
    GRIDS,
    IGNORE_AFFINE,
    SUMMER,
    expected_scenes,
    open_cube,
    query,
)

pytestmark = IGNORE_AFFINE


def stack(cube, band, grid="utm", cloudy=30):
    """Return the known pixels of all scenes on a cube's grid, dims (scene, y, x)."""
    place, crs, _ = GRIDS[grid]
    found = expected_scenes(place, cloudy)
    return np.stack([expected_pixels(scene, band, cube.x, cube.y, crs) for scene in found])


def mosaic(pixels):
    top = pixels[0]
    for later in pixels[1:]:
        top = np.where(np.isnan(later), top, later)
    return top


def assert_same(found, expected):
    np.testing.assert_array_equal(found, expected.astype("float32"))


COMPOSITES = {
    "median": lambda pixels: np.nanmedian(pixels, axis=0),
    "mean": lambda pixels: np.nanmean(pixels, axis=0),
    "mosaic": mosaic,
}


@pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("method", COMPOSITES)
def test_every_pixel_of_a_composite_is_known(earth_engine, method, grid):
    images = query(GRIDS[grid][0], cloudy=100).select(["B2", "B5", "B1"])
    cube = open_cube(getattr(images, method)(), grid)
    for band in ("B2", "B5", "B1"):
        pixels = stack(cube, band, grid, cloudy=100)
        assert np.isnan(pixels).any()
        assert_same(cube[band][0], COMPOSITES[method](pixels))


@pytest.mark.parametrize("grid", GRIDS)
def test_every_pixel_of_a_time_series_is_known_and_the_masked_are_nan(earth_engine, grid):
    place = GRIDS[grid][0]
    cube = open_cube(query(place, cloudy=100).select("B3", "SCL"), grid)
    times = [np.datetime64(scene.time_ms, "ms") for scene in expected_scenes(place, cloudy=100)]
    np.testing.assert_array_equal(cube.time, np.array(times))
    for band in ("B3", "SCL"):
        assert_same(cube[band], stack(cube, band, grid, cloudy=100))
    assert bool(cube.B3.isnull().any())
    outside = bool(cube.B3.isnull().all("y").any())
    assert outside == (grid == "half footprint")


def test_chunks_and_threads_change_nothing(earth_engine):
    images = query().select(["B2", "B8"])
    whole = open_cube(images).load()
    earth_engine.reset()
    chunks = {"time": 2, "y": 16, "x": 20}
    lazy = open_cube(images, chunks=chunks, io_chunks=chunks)
    assert [r.kind for r in earth_engine.requests] == ["value"]
    xr.testing.assert_identical(lazy.compute(scheduler="threads", num_workers=4), whole)
    requests = earth_engine.pixel_requests
    assert len(requests) == 2 * (3 * 3 * 2)
    assert {r.grid.shape for r in requests} == {(16, 20)}
    assert {r.bands for r in requests} == {("B2", "B2_1"), ("B8", "B8_1")}
    assert max(r.in_flight for r in requests) <= 4
    assert max(r.bytes_answered for r in requests) > 16 * 20 * 2 * 4


def test_top_of_atmosphere_is_another_archive(earth_engine):
    cube = open_cube(query(collection=S2_TOA).select("B10").first())
    [scene, *_] = expected_scenes(collection=S2_TOA)
    assert_same(cube.B10[0], expected_pixels(scene, "B10", cube.x, cube.y, "EPSG:32651"))


SCL_MASKS = {
    "comparisons": lambda scl: scl.neq(3).And(scl.lt(8).Or(scl.eq(11))),
    "range": lambda scl: scl.gte(4).And(scl.lte(7)).Or(scl.gt(10)).Or(scl.eq(1)).Or(scl.eq(2)),
    "remap": lambda scl: scl.remap([3, 8, 9, 10], [0, 0, 0, 0], 1),
    "not": lambda scl: scl.eq(3).Or(scl.gte(8).And(scl.neq(11))).Not(),
}


@pytest.mark.parametrize("mask", SCL_MASKS)
def test_scl_masks_hide_exactly_their_classes(earth_engine, mask):
    clear = SCL_MASKS[mask]
    masked = query().map(lambda image: image.updateMask(clear(image.select("SCL"))))
    cube = open_cube(masked.select("B4"))
    cloudy = np.isin(stack(cube, "SCL"), (3, 8, 9, 10))
    assert cloudy.any()
    assert_same(cube.B4, np.where(cloudy, np.nan, stack(cube, "B4")))


def test_cloud_score_plus_masks_and_hides_what_it_does_not_know(earth_engine):
    scores = query().linkCollection(ee.ImageCollection(CLOUD_SCORE_PLUS), ["cs"])
    masked = scores.map(lambda image: image.updateMask(image.select("cs").gte(0.5)))
    cube = open_cube(masked.select("B4"))
    for number, scene in enumerate(expected_scenes()):
        pixels = expected_pixels(scene, "B4", cube.x, cube.y, "EPSG:32651")
        score = linked(scene)
        if score is None:
            clear = np.zeros(pixels.shape, bool)
        else:
            clear = expected_pixels(score, "cs", cube.x, cube.y, "EPSG:32651") >= 0.5
            assert 0.2 < clear.mean() < 0.8
        assert_same(cube.B4[number], np.where(clear, pixels, np.nan))


def test_what_is_linked_replaces_its_namesake_and_is_masked_without_a_match(earth_engine):
    first = expected_scenes()[0]
    scores = ee.ImageCollection(CLOUD_SCORE_PLUS)
    one = scores.filter(ee.Filter.eq("system:index", first.index))
    images = query().select("B2").linkCollection(scores, ["cs"]).linkCollection(one, ["cs"])
    assert images.first().bandNames().getInfo() == ["B2", "cs"]
    cube = open_cube(images)
    assert_same(cube.cs[0], expected_pixels(linked(first), "cs", cube.x, cube.y, "EPSG:32651"))
    assert bool(cube.cs[1:].isnull().all())


def test_unmask_fills_a_composite_everywhere_but_a_scene_in_its_footprint_only(earth_engine):
    one = query().select("B2").filter(ee.Filter.eq("system:index", expected_scenes()[0].index))
    filled = open_cube(one.median().unmask(-1).toFloat()).B2[0]
    assert float(filled.min()) == -1
    half = next(s for s in select_scenes(121.4, 31.2, *SUMMER) if s.bounds_m[2] < 360_000)
    scene = ee.Image(half.id).select("B2").unmask(7)
    cube = open_cube(scene, "half footprint")
    known = expected_pixels(half, "B2", cube.x, cube.y, "EPSG:32651")
    inside = np.broadcast_to(cube.x.values < half.bounds_m[2], known.shape)
    assert_same(cube.B2[0], np.where(inside & np.isnan(known), 7, known))
