"""The commands that look at stored embeddings: the same maps as in Python, as files."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray
from matplotlib.image import imread
from typer.testing import CliRunner

import xr_terramind as xtm
from tests.support.cubes import TINY
from xr_terramind.cli import commands
from xr_terramind.cli.look import MIN_PICTURE_PX
from xr_terramind.cli.read import open_embedding
from xr_terramind.result.describe import describe

QUICK = {**TINY, "window_size": 64}


def run(*arguments):
    return CliRunner().invoke(commands.app, [str(argument) for argument in arguments])


def said(result) -> str:
    """Return what went to both streams, unwrapped."""
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def embedding():
    scene = xtm.sample_scene(320)
    scene[:, :32, :48] = 0
    return scene.terramind.embed(**QUICK)


@pytest.fixture(scope="module")
def stored(embedding, tmp_path_factory):
    """The same embedding as every kind of file, and a time series."""
    folder = tmp_path_factory.mktemp("stored")
    embedding.terramind.to_zarr(folder / "float.zarr")
    embedding.terramind.to_zarr(folder / "int8.zarr", dtype="int8")
    embedding.to_netcdf(folder / "float.nc")
    embedding.rio.to_raster(folder / "float.tif")
    series = xtm.sample_scene(96, time=3).terramind.embed(**QUICK)
    series.terramind.to_zarr(folder / "series.zarr")
    return folder


FILES = ["float.zarr", "int8.zarr", "float.nc", "float.tif"]


@pytest.mark.parametrize("name", FILES)
def test_every_file_opens_as_the_embedding(name, embedding, stored):
    found = open_embedding(stored / name)
    assert found.chunks is not None
    step = float(abs(embedding).max()) / 127 if name.startswith("int8") else 1e-6
    np.testing.assert_allclose(found, embedding, atol=step)
    assert found.dims == embedding.dims and found.rio.crs == embedding.rio.crs
    np.testing.assert_array_equal(found.x, embedding.x)


def test_what_holds_no_embedding_is_refused(tmp_path):
    xtm.sample_scene(32).to_netcdf(tmp_path / "cube.nc")
    xtm.sample_scene(32).rio.to_raster(tmp_path / "cube.tif")
    for name in ("cube.nc", "cube.tif"):
        result = run("info", tmp_path / name)
        assert result.exit_code == 1
        assert "expected an embedding" in said(result)
        assert f"xr-terramind embed {name}" in said(result)


# --- info ---


@pytest.mark.parametrize("name", FILES)
def test_info_says_what_made_it(name, embedding, stored):
    result = run("info", stored / name)
    assert result.exit_code == 0, result.output
    for part in (
        "feature 192, y 20, x 20",
        "EPSG:32632, x 440,000 to 443,200, y 6,156,800 to 6,160,000",
        "160 x 160 m",
        "2022-06-15",
        "terramind_v1_tiny, S2L2A, last layer",
        f"random (the vectors mean nothing), sha256 {embedding.attrs['weights_sha256']}",
        "B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B11 B12; clipped to 0..10000; normalised: zscore",
        "64 px, overlap 0 px",
        "collection synthetic",
        f"xr_terramind {xtm.__version__}",
    ):
        assert part in said(result)
    if name != "float.tif":  # which holds no coordinates but x and y
        assert "98.5% of the pixels; 1.5% of the cells are empty" in said(result)


def test_info_of_a_series_and_of_a_pooled_vector(stored, tmp_path):
    assert "3 dates, 2022-06-15 to 2022-08-15" in said(run("info", stored / "series.zarr"))
    pooled = xtm.sample_scene(96).terramind.embed(output="pooled", overlap=32, layer=3, **QUICK)
    pooled.to_netcdf(tmp_path / "pooled.nc")
    text = said(run("info", tmp_path / "pooled.nc"))
    assert "layer 3" in text and "64 px, overlap 32 px, pooled by mean" in text
    assert "where" not in text


def test_describe_refuses_what_lost_its_attributes(embedding):
    with pytest.raises(xtm.GridError, match="keep_attrs"):
        describe(embedding.drop_attrs())


# --- rgb ---


def test_rgb_as_a_picture(embedding, stored, tmp_path):
    target = tmp_path / "rgb.png"
    result = run("rgb", stored / "float.zarr", target)
    assert result.exit_code == 0, result.output
    assert f"wrote {target}: 20 x 20 cells" in said(result)
    picture = imread(target)
    cell = MIN_PICTURE_PX // 20
    assert picture.shape == (20 * cell, 20 * cell, 4)
    expected = embedding.terramind.to_rgb().transpose("y", "x", "rgb").values
    assert not picture[:cell, :cell, 3].any() and picture[-cell:, -cell:, 3].all()
    np.testing.assert_allclose(picture[-1, -1, :3], expected[-1, -1], atol=1 / 255)
    np.testing.assert_allclose(picture[0, -1, :3], expected[0, -1], atol=1 / 255)


def test_pictures_have_north_up(embedding, tmp_path):
    embedding.isel(y=slice(None, None, -1)).to_netcdf(tmp_path / "turned.nc")
    embedding.to_netcdf(tmp_path / "upright.nc")
    for name in ("turned", "upright"):
        place = ("--x", 442000, "--y", 6158000)
        done = run("similarity", tmp_path / f"{name}.nc", tmp_path / f"{name}.png", *place)
        assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(*(imread(tmp_path / f"{n}.png") for n in ("turned", "upright")))


def test_rgb_as_a_geotiff(stored, tmp_path):
    result = run("rgb", stored / "int8.zarr", tmp_path / "rgb.tif")
    assert result.exit_code == 0, result.output
    with rasterio.open(tmp_path / "rgb.tif") as raster:
        assert raster.crs.to_epsg() == 32632 and raster.shape == (20, 20)
        assert raster.colorinterp[:3] == (
            rasterio.enums.ColorInterp.red,
            rasterio.enums.ColorInterp.green,
            rasterio.enums.ColorInterp.blue,
        )


# --- similarity ---


def test_similarity_by_degrees_is_that_of_python(embedding, stored, tmp_path):
    lon, lat = 8.07, 55.56
    target = tmp_path / "alike.tif"
    result = run("similarity", stored / "float.zarr", target, "--lon", lon, "--lat", lat)
    assert result.exit_code == 0, result.output
    assert "to 1.000" in said(result)
    expected = embedding.terramind.similarity(x=lon, y=lat, crs="EPSG:4326")
    with rioxarray.open_rasterio(target, masked=True) as found:
        np.testing.assert_allclose(found.squeeze(), expected, atol=1e-6)
        assert found.rio.crs == embedding.rio.crs


@pytest.mark.parametrize(
    "place", [(), ("--lon", 8), ("--x", 4, "--lat", 5), ("--lon", 8, "--lat", 55, "--x", 4)]
)
def test_a_place_is_two_numbers(place, stored, tmp_path):
    result = run("similarity", stored / "float.zarr", tmp_path / "a.png", *place)
    assert result.exit_code == 2
    assert "--lon and --lat, or --x and --y" in said(result)


def test_a_place_outside_is_said(stored, tmp_path):
    result = run("similarity", stored / "float.zarr", tmp_path / "a.png", "--lon", 0, "--lat", 0)
    assert result.exit_code == 1 and "expected" in said(result)
    assert not (tmp_path / "a.png").exists()


# --- both ---


def test_of_a_series_one_date_is_chosen(stored, tmp_path):
    series, target = stored / "series.zarr", tmp_path / "july.tif"
    result = run("rgb", series, target)
    assert result.exit_code == 1
    assert "3 dates, 2022-06-15 to 2022-08-15" in said(result)
    assert "--date 2022-06-15" in said(result)
    assert run("rgb", series, target, "--date", "2022-07-10").exit_code == 0
    assert run("rgb", series, tmp_path / "b.tif", "--date", "soon").exit_code == 2
    assert run("rgb", stored / "float.nc", tmp_path / "b.tif", "--date", "2022").exit_code == 1


def test_targets_are_checked_before_anything_is_read(stored, tmp_path):
    there = tmp_path / "there.png"
    there.write_bytes(b"")
    for target, message in (
        (tmp_path / "a.jpg", "expected .png"),
        (tmp_path / "no" / "a.png", "no folder"),
        (there, "--overwrite"),
    ):
        result = run("rgb", tmp_path / "missing.zarr", target)
        assert result.exit_code == 1 and message in said(result)
    assert run("rgb", stored / "float.nc", there, "--overwrite").exit_code == 0
    assert there.stat().st_size > 0


# --- help and completion ---


@pytest.mark.parametrize("command", [name.name or name.callback.__name__
                                     for name in commands.app.registered_commands])  # fmt: skip
def test_help_shows_an_example(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Example" in result.output and f"xr-terramind {command}" in said(result)


def completion(line: str, step: str = "complete_bash") -> dict[str, str]:
    """What a shell sets when it asks the program to complete a line."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    return {"_XR_TERRAMIND_COMPLETE": step, **words}


def test_the_shell_completes_commands_and_models():
    def complete(*asked: str) -> str:
        settings = completion(*asked)
        return CliRunner().invoke(commands.app, prog_name="xr-terramind", env=settings).output

    assert complete("xr-terramind sim").split() == ["similarity"]
    assert complete("xr-terramind embed --model terramind_v1_b").split() == ["terramind_v1_base"]
    assert complete("xr-terramind plan --modality S1").split() == ["S1GRD", "S1RTC"]
    assert "complete -o default -F" in complete("", "source_bash")


def test_the_program_itself_completes():
    program = Path(sys.executable).with_name("xr-terramind")
    environment = {**os.environ, **completion("xr-terramind sim")}
    done = subprocess.run([program], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["similarity"]
