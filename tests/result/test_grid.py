"""The labelled result: coordinates, CRS, attributes, and the way through three file formats."""

import numpy as np
import pytest
import rioxarray
import xarray as xr

import xr_terramind as xtm
from tests.support.cubes import TINY


@pytest.fixture(scope="module")
def scene():
    scene = xtm.sample_scene(size_px=300)
    scene[:, :40, 100:200] = 0  # no data, over whole patches and parts of others
    return scene


@pytest.fixture(scope="module")
def grid(scene):
    return scene.terramind.embed(**TINY)


def test_name_dims_dtype_and_coordinates(grid):
    assert grid.name == "embedding" and grid.dtype == np.float32
    assert grid.dims == ("feature", "y", "x") and grid.shape == (192, 19, 19)
    assert {"feature", "y", "x", "spatial_ref", "valid_fraction", "time"} == set(grid.coords)
    assert grid.valid_fraction.dims == ("y", "x") and grid.valid_fraction.dtype == np.float32


def test_a_patch_lies_over_its_sixteen_pixels(scene, grid):
    for i, j in [(0, 0), (3, 7), (17, 17)]:
        footprint = scene[:, 16 * i : 16 * i + 16, 16 * j : 16 * j + 16]
        assert float(grid.y[i]) == pytest.approx(float(footprint.y.mean()))
        assert float(grid.x[j]) == pytest.approx(float(footprint.x.mean()))
    # The last patch reaches past the extent, and keeps the step all the same.
    assert float(grid.y[18] - grid.y[17]) == -160


def test_crs_and_transform(scene, grid):
    assert grid.rio.crs == scene.rio.crs
    source, result = scene.rio.transform(), grid.rio.transform()
    assert (result.c, result.f) == (source.c, source.f)
    assert (result.a, result.e) == (160, -160)
    assert grid.rio.transform(recalc=True).almost_equals(result)


def test_valid_fraction_counts_pixels_and_the_far_edge_is_not_valid(scene, grid):
    valid = np.zeros((304, 304))
    valid[:300, :300] = (scene != 0).any("band")
    expected = valid.reshape(19, 16, 19, 16).mean((1, 3))
    np.testing.assert_allclose(grid.valid_fraction, expected, atol=1e-6)
    assert float(grid.valid_fraction[-1, -1]) == pytest.approx((12 / 16) ** 2)


def test_nan_exactly_where_no_pixel_is_valid(grid):
    empty = grid.valid_fraction.values == 0
    assert empty.any() and not empty.all()
    assert np.isnan(grid.values[:, empty]).all()
    assert np.isfinite(grid.values[:, ~empty]).all()


def test_min_valid_fraction(scene, grid):
    half = scene.terramind.embed(min_valid_fraction=0.5, **TINY)
    kept = grid.valid_fraction.values >= 0.5
    np.testing.assert_array_equal(half.values[:, kept], grid.values[:, kept])
    assert np.isnan(half.values[:, ~kept]).all()
    np.testing.assert_array_equal(half.valid_fraction, grid.valid_fraction)


def test_all_nodata_is_no_error():
    empty = xtm.sample_scene(size_px=224) * 0
    for output in ("grid", "windows", "pooled"):
        result = empty.terramind.embed(output, **TINY)
        assert result.isnull().all() and (result.valid_fraction == 0).all()


def test_an_extent_under_a_window_gives_only_its_own_patches():
    scene = xtm.sample_scene(size_px=224).isel(y=slice(0, 50), x=slice(0, 100))
    grid = scene.terramind.embed(**TINY)
    assert grid.shape == (192, 4, 7)
    assert float(grid.valid_fraction[3, 0]) == pytest.approx(2 / 16)


def test_windows_are_the_mean_of_their_valid_patches(scene):
    grid = scene.isel(y=slice(224), x=slice(224)).terramind.embed(**TINY)
    windows = scene.terramind.embed("windows", **TINY)
    assert windows.shape == (192, 2, 2)
    np.testing.assert_allclose(windows[:, 0, 0], grid.mean(("y", "x")), atol=1e-5)
    assert float(windows.valid_fraction[0, 0]) == pytest.approx(float(grid.valid_fraction.mean()))
    # 304 padded pixels: the second window starts at 80 px, its centre lies at 80 + 112.
    assert float(windows.x[1]) == pytest.approx(float(scene.x[0]) - 5 + 10 * (80 + 112))


def test_windows_on_a_regular_lattice_carry_its_transform():
    windows = xtm.sample_scene(size_px=448).terramind.embed("windows", **TINY)
    assert (windows.rio.transform().a, windows.rio.transform().e) == (2240, -2240)
    assert windows.rio.bounds() == xtm.sample_scene(size_px=448).rio.bounds()


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("chunks", [None, {"x": 100}])
def test_pooled_is_over_the_valid_patches_of_the_extent(scene, grid, pooling, chunks):
    cube = scene if chunks is None else scene.chunk(chunks)
    pooled = cube.terramind.embed("pooled", pooling=pooling, **TINY).compute()
    assert pooled.dims == ("feature",) and pooled.attrs["pooling"] == pooling
    np.testing.assert_allclose(pooled, getattr(grid, pooling)(("y", "x")), atol=1e-5)
    assert float(pooled.valid_fraction) == pytest.approx(float(grid.valid_fraction.mean()))


def test_overlap_takes_each_patch_from_the_window_in_which_it_lies_deepest():
    scene = xtm.sample_scene(size_px=288)
    grid = scene.terramind.embed(overlap=160, **TINY)
    # Starts 0 and 64: the border of ownership lies at patch (0 + 64 + 224) / 32 = 9.
    corners = {
        (y, x): scene.isel(y=slice(y, y + 224), x=slice(x, x + 224)).terramind.embed(**TINY)
        for y in (0, 64)
        for x in (0, 64)
    }
    expected = np.block(
        [
            [corners[0, 0].values[:, :9, :9], corners[0, 64].values[:, :9, 5:]],
            [corners[64, 0].values[:, 5:, :9], corners[64, 64].values[:, 5:, 5:]],
        ]
    )
    np.testing.assert_allclose(grid, expected, atol=1e-5)


def test_time_and_other_coordinates_that_still_apply_are_kept():
    scene = xtm.sample_scene(size_px=224, time=3)
    scene = scene.assign_coords(
        orbit=("time", [22, 65, 22]), platform="S2A", cloud=(("y", "x"), np.zeros((224, 224)))
    )
    grid = scene.terramind.embed(**TINY)
    assert grid.dims == ("time", "feature", "y", "x")
    assert grid.valid_fraction.dims == ("time", "y", "x")
    assert grid.orbit.dims == ("time",) and grid.platform.item() == "S2A"
    assert "cloud" not in grid.coords and "band" not in grid.coords
    for step in range(3):
        alone = scene.isel(time=step).terramind.embed(**TINY)
        np.testing.assert_allclose(grid.isel(time=step), alone, atol=1e-5)


def test_attrs_name_everything_that_made_the_result(grid):
    promised = {
        *("model", "model_key", "modality", "bands", "bands_terramind", "normalization", "clip"),
        *("layer_index", "fit", "image_size", "overlap", "patch_size", "grid_type", "grid_hw"),
        *("cls_removed", "pooling", "pretrained", "weights", "weights_sha256", "engine"),
        *("precision", "device", "backend", "collection", "scale_m", "temporal_start"),
        *("temporal_end", "xr_terramind_version"),
    }
    assert promised <= set(grid.attrs)
    assert grid.attrs["model"] == "terramind"
    assert grid.attrs["grid_type"] == "vit_patch_tokens"
    assert grid.attrs["grid_hw"] == [19, 19]
    assert (grid.attrs["pretrained"], grid.attrs["weights"]) == (0, "random")
    assert (grid.attrs["device"], grid.attrs["precision"]) == ("cpu", "float32")
    assert len(grid.attrs["weights_sha256"]) == 64
    for value in grid.attrs.values():
        kinds = {type(item) for item in value} if isinstance(value, list) else {type(value)}
        assert len(kinds) == 1 and kinds <= {str, int, float}


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
@pytest.mark.parametrize("output", ["grid", "windows", "pooled"])
def test_netcdf_gives_back_the_same(scene, tmp_path, engine, output):
    embedding = scene.terramind.embed(output, **TINY)
    embedding.to_netcdf(tmp_path / "e.nc", engine=engine)
    again = xr.open_dataarray(tmp_path / "e.nc", decode_coords="all", engine=engine)
    xr.testing.assert_identical(again.load(), embedding)
    assert again.rio.crs == embedding.rio.crs


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("time", [1, 2])
def test_zarr_gives_back_the_same(tmp_path, zarr_format, time):
    cube = xtm.sample_scene(size_px=448, time=time, chunks={"x": 200})
    embedding = cube.terramind.embed(**TINY)
    embedding.to_zarr(tmp_path / "e.zarr", zarr_format=zarr_format, consolidated=False)
    again = xr.open_dataarray(
        tmp_path / "e.zarr", engine="zarr", decode_coords="all", consolidated=False
    )
    xr.testing.assert_identical(again.load(), embedding.compute())
    assert again.rio.transform() == embedding.rio.transform()


def test_geotiff_gives_back_values_crs_transform_and_attrs(grid, tmp_path):
    grid.rio.to_raster(tmp_path / "e.tif")
    again = rioxarray.open_rasterio(tmp_path / "e.tif")
    np.testing.assert_array_equal(again.values, grid.values)
    assert again.rio.crs == grid.rio.crs and again.rio.transform() == grid.rio.transform()
    np.testing.assert_array_equal(again.y, grid.y)
    assert np.isnan(again.rio.nodata)
    assert again.attrs["model_key"] == "terramind_v1_tiny"
    assert again.attrs["weights_sha256"] == grid.attrs["weights_sha256"]


def test_embed_array_is_the_same_job_in_numpy(scene, grid):
    array = scene.values
    np.testing.assert_allclose(xtm.embed_array(array, "grid", **TINY), grid, atol=1e-5)
    batch = xtm.embed_array(np.stack([array, array[:, ::-1]]), **TINY)
    pooled = scene.terramind.embed("pooled", **TINY)
    assert batch.shape == (2, 192)
    np.testing.assert_allclose(batch[0], pooled, atol=1e-5)


def test_resize_puts_patches_over_the_whole_extent():
    scene = xtm.sample_scene(size_px=350).isel(y=slice(0, 280))
    grid = scene.terramind.embed(fit="resize", **TINY)
    assert grid.shape == (192, 14, 14)
    assert grid.rio.bounds() == pytest.approx(scene.rio.bounds())
    assert (grid.rio.transform().a, grid.rio.transform().e) == (250, -200)


def test_resize_counts_the_valid_share_of_each_footprint():
    scene = xtm.sample_scene(size_px=350)
    scene[:, :30] = 0  # 1.2 footprints of 25 pixels
    grid = scene.terramind.embed(fit="resize", **TINY)
    np.testing.assert_allclose(grid.valid_fraction[:3, 0], [0, 0.8, 1], atol=1e-6)
    assert grid[:, 0].isnull().all() and grid[:, 1:].notnull().all()


def test_how_the_source_was_stored_does_not_bind_the_result(tmp_path):
    xtm.sample_scene(size_px=224).to_zarr(tmp_path / "v2.zarr", zarr_format=2)
    source = xr.open_dataarray(tmp_path / "v2.zarr", engine="zarr", decode_coords="all", chunks={})
    embedding = source.terramind.embed(**TINY)
    embedding.to_zarr(tmp_path / "v3.zarr", zarr_format=3, consolidated=False)
    assert embedding.time.encoding["units"] == source.time.encoding["units"]
