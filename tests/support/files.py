"""Files with one thing that is not as it should be, and the command line that reads them."""

import re
import warnings
from pathlib import Path

import numpy as np
import rasterio
import xarray as xr
from affine import Affine
from rasterio.control import GroundControlPoint
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


def points(place: Affine) -> list[GroundControlPoint]:
    corners = [(row, col) for row in (0, SIZE_PX) for col in (0, SIZE_PX)]
    return [GroundControlPoint(row, col, *(place @ (col, row))) for row, col in corners]


def renamed(folder: Path) -> Path:
    dataset(SCENE).rename(x="col", y="row").to_netcdf(folder / "in.nc")
    return folder / "in.nc"


def corners(folder: Path) -> Path:
    made = dataset(SCENE).rio.write_transform(PLACE)
    made.assign_coords(x=made.x - 5, y=made.y + 5).to_netcdf(folder / "in.nc")
    return folder / "in.nc"


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
