"""Classes learned from points: right where vectors tell them apart, and judged on other places."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import xr_terramind as xtm
from tests.support.cubes import embed, sealed

CRS = "EPSG:32632"
STEP_M = 160.0
N_FEATURES = 12


def blobs(n: int = 24) -> np.ndarray:
    """Two classes in patches of 4 x 4 cells, as on a chessboard: (row, column) of 0 and 1."""
    row, col = np.indices((n, n)) // 4
    return (row + col) % 2


def grid(classes: np.ndarray, n_times: int = 0, noise: float = 0.3) -> xr.DataArray:
    """A direction for each class, and noise."""
    generator = np.random.default_rng(0)
    directions = generator.normal(size=(classes.max() + 1, N_FEATURES))
    values = directions[classes] + generator.normal(
        scale=noise, size=(n_times or 1, *classes.shape, N_FEATURES)
    )
    height, width = classes.shape
    array = xr.DataArray(
        values.astype("float32"),
        dims=("time", "y", "x", "feature"),
        coords={
            "time": pd.date_range("2024-01-01", periods=n_times or 1),
            "y": 6_160_000 - STEP_M * (np.arange(height) + 0.5),
            "x": 440_000 + STEP_M * (np.arange(width) + 0.5),
            "feature": np.arange(N_FEATURES),
            "valid_fraction": (("y", "x"), np.ones((height, width), "float32")),
        },
        name="embedding",
    ).rio.write_crs(CRS)
    array = array.transpose("time", "feature", "y", "x")
    return array if n_times else array.isel(time=0, drop=True)


def labelled(classes: np.ndarray, names=("crop", "wood"), n: int = 150, seed: int = 1):
    """Points anywhere, with the class of the patch they lie in."""
    places = np.random.default_rng(seed).uniform(0, classes.shape, size=(n, 2))
    row, col = places.astype(int).T
    return gpd.GeoDataFrame(
        {"class": [names[number] for number in classes[row, col]]},
        geometry=gpd.points_from_xy(
            440_000 + STEP_M * places[:, 1], 6_160_000 - STEP_M * places[:, 0], crs=CRS
        ),
    )


# -- What is mapped -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mapped() -> xr.Dataset:
    return grid(blobs()).terramind.classify(labelled(blobs()), "class")


def test_classes_that_vectors_tell_apart_are_found(mapped):
    assert mapped.category.values.tolist() == ["crop", "wood"]
    assert mapped.label.dtype == np.int16 and mapped.label.dims == ("y", "x")
    assert (mapped.label.values == blobs()).mean() > 0.99
    assert mapped.attrs["cv_accuracy"] > 0.95 and mapped.attrs["cv_folds"] == 5


def test_probabilities_sum_to_one_and_agree_with_labels(mapped):
    share = mapped.probability
    assert share.dtype == np.float32 and share.dims == ("category", "y", "x")
    np.testing.assert_allclose(share.sum("category"), 1, atol=1e-6)
    np.testing.assert_array_equal(share.argmax("category"), mapped.label)


def test_it_says_how_it_was_made(mapped, tmp_path):
    attrs = mapped.attrs
    assert attrs["classes"] == ["crop", "wood"] and attrs["column"] == "class"
    assert attrs["n_points"] == 150 and 20 <= attrs["cv_blocks"] <= 25
    assert 24 / 5 * STEP_M - STEP_M <= attrs["cv_block_size"] <= 24 / 5 * STEP_M
    assert 0 <= attrs["cv_accuracy_std"] < 0.1
    assert "LogisticRegression(max_iter=1000, random_state=0)" in attrs["estimator"]
    assert "\n" not in attrs["estimator"]
    assert mapped.label.attrs["flag_meanings"] == "crop wood"
    assert mapped.label.attrs["flag_values"].tolist() == [0, 1]
    mapped.to_netcdf(tmp_path / "map.nc")
    with xr.open_dataset(tmp_path / "map.nc", decode_coords="all") as stored:
        xr.testing.assert_equal(stored.load(), mapped)
        assert stored.attrs["cv_accuracy"] == attrs["cv_accuracy"]
        assert stored.label.rio.crs == CRS


def test_it_keeps_where_it_is(mapped):
    embedding = grid(blobs())
    for name in ("label", "probability"):
        assert mapped[name].rio.crs == CRS
        assert mapped[name].encoding["grid_mapping"] == "spatial_ref"
        xr.testing.assert_identical(mapped[name].y, embedding.y)
        assert "valid_fraction" in mapped[name].coords


def test_it_is_the_same_every_time_and_in_any_crs(mapped):
    there = labelled(blobs()).to_crs(4326)
    again = grid(blobs()).terramind.classify(there, "class")
    xr.testing.assert_identical(again, mapped)
    hard = grid(blobs(), noise=3)
    one, other = (hard.terramind.classify(there, "class", seed=seed) for seed in (0, 1))
    assert one.attrs["cv_accuracy"] != other.attrs["cv_accuracy"]


def test_patches_without_data_are_no_class():
    embedding = grid(blobs())
    embedding[3, 2:5, 7] = np.nan
    with pytest.warns(xtm.TerraMindWarning, match="on patches without data"):
        found = embedding.terramind.classify(labelled(blobs(), n=800), "class")
    dark = embedding.isnull().any("feature")
    np.testing.assert_array_equal(found.label == -1, dark)
    np.testing.assert_array_equal(found.probability.isnull(), dark.expand_dims(category=2))


def test_a_lazy_map_is_lazy_and_the_same():
    embedding = grid(blobs())
    expected = embedding.terramind.classify(labelled(blobs()), "class")
    chunks = {"feature": 5, "y": 7, "x": 12}
    found = embedding.chunk(chunks).terramind.classify(labelled(blobs()), "class")
    assert found.label.chunksizes["y"] == (7, 7, 7, 3)
    assert found.probability.chunks is not None
    xr.testing.assert_identical(found.compute(), expected)


def test_only_chunks_with_points_are_computed():
    classes = blobs()
    embedding = grid(classes)
    part = labelled(classes).cx[:, 6_160_000 - 12 * STEP_M :]
    far = sealed(embedding.isel(y=slice(12, None)))
    lazy = xr.concat([embedding.isel(y=slice(12)).chunk(y=12), far], "y")
    found = lazy.terramind.classify(part, "class")
    assert (found.label[:12].values == classes[:12]).mean() > 0.99


def test_labels_hold_for_all_dates():
    embedding = grid(blobs(), n_times=3)
    embedding[0, :, :12] = np.nan  # half the first date
    found = embedding.terramind.classify(labelled(blobs()), "class")
    assert found.label.dims == ("time", "y", "x")
    assert found.probability.dims == ("category", "time", "y", "x")
    assert found.attrs["n_points"] == 150
    assert (found.label[1:].values == blobs()).mean() > 0.99
    assert (found.label[0, :12] == -1).all()


# -- How it is judged ---------------------------------------------------------------------------


def test_shuffled_labels_are_worth_nothing():
    there = labelled(blobs(), n=300)
    there["class"] = np.random.default_rng(0).permutation(there["class"])
    found = grid(blobs()).terramind.classify(there, "class")
    assert abs(found.attrs["cv_accuracy"] - 0.5) < 0.1


def test_neighbours_do_not_vouch_for_each_other():
    # Each field has a direction of its own, and a class at random: what is learned in one field
    # says nothing of the next, however well it serves the rest of the same field.
    row, col = np.indices((30, 30)) // 6
    field = row * 5 + col
    embedding = grid(field, noise=0.05)
    crops = np.random.default_rng(3).permutation(np.arange(25) % 2)
    there = labelled(crops[field], n=400)
    nearest = KNeighborsClassifier(1)
    found = embedding.terramind.classify(there, "class", nearest)
    assert (found.label.values == crops[field]).mean() > 0.95
    assert found.attrs["cv_block_size"] > 5 * STEP_M
    assert found.attrs["cv_accuracy"] < 0.75


def test_points_of_one_patch_stay_together():
    # Many points in each of few patches: blocks are no smaller than two patches.
    classes = blobs(4)
    embedding = grid(np.indices((4, 4))[1] % 2)
    there = labelled(np.indices((4, 4))[1] % 2, n=200)
    found = embedding.terramind.classify(there, "class")
    assert classes.shape == (4, 4) and found.attrs["cv_block_size"] == 2 * STEP_M
    assert found.attrs["cv_blocks"] == 4


def test_a_class_in_one_place_only_has_no_score():
    classes = np.zeros((24, 24), int)
    classes[:3, :3] = 1
    there = pd.concat([labelled(classes, n=100), labelled(classes, n=300).query("`class`=='wood'")])
    with pytest.warns(xtm.TerraMindWarning, match=r"class 'wood' in 1 of 2\d blocks .*no two fold"):
        found = grid(classes).terramind.classify(there, "class")
    assert found.attrs["cv_folds"] == 0 and "cv_accuracy" not in found.attrs
    assert (found.label.values == classes).mean() > 0.95


def test_as_many_folds_as_the_rarest_class_has_blocks():
    classes = np.zeros((24, 24), int)
    for row, col in ((0, 0), (20, 0), (10, 20)):
        classes[row : row + 3, col : col + 3] = 1
    found = grid(classes).terramind.classify(labelled(classes, n=900), "class")
    assert 2 <= found.attrs["cv_folds"] <= 4


# -- Estimators ---------------------------------------------------------------------------------


def test_an_estimator_without_probabilities():
    found = grid(blobs()).terramind.classify(labelled(blobs()), "class", RidgeClassifier())
    assert set(found.data_vars) == {"label"}
    assert found.category.values.tolist() == ["crop", "wood"]
    assert (found.label.values == blobs()).mean() > 0.99


def test_a_copy_is_fitted_and_seeded():
    forest = make_pipeline(StandardScaler(), RandomForestClassifier(10))
    one, two = (
        grid(blobs()).terramind.classify(labelled(blobs()), "class", forest, seed=4)
        for _ in range(2)
    )
    xr.testing.assert_identical(one, two)
    assert "random_state=4" in one.attrs["estimator"]
    assert not hasattr(forest[-1], "estimators_") and forest[-1].random_state is None
    kept = RandomForestClassifier(5, random_state=9)
    found = grid(blobs()).terramind.classify(labelled(blobs()), "class", kept, seed=4)
    assert "random_state=9" in found.attrs["estimator"]


@pytest.mark.parametrize("other", [LinearRegression(), "forest", RandomForestClassifier])
def test_what_is_no_classifier(other):
    with pytest.raises(xtm.EngineError, match="expected a classifier"):
        grid(blobs()).terramind.classify(labelled(blobs()), "class", other)


# -- Labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "names", "kind"),
    [
        (np.array([30, 7]), [7, 30], "i"),
        (np.array([30.0, 7.0]), [7, 30], "i"),
        (pd.Series([30, 7], dtype="Int64"), [7, 30], "i"),
        (np.array([True, False]), ["False", "True"], "O"),
        (pd.Categorical(["wood", "crop"]), ["crop", "wood"], "O"),
        (np.array(["wood", 7], object), ["7", "wood"], "O"),
    ],
)
def test_labels_of_many_kinds(values, names, kind):
    there = labelled(blobs())
    there["class"] = pd.Series(values).take((there["class"] == "wood").astype(int)).array
    found = grid(blobs()).terramind.classify(there, "class")
    assert found.category.values.tolist() == names and found.category.dtype.kind == kind
    assert found.attrs["classes"] == [str(name) for name in names]


def test_weights_of_classes_are_named_as_the_labels():
    weighted = LogisticRegression(class_weight={"crop": 1, "wood": 2})
    found = grid(blobs()).terramind.classify(labelled(blobs()), "class", weighted)
    assert found.attrs["cv_accuracy"] > 0.95


def test_points_that_are_left_out_are_counted():
    embedding = grid(blobs())
    embedding[:, 0, 0] = np.nan
    there = labelled(blobs(), n=100)
    there.loc[:1, "geometry"] = gpd.points_from_xy([0, 440_010], [0, 6_159_990], crs=CRS)
    there.loc[2:4, "class"] = None
    words = r"1 of 100 points outside the grid, 1 on patches without data, 3 without a label"
    with pytest.warns(xtm.TerraMindWarning, match=words) as caught:
        found = embedding.terramind.classify(there, "class")
    assert found.attrs["n_points"] == 95 and caught[0].filename == __file__


def test_labels_that_cannot_be_learned():
    embedding, there = grid(blobs()), labelled(blobs())
    with pytest.raises(xtm.GridError, match=r"column='clas'.*one of class.*Did you mean 'class'"):
        embedding.terramind.classify(there, "clas")
    with pytest.raises(xtm.GridError, match="column='geometry'"):
        embedding.terramind.classify(there, "geometry")
    with pytest.raises(xtm.GridError, match=r"1 classes \(wood\).*two at least"):
        embedding.terramind.classify(there.query("`class`=='wood'"), "class")
    with pytest.raises(xtm.GridError, match=r"fractions.*such as 0\.5"):
        embedding.terramind.classify(there.assign(height=0.5), "height")
    away = there.set_geometry(there.translate(1e6), crs=CRS)
    with pytest.warns(xtm.TerraMindWarning, match="150 of 150 points outside"):
        with pytest.raises(xtm.GridError, match=r"0 classes \(none\)"):
            embedding.terramind.classify(away, "class")
    with pytest.raises(xtm.GridError, match="expected a GeoDataFrame"):
        embedding.terramind.classify(there.geometry, "class")
    with pytest.raises(xtm.GridError, match="without a CRS"):
        embedding.drop_vars("spatial_ref").terramind.classify(there, "class")


def test_the_real_path():
    # What is dark in the near infrared, from encoded pixels.
    cube = xtm.sample_scene(448, chunks={"x": 224, "y": 224})
    embedding = embed(cube, window_size=112)
    coarse = cube.sel(band="B8").coarsen(y=16, x=16).mean().compute()
    dark = (coarse < coarse.median()).values.astype(int)
    found = embedding.terramind.classify(labelled(dark, n=300), "class").compute()
    assert found.attrs["cv_accuracy"] > 0.8
    assert (found.label.values == dark).mean() > 0.85
    np.testing.assert_allclose(found.probability.sum("category"), 1, atol=1e-5)
