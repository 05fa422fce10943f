"""Cubes from Earth Engine: every pixel is the known one, few requests, and errors that help."""

import time
import warnings

import dask
import ee
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from affine import Affine

import xr_terramind as xtm
from tests.support.cubes import BANDS, embed
from tests.support.earth_engine import (
    CLOUD_SCORE_PLUS,
    S2_SR,
    S2_TOA,
    expected_pixels,
    linked,
    select_scenes,
)
from xr_terramind.errors import SourceError
from xr_terramind.sources.earth_engine import fetch

SHANGHAI, CAPE_TOWN, ZONE_BORDER = (121.5, 31.2), (18.42, -33.92), (120.0, 31.1)
SUMMER = {"start": "2022-06-01", "end": "2022-09-01"}  # 6 scenes of Shanghai with cloud <= 30 %
JUNE = {"start": "2022-06-01", "end": "2022-07-01"}  # 1 scene, with its masked lines
TOA_BANDS = [*BANDS[:10], "B10", "B11", "B12"]
FORMAT = r"(?s)^found .+; expected .+\. "


def open_s2(**options) -> xr.DataArray:
    """Some 40 x 40 pixels of Shanghai in summer."""
    places = {"point", "bbox", "geometry"} & set(options)
    here = {} if places else {"point": SHANGHAI, "buffer_m": 200}
    return xtm.open_s2(**{**here, **SUMMER, **options})


def known_scenes(place=SHANGHAI, cloudy=30, collection=S2_SR, start="2022-06-01", end="2022-09-01"):
    found = select_scenes(*place, start, end, collection)
    return [scene for scene in found if scene.cloudy_percent <= cloudy]


def known(cube, scene, bands) -> np.ndarray:
    """What a scene holds on a cube's grid, dims (band, y, x)."""
    grid = cube.x.values, cube.y.values, cube.rio.crs
    return np.stack([expected_pixels(scene, band, *grid) for band in bands])


def known_series(cube, hide=None, **which) -> np.ndarray:
    """What the archive holds on a cube's grid, NaN where masked, dims (time, band, y, x)."""
    bands = np.atleast_1d(cube.band.values)
    found = {scene: known(cube, scene, bands) for scene in known_scenes(**which)}
    if hide is not None:
        found = {s: np.where(hide(cube, s), np.nan, pixels) for s, pixels in found.items()}
    return np.stack(list(found.values()))


def known_median(cube, **which) -> np.ndarray:
    """The median as a cube holds it that is filled with 0, dims (band, y, x)."""
    return np.nan_to_num(COMPOSITES["median"](known_series(cube, **which)))


def mosaic(series):
    top = series[0]
    for later in series[1:]:
        top = np.where(np.isnan(later), top, later)
    return top


def quietly(reduce):
    def reduced(series):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # all NaN, on purpose
            return reduce(series, axis=0)

    return reduced


COMPOSITES = {"median": quietly(np.nanmedian), "mean": quietly(np.nanmean), "mosaic": mosaic}


def assert_pixels(cube, expected):
    assert cube.dtype == np.float32
    np.testing.assert_array_equal(cube.values, expected.astype("float32"))


@pytest.fixture
def no_pause(monkeypatch):
    monkeypatch.setattr(fetch, "FIRST_PAUSE_S", 0.01)


# ---- pixels ----


@pytest.mark.parametrize("crs", [None, "EPSG:4326"])
@pytest.mark.parametrize("composite", COMPOSITES)
def test_every_pixel_of_a_composite_is_known(earth_engine, composite, crs):
    cube = open_s2(composite=composite, crs=crs, fill_value=None)
    assert cube.dims == ("band", "y", "x")
    assert cube.band.values.tolist() == BANDS
    assert_pixels(cube, COMPOSITES[composite](known_series(cube)))


@pytest.mark.parametrize("crs", [None, "EPSG:4326"])
def test_every_pixel_of_a_series_is_known_at_its_real_time(earth_engine, crs):
    cube = open_s2(composite=None, crs=crs, fill_value=None)
    assert cube.dims == ("time", "band", "y", "x")
    times = np.array([scene.time_ms for scene in known_scenes()], "datetime64[ms]")
    np.testing.assert_array_equal(cube.time.values, times)
    assert np.all(np.diff(times) > np.timedelta64(0, "ms"))
    series = known_series(cube)
    assert np.isnan(series).any()
    assert_pixels(cube, series)


@pytest.mark.parametrize("place", [CAPE_TOWN, ZONE_BORDER])
def test_every_pixel_is_known_in_the_south_and_where_two_zones_meet(earth_engine, place):
    cube = open_s2(point=place, buffer_m=200, fill_value=None, cloudy_pct=60)
    assert {scene.tile.name for scene in known_scenes(place)} <= {"34HBH", "50RQV", "51RTQ"}
    assert cube.attrs["n_scenes"] == len(known_scenes(place, cloudy=60)) > 5
    assert_pixels(cube, COMPOSITES["median"](known_series(cube, place=place, cloudy=60)))


def test_a_series_where_two_zones_meet_is_in_order_of_time(earth_engine):
    cube = open_s2(point=ZONE_BORDER, buffer_m=200, composite=None, bands=["B2"], fill_value=None)
    assert cube.sizes["time"] == len(known_scenes(ZONE_BORDER)) == 9
    assert cube.indexes["time"].is_monotonic_increasing
    assert_pixels(cube, known_series(cube, place=ZONE_BORDER))


def test_l1c_has_13_bands_and_pixels_of_its_own(earth_engine):
    cube = open_s2(collection=S2_TOA, fill_value=None, **JUNE)
    assert cube.band.values.tolist() == TOA_BANDS
    assert_pixels(cube, known_series(cube, collection=S2_TOA, **JUNE)[0])


def test_bands_come_as_asked_for(earth_engine):
    cube = open_s2(bands=["B8", "B4"], fill_value=None)
    assert cube.band.values.tolist() == ["B8", "B4"]
    assert_pixels(cube, COMPOSITES["median"](known_series(cube)))


def test_no_cloud_limit_takes_all_scenes(earth_engine):
    cube = open_s2(bands=["B2"], cloudy_pct=None, fill_value=None)
    assert cube.attrs["n_scenes"] == 13
    assert_pixels(cube, COMPOSITES["median"](known_series(cube, cloudy=100)))


@pytest.mark.parametrize("scale_m", [20, 60])
def test_a_coarser_cube_reads_the_pixels_of_its_centres(earth_engine, scale_m):
    cube = open_s2(bands=["B2", "B1"], scale_m=scale_m, buffer_m=400, point=SHANGHAI)
    assert float(cube.x[1] - cube.x[0]) == scale_m
    assert_pixels(cube, known_median(cube))


# ---- grid ----


def test_the_grid_is_snapped_north_up_and_labelled_at_pixel_centres(earth_engine):
    cube = open_s2()
    assert cube.rio.crs.to_epsg() == 32651
    assert (cube.x.values[0] - 5) % 10 == 0
    assert (cube.y.values[0] - 5) % 10 == 0
    np.testing.assert_array_equal(np.diff(cube.x), 10)
    np.testing.assert_array_equal(np.diff(cube.y), -10)
    west, north = cube.x.values[0] - 5, cube.y.values[0] + 5
    assert cube.rio.transform() == Affine(10, 0, west, 0, -10, north)
    assert 40 <= cube.sizes["y"] <= 41
    assert 40 <= cube.sizes["x"] <= 41


def test_degrees_have_the_scale_of_the_equator(earth_engine):
    cube = open_s2(crs="EPSG:4326")
    assert cube.rio.crs.to_epsg() == 4326
    assert float(cube.x[1] - cube.x[0]) == pytest.approx(10 / 111_319.49079)
    assert float(cube.y[1] - cube.y[0]) == pytest.approx(-10 / 111_319.49079)
    assert cube.rio.transform().a == pytest.approx(10 / 111_319.49079)
    assert abs(float(cube.x.mean()) - 121.5) < 1e-4
    assert abs(float(cube.y.mean()) - 31.2) < 1e-4


def test_neighbours_share_their_grid(earth_engine):
    here = open_s2()
    there = open_s2(point=(121.502, 31.2013), buffer_m=300)
    common = np.intersect1d(here.x, there.x), np.intersect1d(here.y, there.y)
    assert min(map(len, common)) > 10
    cut = {"x": common[0], "y": common[1][::-1]}
    np.testing.assert_array_equal(here.sel(cut), there.sel(cut))


BOX = (121.498, 31.198, 121.502, 31.202)
GEOJSON = shapely.geometry.mapping(shapely.box(*BOX))
FEATURE = {"type": "Feature", "properties": {}, "geometry": GEOJSON}
SHAPES = {
    "shapely": shapely.box(*BOX),
    "GeoJSON": GEOJSON,
    "Feature": FEATURE,
    "FeatureCollection": {"type": "FeatureCollection", "features": [FEATURE]},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_geometry_opens_the_cube_of_its_box(earth_engine, shape):
    expected = open_s2(bbox=BOX, bands=["B2"], **JUNE)
    assert expected.sizes["x"] == pytest.approx(38, abs=2)
    assert expected.sizes["y"] == pytest.approx(45, abs=2)
    found = open_s2(geometry=SHAPES[shape], bands=["B2"], **JUNE)
    xr.testing.assert_identical(found, expected)


def test_a_table_in_another_crs_lies_where_it_should(earth_engine):
    table = gpd.GeoDataFrame(geometry=[shapely.box(*BOX)], crs=4326).to_crs(3857)
    found = open_s2(geometry=table, bands=["B2"], **JUNE)
    xr.testing.assert_identical(found, open_s2(bbox=BOX, bands=["B2"], **JUNE))


# ---- masks and fill ----


def cloudy_class(cube, scene):
    return np.isin(known(cube, scene, ["SCL"]), (3, 8, 9, 10))


def low_score(cube, scene):
    score = linked(scene, CLOUD_SCORE_PLUS)
    return np.True_ if score is None else ~(known(cube, score, ["cs"]) >= 0.6)


MASKS = {"scl": cloudy_class, "cloud_score_plus": low_score}


@pytest.mark.parametrize("composite", ["median", None])
@pytest.mark.parametrize("mask", MASKS)
def test_cloud_masks_hide_exactly_their_pixels(earth_engine, mask, composite):
    cube = open_s2(cloud_mask=mask, composite=composite, fill_value=None, bands=["B2", "B5"])
    series = known_series(cube, MASKS[mask])
    assert np.isnan(series).mean() > np.isnan(known_series(cube)).mean() + 0.1
    assert_pixels(cube, series if composite is None else COMPOSITES[composite](series))


def test_a_score_at_the_limit_is_clear(earth_engine, monkeypatch):
    # Scores of the local Earth Engine are multiples of 1/64: 0.5 is one of them, 0.6 is none.
    monkeypatch.setattr("xr_terramind.sources.earth_engine.query.CLEAR_SCORE", 0.5)

    def below_half(cube, scene):
        score = linked(scene, CLOUD_SCORE_PLUS)
        return np.True_ if score is None else ~(known(cube, score, ["cs"]) >= 0.5)

    options = {"cloud_mask": "cloud_score_plus", "composite": None, "bands": ["B2"]}
    cube = open_s2(**options, fill_value=None)
    assert_pixels(cube, known_series(cube, below_half))


def test_l1c_is_masked_by_cloud_score_plus(earth_engine):
    cube = open_s2(collection=S2_TOA, cloud_mask="cloud_score_plus", bands=["B10"], fill_value=None)
    series = known_series(cube, low_score, collection=S2_TOA)
    assert_pixels(cube, COMPOSITES["median"](series))


@pytest.mark.parametrize("fill", [0.0, -1, None])
def test_what_no_scene_covers_holds_the_fill_value(earth_engine, fill):
    cube = open_s2(fill_value=fill, bands=["B3"], **JUNE)
    pixels = known_series(cube, **JUNE)[0]
    assert np.isnan(pixels).any()
    assert_pixels(cube, pixels if fill is None else np.nan_to_num(pixels, nan=fill))
    assert cube.attrs.get("fill_value") == fill


# ---- laziness and requests ----


@pytest.mark.parametrize("composite", ["median", None])
def test_opening_asks_little_and_no_pixel(earth_engine, composite):
    cube = open_s2(composite=composite)
    assert dask.is_dask_collection(cube.data)
    assert len(earth_engine.requests) <= 3
    assert earth_engine.pixel_requests == []


@pytest.mark.parametrize("chunks", ["auto", {"x": 30, "y": 25}])
def test_computing_asks_once_a_band_and_chunk(earth_engine, chunks):
    cube = open_s2(chunks=chunks)
    n_chunks = np.prod(cube.data.numblocks)
    assert n_chunks == (1 if chunks == "auto" else 4)
    cube.compute()
    requests = earth_engine.pixel_requests
    assert len(requests) == 12 * n_chunks
    assert len({(r.bands, r.grid) for r in requests}) == 12 * n_chunks


def test_a_series_asks_once_a_date_band_and_chunk(earth_engine):
    cube = open_s2(composite=None, bands=["B2", "B3"])
    assert cube.data.numblocks == (6, 1, 1, 1)
    cube.compute()
    assert len(earth_engine.pixel_requests) == 12


def test_automatic_chunks_are_whole_windows_and_charged_below_48_mb(earth_engine):
    wide = open_s2(point=SHANGHAI, buffer_m=9000).data.chunks[2]
    assert {edge_px % 224 for edge_px in wide[:-1]} == {0}
    assert max(wide) <= 1120
    cube = open_s2(point=SHANGHAI, buffer_m=5600, bands=["B4"], composite="mosaic", **JUNE)
    assert cube.data.chunksize == (1, 1120, 1120)
    cube.compute()
    [request] = earth_engine.pixel_requests
    assert request.charged_bytes == 1120 * 1120 * 5 <= 48e6


@pytest.mark.parametrize("chunks", [{"y": 4000, "x": 4000}, -1, {"time": -1, "y": 2000, "x": 2000}])
def test_chunks_over_48_mb_are_refused_at_once(earth_engine, chunks):
    with pytest.raises(SourceError, match=FORMAT + ".*smaller") as refused:
        open_s2(point=SHANGHAI, buffer_m=20_000, composite=None, chunks=chunks)
    assert "48 MB" in str(refused.value)
    assert earth_engine.pixel_requests == []


CHUNKS = [{"x": 17, "y": 23}, 16, {"band": 5}, {"y": -1, "x": 20}]


@pytest.mark.parametrize("chunks", CHUNKS)
def test_the_result_does_not_depend_on_chunks(earth_engine, chunks):
    whole = open_s2(bands=BANDS[:6], **JUNE).load()
    np.testing.assert_array_equal(open_s2(bands=BANDS[:6], chunks=chunks, **JUNE), whole)


@pytest.mark.parametrize("dates_a_chunk", [2, 5])
def test_chunks_of_several_dates_change_nothing(earth_engine, dates_a_chunk):
    chunks = {"time": dates_a_chunk}
    cube = open_s2(composite=None, bands=["B2", "B3"], fill_value=None, chunks=chunks)
    assert cube.data.chunks[0][0] == dates_a_chunk
    assert_pixels(cube, known_series(cube))


SELECTIONS = {
    "rows": {"y": slice(5, 9)},
    "one pixel": {"y": 7, "x": 3},
    "a list of bands": {"band": [3, 0]},
    "every second row": {"y": slice(None, None, 2)},
    "every third column from 4": {"x": slice(4, 30, 3)},
    "upside down": {"y": slice(None, None, -1)},
    "the last columns": {"x": slice(-5, None)},
    "a list of rows": {"y": [9, 2, 30]},
}


@pytest.mark.parametrize("composite", ["median", None])
@pytest.mark.parametrize("selection", SELECTIONS)
def test_a_selection_reads_its_pixels(earth_engine, selection, composite):
    cube = open_s2(bands=BANDS[:4], composite=composite, fill_value=None)
    whole = cube.compute()
    cut = SELECTIONS[selection]
    xr.testing.assert_equal(cube.isel(cut).compute(), whole.isel(cut))


def test_a_selection_by_name_has_the_pixels_of_that_band_and_rows(earth_engine):
    cube = open_s2()
    part = cube.sel(band="B4").isel(y=slice(5, 9))
    assert_pixels(part, known_median(cube.sel(band=["B4"]))[0, 5:9])


def test_a_selection_of_a_band_asks_for_no_other(earth_engine):
    open_s2().sel(band="B4").compute()
    assert [r.bands[0].split("_")[0] for r in earth_engine.pixel_requests] == ["B4"]


def test_a_selection_of_rows_asks_for_no_others(earth_engine):
    cube = open_s2(bands=["B2"])
    cube.isel(y=slice(5, 9)).compute()
    assert [r.grid.shape for r in earth_engine.pixel_requests] == [(4, cube.sizes["x"])]


def test_one_date_of_a_series_asks_for_no_other(earth_engine):
    cube = open_s2(composite=None, bands=["B2"], fill_value=None)
    np.testing.assert_array_equal(cube.isel(time=2), known_series(cube)[2].astype("float32"))
    assert len(earth_engine.pixel_requests) == 1


def fetched_at_once(engine, cube):
    """The most requests at a time, by the server's log and by the clock: an upper bound."""
    engine.fault("slow", delay_s=0.1)
    before = time.monotonic()
    cube.compute(scheduler="threads", num_workers=4)
    rounds = (time.monotonic() - before) / 0.1
    return max(r.in_flight for r in engine.pixel_requests), rounds


def test_fetch_workers_bound_requests_at_once_over_all_threads(earth_engine):
    with xtm.set_options(fetch_workers=2):
        cube = open_s2(bands=["B2", "B3", "B4"], chunks={"y": 25, "x": 25})
    in_flight, rounds = fetched_at_once(earth_engine, cube)
    assert in_flight == 2
    assert rounds >= 6


def test_fetch_workers_are_read_from_the_environment(earth_engine, monkeypatch):
    monkeypatch.setenv("XR_TERRAMIND_FETCH_WORKERS", "3")
    in_flight, rounds = fetched_at_once(earth_engine, open_s2(bands=BANDS[:6]))
    assert in_flight == 3
    assert rounds >= 2


def test_bands_of_a_chunk_are_fetched_side_by_side_by_default(earth_engine):
    in_flight, rounds = fetched_at_once(earth_engine, open_s2())
    assert 4 <= in_flight <= 8
    assert rounds >= 2


def test_equal_queries_have_equal_keys_and_others_other_ones(earth_engine):
    name = open_s2().data.name
    assert open_s2().data.name == name
    others = [
        {"end": "2022-08-01"},
        {"bands": BANDS[:11]},
        {"cloud_mask": "scl"},
        {"composite": "mean"},
        {"fill_value": None},
        {"cloudy_pct": 40},
        {"scale_m": 20},
        {"collection": S2_TOA},
        {"point": CAPE_TOWN, "buffer_m": 200},
    ]
    names = {open_s2(**other).data.name for other in others}
    assert len(names | {name}) == len(others) + 1


def test_cubes_in_other_chunks_have_other_keys_and_compute_together(earth_engine):
    whole, parts = open_s2(bands=["B2"]), open_s2(bands=["B2"], chunks={"y": 20})
    assert whole.data.name != parts.data.name
    expected = whole.values.sum()
    assert dask.compute(whole.data.sum(), parts.data.sum()) == (expected, expected)


@pytest.mark.parametrize("chunks", [(10, 10), {"lat": 10}, {"y": -5}, "many", 0])
def test_chunks_that_fit_no_cube_are_refused(earth_engine, chunks):
    with pytest.raises(SourceError, match=FORMAT + ".*"):
        open_s2(bands=["B2"], chunks=chunks)


# ---- attributes, files, embeddings ----


@pytest.mark.parametrize("composite", ["median", None])
def test_attributes_say_where_a_cube_comes_from_in_plain_types(earth_engine, composite):
    attrs = open_s2(composite=composite).attrs
    expected = {
        "backend": "provider",
        "provider": "Google Earth Engine",
        "collection": S2_SR,
        "scale_m": 10,
        "cloudy_pct": 30,
        "composite": composite or "none",
        "cloud_mask": "none",
        "fill_value": 0.0,
        "temporal_start": "2022-06-01",
        "temporal_end": "2022-09-01",
        "n_scenes": 6,
    }
    assert {name: attrs.get(name) for name in expected} == expected
    assert {type(value) for value in attrs.values()} <= {str, int, float}


@pytest.mark.parametrize("composite", ["median", None])
@pytest.mark.parametrize("form", ["zarr", "netcdf"])
def test_a_cube_survives_a_file(earth_engine, tmp_path, form, composite):
    cube = open_s2(composite=composite, bands=["B2", "B3"], fill_value=None)
    assert "scale_factor" not in cube.encoding
    if form == "zarr":
        cube.to_zarr(tmp_path / "cube.zarr")
        back = xr.open_zarr(tmp_path / "cube.zarr")["sentinel2"]
    else:
        cube.to_netcdf(tmp_path / "cube.nc")
        back = xr.open_dataset(tmp_path / "cube.nc", decode_coords="all")["sentinel2"]
    back = back.load()
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back.values, cube.values)
    for name in cube.dims:
        np.testing.assert_array_equal(back[name].values, cube[name].values)
    kept = {name: back.attrs[name] for name in cube.attrs}
    assert kept == cube.attrs
    back.close()


def test_an_embedding_is_that_of_the_same_numbers_and_says_where_they_are_from(earth_engine):
    cube = open_s2()
    by_hand = xr.DataArray(
        cube.values,
        dims=("band", "y", "x"),
        coords={"band": BANDS, "y": cube.y.values, "x": cube.x.values},
        attrs={"fill_value": 0.0},
    ).rio.write_crs(32651)
    found, expected = embed(cube), embed(by_hand)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)  # batches of other sizes
    assert found.attrs["backend"] == "provider"
    carried = (
        *("collection", "scale_m", "cloudy_pct", "composite", "fill_value", "cloud_mask"),
        *("temporal_start", "temporal_end"),
    )
    assert {name: found.attrs[name] for name in carried} == {n: cube.attrs[n] for n in carried}


def test_pixels_with_the_fill_value_are_invalid_in_an_embedding(earth_engine):
    filled = embed(open_s2(fill_value=-1, cloud_mask="scl", **JUNE))
    empty = embed(open_s2(fill_value=None, cloud_mask="scl", **JUNE))
    assert 0.1 < float(filled.valid_fraction.mean()) < 0.9
    np.testing.assert_array_equal(filled.valid_fraction, empty.valid_fraction)
    np.testing.assert_array_equal(filled.values, empty.values)


# ---- schedulers ----


def test_threads_and_one_thread_give_the_same(earth_engine):
    cube = open_s2(chunks={"y": 16, "x": 16}, bands=["B2", "B3"])
    alone = cube.compute(scheduler="synchronous")
    xr.testing.assert_identical(cube.compute(scheduler="threads", num_workers=4), alone)


# ---- failures ----


def test_without_a_session_the_error_says_how_to_begin_one(earth_engine):
    ee.Reset()
    with pytest.raises(SourceError, match=FORMAT) as failed:
        open_s2()
    assert "ee.Initialize(" in str(failed.value)


def test_no_scene_says_where_when_the_limit_and_what_is_there_without_it(earth_engine):
    with pytest.raises(SourceError, match=FORMAT) as failed:
        open_s2(cloudy_pct=5)
    for words in ("(121.5, 31.2)", "2022-06-01", "2022-09-01", "5 %", "13 without"):
        assert words in str(failed.value)
    assert earth_engine.pixel_requests == []


@pytest.mark.parametrize("where", [{"point": (10.0, 50.0), "buffer_m": 200}, {"cloudy_pct": None}])
def test_no_scene_at_all_is_an_error(earth_engine, where):
    dates = {} if "point" in where else {"start": "2021-06-01", "end": "2021-09-01"}
    with pytest.raises(SourceError, match=FORMAT + ".*dates") as failed:
        open_s2(**where, **dates)
    assert "no scene of COPERNICUS/S2_SR_HARMONIZED" in str(failed.value)


HUGE = {"bbox": (100, 0, 125, 40)}
REFUSED = {
    "swapped dates": ({"start": "2022-09-01", "end": "2022-06-01"}, "start before end"),
    "equal dates": ({"start": "2022-06-01", "end": "2022-06-01"}, "start before end"),
    "no date": ({"start": "summer"}, "start='summer'"),
    "no end": ({"end": None}, "end=None"),
    "swapped point": ({"point": (31.2, 121.5), "buffer_m": 200}, "swapped"),
    "swapped box": ({"bbox": (31.1, 121.4, 31.2, 121.5)}, "swapped"),
    "out of range": ({"point": (200, 31), "buffer_m": 200}, "longitude"),
    "metres": ({"bbox": (357_000, 3_452_000, 358_000, 3_453_000)}, "degrees"),
    "NaN": ({"point": (float("nan"), 31), "buffer_m": 200}, "finite"),
    "buffer 0": ({"point": SHANGHAI, "buffer_m": 0}, "buffer_m=0"),
    "negative buffer": ({"point": SHANGHAI, "buffer_m": -5}, "buffer_m=-5"),
    "no buffer": ({"point": SHANGHAI}, "buffer_m=None"),
    "buffer as text": ({"point": SHANGHAI, "buffer_m": "200"}, "buffer_m"),
    "buffer with a box": ({"bbox": BOX, "buffer_m": 200}, "buffer_m with bbox"),
    "empty box": ({"bbox": (121.5, 31.2, 121.5, 31.2)}, "an area"),
    "upside down": ({"bbox": (121.4, 31.3, 121.5, 31.2)}, "south below north"),
    "three numbers": ({"bbox": (121.4, 31.1, 121.5)}, "4 finite numbers"),
    "empty geometry": ({"geometry": shapely.Polygon()}, "empty geometry"),
    "empty table": ({"geometry": gpd.GeoDataFrame(geometry=[], crs=4326)}, "empty geometry"),
    "no GeoJSON": ({"geometry": {"type": "Banana"}}, "GeoJSON"),
    "a word": ({"geometry": "Shanghai"}, "type str"),
    "no place": ({"point": None}, "exactly one of"),
    "two places": ({"point": SHANGHAI, "buffer_m": 200, "bbox": BOX}, "point and bbox"),
    "too large": (HUGE, "windows"),
    "too large in GB": (HUGE, "GB"),
    "no crs": ({"crs": "EPSG:99"}, "crs='EPSG:99'"),
    "crs as number": ({"crs": 99}, "crs=99"),
    "no scale": ({"scale_m": 0}, "scale_m=0"),
    "scale as text": ({"scale_m": "10"}, "scale_m"),
    "cloud as text": ({"cloudy_pct": "few"}, "cloudy_pct"),
    "fill as text": ({"fill_value": "none"}, "fill_value"),
    "no composite": ({"composite": "max"}, "'median', 'mean', 'mosaic'"),
    "no mask": ({"cloud_mask": "qa60"}, "'scl', 'cloud_score_plus'"),
    "scl of L1C": ({"cloud_mask": "scl", "collection": S2_TOA}, "cloud_score_plus"),
    "no bands": ({"bands": []}, "one at least"),
    "twice a band": ({"bands": ["B2", "B2"]}, "each band once"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_before_any_request(earth_engine, case):
    options, words = REFUSED[case]
    with pytest.raises(SourceError, match=FORMAT) as refused:
        open_s2(**options)
    assert words in str(refused.value)
    assert earth_engine.requests == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bands": ["B2", "B99"]}, "B99"),
        ({"collection": "COPERNICUS/S9"}, "COPERNICUS/S9"),
        ({"bands": ["B10"]}, "B10"),
    ],
)
def test_unknown_bands_and_collections_are_named_when_opening(earth_engine, options, words):
    with pytest.raises(SourceError, match=FORMAT) as failed:
        open_s2(**options)
    assert words in str(failed.value)


PERSISTENT = {
    "429": ("HTTP 429", "tried 5 times", "fetch_workers"),
    "503": ("HTTP 503", "tried 5 times", "try again later"),
    "500": ("HTTP 500", "tried 5 times", "try again later"),
    "reset": ("tried 5 times", "try again later"),
    "truncated": ("tried 5 times", "try again later"),
    "403": ("HTTP 403", "tried 1 time:", "Register the project"),
    "memory": ("tried 1 time:", "smaller chunks"),
    "timeout": ("tried 1 time:", "smaller chunks"),
    "too_large": ("tried 1 time:", "smaller chunks"),
}


@pytest.mark.parametrize("kind", PERSISTENT)
def test_a_fault_that_stays_says_which_request_how_often_and_what_helps(
    earth_engine, no_pause, kind
):
    cube = open_s2(bands=["B2", "B3"], chunks={"y": 30})
    earth_engine.fault(kind, path="computePixels", band="B3")
    with pytest.raises(SourceError, match=FORMAT) as failed:
        cube.isel(y=slice(30)).compute()
    for words in ("band B3", "rows 0 to 30", *PERSISTENT[kind]):
        assert words in str(failed.value)
    tries = [r for r in earth_engine.pixel_requests if r.fault]
    assert len(tries) == (5 if "tried 5 times" in PERSISTENT[kind] else 1)


@pytest.mark.parametrize("kind", ["403", "429", "503", "reset", "truncated"])
def test_a_fault_that_stays_when_opening_is_told(earth_engine, no_pause, kind):
    earth_engine.fault(kind, path="value:compute")
    with pytest.raises(SourceError, match=FORMAT) as failed:
        open_s2()
    for words in (S2_SR, *PERSISTENT[kind]):
        assert words in str(failed.value)


@pytest.mark.parametrize(
    ("kind", "times"), [("429", 2), ("500", 1), ("503", 1), ("reset", 1), ("truncated", 1)]
)
def test_a_fault_that_passes_leaves_no_trace(earth_engine, no_pause, kind, times):
    cube = open_s2(bands=["B2", "B3"], chunks={"y": 25})
    earth_engine.fault(kind, times, path="computePixels")
    assert_pixels(cube, known_median(cube))
    requests = earth_engine.pixel_requests
    assert [r.fault for r in requests].count(kind) == times
    assert len(requests) == 4 + times


@pytest.mark.parametrize("kind", ["429", "503", "reset", "truncated"])
def test_a_fault_that_passes_when_opening_is_survived(earth_engine, no_pause, kind):
    expected = open_s2(bands=["B2"]).load()
    earth_engine.fault(kind, 1, path="value:compute")
    xr.testing.assert_identical(open_s2(bands=["B2"]).load(), expected)


def test_one_failed_chunk_spoils_no_other(earth_engine, no_pause):
    cube = open_s2(bands=["B2"], chunks={"y": 10})
    expected = known_median(cube)
    earth_engine.fault("memory", 1)
    parts = [cube.isel(y=slice(first, first + 10)) for first in range(0, 40, 10)]
    with pytest.raises(SourceError, match="rows 0 to 10"):
        parts[0].compute()
    for first, part in zip(range(10, 40, 10), parts[1:], strict=True):
        assert_pixels(part, expected[:, first : first + 10])
    assert_pixels(parts[0], expected[:, :10])


# ---- dates ----


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (pd.Timestamp("2022-06-01"), pd.Timestamp("2022-09-01")),
        (np.datetime64("2022-06-01"), np.datetime64("2022-09-01")),
        ("2022-06-01T00:00:00Z", "2022-09-01T00:00:00+00:00"),
        ("2022-06-01T08:00:00+08:00", "2022-09-01T08:00:00+08:00"),
    ],
)
def test_dates_come_in_any_type(earth_engine, start, end):
    assert open_s2(start=start, end=end).data.name == open_s2().data.name


def test_the_end_is_not_included(earth_engine):
    in_july = {"start": "2022-07-02", "end": "2022-07-07"}
    assert open_s2(composite=None, **in_july).sizes["time"] == 1
    assert open_s2(composite=None, start="2022-07-02", end="2022-07-08").sizes["time"] == 2
