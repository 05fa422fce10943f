"""Embeddings in Zarr: what stands in the store is what `embed` says, whole blocks or none."""

import errno
import io
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from dask.base import tokenize
from dask.diagnostics import ProgressBar
from rich.console import Console
from zarr.storage import LocalStore, MemoryStore, StorePath, WrapperStore

import xr_terramind as xtm
from tests.support.blocks import small_blocks
from tests.support.cubes import assert_same_embedding, counted, embed, scene, sealed
from xr_terramind.blocks import run
from xr_terramind.blocks.plan import set_block_counts

SETTLED = {"engine", "device", "precision"}
NO_DATA = 0  # in all bands


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Make one block of each window, and wait for nothing."""
    monkeypatch.setattr(run, "FIRST_PAUSE_S", 0)
    with small_blocks():
        yield


# Windows are small, and blocks run side by side.
pytestmark = pytest.mark.usefixtures("one_thread")


def cube(n_times: int = 1) -> xr.DataArray:
    """Four windows of 32 x 32 pixels a date, each a chunk and a block."""
    chunks = {"y": 32, "x": 32} | ({"time": 1} if n_times > 1 else {})
    return scene(64, 64, n_times).chunk(chunks)


def opened(store, **options) -> xr.DataArray:
    """Open it as somebody does who knows xarray only."""
    options = {"consolidated": False, "decode_coords": "all", **options}
    return xr.open_zarr(store, **options)["embedding"]


def assert_written(embedding: xr.DataArray, store, **options) -> None:
    """Equal to the last bit, in values and in all labels."""
    stored, expected = opened(store, **options).compute(), embedding.compute()
    xr.testing.assert_equal(stored, expected)
    assert stored.dtype == np.float32
    assert stored.rio.crs == expected.rio.crs
    if {"y", "x"} <= set(expected.dims):
        assert stored.rio.transform() == expected.rio.transform()
    kept = {name: value for name, value in expected.attrs.items() if name not in SETTLED}
    assert {name: value for name, value in stored.attrs.items() if name not in SETTLED} == kept
    assert "auto" not in {stored.attrs[name] for name in SETTLED}


def files(folder: Path) -> dict[str, bytes]:
    """Name and content of every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def blocks(store: Path, array: str = "embedding") -> set[str]:
    """Names of an array's blocks that stand."""
    return set(files(store / array / "c")) if (store / array / "c").exists() else set()


def reading(source: xr.DataArray, before) -> xr.DataArray:
    """The cube, which calls ``before(place)`` before it reads the chunk at a place."""

    def read(block, block_info=None):
        before(tuple(block_info[None]["chunk-location"])[-2:])
        return block

    data = source.data
    name = f"reading-{tokenize(data.name)}"
    read.__dask_tokenize__ = lambda: name  # Dask of 2025 adds the function to the name
    return source.copy(data=da.map_blocks(read, data, dtype=data.dtype, meta=data._meta, name=name))


# -- What is written is what is embedded --------------------------------------------------------

KINDS = {
    "grid": lambda: embed(cube()),
    "windows": lambda: embed(cube(), output="windows"),
    "pooled": lambda: embed(cube(), output="pooled"),
    "maximum": lambda: embed(cube(), output="pooled", pooling="max"),
    "resized": lambda: embed(cube(), fit="resize"),
    "resized to one": lambda: embed(cube(), fit="resize", output="windows"),
    "dates": lambda: embed(cube(3)),
    "dates, pooled": lambda: embed(cube(3), output="pooled"),
    "dates, windows": lambda: embed(cube(3), output="windows"),
    "fifty dates": lambda: embed(scene(32, 32, 50).chunk(time=10)),
    "overlap": lambda: embed(cube(), window_size=48, overlap=32),
    "windows that overlap": lambda: embed(cube(), window_size=48, overlap=32, output="windows"),
    "no multiple of 16": lambda: embed(scene(50, 61).chunk(x=20)),
    "pixel-wide chunks": lambda: embed(scene(32, 48).chunk(y=1, x=1)),
    "corner": lambda: embed(cube()).isel(y=slice(1, 4), x=slice(3)),
    "some cells": lambda: embed(cube()).isel(y=[3, 0, 1]),
    "row": lambda: embed(cube()).isel(y=1),
    "cell": lambda: embed(cube()).isel(y=1, x=2),
    "some features": lambda: embed(cube()).isel(feature=slice(5, 9)),
    "one date": lambda: embed(cube(3)).isel(time=1),
    "other order": lambda: embed(cube()).transpose("y", "x", "feature"),
    "in memory": lambda: embed(scene(64, 64)),
    "in memory, dates": lambda: embed(scene(64, 64, 3)),
    "in memory, pooled": lambda: embed(scene(64, 64), output="pooled"),
    "float64": lambda: embed(cube().astype("float64")),
    "int32": lambda: embed(cube().astype("int32")),
    "no CRS": lambda: embed(cube().drop_vars("spatial_ref")),
    "south up": lambda: embed(cube().isel(y=slice(None, None, -1))),
    "degrees": lambda: embed(in_degrees(cube())),
}


def in_degrees(source: xr.DataArray) -> xr.DataArray:
    y, x = 55 - 9e-5 * np.arange(64), 8 + 1.6e-4 * np.arange(64)
    bare = source.drop_vars("spatial_ref").assign_coords(y=y, x=x)
    return bare.rio.write_crs(4326)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_what_is_embedded(kind, tmp_path):
    embedding = KINDS[kind]()
    returned = embedding.terramind.to_zarr(tmp_path / "e.zarr")
    assert_written(embedding, tmp_path / "e.zarr")
    assert returned.chunks is not None
    xr.testing.assert_equal(returned.compute(), embedding.compute())


def test_at_native_size_too(tmp_path):
    source = xtm.sample_scene(700, chunks={"y": 333, "x": 256})
    embedding = source.terramind.embed(model="terramind_v1_tiny", weights="random", overlap=64)
    assert embedding.data.npartitions > 4
    embedding.terramind.to_zarr(tmp_path / "e.zarr")
    assert_written(embedding, tmp_path / "e.zarr")


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_whatever_the_scheduler(scheduler, tmp_path):
    embedding = embed(cube())
    with dask.config.set(scheduler=scheduler, num_workers=2):
        embedding.terramind.to_zarr(tmp_path / "e.zarr")
    # Processes choose their own number of threads, which shows in the last bit.
    assert_same_embedding(opened(tmp_path / "e.zarr").compute(), embedding.compute())


# zarr has no settled way to hold text of one length, and says so.
@pytest.mark.filterwarnings("ignore:The data type .* does not have a Zarr V3 specification")
def test_coordinates_along_time_are_kept(tmp_path):
    dated = cube(3).assign_coords(
        acquired=("time", np.array(["2022-01-01T10:31", "2022-02-03", "NaT"], "M8[ns]")),
        cloudy=("time", [0.5, np.nan, 12]),
        tile=("time", ["32VNH", "", "é"]),
        clear=("time", [True, False, True]),
        orbit=37,
    )
    for source in (dated, dated.compute(), dated.chunk(time=1).reset_coords("cloudy", drop=True)):
        embedding = embed(source)
        embedding.terramind.to_zarr(tmp_path / "e.zarr", overwrite=True)
        assert_written(embedding, tmp_path / "e.zarr")


TIMES = np.array(["2022-01-01T10:30", "2022-02-03T10:31", "2022-03-03"], "M8[ns]")
STORED = {  # values, and how a file may hold them
    "hours": (TIMES, {"units": "hours since 2022-01-01", "dtype": "float64"}),
    "minutes": (TIMES, {"units": "minutes since 2022-01-01", "dtype": "int32"}),
    "scaled": ([0.5, 1, 2], {"scale_factor": 0.5, "dtype": "int16", "_FillValue": -1}),
    "with gaps": ([7, np.nan, 2], {"dtype": "int16", "_FillValue": -1}),
}


@pytest.mark.parametrize("chunks", [{"time": 1}, None], ids=["lazy", "eager"])
@pytest.mark.parametrize("kind", STORED)
def test_however_a_file_had_encoded_them(kind, chunks, tmp_path):
    values, encoding = STORED[kind]
    dated = scene(32, 32, 3).assign_coords(extra=("time", values))
    dated.to_dataset(name="s2").to_netcdf(tmp_path / "s2.nc", encoding={"extra": encoding})
    with xr.open_dataset(tmp_path / "s2.nc", chunks=chunks, decode_coords="all") as dataset:
        embedding = embed(dataset["s2"])
        embedding.terramind.to_zarr(tmp_path / "e.zarr")
        assert_written(embedding, tmp_path / "e.zarr")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_dates_of_any_unit(unit, tmp_path):
    source = cube(3)
    source = source.assign_coords(time=source.time.values.astype(f"M8[{unit}]"))
    embedding = embed(source)
    embedding.terramind.to_zarr(tmp_path / "e.zarr")
    # Read as nanoseconds; only pandas 3 calls indexes of two units equal.
    expected = embedding.assign_coords(time=embedding.time.values.astype("M8[ns]"))
    assert_written(expected, tmp_path / "e.zarr")


def test_blocks_without_a_valid_pixel_are_stored_and_done(tmp_path):
    source, reads = counted(scene(64, 64).where(lambda s: s.x > s.x[31], NO_DATA), y=32, x=32)
    embedding = embed(source)
    embedding.terramind.to_zarr(tmp_path / "e.zarr")
    stored = opened(tmp_path / "e.zarr")
    assert np.isnan(stored[..., :2]).all() and np.isfinite(stored[..., 2:]).all()
    assert (stored.valid_fraction[:, :2] == 0).all()
    assert len(blocks(tmp_path / "e.zarr")) == 4
    reads.clear()
    embedding.terramind.to_zarr(tmp_path / "e.zarr", resume=True)
    assert not reads


# -- In which form ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["grid", "dates", "overlap", "windows", "in memory"])
def test_a_block_is_one_shard_of_zarr_3(kind, tmp_path):
    embedding = KINDS[kind]()
    embedding.terramind.to_zarr(tmp_path / "e.zarr")
    group = zarr.open_group(tmp_path / "e.zarr", mode="r", zarr_format=3)
    dims = group["embedding"].metadata.dimension_names
    assert dims == embedding.dims
    n_blocks = 1
    if embedding.chunks is not None:
        assert group["embedding"].shards == tuple(chunks[0] for chunks in embedding.chunks)
        n_blocks = embedding.data.npartitions
    assert len(blocks(tmp_path / "e.zarr")) == n_blocks
    for name in ("embedding", "valid_fraction"):
        array = group[name]
        assert [codec["name"] for codec in array.metadata.to_dict()["codecs"]] == [
            "sharding_indexed"
        ]
        (compressor,) = array.compressors
        assert compressor.to_dict()["name"] == "zstd"
        for shard, chunk in zip(array.shards, array.chunks, strict=True):
            assert shard % chunk == 0


def test_a_vector_is_read_without_its_whole_block(tmp_path):
    source = xtm.sample_scene(672, chunks={"x": 336})
    with set_block_counts(wanted_blocks=1000, min_blocks=1, min_batch=9):
        embedding = source.terramind.embed(model="terramind_v1_tiny", weights="random")
    embedding.terramind.to_zarr(tmp_path / "e.zarr")
    array = zarr.open_array(tmp_path / "e.zarr" / "embedding", mode="r")
    assert array.shards == (192, 42, 42)
    assert array.chunks[0] == 192 and array.chunks[1] < 42 and array.chunks[2] < 42


def test_other_readers_are_told_what_it_is(tmp_path):
    embed(cube()).terramind.to_zarr(tmp_path / "e.zarr")
    attrs = json.loads((tmp_path / "e.zarr/zarr.json").read_text())["attributes"]
    assert attrs["zarr_conventions"][0]["name"] == "geoemb:"
    assert attrs["geoemb:dimensions"] == 192
    assert attrs["geoemb:data_type"] == "float32"
    assert "terramind" in attrs["geoemb:model"].lower() and "tiny" in attrs["geoemb:model"]
    assert attrs["geoemb:source_data"] == ["synthetic"]
    layout = {"layout_type": "regular_grid", "chip_size": [16, 16], "stride": [16, 16]}
    assert attrs["geoemb:chip_layout"] == layout
    assert attrs["proj:code"] == "EPSG:32632"
    assert attrs["spatial:dimensions"] == ["y", "x"] and attrs["spatial:shape"] == [4, 4]
    assert attrs["spatial:transform"] == [160, 0, 440_000, 0, -160, 6_160_000]
    assert attrs["spatial:bbox"] == [440_000, 6_160_000 - 640, 440_640, 6_160_000]
    assert not [name for name in attrs if "unfinished" in name]


def test_of_windows_that_overlap(tmp_path):
    KINDS["windows that overlap"]().terramind.to_zarr(tmp_path / "e.zarr")
    attrs = zarr.open_group(tmp_path / "e.zarr", mode="r").attrs
    layout = {"layout_type": "regular_grid", "chip_size": [48, 48], "stride": [16, 16]}
    assert attrs["geoemb:chip_layout"] == layout
    assert attrs["spatial:shape"] == [2, 2]


@pytest.mark.parametrize("kind", ["pooled", "row", "cell", "no CRS"])
def test_nothing_is_said_of_a_place_that_is_not_known(kind, tmp_path):
    KINDS[kind]().terramind.to_zarr(tmp_path / "e.zarr")
    attrs = dict(zarr.open_group(tmp_path / "e.zarr", mode="r").attrs)
    assert attrs["geoemb:dimensions"] == 192
    assert not {"spatial:transform", "spatial:bbox"} & set(attrs)


def test_the_transform_of_every_second_cell_is_its_own(tmp_path):
    thinned = embed(cube()).isel(y=slice(None, None, 2), x=slice(None, None, 2))
    thinned.terramind.to_zarr(tmp_path / "e.zarr")
    attrs = zarr.open_group(tmp_path / "e.zarr", mode="r").attrs
    transform = attrs.get("spatial:transform")
    # Cells lie 320 m apart; to say nothing would be right, too.
    assert transform is None or (transform[0], transform[4]) == (320, -320)


def test_the_stored_transform_is_that_of_a_selection(tmp_path):
    whole = embed(cube())
    for name, part in {
        "cut": whole.isel(y=slice(1, None), x=slice(2, None)),
        "coarser": whole.coarsen(y=2, x=2).mean(keep_attrs=True),
    }.items():
        part.terramind.to_zarr(tmp_path / f"{name}.zarr")
        stored = opened(tmp_path / f"{name}.zarr")
        step_m = 320 if name == "coarser" else 160
        west, north = float(part.x[0]) - step_m / 2, float(part.y[0]) + step_m / 2
        assert stored.rio.transform()[:6] == (step_m, 0, west, 0, -step_m, north)


# -- Into whatever store ------------------------------------------------------------------------


def obstore_memory(folder):
    return pytest.importorskip("obstore.store").MemoryStore()


def obstore_local(folder):
    folder.mkdir()
    return pytest.importorskip("obstore.store").LocalStore(str(folder))


TARGETS = {
    "str": str,
    "Path": Path,
    "file URL": lambda folder: folder.as_uri(),
    "memory URL": lambda folder: f"memory:/{folder}",
    "LocalStore": LocalStore,
    "MemoryStore": lambda folder: MemoryStore(),
    "StorePath": lambda folder: StorePath(LocalStore(folder), "deep/er"),
    "StorePath in memory": lambda folder: StorePath(MemoryStore(), "deep/er"),
    "obstore in memory": obstore_memory,
    "obstore local": obstore_local,
}


# obstore's local store leaves the folders of what it has deleted, and zarr remarks on them.
@pytest.mark.filterwarnings("ignore:Object at .* is not recognized as a component")
@pytest.mark.parametrize("kind", TARGETS)
def test_any_store_takes_it_and_goes_on(kind, tmp_path):
    source, reads = counted(scene(64, 64), y=32, x=32)
    embedding = embed(source)
    target = TARGETS[kind](tmp_path / "a name.zarr")
    returned = embedding.terramind.to_zarr(target)
    xr.testing.assert_equal(returned.compute(), embedding.compute())
    reads.clear()
    with pytest.raises(FileExistsError):
        embedding.terramind.to_zarr(target)
    embedding.terramind.to_zarr(target, resume=True)
    assert not reads
    again = embedding.terramind.to_zarr(target, overwrite=True)
    assert len(reads) == 4
    xr.testing.assert_equal(again.compute(), embedding.compute())


def test_local_paths_mean_the_same_place(tmp_path, monkeypatch):
    embedding = embed(cube())
    embedding.terramind.to_zarr((tmp_path / "ä b.zarr").as_uri())
    assert_written(embedding, tmp_path / "ä b.zarr")
    monkeypatch.chdir(tmp_path)
    embedding.terramind.to_zarr("here.zarr")
    assert_written(embedding, tmp_path / "here.zarr")


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    embed(cube()).terramind.to_zarr("~/e.zarr")
    assert (tmp_path / "home/e.zarr/zarr.json").exists()  # as xarray's own to_zarr does


def test_a_group_among_others_leaves_them_alone(tmp_path):
    root = zarr.create_group(tmp_path / "all.zarr", attributes={"title": "all"})
    root.create_array("other", data=np.arange(3))
    before = files(tmp_path / "all.zarr")
    embedding = embed(cube())
    place = StorePath(LocalStore(tmp_path / "all.zarr"), "s2/embedding")
    for options in ({}, {"resume": True}, {"overwrite": True}):
        embedding.terramind.to_zarr(place, **options)
        assert before.items() <= files(tmp_path / "all.zarr").items()
        assert_written(embedding, tmp_path / "all.zarr", group="s2/embedding")


# -- What runs ----------------------------------------------------------------------------------


def test_each_chunk_of_the_cube_is_read_once(tmp_path):
    source, reads = counted(scene(64, 64), y=20, x=24)
    embed(source).terramind.to_zarr(tmp_path / "e.zarr")
    assert len(reads) == len(set(reads)) == 12


def test_a_selection_reads_only_what_it_needs(tmp_path):
    source, reads = counted(scene(64, 64), y=32, x=32)
    embed(source).isel(y=slice(2), x=slice(2, 4)).terramind.to_zarr(tmp_path / "e.zarr")
    assert [place[-2:] for place in reads] == [(0, 1)]


def test_the_embedding_itself_is_left_alone(tmp_path):
    embedding = embed(cube())
    attrs, name = dict(embedding.attrs), embedding.data.name
    embedding.terramind.to_zarr(tmp_path / "e.zarr")
    assert embedding.attrs == attrs and embedding.data.name == name
    assert embedding.attrs["precision"] == "auto"


def test_keys_say_what_runs_and_are_the_same_next_time(tmp_path):
    seen = []

    def scheduler(graph, keys, **options):
        seen.append({str(key) for key in graph})
        return dask.get(graph, keys, **options)

    for _ in range(2):
        with dask.config.set(scheduler=scheduler):
            embed(cube()).terramind.to_zarr(tmp_path / "e.zarr", overwrite=True)
    one, other = (keys for keys in seen if any("terramind-write-" in key for key in keys))
    assert one == other
    assert sum("terramind-write-" in key for key in one) == 4
    assert any("terramind-embed-" in key for key in one)


def test_progress_counts_blocks_and_says_their_rate(tmp_path, capsys):
    out = io.StringIO()
    console = Console(file=out, width=160, force_terminal=True, color_system=None)
    embed(cube(3)).terramind.to_zarr(tmp_path / "e.zarr", progress=console)
    assert "12 of 12 blocks" in out.getvalue() and "blocks/s" in out.getvalue()
    embed(cube(3)).terramind.to_zarr(tmp_path / "f.zarr", progress=True)
    assert "12 of 12 blocks" in " ".join(capsys.readouterr().err.split())


def test_nobody_is_told_unless_they_ask(tmp_path, capfd):
    embed(cube()).terramind.to_zarr(tmp_path / "e.zarr")
    printed = capfd.readouterr()
    assert not printed.out and not printed.err


def test_dasks_own_progress_bar_works(tmp_path):
    out = io.StringIO()
    with ProgressBar(out=out, dt=0.01):
        embed(cube()).terramind.to_zarr(tmp_path / "e.zarr")
    assert "100% Completed" in out.getvalue()


# -- What is refused, with nothing changed and nothing computed ---------------------------------


def no_group(path):
    (path / "sub").mkdir(parents=True)
    (path / "sub" / "letter.txt").write_text("dear")


def old_group(path):
    zarr.create_group(path, zarr_format=2)


def an_array(path):
    zarr.create_array(path, data=np.arange(3))


def another_dataset(path):
    xr.Dataset({"a": ("x", [1, 2])}).to_zarr(path, consolidated=False)


def an_embedding(path):
    embed(cube()).terramind.to_zarr(path)


def plain_file(path):
    path.write_text("dear")


REFUSED = {
    "embedding": (an_embedding, {}, "resume=True"),
    "dataset": (another_dataset, {}, "resume=True"),
    "dataset, to go on with": (another_dataset, {"resume": True}, "variables a"),
    "folder": (no_group, {}, "no Zarr 3 group"),
    "folder, to overwrite": (no_group, {"overwrite": True}, "no Zarr 3 group"),
    "folder, to go on with": (no_group, {"resume": True}, "no Zarr 3 group"),
    "file": (plain_file, {}, "e.zarr"),
    "file, to overwrite": (plain_file, {"overwrite": True}, "e.zarr"),
    "array, to overwrite": (an_array, {"overwrite": True}, "e.zarr"),
    "Zarr 2, to overwrite": (old_group, {"overwrite": True}, "no Zarr 3 group"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_stands_is_not_touched(kind, tmp_path):
    prepare, options, words = REFUSED[kind]
    prepare(tmp_path / "e.zarr")
    before = files(tmp_path)
    with pytest.raises(xtm.StoreError, match=words) as caught:
        embed(sealed(scene(64, 64))).terramind.to_zarr(tmp_path / "e.zarr", **options)
    assert isinstance(caught.value, FileExistsError) == (not options and "resume=True" == words)
    assert files(tmp_path) == before


def test_nor_what_is_only_to_be_read(tmp_path):
    embedding = embed(sealed(scene(64, 64)))
    with pytest.raises(xtm.StoreError, match="read-only"):
        embedding.terramind.to_zarr(LocalStore(tmp_path / "e.zarr", read_only=True))
    an_embedding(tmp_path / "f.zarr")
    before = files(tmp_path)
    with pytest.raises(xtm.StoreError, match="read-only"):
        embedding.terramind.to_zarr(LocalStore(tmp_path / "f.zarr", read_only=True), overwrite=True)
    assert files(tmp_path) == before and not (tmp_path / "e.zarr").exists()


@pytest.mark.parametrize("target", ["nosuch://bucket/e.zarr", 7, None, {}], ids=str)
def test_nor_what_is_no_store(target, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(xtm.StoreError, match=r"found .*; expected"):
        embed(sealed(scene(64, 64))).terramind.to_zarr(target)
    assert not list(tmp_path.iterdir())


def test_nor_is_anything_else_written(tmp_path):
    embedding = embed(sealed(scene(64, 64)))
    for other in (cube(), embedding.isel(feature=0), embedding.drop_attrs()):
        with pytest.raises(xtm.GridError, match="model_key"):
            other.terramind.to_zarr(tmp_path / "e.zarr")
    assert not list(tmp_path.iterdir())


# -- A disk that is full ------------------------------------------------------------------------


class Limited(WrapperStore):
    """A store with room for so many blocks; ``room`` is a list, to be filled up later."""

    def __init__(self, store, room):
        super().__init__(store)
        self.room = room

    def _with_store(self, store):
        return type(self)(store, self.room)

    async def set(self, key, value):
        if "embedding/c/" in key:
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.room.pop()
        await super().set(key, value)


@pytest.mark.parametrize("n_blocks", range(4))
def test_a_full_disk_is_said_at_once_and_resumed(n_blocks, tmp_path):
    source, reads = counted(scene(64, 64), y=32, x=32)
    embedding = embed(source)
    store = Limited(LocalStore(tmp_path / "e.zarr"), [None] * n_blocks)
    with pytest.raises(xtm.StoreError, match=r"No space left.*resume=True"):
        embedding.terramind.to_zarr(store)
    assert len(blocks(tmp_path / "e.zarr")) == n_blocks
    store.room.extend([None] * 9)
    reads.clear()
    embedding.terramind.to_zarr(store, resume=True)
    assert len(reads) == 4 - n_blocks
    assert_written(embedding, tmp_path / "e.zarr")


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, and the function that sets its size in kB."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def size(kb: int, *flags: str) -> bool:
        options = ",".join([f"size={kb}k", *flags])
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            return subprocess.run(command, capture_output=True).returncode == 0
        except FileNotFoundError:
            return False

    if not size(4):
        pytest.skip("no right to mount")
    yield folder, lambda kb: size(kb, "remount")
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("kb", [4, 16, 40, 72])
def test_so_is_a_real_one(kb, disk, tmp_path):
    folder, set_size = disk
    embedding = embed(cube())
    embedding.terramind.to_zarr(tmp_path / "unbroken.zarr")
    assert set_size(kb)
    with pytest.raises(xtm.StoreError, match="No space left"):
        embedding.terramind.to_zarr(folder / "e.zarr")
    assert set_size(4096)
    embedding.terramind.to_zarr(folder / "e.zarr", resume=True)
    assert files(folder / "e.zarr") == files(tmp_path / "unbroken.zarr")


class Forgetful(WrapperStore):
    """A store that says yes and keeps no block, as a worker's own memory or disk would."""

    async def set(self, key, value):
        if "/c/" not in key or "embedding" not in key:
            await super().set(key, value)


def test_blocks_that_did_not_arrive_are_missed():
    with pytest.raises(xtm.StoreError, match=r"4 of 4 blocks .*share"):
        embed(cube()).terramind.to_zarr(Forgetful(MemoryStore()))


# -- Blocks that cannot be embedded -------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_a_broken_chunk_takes_no_other_block_down(scheduler, tmp_path):
    attempts = []

    def break_one(place):
        if place == (1, 0):
            attempts.append(place)
            raise TimeoutError("no answer from the tile server")

    source = cube()
    broken = embed(reading(source, break_one))
    with dask.config.set(scheduler=scheduler), pytest.raises(xtm.SourceError) as caught:
        broken.terramind.to_zarr(tmp_path / "e.zarr", retries=2)
    message = str(caught.value)
    assert len(attempts) == 3
    for words in (
        "1 of 4 blocks",
        "TimeoutError: no answer from the tile server",
        f"y {broken.y.values[2]} to {broken.y.values[3]}",
        f"x {broken.x.values[0]} to {broken.x.values[1]}",
        "the other 3",
        "resume=True",
    ):
        assert words in message
    assert blocks(tmp_path / "e.zarr") == {"0/0/0", "0/0/1", "0/1/1"}

    places = []
    mended = embed(reading(source, places.append))
    mended.terramind.to_zarr(tmp_path / "e.zarr", resume=True)
    assert places == [(1, 0)]
    assert_written(mended, tmp_path / "e.zarr")


def test_many_broken_chunks_are_not_all_listed(tmp_path):
    def break_all(place):
        raise OSError("gone")

    source = reading(scene(64, 64, 5).chunk(time=1, y=32, x=32), break_all)
    with pytest.raises(xtm.SourceError, match="20 of 20 blocks") as caught:
        embed(source).terramind.to_zarr(tmp_path / "e.zarr", retries=0)
    message = str(caught.value)
    assert message.count("time 2022") == 5 and "and 15 more" in message


def test_a_chunk_that_fails_once_is_tried_again(tmp_path):
    failed = set()

    def break_once(place):
        if place not in failed:
            failed.add(place)
            raise TimeoutError("try later")

    embedding = embed(reading(cube(), break_once))
    embedding.terramind.to_zarr(tmp_path / "e.zarr")
    assert len(failed) == 4
    assert_written(embedding, tmp_path / "e.zarr")


def test_but_not_without_retries(tmp_path):
    attempts = []

    def break_always(place):
        attempts.append(place)
        raise TimeoutError("try later")

    with pytest.raises(xtm.SourceError, match="4 of 4"):
        embed(reading(cube(), break_always)).terramind.to_zarr(tmp_path / "e.zarr", retries=0)
    assert len(attempts) == 4


@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_a_wrong_unit_ends_it_at_the_first_block(scheduler, tmp_path):
    source, reads = counted((scene(64, 64, 8) / 1e4).astype("float32"), time=1, y=32, x=32)
    with (
        dask.config.set(scheduler=scheduler, num_workers=2),
        pytest.raises(xtm.ValueRangeError, match="10000"),
    ):
        embed(source).terramind.to_zarr(tmp_path / "e.zarr")
    assert len(reads) == len(set(reads)) < 32
    assert not blocks(tmp_path / "e.zarr")


@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_ctrl_c_leaves_whole_blocks_only(scheduler, tmp_path):
    begun = []

    def interrupt(place):
        begun.append(place)
        if len(begun) == 6:
            os.kill(os.getpid(), signal.SIGINT)  # as a terminal does: it reaches the main thread
            time.sleep(0.2)

    source = cube(5)
    with dask.config.set(scheduler=scheduler, num_workers=2), pytest.raises(KeyboardInterrupt):
        embed(reading(source, interrupt)).terramind.to_zarr(tmp_path / "e.zarr")
    standing = files(tmp_path / "e.zarr")
    n_blocks = len(blocks(tmp_path / "e.zarr"))
    assert n_blocks < 20 and not [name for name in standing if name.endswith(".partial")]
    time.sleep(0.2)
    assert files(tmp_path / "e.zarr") == standing  # nobody is still writing

    places = []
    embedding = embed(reading(source, places.append))
    embedding.terramind.to_zarr(tmp_path / "e.zarr", resume=True)
    assert len(places) == 20 - n_blocks
    assert_written(embedding, tmp_path / "e.zarr")
