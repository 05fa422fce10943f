"""What the command line prints as a remedy, typed on the file that caused it: the file then passes.

The right pixels are those that the file was made of, the right place is that of its transform.
"""

import shlex

import numpy as np
import pytest

from tests.support.cubes import BANDS
from tests.support.files import (
    DECIBELS,
    HEIGHTS,
    POWER,
    QUICK,
    REFLECTANCE,
    SCENE,
    SIZE,
    assert_embeds_as,
    dataset,
    heights_in_feet,
    hole,
    merge_flags,
    netcdf,
    read_message,
    run,
    tif,
    unwrap,
    with_hole,
    zarr,
)

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
        "bands", f"--bands {NUMBERED}", f"--bands {','.join(BANDS)}", SCENE,
    ),
    "unusual names as pairs": (
        lambda f: netcdf(f, SCENE, ODD),
        "bands", "--bands", f"--bands {PAIRS}", SCENE,
    ),
    "names of another style": (
        lambda f: netcdf(f, SCENE, [f"{band}_median" for band in BANDS]),
        "bands", f"--bands {NUMBERED}", "", SCENE,
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


def without_b9(folder):
    values = SCENE.astype("float32")
    values[9] = np.nan
    return netcdf(folder, values)


SOME = [1, 2, 3, 8, 11]
FEWER = [name for name in BANDS if name != "B9"]


@pytest.mark.parametrize(
    ("make", "code", "printed"),
    [
        (lambda f: netcdf(f, SCENE[:4], BANDS[:4]), "bands", "--missing-bands mean"),
        (
            lambda f: netcdf(f, SCENE[:5], [*BANDS[:4], "NDVI"]),
            "bands",
            "--bands B1,B2,B3,B4 --missing-bands mean",
        ),
        (
            lambda f: netcdf(f, SCENE[SOME], [f"{BANDS[i]}_mean" for i in SOME]),
            "bands",
            "--bands 1=B2,2=B3,3=B4,4=B8A,5=B12 --missing-bands mean",
        ),
        (without_b9, "band-missing", f"--bands {','.join(FEWER)} --missing-bands mean"),
    ],
)
def test_files_that_lack_bands(make, code, printed, tmp_path):
    path = make(tmp_path)
    message = read_message(run("check", path, *SIZE).stdout, code)
    assert printed in message and "cube" not in message
    flags = shlex.split(printed)
    result = run("check", path, *SIZE, *flags)
    assert result.exit_code == 0 and "ready to embed" in result.stdout, result.output
    done = run("embed", path, tmp_path / "out.zarr", *QUICK, *flags)
    assert done.exit_code == 0 and "warning" not in done.output, done.output


@pytest.mark.parametrize("bands", ["B1,B2", "red=B4,absent=B3", "13=B1", "0=B1"])
def test_bands_that_the_file_does_not_have(bands, tmp_path):
    result = run("check", tif(tmp_path, SCENE), *SIZE, "--bands", bands)
    assert result.exit_code == 1 and "found" in result.output and "--bands" in result.output
