"""Vectors at points: those of the patch that holds the point, whatever the CRS and the axes."""

import sys

import dask.array as da
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from shapely import MultiPoint, Point, box

import xr_terramind as xtm
from tests.support.cubes import embed, sealed
from xr_terramind.result.cells import cell_borders, cells_at

CRS = "EPSG:32632"
STEP_M = 160.0
WEST_M, NORTH_M = 440_000.0, 6_160_000.0
FEATURES = ["feature_0", "feature_1", "feature_2"]


def grid(height: int = 6, width: int = 8, n_times: int = 0) -> xr.DataArray:
    """Vectors that say where they stand: (100 time + row, column, 7)."""
    time, row, col = np.meshgrid(*map(np.arange, (n_times or 1, height, width)), indexing="ij")
    values = np.stack([100 * time + row, col, np.full_like(row, 7)], axis=1).astype("float32")
    array = xr.DataArray(
        values,
        dims=("time", "feature", "y", "x"),
        coords={
            "time": pd.date_range("2024-01-01", periods=n_times or 1, freq="30D"),
            "feature": np.arange(3),
            "y": NORTH_M - STEP_M * (np.arange(height) + 0.5),
            "x": WEST_M + STEP_M * (np.arange(width) + 0.5),
            "valid_fraction": (("time", "y", "x"), np.full(row.shape, 0.5, "float32")),
        },
        name="embedding",
    ).rio.write_crs(CRS)
    return array if n_times else array.isel(time=0, drop=True)


def points(*places: tuple[float, float], crs: str | None = CRS, **columns) -> gpd.GeoDataFrame:
    """Of coordinates, in metres from the north-western corner of the grid where the CRS is its."""
    xs, ys = np.array(places, float).reshape(-1, 2).T
    if crs == CRS:
        xs, ys = WEST_M + xs, NORTH_M - ys
    return gpd.GeoDataFrame(columns, geometry=gpd.points_from_xy(xs, ys), crs=crs)


def middle(row: int, col: int) -> tuple[float, float]:
    return STEP_M * (col + 0.5), STEP_M * (row + 0.5)


# -- Which patch --------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 8 * STEP_M), st.floats(0, 6 * STEP_M)), min_size=1))
def test_the_patch_is_the_one_whose_footprint_holds_the_point(places):
    embedding = grid()
    found = embedding.terramind.sample(points(*places))
    assert found["inside"].all()
    for dim, name in (("y", "feature_0"), ("x", "feature_1")):
        centre = embedding[dim].values[found[name].astype(int)]
        there = getattr(found.geometry, dim).to_numpy()
        assert (np.abs(there - centre) <= STEP_M / 2 + 1e-6).all()
    assert (found["feature_2"] == 7).all()


@pytest.mark.parametrize("y_step", [1, -1])
@pytest.mark.parametrize("x_step", [1, -1])
def test_whatever_way_the_axes_run(y_step, x_step):
    there = points(middle(0, 0), middle(5, 7), middle(2, 3), (1279.9, 0.1))
    expected = grid().terramind.sample(there)
    turned = grid().isel(y=slice(None, None, y_step), x=slice(None, None, x_step))
    pd.testing.assert_frame_equal(turned.terramind.sample(there), expected)
    transposed = turned.transpose("x", "feature", "y")
    pd.testing.assert_frame_equal(transposed.terramind.sample(there), expected)


def test_a_border_belongs_to_one_patch_and_the_last_one_to_the_grid():
    corners = points((0, 0), (STEP_M, STEP_M), (8 * STEP_M, 6 * STEP_M))
    found = grid().terramind.sample(corners)
    assert found["inside"].all()
    assert found["feature_1"].tolist() == [0, 1, 7]  # the eastern one
    assert found["feature_0"].tolist() == [0, 0, 5]  # the northern one


def test_borders_of_what_was_selected():
    embedding = grid()
    part = embedding.isel(y=slice(2, 4), x=[5])
    np.testing.assert_allclose(cell_borders(part, "y"), NORTH_M - STEP_M * np.array([2, 3, 4]))
    np.testing.assert_allclose(cell_borders(part, "x"), WEST_M + STEP_M * np.array([5, 6]))
    with pytest.raises(xtm.GridError, match="write_transform"):
        cell_borders(embedding.isel(y=[0], x=[0]), "y")
    alone = embedding.rio.write_transform(embedding.rio.transform()).isel(y=[1], x=[1])
    np.testing.assert_allclose(cell_borders(alone, "y"), NORTH_M - STEP_M * np.array([2, 1]))
    with pytest.raises(xtm.GridError, match="sortby"):
        cell_borders(embedding.isel(y=[0, 2, 1]), "y")
    with pytest.raises(xtm.GridError, match="without the coordinate x"):
        cell_borders(embedding.drop_vars("x"), "x")


def test_windows_that_are_unevenly_spaced():
    # Windows of 32 pixels; the last was moved inwards by 16, so that its centre is 16 nearer.
    embedding = embed(xtm.sample_scene(80), output="windows")
    np.testing.assert_allclose(np.diff(embedding.x), [320, 160])
    xs = WEST_M + np.array([0, 319, 321, 559, 561, 800, 801, -1])
    rows, cols, inside = cells_at(embedding, xs, np.full(8, NORTH_M - 10))
    assert cols.tolist() == [0, 0, 1, 1, 2, 2, -1, -1]
    assert rows.tolist() == [0] * 6 + [-1] * 2
    assert inside.tolist() == [True] * 6 + [False] * 2


# -- In which CRS -------------------------------------------------------------------------------


def test_degrees_and_metres_agree():
    there = points(*(middle(row, col) for row in range(6) for col in range(8)))
    expected = grid().terramind.sample(there)
    assert expected["feature_0"].tolist() == np.repeat(range(6), 8).tolist()
    lon, lat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform(
        there.geometry.x, there.geometry.y
    )
    table = expected.drop(columns="geometry")
    for found in (
        grid().terramind.sample(lon=lon, lat=lat),
        grid().terramind.sample(np.stack([lon, lat], axis=1)),
        grid().terramind.sample(there.to_crs(3857)),
        grid().terramind.sample(there.geometry.to_crs(4326)),
    ):
        pd.testing.assert_frame_equal(found.drop(columns="geometry"), table)
    assert found.crs == "EPSG:4326"


def test_a_grid_in_degrees():
    embedding = grid().assign_coords(y=50 - 0.1 * np.arange(6), x=10 + 0.1 * np.arange(8))
    embedding = embedding.drop_vars("spatial_ref").rio.write_crs(4326)
    found = embedding.terramind.sample(lon=[10.0, 10.34], lat=[50.04, 49.66])
    assert found[FEATURES[:2]].to_numpy().tolist() == [[0, 0], [3, 3]]


def test_one_place_as_numbers():
    lon, lat = Transformer.from_crs(CRS, 4326, always_xy=True).transform(WEST_M + 90, NORTH_M - 90)
    found = grid().terramind.sample(lon=lon, lat=lat)
    assert len(found) == 1 and found["inside"].all()


# -- What comes back ----------------------------------------------------------------------------


def test_the_points_keep_what_they_are():
    there = points(middle(3, 1), middle(0, 0), middle(3, 1), name=["b", "a", "c"])
    there.index = pd.Index([7, 7, 3], name="plot")
    there = there.rename_geometry("where")
    before = there.copy(deep=True)
    found = grid().terramind.sample(there)
    assert isinstance(found, gpd.GeoDataFrame) and found.crs == CRS
    pd.testing.assert_frame_equal(found[["name", "where"]], before)
    pd.testing.assert_frame_equal(there, before)
    assert found.columns.tolist() == ["name", "where", *FEATURES, "valid_fraction", "inside"]
    assert found["feature_0"].dtype == np.float32 and found["feature_0"].tolist() == [3, 0, 3]
    assert found["valid_fraction"].tolist() == [0.5] * 3


def test_features_are_called_as_the_embedding_counts_them():
    found = grid().isel(feature=[2, 0]).terramind.sample(points(middle(4, 4)))
    assert found[["feature_2", "feature_0"]].to_numpy().tolist() == [[7, 4]]


def test_dates_follow_each_other_at_each_point():
    embedding = grid(n_times=3)
    there = points(middle(1, 2), middle(4, 0), name=["a", "b"])
    there.index = [5, 6]
    found = embedding.terramind.sample(there)
    assert found.index.tolist() == [5, 5, 5, 6, 6, 6]
    assert found["name"].tolist() == list("aaabbb")
    assert found["feature_0"].tolist() == [1, 101, 201, 4, 104, 204]
    assert found["time"].tolist() == 2 * pd.DatetimeIndex(embedding.time.values).tolist()
    assert found.geometry.iloc[3] == there.geometry.iloc[1]
    lone = embedding.assign_coords(valid_fraction=embedding.valid_fraction.isel(time=0, drop=True))
    pd.testing.assert_frame_equal(lone.terramind.sample(there), found)
    one = embedding.isel(time=1).terramind.sample(there)
    assert "time" not in one and one["feature_0"].tolist() == [101, 104]


def test_patches_without_data_are_inside_and_nan():
    embedding = grid()
    embedding[:, 1, 1] = np.nan
    found = embedding.terramind.sample(points(middle(1, 1), middle(1, 2)))
    assert found["inside"].all()
    assert found[FEATURES].isna().all(axis=1).tolist() == [True, False]


def test_without_valid_fraction():
    found = grid().drop_vars("valid_fraction").terramind.sample(points(middle(1, 1)))
    assert found.columns.tolist() == ["geometry", *FEATURES, "inside"]


# -- Points that are nowhere --------------------------------------------------------------------


def test_points_outside_are_counted_and_nan():
    there = points(middle(0, 0), (-1, 100), (100, 961), middle(0, 9))
    there.loc[4:6, "geometry"] = None
    there.loc[4, "geometry"] = None
    there.loc[5, "geometry"] = Point()
    there.loc[6, "geometry"] = Point(np.nan, 1)
    words = (
        r"6 of 7 points outside the grid.*x 440000 to 441280, y 6159040 to 6160000 in EPSG:32632"
    )
    with pytest.warns(xtm.TerraMindWarning, match=words) as caught:
        found = grid().terramind.sample(there)
    assert caught[0].filename == __file__
    assert found["inside"].tolist() == [True] + [False] * 6
    assert found.loc[~found["inside"], [*FEATURES, "valid_fraction"]].isna().all(axis=None)
    assert found.loc[0, FEATURES].tolist() == [0, 0, 7]


def test_where_all_are_outside_nothing_is_computed():
    embedding = sealed(grid(n_times=2))
    with pytest.warns(xtm.TerraMindWarning, match="2 of 2"):
        found = embedding.terramind.sample(points((-5, -5), (-9, -9)))
    assert len(found) == 4 and not found["inside"].any() and found[FEATURES].isna().all(axis=None)


@pytest.mark.parametrize("none", [points(), np.empty((0, 2)), np.empty(0)])
def test_no_points_at_all(none):
    found = grid().terramind.sample(none)
    assert len(found) == 0 and found.crs is not None
    assert found.columns.tolist() == ["geometry", *FEATURES, "valid_fraction", "inside"]


# -- Lazily -------------------------------------------------------------------------------------


def test_only_chunks_with_points_are_computed_and_once():
    embedding = grid(8, 8, n_times=2)
    reads: list[tuple[int, ...]] = []

    def read(block, block_info=None):
        reads.append(tuple(block_info[None]["chunk-location"]))
        return block

    data = embedding.chunk(time=1, y=2, x=2).data
    # Vectors and shares of the same block come from one task, as `embed` has it.
    data = da.map_blocks(read, data, dtype=data.dtype, meta=data._meta)
    lazy = embedding.copy(data=data)
    lazy["valid_fraction"] = (("time", "y", "x"), data[:, 2] / 14)
    there = points(middle(0, 0), middle(1, 1), middle(7, 2), middle(0, 1))
    found = lazy.terramind.sample(there)
    assert sorted(reads) == [(t, 0, y, x) for t in range(2) for y, x in ((0, 0), (3, 1))]
    pd.testing.assert_frame_equal(found, embedding.terramind.sample(there))


def test_the_real_path():
    embedding = embed(xtm.sample_scene(64, chunks={"x": 32, "y": 32}))
    there = points(middle(1, 2), middle(3, 3))
    found = embedding.terramind.sample(there)
    names = [f"feature_{number}" for number in range(192)]
    for place, row in zip(((1, 2), (3, 3)), found[names].to_numpy(), strict=True):
        expected = embedding[:, place[0], place[1]].values
        np.testing.assert_allclose(row, expected, atol=1e-5)


# -- What is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (points((1, 1), crs=None), "without a CRS.*set_crs"),
        (gpd.GeoSeries([box(0, 0, 1, 1)], crs=CRS), r"Polygon.*representative_point\(\)"),
        (gpd.GeoSeries([MultiPoint([(0, 0)])], crs=CRS), r"MultiPoint.*explode\(\)"),
        (gpd.GeoDataFrame({"a": [1]}), "set_geometry"),
        (points((1, 1), inside=[3]), r"columns inside.*rename"),
        (points((1, 1), feature_1=[3]), r"columns feature_1.*rename"),
        (np.zeros((2, 3)), r"expected as many longitudes as latitudes"),
        (np.zeros((2, 2, 2)), r"shape"),
        ([(440_000, 6_160_000)], r"latitudes from 6.16e\+06.*points_from_xy"),
        ("here", "found str"),
        (None, "found no points"),
    ],
)
def test_points_that_are_none(there, words):
    with pytest.raises(xtm.GridError, match=words):
        grid().terramind.sample(there)


def test_arguments_that_contradict_each_other():
    with pytest.raises(xtm.GridError, match="found lon; expected either"):
        grid().terramind.sample(lon=[8])
    with pytest.raises(xtm.GridError, match="found points and lat"):
        grid().terramind.sample([(8, 50)], lat=[8])
    with pytest.raises(xtm.GridError, match="shape"):
        grid().terramind.sample(lon=[8, 9], lat=[50])


def test_a_time_column_is_in_the_way_of_dates_only():
    there = points(middle(0, 0), time=["noon"])
    assert grid().terramind.sample(there)["time"].tolist() == ["noon"]
    with pytest.raises(xtm.GridError, match="columns time"):
        grid(n_times=2).terramind.sample(there)


def test_embeddings_without_places():
    there = points(middle(0, 0))
    with pytest.raises(xtm.GridError, match="without a CRS"):
        grid().drop_vars("spatial_ref").terramind.sample(there)
    with pytest.raises(xtm.GridError, match="expected an embedding with feature, y and x"):
        grid().mean(["y", "x"]).terramind.sample(there)


def test_without_geopandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "geopandas", None)
    for call in (
        lambda: grid().terramind.sample(lon=8, lat=50),
        lambda: grid().terramind.classify(None, "class"),
        lambda: grid().terramind.to_geoparquet("e.parquet"),
    ):
        with pytest.raises(ImportError, match=r"pip install 'xr_terramind\[vector\]'"):
            call()


@pytest.mark.parametrize("size_px", [(112, 304), (304, 400), (304, 448)])
@pytest.mark.parametrize("overlap", [0, 64])
def test_windows_reach_to_the_end_of_the_extent(size_px, overlap):
    """Whether their steps are even or not, and whether their footprints overlap or not."""
    height_px, width_px = size_px
    scene = xtm.sample_scene(448)[:, :height_px, :width_px]
    embedding = scene.terramind.embed(
        "windows", overlap=overlap, model="terramind_v1_tiny", weights="random"
    )
    west, south, east, north = scene.rio.bounds()
    np.testing.assert_allclose(np.sort(cell_borders(embedding, "x"))[[0, -1]], [west, east])
    np.testing.assert_allclose(np.sort(cell_borders(embedding, "y"))[[0, -1]], [south, north])
    assert embedding.attrs["cell_size"] == [10 * min(height_px, 224), 10 * min(width_px, 224)]


def test_a_lone_window_knows_its_size():
    scene = xtm.sample_scene(112)
    embedding = scene.terramind.embed("windows", model="terramind_v1_tiny", weights="random")
    assert embedding.rio.bounds() == scene.rio.bounds()
    pooled = scene.terramind.embed("pooled", model="terramind_v1_tiny", weights="random")
    assert "cell_size" not in pooled.attrs


@pytest.mark.parametrize("overlap", [0, 64])
def test_the_transform_of_windows_is_that_of_their_centres(overlap):
    scene = xtm.sample_scene(224 + 3 * (224 - overlap))
    embedding = scene.terramind.embed(
        "windows", overlap=overlap, model="terramind_v1_tiny", weights="random"
    )
    assert embedding.sizes["x"] == 4
    # The numbers that files hold; rio.transform() itself takes the origin from the coordinates.
    stored = [float(number) for number in embedding.spatial_ref.attrs["GeoTransform"].split()]
    assert Affine.from_gdal(*stored).almost_equals(embedding.rio.transform(recalc=True), 1e-6)
    assert stored[1] == -stored[5] == 10 * (224 - overlap)
