"""What the command line prints as a remedy, typed on the file that caused it: the file then passes.

The right pixels are those that the file was made of, the right place is that of its transform.
"""

import re
import shlex
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from click.testing import CliRunner as ClickRunner
from rasterio.control import GroundControlPoint
from rasterio.rio.main import main_group
from rasterio.warp import transform_bounds
from typer.testing import CliRunner

import xr_terramind as xtm
from tests.support.cubes import BANDS, noise, scene
from xr_terramind.cli import commands
from xr_terramind.cli.read import open_cube

SIZE_PX = 64
SIZE = ["--window-size", "32"]
QUICK = [*SIZE, "--model", "terramind_v1_tiny", "--weights", "random", "--device", "cpu"]
PLACE = Affine(10, 0, 440_000, 0, -10, 6_160_000)
TURNED = Affine.translation(440_000, 6_160_000) @ Affine.rotation(12) @ Affine.scale(10, -10)
SCENE = scene(SIZE_PX, SIZE_PX).values  # (band, y, x), uint16, no 0


def run(*arguments):
    return CliRunner().invoke(commands.app, [str(argument) for argument in arguments])


def unwrap(text: str) -> str:
    return " ".join(text.split())


# --- files, each with one thing that is not as it should be


def tif(folder: Path, values, names=BANDS, *, tags=None, **profile) -> Path:
    path = folder / "in.tif"
    count, height, width = values.shape
    shape = {"count": count, "height": height, "width": width, "dtype": values.dtype.name}
    place = {"crs": "EPSG:32632", "transform": PLACE} | profile
    place = {name: value for name, value in place.items() if value is not None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **shape, **place) as file:
            file.write(values)
            for key, value in (tags or {}).items():
                setattr(file, key, value)
            if names is not None:
                file.descriptions = names
    return path


def dataset(values, names=BANDS, *, dims=("y", "x"), crs=32632, **encoding) -> xr.Dataset:
    height, width = values.shape[-2:]
    coords = {
        "y": PLACE.f - 5 - 10.0 * np.arange(height),
        "x": PLACE.c + 5 + 10.0 * np.arange(width),
    }
    bands = {name: (dims, value) for name, value in zip(names, values, strict=True)}
    made = xr.Dataset(bands, coords=coords)
    if crs is not None:
        made = made.rio.write_crs(crs)
    for name in names:
        made[name].encoding.update(encoding)
    return made


def netcdf(folder: Path, *args, **named) -> Path:
    dataset(*args, **named).to_netcdf(folder / "in.nc")
    return folder / "in.nc"


def zarr(folder: Path, *args, **named) -> Path:
    dataset(*args, **named).to_zarr(folder / "in.zarr", consolidated=False)
    return folder / "in.zarr"


def hole(values, value):
    """The values with a corner that holds something else in all bands."""
    values = values.copy()
    values[:, :16, :16] = value
    return values


REFLECTANCE = (SCENE / 10000).astype("float32")
DECIBELS = noise("S1GRD", SIZE_PX, SIZE_PX)
POWER = (10 ** (DECIBELS.astype("float64") / 10)).astype("float32")
HEIGHTS = noise("DEM", SIZE_PX, SIZE_PX)


def heights_in_feet(folder):
    made = dataset(HEIGHTS / 0.3048, ["elevation"])
    made["elevation"].attrs["units"] = "ft"
    made.to_netcdf(folder / "in.nc")
    return folder / "in.nc"


def with_hole(right):
    return hole(right.astype("float32"), np.nan)


# Name -> (file, flags before, code, flags that are printed, right values).
VALUES = {
    "reflectance nc": (
        lambda f: netcdf(f, REFLECTANCE), [], "reflectance-0-1", "--scale 10000", SCENE,
    ),
    "reflectance zarr": (
        lambda f: zarr(f, REFLECTANCE), [], "reflectance-0-1", "--scale 10000", SCENE,
    ),
    "reflectance tif": (
        lambda f: tif(f, REFLECTANCE), [], "reflectance-0-1", "--scale 10000", SCENE,
    ),
    "reflectance with nodata": (
        lambda f: tif(f, hole(REFLECTANCE, np.float32(-9999)), nodata=-9999),
        [], "reflectance-0-1", "--scale 10000", with_hole(SCENE),
    ),
    "reflectance with an offset": (
        lambda f: tif(f, REFLECTANCE + np.float32(0.1)),
        [], "reflectance-0-1", "--scale 10000 --offset -1000", SCENE,
    ),
    "scaled, and an offset is left": (
        lambda f: tif(f, REFLECTANCE + np.float32(0.1)),
        ["--scale", "10000"], "boa-offset", "--scale 10000 --offset -1000", SCENE,
    ),
    "packed in other steps": (
        lambda f: netcdf(f, REFLECTANCE, dtype="uint16", scale_factor=1 / 40000, _FillValue=65535),
        [], "reflectance-0-1", "--scale 10000", SCENE,
    ),
    "percent": (lambda f: netcdf(f, REFLECTANCE * 100), [], "percent", "--scale 100", SCENE),
    "offset": (
        lambda f: tif(f, hole(SCENE + np.uint16(1000), 0)),
        [], "boa-offset", "--offset -1000", hole(SCENE, 0),
    ),
    "offset in tags": (
        lambda f: tif(
            f, SCENE + np.uint16(1000), tags={"scales": (1e-4,) * 12, "offsets": (-0.1,) * 12}
        ),
        [], "boa-offset", "--offset -1000", SCENE,
    ),
    "offset in tags, applied": (
        lambda f: tif(f, SCENE, tags={"scales": (1e-4,) * 12, "offsets": (-0.1,) * 12}),
        [], "offset-in-attrs", "--offset 0", SCENE,
    ),
    "packed in tags": (
        lambda f: tif(
            f, SCENE * np.uint16(4), tags={"scales": (1 / 40000,) * 12, "offsets": (0,) * 12}
        ),
        [], "packed-values", "--scale 0.25", SCENE,
    ),
    "nodata int16": (
        lambda f: tif(f, hole(SCENE.astype("int16"), -9999)),
        [], "undeclared-nodata", "--nodata -9999", with_hole(SCENE),
    ),
    "nodata float32": (
        lambda f: netcdf(f, hole(SCENE.astype("float32"), np.float32(-3.4028235e38))),
        [], "undeclared-nodata", "--nodata -3.4028235e+38", with_hole(SCENE),
    ),
    "nodata in a scaled file": (
        lambda f: tif(f, hole(REFLECTANCE, np.float32(-9999))),
        ["--scale", "10000"], "undeclared-nodata", "--nodata -9999", with_hole(SCENE),
    ),
    "decibels x 100": (
        lambda f: tif(f, (DECIBELS * 100).round().astype("int16"), ("VV", "VH")),
        ["--modality", "S1GRD"], "decibel-scaled", "--scale 0.01", DECIBELS,
    ),
    "linear power": (
        lambda f: netcdf(f, POWER, ["VV", "VH"]),
        ["--modality", "S1RTC"], "linear-power", "--decibels", DECIBELS,
    ),
    "feet": (heights_in_feet, ["--modality", "DEM"], "height-unit", "--scale 0.3048", HEIGHTS),
}  # fmt: skip


def read_message(output: str, code: str) -> str:
    found = re.search(rf"\[{code}\] (.*?)(?= (?:error|warning) \[|$)", unwrap(output))
    assert found, output
    return found[1]


def merge_flags(before: list[str], flags: list[str]) -> list[str]:
    """The flags that were given before, with those that a message prints in their place."""
    again = set(flags[::2])
    kept = [
        word
        for flag, value in zip(before[::2], before[1::2], strict=True)
        if flag not in again
        for word in (flag, value)
    ]
    return [*kept, *flags]


def assert_embeds_as(path: Path, flags: list[str], right: np.ndarray, modality: str):
    """The embedding is that of the right values, at the place of the file, and nothing warns."""
    target = path.parent / "out.zarr"
    result = run("embed", path, target, *QUICK, *flags)
    assert result.exit_code == 0, result.output
    assert "warning" not in result.output and "found" not in result.output, result.output
    options = {"model": "terramind_v1_tiny", "weights": "random", "window_size": 32}
    expected = xtm.embed_array(right, "grid", **options, device="cpu", modality=modality or "S2L2A")
    got = open_cube(target)["embedding"].load()
    np.testing.assert_allclose(got, expected, atol=5e-3)
    assert got.rio.transform() == PLACE @ Affine.scale(16)
    assert got.rio.crs.to_epsg() == 32632
    again = run("embed", path, target, *QUICK, *flags, "--resume")
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize("name", VALUES)
def test_flags_for_values(name, tmp_path):
    make, before, code, printed, right = VALUES[name]
    path = make(tmp_path)
    first = run("check", path, *SIZE, *before)
    message = read_message(first.stdout, code)
    assert printed in message and "cube" not in message
    flags = merge_flags(before, shlex.split(printed))
    second = run("check", path, *SIZE, *flags)
    assert second.exit_code == 0 and "ready to embed" in second.stdout, second.stdout
    modality = before[1] if before[:1] == ["--modality"] else ""
    assert_embeds_as(path, flags, right, modality)


def test_embed_prints_the_flags_too(tmp_path):
    path = netcdf(tmp_path, REFLECTANCE)
    result = run("embed", path, tmp_path / "out.nc", *QUICK)
    assert result.exit_code == 1
    assert "0-1 reflectance" in result.stderr and "Pass --scale 10000." in unwrap(result.stderr)
    path = tif(tmp_path, SCENE + np.uint16(1000))
    result = run("embed", path, tmp_path / "out.zarr", *QUICK)
    assert result.exit_code == 0 and "pass --offset -1000" in unwrap(result.stderr)


def test_several_remedies_go_together(tmp_path):
    path = netcdf(tmp_path, hole(REFLECTANCE, np.float32(-9999)), crs=None)
    printed = unwrap(run("check", path, *SIZE).stdout)
    assert all(f in printed for f in ("--nodata -9999", "--scale 10000", "--crs EPSG:..."))
    flags = ["--nodata", "-9999", "--scale", "10000", "--crs", "EPSG:32632"]
    assert "ready to embed" in run("check", path, *SIZE, *flags).stdout
    assert_embeds_as(path, flags, with_hole(SCENE), "S2L2A")


# --- files that say how they are packed


@pytest.mark.parametrize("write", [netcdf, zarr])
@pytest.mark.parametrize("offset", [None, 0.0, -0.1])
@pytest.mark.parametrize("fill", [None, np.uint16(0), np.uint16(65535)])
def test_a_packed_file_is_taken_at_its_word(write, offset, fill, tmp_path):
    added = round((offset or 0) * 10000)
    stored = hole(SCENE - np.int64(added), 0 if fill is None else fill).astype("uint16")
    made = dataset(stored)
    for band in BANDS:
        made[band].attrs["scale_factor"] = 1e-4
        if offset is not None:
            made[band].attrs["add_offset"] = offset
        if fill is not None:
            made[band].attrs["_FillValue"] = fill
        else:
            made[band].encoding["_FillValue"] = None
    path = tmp_path / ("in.nc" if write is netcdf else "in.zarr")
    made.to_netcdf(path) if write is netcdf else made.to_zarr(path, consolidated=False)
    result = run("check", path, *SIZE)
    assert result.exit_code == 0 and "ready to embed" in result.stdout, result.output
    assert "scale_factor 0.0001" in unwrap(result.stderr)
    assert_embeds_as(path, [], hole(SCENE, 0), "S2L2A")


def test_a_scale_that_is_given_replaces_the_packing(tmp_path):
    made = dataset(SCENE / 10000, dtype="uint16", scale_factor=1e-4, _FillValue=0)
    made.to_netcdf(tmp_path / "in.nc")
    result = run("check", tmp_path / "in.nc", *SIZE, "--scale", "10000")
    assert "ready to embed" in result.stdout and "scale_factor" not in result.stderr
    assert_embeds_as(tmp_path / "in.nc", ["--scale", "10000"], SCENE, "S2L2A")


# --- bands

NUMBERED = ",".join(f"{number + 1}={band}" for number, band in enumerate(BANDS))
WITH_B10 = np.insert(SCENE, 10, SCENE[0], axis=0)
L1C = [*BANDS[:10], "B10", *BANDS[10:]]
PAIRS = ",".join(f"band_{number}={band}" for number, band in enumerate(BANDS))
ODD = [f"band_{number}" for number in range(12)]

# Name -> (file, code, flags that are printed, flags to pass, right values).
NAMES = {
    "no names": (
        lambda f: tif(f, SCENE, None), "band-order-assumed", f"--bands {','.join(BANDS)}", "", SCENE
    ),
    "no names and a mask": (
        lambda f: tif(f, np.append(SCENE, SCENE[:1], axis=0), None),
        "bands", f"--bands {NUMBERED}", "", SCENE,
    ),
    "no names, named with the mask": (
        lambda f: tif(f, np.append(SCENE, SCENE[:1], axis=0), None),
        "bands", "in the order of the file", f"--bands {','.join(BANDS)},mask", SCENE,
    ),
    "surplus": (
        lambda f: netcdf(f, np.append(SCENE, SCENE[:1], axis=0), [*BANDS, "NDVI"]),
        "bands", f"--bands {','.join(BANDS)}", "", SCENE,
    ),
    "surplus with long names": (
        lambda f: tif(
            f, np.append(SCENE, SCENE[:1], axis=0), [*(f"{b}, of 10 m" for b in BANDS), "NDVI"]
        ),
        "bands", f"--bands {NUMBERED}", "", SCENE,
    ),
    "B10": (
        lambda f: tif(f, WITH_B10, L1C), "bands", "--modality S2L1C", "", WITH_B10
    ),
    "B10 left out": (
        lambda f: tif(f, WITH_B10, L1C), "bands", f"--bands {','.join(BANDS)}", "", SCENE
    ),
    "twice": (
        lambda f: tif(f, np.append(SCENE, SCENE[:1], axis=0), [*BANDS, "nir"]),
        "bands", f"--bands {','.join(BANDS)}", "", SCENE,
    ),
    "the same name twice": (
        lambda f: tif(f, np.append(SCENE, SCENE[:1], axis=0), [*BANDS, "B8"]),
        "bands", f"--bands {NUMBERED}", "", SCENE,
    ),
    "unusual names": (
        lambda f: netcdf(f, SCENE, ODD),
        "bands", "in the order of the file", f"--bands {','.join(BANDS)}", SCENE,
    ),
    "unusual names as pairs": (
        lambda f: netcdf(f, SCENE, ODD),
        "bands", "--bands", f"--bands {PAIRS}", SCENE,
    ),
    "of radar": (
        lambda f: tif(f, DECIBELS, ["VV", "VH"]), "bands", "--modality S1GRD", "", DECIBELS
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_flags_for_bands(name, tmp_path):
    make, code, printed, passed, right = NAMES[name]
    path = make(tmp_path)
    message = read_message(run("check", path, *SIZE).stdout, code)
    assert printed in message and "cube" not in message
    flags = shlex.split(passed or printed)
    result = run("check", path, *SIZE, *flags)
    assert result.exit_code == 0 and "ready to embed" in result.stdout, result.output
    assert_embeds_as(path, flags, right, flags[1] if "--modality" in flags else "")


@pytest.mark.parametrize("bands", ["B1,B2", "red=B4,absent=B3", "13=B1", "0=B1"])
def test_bands_that_the_file_does_not_have(bands, tmp_path):
    result = run("check", tif(tmp_path, SCENE), *SIZE, "--bands", bands)
    assert result.exit_code == 1 and "found" in result.output and "--bands" in result.output


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


def points(place: Affine) -> list[GroundControlPoint]:
    corners = [(row, col) for row in (0, SIZE_PX) for col in (0, SIZE_PX)]
    return [GroundControlPoint(row, col, *(place @ (col, row))) for row, col in corners]


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


def renamed(folder: Path) -> Path:
    dataset(SCENE).rename(x="col", y="row").to_netcdf(folder / "in.nc")
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


def corners(folder: Path) -> Path:
    made = dataset(SCENE).rio.write_transform(PLACE)
    made.assign_coords(x=made.x - 5, y=made.y + 5).to_netcdf(folder / "in.nc")
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
