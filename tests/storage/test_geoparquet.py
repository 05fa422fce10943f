"""GeoParquet: every cell with data once, where it lies, in an order that keeps neighbours near."""

import json

import dask.array as da
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from pyarrow import parquet

import xr_terramind as xtm
from tests.support.cubes import embed, sealed
from xr_terramind.storage import geoparquet

CRS = "EPSG:32632"
STEP_M = 160.0
WEST_M, NORTH_M = 440_000.0, 6_160_000.0
ATTRS = {"model": "terramind", "bands": ["B1", "B2"], "overlap": 0, "fill_value": np.nan}


def grid(height: int = 12, width: int = 10, n_times: int = 0, n_features: int = 4) -> xr.DataArray:
    """Noise with a few cells without data."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(n_times or 1, n_features, height, width)).astype("float32")
    values[:, :, 1, 2] = values[0, 1, 3, 3] = np.nan
    array = xr.DataArray(
        values,
        dims=("time", "feature", "y", "x"),
        coords={
            "time": pd.date_range("2024-01-01", periods=n_times or 1, freq="30D"),
            "y": NORTH_M - STEP_M * (np.arange(height) + 0.5),
            "x": WEST_M + STEP_M * (np.arange(width) + 0.5),
            "valid_fraction": (
                ("time", "y", "x"),
                generator.uniform(size=(n_times or 1, height, width)).astype("float32"),
            ),
        },
        name="embedding",
        attrs=ATTRS,
    ).rio.write_crs(CRS)
    return array if n_times else array.isel(time=0, drop=True)


def written(embedding: xr.DataArray, path) -> gpd.GeoDataFrame:
    embedding.terramind.to_geoparquet(path)
    return gpd.read_parquet(path)


def assert_holds(table: gpd.GeoDataFrame, embedding: xr.DataArray) -> None:
    """Every vector with data stands in the table once, at its place."""
    where = {dim: xr.Variable("row", getattr(table.centroid, dim)) for dim in ("x", "y")}
    if "time" in embedding.dims:
        where["time"] = xr.Variable("row", table["time"])
    there = embedding.sel(where, method=None if "time" in where else "nearest")
    np.testing.assert_array_equal(np.stack(table["embedding"]), there.transpose("row", ...).values)
    np.testing.assert_array_equal(table["valid_fraction"], there["valid_fraction"].values)
    assert len(table) == embedding.notnull().all("feature").sum()
    assert not pd.DataFrame(where).duplicated().any()


# -- Rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_times", [0, 2])
@pytest.mark.parametrize("y_step", [1, -1])
def test_it_comes_back(n_times, y_step, tmp_path):
    embedding = grid(n_times=n_times).isel(y=slice(None, None, y_step))
    table = written(embedding, tmp_path / "e.parquet")
    assert_holds(table, embedding)
    assert table.crs == CRS
    columns = ["time"] * bool(n_times) + ["valid_fraction", "embedding", "geometry"]
    assert table.columns.tolist() == columns
    assert table["embedding"][0].dtype == np.float32
    assert table["valid_fraction"].dtype == np.float32


def test_footprints_are_the_squares_of_the_cells(tmp_path):
    table = written(grid(), tmp_path / "e.parquet")
    assert (table.geom_type == "Polygon").all() and (table.area == STEP_M**2).all()
    corners = np.array(table.bounds)
    np.testing.assert_array_equal(corners[:, 2:] - corners[:, :2], STEP_M)
    np.testing.assert_array_equal((corners - [WEST_M, NORTH_M] * 2) % STEP_M, 0)
    assert table.exterior.is_ccw.all()
    assert table.union_all().area == pytest.approx(table.area.sum())
    assert shapely.box(WEST_M, NORTH_M - 12 * STEP_M, WEST_M + 10 * STEP_M, NORTH_M).covers(
        table.union_all()
    )


def test_rows_follow_a_hilbert_curve_date_by_date(tmp_path):
    bounds = (WEST_M, NORTH_M - 12 * STEP_M, WEST_M + 10 * STEP_M, NORTH_M)
    table = written(grid(n_times=2), tmp_path / "e.parquet")
    assert table["time"].is_monotonic_increasing
    for _, rows in table.groupby("time"):
        assert rows.hilbert_distance(total_bounds=bounds).is_monotonic_increasing
    # So neighbours in the file are near each other on the ground: rows of the grid would not be.
    steps = rows.centroid.distance(rows.centroid.shift()).dropna()
    assert steps.median() == STEP_M and steps.max() < 5 * STEP_M


def test_a_lone_date_stands_in_every_row(tmp_path):
    table = written(grid(n_times=2).isel(time=1), tmp_path / "e.parquet")
    assert table["time"].unique().tolist() == [pd.Timestamp("2024-01-31")]


def test_times_that_are_no_dates(tmp_path):
    embedding = grid(n_times=2).assign_coords(time=["dry", "wet"])
    assert set(written(embedding, tmp_path / "e.parquet")["time"]) == {"dry", "wet"}


def test_shares_without_dates_and_none_at_all(tmp_path):
    embedding = grid(n_times=2)
    share = embedding["valid_fraction"].isel(time=0, drop=True)
    assert_holds(
        written(embedding.assign_coords(valid_fraction=share), tmp_path / "e.parquet"),
        embedding.assign_coords(valid_fraction=share.expand_dims(time=embedding.time)),
    )
    bare = written(embedding.drop_vars("valid_fraction"), tmp_path / "e.parquet")
    assert bare.columns.tolist() == ["time", "embedding", "geometry"]


def test_nothing_but_cells_without_data(tmp_path):
    table = written(grid() * np.nan, tmp_path / "e.parquet")
    assert len(table) == 0 and table.crs == CRS


# -- Lazily -------------------------------------------------------------------------------------


def counting(embedding: xr.DataArray, **chunks: int) -> tuple[xr.DataArray, list]:
    reads: list = []

    def read(block, block_info=None):
        reads.append(tuple(block_info[None]["chunk-location"]))
        return block

    data = embedding.chunk(chunks).data
    data = da.map_blocks(read, data, dtype=data.dtype, meta=data._meta)
    return embedding.copy(data=data), reads


@pytest.mark.parametrize("chunks", [{"y": 5, "x": 4}, {"time": 1, "feature": 3, "y": 4}])
def test_a_lazy_one_has_the_same_rows_each_computed_once(chunks, tmp_path, monkeypatch):
    monkeypatch.setattr("xr_terramind.storage.geoparquet.MAX_GROUP_BYTES", 40 * 16)
    embedding = grid(n_times=2)
    lazy, reads = counting(embedding, **chunks)
    table = written(lazy, tmp_path / "l.parquet")
    assert_holds(table, embedding)
    assert len(reads) == len(set(reads)) == lazy.data.npartitions
    groups = parquet.ParquetFile(tmp_path / "l.parquet").metadata
    assert groups.num_row_groups > 4
    assert all(groups.row_group(i).num_rows <= 40 for i in range(groups.num_row_groups))


def test_whole_dates_in_memory_give_the_same_file(tmp_path):
    embedding = grid(n_times=2)
    eager = written(embedding, tmp_path / "e.parquet")
    lazy = written(embedding.chunk(time=1, y=5), tmp_path / "l.parquet")
    pd.testing.assert_frame_equal(eager, lazy)


def test_memory_is_bounded_by_a_few_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("xr_terramind.storage.geoparquet.MAX_GROUP_BYTES", 2 * 16 * 16)
    lazy, reads = counting(grid(16, 16), y=4, x=4)
    alive: list[int] = []
    compute = geoparquet.compute

    def computed(*parts):
        before = len(reads)
        found = compute(*parts)
        alive.append(len(reads) - before)
        return found

    monkeypatch.setattr("xr_terramind.storage.geoparquet.compute", computed)
    table = written(lazy, tmp_path / "l.parquet")
    assert alive == [2] * 8
    # Chunks follow the curve, too: two that are computed at once are neighbours.
    xs, ys = zip(*[(x, y) for *_, y, x in reads], strict=True)
    pairs = np.abs(np.diff(xs)[::2]) + np.abs(np.diff(ys)[::2])
    assert (pairs == 1).all()
    assert_holds(table, grid(16, 16))


# -- What the file says -------------------------------------------------------------------------


def test_it_is_geoparquet_1_1_with_zstd_and_boxes(tmp_path):
    embedding = grid()
    written(embedding, tmp_path / "e.parquet")
    file = parquet.ParquetFile(tmp_path / "e.parquet")
    for group in range(file.metadata.num_row_groups):
        columns = file.metadata.row_group(group)
        for column in range(columns.num_columns):
            assert columns.column(column).compression == "ZSTD"
    geo = json.loads(file.schema_arrow.metadata[b"geo"])
    assert geo["version"] == "1.1.0" and geo["primary_column"] == "geometry"
    about = geo["columns"]["geometry"]
    assert about["encoding"] == "WKB" and about["geometry_types"] == ["Polygon"]
    assert about["bbox"] == [WEST_M, NORTH_M - 12 * STEP_M, WEST_M + 10 * STEP_M, NORTH_M]
    assert about["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    boxes = pd.DataFrame(file.read(["bbox"])["bbox"].to_pylist())
    footprints = gpd.read_parquet(tmp_path / "e.parquet")
    np.testing.assert_array_equal(boxes, footprints.bounds)
    assert str(file.schema_arrow.field("embedding").type).startswith("fixed_size_list<")
    vectors = file.read(["embedding"])["embedding"].combine_chunks().flatten().to_numpy()
    np.testing.assert_array_equal(vectors.reshape(-1, 4), np.stack(footprints["embedding"]))


def test_a_part_is_found_by_its_box(tmp_path, monkeypatch):
    monkeypatch.setattr("xr_terramind.storage.geoparquet.MAX_GROUP_BYTES", 16 * 16)
    written(grid(), tmp_path / "e.parquet")
    part = (WEST_M + 10, NORTH_M - 300, WEST_M + 200, NORTH_M - 170)
    found = gpd.read_parquet(tmp_path / "e.parquet", bbox=part)
    assert len(found) == 2 and found.intersects(shapely.box(*part)).all()


def test_the_attrs_stand_as_json(tmp_path):
    embedding = grid().assign_attrs(clip=np.array([0, 10000]), scale=np.float32(0.5))
    written(embedding, tmp_path / "e.parquet")
    about = json.loads(parquet.read_schema(tmp_path / "e.parquet").metadata[b"emb"])
    assert about == {
        "model": "terramind",
        "bands": ["B1", "B2"],
        "overlap": 0,
        "fill_value": None,
        "clip": [0, 10000],
        "scale": 0.5,
    }


def test_the_real_path(tmp_path):
    cube = xtm.sample_scene(64, time=2, chunks={"x": 32, "y": 32, "time": 1})
    for output in ("grid", "windows"):
        embedding = embed(cube, output=output)
        table = written(embedding, tmp_path / "e.parquet")
        assert len(table) == 2 * embedding.sizes["y"] * embedding.sizes["x"]
        assert_holds(table, embedding.compute())
        about = json.loads(parquet.read_schema(tmp_path / "e.parquet").metadata[b"emb"])
        assert about["model_key"] == "terramind_v1_tiny" and len(about["bands"]) == 12
        assert table.area.iloc[0] == (160 if output == "grid" else 320) ** 2


# -- What is refused ----------------------------------------------------------------------------


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "e.parquet"
    written(grid(), path)
    before = path.read_bytes()
    with pytest.raises(AssertionError, match="a chunk was computed"):
        sealed(grid()).terramind.to_geoparquet(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    table = written(grid(4, 4), str(path))
    assert len(table) == 14 and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: e.mean(["y", "x"]), "expected an embedding with feature, y and x"),
        (lambda e: e.drop_vars("spatial_ref"), "without a CRS"),
        (lambda e: e.isel(y=[0, 1, 3]), "not evenly spaced along y"),
        (lambda e: e.expand_dims(bbox=2), r"dimensions bbox.*embedding\.rename"),
    ],
)
def test_what_is_no_grid(change, words, tmp_path):
    with pytest.raises(xtm.GridError, match=words):
        change(grid()).terramind.to_geoparquet(tmp_path / "e.parquet")
    assert not list(tmp_path.iterdir())


def test_paths_that_take_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="Create it first"):
        grid().terramind.to_geoparquet(tmp_path / "no" / "e.parquet")
    with pytest.raises(IsADirectoryError, match="Choose another name"):
        grid().terramind.to_geoparquet(tmp_path)


@pytest.mark.parametrize("overlap", [0, 64])
def test_footprints_of_windows_are_what_they_read(overlap, tmp_path):
    scene = xtm.sample_scene(224 + 2 * (224 - overlap))
    embedding = scene.terramind.embed(
        "windows", overlap=overlap, model="terramind_v1_tiny", weights="random"
    )
    embedding.terramind.to_geoparquet(tmp_path / "windows.parquet")
    table = gpd.read_parquet(tmp_path / "windows.parquet")
    assert len(table) == 9
    np.testing.assert_allclose(table.area, 2240**2)
    np.testing.assert_allclose(table.total_bounds, scene.rio.bounds())
