"""Every remedy of docs/troubleshooting.md on the input that its heading names: it then passes.

Python runs on ``cube``, lines of the command line on a file of the same pixels.
"""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from click.testing import CliRunner as ClickRunner
from rasterio.rio.main import main_group
from typer.testing import CliRunner

import xr_terramind as xtm
from tests.support.files import (
    BANDS,
    DECIBELS,
    PLACE,
    POWER,
    REFLECTANCE,
    SCENE,
    SIZE_PX,
    TURNED,
    corners,
    dataset,
    heights_in_feet,
    hole,
    netcdf,
    points,
    renamed,
    tif,
)
from xr_terramind.cli import commands
from xr_terramind.cli.read import open_cube

PAGE = Path(__file__).resolve().parents[2] / "docs/troubleshooting.md"
CHAPTERS = ("Bands", "Dimensions and grid", "Values")
QUICK = {"model": "terramind_v1_tiny", "weights": "random", "window_size": 32, "device": "cpu"}


def read_sections() -> dict[str, list[tuple[str, str]]]:
    """Heading -> its blocks (language, text), in the chapters that speak of cubes."""
    found: dict[str, list[tuple[str, str]]] = {}
    for chapter in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        if chapter.partition("\n")[0] not in CHAPTERS:
            continue
        for section in re.split(r"^### ", chapter, flags=re.MULTILINE)[1:]:
            heading, _, text = section.partition("\n")
            found[heading] = re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return found


def longitudes(folder: Path) -> Path:
    """Pixels of 10 m at 190 degrees east."""
    step = 10 / 111_320
    place = Affine(step, 0, 190, 0, -step, 0.001)
    return tif(folder, SCENE, crs="EPSG:4326", transform=place)


def missing_column(folder: Path) -> Path:
    made = dataset(SCENE).drop_vars("spatial_ref").rio.write_crs(32632)
    made.isel(x=[*range(20), *range(21, SIZE_PX)]).to_netcdf(folder / "in.nc")
    return folder / "in.nc"


def stacked(folder: Path, names: list[str], values=SCENE, *, turn: bool = False) -> Path:
    """One variable with a dimension for its bands, whose names are its labels."""
    made = dataset(values, names).to_dataarray("band", name="pixels")
    made = made.rename(x="col", y="row") if turn else made
    made.to_netcdf(folder / "in.nc")
    return folder / "in.nc"


def pixels_20_m(folder: Path) -> Path:
    return tif(folder, SCENE, transform=PLACE @ Affine.scale(2))


def packed(folder: Path, values, offset: float, scale: float = 1e-4) -> Path:
    tags = {"scales": (scale,) * 12, "offsets": (offset,) * 12}
    return tif(folder, values, tags=tags)


ODD = [f"layer {number}" for number in range(12)]
MORE = np.append(SCENE, SCENE[:1], axis=0)

# The beginning of a heading -> (code, its input, options of check).
INPUTS = {
    "found bands [...], without": ("bands", lambda f: stacked(f, ODD), {}),
    "found surplus bands": ("bands", lambda f: stacked(f, [*BANDS, "NDVI"], MORE), {}),
    "found ... as ... and": ("bands", lambda f: stacked(f, [*BANDS, "nir"], MORE), {}),
    "found ... bands without names": ("band-order-assumed", lambda f: tif(f, SCENE, None), {}),
    "found dimensions": ("dims", lambda f: stacked(f, BANDS, turn=True), {}),
    "found a Dataset with variables": ("dims", renamed, {}),
    "found a coordinate ... that is unevenly": ("grid", missing_column, {}),
    "found a rotated transform": ("grid", lambda f: tif(f, SCENE, transform=TURNED), {}),
    "found ... ground control points": (
        "grid", lambda f: tif(f, SCENE, transform=None, gcps=points(TURNED)), {},
    ),
    "found no CRS": ("no-crs", lambda f: netcdf(f, SCENE, crs=None), {}),
    "found coordinates that only number": (
        "no-crs", lambda f: tif(f, SCENE, crs=None, transform=None), {},
    ),
    "found x=... and y=...": ("place-differs", corners, {}),
    "found longitudes": ("longitudes", longitudes, {}),
    "found pixels of": ("pixel-size", pixels_20_m, {}),
    "found an extent of": ("small-extent", lambda f: tif(f, SCENE), {"window_size": 224}),
    "found values from ... to ... but for a few...: 0-1": (
        "reflectance-0-1", lambda f: netcdf(f, REFLECTANCE), {},
    ),
    "found values from ... to ... but for a few...: percent": (
        "percent", lambda f: netcdf(f, REFLECTANCE * 100), {},
    ),
    "found values from ... to ... but for a few...: bytes": (
        "bytes", lambda f: tif(f, (REFLECTANCE * 255).astype("uint8") + np.uint8(1)), {},
    ),
    "found values from ... to ... but for a few...: which": (
        "packed-values", lambda f: packed(f, SCENE * np.uint16(4), 0, 1 / 40000), {},
    ),
    "found no valid value under 1000": (
        "boa-offset", lambda f: tif(f, hole(SCENE + np.uint16(1000), 0)), {},
    ),
    "found add_offset": ("offset-in-attrs", lambda f: packed(f, SCENE, -0.1), {}),
    "found ... in ...% of the valid pixels": (
        "undeclared-nodata", lambda f: tif(f, hole(SCENE.astype("int16"), -9999)), {},
    ),
    "found Sentinel-1 values from ... to ..., none": (
        "linear-power", lambda f: netcdf(f, POWER, ["VV", "VH"]), {"modality": "S1GRD"},
    ),
    "found Sentinel-1 values from ... to ...: dB": (
        "decibel-scaled",
        lambda f: tif(f, (DECIBELS * 100).round().astype("int16"), ("VV", "VH")),
        {"modality": "S1GRD"},
    ),
    "found heights": ("height-unit", heights_in_feet, {"modality": "DEM"}),
    "found values of dtype": ("dtype", None, {}),
}  # fmt: skip


def section_of(start: str) -> tuple[str, list[tuple[str, str]]]:
    found = [(heading, blocks) for heading, blocks in read_sections().items()
             if heading.startswith(start)]  # fmt: skip
    assert len(found) == 1, (start, [heading for heading, _ in found])
    return found[0]


def blocks_of(language: str) -> list[tuple[str, str]]:
    return [
        (start, text) for start in INPUTS for kind, text in section_of(start)[1] if kind == language
    ]


def check(cube, options) -> xtm.InputReport:
    with xtm.set_options(**{"window_size": 32, **options}):
        return cube.terramind.check()


def make_input(start: str, folder: Path):
    make = INPUTS[start][1]
    if make is None:  # no file holds objects as pixels
        return xtm.sample_scene(SIZE_PX).astype(object)
    opened = open_cube(make(folder))
    return opened["pixels"] if isinstance(opened, xr.Dataset) and "pixels" in opened else opened


def measure_m2(cube) -> float:
    """The ground of pixels with data, in a CRS of metres."""
    array = cube.to_dataarray("band") if isinstance(cube, xr.Dataset) else cube
    array = array.where(array != array.attrs.get("_FillValue", 0)).load()
    step = abs(float(array.x[1] - array.x[0]) * float(array.y[1] - array.y[0]))
    return float(array.notnull().any("band").sum()) * step


def test_every_block_of_a_cube_has_an_input():
    told = {heading for heading, blocks in read_sections().items() if blocks}
    assert told == {section_of(start)[0] for start in INPUTS if section_of(start)[1]}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("start", INPUTS)
def test_the_message_is_found_by_its_heading(start, tmp_path):
    code, _, options = INPUTS[start]
    report = check(make_input(start, tmp_path), options)
    said = [issue.message for issue in report.issues if issue.code == code]
    headings = section_of(start)[0].split(", found ")
    patterns = [
        "found (no CRS, and )?" + ".*".join(map(re.escape, one.removeprefix("found ").split("...")))
        for one in headings
    ]
    assert any(re.match(one, message) for one in patterns for message in said), (patterns, said)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(("start", "code"), blocks_of("python"))
def test_python_mends_it(start, code, tmp_path):
    _, _, options = INPUTS[start]
    cube = make_input(start, tmp_path)
    names = {"cube": cube}
    if "embed(" in code:
        with xtm.set_options(**QUICK):
            exec(code, names)
        assert names["embedding"].compute().notnull().all()
        return
    exec(code, names)
    mended = names["cube"]
    assert not check(mended, options).issues
    if "reproject" in code:
        np.testing.assert_allclose(measure_m2(mended), _area_of(start), rtol=0.03)
    elif not any(word in code for word in ("reindex", "Affine", "assign_coords(x")):
        before = {str(d): n for d, n in cube.sizes.items() if "band" not in str(d)}
        after = {str(d): n for d, n in mended.sizes.items() if "band" not in str(d)}
        assert sorted(before.values()) == sorted(after.values())
        for dim in ("x", "y"):
            if dim in cube.coords:
                np.testing.assert_array_equal(mended[dim], cube[dim])


def _area_of(start: str) -> float:
    return SIZE_PX**2 * (400.0 if start == "found pixels of" else 100.0)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(("start", "line"), blocks_of("bash"))
def test_the_command_line_mends_it(start, line, tmp_path):
    code, make, options = INPUTS[start]
    path = make(tmp_path)
    program, command, *words = shlex.split(line)
    words = [str(path) if re.fullmatch(r"\w+\.(tif|nc)", word) else word for word in words]
    words = [str(tmp_path / "out.zarr") if word == "embedding.zarr" else word for word in words]
    size = ["--window-size", str(options.get("window_size", 32))]
    before = CliRunner().invoke(commands.app, ["check", str(path), *size, *_modality(options)])
    assert f"[{code}]" in before.output
    if program == "rio":
        done = ClickRunner().invoke(main_group, [command, *words])
        assert done.exit_code == 0, done.output
        command, words = "check", [str(path)]
    if command == "embed":
        words += ["--model", "terramind_v1_tiny", "--weights", "random"]
    after = CliRunner().invoke(commands.app, [command, *words, *size])
    assert after.exit_code == 0, after.output
    assert "warning" not in after.output
    assert command == "embed" or "ready to embed" in after.output


def _modality(options) -> list[str]:
    return ["--modality", options["modality"]] if "modality" in options else []
