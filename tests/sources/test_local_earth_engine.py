"""Laws of the local Earth Engine, held through the real, unmodified clients."""

from __future__ import annotations

import operator
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import ee
import numpy as np
import pytest

from tests.support.earth_engine import (
    S2_SR,
    S2_TOA,
    LocalEarthEngine,
    linked,
    pixel_value,
    scenes,
    select_scenes,
)
from tests.support.earth_engine.queries import (
    CAPE_TOWN,
    GRIDS,
    IGNORE_AFFINE,
    SHANGHAI,
    SUMMER,
    ZONE_BORDER,
    expected_scenes,
    open_cube,
    query,
)

pytestmark = IGNORE_AFFINE
ROOT = Path(__file__).parents[2]

# ---- the archive ----


def test_a_pixel_is_a_known_number():
    scene = scenes(S2_SR)[0]
    assert scene.index == "20220503T023551_20220503T024350_T34HBH"
    easting_m, northing_m = np.array([261_505, 261_515]), np.array([6_243_795, 6_243_795])
    by_hand = [
        (7919 * c + 6151 * 624_379 + 31 * (c % 89) * (624_379 % 97) + 2741) % 9973 + 1
        for c in (26_150, 26_151)
    ]
    np.testing.assert_array_equal(pixel_value(scene, "B2", easting_m, northing_m), by_hand)


def test_pixels_differ_between_scenes_and_bands_and_keep_to_their_range():
    east, north = np.meshgrid(357_005 + 10 * np.arange(60), 3_453_005 + 10 * np.arange(60))
    images = [
        (scene, band)
        for collection in (S2_SR, S2_TOA)
        for scene in select_scenes(*SHANGHAI, *SUMMER, collection)[:4]
        for band in ("B2", "B3", "B4", "B8")
    ]
    pixels = np.stack([pixel_value(scene, band, east, north) for scene, band in images])
    assert np.nanmin(pixels) >= 1
    assert np.nanmax(pixels) <= 10_000
    ordered = np.sort(pixels, axis=0)
    assert not np.any(np.diff(ordered, axis=0) == 0)


@pytest.mark.filterwarnings("ignore:All-NaN:RuntimeWarning")
@pytest.mark.parametrize(("band", "size_px"), [("B2", 1), ("B5", 2), ("B1", 6), ("SCL", 8)])
def test_a_band_has_pixels_of_its_own_size(band, size_px):
    east = 357_120 + 10 * np.arange(240) + 5
    pixels = pixel_value(expected_scenes()[0], band, east, np.full(240, 3_453_125))
    cells = pixels.reshape(-1, size_px)
    assert np.array_equal(np.nanmin(cells, axis=1), np.nanmax(cells, axis=1), equal_nan=True)
    assert len(np.unique(cells[:, 0])) > 5


def test_the_archive_holds_what_queries_trip_over():
    found = expected_scenes()
    assert any(scene.cloudy_percent == 30 for scene in found)
    assert sum(linked(scene) is None for scene in found) == 1
    assert {scene.tile.name for scene in expected_scenes(ZONE_BORDER)} == {"50RQV", "51RTQ"}
    widths_m = {scene.bounds_m[2] - scene.bounds_m[0] for scene in scenes()}
    assert widths_m == {54_900, 109_800}


# ---- connecting ----


def test_initialize_asks_nobody_else(earth_engine, monkeypatch):
    asked = []
    connect = socket.socket.connect

    def record(self, address):
        asked.append(address[0])
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", record)
    monkeypatch.setattr(socket, "getaddrinfo", _only_this_machine(socket.getaddrinfo))
    earth_engine.initialize()
    assert set(asked) == {"127.0.0.1"}
    assert [r.kind for r in earth_engine.requests] == ["discovery", "discovery", "algorithms"]


def _only_this_machine(getaddrinfo):
    def ask(host, *args, **kwargs):
        assert host == "127.0.0.1"
        return getaddrinfo(host, *args, **kwargs)

    return ask


def test_two_servers_at_once(earth_engine):
    with LocalEarthEngine() as other:
        assert other.url != earth_engine.url
        other.initialize()
        assert query().size().getInfo() == 6
        assert len(other.value_requests) == 1
        earth_engine.initialize()
        assert query().size().getInfo() == 6
        assert (len(other.value_requests), len(earth_engine.value_requests)) == (1, 1)
    assert query().size().getInfo() == 6


def test_leaving_disconnects_the_client(earth_engine):
    with LocalEarthEngine() as other:
        other.initialize()
    assert not ee.data.is_initialized()


def test_by_hand_and_from_another_process(earth_engine):
    command = [sys.executable, "-m", "tests.support.earth_engine"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as by_hand:
        try:
            url = by_hand.stdout.readline().split()[4].rstrip(",")
            ask = (
                "import ee; from google.auth.credentials import AnonymousCredentials as A;"
                f"ee.Initialize(credentials=A(), url='{url}', project='test');"
                f"print(ee.ImageCollection('{S2_SR}').size().getInfo())"
            )
            answer = subprocess.run(
                [sys.executable, "-c", ask],
                env=os.environ | earth_engine.environment,
                capture_output=True,
                text=True,
                check=True,
            )
        finally:
            by_hand.terminate()
    assert answer.stdout.split() == [str(len(scenes()))]


# ---- choosing scenes ----


@pytest.mark.parametrize("place", [SHANGHAI, ZONE_BORDER, CAPE_TOWN, (121.0, 31.2), (0.0, 0.0)])
@pytest.mark.parametrize("cloudy", [100, 30, 29, -1])
def test_filters_choose_exactly_the_scenes(earth_engine, place, cloudy):
    found = query(place, cloudy).aggregate_array("system:index").getInfo()
    assert found == [scene.index for scene in expected_scenes(place, cloudy)]


def test_comparisons_treat_the_limit_as_their_names_say(earth_engine):
    compare = {"lt": operator.lt, "lte": operator.le, "gt": operator.gt, "gte": operator.ge}
    compare |= {"eq": operator.eq, "neq": operator.ne, "lessThan": operator.lt}
    compare |= {"lessThanOrEquals": operator.le, "greaterThanOrEquals": operator.ge}
    column, images = "CLOUDY_PIXEL_PERCENTAGE", query(cloudy=100)
    sizes = {name: images.filter(getattr(ee.Filter, name)(column, 30)).size() for name in compare}
    percents = [scene.cloudy_percent for scene in expected_scenes(cloudy=100)]
    assert ee.Dictionary(sizes).getInfo() == {
        name: sum(right(percent, 30) for percent in percents) for name, right in compare.items()
    }


def test_a_date_range_takes_its_start_and_leaves_its_end(earth_engine):
    times_ms = [scene.time_ms for scene in expected_scenes()]
    within = query().filterDate(times_ms[1], times_ms[3]).aggregate_array("system:time_start")
    assert within.getInfo() == times_ms[1:3]
    days = [f"{expected_scenes()[n].time:%Y-%m-%d}" for n in (1, 3)]
    assert query().filterDate(*days).size().getInfo() == 2


def test_a_polygon_meets_every_tile_it_touches(earth_engine):
    images = ee.ImageCollection(S2_SR).filterDate(*SUMMER)
    around = ee.Geometry.Polygon([[[120.9, 31.1], [121.2, 31.1], [121.2, 31.3], [120.9, 31.3]]])
    square = ee.Geometry.Point(121.0, 31.2).buffer(1000).bounds()
    for region in (around, square):
        found = images.filterBounds(region).aggregate_array("MGRS_TILE").distinct().sort()
        assert found.getInfo() == ["51RTQ", "51RUQ"]


def test_one_request_answers_a_dictionary(earth_engine):
    images = query()
    columns = images.reduceColumns(ee.Reducer.toList().repeat(2), ["system:index", "MGRS_TILE"])
    answer = ee.Dictionary(
        {
            "size": images.size(),
            "times": images.aggregate_array("system:time_start"),
            "columns": columns.get("list"),
            "last": ee.Image(images.toList(9).get(-1)).get("system:index"),
            "clearest": images.sort("CLOUDY_PIXEL_PERCENTAGE").first().get("system:index"),
            "bands": images.first().bandNames(),
            "projection": images.first().select("B5").projection(),
        }
    ).getInfo()
    found = expected_scenes()
    assert answer["size"] == len(found)
    assert answer["times"] == [scene.time_ms for scene in found]
    assert answer["columns"] == [[s.index for s in found], [s.tile.name for s in found]]
    assert answer["last"] == found[-1].index
    assert answer["clearest"] == min(found, key=lambda scene: scene.cloudy_percent).index
    assert answer["bands"][-1] == "SCL"
    assert answer["projection"]["transform"] == [20, 0, 300_000, 0, -20, 3_500_040]
    assert len(earth_engine.requests) == 1


def test_bands_describe_their_own_grids(earth_engine):
    bands = {band["id"]: band for band in query().first().getInfo()["bands"]}
    assert bands["B1"]["dimensions"] == [1830, 1830]
    assert bands["B2"]["crs_transform"] == [10, 0, 300_000, 0, -10, 3_500_040]
    assert bands["B2"]["data_type"] == {
        "type": "PixelType",
        "precision": "int",
        "min": 0,
        "max": 65_535,
    }
    median = query().median().getInfo()["bands"][0]
    assert (median["crs"], median["data_type"]["precision"]) == ("EPSG:4326", "double")


def test_nothing_found_is_null_and_a_composite_without_bands(earth_engine):
    nothing = query(cloudy=-1)
    assert nothing.first().getInfo() is None
    assert nothing.median().bandNames().getInfo() == []


# ---- limits and refusals ----


def compute_pixels(image, width=8, height=8):
    names = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
    affine = dict(zip(names, GRIDS["utm"][2], strict=True))
    grid = {"dimensions": {"width": width, "height": height}, "affineTransform": affine}
    grid["crsCode"] = "EPSG:32651"
    return ee.data.computePixels({"expression": image, "fileFormat": "NUMPY_NDARRAY", "grid": grid})


def test_requests_over_48_mb_are_refused(earth_engine):
    # 8 bytes of a double and 1 of its mask.
    image = ee.Image(1).toDouble()
    assert compute_pixels(image, 4096, 1365).shape == (1365, 4096)
    with pytest.raises(
        ee.EEException, match=r"^Total request size \(50356224 bytes\) must be less "
    ):
        compute_pixels(image, 4096, 1366)
    assert [r.charged_bytes for r in earth_engine.pixel_requests] == [50_319_360, 50_356_224]
    with pytest.raises(ee.EEException, match=r"^Pixel grid dimensions \(32769x1\) must be less "):
        compute_pixels(image, 32_769, 1)


@pytest.mark.parametrize(
    ("ask", "named"),
    [
        (lambda: compute_pixels(query().first().select("B2").sin()), "Image.sin"),
        (lambda: compute_pixels(query().median().resample("bicubic")), "Image.resample"),
        (lambda: query().mode().getInfo(), "reduce.mode"),
        (lambda: query().map(lambda image: image.clip(image.geometry())).getInfo(), "Image.clip"),
        (lambda: ee.Date("2022-06-01").advance(1, "month").getInfo(), "unit month"),
        (lambda: query().select("B99").first().getInfo(), "B99"),
        (lambda: ee.ImageCollection("COPERNICUS/S3/OLCI").size().getInfo(), "COPERNICUS/S3/OLCI"),
        (lambda: ee.data.listAssets("projects/earthengine-public/assets/x"), "listAssets"),
    ],
)
def test_what_it_does_not_know_is_refused_by_name(earth_engine, ask, named):
    with pytest.raises(ee.EEException, match=named):
        ask()
    assert earth_engine.requests[-1].status in (400, 404)


# ---- faults ----

ERRORS = {
    "429": (429, "Too many concurrent"),
    "500": (500, "internal error"),
    "503": (503, "currently unavailable"),
    "403": (403, "does not have required permission"),
    "memory": (400, "User memory limit exceeded"),
    "timeout": (400, "Computation timed out"),
    "too_large": (400, "Total request size"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_faults_answered_with_an_error(earth_engine, kind):
    status, message = ERRORS[kind]
    earth_engine.fault(kind)
    for ask in (query().size().getInfo, lambda: compute_pixels(ee.Image(1))):
        with pytest.raises(ee.EEException, match=message):
            ask()
    assert [(r.status, r.fault) for r in earth_engine.requests] == [(status, kind)] * 2


@pytest.mark.parametrize("kind", ["reset", "truncated"])
def test_faults_of_the_connection(earth_engine, kind):
    image = query().median().select("B2")
    expected = compute_pixels(image)
    earth_engine.fault(kind, times=1, path="computePixels")
    with pytest.raises(ConnectionError):
        compute_pixels(image)
    np.testing.assert_array_equal(compute_pixels(image), expected)


def test_a_slow_answer_is_right_and_trips_the_deadline(earth_engine):
    earth_engine.fault("slow", path="value:compute", delay_s=0.4)
    start = time.monotonic()
    assert query().size().getInfo() == 6
    assert time.monotonic() - start >= 0.4
    ee.data.setDeadline(100)
    with pytest.raises(TimeoutError):
        query().size().getInfo()


def test_faults_end_after_so_many_requests_and_xee_tries_again(earth_engine):
    cube = open_cube(query().median().select("B2", "B3"))
    earth_engine.fault("503", times=1, band="B3")
    cube.load()
    assert [(r.bands, r.status) for r in earth_engine.pixel_requests] == [
        (("B2",), 200),
        (("B3",), 503),
        (("B3",), 200),
    ]


def test_faults_keep_to_their_method_and_path(earth_engine):
    earth_engine.fault("503", method="GET")
    earth_engine.fault("429", path="value:compute")
    assert compute_pixels(ee.Image(1)).shape == (8, 8)
    with pytest.raises(ee.EEException, match="Too many"):
        query().size().getInfo()
    with pytest.raises(ValueError, match="found fault kind 'unknown'"):
        earth_engine.fault("unknown")


def test_reset_forgets_faults_and_log(earth_engine):
    earth_engine.fault("403")
    with pytest.raises(ee.EEException):
        query().size().getInfo()
    earth_engine.reset()
    assert earth_engine.requests == []
    assert query().size().getInfo() == 6
