"""Cubes: any order, orientation, names and nodata give the same vectors at the same place."""

import contextlib
import itertools
import pickle

import numpy as np
import pytest
import rioxarray
import xarray as xr
from affine import Affine

import xr_terramind as xtm
from tests.support.cubes import BANDS, QUICK, assert_same_embedding, embed, radar, scene

OPEN = contextlib.nullcontext()
no_crs = pytest.mark.filterwarnings("ignore:found no CRS:xr_terramind.TerraMindWarning")
small = pytest.mark.filterwarnings("ignore:found an extent of:xr_terramind.TerraMindWarning")


def assert_covers(result: xr.DataArray, cube: xr.DataArray) -> None:
    """The result's transform and its coordinates both say that cell (0, 0) covers 16 x 16 px."""
    dx, dy = (float(cube[dim][1] - cube[dim][0]) for dim in ("x", "y"))
    west, north = float(cube.x[0]) - dx / 2, float(cube.y[0]) - dy / 2
    assert result.rio.crs == cube.rio.crs
    expected = Affine(16 * dx, 0, west, 0, 16 * dy, north)
    assert result.rio.transform().almost_equals(expected, 1e-6)
    assert result.rio.transform(recalc=True).almost_equals(expected, 1e-6)


# Dimensions and orientation


@pytest.mark.parametrize("dims", [*itertools.permutations(("band", "y", "x"))], ids=" ".join)
def test_the_order_of_dimensions_does_not_matter(dims):
    result = embed(scene(32, 48).transpose(*dims))
    assert result.dims == ("feature", "y", "x")
    assert_same_embedding(result, embed(scene(32, 48)))
    assert_covers(result, scene(32, 48))


@pytest.mark.parametrize("dims", [("x", "time", "band", "y"), ("y", "x", "band", "time")], ids=str)
@pytest.mark.parametrize("chunks", [None, {"time": 1, "x": 20}], ids=str)
def test_time_may_stand_anywhere_and_is_kept(dims, chunks):
    cube = scene(n_times=2)
    turned = cube.transpose(*dims)
    result = embed(turned if chunks is None else turned.chunk(chunks))
    assert result.dims == ("time", "feature", "y", "x")
    xr.testing.assert_equal(result.time.variable, cube.time.variable)
    for date in range(2):
        assert_same_embedding(result.isel(time=date), embed(cube.isel(time=date)))


@pytest.mark.parametrize(
    "names",
    [
        {"y": "lat", "x": "lon"},
        {"y": "latitude", "x": "longitude", "band": "bands"},
        {"y": "Y", "x": "X", "band": "channel"},
        {"y": "northing", "x": "easting", "band": "variable"},
    ],
    ids=str,
)
def test_usual_names_of_dimensions_are_understood_and_the_result_says_y_and_x(names):
    renamed = scene().rename(names)
    result = embed(renamed)
    assert result.dims == ("feature", "y", "x")
    assert_same_embedding(result, embed(scene()))
    assert_covers(result, scene())


@pytest.mark.parametrize("flipped", [["y"], ["x"], ["y", "x"]], ids=" ".join)
@pytest.mark.parametrize("shape", [(64, 64), (32, 64)])
def test_a_cube_upside_down_gives_the_same_at_the_same_coordinates(flipped, shape):
    cube = scene(*shape)
    turned = cube.isel({dim: slice(None, None, -1) for dim in flipped})
    result = embed(turned)
    # The coordinates run as the cube's do: this is the cube turned, not another grid.
    for dim in ("y", "x"):
        assert np.sign(result[dim].diff(dim)[0]) == np.sign(turned[dim].diff(dim)[0])
    assert_same_embedding(result, embed(cube))
    assert_covers(result, turned)


@pytest.mark.parametrize("output", ["pooled", "windows"])
def test_a_cube_upside_down_pools_to_the_same(output):
    cube = scene(64, 64)
    turned = embed(cube.isel(y=slice(None, None, -1)), output=output)
    expected = embed(cube, output=output)
    if output == "windows":
        turned = turned.sel(y=expected.y, x=expected.x)
    np.testing.assert_allclose(turned, expected, atol=1e-5)


def test_a_cube_upside_down_resizes_to_the_same():
    cube = scene(50, 40)
    turned = embed(cube.isel(y=slice(None, None, -1)), fit="resize")
    assert_same_embedding(turned, embed(cube, fit="resize"))


# Coordinates and CRS


def test_without_crs_coordinates_are_right_and_no_crs_is_invented():
    with pytest.warns(xtm.TerraMindWarning, match="no CRS"):
        result = embed(scene().drop_vars("spatial_ref"))
    assert result.rio.crs is None
    assert_same_embedding(result, embed(scene()))


@no_crs
def test_without_any_coordinates_patches_lie_by_pixel_index():
    bare = scene(32, 48).drop_vars(["x", "y", "spatial_ref", "time"])
    result = embed(bare)
    assert result.rio.crs is None
    assert result.y.values.tolist() == [7.5, 23.5]
    assert result.x.values.tolist() == [7.5, 23.5, 39.5]
    np.testing.assert_allclose(result, embed(scene(32, 48)), atol=1e-5)


def test_without_coordinates_the_transform_says_where_the_pixels_are():
    assert_same_embedding(embed(scene().drop_vars(["x", "y"])), embed(scene()))


def test_coordinates_win_over_a_transform_that_a_selection_left_behind():
    cube = scene(64, 64)
    corner = cube.isel(y=slice(32, None), x=slice(32, None))  # spatial_ref still tells of the whole
    assert_same_embedding(embed(corner), embed(cube).isel(y=slice(2, None), x=slice(2, None)))
    assert_covers(embed(corner), corner)


def test_coordinates_of_float32_degrees_are_accepted():
    step = 10 / 111_320
    cube = scene(64, 64).drop_vars("spatial_ref")
    lat, lon = 31.2 - step * np.arange(64), 121.5 + step * np.arange(64)
    cube = cube.assign_coords(y=lat.astype("float32"), x=lon.astype("float32")).rio.write_crs(4326)
    with pytest.warns(xtm.TerraMindWarning, match="found pixels of 8"):
        result = embed(cube)
    # float32 itself is off by 8e-6 of the 9e-5 degrees of a pixel.
    np.testing.assert_allclose(result.x, lon.reshape(4, 16).mean(1), atol=step / 4)
    np.testing.assert_allclose(result.y, lat.reshape(4, 16).mean(1), atol=step / 4)


@no_crs
@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda v: np.where(np.arange(v.size) > 9, v + 10, v), "unevenly spaced"),
        (lambda v: np.where(np.arange(v.size) == 5, v + 3.0, v), "unevenly spaced"),
        (lambda v: v[0] + 10.0 * np.arange(v.size) ** 1.1, "unevenly spaced"),
        (lambda v: np.full_like(v, v[0]), "unevenly spaced"),
        (lambda v: np.where(np.arange(v.size) == 3, np.nan, v), "unevenly spaced"),
        (lambda v: np.where(np.arange(v.size) == v.size - 1, np.inf, v), "unevenly spaced"),
        (lambda v: v.astype(str), "coordinate [xy] of <U"),
    ],
    ids=["a column lost", "a third of a pixel", "stretched", "constant", "NaN", "infinite", "text"],
)
@pytest.mark.parametrize("dim", ["y", "x"])
def test_coordinates_that_make_no_grid_are_refused(dim, spoil, found):
    cube = scene().drop_vars("spatial_ref")  # no CRS, no warning of pixel sizes
    cube = cube.assign_coords({dim: spoil(cube[dim].values)})
    with pytest.raises(xtm.GridError, match=found):
        embed(cube)


def test_coordinates_may_be_rounded_to_a_twentieth_of_a_pixel():
    rounded = scene().x.values + np.where(np.arange(32) % 2, 0.5, 0.0)  # metres, of 10
    found = embed(scene().assign_coords(x=rounded))
    np.testing.assert_array_equal(found, embed(scene()))


def test_a_rotated_transform_is_refused():
    rotated = Affine(9.848, 1.736, 399_960, 1.736, -9.848, 5_000_000)  # 10 m, turned by 10 degrees
    cube = scene().drop_vars(["x", "y"]).rio.write_transform(rotated)
    with pytest.raises(xtm.GridError, match=r"rotated transform.*reproject"):
        embed(cube)


@pytest.mark.parametrize(
    "text", ["1 2 3", "a b c d e f", "", "0 0 0 0 0 0", "nan 10 0 0 0 -10", "0 10 0 0 0 -10 7"]
)
def test_a_transform_that_is_none_is_refused(text):
    cube = scene().drop_vars(["x", "y"])
    cube.spatial_ref.attrs["GeoTransform"] = text
    with pytest.raises(xtm.GridError, match=r"(?i)transform"):
        embed(cube)


@pytest.mark.parametrize("wkt", ["NOT A CRS", ""])
def test_a_crs_that_cannot_be_read_is_refused(wkt):
    cube = scene()
    cube.spatial_ref.attrs = {"crs_wkt": wkt, "spatial_ref": wkt}
    with pytest.raises(xtm.GridError, match=r"CRS that cannot be read.*write_crs"):
        embed(cube)


def ground(cube: xr.DataArray) -> tuple[float, float]:
    """Pixel size in metres that the warning names; 10 x 10 where there is no warning."""
    issues = [issue for issue in cube.terramind.check().issues if issue.code == "pixel-size"]
    if not issues:
        return 10.0, 10.0
    words = issues[0].message.split()
    return float(words[3]), float(words[5])


@pytest.mark.parametrize("latitude", [0.0, 45.0, 60.0, -60.0, 80.0])
def test_degrees_are_measured_at_the_latitude_of_the_cube(latitude):
    step = 2e-4
    along = step * np.arange(32)
    cube = scene().assign_coords(y=latitude - along, x=20 + along).rio.write_crs(4326)
    width_m, height_m = ground(cube)
    # A sphere of 6371 km is within 0.7 % of the ellipsoid in both directions.
    edge_m = step * np.radians(1) * 6_371_000
    assert width_m == pytest.approx(edge_m * np.cos(np.radians(latitude)), rel=0.01)
    assert height_m == pytest.approx(edge_m, rel=0.01)


@pytest.mark.parametrize(("edge", "width_m"), [(10.0, 5.0), (20.0, 10.0)])
def test_web_mercator_is_measured_at_its_latitude(edge, width_m):
    north = 8_399_738.0  # 60 degrees
    cube = scene().assign_coords(y=north - edge * np.arange(32), x=edge * np.arange(32))
    assert ground(cube.rio.write_crs(3857)) == pytest.approx((width_m, width_m), rel=0.01)


@small
@pytest.mark.parametrize("shape", [(1, 32), (32, 1), (1, 1), (17, 1), (3, 5)])
def test_thin_cubes_are_embedded_where_they_lie(shape):
    cube = scene(*shape)
    result = embed(cube)
    assert result.shape == (192, *(-(-size // 16) for size in shape))
    assert np.isfinite(result).all()
    whole = embed(scene())
    np.testing.assert_allclose(result.y, whole.y[: result.sizes["y"]])
    np.testing.assert_allclose(result.x, whole.x[: result.sizes["x"]])
    expected = np.minimum(16, shape[0]) * np.minimum(16, shape[1]) / 256
    assert result.valid_fraction[0, 0] == pytest.approx(expected)


# Dimensions that do not fit


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda cube: cube.expand_dims("lat"), "lat"),
        (lambda cube: cube.expand_dims("channel"), "channel"),
        (lambda cube: cube.isel(band=0, drop=True), "expand_dims\\('band'\\)"),
        (lambda cube: cube.isel(x=0), "'band', 'y'"),
        (lambda cube: cube.rename(x="column"), "column"),
    ],
    ids=["y twice", "band twice", "no band", "no x", "unknown name"],
)
def test_dimensions_that_do_not_fit_are_named(make, named):
    with pytest.raises(xtm.GridError, match=f"found dimensions.*{named}"):
        embed(make(scene()))


# Datasets


def variables(cube: xr.DataArray) -> xr.Dataset:
    return cube.to_dataset("band")


def test_a_dataset_with_one_variable_a_band_is_a_cube():
    assert_same_embedding(embed(variables(scene())), embed(scene()))


def test_a_lazy_dataset_stays_lazy():
    result = embed(variables(scene()).chunk(x=16))
    assert result.chunks is not None
    assert_same_embedding(result.compute(), embed(scene()))


def test_a_dataset_that_holds_the_whole_cube_is_a_cube():
    assert_same_embedding(embed(scene().to_dataset(name="reflectance")), embed(scene()))


def test_a_grid_mapping_among_the_data_variables_is_found():
    # A Zarr or NetCDF opened without decode_coords="all" looks like this.
    for dataset in (variables(scene()), scene().to_dataset(name="reflectance")):
        read = dataset.reset_coords("spatial_ref")
        assert_covers(embed(read), scene())
        renamed = read.rename(spatial_ref="crs")
        assert_covers(embed(renamed), scene())


def test_a_store_without_decoded_coords_keeps_its_crs(tmp_path):
    variables(scene()).to_zarr(tmp_path / "cube.zarr", zarr_format=2, consolidated=False)
    with xr.open_zarr(tmp_path / "cube.zarr", consolidated=False) as read:
        assert "spatial_ref" in read.data_vars
        result = embed(read).compute()
    assert_covers(result, scene())
    assert_same_embedding(result, embed(scene()))


def test_a_dataset_without_images_is_refused():
    with pytest.raises(xtm.BandError, match="found a Dataset with variables"):
        embed(xr.Dataset({"mean": ("time", [1.0, 2.0])}))


def test_bands_of_a_dataset_may_differ_in_nodata():
    holes = {"B1": (-1, np.s_[:16, :16]), "B8A": (32767, np.s_[16:, :4])}
    dataset = variables(scene().astype("int16"))
    for name, (nodata, place) in holes.items():
        dataset[name].values[place] = nodata
        dataset[name].attrs["_FillValue"] = nodata
    # 32767 is no nodata value of B3: there it is a (saturated) pixel.
    dataset["B3"].values[:16, 16:] = 32767
    result = embed(dataset)
    assert result.valid_fraction.values.tolist() == [[0, 1], [0.75, 1]]
    assert np.isnan(result[:, 0, 0]).all()
    assert np.isfinite(result[:, 0, 1]).all()


def test_a_dataset_and_its_array_have_the_same_nodata():
    dataset = variables(scene().astype("int16"))
    for name in BANDS:
        dataset[name].values[:16, :16] = -9999
        dataset[name].attrs["_FillValue"] = -9999
    assert embed(dataset).valid_fraction.values.tolist() == [[0, 1], [1, 1]]


@pytest.mark.parametrize("has_scalar_band", [False, True])
def test_an_elevation_model_may_be_a_plain_image(has_scalar_band):
    stacked = scene().isel(band=[0]).assign_coords(band=["DEM"])
    plain = stacked.isel(band=0, drop=True)
    if has_scalar_band:
        plain = plain.assign_coords(band=1)  # as open_rasterio(...).squeeze() leaves it
    assert_same_embedding(embed(plain, modality="DEM"), embed(stacked, modality="DEM"))
    assert plain.terramind.check(modality="DEM").ok
    assert plain.terramind.arrange("DEM").band.values.tolist() == ["DEM"]


def test_an_elevation_model_may_be_the_only_variable_of_a_dataset():
    stacked = scene().isel(band=[0]).assign_coords(band=["DEM"])
    dataset = stacked.isel(band=0, drop=True).to_dataset(name="elevation")
    assert_same_embedding(embed(dataset, modality="DEM"), embed(stacked, modality="DEM"))


# The caller's object


def everything(obj: xr.DataArray | xr.Dataset) -> bytes:
    """All that a caller could see of a cube: values, labels, attrs, encoding, chunks."""
    dataset = obj if isinstance(obj, xr.Dataset) else obj._to_temp_dataset()
    parts = [
        (str(name), part.dims, part.attrs, part.encoding, part.chunks, part.dtype, part.values)
        for name, part in dataset.variables.items()
    ]
    return pickle.dumps((parts, dataset.attrs, dataset.encoding, [*dataset.sizes.items()]))


@pytest.mark.parametrize("chunks", [None, {"x": 20}], ids=["eager", "lazy"])
@pytest.mark.parametrize("kind", ["array", "dataset", "upside down", "unnamed", "whole cube"])
def test_the_callers_cube_is_never_changed(kind, chunks):
    cube = scene().astype("float32")
    cube.values[:, :3, :3] = -9999
    cube.attrs |= {"_FillValue": -9999, "scale_factor": 1e-4, "nested": {"list": [1]}}
    cube.encoding |= {"dtype": "int16", "_FillValue": -1}
    obj = {
        "array": lambda: cube,
        "dataset": lambda: variables(cube),
        "upside down": lambda: cube.isel(y=slice(None, None, -1)),
        "unnamed": lambda: cube.drop_vars("band").transpose("x", "band", "y"),
        "whole cube": lambda: cube.to_dataset(name="cube").reset_coords("spatial_ref"),
    }[kind]()
    obj = obj if chunks is None else obj.chunk(chunks)
    before = everything(obj)
    with pytest.warns(xtm.TerraMindWarning, match="without names") if kind == "unnamed" else OPEN:
        result = embed(obj)
        embed(obj, output="pooled").compute()
    obj.terramind.check()
    obj.terramind.plan(**QUICK)
    arranged = obj.terramind.arrange()
    assert obj.terramind.bands
    # Not even through what came back.
    for mine in (result, arranged):
        mine.attrs["_FillValue"] = "mine"
        mine.y.attrs["axis"] = mine.x.attrs["axis"] = "mine"
        mine.encoding["dtype"] = "mine"
    assert everything(obj) == before


def test_scale_and_offset_attributes_change_no_number():
    cube = scene()
    cube.attrs |= {"scale_factor": 1e-4, "add_offset": -0.1}
    assert_same_embedding(embed(cube), embed(scene()))


def test_a_geotiff_read_back_gives_the_same(tmp_path):
    cube = scene()
    cube.attrs["long_name"] = tuple(BANDS)
    cube.drop_vars("band").rio.to_raster(tmp_path / "s2.tif")
    with rioxarray.open_rasterio(tmp_path / "s2.tif", chunks={"x": 16}) as read:
        result = embed(read)
        assert result.attrs["band_order"] == "named"
        assert_same_embedding(result.compute(), embed(cube))


# Nodata


def with_hole(dtype: str, value: float) -> xr.DataArray:
    """Patch (0, 0) misses a quarter of its pixels in one band, patch (1, 1) misses all in all."""
    cube = scene().astype(dtype)
    cube.values[3, :8, :8] = value
    cube.values[:, 16:, 16:] = value
    return cube


HOLE = [[0.75, 1], [1, 0]]

DECLARE = {
    "_FillValue": lambda cube, value: cube.assign_attrs(_FillValue=value),
    "nodata": lambda cube, value: cube.assign_attrs(nodata=value),
    "missing_value": lambda cube, value: cube.assign_attrs(missing_value=value),
    "write_nodata": lambda cube, value: cube.rio.write_nodata(value),
}


@pytest.mark.parametrize("declare", DECLARE)
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("int16", -9999),
        ("uint16", 65535),
        ("int32", 2**31 - 1),
        ("int64", -(2**31)),
        ("float32", -9999.0),
        ("float32", float(np.finfo("float32").min)),
        ("float64", -1e30),
        ("float64", float(np.finfo("float64").min)),
    ],
)
def test_declared_nodata_is_invalid(declare, dtype, value):
    holed = with_hole(dtype, value)
    result = embed(DECLARE[declare](holed, value))
    assert result.valid_fraction.values.tolist() == HOLE
    assert np.isnan(result[:, 1, 1]).all()
    assert np.isfinite(result.values[:, [0, 0, 1], [0, 1, 0]]).all()
    # A declared value is worth what NaN is worth, wherever it stands.
    marked = with_hole("float64", np.nan)
    np.testing.assert_allclose(result, embed(marked), atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_and_infinity_are_always_invalid(dtype, value):
    result = embed(with_hole(dtype, value))
    assert result.valid_fraction.values.tolist() == HOLE
    np.testing.assert_allclose(result, embed(with_hole(dtype, np.nan)), atol=1e-5)


def test_a_file_read_with_masked_nodata_gives_the_same(tmp_path):
    path = tmp_path / "holes.tif"
    with_hole("int16", -9999).drop_vars("band").rio.write_nodata(-9999).assign_attrs(
        long_name=tuple(BANDS)
    ).rio.to_raster(path)
    for masked in (False, True):
        with rioxarray.open_rasterio(path, masked=masked) as read:
            assert embed(read).valid_fraction.values.tolist() == HOLE


def test_an_undeclared_number_is_a_value():
    with pytest.warns(xtm.TerraMindWarning, match="below 0"):
        result = embed(with_hole("int16", -9999))
    assert result.valid_fraction.values.tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("declared", [False, True])
def test_zero_in_sentinel_2_is_nodata_only_where_all_bands_are_zero(declared):
    cube = with_hole("uint16", 0)
    if declared:
        cube = cube.rio.write_nodata(0)
    assert embed(cube).valid_fraction.values.tolist() == [[1, 1], [1, 0]]


def test_zero_elsewhere_is_a_value_unless_declared():
    cube = radar()
    cube.values[:, 16:, 16:] = 0
    whole = embed(cube, modality="S1GRD")
    assert whole.valid_fraction.min() == 1
    holed = embed(cube.rio.write_nodata(0), modality="S1GRD")
    assert holed.valid_fraction.values.tolist() == [[1, 1], [1, 0]]


def test_an_invalid_pixel_enters_as_the_band_mean():
    from xr_terramind.model.modalities import MODALITIES

    mean = np.array(MODALITIES["S2L2A"].statistics["v1"][0])[:, None, None]
    filled = with_hole("float64", np.nan)
    invalid = np.isnan(filled.values).any(axis=0)
    filled.values[:] = np.where(invalid, mean, filled.values)
    holed, whole = embed(with_hole("float64", np.nan)), embed(filled)
    seen = holed.valid_fraction.values > 0
    # 1e-3 in raw values is what float32 leaves of a mean of thousands: 1e-6 after z-scoring.
    np.testing.assert_allclose(holed.values[:, seen], whole.values[:, seen], atol=1e-5)


@pytest.mark.parametrize(
    ("least", "kept"), [(0.0, True), (0.75, True), (0.76, False), (1.0, False)]
)
def test_patches_under_the_least_valid_fraction_are_nan(least, kept):
    result = embed(with_hole("float32", np.nan), min_valid_fraction=least)
    assert np.isfinite(result[:, 0, 0]).all() == kept
    assert np.isfinite(result[:, 0, 1]).all()
    assert result.valid_fraction.values.tolist() == HOLE


def test_an_image_of_any_number_format_gives_the_same():
    cube = scene()
    expected = embed(cube)
    for dtype in "i2 u2 i4 u4 i8 u8 f4 f8 >i2 >f4 longdouble".split():
        assert_same_embedding(embed(cube.astype(dtype)), expected)
