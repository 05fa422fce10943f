"""Embeddings as int8: each feature within half a step, labels as they were, nothing invented."""

import json
import shutil
import tempfile
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from typer.testing import CliRunner
from zarr.storage import MemoryStore

import xr_terramind as xtm
from tests.support.cubes import counted, embed, scene, sealed
from xr_terramind.cli import commands

MADE_BY = {"model_key": "terramind_v1_tiny", "bands": ["B1", "B2"], "overlap": 0}
SETTLED = {"engine", "device", "precision"}


pytestmark = pytest.mark.usefixtures("small_blocks", "one_thread")


def cube(n_times: int = 1) -> xr.DataArray:
    """Four windows of 32 x 32 pixels per date, each a chunk and a block."""
    chunks = {"y": 32, "x": 32} | ({"time": 1} if n_times > 1 else {})
    return scene(64, 64, n_times).chunk(chunks)


def opened(store, **options) -> xr.Dataset:
    """Open it as somebody does who knows xarray only."""
    return xr.open_zarr(store, consolidated=False, decode_coords="all", **options)


def files(folder: Path) -> dict[str, bytes]:
    """Name and content of every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def cosine(one: xr.DataArray, other: xr.DataArray) -> xr.DataArray:
    one, other = one.astype("float64"), other.astype("float64")
    length = np.sqrt((one**2).sum("feature") * (other**2).sum("feature"))
    return (one * other).sum("feature") / length


def assert_close(restored: xr.DataArray, embedding: xr.DataArray, scale: xr.DataArray) -> None:
    """All labels are as they were, and values within half a step of what they were."""
    assert restored.name == "embedding" and restored.dtype == np.float32
    assert restored.dims == embedding.dims
    assert_same_labels(restored, embedding)
    apart = np.abs(restored.astype("float64") - embedding.astype("float64"))
    # Products are rounded to float32, of which 127 steps take seven bits.
    assert (apart <= scale * (0.5 + 1e-4)).where(embedding.notnull(), True).all()


def assert_same_labels(one: xr.DataArray, other: xr.DataArray) -> None:
    # NetCDF gives back lists as arrays.
    here, there = (
        {name: np.asarray(value).tolist() for name, value in array.attrs.items()}
        for array in (one, other)
    )
    assert here.keys() == there.keys()
    assert not [name for name in here if here[name] != there[name] and name not in SETTLED]
    xr.testing.assert_identical(
        one.coords.to_dataset().compute(), other.coords.to_dataset().compute()
    )
    assert one.rio.crs == other.rio.crs and np.isnan(one.rio.encoded_nodata)


# -- Laws of any array --------------------------------------------------------------------------

# Not so small that a scale, a 127th of it, has fewer digits than float32 has.
numbers = st.floats(-(2.0**100), 2.0**100, width=32).map(lambda v: v if abs(v) > 2e-30 else 0.0)
dims = st.sampled_from(
    [("feature",), ("y", "feature"), ("feature", "y", "x"), ("time", "feature", "y", "x")]
).flatmap(st.permutations)


@st.composite
def embeddings(draw) -> xr.DataArray:
    """Any floats in any order of dimensions; some vectors of zeros, some without data."""
    names = draw(dims)
    shape = draw(st.tuples(*(st.integers(1, 9 if name == "feature" else 4) for name in names)))
    values = draw(hnp.arrays(np.float32, shape, elements=numbers))
    array = xr.DataArray(values, dims=names, attrs=MADE_BY)
    array["feature"] = np.arange(array.sizes["feature"]) + 5
    cells = array.isel(feature=0, drop=True)
    kind = draw(hnp.arrays(np.int8, cells.shape, elements=st.integers(0, 3)))
    kind = xr.DataArray(kind, dims=cells.dims)
    one = array["feature"] == draw(st.sampled_from(array["feature"].values.tolist()))
    array = array.where(kind != 1, 0).where((kind != 2) | ~one).where(kind != 3)
    array = array.transpose(*names).assign_coords(valid_fraction=(kind < 2).astype("float32"))
    array.attrs = dict(MADE_BY)
    return array.rio.write_crs(32632).rio.write_nodata(np.nan, encoded=True)


@settings(max_examples=60, deadline=None)
@given(embeddings(), st.data())
def test_it_comes_back_within_half_a_step(embedding, data):
    quantized = embedding.terramind.quantize()
    assert quantized["embedding"].dtype == np.int8 and quantized["scale"].dtype == np.float32
    assert quantized["embedding"].dims == embedding.dims
    assert quantized["scale"].dims == tuple(dim for dim in embedding.dims if dim != "feature")
    restored = quantized.terramind.dequantize()
    no_data = embedding.isnull().any("feature")
    assert_close(restored, embedding.where(~no_data), quantized["scale"])

    xr.testing.assert_equal(quantized["scale"].isnull(), no_data)
    assert restored.isnull().sum() == no_data.sum() * embedding.sizes["feature"]
    zeros = (embedding == 0).all("feature")
    assert (quantized["scale"].where(zeros, 0) == 0).where(~no_data, True).all()
    assert (restored.where(zeros, 0) == 0).where(~no_data, True).all()
    assert (quantized["embedding"].where(no_data, 0) == 0).all()

    # In any chunks: to the last bit the same, and lazy.
    chunks = {dim: data.draw(st.integers(1, size)) for dim, size in embedding.sizes.items()}
    lazy = embedding.chunk(chunks).terramind.quantize()
    assert lazy["embedding"].chunks and lazy["scale"].chunks is not None
    for dim in set(embedding.dims) - {"feature"}:
        assert lazy.chunksizes[dim] == embedding.chunk(chunks).chunksizes[dim]
    xr.testing.assert_identical(lazy.compute(), quantized)
    again = lazy.chunk({dim: 2 for dim in embedding.dims}).terramind.dequantize()
    assert again.chunks is not None
    xr.testing.assert_identical(again.compute(), restored)

    # What was rounded once stays as it is.
    twice = restored.terramind.quantize()
    xr.testing.assert_equal(twice["embedding"], quantized["embedding"])
    xr.testing.assert_allclose(twice["scale"], quantized["scale"], rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [1e-38, 2e-43, 1e-45, 3e38])
def test_at_the_ends_of_float32(value):
    vector = xr.DataArray(np.float32([value, -value, 0]), dims="feature")
    restored = vector.terramind.quantize().terramind.dequantize()
    np.testing.assert_allclose(restored, vector, rtol=1e-6, atol=1e-40)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_floats_of_other_lengths(dtype):
    vector = xr.DataArray(np.array([1, -2, 0.5], dtype), dims="feature", attrs=MADE_BY)
    quantized = vector.terramind.quantize()
    assert quantized["embedding"].values.tolist() == [64, -127, 32]
    assert quantized.terramind.dequantize().dtype == np.float32


def test_an_infinite_feature_is_no_data():
    vectors = xr.DataArray(np.float32([[1, np.inf], [1, -np.inf], [1, 2]]), dims=("y", "feature"))
    restored = vectors.terramind.quantize().terramind.dequantize()
    assert restored.isnull().all("feature").values.tolist() == [True, True, False]


# -- Of embeddings ------------------------------------------------------------------------------

KINDS = {
    "grid": lambda: embed(cube()),
    "windows": lambda: embed(cube(), output="windows"),
    "pooled": lambda: embed(cube(), output="pooled"),
    "dates": lambda: embed(cube(3)),
    "no multiple of 16": lambda: embed(scene(50, 61).chunk(x=20)),
    "some cells": lambda: embed(cube()).isel(y=[3, 0, 1]),
    "cell": lambda: embed(cube()).isel(y=1, x=2),
    "other order": lambda: embed(cube()).transpose("y", "x", "feature"),
    "features in chunks": lambda: embed(cube()).chunk(feature=50),
    "in memory": lambda: embed(scene(64, 64)),
    "in memory, dates": lambda: embed(scene(64, 64, 3)),
    "no CRS": lambda: embed(cube().drop_vars("spatial_ref")),
    "float64": lambda: embed(cube()).astype("float64"),
    "half without data": lambda: embed(cube().where(cube().x > cube().x[31], 0)),
    "without data": lambda: embed(cube() * 0),
    "all zero": lambda: embed(cube()) * 0,
}


def made(kind: str) -> xr.DataArray:
    with xr.set_options(keep_attrs=True):
        return KINDS[kind]().rio.write_nodata(np.nan, encoded=True)


@pytest.mark.parametrize("kind", ["grid", "pooled", "dates", "features in chunks", "in memory"])
def test_of_an_embedding(kind):
    embedding = made(kind)
    before, attrs = embedding.copy(deep=True), dict(embedding.attrs)
    quantized = embedding.terramind.quantize()
    assert quantized["embedding"].attrs.keys() - attrs.keys() == {"quantization"}
    assert (quantized["embedding"].chunks is None) == (embedding.chunks is None)
    assert quantized.rio.crs == embedding.rio.crs
    assert_close(quantized.terramind.dequantize(), embedding, quantized["scale"])
    xr.testing.assert_identical(embedding, before)
    assert embedding.attrs == attrs


@pytest.mark.parametrize("kind", ["grid", "pooled", "without data", "no CRS"])
@pytest.mark.parametrize("form", ["zarr", "nc"])
def test_any_format_of_xarray_holds_it(form, kind, tmp_path):
    embedding = made(kind).compute()
    quantized = embedding.terramind.quantize()
    path = tmp_path / f"e.{form}"
    if form == "zarr":
        quantized.to_zarr(path, consolidated=False)
        read = opened(path)
    else:
        quantized.to_netcdf(path)
        read = xr.open_dataset(path, decode_coords="all")
    with read:
        assert read["embedding"].dtype == np.int8
        restored = read.terramind.dequantize().load()
    assert_close(restored, embedding, quantized["scale"])
    xr.testing.assert_identical(restored, quantized.terramind.dequantize())


def test_nothing_is_computed_and_names_are_the_same_next_time():
    one, other = (embed(sealed(scene(64, 64))).terramind.quantize() for _ in range(2))
    assert one.terramind.dequantize().chunks is not None
    one, other = (embed(cube()).terramind.quantize() for _ in range(2))
    for name in ("embedding", "scale"):
        assert one[name].data.name == other[name].data.name
        assert one[name].data.name.startswith("terramind-quantize-")
    assert one["embedding"].data.npartitions == 4
    added = set(one.__dask_graph__()) - set(embed(cube()).__dask_graph__())
    assert len(added) == 2 * 4  # a scale and a rounding a block


def test_each_chunk_of_the_cube_is_read_once():
    source, reads = counted(scene(64, 64), y=32, x=32)
    embed(source).terramind.quantize().compute()
    assert len(reads) == 4


def test_a_selection_is_restored_too():
    embedding = embed(scene(64, 64))
    quantized, whole = (q := embedding.terramind.quantize()), q.terramind.dequantize()
    for where in ({"y": 2}, {"x": [3, 1]}, {"y": 1, "x": 2}, {"feature": 7}, {"feature": [1, 5]}):
        part = quantized.isel(where).terramind.dequantize()
        xr.testing.assert_identical(part, whole.isel(where))
    turned = quantized.transpose("x", "feature", "y").terramind.dequantize()
    xr.testing.assert_identical(turned, whole.transpose("x", "feature", "y"))


@pytest.mark.parametrize("model", ["terramind_v1_tiny", "terramind_v1_small"])
def test_directions_are_kept(model):
    embedding = xtm.sample_scene(336).terramind.embed(model=model, weights="random")
    restored = embedding.terramind.quantize().terramind.dequantize()
    assert cosine(embedding, restored).min() > 0.9999
    # Vision transformers have features far beyond all others; here of ten times their mean square.
    spread = np.sqrt((embedding**2).mean("feature"))
    outlying = xr.where(embedding.feature == 7, 10 * spread, embedding)
    restored = outlying.terramind.quantize().terramind.dequantize()
    assert cosine(outlying, restored).min() > 0.9995


# -- What is refused ----------------------------------------------------------------------------

NO_EMBEDDING = {
    "cube": (lambda e: e.isel(feature=0), "dimensions"),
    "integers": (lambda e: e.astype("int16"), "int16"),
    "Dataset": (lambda e: e.to_dataset(name="embedding"), "Dataset"),
    "quantised": (lambda e: e.terramind.quantize(), "Dataset"),
    "no feature": (lambda e: e.isel(feature=[]), "0 features"),
    "scale": (lambda e: e.assign_coords(scale=10), "coordinate named 'scale'"),
}

NOT_QUANTIZED = {
    "embedding": (lambda q: q.terramind.dequantize(), "a DataArray"),
    "int8 alone": (lambda q: q["embedding"], "a DataArray"),
    "no scale": (lambda q: q.drop_vars("scale"), "without 'scale'"),
    "no embedding": (lambda q: q[["scale"]], "without 'embedding'"),
    "float": (lambda q: q.astype("float32"), "float32"),
    "no attributes": (lambda q: q.drop_attrs(), "no quantization"),
    "other method": (lambda q: other_method(q), "'affine'"),
    "scale of all": (lambda q: q.assign(scale=q["scale"].max()), r"dimensions \(\)"),
}


def other_method(quantized: xr.Dataset) -> xr.Dataset:
    bare = quantized["embedding"].assign_attrs(quantization="affine")
    return quantized.assign(embedding=bare)


@pytest.mark.parametrize("kind", NO_EMBEDDING)
def test_only_an_embedding_is_quantised(kind):
    change, words = NO_EMBEDDING[kind]
    other = change(embed(sealed(scene(32, 32))))
    with pytest.raises(xtm.GridError, match=rf"found .*{words}.*; expected an embedding"):
        other.terramind.quantize()


@pytest.mark.parametrize("kind", NOT_QUANTIZED)
def test_only_what_is_quantised_is_restored(kind):
    change, words = NOT_QUANTIZED[kind]
    other = change(embed(scene(32, 32)).terramind.quantize())
    with pytest.raises(xtm.GridError, match=rf"found .*{words}.*; expected .*quantize\(\)"):
        other.terramind.dequantize()


# -- Into a store, block by block ---------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_holds_what_quantize_returns(kind, tmp_path):
    embedding = made(kind)
    returned = embedding.terramind.to_zarr(tmp_path / "e.zarr", dtype="int8")
    stored, expected = opened(tmp_path / "e.zarr"), embedding.terramind.quantize().compute()
    assert stored["embedding"].dtype == np.int8 and stored["scale"].dtype == np.float32
    xr.testing.assert_equal(stored.compute(), expected)
    restored = stored.terramind.dequantize()
    assert restored.chunks is not None and returned.chunks is not None
    assert_close(restored.compute(), embedding.astype("float32"), expected["scale"])
    xr.testing.assert_identical(returned.compute(), restored.compute())


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_whatever_the_scheduler(scheduler, tmp_path):
    embedding = embed(cube())
    with dask.config.set(scheduler=scheduler, num_workers=2):
        restored = embedding.terramind.to_zarr(tmp_path / "e.zarr", dtype="int8")
    scale = embedding.terramind.quantize()["scale"].compute()
    assert_close(restored.compute(), embedding.compute(), scale)


def test_the_whole_pipeline_on_threads(tmp_path):
    source = xtm.sample_scene(448, chunks={"y": 150, "x": 256})
    embedding = source.terramind.embed(model="terramind_v1_tiny", weights="random", overlap=64)
    with dask.config.set(scheduler="threads", num_workers=4):
        embedding.terramind.to_zarr(tmp_path / "e.zarr", dtype="int8")
        restored = opened(tmp_path / "e.zarr").terramind.dequantize().compute()
        expected = embedding.compute()
    assert cosine(restored, expected).min() > 0.9999
    assert restored.terramind.to_rgb().shape == (28, 28, 3)


def test_how_it_lies_in_the_store(tmp_path):
    embedding = embed(cube(2))
    embedding.terramind.to_zarr(tmp_path / "e.zarr", dtype="int8")
    group = zarr.open_group(tmp_path / "e.zarr", mode="r", zarr_format=3)
    vectors, scale = group["embedding"], group["scale"]
    assert vectors.shards == (1, 192, 2, 2) and scale.shards == (1, 2, 2)
    assert vectors.metadata.dimension_names == embedding.dims
    assert "_FillValue" not in vectors.attrs and vectors.fill_value == -128
    attrs = dict(group.attrs)
    assert attrs["geoemb:data_type"] == "int8" and attrs["geoemb:dimensions"] == 192
    assert attrs["geoemb:quantization"] == {
        "method": "symmetric_absmax_per_vector",
        "original_dtype": "float32",
        "quantized_dtype": "int8",
        "scale": "scale",
    }
    embedding.terramind.to_zarr(tmp_path / "f.zarr")
    attrs = json.loads((tmp_path / "f.zarr/zarr.json").read_text())["attributes"]
    assert attrs["geoemb:data_type"] == "float32" and "geoemb:quantization" not in attrs
    assert "scale" not in opened(tmp_path / "f.zarr")


def test_it_takes_about_a_quarter(tmp_path):
    embedding = xtm.sample_scene(448).terramind.embed(model="terramind_v1_tiny", weights="random")
    for dtype in ("float32", "int8"):
        embedding.terramind.to_zarr(tmp_path / dtype, dtype=dtype)
    sizes = {
        dtype: sum(
            len(content) for name, content in files(tmp_path / dtype).items() if "/c/" in name
        )
        for dtype in ("float32", "int8")
    }
    assert 0.2 < sizes["int8"] / sizes["float32"] < 0.35


@pytest.mark.parametrize("kind", ["without data", "half without data", "all zero"])
def test_blocks_of_zeros_are_stored_and_done(kind, tmp_path):
    source, reads = counted(scene(64, 64), y=32, x=32)
    if kind != "all zero":
        source = source.where(source.x > source.x[31 if "half" in kind else -1], 0)
    with xr.set_options(keep_attrs=True):
        embedding = embed(source) * (kind != "all zero")
    embedding.terramind.to_zarr(tmp_path / "e.zarr", dtype="int8")
    for array, at in (("embedding", "0/"), ("scale", ""), ("valid_fraction", "")):
        found = files(tmp_path / "e.zarr" / array / "c")
        assert set(found) == {f"{at}{row}/{col}" for row in range(2) for col in range(2)}
    reads.clear()
    embedding.terramind.to_zarr(tmp_path / "e.zarr", dtype="int8", resume=True)
    assert not reads


def test_what_is_not_written_yet_is_no_data(tmp_path):
    embedding = embed(cube())
    embedding.terramind.to_zarr(tmp_path / "e.zarr", dtype="int8")
    (tmp_path / "e.zarr/embedding/c/0/1/1").unlink()  # its scale stands, as before the last step
    restored = opened(tmp_path / "e.zarr").terramind.dequantize().compute()
    assert restored[:, 2:, 2:].isnull().all()
    assert restored[:, :2].notnull().all() and restored[:, :, :2].notnull().all()


def test_the_embedding_itself_is_left_alone(tmp_path):
    embedding = embed(cube())
    attrs, name = dict(embedding.attrs), embedding.data.name
    embedding.terramind.to_zarr(tmp_path / "e.zarr", dtype="int8")
    assert embedding.attrs == attrs and embedding.data.name == name


# -- Going on -----------------------------------------------------------------------------------


def noting(places: list, offset: int = 0, name: str = "noting") -> xr.DataArray:
    """A cube that notes which chunks are read; its name does not say so."""
    source = (scene(64, 64) + np.uint16(offset)).chunk(y=32, x=32)

    def read(block, block_info=None):
        places.append(tuple(block_info[None]["chunk-location"])[-2:])
        return block

    data = source.data
    name = f"{name}-{offset}"
    return source.copy(data=da.map_blocks(read, data, dtype=data.dtype, meta=data._meta, name=name))


def go_on(folder: Path, dtype: str = "int8", **options) -> list:
    """Write, or go on; the chunks that were read."""
    places: list = []
    embed(noting(places, **options)).terramind.to_zarr(folder, dtype=dtype, resume=True)
    return places


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, small_blocks):
    """What a run leaves that nothing has come between."""
    folder = tmp_path_factory.mktemp("unbroken") / "e.zarr"
    assert len(go_on(folder)) == 4
    return folder


@pytest.fixture
def begun(unbroken, tmp_path):
    """A copy of it without its last block."""
    shutil.copytree(unbroken, tmp_path / "e.zarr")
    (tmp_path / "e.zarr/embedding/c/0/1/1").unlink()
    return tmp_path / "e.zarr"


@settings(max_examples=10, deadline=None)
@given(
    st.sets(
        st.tuples(
            st.sampled_from(["embedding", "scale", "valid_fraction"]),
            st.integers(0, 1),
            st.integers(0, 1),
        )
    )
)
def test_what_is_missing_is_computed_and_nothing_else(unbroken, removed):
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "e.zarr"
        shutil.copytree(unbroken, store)
        for array, row, col in removed:
            (store / array / "c" / f"{'0/' * (array == 'embedding')}{row}/{col}").unlink()
        assert sorted(go_on(store)) == sorted({(row, col) for _, row, col in removed})
        assert files(store) == files(unbroken)


def test_a_cube_of_another_name_is_compared_and_goes_on(begun, unbroken):
    assert len(go_on(begun, name="again")) == 2  # one of them to see that it is the same
    assert files(begun) == files(unbroken)


@pytest.mark.parametrize("offset", [1, 300])
def test_other_pixels_are_refused(offset, begun):
    before = files(begun)
    with pytest.raises(xtm.StoreError, match="embedded again differs"):
        go_on(begun, offset=offset)
    assert files(begun) == before


def test_numbers_of_another_device_are_accepted(begun, monkeypatch):
    # Engines agree to 1e-4; where that crosses the middle between two steps, int8 differs by one.
    embedding = embed(noting([], name="again"))
    noise = np.random.default_rng(0).uniform(-1e-4, 1e-4, embedding.shape).astype("float32")
    near = embedding.copy(data=embedding.data + noise)
    near.terramind.to_zarr(begun, dtype="int8", resume=True)
    far = embedding.copy(data=embedding.data + 10 * noise)
    with pytest.raises(xtm.StoreError, match="embedded again differs"):
        far.terramind.to_zarr(begun, dtype="int8", resume=True)


@pytest.mark.parametrize(("here", "there"), [("int8", "float32"), ("float32", "int8")])
def test_dtypes_are_not_mixed(here, there, tmp_path):
    go_on(tmp_path / "e.zarr", there)
    before = files(tmp_path / "e.zarr")
    with pytest.raises(xtm.StoreError, match=f"values are {here} here and {there} there"):
        go_on(tmp_path / "e.zarr", here)
    assert files(tmp_path / "e.zarr") == before
    embed(cube()).terramind.to_zarr(tmp_path / "e.zarr", dtype=here, overwrite=True)
    assert opened(tmp_path / "e.zarr")["embedding"].dtype == here
    assert ("scale" in opened(tmp_path / "e.zarr")) == (here == "int8")


def test_a_store_without_its_scales_is_refused(begun):
    shutil.rmtree(begun / "scale")
    with pytest.raises(xtm.StoreError, match="no 'scale'"):
        go_on(begun)


@pytest.mark.parametrize("dtype", ["int16", "float64", "i1", "eight"])
def test_no_other_dtypes(dtype, tmp_path):
    with pytest.raises(xtm.EngineError, match=rf"found dtype='{dtype}'; expected .*int8"):
        embed(sealed(cube())).terramind.to_zarr(tmp_path / "e.zarr", dtype=dtype)
    assert not list(tmp_path.iterdir())


def test_a_dtype_as_numpy_names_it():
    store = MemoryStore()
    embed(cube()).terramind.to_zarr(store, dtype=np.int8)
    assert opened(store)["embedding"].dtype == np.int8


def test_what_is_quantised_already_is_not_written_as_floats():
    quantized = embed(scene(64, 64)).terramind.quantize()
    with pytest.raises(xtm.GridError, match="dequantize"):
        quantized["embedding"].terramind.to_zarr(MemoryStore())
    with pytest.raises(xtm.GridError, match="expected an embedding"):
        quantized.terramind.to_zarr(MemoryStore(), dtype="int8")


# -- On the command line ------------------------------------------------------------------------


def run(*arguments):
    quick = ["--model=terramind_v1_tiny", "--weights=random", "--window-size=112", "--device=cpu"]
    return CliRunner().invoke(commands.app, ["embed", *map(str, arguments), *quick])


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "s2.nc"
    xtm.sample_scene(112).to_netcdf(path)
    return path


def test_on_the_command_line(source, tmp_path):
    target = tmp_path / "e.zarr"
    result = run(source, target, "--dtype", "int8")
    assert result.exit_code == 0, result.output
    assert "192 x y 7 x x 7, 9.38 kiB" in result.stdout  # 49 vectors of 192 + 4 bytes
    restored = opened(target).terramind.dequantize()
    assert restored.shape == (192, 7, 7) and restored.notnull().all()
    assert run(source, target, "--dtype", "int8", "--resume").exit_code == 0
    other = run(source, target, "--resume")
    assert other.exit_code == 1 and "values are float32 here and int8 there" in other.stderr


@pytest.mark.parametrize(
    ("target", "dtype", "words"),
    [
        ("e.nc", "int8", "--dtype int8 with"),
        ("e.tif", "int8", "--dtype int8 with"),
        ("e.zarr", "int4", "expected one of float32, int8"),
    ],
)
def test_what_the_command_line_refuses(target, dtype, words, source, tmp_path):
    result = run(source, tmp_path / target, "--dtype", dtype)
    assert result.exit_code == 1 and "Traceback" not in result.output
    assert words in result.stderr
    assert not list(tmp_path.iterdir())
