"""Cloud-optimised GeoTIFFs: what is read back is what was written, where it lies."""

import json

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import rasterio
import rioxarray
import xarray as xr
from affine import Affine
from rasterio.enums import ColorInterp, MaskFlags

import xr_terramind as xtm
from tests.support.cubes import embed, sealed
from xr_terramind.storage import cog

CRS = "EPSG:32632"
STEP_M = 160.0
WEST_M, NORTH_M = 440_000.0, 6_160_000.0


def image(*dims: str, dtype: str = "float32", **sizes: int) -> xr.DataArray:
    """Noise, with a hole in floats."""
    sizes = {"y": 12, "x": 10} | sizes
    values = np.random.default_rng(0).normal(scale=50, size=[sizes[dim] for dim in dims])
    array = xr.DataArray(values.astype(dtype), dims=dims, name="map")
    if array.dtype.kind == "f":
        array = array.where((array.y != 2) | (array.x != 3)).astype(dtype)
    array = array.assign_coords(
        y=NORTH_M - STEP_M * (np.arange(sizes["y"]) + 0.5),
        x=WEST_M + STEP_M * (np.arange(sizes["x"]) + 0.5),
    )
    return array.rio.write_crs(CRS)


def assert_same(path, array: xr.DataArray) -> None:
    """Values, CRS and places are those of the array (band, y, x) or (y, x)."""
    found = rioxarray.open_rasterio(path, masked=array.dtype.kind == "f").load()
    expected = array if array.ndim == 3 else array.expand_dims(band=1)
    assert found.rio.crs == array.rio.crs
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_allclose(found.x, array.x)
    np.testing.assert_allclose(found.y, array.y)


def structure(path) -> dict[str, str]:
    with rasterio.open(path) as file:
        return file.tags(ns="IMAGE_STRUCTURE")


# -- The format ---------------------------------------------------------------------------------


def test_it_is_a_cog(tmp_path):
    array = image("feature", "y", "x", feature=3, y=700, x=600)
    array.terramind.to_cog(tmp_path / "e.tif")
    assert_same(tmp_path / "e.tif", array)
    about = structure(tmp_path / "e.tif")
    assert about["LAYOUT"] == "COG" and about["COMPRESSION"] == "ZSTD" and about["PREDICTOR"] == "3"
    with rasterio.open(tmp_path / "e.tif") as file:
        assert file.driver == "GTiff" and file.overviews(1)
        assert file.block_shapes == [(512, 512)] * 3
        assert file.transform == Affine(STEP_M, 0, WEST_M, 0, -STEP_M, NORTH_M)
        assert np.isnan(file.nodata)
        assert file.descriptions == ("feature 0", "feature 1", "feature 2")
    with open(tmp_path / "e.tif", "rb") as file:
        head = file.read(400)
    # GDAL's promise to readers: the directories come first, and nothing was changed since.
    assert b"LAYOUT=IFDS_BEFORE_DATA" in head and b"KNOWN_INCOMPATIBLE_EDITION=NO" in head


def test_overviews_are_means_of_floats_and_neighbours_of_labels(tmp_path):
    ramp = image("y", "x", y=1100, x=1100) * 0 + 1
    ramp = ramp.fillna(1).where(ramp.x < ramp.x[512], 3)
    ramp.terramind.to_cog(tmp_path / "e.tif")
    with rasterio.open(tmp_path / "e.tif", overview_level=0) as file:
        coarse = file.read(1)
    assert coarse[:, :255].max() == 1 and coarse[:, 257:].min() == 3
    checks = ((ramp.x.astype(int) // 160 + ramp.y.astype(int) // 160) % 2 * 7).astype("int16")
    checks.rio.write_crs(CRS).terramind.to_cog(tmp_path / "l.tif")
    with rasterio.open(tmp_path / "l.tif", overview_level=0) as file:
        assert set(np.unique(file.read(1))) <= {0, 7}


def test_tiles_of_many_bands_stay_small(tmp_path):
    array = image("feature", "y", "x", feature=384, y=40, x=150)
    array.terramind.to_cog(tmp_path / "e.tif")
    assert_same(tmp_path / "e.tif", array)
    with rasterio.open(tmp_path / "e.tif") as file:
        rows, cols = file.block_shapes[0]
        together = file.count if structure(tmp_path / "e.tif")["INTERLEAVE"] == "PIXEL" else 1
        assert rows * cols * together * 4 <= 8 << 20
        assert bool(file.overviews(1)) == (max(file.shape) > rows)
        assert file.descriptions[383] == "feature 383"


@pytest.mark.parametrize(("version", "tile"), [("3.10.3", False), ("3.11.0", True), ("4.0", True)])
def test_bands_lie_apart_where_gdal_can_do_so(version, tile, monkeypatch):
    monkeypatch.setattr(rasterio, "__gdal_version__", version)
    options = cog._choose_options(image("feature", "y", "x", feature=384))
    assert (options.get("interleave") == "tile") == tile
    assert options["blocksize"] == (512 if tile else 64)


# -- Axes, dtypes -------------------------------------------------------------------------------


@pytest.mark.parametrize("y_step", [1, -1])
@pytest.mark.parametrize("x_step", [1, -1])
def test_north_is_up_whatever_way_the_axes_run(y_step, x_step, tmp_path):
    array = image("feature", "y", "x", feature=2)
    turned = array.isel(y=slice(None, None, y_step), x=slice(None, None, x_step))
    turned.transpose("x", "y", "feature").terramind.to_cog(tmp_path / "e.tif")
    assert_same(tmp_path / "e.tif", array)
    with rasterio.open(tmp_path / "e.tif") as file:
        assert file.transform == Affine(STEP_M, 0, WEST_M, 0, -STEP_M, NORTH_M)


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "int8", "int16", "int32", "int64", "uint8"]
)
def test_dtypes_are_kept(dtype, tmp_path):
    array = image("y", "x", dtype=dtype)
    array.terramind.to_cog(tmp_path / "e.tif")
    assert_same(tmp_path / "e.tif", array)
    with rasterio.open(tmp_path / "e.tif") as file:
        assert file.dtypes == (dtype,) and file.descriptions == ("map",)
        assert structure(tmp_path / "e.tif")["PREDICTOR"] == ("3" if dtype[0] == "f" else "2")
        assert file.nodata == {"f": pytest.approx(np.nan, nan_ok=True), "i": -1}.get(dtype[0])


def test_yes_and_no_and_half_precision(tmp_path):
    array = image("y", "x")
    (array > 0).rio.write_crs(CRS).terramind.to_cog(tmp_path / "b.tif")
    assert_same(tmp_path / "b.tif", (array > 0).astype("uint8").rio.write_crs(CRS))
    half = array.astype("float16").rio.write_crs(CRS)
    half.terramind.to_cog(tmp_path / "h.tif")
    assert_same(tmp_path / "h.tif", half.astype("float32").rio.write_crs(CRS))


def test_labels(tmp_path):
    label = image("y", "x", dtype="int16") % 3 - 1
    label = label.rio.write_crs(CRS).assign_attrs(
        flag_values=np.arange(2, dtype="int16"), flag_meanings="crop wood"
    )
    label.terramind.to_cog(tmp_path / "l.tif")
    assert_same(tmp_path / "l.tif", label)
    with rasterio.open(tmp_path / "l.tif") as file:
        assert file.nodata == -1 and file.tags()["flag_meanings"] == "crop wood"
        assert json.loads(file.tags()["flag_values"]) == [0, 1]
        np.testing.assert_array_equal(file.read_masks(1) == 0, label == -1)


def test_probabilities_are_named_by_their_class(tmp_path):
    share = image("category", "y", "x", category=2).assign_coords(category=["crop", "wood"])
    share.terramind.to_cog(tmp_path / "p.tif")
    with rasterio.open(tmp_path / "p.tif") as file:
        assert file.descriptions == ("crop", "wood")


def test_colours(tmp_path):
    colours = (image("y", "x", "rgb", rgb=3) / 100 + 0.5).clip(0, 1).rio.write_crs(CRS)
    colours.terramind.to_cog(tmp_path / "c.tif")
    with rasterio.open(tmp_path / "c.tif") as file:
        assert file.dtypes == ("uint8",) * 4
        assert file.colorinterp == (
            *(ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha),
        )
        assert MaskFlags.per_dataset in file.mask_flag_enums[0]
        values = file.read()
        assert file.descriptions == ("red", "green", "blue", "alpha")
    seen = colours.notnull().all("rgb").values
    np.testing.assert_array_equal(values[3], np.where(seen, 255, 0))
    expected = np.round(colours.transpose("rgb", "y", "x").values * 255)
    np.testing.assert_array_equal(values[:3][:, seen], expected[:, seen])
    assert (values[:, ~seen] == 0).all() and (~seen).sum() == 1


def test_a_lone_date(tmp_path):
    array = image("feature", "y", "x", feature=2)
    dated = array.expand_dims(time=pd.DatetimeIndex(["2024-05-01"]))
    dated.terramind.to_cog(tmp_path / "e.tif")
    assert_same(tmp_path / "e.tif", array)
    with rasterio.open(tmp_path / "e.tif") as file:
        assert file.tags()["time"].startswith("2024-05-01")


def test_a_lone_cell_with_a_transform(tmp_path):
    array = image("y", "x")
    array = array.rio.write_transform(array.rio.transform()).isel(y=[4], x=[5])
    array.terramind.to_cog(tmp_path / "e.tif")
    assert_same(tmp_path / "e.tif", array)


# -- Lazily -------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 900, 10**9])
def test_a_lazy_one_is_computed_once_a_few_chunks_at_a_time(limit, tmp_path, monkeypatch):
    monkeypatch.setattr("xr_terramind.storage.cog.MAX_PIECE_BYTES", limit)
    array = image("feature", "y", "x", feature=5)
    reads: list = []

    def read(block, block_info=None):
        reads.append(tuple(block_info[None]["chunk-location"]))
        return block

    data = array.chunk(feature=3, y=5, x=4).data
    lazy = array.copy(data=da.map_blocks(read, data, dtype=data.dtype, meta=data._meta))
    lazy.isel(y=slice(None, None, -1)).terramind.to_cog(tmp_path / "e.tif")
    assert_same(tmp_path / "e.tif", array)
    assert len(reads) == len(set(reads)) == 2 * 3 * 3
    pieces = {1: 9, 900: 5, 10**9: 3}
    assert len(list(cog._make_pieces(lazy))) == pieces[limit]


def test_the_real_path(tmp_path):
    cube = xtm.sample_scene(128, chunks={"x": 64, "y": 64})
    embedding = embed(cube)
    embedding.terramind.to_cog(tmp_path / "e.tif")
    found = rioxarray.open_rasterio(tmp_path / "e.tif")
    np.testing.assert_allclose(found.values, embedding.values, atol=1e-5)
    assert found.rio.transform() == embedding.rio.transform()
    with rasterio.open(tmp_path / "e.tif") as file:
        tags = file.tags()
    assert tags["model_key"] == "terramind_v1_tiny" and tags["patch_size"] == "16"
    assert json.loads(tags["bands"])[:2] == ["B1", "B2"]
    colours = embedding.terramind.to_rgb()
    colours.terramind.to_cog(tmp_path / "c.tif")
    assert structure(tmp_path / "c.tif")["LAYOUT"] == "COG"


# -- What is refused ----------------------------------------------------------------------------


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "e.tif"
    image("y", "x").terramind.to_cog(path)
    before = path.read_bytes()
    with pytest.raises(AssertionError, match="a chunk was computed"):
        sealed(image("y", "x")).terramind.to_cog(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    other = image("y", "x", y=5)
    other.terramind.to_cog(str(path))
    assert_same(path, other)
    assert list(tmp_path.iterdir()) == [path]


def dated(array: xr.DataArray) -> xr.DataArray:
    return array.expand_dims(time=pd.date_range("2024-01-01", periods=2))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dated, r"2 dates.*isel\(time=0\)"),
        (lambda a: a.expand_dims(place=2), r"along place; .*isel\(place=0\)"),
        (lambda a: a.mean(["y", "x"]), r"dimensions \('feature',\)"),
        (lambda a: a.drop_vars("spatial_ref"), "without a CRS"),
        (lambda a: a.isel(x=[0, 1, 5]), "not evenly spaced along x"),
        (lambda a: a.isel(x=[0], y=[0]), "write_transform"),
        (lambda a: a.astype(complex).rio.write_crs(CRS), "values of complex128"),
        (lambda a: a.to_dataset(name="label"), r"a Dataset.*ds\[.label.\]"),
    ],
)
def test_what_is_no_image(change, words, tmp_path):
    with pytest.raises(xtm.GridError, match=words):
        change(image("feature", "y", "x", feature=2)).terramind.to_cog(tmp_path / "e.tif")
    assert not list(tmp_path.iterdir())


def test_paths_that_take_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="Create it first"):
        image("y", "x").terramind.to_cog(tmp_path / "no" / "e.tif")
    with pytest.raises(IsADirectoryError, match="Choose another name"):
        image("y", "x").terramind.to_cog(tmp_path)


def test_windows_that_overlap_lie_at_their_centres(tmp_path):
    scene = xtm.sample_scene(544)
    embedding = scene.terramind.embed(
        "windows", overlap=64, model="terramind_v1_tiny", weights="random"
    )
    embedding.terramind.to_cog(tmp_path / "windows.tif")
    with rioxarray.open_rasterio(tmp_path / "windows.tif") as found:
        np.testing.assert_allclose(found.x, embedding.x)
        np.testing.assert_allclose(found.y, embedding.y)
