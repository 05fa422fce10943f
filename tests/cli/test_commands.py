"""The command line: the same embedding as in Python, readable errors, nothing left half-written."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import typer
import xarray as xr
from typer.testing import CliRunner

import xr_terramind as xtm
from tests.support.cubes import TINY
from xr_terramind.cli import commands
from xr_terramind.cli.read import open_cube
from xr_terramind.options import EmbedKeywords

QUICK = {**TINY, "window_size": 112, "device": "cpu"}
QUICK_FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in QUICK.items()]
FORMATS = ["cube.tif", "cube.nc", "cube.zarr", "bands.nc", "bands.zarr"]


def run(*arguments, **options):
    return CliRunner().invoke(commands.app, [str(argument) for argument in arguments], **options)


def run_in_shell(*arguments, folder, hub_port):
    """As from a terminal, with a hub out of reach and an empty cache of weights."""
    code = "from xr_terramind.cli.commands import main; main()"
    env = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{hub_port}", "HF_HOME": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def scene():
    return xtm.sample_scene(224)


@pytest.fixture(scope="module")
def expected(scene):
    return scene.terramind.embed(**QUICK)


def band_names(cube):
    # Zarr 3 has no fixed-width strings yet, and warns of each.
    return cube.assign_coords(band=cube.band.values.astype(object))


def one_variable_per_band(cube):
    return cube.drop_vars("spatial_ref").to_dataset("band").rio.write_crs(cube.rio.crs)


@pytest.fixture(scope="module")
def sources(scene, tmp_path_factory):
    """The same scene as every kind of file."""
    folder = tmp_path_factory.mktemp("sources")
    scene.assign_attrs(long_name=tuple(scene.band.values)).rio.to_raster(folder / "cube.tif")
    scene.to_netcdf(folder / "cube.nc")
    one_variable_per_band(scene).to_netcdf(folder / "bands.nc")
    band_names(scene).to_zarr(folder / "cube.zarr", consolidated=False)
    one_variable_per_band(scene).to_zarr(folder / "bands.zarr", consolidated=False)
    return folder


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    path = tmp_path_factory.mktemp("series") / "series.nc"
    xtm.sample_scene(112, time=2).to_netcdf(path)
    return path


def read(path):
    opened = open_cube(path)
    opened = opened["embedding"] if isinstance(opened, xr.Dataset) else opened
    return opened.load()


def assert_readable_error(result, *words):
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    last = result.stderr.rstrip().splitlines()[-1]
    assert last.startswith("error: "), result.stderr
    for word in words:
        assert word in last


# --- embed: files in, files out


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("cube.tif", "out.tif"),
        ("cube.tif", "out.zarr"),
        ("cube.nc", "out.tif"),
        ("cube.nc", "out.nc"),
        ("cube.zarr", "out.zarr"),
        ("cube.zarr", "out.nc"),
        ("bands.nc", "out.zarr"),
        ("bands.zarr", "out.tif"),
    ],
)
def test_embed_gives_what_python_gives(source, target, sources, expected, tmp_path):
    result = run("embed", sources / source, tmp_path / target, *QUICK_FLAGS)
    assert result.exit_code == 0, result.output
    got = read(tmp_path / target)
    np.testing.assert_allclose(got.values, expected.values, atol=1e-5)
    assert got.dtype == np.float32
    assert got.rio.crs == expected.rio.crs
    assert got.rio.transform() == expected.rio.transform()
    np.testing.assert_array_equal(got.x, expected.x)
    np.testing.assert_array_equal(got.y, expected.y)
    assert os.listdir(tmp_path) == [target]


@pytest.mark.parametrize("target", ["out.zarr", "out.nc"])
def test_labels_and_attributes_survive(target, sources, expected, tmp_path):
    run("embed", sources / "cube.nc", tmp_path / target, *QUICK_FLAGS)
    got = read(tmp_path / target)
    assert got.dims == expected.dims
    np.testing.assert_array_equal(got.valid_fraction, expected.valid_fraction)
    np.testing.assert_array_equal(got.feature, expected.feature)
    assert got.time == expected.time
    for name in ("model_key", "modality", "weights", "bands", "grid_hw", "weights_sha256"):
        assert np.array_equal(got.attrs[name], expected.attrs[name]), name


def test_a_geotiff_is_described_compressed_and_tiled(sources, tmp_path):
    run("embed", sources / "cube.tif", tmp_path / "out.tif", *QUICK_FLAGS)
    with rasterio.open(tmp_path / "out.tif") as raster:
        assert raster.descriptions[:2] == ("feature 0", "feature 1")
        assert raster.count == 192
        assert raster.profile["compress"] == "zstd"
        assert raster.profile["tiled"]
        assert np.isnan(raster.nodata)
        assert raster.tags()["model_key"] == "terramind_v1_tiny"


def test_a_time_series_goes_to_zarr_and_netcdf(series, tmp_path):
    expected = xtm.sample_scene(112, time=2).terramind.embed(**QUICK)
    for target in ("out.zarr", "out.nc"):
        result = run("embed", series, tmp_path / target, *QUICK_FLAGS)
        assert result.exit_code == 0, result.output
        got = read(tmp_path / target)
        assert got.dims == ("time", "feature", "y", "x")
        np.testing.assert_array_equal(got.time, expected.time)
        np.testing.assert_allclose(got.values, expected.values, atol=1e-5)


@pytest.mark.parametrize("output", ["pooled", "windows"])
def test_other_outputs(output, sources, scene, tmp_path):
    run("embed", sources / "cube.nc", tmp_path / "out.nc", "--output", output, *QUICK_FLAGS)
    expected = scene.terramind.embed(output, **QUICK)
    got = read(tmp_path / "out.nc")
    assert got.dims == expected.dims
    np.testing.assert_allclose(got.values, expected.values, atol=1e-5)


def test_evenly_spaced_windows_fit_a_geotiff(sources, scene, tmp_path):
    flags = ["--output", "windows", *QUICK_FLAGS]
    result = run("embed", sources / "cube.nc", tmp_path / "out.tif", *flags)
    assert result.exit_code == 0, result.output
    expected = scene.terramind.embed("windows", **QUICK)
    got = read(tmp_path / "out.tif")
    np.testing.assert_allclose(got.values, expected.values, atol=1e-5)
    np.testing.assert_array_equal(got.x, expected.x)


def test_an_image_without_a_crs_fits_a_geotiff(scene, expected, tmp_path):
    scene.drop_vars("spatial_ref").drop_encoding().to_netcdf(tmp_path / "in.nc")
    result = run("embed", tmp_path / "in.nc", tmp_path / "out.tif", *QUICK_FLAGS)
    assert result.exit_code == 0, result.output
    got = read(tmp_path / "out.tif")
    np.testing.assert_allclose(got.values, expected.values, atol=1e-5)
    np.testing.assert_array_equal(got.x, expected.x)
    assert got.rio.crs is None and got.attrs["long_name"][:2] == ("feature 0", "feature 1")


@pytest.mark.parametrize("modality", ["RGB", "DEM"])
def test_other_modalities(modality, tmp_path):
    n_bands = {"RGB": 3, "DEM": 1}[modality]
    values = np.random.default_rng(0).integers(0, 255, (n_bands, 112, 112)).astype("uint8")
    cube = xtm.sample_scene(112).isel(band=slice(n_bands)).drop_vars("band").copy(data=values)
    cube.rio.to_raster(tmp_path / "in.tif")
    flags = ["--modality", modality, *QUICK_FLAGS]
    result = run("embed", tmp_path / "in.tif", tmp_path / "out.tif", *flags)
    assert result.exit_code == 0, result.output
    assert read(tmp_path / "out.tif").attrs["modality"] == modality


@pytest.mark.parametrize(
    ("target", "flags"),
    [("out.zarr", []), ("out.tif", ["--overlap=32"]), ("out.nc", ["--output=pooled"])],
)
def test_progress_counts_every_block(target, flags, sources, tmp_path):
    flags = [*QUICK_FLAGS, *flags]
    planned = run("plan", sources / "cube.nc", *_plan(flags)).stdout
    n_blocks = re.search(r"blocks +(\d+)", planned)[1]
    result = run("embed", sources / "cube.nc", tmp_path / target, *flags)
    assert f"{n_blocks} of {n_blocks} blocks" in result.stderr


def _plan(flags):
    return [flag for flag in flags if not flag.startswith(("--weights", "--device"))]


# --- embed: options


def test_every_option_of_embed_is_a_flag():
    command = typer.main.get_command(commands.app).commands["embed"]
    flags = {parameter.name for parameter in command.params if "--" in str(parameter.opts)}
    of_writing = {"overwrite", "resume", "dtype", "help"}
    of_the_file = {"bands", "nodata", "scale", "offset", "decibels", "crs", "warp"}
    assert flags - of_writing - of_the_file == {"output", *EmbedKeywords.__annotations__}
    given = {parameter.name: parameter.default for parameter in command.params}
    assert not any(given[name] for name in EmbedKeywords.__annotations__)


def test_options_reach_the_result(sources, tmp_path):
    flags = {
        "--output": "windows",
        "--model": "terramind_v1_tiny",
        "--modality": "s2_l2a",
        "--weights": "random",
        "--normalize": "raw",
        "--layer": "-3",
        "--pooling": "max",
        "--fit": "windows",
        "--window-size": "96",
        "--overlap": "32",
        "--clip": "0,5000",
        "--min-valid-fraction": "0.25",
        "--engine": "torch",
        "--device": "cpu",
        "--precision": "float32",
        "--batch-size": "2",
    }
    given = [word for pair in flags.items() for word in pair]
    result = run("embed", sources / "cube.nc", tmp_path / "out.nc", *given)
    assert result.exit_code == 0, result.output
    attrs = read(tmp_path / "out.nc").attrs
    said = {
        "output": "windows",
        "model_key": "terramind_v1_tiny",
        "modality": "S2L2A",
        "weights": "random",
        "normalization": "raw",
        "layer_index": -3,
        "pooling": "max",
        "fit": "windows",
        "image_size": 96,
        "overlap": 32,
        "clip": [0, 5000],
        "min_valid_fraction": 0.25,
        "engine": "torch",
        "device": "cpu",
        "precision": "float32",
    }
    assert {name: _plain(attrs[name]) for name in said} == said


def _plain(value):
    return value.tolist() if hasattr(value, "tolist") else value


@pytest.mark.parametrize(("text", "clip"), [("none", "none"), ("auto", [0, 10000])])
def test_clip_by_word(text, clip, sources, tmp_path):
    run("embed", sources / "cube.nc", tmp_path / "out.nc", *QUICK_FLAGS, "--clip", text)
    assert _plain(read(tmp_path / "out.nc").attrs["clip"]) == clip


def test_flags_that_are_not_given_leave_it_to_the_environment(sources, tmp_path, monkeypatch):
    monkeypatch.setenv("XR_TERRAMIND_MODEL_KEY", "terramind_v1_tiny")
    monkeypatch.setenv("XR_TERRAMIND_PRETRAINED", "0")
    assert run("embed", sources / "cube.nc", tmp_path / "out.nc").exit_code == 0
    assert read(tmp_path / "out.nc").attrs["model_key"] == "terramind_v1_tiny"
    flags = ["--model", "terramind_v1_small"]
    assert "terramind_v1_small" in run("plan", sources / "cube.nc", *flags).stdout


# --- embed: what goes wrong


def test_an_existing_target_stays_unless_told(sources, tmp_path):
    for target in (tmp_path / "out.nc", tmp_path / "out.zarr"):
        assert run("embed", sources / "cube.nc", target, *QUICK_FLAGS).exit_code == 0
        again = [sources / "cube.nc", target, *QUICK_FLAGS, "--layer=2"]
        assert_readable_error(run("embed", *again), target.name, "--overwrite")
        assert read(target).attrs["layer_index"] == -1
        assert run("embed", *again, "--overwrite").exit_code == 0
        assert read(target).attrs["layer_index"] == 2
    assert sorted(os.listdir(tmp_path)) == ["out.nc", "out.zarr"]


def test_input_and_output_are_two_files(sources):
    before = (sources / "cube.nc").read_bytes()
    result = run("embed", sources / "cube.nc", sources / "cube.nc", *QUICK_FLAGS, "--overwrite")
    assert_readable_error(result, "as input and output")
    assert (sources / "cube.nc").read_bytes() == before


def break_geotiff(scene, folder):
    path = folder / "in.tif"
    scene.rio.to_raster(path, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    return path


def break_zarr(scene, folder):
    path = folder / "in.zarr"
    band_names(scene).chunk({"y": 56}).to_zarr(path, consolidated=False)
    (path / "sentinel2" / "c" / "0" / "3" / "0").write_bytes(b"no chunk")
    return path


def reflectance(scene, folder):
    path = folder / "in.nc"
    (scene / 10000).astype("float32").to_netcdf(path)
    return path


@pytest.mark.parametrize(
    ("make", "words", "target"),
    [
        (break_geotiff, "TIFFReadEncodedTile", "out.nc"),
        (break_zarr, "while blocks were read", "out.tif"),
        (reflectance, "0-1 reflectance", "out.nc"),
    ],
)
def test_nothing_half_written_stays(make, words, target, scene, tmp_path):
    source = make(scene, tmp_path)
    result = run("embed", source, tmp_path / target, *QUICK_FLAGS)
    assert_readable_error(result, words)
    assert os.listdir(tmp_path) == [source.name]


def whole_geotiff(scene, path):
    scene.rio.to_raster(path)


def whole_zarr(scene, path):
    band_names(scene).to_zarr(path, mode="w", consolidated=False)


@pytest.mark.parametrize(
    ("break_it", "mend_it", "words"),
    [(break_geotiff, whole_geotiff, "TIFFReadEncodedTile"), (break_zarr, whole_zarr, "Zstd")],
)
def test_a_zarr_store_keeps_what_is_done_and_is_resumed(
    break_it, mend_it, words, scene, expected, tmp_path
):
    source = break_it(scene, tmp_path)
    target = tmp_path / "out.zarr"
    broken = run("embed", source, target, *QUICK_FLAGS)
    assert_readable_error(broken, words, "blocks that could not be embedded", "--resume")
    mend_it(scene, source)
    assert run("embed", source, target, *QUICK_FLAGS, "--resume").exit_code == 0
    np.testing.assert_allclose(read(target), expected, atol=1e-5)


@pytest.mark.parametrize("flags", [["out.nc", "--resume"], ["out.zarr", "--resume", "--overwrite"]])
def test_only_what_was_begun_and_stays_is_resumed(flags, sources, tmp_path):
    target, *flags = flags
    result = run("embed", sources / "cube.nc", tmp_path / target, *QUICK_FLAGS, *flags)
    assert_readable_error(result, "--resume", ".zarr")
    assert not os.listdir(tmp_path)


def test_a_failure_leaves_the_old_target(scene, sources, tmp_path):
    target = tmp_path / "out.nc"
    run("embed", sources / "cube.nc", target, *QUICK_FLAGS)
    source = break_zarr(scene, tmp_path)
    assert run("embed", source, target, *QUICK_FLAGS, "--overwrite").exit_code == 1
    assert read(target).sizes == {"feature": 192, "y": 14, "x": 14}
    assert sorted(os.listdir(tmp_path)) == ["in.zarr", "out.nc"]


def test_what_a_geotiff_cannot_hold(series, sources, tmp_path):
    target = tmp_path / "out.tif"
    result = run("embed", series, target, *QUICK_FLAGS)
    assert_readable_error(result, "a time series of 2 dates", "one date", "Zarr")
    result = run("embed", sources / "cube.nc", target, "--output=pooled", *QUICK_FLAGS)
    assert_readable_error(result, "pooled", "Zarr or NetCDF")
    flags = ["--output=windows", *QUICK_FLAGS, "--window-size=96"]
    result = run("embed", sources / "cube.nc", target, *flags)
    assert_readable_error(result, "not evenly spaced")
    assert not target.exists()


@pytest.mark.parametrize("command", ["check", "plan"])
def test_sources_that_are_not_there(command, tmp_path):
    assert_readable_error(run(command, tmp_path / "absent.tif"), "nothing at", "Check the path")
    assert_readable_error(run(command, tmp_path / "absent.jp2"), ".tif", ".nc", ".zarr")
    (tmp_path / "wrong.nc").write_text("no NetCDF")
    (tmp_path / "wrong.tif").write_text("no GeoTIFF")
    (tmp_path / "wrong.zarr").mkdir()
    for name in ("wrong.nc", "wrong.tif", "wrong.zarr"):
        assert_readable_error(run(command, tmp_path / name), name, "cannot be opened")


def test_targets_that_cannot_be(sources, tmp_path):
    source = sources / "cube.nc"
    absent = tmp_path / "absent" / "out.zarr"
    assert_readable_error(run("embed", source, absent), "no folder")
    assert_readable_error(run("embed", source, tmp_path / "out.zar"), "Did you mean '.zarr'?")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--pooling", "median"], "one of 'mean', 'max'"),
        (["--model", "terramind_v1_tin"], "Did you mean 'terramind_v1_tiny'?"),
        (["--window-size", "100"], "16"),
        (["--weights", "absent.pt"], "absent.pt"),
        (["--modality", "S1GRD"], "VV"),
    ],
)
def test_options_that_the_package_refuses(flags, words, sources, tmp_path):
    result = run("embed", sources / "cube.nc", tmp_path / "out.zarr", *QUICK_FLAGS, *flags)
    assert_readable_error(result, words, "expected")


@pytest.mark.parametrize(
    "arguments",
    [
        ["embed"],
        ["embed", "in.tif"],
        ["paint"],
        ["check", "in.tif", "--sample", "0"],
        ["embed", "in.tif", "out.tif", "--clip", "0;1"],
        ["embed", "in.tif", "out.tif", "--layer", "last"],
        ["embed", "in.tif", "out.tif", "--batch-size", "many"],
        ["embed", "in.tif", "out.tif", "--colour", "red"],
        ["demo", "--size", "8"],
    ],
    ids=" ".join,
)
def test_usage_errors_exit_2(arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_ctrl_c_exits_130(sources, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(xr.DataArray, "to_netcdf", interrupt)
    result = run("embed", sources / "cube.nc", tmp_path / "out.nc", *QUICK_FLAGS)
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
    assert "Traceback" not in result.output
    assert not os.listdir(tmp_path)


def test_warnings_are_lines(tmp_path):
    # Shown to a user, where pytest would take a warning for a failure.
    xtm.sample_scene(64).drop_vars("band").to_netcdf(tmp_path / "in.nc")
    flags = [flag for flag in QUICK_FLAGS if "window-size" not in flag]
    result = run("embed", tmp_path / "in.nc", tmp_path / "out.nc", *flags)
    assert result.exit_code == 0
    assert "warning: found 12 bands without names" in result.stderr
    assert "warning: found an extent of 64 x 64 pixels" in result.stderr
    assert "TerraMindWarning" not in result.stderr


# --- the other commands


@pytest.mark.parametrize("source", FORMATS)
def test_check_accepts(source, sources):
    result = run("check", sources / source)
    assert result.exit_code == 0, result.output
    assert "ready to embed" in result.stdout
    assert "EPSG:32632" in result.stdout


def test_check_refuses(scene, tmp_path):
    source = reflectance(scene, tmp_path)
    result = run("check", source, "--sample", "2")
    assert result.exit_code == 1
    assert "error [reflectance-0-1]" in result.stdout
    assert run("check", source, "--modality", "S1GRD").exit_code == 1


def test_plan_is_that_of_python(sources, scene):
    flags = ["--model", "terramind_v1_base", "--overlap", "64", "--output", "windows"]
    result = run("plan", sources / "cube.nc", *flags)
    planned = scene.chunk().terramind.plan("windows", model="terramind_v1_base", overlap=64)
    assert result.exit_code == 0
    assert f"windows  {planned.windows}" in result.stdout
    assert "feature 768, y 1, x 1" in result.stdout


def test_models_fit_a_terminal():
    result = run("models", env={"COLUMNS": "80"})
    assert result.exit_code == 0
    for key, row in xtm.list_models().iterrows():
        line = next(line for line in result.stdout.splitlines() if line.startswith(key))
        assert row["hub_id"] in line


def test_download(monkeypatch, tmp_path):
    monkeypatch.setattr(xtm, "download", lambda model: tmp_path / f"{model}.pt")
    result = run("download", "terramind_v1_tiny")
    assert result.stdout.strip() == str(tmp_path / "terramind_v1_tiny.pt")
    monkeypatch.undo()
    assert_readable_error(run("download", "terramind_v1_tin"), "Did you mean")


def test_help_and_version():
    for arguments in (["--help"], ["embed", "-h"], ["demo", "--help"]):
        result = run(*arguments)
        assert result.exit_code == 0
        assert "Usage" in result.stdout
    assert "xr-terramind embed s2.tif embedding.zarr" in run("embed", "--help").stdout
    assert run("--version").stdout == f"xr-terramind {xtm.__version__}\n"


# --- as from a terminal


def test_demo_without_a_hub(tmp_path, closed_port):
    flags = ["--model", "terramind_v1_tiny", "--size", "224"]
    done = run_in_shell("demo", *flags, folder=tmp_path, hub_port=closed_port)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "success"
    assert "ready to embed" in done.stdout
    assert "windows  1" in done.stdout
    assert "RANDOM WEIGHTS" in done.stderr
    assert "plumbing" in done.stderr
    assert "Traceback" not in done.stderr
    with xr.open_zarr(tmp_path / "demo/embedding.zarr", consolidated=False) as written:
        embedding = written["embedding"].load()
    assert embedding.attrs["weights"] == "random"
    assert embedding.sizes == {"feature": 192, "y": 14, "x": 14}
    _assert_png(tmp_path / "demo/overview.png")


def _assert_png(path: Path):
    from matplotlib.image import imread

    height_px, width_px = imread(path).shape[:2]
    assert 800 < height_px < width_px


def test_demo_twice_overwrites_its_own_files(tmp_path):
    flags = ["--folder", tmp_path / "new/demo", "--weights", "random", "--size", "224"]
    for model in ("terramind_v1_small", "terramind_v1_tiny"):
        result = run("demo", *flags, "--model", model)
        assert result.exit_code == 0, result.output
        assert result.stdout.rstrip().endswith("success")
        assert read(tmp_path / "new/demo/embedding.zarr").attrs["model_key"] == model
    assert sorted(os.listdir(tmp_path / "new/demo")) == ["embedding.zarr", "overview.png"]


def test_demo_does_not_hide_that_weights_asked_for_are_missing(tmp_path):
    result = run("demo", "--folder", tmp_path, "--weights", "absent.pt", "--size", "224")
    assert_readable_error(result, "absent.pt")


def test_embed_without_a_hub(sources, tmp_path, closed_port, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    result = run("embed", sources / "cube.nc", tmp_path / "out.zarr")
    assert_readable_error(result, "no way to download", "xr-terramind download")
    assert not os.listdir(tmp_path)


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from xr_terramind.cli import commands\n"
        "try: commands.app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'terratorch', 'ee', 'matplotlib', 'sklearn'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_chunks_are_multiples_of_stored_ones(tmp_path):
    stored = xr.DataArray(
        np.zeros((3, 2, 30, 2000), "int16"),
        dims=("time", "band", "y", "x"),
        coords={
            "time": np.arange("2022-01", "2022-04", dtype="datetime64[M]").astype("M8[ns]"),
            "satellite": ("time", np.array(["A", "B", "A"], object)),
        },
        name="s2",
    )
    encoding = {"s2": {"chunksizes": (1, 2, 30, 300)}}
    stored.to_netcdf(tmp_path / "chunked.nc", encoding=encoding)
    stored.to_netcdf(tmp_path / "whole.nc")
    with open_cube(tmp_path / "chunked.nc") as chunked, open_cube(tmp_path / "whole.nc") as whole:
        assert chunked.s2.chunks == ((1, 1, 1), (2,), (30,), (900, 900, 200))
        assert whole.s2.chunks == ((1, 1, 1), (2,), (30,), (1024, 976))


def test_a_geotiff_is_opened_lazily(sources):
    with open_cube(sources / "cube.tif") as cube:
        assert cube.chunks is not None
