"""Remedies for where a file lies, options as flags, and what takes Python."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from click.testing import CliRunner as ClickRunner
from rasterio.rio.main import main_group
from rasterio.warp import transform_bounds

import xr_terramind as xtm
from tests.support.files import (
    HEIGHTS,
    PLACE,
    QUICK,
    SCENE,
    SIZE,
    SIZE_PX,
    TURNED,
    assert_embeds_as,
    corners,
    dataset,
    netcdf,
    points,
    read_message,
    renamed,
    run,
    tif,
    unwrap,
)

# --- place


def assert_place(path: Path, flags: list[str], *, area: float):
    """All of the scene is there, on a straight grid of 10 m."""
    from xr_terramind.cli.mend.mends import Mends
    from xr_terramind.cli.read import open_source

    told = {k[2:]: v for k, v in zip(flags[::2], flags[1::2], strict=True)}
    with open_source(path, Mends(**told), {}) as source:
        cube = source.cube.load()
    assert cube.rio.crs.to_epsg() == int(flags[-1].partition(":")[2])
    valid = (cube != 0).any("band")
    found = float(valid.sum()) * abs(cube.rio.transform().determinant)
    np.testing.assert_allclose(found, area, rtol=0.03)
    return cube


def assert_pixels(cube, place: Affine):
    xs, ys = np.meshgrid(cube.x.values, cube.y.values)
    cols, rows = ~place @ (xs, ys)
    inside = (cols > 0.3) & (cols < SIZE_PX - 0.3) & (rows > 0.3) & (rows < SIZE_PX - 0.3)
    assert inside.any()
    r, c = (np.floor(n[inside]).astype(int) for n in (rows, cols))
    got, right = cube.values[:, inside], SCENE[:, r, c]
    assert (got == right).mean() > 0.98  # a few lie on the edge between two pixels


def pixels_of_20_m(folder):
    return tif(folder, SCENE, transform=PLACE @ Affine.scale(2))


def degrees(folder):
    west, south, east, north = transform_bounds(
        "EPSG:32632",
        "EPSG:4326",
        *rasterio.transform.array_bounds(SIZE_PX, SIZE_PX, PLACE @ Affine.scale(2)),
    )
    place = rasterio.transform.from_bounds(west, south, east, north, SIZE_PX, SIZE_PX)
    return tif(folder, SCENE, crs="EPSG:4326", transform=place)


def mercator(folder):
    bounds = rasterio.transform.array_bounds(SIZE_PX, SIZE_PX, PLACE @ Affine.scale(2))
    box = transform_bounds("EPSG:32632", "EPSG:3857", *bounds)
    place = rasterio.transform.from_bounds(*box, SIZE_PX, SIZE_PX)
    return tif(folder, SCENE, crs="EPSG:3857", transform=place)


def east_of_180(folder, west=190.0):
    place = Affine(10 / 111_320, 0, west, 0, -10 / 111_320, -0.01)
    return tif(folder, SCENE, crs="EPSG:4326", transform=place)


def across_180(folder):
    return east_of_180(folder, 179.998)


# Name -> (file, code, flags that are printed, area in m2, transform of the pixels or None).
PLACES = {
    "turned": (
        lambda f: tif(f, SCENE, transform=TURNED, nodata=0), "grid", "--warp EPSG:32632", 1, TURNED
    ),
    "turned, without nodata": (
        lambda f: tif(f, SCENE, transform=TURNED), "grid", "--warp EPSG:32632", 1, TURNED
    ),
    "turned, without a CRS": (
        lambda f: tif(f, SCENE, transform=TURNED, crs=None),
        "grid", "--crs EPSG:... --warp EPSG:...", 1, TURNED,
    ),
    "ground control points": (
        lambda f: tif(f, SCENE, transform=None, gcps=points(TURNED)),
        "grid", "--warp EPSG:32632", 1, TURNED,
    ),
    "20 m": (
        pixels_of_20_m, "pixel-size", "--warp EPSG:32632", 4, PLACE @ Affine.scale(2)
    ),
    "degrees": (degrees, "pixel-size", "--warp EPSG:32632", 4, None),
    "Web Mercator": (mercator, "pixel-size", "--warp EPSG:32632", 4, None),
    "beyond 180 degrees": (east_of_180, "longitudes", "--warp EPSG:32702", 1, None),
    "across 180 degrees": (across_180, "longitudes", "--warp EPSG:32701", 1, None),
    "no CRS": (lambda f: tif(f, SCENE, crs=None), "no-crs", "--crs EPSG:...", 1, PLACE),
    "no CRS nc": (lambda f: netcdf(f, SCENE, crs=None), "no-crs", "--crs EPSG:...", 1, PLACE),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_flags_for_places(name, tmp_path):
    make, code, printed, times, place = PLACES[name]
    path = make(tmp_path)
    message = read_message(run("check", path, *SIZE).stdout, code)
    assert printed in message and "cube" not in message
    flags = shlex.split(printed.replace("EPSG:...", "EPSG:32632"))
    result = run("check", path, *SIZE, *flags)
    assert result.exit_code == 0 and "ready to embed" in result.stdout, result.output
    if path.suffix == ".tif":
        cube = assert_place(path, flags, area=times * 64 * 64 * 100.0)
        if place is not None:
            assert_pixels(cube, place)
    done = run("embed", path, tmp_path / "out.zarr", *QUICK, *flags)
    assert done.exit_code == 0 and "warning" not in done.output, done.output
    assert run("embed", path, tmp_path / "out.zarr", *QUICK, *flags, "--resume").exit_code == 0


def test_a_turned_image_without_nodata_is_empty_around(tmp_path):
    path = tif(tmp_path, HEIGHTS.round().astype("int16"), ["DEM"], transform=TURNED)
    target = tmp_path / "out.nc"
    flags = ["--modality", "DEM", "--warp", "EPSG:32632"]
    assert run("embed", path, target, *QUICK, *flags).exit_code == 0
    with xr.open_dataset(target) as stored:
        assert float(stored.valid_fraction[0, 0]) < 1  # a corner of the envelope


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_tif_without_a_place_is_given_one_by_rasterio(tmp_path):
    path = tif(tmp_path, SCENE, crs=None, transform=None)
    message = read_message(run("check", path, *SIZE).stdout, "no-crs")
    command = re.search(r"rio (edit-info .*?'\[.*?\]')", message)[1]
    command = command.replace("EPSG:...", "EPSG:32632")
    command = command.replace("WEST", "440000").replace("NORTH", "6160000")
    done = ClickRunner().invoke(main_group, shlex.split(command))
    assert done.exit_code == 0, done.output
    assert "ready to embed" in run("check", path, *SIZE).stdout
    assert_embeds_as(path, [], SCENE, "S2L2A")


def test_warp_is_for_tifs(tmp_path):
    result = run("check", netcdf(tmp_path, SCENE), "--warp", "EPSG:32632")
    assert result.exit_code == 1 and "expected a .tif" in unwrap(result.output)
    result = run("check", tif(tmp_path, SCENE), "--warp", "nowhere")
    assert result.exit_code == 1 and "--warp nowhere" in unwrap(result.output)


# --- options, and what takes Python


def test_an_extent_smaller_than_a_window_is_resized(tmp_path):
    path = tif(tmp_path, SCENE)
    message = read_message(run("check", path).stdout, "small-extent")
    assert "--fit resize" in message
    assert "ready to embed" in run("check", path, "--fit", "resize").stdout
    done = run("embed", path, tmp_path / "out.nc", *QUICK[2:], "--fit", "resize")
    assert done.exit_code == 0 and "warning" not in done.output


def test_options_are_written_as_flags(tmp_path):
    path, target = netcdf(tmp_path, SCENE), tmp_path / "out.zarr"
    assert run("embed", path, target, *QUICK).exit_code == 0
    other = run("embed", path, target, *QUICK, "--layer", "2", "--resume")
    assert other.exit_code == 1
    assert "layer_index" in other.stderr and "--overwrite" in other.stderr
    assert "=True" not in other.stderr


def series(folder: Path) -> Path:
    """Twelve dates, of which every third carries the offset."""
    dates = np.array("2022-01-05", "datetime64[D]") + 10 * np.arange(6)
    cube = xtm.sample_scene(64, time=6).assign_coords(time=dates.astype("datetime64[ns]"))
    shifted = cube + np.uint16(1000) * (np.arange(6) % 3 == 2)[:, None, None, None]
    shifted = xr.DataArray(shifted, dims=cube.dims, coords=cube.coords).astype("uint16")
    shifted.to_netcdf(folder / "in.nc")
    return folder / "in.nc"


def uneven(folder: Path) -> Path:
    made = dataset(SCENE)
    made.assign_coords(x=made.x + (np.arange(SIZE_PX) > 20) * 30.0).to_netcdf(folder / "in.nc")
    return folder / "in.nc"


def twice(folder: Path) -> Path:
    cube = dataset(SCENE).to_dataarray("band")
    xr.Dataset({"first": cube, "second": cube}).to_netcdf(folder / "in.nc")
    return folder / "in.nc"


def coarse(folder: Path) -> Path:
    centres = 20.0 * np.arange(SIZE_PX)
    made = dataset(SCENE).assign_coords(x=440_010 + centres, y=6_159_990 - centres)
    made.to_netcdf(folder / "in.nc")
    return folder / "in.nc"


def first_call(text: str) -> str:
    """The first chain of calls on ``cube``, up to the bracket that ends it."""
    start = re.search(r"cube(?=[.\[])", text).start()
    depth = 0
    for end in range(start, len(text)):
        depth += (text[end] in "([{") - (text[end] in ")]}")
        ends = text[end] in ")]" and not re.match(r"\.\w|[\[(]", text[end + 1 :])
        if depth == 0 and ends:
            return text[start : end + 1]
    raise AssertionError(text)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (series, "boa-offset"),
        (uneven, "grid"),
        (renamed, "dims"),
        (twice, "dims"),
        (coarse, "pixel-size"),
        (corners, "place-differs"),
    ],
)
def test_what_takes_python_says_how_the_cube_is_opened(make, code, tmp_path):
    path = make(tmp_path)
    message = read_message(run("check", path, *SIZE).stdout, code)
    opened, remedy = re.search(r"It takes Python, with cube = (.*?): ([A-Z].*)", message).groups()
    assert "drop_encoding().to_netcdf(" in remedy
    names = {"xarray": xr, "numpy": np}
    names["cube"] = eval(opened, names)
    assert {SIZE_PX} <= {*names["cube"].sizes.values()}
    mended = eval(first_call(remedy), names)
    mended.drop_encoding().to_netcdf(tmp_path / "mended.nc")
    assert "ready to embed" in run("check", tmp_path / "mended.nc", *SIZE).stdout
