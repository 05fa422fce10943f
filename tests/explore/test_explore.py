"""Colours, similarity, change and clusters of embeddings whose answers are known beforehand."""

import dask
import numpy as np
import pytest
import xarray as xr
from pyproj import Transformer

import xr_terramind as xtm
from tests.support.cubes import BANDS, embed, scene, sealed
from xr_terramind.errors import EngineError, GridError, TerraMindWarning
from xr_terramind.explore import vectors

N_FEATURES = 16
STEP_M, WEST_M, NORTH_M = 160.0, 440_000.0, 6_160_000.0
MADE_BY = {
    "model_key": "terramind_v1_tiny",
    "modality": "S2L2A",
    "layer_index": -1,
    "normalization": "zscore",
}


# -- Embeddings with known answers --------------------------------------------------------------


def grid_of(values: np.ndarray, dims: tuple[str, ...] = ("feature", "y", "x")) -> xr.DataArray:
    """An embedding of any vectors: north up, 160 m, June 2022 where it has no dates of its own."""
    sizes = dict(zip(dims, values.shape, strict=True))
    times = np.array(["2022-06-15", "2022-07-15", "2022-08-15"], "datetime64[ns]")
    seen = np.isfinite(values).all(dims.index("feature"))
    array = xr.DataArray(
        values.astype(np.float32),
        dims=dims,
        coords={
            "time": times[: sizes["time"]] if "time" in sizes else times[0],
            "feature": np.arange(sizes["feature"]),
            "y": NORTH_M - STEP_M * (np.arange(sizes["y"]) + 0.5),
            "x": WEST_M + STEP_M * (np.arange(sizes["x"]) + 0.5),
            "valid_fraction": (tuple(d for d in dims if d != "feature"), seen.astype("float32")),
        },
        name="embedding",
        attrs=dict(MADE_BY),
    )
    return array.rio.write_crs(32632).rio.write_transform().rio.write_nodata(np.nan, encoded=True)


def anything(height: int = 12, width: int = 15, n_times: int = 0, seed: int = 0) -> xr.DataArray:
    """Correlated features far from 0, and two cells without data."""
    generator = np.random.default_rng(seed)
    shape = (n_times, height, width) if n_times else (height, width)
    values = generator.normal(size=(*shape, 6)) @ generator.normal(size=(6, N_FEATURES)) + 3
    values += 0.1 * generator.normal(size=values.shape)
    values[..., 2, 3, :] = values[..., 7, 1, 4] = np.nan
    values[..., 7, 1, :] = np.nan
    dims = ("time", "feature", "y", "x") if n_times else ("feature", "y", "x")
    return grid_of(np.moveaxis(values, -1, -3), dims)


def classes(n_classes: int = 2, height: int = 12, width: int = 16) -> xr.DataArray:
    """Labels (y, x) in blocks of 4 x 4 cells."""
    rows, cols = np.indices((height, width)) // 4
    return xr.DataArray((rows + cols) % n_classes, dims=("y", "x"))


def blocks(n_classes: int = 2, noise: float = 0.1, seed: int = 0, **size: int) -> xr.DataArray:
    """One random direction a class, and noise."""
    generator = np.random.default_rng(seed)
    directions = generator.normal(size=(n_classes, N_FEATURES))
    labels = classes(n_classes, **size).values
    values = directions[labels] + noise * generator.normal(size=(*labels.shape, N_FEATURES))
    return grid_of(np.moveaxis(values, -1, 0))


def refuse(dsk, keys, **options):
    raise AssertionError("something was computed")


def computes_nothing():
    return dask.config.set(scheduler=refuse)


def cosines_to(embedding: xr.DataArray, vector: np.ndarray) -> np.ndarray:
    """Cosines (y, x) in float64, as a textbook has them."""
    values = np.moveaxis(embedding.values.astype("float64"), 0, -1)
    return values @ vector / np.linalg.norm(values, axis=-1) / np.linalg.norm(vector)


def at(embedding: xr.DataArray, row: int, col: int) -> dict[str, float]:
    return {"x": float(embedding.x[col]), "y": float(embedding.y[row])}


def agreement(found: xr.DataArray, truth: xr.DataArray) -> float:
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(found.values.ravel(), truth.values.ravel()))


def assert_georeferenced(found: xr.DataArray, embedding: xr.DataArray) -> None:
    assert found.rio.crs == embedding.rio.crs
    assert found.rio.transform() == embedding.rio.transform()
    np.testing.assert_array_equal(found.valid_fraction, embedding.valid_fraction)


VIEWS = {
    "colours": lambda e: e.terramind.to_rgb(),
    "similarity": lambda e: e.terramind.similarity(x=WEST_M + 900, y=NORTH_M - 900),
    "change": lambda e: e.terramind.change(e * 2 - 1),
    "clusters": lambda e: e.terramind.cluster(3),
}
views = pytest.mark.parametrize("view", VIEWS.values(), ids=list(VIEWS))


@pytest.fixture(autouse=True)
def _keep_attrs():
    with xr.set_options(keep_attrs=True):
        yield


# -- What all maps have in common ---------------------------------------------------------------


@views
@pytest.mark.parametrize("chunks", [{"y": 5, "x": 4}, {"feature": 3}, {"x": 1}])
def test_a_lazy_embedding_gives_the_same_lazily(view, chunks):
    embedding = anything()
    eager, lazy = view(embedding), view(embedding.chunk(chunks))
    assert eager.chunks is None and lazy.chunks is not None
    assert lazy.dtype == eager.dtype
    xr.testing.assert_allclose(lazy.compute(), eager, atol=1e-6, rtol=0)
    assert lazy.attrs == eager.attrs
    if "feature" not in chunks:
        assert {dim: lazy.chunksizes[dim][0] for dim in chunks} == chunks


@views
def test_the_grid_stays_and_what_has_no_data_stays_empty(view):
    embedding = anything()
    found = view(embedding)
    assert [dim for dim in found.dims if dim != "rgb"] == ["y", "x"]
    assert_georeferenced(found, embedding)
    assert {"time", "y", "x", "spatial_ref"} <= set(found.coords)
    assert "feature" not in found.coords
    empty = found == -1 if found.dtype == np.int16 else found.isnull()
    empty = empty.any("rgb") if "rgb" in empty.dims else empty
    assert empty.values.sum() == 2 and empty.values[2, 3] and empty.values[7, 1]
    assert found.attrs["long_name"] and found.attrs["model_key"] == "terramind_v1_tiny"
    assert found.rio.encoded_nodata is None or np.isnan(found.rio.encoded_nodata)


@views
def test_the_order_and_direction_of_dimensions_do_not_matter(view):
    embedding = anything()
    found = view(embedding)
    for other in (
        embedding.transpose("x", "feature", "y"),
        embedding.transpose("y", "x", "feature"),
    ):
        xr.testing.assert_allclose(view(other), found, atol=1e-6)
    if found.dtype != np.int16:  # which cluster comes first of two as large is another matter
        flipped = view(embedding.isel(y=slice(None, None, -1), x=slice(None, None, -1)))
        xr.testing.assert_allclose(flipped.sortby(["y", "x"]), found.sortby(["y", "x"]), atol=2e-5)


@views
def test_a_time_series_has_a_map_a_date(view):
    series = anything(n_times=3)
    found = view(series)
    assert found.dims[:3] == ("time", "y", "x")
    xr.testing.assert_identical(found.time.variable, series.time.variable)
    lazy = view(series.chunk({"time": 1, "y": 5})).compute()
    xr.testing.assert_allclose(lazy, found, atol=1e-6)


@views
def test_the_embedding_is_left_alone(view):
    embedding = anything()
    before = embedding.copy(deep=True)
    encoding = dict(embedding.encoding)
    view(embedding)
    xr.testing.assert_identical(embedding, before)
    assert embedding.encoding == encoding


@views
@pytest.mark.parametrize("kind", ["netcdf", "zarr"])
@pytest.mark.parametrize("chunks", [None, {"y": 5}], ids=["eager", "lazy"])
def test_maps_come_back_from_files(view, kind, chunks, tmp_path):
    found = view(anything() if chunks is None else anything().chunk(chunks))
    if kind == "netcdf":
        found.to_netcdf(tmp_path / "map.nc")
        back = xr.open_dataset(tmp_path / "map.nc", decode_coords="all")[found.name].load()
    else:
        found.to_zarr(tmp_path / "map.zarr", consolidated=False)
        store = xr.open_zarr(tmp_path / "map.zarr", consolidated=False, decode_coords="all")
        back = store[found.name].load()
    assert back.dtype == found.dtype and back.dims == found.dims
    xr.testing.assert_equal(back, found.compute())
    assert back.rio.crs == found.rio.crs and back.rio.transform() == found.rio.transform()
    assert back.attrs.keys() == found.attrs.keys()


@views
def test_what_is_no_grid_is_refused(view):
    embedding = anything()
    with pytest.raises(GridError, match=r"dimensions \('feature',\); expected .* feature, y and x"):
        view(embedding.isel(y=0, x=0))
    with pytest.raises(GridError, match="floats"):
        view(embedding.fillna(0).astype("int8"))


def test_a_dataset_is_told_apart():
    with pytest.raises(GridError, match="found a Dataset with dimensions"):
        anything().to_dataset().terramind.to_rgb()
    with pytest.raises(GridError, match="found a ndarray with dimensions"):
        anything().terramind.change(np.zeros((3, 3)))


# -- Which cells are fitted ---------------------------------------------------------------------


def test_the_sample_is_chosen_by_shape_and_seed_not_by_chunks(monkeypatch):
    monkeypatch.setattr(vectors, "MAX_SAMPLE", 50)
    embedding = anything()
    sample = vectors.sample_vectors(embedding, 3, seed=1)
    assert 45 <= len(sample) <= 50 and sample.dtype == np.float32
    lazy = vectors.sample_vectors(embedding.chunk({"y": 5, "feature": 3}), 3, seed=1)
    np.testing.assert_array_equal(lazy, sample)
    assert not np.array_equal(vectors.sample_vectors(embedding, 3, seed=2)[:40], sample[:40])


@pytest.mark.parametrize("chunks", [None, {"y": 5}], ids=["eager", "lazy"])
def test_few_cells_with_data_among_many_are_found(monkeypatch, chunks):
    monkeypatch.setattr(vectors, "MAX_SAMPLE", 10)
    embedding = anything(60, 50)
    embedding = embedding.where((embedding.y > embedding.y[2]) & (embedding.x < embedding.x[2]))
    embedding = embedding if chunks is None else embedding.chunk(chunks)
    assert len(vectors.sample_vectors(embedding, 4, seed=0)) == 4
    with pytest.raises(GridError, match="found 4 cells that are not NaN; expected 5 at least"):
        vectors.sample_vectors(embedding, 5, seed=0)


# -- Colours ------------------------------------------------------------------------------------


def test_colours_are_the_principal_components_of_scikit_learn():
    from sklearn.decomposition import PCA

    embedding = anything()
    rows = np.moveaxis(embedding.values, 0, -1).reshape(-1, N_FEATURES)
    seen = np.isfinite(rows).all(axis=1)
    reference = PCA(n_components=3, random_state=0).fit(rows[seen].astype("float64"))
    basis = embedding.terramind.rgb_basis()
    np.testing.assert_allclose(basis["mean"], reference.mean_, atol=1e-5)
    np.testing.assert_allclose(basis["components"], reference.components_, atol=1e-5)

    projected = reference.transform(rows[seen].astype("float64"))
    low, high = np.percentile(projected, (2, 98), axis=0)
    expected = np.clip((projected - low) / (high - low), 0, 1)
    found = embedding.terramind.to_rgb()
    assert found.name == "pca" and found.dtype == np.float32
    assert found.rgb.values.tolist() == ["red", "green", "blue"]
    np.testing.assert_allclose(found.values.reshape(-1, 3)[seen], expected, atol=1e-5)


def test_the_stretch_is_of_percentiles_or_of_extremes():
    embedding = anything()
    robust, whole = (embedding.terramind.to_rgb(robust=robust) for robust in (True, False))
    assert float(robust.min()) == float(whole.min()) == 0
    assert float(robust.max()) == float(whole.max()) == 1
    at_ends = [int(((c == 0) | (c == 1)).sum()) for c in (robust, whole)]
    assert at_ends[0] > at_ends[1] and at_ends[1] <= 6


def test_a_basis_gives_the_same_vector_the_same_colour_in_every_scene():
    cube = scene(64, 64)
    whole = embed(cube)
    part = embed(cube.isel(y=slice(32, 64), x=slice(0, 32)))  # windows of 32 pixels stand alone
    basis = whole.terramind.rgb_basis()
    colours = part.terramind.to_rgb(basis=basis)
    cut = whole.terramind.to_rgb(basis=basis).sel(y=part.y, x=part.x)
    np.testing.assert_allclose(colours, cut, atol=1e-4)
    xr.testing.assert_identical(whole.terramind.to_rgb(), whole.terramind.to_rgb(basis=basis))
    own = part.terramind.to_rgb()
    assert float(np.abs(own - cut.values).max()) > 0.05
    assert basis.attrs["model_key"] == "terramind_v1_tiny"
    assert basis.attrs["method"] == "pca" and basis.attrs["n_cells"] == 16


@pytest.mark.parametrize("kind", ["netcdf", "h5netcdf", "zarr"])
def test_a_basis_can_be_kept_in_a_file(kind, tmp_path):
    embedding = anything()
    basis = embedding.terramind.rgb_basis()
    assert {name: basis[name].dims for name in basis.data_vars} == {
        "mean": ("feature",),
        "components": ("rgb", "feature"),
        "low": ("rgb",),
        "high": ("rgb",),
    }
    assert {basis[name].dtype for name in basis.data_vars} == {np.dtype("float32")}
    path = tmp_path / "basis"
    if kind == "zarr":
        basis.to_zarr(path, consolidated=False)
        back = xr.open_zarr(path, consolidated=False)
    else:
        engine = "netcdf4" if kind == "netcdf" else kind
        basis.to_netcdf(path, engine=engine)
        back = xr.open_dataset(path, engine=engine)
    assert back.attrs == basis.attrs
    xr.testing.assert_identical(
        embedding.terramind.to_rgb(basis=back), embedding.terramind.to_rgb(basis=basis)
    )


def test_colours_agree_between_dates():
    series = anything(n_times=3)
    basis = series.terramind.rgb_basis()
    colours = series.terramind.to_rgb()
    for date in range(3):
        alone = series.isel(time=date).terramind.to_rgb(basis=basis)
        np.testing.assert_allclose(alone, colours.isel(time=date), atol=1e-6)


def test_drawing_with_a_basis_computes_nothing():
    basis = anything().terramind.rgb_basis()
    with computes_nothing():
        colours = anything().chunk({"y": 5}).terramind.to_rgb(basis=basis)
        repr(colours)
    assert colours.dims == ("y", "x", "rgb") and colours.chunks is not None
    with computes_nothing(), pytest.raises(AssertionError, match="computed"):
        anything().chunk({"y": 5}).terramind.to_rgb()


def test_a_direction_without_variance_is_grey():
    one = np.random.default_rng(0).normal(size=(N_FEATURES, 1, 1))
    line = one * np.linspace(1, 2, 30).reshape(1, 5, 6)  # all vectors on one line
    colours = grid_of(line).terramind.to_rgb()
    assert float(colours.sel(rgb="red").max()) == 1
    assert (colours.sel(rgb=["green", "blue"]) == 0.5).all()
    assert (grid_of(np.ones((N_FEATURES, 4, 4))).terramind.to_rgb() == 0.5).all()


def test_too_little_for_three_colours_is_refused():
    embedding = anything()
    with pytest.raises(GridError, match="found vectors of 2 features; expected three"):
        embedding.isel(feature=slice(2)).terramind.to_rgb()
    with pytest.raises(GridError, match="found 2 cells that are not NaN; expected 3 at least"):
        embedding.isel(y=[0], x=[0, 1]).terramind.rgb_basis()


def test_another_method_is_refused():
    with pytest.raises(EngineError, match=r"found method='umap'; expected 'pca'"):
        anything().terramind.to_rgb("umap")


def test_a_basis_that_does_not_fit_is_refused():
    embedding = anything()
    basis = embedding.terramind.rgb_basis()
    for wrong, found in (
        (basis.drop_vars("low"), "without low"),
        (basis.isel(feature=slice(8)), "of 8 features"),
        (basis.isel(rgb=slice(2)), "of 2 colours"),
        (basis.isel(rgb=0), r"components of dimensions \('feature',\)"),
        (basis.assign_coords(feature=basis.feature + 1), "of other features"),
        (embedding, "that is a DataArray"),
    ):
        with pytest.raises(GridError, match=rf"found a basis.*{found}; expected .*rgb_basis\(\)"):
            embedding.terramind.to_rgb(basis=wrong)


def test_a_basis_of_another_model_or_layer_warns():
    embedding = anything()
    basis = embedding.terramind.rgb_basis()
    with pytest.warns(TerraMindWarning, match="layer_index 5; expected -1.* mean nothing") as seen:
        embedding.terramind.to_rgb(basis=basis.assign_attrs(layer_index=5))
    assert seen[0].filename == __file__
    with pytest.warns(TerraMindWarning, match="model_key terramind_v1_base"):
        embedding.terramind.to_rgb(basis=basis.assign_attrs(model_key="terramind_v1_base"))


# -- Similarity ---------------------------------------------------------------------------------


def test_similarity_is_the_cosine():
    embedding = anything()
    vector = np.arange(N_FEATURES) - 4.0
    found = embedding.terramind.similarity(vector)
    assert found.dtype == np.float32 and found.name == "similarity" and found.dims == ("y", "x")
    np.testing.assert_allclose(found, cosines_to(embedding, vector), atol=1e-6)
    for same in (
        vector.tolist(),
        1e-25 * vector,
        1e12 * vector,
        xr.DataArray(vector, dims="feature"),
    ):
        xr.testing.assert_allclose(embedding.terramind.similarity(same), found, atol=1e-6)


def test_similarity_to_a_place_is_that_to_its_vector():
    embedding = anything()
    found = embedding.terramind.similarity(**at(embedding, 4, 6))
    assert float(found[4, 6]) == pytest.approx(1, abs=1e-6)
    xr.testing.assert_allclose(
        found.drop_vars(["place_x", "place_y"]),
        embedding.terramind.similarity(embedding[:, 4, 6].values),
        atol=1e-6,
    )
    assert float(found.place_x) == float(embedding.x[6]) and found.place_x.dims == ()


@pytest.mark.parametrize("flip", [{}, {"y"}, {"x"}, {"x", "y"}])
def test_a_place_belongs_to_the_patch_that_holds_it(flip):
    embedding = anything().isel({dim: slice(None, None, -1) for dim in flip})
    for east, north in ((0, 0), (79, 79), (-79, 79), (79, -79), (-79, -79)):
        x, y = embedding.x[6] + east, embedding.y[4] + north
        found = embedding.terramind.similarity(x=x, y=y)
        assert np.unravel_index(np.nanargmax(found), found.shape) == (4, 6)
    for col, east in ((6, 81), (6, -81)):
        found = embedding.terramind.similarity(x=embedding.x[col] + east, y=embedding.y[4])
        side = 1 if (east > 0) != ("x" in flip) else -1
        assert np.unravel_index(np.nanargmax(found), found.shape) == (4, col + side)


def test_places_may_come_as_longitudes_and_latitudes():
    embedding = anything()
    to_lonlat = Transformer.from_crs(32632, 4326, always_xy=True)
    lon, lat = to_lonlat.transform(float(embedding.x[6]) + 70, float(embedding.y[4]) - 70)
    found = embedding.terramind.similarity(x=lon, y=lat, crs="EPSG:4326")
    expected = embedding.terramind.similarity(**at(embedding, 4, 6))
    xr.testing.assert_allclose(found.reset_coords(drop=True), expected.reset_coords(drop=True))
    assert float(found.place_x) == pytest.approx(float(embedding.x[6]) + 70, abs=1e-3)


def test_unevenly_spaced_windows_have_places_too():
    """The last window of a row lies one patch from the one before it."""
    windows = embed(xtm.sample_scene(96).isel(y=slice(32), x=slice(80)), output="windows")
    assert np.diff(windows.x).tolist() == [320.0, 160.0]
    for col, x in enumerate(windows.x):
        found = windows.terramind.similarity(x=float(x), y=float(windows.y[0]))
        assert int(found.values.argmax()) == col and found.shape == (1, 3)
    with pytest.raises(GridError, match="outside the grid"):
        windows.terramind.similarity(x=float(windows.x[-1]) + 161, y=float(windows.y[0]))


def test_several_places_give_a_map_each():
    embedding = anything(n_times=2)
    xs, ys = embedding.x.values[[6, 1]], embedding.y.values[[4, 9]]
    found = embedding.terramind.similarity(x=xs, y=list(ys))
    assert found.dims == ("place", "time", "y", "x")
    np.testing.assert_array_equal(found.place_x, xs)
    np.testing.assert_array_equal(found.place_y, ys)
    for place in range(2):
        alone = embedding.terramind.similarity(x=xs[place], y=ys[place])
        xr.testing.assert_allclose(found.isel(place=place), alone, atol=1e-6)


def test_each_date_is_compared_with_the_place_on_that_date():
    series = anything(n_times=3)
    found = series.terramind.similarity(**at(series, 4, 6))
    np.testing.assert_allclose(found[:, 4, 6], 1, atol=1e-6)
    for date in range(3):
        alone = series.isel(time=date).terramind.similarity(**at(series, 4, 6))
        np.testing.assert_allclose(found[date], alone, atol=1e-6)
    # One date's vector is compared with all dates when it is given as a vector.
    first = series.terramind.similarity(series[0, :, 4, 6])
    assert float(first[0, 4, 6]) == pytest.approx(1, abs=1e-6) and float(first[1, 4, 6]) < 0.999


def test_several_vectors_keep_their_coordinates():
    embedding = anything()
    vectors = embedding.isel(
        y=xr.DataArray([4, 9], dims="site"), x=xr.DataArray([6, 1], dims="site")
    )
    vectors = vectors.assign_coords(site=["harbour", "wood"])
    found = embedding.terramind.similarity(vectors)
    assert found.dims == ("site", "y", "x") and found.site.values.tolist() == ["harbour", "wood"]
    np.testing.assert_array_equal(found.place_x, embedding.x[[6, 1]])
    assert float(found.sel(site="wood")[9, 1]) == pytest.approx(1, abs=1e-6)
    plain = embedding.terramind.similarity(vectors.transpose("site", "feature").values)
    assert plain.dims == ("place", "y", "x")
    np.testing.assert_array_equal(plain, found)


def test_vectors_of_dates_are_compared_date_by_date():
    series = anything(n_times=3)
    mean = series.mean(["y", "x"])
    found = series.terramind.similarity(mean)
    assert found.dims == ("time", "y", "x")
    for date in range(3):
        alone = series.isel(time=date).terramind.similarity(mean.isel(time=date))
        np.testing.assert_allclose(found[date], alone, atol=1e-6)
    with pytest.raises(GridError, match="dimensions time of 3 and 2"):
        series.terramind.similarity(mean.isel(time=slice(2)))


def test_similarity_is_computed_when_it_is_asked_for():
    lazy = anything().chunk({"y": 5, "x": 4})
    with computes_nothing():
        maps = [
            lazy.terramind.similarity(**at(lazy, 4, 6)),
            lazy.terramind.similarity(x=lazy.x.values[:2], y=lazy.y.values[:2]),
            lazy.terramind.similarity(lazy.mean(["y", "x"])),
            lazy.terramind.change(anything(seed=1)),
            lazy.terramind.change(anything(seed=1).chunk({"x": 3})),
        ]
        repr(maps)
    assert all(found.chunks is not None for found in maps)
    later = anything().terramind.similarity(lazy.mean(["y", "x"]))
    assert later.chunks is not None  # lazy where the vector is


def test_embedding_a_scene_lazily_and_looking_at_it_reads_nothing():
    embedding = embed(sealed(scene(64, 64)))
    embedding.terramind.similarity(**at(embedding, 1, 2))
    embedding.terramind.change(embedding)


def test_vectors_of_no_length_are_like_nothing():
    embedding = anything()
    embedding[:, 0, 0] = 0
    found = embedding.terramind.similarity(**at(embedding, 4, 6))
    assert np.isnan(found[0, 0]) and int(found.isnull().sum()) == 3
    assert embedding.terramind.similarity(np.zeros(N_FEATURES)).isnull().all()
    assert np.isnan(embedding.terramind.change(embedding)[0, 0])


def test_a_place_outside_is_refused_with_the_bounds():
    embedding = anything()
    with pytest.raises(
        GridError, match=r"\(8, 55.5\), outside .* x from 440000 to 442400 and y from"
    ):
        embedding.terramind.similarity(x=8, y=55.5)
    with pytest.raises(GridError, match=r"\(9, 55.5\), which is \(500000, .*\) in the embedding's"):
        embedding.terramind.similarity(x=[8.05, 9], y=[55.58, 55.5], crs="EPSG:4326")
    with pytest.raises(GridError, match="outside the grid"):
        embedding.terramind.similarity(x=np.nan, y=float(embedding.y[0]))


def test_a_place_without_data_is_refused_where_that_is_known():
    embedding = anything()
    with pytest.raises(
        GridError, match=r"440560, 6159600\) in a patch without data.*valid_fraction"
    ):
        embedding.terramind.similarity(**at(embedding, 2, 3))
    lazy = embedding.chunk({"y": 5}).terramind.similarity(**at(embedding, 2, 3))
    assert lazy.isnull().all().compute()
    series = anything(n_times=3)
    series[0, :, 4, 6] = np.nan
    found = series.terramind.similarity(**at(series, 4, 6))  # one date is enough
    assert found[0].isnull().all() and not found[1].isnull().all()


def test_places_and_vectors_that_make_no_sense_are_refused():
    embedding = anything()
    here, vector = at(embedding, 4, 6), np.ones(N_FEATURES)
    similarity = embedding.terramind.similarity
    for arguments, message in (
        ({}, "found neither a vector nor a place; expected one of the two. Pass"),
        ({"vector": vector, **here}, "found both a vector and a place"),
        ({"x": 1.0}, "found x without y; expected both"),
        ({"y": 1.0}, "found y without x; expected both"),
        ({"x": [1.0, 2.0], "y": 1.0}, r"x of shape \(2,\) and y of shape \(\)"),
        ({"x": [], "y": []}, r"x of shape \(0,\)"),
        ({"x": "east", "y": 1.0}, "found x='east' and y=1.0"),
        ({**here, "crs": "nonsense"}, "crs='nonsense', which pyproj does not read"),
        ({"vector": vector[:5]}, r"a vector of 5 features; expected numbers of shape \(16,\)"),
        ({"vector": np.ones((1, 1, N_FEATURES))}, r"a vector of shape \(1, 1, 16\)"),
        ({"vector": 3.0}, r"a vector of shape \(\)"),
        ({"vector": ["a"] * N_FEATURES}, "a vector of <U1"),
        ({"vector": embedding[:, 0]}, r"a vector of dimensions \('feature', 'x'\)"),
        ({"vector": embedding[0, 0]}, r"a vector of dimensions \('x',\)"),
        (
            {"vector": embedding[:, 0, 0].assign_attrs(layer_index=3)},
            "found vector with layer_index 3 instead of -1",
        ),
        (
            {"vector": embedding[:, 0, 0].assign_coords(feature=np.arange(16) + 1)},
            "found vector with other labels along feature",
        ),
    ):
        with pytest.raises(GridError, match=message):
            similarity(**arguments)
    with pytest.raises(GridError, match=r"an embedding without a CRS.*write_crs"):
        bare = embedding.drop_vars("spatial_ref")
        bare.encoding, bare.attrs = {}, {}
        bare.terramind.similarity(**here, crs=4326)
    xr.testing.assert_equal(
        bare.terramind.similarity(**here), similarity(**here).drop_vars("spatial_ref")
    )


def test_similarity_separates_two_classes():
    embedding, truth = blocks(), classes()
    found = embedding.terramind.similarity(**at(embedding, 0, 0))
    assert float(found.where(truth.values == 0).min()) > float(found.where(truth.values == 1).max())


# -- Change -------------------------------------------------------------------------------------


def test_change_is_one_less_the_cosine():
    one, other = anything(), anything(seed=1)
    found = one.terramind.change(other)
    assert found.name == "change" and found.dtype == np.float32 and found.dims == ("y", "x")
    first, second = (np.moveaxis(e.values.astype("float64"), 0, -1) for e in (one, other))
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    np.testing.assert_allclose(found, 1 - (first * second).sum(-1) / lengths, atol=1e-6)
    xr.testing.assert_allclose(other.terramind.change(one), found, atol=1e-6)


def test_what_is_the_same_did_not_change_and_what_is_opposite_did():
    embedding = anything()
    np.testing.assert_allclose(embedding.terramind.change(embedding).fillna(0), 0, atol=1e-6)
    np.testing.assert_allclose(embedding.terramind.change(3 * embedding).fillna(0), 0, atol=1e-6)
    np.testing.assert_allclose(embedding.terramind.change(-embedding).fillna(2), 2, atol=1e-6)


def test_no_data_in_either_is_no_data_in_both():
    one, other = anything(), anything(seed=1)
    other[:, 5, 5] = np.nan
    other["valid_fraction"] = other.valid_fraction.copy()
    other["valid_fraction"][5, 5] = 0
    found = one.terramind.change(other)
    assert int(found.isnull().sum()) == 3 and np.isnan(found[5, 5])
    xr.testing.assert_equal(
        (found.valid_fraction == 0).reset_coords(drop=True), found.isnull().reset_coords(drop=True)
    )


def test_two_dates_are_named():
    series = anything(n_times=3).assign_coords(
        season=("time", ["early", "high", "late"]), sensor="A"
    )
    found = series.isel(time=0).terramind.change(series.isel(time=2))
    assert found.attrs["date_from"] == "2022-06-15" and found.attrs["date_to"] == "2022-08-15"
    assert "time" not in found.coords and "season" not in found.coords
    assert found.coords["sensor"].item() == "A"
    same = series.isel(time=0).terramind.change(series.isel(time=0))
    assert same.time == series.time[0]


def test_a_series_is_compared_with_one_date_or_date_by_date():
    series = anything(n_times=3)
    found = series.terramind.change(series.isel(time=1))
    assert found.dims == ("time", "y", "x")
    xr.testing.assert_identical(found.time, series.time)
    np.testing.assert_allclose(found[1].fillna(0), 0, atol=1e-6)
    np.testing.assert_allclose(series.isel(time=1).terramind.change(series), found, atol=1e-6)
    both = series.terramind.change(series + 1)
    for date in range(3):
        alone = series[date].terramind.change(series[date] + 1)
        np.testing.assert_allclose(both[date], alone, atol=1e-6)
    with pytest.raises(GridError, match=r"time of 3 and 2 labels .* \.isel\(time=0\)"):
        series.terramind.change(series.isel(time=slice(2)))
    with pytest.raises(GridError, match="equal labels along time"):
        series.terramind.change(series.isel(time=[1, 0, 2]))


def test_places_are_matched_not_positions():
    one, other = anything(), anything(seed=1)
    found = one.terramind.change(other)
    turned = other.isel(y=slice(None, None, -1)).transpose("x", "y", "feature")
    xr.testing.assert_allclose(one.terramind.change(turned), found, atol=1e-6)
    nearly = other.assign_coords(x=other.x + 1.0, y=other.y - 1.0)  # of 160 m
    xr.testing.assert_identical(one.terramind.change(nearly).x, one.x)


def test_other_grids_and_other_models_are_refused():
    embedding = anything()
    for other, message in (
        (embedding.isel(x=slice(5)), "found 5 cells along x in other; expected 15, as"),
        (
            embedding.assign_coords(x=embedding.x + 80),
            "x of 15 cells from 440160 to 442400 in other",
        ),
        (embedding.rio.write_crs(32633), "the CRS EPSG:32633 in other; expected EPSG:32632"),
        (embedding.drop_vars("spatial_ref"), "the CRS none in other; .*reproject_match"),
        (
            embedding.assign_attrs(model_key="terramind_v1_base", layer_index=3),
            "model_key terramind_v1_base instead of terramind_v1_tiny, layer_index 3 instead of -1",
        ),
        (embedding.assign_attrs(modality="S2L1C"), "modality S2L1C instead of S2L2A"),
        (embedding.assign_attrs(normalization="raw"), "normalization raw instead of zscore"),
        (embedding.assign_coords(feature=embedding.feature + 1), "other labels along feature"),
    ):
        if "CRS" in message:
            other.encoding.pop("grid_mapping", None)
        with pytest.raises(GridError, match=message):
            embedding.terramind.change(other)
    weights = [embedding.assign_attrs(weights_sha256=64 * letter) for letter in "ab"]
    with pytest.raises(GridError, match=r"weights_sha256 b{12}\.\.\. instead of a{12}\.\.\.; exp"):
        weights[0].terramind.change(weights[1])
    embedding.terramind.change(weights[0])  # what only one has is not compared


# -- Clusters -----------------------------------------------------------------------------------


def test_clusters_are_the_classes():
    for n in (2, 3):
        found = blocks(n).terramind.cluster(n)
        assert found.dtype == np.int16 and found.dims == ("y", "x")
        assert agreement(found, classes(n)) == 1.0


def test_the_largest_cluster_comes_first():
    truth = xr.DataArray(np.repeat([2, 0, 1, 2], [20, 30, 15, 35]).reshape(10, 10), dims=("y", "x"))
    generator = np.random.default_rng(0)
    values = generator.normal(size=(3, N_FEATURES))[truth.values]
    found = grid_of(np.moveaxis(values, -1, 0)).terramind.cluster(3)
    expected = xr.DataArray(np.array([1, 2, 0])[truth.values], dims=("y", "x"))
    np.testing.assert_array_equal(found, expected)
    # Of two that are as large, that which is met first.
    half = np.repeat([[0, 1]], 8, axis=0).repeat(4, axis=1)
    for order in ([0, 1], [1, 0]):
        tie = grid_of(generator.normal(size=(2, N_FEATURES))[order][half].transpose(2, 0, 1))
        np.testing.assert_array_equal(tie.terramind.cluster(2), half)


def test_the_same_seed_gives_the_same_labels():
    embedding = anything(30, 30)
    first, again = (embedding.terramind.cluster(5, seed=3) for _ in range(2))
    xr.testing.assert_identical(first, again)
    assert first.attrs["seed"] == 3 and first.attrs["n_clusters"] == 5


def test_labels_have_names():
    found = anything().terramind.cluster(3)
    assert found.attrs["flag_values"] == [0, 1, 2]
    assert found.attrs["flag_meanings"] == "cluster_0 cluster_1 cluster_2"
    assert found.rio.nodata == -1 and "_FillValue" not in found.attrs | found.encoding
    names = np.array(["cluster 0", "cluster 1", "cluster 2", ""])
    assert (found.category.values == names[found.values]).all()
    assert found.category.values[2, 3] == ""
    largest = found.where(found.category == "cluster 0", drop=True)
    assert set(np.unique(largest)) - {0.0} <= {np.nan} or np.nanmax(largest) == 0


def test_labels_and_their_names_are_lazy_once_fitted():
    lazy = anything().chunk({"y": 5}).terramind.cluster(3)
    assert lazy.chunks == lazy.category.chunks
    with computes_nothing():
        repr(lazy)
    series = anything(n_times=2).terramind.cluster(2)
    assert series.category.dims == ("time", "y", "x")


def test_labels_stay_integers_in_files(tmp_path):
    found = anything().chunk({"y": 5}).terramind.cluster(3)
    found.to_netcdf(tmp_path / "labels.nc")
    found.to_zarr(tmp_path / "labels.zarr", consolidated=False)
    for store in (
        xr.open_dataset(tmp_path / "labels.nc"),
        xr.open_zarr(tmp_path / "labels.zarr", consolidated=False),
    ):
        back = store["cluster"]
        assert back.dtype == np.int16 and back.rio.nodata == -1
        assert np.asarray(back.attrs["flag_values"]).tolist() == [0, 1, 2]
        assert back.category.values.tolist() == found.category.values.tolist()


def test_labels_become_a_geotiff(tmp_path):
    import rioxarray

    found = anything().terramind.cluster(3)
    found.rio.to_raster(tmp_path / "labels.tif")
    with rioxarray.open_rasterio(tmp_path / "labels.tif") as back:
        assert back.dtype == np.int16 and back.rio.nodata == -1 and back.rio.crs == found.rio.crs
        np.testing.assert_array_equal(back[0], found)


@pytest.mark.parametrize("n", [1, 0, -2, 2.5, "3", None, True])
def test_a_number_that_is_none_is_refused(n):
    with pytest.raises(EngineError, match=r"found n=.* clusters; expected a whole number from 2"):
        anything().terramind.cluster(n)


def test_fewer_vectors_than_clusters_are_refused():
    with pytest.raises(GridError, match="found 2 cells that are not NaN; expected 3 at least"):
        anything().isel(y=[0], x=[0, 1]).terramind.cluster(3)
    same = blocks(noise=0.0)
    with pytest.raises(GridError, match=r"found 2 different vectors; expected 3 at least.*n=2"):
        same.terramind.cluster(3)


# -- The whole way ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coast():
    """An embedded scene, and of each patch the share of its pixels that are sea: NIR below 3 %."""
    cube = xtm.sample_scene(448)
    embedding = cube.terramind.embed(model="terramind_v1_tiny", weights="random", device="cpu")
    sea = (cube.sel(band="B8") < 300).coarsen(y=16, x=16).mean()
    return embedding, sea.values


def test_similarity_to_a_patch_of_sea_tells_sea_from_land(coast):
    from sklearn.metrics import roc_auc_score

    embedding, sea = coast
    pure = (sea == 0) | (sea == 1)
    assert (sea == 1).sum() > 30 and (sea == 0).sum() > 300
    row, col = np.argwhere(sea == 1)[len(np.argwhere(sea == 1)) // 2]
    found = embedding.terramind.similarity(**at(embedding, row, col)).values
    assert roc_auc_score(sea[pure] == 1, found[pure]) > 0.95


def test_two_kinds_of_pixels_are_two_clusters():
    """Sea and forest, pixel by pixel with noise: nothing is learned, random weights tell them."""
    from xr_terramind.sources.synthetic.landscape import SPECTRA

    generator = np.random.default_rng(0)
    truth = classes(2, 28, 28).values
    spectra = np.array([SPECTRA["clear_water"], SPECTRA["conifer"]], float)
    pixels = spectra[truth.repeat(16, 0).repeat(16, 1)] * generator.normal(1, 0.05, (448, 448, 12))
    cube = xtm.sample_scene(448).transpose("y", "x", "band").copy(data=pixels.clip(1, 10_000))
    assert cube.band.values.tolist() == BANDS
    embedding = cube.terramind.embed(model="terramind_v1_tiny", weights="random", device="cpu")
    labels = embedding.terramind.cluster(2)
    assert agreement(labels, xr.DataArray(truth, dims=("y", "x"))) > 0.99
    assert_georeferenced(labels, embedding)
