"""The synthetic scene: deterministic, lazy where asked, georeferenced, and true to its parts."""

import subprocess
import sys
import zlib

import dask
import numpy as np
import pytest
import xarray as xr

from xr_terramind.sources.synthetic import landscape
from xr_terramind.sources.synthetic.scene import sample_scene

ADAPTER_ORDER = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12"]
CRC_OF_64_PX = 3375961856


def refuse_to_compute(*args, **kwargs):
    raise AssertionError("something was computed")


def contrast(scene, one, other):
    """(one - other) / (one + other), as NDVI and NDWI are."""
    one, other = (scene.sel(band=band).astype("float64") for band in (one, other))
    return (one - other) / (one + other)


@pytest.fixture(scope="module")
def scene():
    return sample_scene(size_px=400)


def test_same_arguments_same_scene(scene):
    xr.testing.assert_identical(scene, sample_scene(size_px=400))


def test_same_scene_on_every_machine():
    assert zlib.crc32(sample_scene(size_px=64).values.tobytes()) == CRC_OF_64_PX


def test_same_scene_in_a_fresh_process_that_loads_nothing_heavy():
    code = (
        "import sys, zlib\n"
        "from xr_terramind.sources.synthetic.scene import sample_scene\n"
        "print(zlib.crc32(sample_scene(size_px=64).values.tobytes()))\n"
        "print(sorted({'torch', 'matplotlib', 'terratorch', 'ee'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == [str(CRC_OF_64_PX), "[]"]


@pytest.mark.parametrize(
    "chunks",
    [
        100,
        -1,
        "auto",
        {},
        {"x": 37, "y": 64},
        {"band": 5, "x": 50},
        {"y": (1, 96), "x": "auto"},
        (5, 97, 31),
    ],
    ids=str,
)
def test_chunks_change_no_value(chunks):
    chunked = sample_scene(size_px=97, seed=3, chunks=chunks)
    assert chunked.chunks is not None
    xr.testing.assert_identical(chunked.compute(), sample_scene(size_px=97, seed=3))


@pytest.mark.parametrize("chunks", [{"time": 1, "band": 7, "y": 33}, (2, 12, 20, 97)], ids=str)
def test_chunks_in_time_change_no_value(chunks):
    chunked = sample_scene(size_px=97, time=3, chunks=chunks)
    xr.testing.assert_identical(chunked.compute(), sample_scene(size_px=97, time=3))


def test_a_chunk_is_higher_than_the_strips_it_is_drawn_in():
    tall = 2 * landscape.STRIP_PX + 5
    chunked = sample_scene(size_px=tall, chunks={"y": landscape.STRIP_PX + 3, "x": 60})
    np.testing.assert_array_equal(chunked, sample_scene(size_px=tall))


def test_building_with_chunks_computes_nothing(monkeypatch):
    monkeypatch.setattr("xr_terramind.sources.synthetic.scene.draw", refuse_to_compute)
    with dask.config.set(scheduler=refuse_to_compute):
        lazy = sample_scene(size_px=10980, time=2, chunks={"time": 1, "x": 2048, "y": 2048})
        assert lazy.shape == (2, 12, 10980, 10980)
        assert lazy.data.numblocks == (2, 1, 6, 6)


def test_one_block_of_a_large_scene_draws_alone():
    lazy = sample_scene(size_px=10980, chunks={"x": 100, "y": 100})
    corner = lazy.data.blocks[0, -1, 30].compute()
    assert corner.shape == (12, 80, 100)
    assert corner.dtype == np.uint16


def test_graph_keys_are_deterministic():
    first, second = (sample_scene(size_px=64, chunks=32) for _ in range(2))
    assert first.data.name == second.data.name
    assert first.data.name != sample_scene(size_px=64, seed=1, chunks=32).data.name
    assert first.data.name != sample_scene(size_px=64, chunks=16).data.name


def test_labels(scene):
    assert scene.name == "sentinel2"
    assert scene.dims == ("band", "y", "x")
    assert scene.band.values.tolist() == ADAPTER_ORDER
    assert scene.time.shape == ()
    assert scene.time == np.datetime64("2022-06-15")
    assert scene.attrs["collection"] == "synthetic"
    assert scene.attrs["scale_m"] == 10
    assert all(isinstance(value, str | int | float) for value in scene.attrs.values())


def test_times_are_monthly():
    series = sample_scene(size_px=8, time=8)
    assert series.dims == ("time", "band", "y", "x")
    months = series.time.values.astype("datetime64[M]")
    assert months.tolist() == np.arange("2022-06", "2023-02", dtype="datetime64[M]").tolist()
    assert series.time.dt.day.values.tolist() == [15] * 8


@pytest.mark.parametrize("chunks", [None, 50])
def test_georeference(chunks):
    scene = sample_scene(size_px=120, chunks=chunks)
    assert scene.rio.crs.to_epsg() == 32632
    west, south, east, north = scene.rio.bounds()
    assert (east - west, north - south) == (1200, 1200)
    assert west % 10 == north % 10 == 0
    for recalc in (False, True):
        assert tuple(scene.rio.transform(recalc=recalc))[:6] == (10, 0, west, 0, -10, north)
    assert scene.x.values[[0, 1]].tolist() == [west + 5, west + 15]
    assert scene.y.values[[0, 1]].tolist() == [north - 5, north - 15]


def test_georeference_survives_a_geotiff(scene, tmp_path):
    rioxarray = pytest.importorskip("rioxarray")
    scene.rio.to_raster(tmp_path / "scene.tif")
    with rioxarray.open_rasterio(tmp_path / "scene.tif") as read:
        assert read.rio.crs == scene.rio.crs
        assert read.rio.transform() == scene.rio.transform()
        np.testing.assert_array_equal(read, scene)


@pytest.mark.parametrize("size_px", [1, 2, 17, 64, 224])
def test_digital_numbers(size_px):
    scene = sample_scene(size_px=size_px, time=2)
    assert scene.dtype == np.uint16
    assert scene.shape == (2, 12, size_px, size_px)
    assert scene.min() >= 1
    assert scene.max() <= 10_000


def test_seeds_differ(scene):
    for seed in (1, 2, 2**32 - 1):
        assert (sample_scene(size_px=400, seed=seed) != scene).mean() > 0.5


def test_the_first_date_of_a_series_is_the_single_scene(scene):
    xr.testing.assert_identical(sample_scene(size_px=400, time=2).isel(time=0), scene)


def test_crops_grow_and_are_harvested():
    ndvi = contrast(sample_scene(size_px=200, time=8), "B8", "B4").isel(x=slice(60, None))
    june, january = ndvi.isel(time=0), ndvi.isel(time=7)
    assert june.median() > january.median() + 0.05
    assert (abs(ndvi.diff("time")) > 0.2).any(("y", "x")).all()


def test_the_cloud_moves():
    blue = sample_scene(size_px=200, time=3).sel(band="B2")
    clouds = blue > 6000
    assert clouds.any(("y", "x")).all()
    assert not (clouds.isel(time=0) & clouds.isel(time=1)).equals(clouds.isel(time=0))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("size_px", [64, 224])
def test_small_scenes_hold_plants_water_and_bright_ground(size_px, seed):
    scene = sample_scene(size_px=size_px, seed=seed)
    assert (contrast(scene, "B8", "B4") > 0.6).mean() > 0.1
    assert (contrast(scene, "B3", "B8") > 0.3).mean() > 0.02
    assert (scene.sel(band="B4") > 2000).mean() > 0.02


def test_sea_is_dark_in_every_band(scene):
    sea = scene.isel(x=slice(0, 12), y=slice(0, 100))
    assert (contrast(sea, "B3", "B8") > 0.5).all()
    assert (sea < 1000).all()


def test_woods_are_dark_and_green(scene):
    woods = (contrast(scene, "B8", "B4") > 0.7) & (scene.sel(band="B3") < 450)
    assert woods.mean() > 0.03


def test_soil_is_brighter_in_the_short_wave_infrared_than_in_red(scene):
    soil = (scene.sel(band="B4") > 1200) & (contrast(scene, "B8", "B4") < 0.3)
    soil &= scene.sel(band="B11") > scene.sel(band="B8")
    assert soil.mean() > 0.01


def test_a_cloud_is_white_and_casts_a_shadow(scene):
    visible = scene.sel(band=["B2", "B3", "B4"])
    cloud = (visible > 7000).all("band")
    assert 0.002 < cloud.mean() < 0.1
    # A shadow takes more from the near infrared than plants or soil ever lack.
    rows, cols = np.nonzero(cloud.values)
    around = scene.isel(
        y=slice(max(0, rows.min() - 60), rows.max()), x=slice(max(0, cols.min() - 60), cols.max())
    )
    near_infrared = around.sel(band="B8")
    assert (near_infrared < 0.4 * near_infrared.median()).mean() > 0.02


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"size_px": 0}, "size_px=0"),
        ({"size_px": -5}, "size_px=-5"),
        ({"size_px": 10.5}, "size_px=10.5"),
        ({"size_px": "64"}, "size_px='64'"),
        ({"size_px": True}, "size_px=True"),
        ({"time": 0}, "time=0"),
        ({"time": 1.0}, "time=1.0"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 2**32}, "seed=4294967296"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_arguments_say_found_expected_remedy(arguments, found):
    with pytest.raises(ValueError, match="expected a whole number from") as raised:
        sample_scene(**arguments)
    assert found in str(raised.value)
    assert "Pass" in str(raised.value)


@pytest.mark.parametrize("chunks", [{"lon": 10}, (10, 10), {"x": (1, 2)}], ids=str)
def test_chunks_that_do_not_fit(chunks):
    with pytest.raises(ValueError):
        sample_scene(size_px=64, chunks=chunks)


def test_numpy_integers_are_integers(scene):
    xr.testing.assert_identical(sample_scene(size_px=np.int64(400), seed=np.uint8(0)), scene)
