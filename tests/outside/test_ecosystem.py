"""Embeddings go through the rest of xarray: CRS, coordinates and missing data come along."""

import pickle
from collections.abc import Callable
from functools import cache, partial

import dask
import matplotlib
import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - registers .rio
import shapely
import xarray as xr
from affine import Affine

import xr_terramind as xtm
from tests.support.cubes import embed

WEST_M, NORTH_M = 440_000, 6_160_000
GRID = Affine(160, 0, WEST_M, 0, -160, NORTH_M)
PLACE = shapely.Point(WEST_M + 500, NORTH_M - 400).buffer(300)
BOX = (WEST_M + 170, NORTH_M - 630, WEST_M + 470, NORTH_M - 170)
# Attributes that an eager embedding knows, and a lazy one only once it is computed.
SETTLED_LATE = {"engine", "device", "precision"}
pytestmark = pytest.mark.filterwarnings("error::xr_terramind.TerraMindWarning")


@cache
def cube() -> xr.DataArray:
    """Three dates of 6 x 6 patches; two patches of the first date are missing, one in part."""
    scene = xtm.sample_scene(96, time=3).astype("float32")
    scene[0, :, 32:72, :16] = np.nan
    return scene


@cache
def series() -> xr.DataArray:
    return embed(cube())


def lazy_series() -> xr.DataArray:
    return embed(cube().chunk(time=1, x=48, y=48))


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("something was computed")


def through(operation: Callable[[xr.DataArray], xr.DataArray]) -> xr.DataArray:
    """What an operation makes of an embedding: of a lazy one the same, and nothing computed."""
    with xr.set_options(keep_attrs=True):  # xarray's default differs between versions
        eager = operation(series())
        with dask.config.set(scheduler=refuse):
            lazy = operation(lazy_series())
    assert lazy.chunks is not None
    xr.testing.assert_allclose(lazy.compute(), eager, rtol=0, atol=1e-5)
    for name in set(eager.attrs) - SETTLED_LATE:
        np.testing.assert_array_equal(lazy.attrs[name], eager.attrs[name])
    return eager


# Every operation: the CRS, the grid, what the attrs say of the model


def to_variables(emb: xr.DataArray) -> xr.Dataset:
    """The embedding with its valid fraction as a variable that is reduced like it."""
    return emb.to_dataset().reset_coords("valid_fraction")


EACH_DATE = [0, 1, 2]
OPERATIONS = {
    "groupby": lambda emb: emb.groupby("time.month").mean(),
    "resample": lambda emb: emb.resample(time="QS").mean(),
    "mean over time": lambda emb: emb.mean("time"),
    "anomaly": lambda emb: emb - emb.mean("time"),
    "where": lambda emb: emb.where(emb.valid_fraction > 0.6),
    "concat": lambda emb: xr.concat([emb.isel(time=[date]) for date in EACH_DATE], "time"),
    "concat of tiles": lambda emb: xr.concat([emb[..., :2], emb[..., 2:]], "x"),
    "combine": lambda emb: (
        xr.combine_by_coords([emb[..., 3:].to_dataset(), emb[..., :3].to_dataset()]).embedding
    ),
    "merge": lambda emb: xr.merge([emb, (2 * emb).rename("twice")]).embedding,
    "stack": lambda emb: emb.stack(cell=("y", "x")).unstack("cell"),
    "transpose": lambda emb: emb.transpose("x", "y", ...),
    "to_dataset": lambda emb: emb.to_dataset().embedding,
    "pickle": lambda emb: pickle.loads(pickle.dumps(emb)),
}
OTHER_GRIDS = {
    "clip": (lambda emb: emb.rio.clip([PLACE]), (160, WEST_M + 160, NORTH_M - 160)),
    "clip_box": (lambda emb: emb.rio.clip_box(*BOX), (160, WEST_M + 160, NORTH_M - 160)),
    "isel": (lambda emb: emb.isel(y=slice(1, None)), (160, WEST_M, NORTH_M - 160)),
    "sel": (lambda emb: emb.sel(x=slice(WEST_M + 200, None)), (160, WEST_M + 160, NORTH_M)),
    "interp": (
        lambda emb: emb.interp(x=emb.x.values[1:4] + 40, y=emb.y.values[2:4] + 40),
        (160, WEST_M + 200, NORTH_M - 280),
    ),
    "coarsen": (lambda emb: emb.coarsen(y=2, x=2).mean(), (320, WEST_M, NORTH_M)),
    "coarsen and trim": (
        lambda emb: emb[..., :5].coarsen(y=2, x=2, boundary="trim").mean(),
        (320, WEST_M, NORTH_M),
    ),
}


@pytest.mark.parametrize("name", [*OPERATIONS, *OTHER_GRIDS])
def test_the_crs_the_grid_and_the_attrs_come_along(name):
    operation, (step, west, north) = OTHER_GRIDS.get(
        name, (OPERATIONS.get(name), (160, WEST_M, NORTH_M))
    )
    result = through(operation)
    assert result.name == "embedding"
    assert result.rio.crs == series().rio.crs
    # The stored transform is that of the source, as with every array that rioxarray describes.
    assert (
        result.rio.write_transform()
        .rio.transform()
        .almost_equals(Affine(step, 0, west, 0, -step, north))
    )
    told = {name: result.attrs[name] for name in ("model_key", "modality", "weights")}
    assert told == {"model_key": "terramind_v1_tiny", "modality": "S2L2A", "weights": "random"}


ALONG_TIME = {"groupby", "resample", "mean over time"}


@pytest.mark.parametrize("name", [*OPERATIONS, *OTHER_GRIDS])
def test_the_valid_fraction_comes_along(name):
    operation = OPERATIONS.get(name) or OTHER_GRIDS[name][0]
    result = operation(series())
    if name in ALONG_TIME:  # xarray drops coordinates along what is reduced; see the next test
        assert "valid_fraction" not in result.coords
    elif name.startswith("coarsen"):  # xarray reduces coordinates in the same way
        reduced = operation(series().valid_fraction.drop_vars("valid_fraction"))
        np.testing.assert_allclose(result.valid_fraction, reduced)
    elif name == "interp":
        assert result.valid_fraction.dims == ("time", "y", "x")
    else:
        here = {axis: result[axis] for axis in ("y", "x")}
        expected = series().valid_fraction.sel(here).transpose(*result.valid_fraction.dims)
        np.testing.assert_array_equal(result.valid_fraction, expected)


def test_as_a_variable_the_valid_fraction_is_reduced_along_time():
    def valid_by_month(emb):
        return to_variables(emb).groupby("time.month").mean().valid_fraction

    result = through(valid_by_month)
    assert result.dims == ("month", "y", "x")
    assert result.rio.crs == series().rio.crs
    np.testing.assert_allclose(result, series().valid_fraction, atol=1e-6)


@pytest.mark.parametrize("name", [*OPERATIONS, *OTHER_GRIDS])
def test_what_comes_out_can_be_written_and_read(name, tmp_path):
    result = (OPERATIONS.get(name) or OTHER_GRIDS[name][0])(series())
    result.to_netcdf(tmp_path / "result.nc")
    result.to_zarr(tmp_path / "result.zarr", consolidated=False)
    options = {"decode_coords": "all"}
    with xr.open_dataset(tmp_path / "result.nc", **options) as netcdf:
        assert netcdf.embedding.rio.crs == series().rio.crs
        xr.testing.assert_equal(netcdf.embedding.load(), result)
    with xr.open_zarr(tmp_path / "result.zarr", consolidated=False, **options) as zarr:
        assert zarr.embedding.rio.crs == series().rio.crs
        xr.testing.assert_equal(zarr.embedding.load(), result)


# Single operations


def test_a_mean_over_time_passes_over_what_is_missing():
    months = through(lambda emb: emb.groupby("time.month").mean())
    assert months.month.values.tolist() == [6, 7, 8]
    assert months.isnull().any("feature").sum().item() == 2
    summer = through(lambda emb: emb.resample(time="YS").mean())
    assert summer.notnull().all()
    np.testing.assert_allclose(summer[0, :, 2, 0], series()[1:, :, 2, 0].mean("time"), atol=1e-6)


def test_the_nearest_vector_is_that_of_the_patch_around_the_place():
    east, south = WEST_M + 3 * 160 + 150, NORTH_M - 4 * 160 - 10
    vector = through(lambda emb: emb.sel(x=east, y=south, method="nearest"))
    np.testing.assert_array_equal(vector, series()[:, :, 4, 3])
    assert vector.valid_fraction.dims == ("time",)
    assert vector.rio.crs == series().rio.crs


def test_clipping_leaves_nan_outside_the_shape():
    clipped = through(lambda emb: emb.rio.clip([PLACE], drop=False))
    x, y = np.meshgrid(series().x, series().y)
    inside = shapely.contains_xy(PLACE, x, y)
    assert 0 < inside.sum() < inside.size
    np.testing.assert_array_equal(clipped.notnull().all(("time", "feature")), inside)
    assert np.isnan(clipped.rio.nodata)


@pytest.mark.parametrize("masked", [False, True])
def test_reprojection_keeps_what_is_missing_missing(masked):
    emb = series().isel(time=0)
    if masked:  # where() drops the encoding, and with it the nodata value
        emb = emb.where(emb.valid_fraction > 0.6)
    result = emb.rio.reproject("EPSG:4326", resolution=0.0007)
    assert result.rio.crs.to_epsg() == 4326
    assert np.isnan(result.rio.nodata)
    assert result.attrs["model_key"] == "terramind_v1_tiny"
    back = result.rio.reproject_match(emb)
    some = back.notnull().all("feature")
    assert some.sum() > 20
    assert not (some & emb.isnull().any("feature")).any()
    # Each pixel is one of the vectors, or none: neighbours are not blended with what is missing.
    known = emb.stack(cell=("y", "x")).dropna("cell").values.T
    found = result.stack(cell=("y", "x")).dropna("cell").values.T
    assert {vector.tobytes() for vector in found} <= {vector.tobytes() for vector in known}


def test_reprojection_drops_coordinates_but_takes_variables_along():
    emb = series().isel(time=0)
    assert "valid_fraction" not in emb.rio.reproject("EPSG:4326").coords  # as rioxarray does
    both = to_variables(emb).rio.reproject("EPSG:4326").set_coords("valid_fraction")
    seen = both.embedding.notnull().all("feature")
    assert both.embedding.valid_fraction.dims == ("y", "x")
    np.testing.assert_array_equal(both.valid_fraction.where(seen) > 0, seen)


def test_a_geotiff_of_a_coarser_grid_lies_right(tmp_path):
    coarser = series().isel(time=1).coarsen(y=2, x=2).mean()
    coarser.rio.to_raster(tmp_path / "coarser.tif")
    with rasterio.open(tmp_path / "coarser.tif") as file:
        assert file.transform.almost_equals(GRID @ Affine.scale(2))
        assert file.crs == series().rio.crs
        np.testing.assert_array_equal(file.read(), coarser)


def test_a_store_of_a_coarser_grid_lies_right(tmp_path):
    coarser = series().isel(time=1).coarsen(y=2, x=2).mean()
    stored = coarser.terramind.to_zarr(tmp_path / "coarser.zarr")
    assert stored.rio.transform() == GRID @ Affine.scale(2)


def test_cells_in_rows_are_a_table_for_other_libraries():
    table = through(lambda emb: emb.isel(time=0).stack(cell=("y", "x")).transpose("cell", ...))
    assert table.shape == (36, 192)
    assert table.dropna("cell").sizes["cell"] == 34
    assert set(table.cell.indexes["cell"].names) == {"y", "x"}
    frame = table.isel(feature=slice(3)).to_series().unstack("feature")
    assert frame.shape == (36, 3)


def test_features_become_variables():
    variables = through(lambda emb: emb.to_dataset("feature")[7])
    np.testing.assert_array_equal(variables, series().sel(feature=7))
    assert variables.rio.crs == series().rio.crs


def test_dates_embedded_one_by_one_are_joined():
    """A date keeps its own valid fraction where its cube has a dimension time of one entry."""

    def join(chunks):
        dates = [cube().isel(time=[date]) for date in EACH_DATE]
        embedded = [embed(date if chunks is None else date.chunk(chunks)) for date in dates]
        return xr.concat(embedded, "time", combine_attrs="drop_conflicts")

    joined = join(None)
    with dask.config.set(scheduler=refuse):
        lazy = join({"x": 48})
    xr.testing.assert_allclose(lazy.compute(), joined, rtol=0, atol=1e-5)
    xr.testing.assert_allclose(joined, series(), rtol=0, atol=1e-5)
    # What the dates disagree on is dropped: the first and the last date of each.
    assert set(series().attrs) - set(joined.attrs) == {"temporal_start", "temporal_end"}


# Files of dates, trees


@pytest.mark.parametrize("form", ["netcdf4", "h5netcdf", "zarr"])
def test_many_files_open_as_one_series(tmp_path, form):
    for date in EACH_DATE:
        emb = series().isel(time=[date])
        if form == "zarr":
            emb.to_zarr(tmp_path / f"{date}.zarr", consolidated=False)
        else:
            emb.to_netcdf(tmp_path / f"{date}.nc", engine=form)
    options = {"backend_kwargs": {"consolidated": False}} if form == "zarr" else {}
    paths = sorted(tmp_path.iterdir())
    with dask.config.set(scheduler=refuse):
        opened = xr.open_mfdataset(paths, engine=form, decode_coords="all", **options)
    with opened:
        result = opened.embedding
        assert result.chunks is not None
        xr.testing.assert_equal(result.load(), series())
        assert result.rio.crs == series().rio.crs
        assert result.rio.transform() == GRID
        assert result.attrs["model_key"] == "terramind_v1_tiny"


def embed_node(node: xr.Dataset, chunks: object = None) -> xr.Dataset:
    if not node:
        return node  # the root holds no data
    node = node if chunks is None else node.chunk(chunks)
    return embed(node).to_dataset()


@cache
def scenes() -> xr.DataTree:
    tiles = {"june/west": (0, slice(48)), "june/east": (0, slice(48, None)), "july": (1, slice(96))}
    return xr.DataTree.from_dict(
        {
            name: cube().isel(time=date, x=columns).to_dataset()
            for name, (date, columns) in tiles.items()
        }
    )


def test_a_tree_of_scenes_becomes_a_tree_of_embeddings():
    tree = scenes().map_over_datasets(embed_node)
    with dask.config.set(scheduler=refuse):
        lazy = scenes().map_over_datasets(partial(embed_node, chunks={"x": 48}))
        assert lazy["july/embedding"].chunks is not None
    assert {leaf.path for leaf in tree.leaves} == {"/june/west", "/june/east", "/july"}
    for path in ("june/west", "june/east", "july"):
        assert tree[path].to_dataset().embedding.rio.crs == series().rio.crs
    assert tree["june/east/embedding"].rio.transform() == GRID @ Affine.translation(3, 0)
    np.testing.assert_allclose(tree["july/embedding"], series()[1], atol=1e-5)
    xr.testing.assert_allclose(lazy["july"].compute().to_dataset(), tree["july"].to_dataset())
    means = tree.mean("feature", keep_attrs=True)
    assert means["july"].to_dataset().embedding.rio.crs == series().rio.crs


@pytest.mark.parametrize("form", ["zarr", "netcdf4"])
def test_a_tree_is_written_and_read(tmp_path, form):
    tree = scenes().map_over_datasets(embed_node)
    path = tmp_path / "tree"
    if form == "zarr":
        tree.to_zarr(path, consolidated=False)
    else:
        tree.to_netcdf(path, engine=form)
    options = {"consolidated": False} if form == "zarr" else {}
    with xr.open_datatree(path, engine=form, decode_coords="all", **options) as read:
        xr.testing.assert_equal(read.load(), tree)
        east = read["june/east"].to_dataset().embedding
        assert east.rio.crs == series().rio.crs
        assert east.rio.transform() == GRID @ Affine.translation(3, 0)
        assert east.attrs["model_key"] == "terramind_v1_tiny"


# Plots

BOUNDS = (WEST_M, NORTH_M - 960, WEST_M + 960, NORTH_M)


def test_matplotlib_draws_a_feature_where_it_lies():
    matplotlib.use("Agg")
    from matplotlib import pyplot

    mesh = series().isel(time=0, feature=0).plot()
    axes = mesh.axes
    west, east, south, north = *axes.get_xlim(), *axes.get_ylim()
    assert (west, south, east, north) == BOUNDS
    assert "metre" in axes.get_xlabel()
    assert axes.get_ylabel().startswith("y coordinate")
    assert "2022-06-15" in axes.get_title()
    assert np.isnan(mesh.get_array().filled(np.nan)).sum() == 2
    pyplot.close("all")


@pytest.fixture(scope="module")
def hvplot():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the import of HoloViews, Bokeh and Panel
        return pytest.importorskip("hvplot.xarray")


@pytest.mark.parametrize("make", [series, lazy_series])
def test_hvplot_draws_a_feature_where_it_lies(hvplot, make):
    import holoviews

    feature = make().isel(time=0, feature=0)
    image = feature.hvplot.image(x="x", y="y")
    assert isinstance(image, holoviews.Image)
    assert image.bounds.lbrt() == pytest.approx(BOUNDS)
    assert [str(dim) for dim in image.dimensions()] == ["x", "y", "embedding"]
    drawn = image.dimension_values("embedding", flat=False)[::-1]  # south first in HoloViews
    np.testing.assert_allclose(drawn, series()[0, 0], atol=1e-5)


# Smaller forms and pictures of an embedding

EIGHT_BITS = {
    "clip": lambda obj: obj.rio.clip([PLACE]),
    "clip_box": lambda obj: obj.rio.clip_box(*BOX),
    "sel": lambda obj: obj.sel(x=WEST_M + 300, y=NORTH_M - 300, method="nearest"),
    "isel": lambda obj: obj.isel(time=[2, 0], x=slice(1, 3)),
    "concat": lambda obj: xr.concat([obj.isel(time=[date]) for date in EACH_DATE], "time"),
    "reproject": lambda obj: obj.isel(time=0).rio.reproject("EPSG:4326"),
    "pickle": lambda obj: pickle.loads(pickle.dumps(obj)),
}


# rioxarray clips with NaN before it casts back to int8; the scale, NaN there, says what is missing.
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("name", EIGHT_BITS)
def test_int8_goes_the_same_way(name):
    operation = EIGHT_BITS[name]
    packed = operation(series().terramind.quantize())
    assert packed.embedding.dtype == np.int8
    found, expected = packed.terramind.dequantize(), operation(series())
    assert found.rio.crs == expected.rio.crs
    assert found.dims == expected.dims
    np.testing.assert_allclose(found.x, expected.x)
    np.testing.assert_array_equal(found.isnull(), expected.isnull())
    step = float(packed.scale.max())
    np.testing.assert_allclose(found, expected, atol=step)


MAPS = {
    "to_rgb": lambda emb: emb.terramind.to_rgb().transpose(..., "y", "x"),
    "similarity": lambda emb: emb.terramind.similarity(x=WEST_M + 500, y=NORTH_M - 500),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps_of_an_embedding_go_the_same_way(name):
    made = MAPS[name](series().isel(time=0))
    assert made.rio.crs == series().rio.crs
    clipped = made.rio.clip([PLACE])
    assert clipped.rio.crs == series().rio.crs
    assert clipped.rio.transform(recalc=True) == GRID @ Affine.translation(1, 1)
    assert clipped.isnull().any()
    degrees = made.rio.reproject("EPSG:4326")
    assert degrees.rio.crs.to_epsg() == 4326
    low, high = float(made.min()), float(made.max())
    assert low <= float(degrees.min()) <= float(degrees.max()) <= high  # no fill value among them
    assert made.coarsen(y=2, x=2).mean().rio.transform(recalc=True) == GRID @ Affine.scale(2)
