"""Going on with a store that was begun: nothing twice, nothing missing, nothing of another cube."""

import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import torch
import xarray as xr
from dask.base import tokenize
from hypothesis import given, settings
from hypothesis import strategies as st

import xr_terramind as xtm
from tests.support.blocks import small_blocks
from tests.support.cubes import embed, scene
from tests.support.weights import save, shapes_of
from xr_terramind.model.random_weights import random_weights

N_BLOCKS = 4
N_THREADS = 2
N_FILES = 28
"""That `begin` writes or writes anew, one after the other; the blocks are the last 8 of them."""

pytestmark = pytest.mark.usefixtures("small_blocks", "one_thread")


def noting(note, source: xr.DataArray | None = None, **chunks: int) -> xr.DataArray:
    """The cube, which calls ``note(place)`` as a chunk is read; its name does not say so.

    Its chunks are the blocks, where nothing else is asked for.
    """
    source = scene(64, 64) if source is None else source
    data = source.chunk(chunks or {"y": 32, "x": 32}).data

    def read(block, block_info=None):
        note(tuple(block_info[None]["chunk-location"])[-2:])
        return block

    name = f"noting-{tokenize(source.values, data.chunks)}"
    read.__dask_tokenize__ = lambda: name  # Dask of 2025 adds the function to the name
    return source.copy(data=da.map_blocks(read, data, dtype=data.dtype, meta=data._meta, name=name))


def files(folder: Path) -> dict[str, bytes]:
    """Name and content of every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def write(folder: Path, *, source: xr.DataArray | None = None, **options) -> list:
    """Write, or go on; the blocks that were embedded."""
    places: list = []
    embedding = embed(noting(places.append, source), **options)
    embedding.terramind.to_zarr(folder, resume=True)
    return places


def remove_block(folder: Path, name: str, array: str = "embedding") -> None:
    (folder / array / "c" / name).unlink()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """What a run leaves that nothing has come between."""
    folder = tmp_path_factory.mktemp("unbroken") / "e.zarr"
    assert len(write(folder)) == N_BLOCKS
    return folder


@pytest.fixture
def begun(unbroken, tmp_path):
    """A copy of it without its last block."""
    shutil.copytree(unbroken, tmp_path / "e.zarr")
    remove_block(tmp_path / "e.zarr", "0/1/1")
    return tmp_path / "e.zarr"


# -- Nothing twice ------------------------------------------------------------------------------

KINDS = {
    "grid": (1, {}),
    "windows": (1, {"output": "windows"}),
    "pooled": (1, {"output": "pooled"}),
    "resized": (1, {"fit": "resize"}),
    "overlap": (1, {"window_size": 48, "overlap": 32}),
    "dates": (3, {}),
    "dates, pooled": (3, {"output": "pooled"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_complete_store_is_not_computed_again(kind, tmp_path):
    n_times, options = KINDS[kind]
    source = scene(64, 64, n_times)
    assert write(tmp_path / "e.zarr", source=source, **options)
    before = files(tmp_path / "e.zarr")
    assert write(tmp_path / "e.zarr", source=source, **options) == []
    assert files(tmp_path / "e.zarr") == before


@settings(max_examples=10, deadline=None)
@given(
    st.sets(
        st.tuples(
            st.sampled_from(["embedding", "valid_fraction"]), st.integers(0, 1), st.integers(0, 1)
        )
    )
)
def test_what_is_missing_is_computed_and_nothing_else(unbroken, removed):
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "e.zarr"
        shutil.copytree(unbroken, store)
        for array, row, col in removed:
            remove_block(store, f"{'0/' * (array == 'embedding')}{row}/{col}", array)
        assert sorted(write(store)) == sorted({(row, col) for _, row, col in removed})
        assert files(store) == files(unbroken)


def test_a_date_that_is_missing_is_all_that_is_read(tmp_path):
    source = scene(32, 32, 4)
    write(tmp_path / "e.zarr", source=source)
    before = files(tmp_path / "e.zarr")
    remove_block(tmp_path / "e.zarr", "2/0/0/0")
    dates = []

    def read(block, block_info=None):
        dates.append(block_info[None]["chunk-location"][0])
        return block

    data = source.chunk(time=1).data
    data = da.map_blocks(read, data, dtype=data.dtype, meta=data._meta)
    # Of another name, so that one block that stands is embedded again, to see that it is the same.
    embed(source.copy(data=data)).terramind.to_zarr(tmp_path / "e.zarr", resume=True)
    assert 2 in dates and len(dates) == 2
    before.pop("zarr.json")
    assert before.items() <= files(tmp_path / "e.zarr").items()


def test_where_there_is_nothing_it_begins(unbroken, tmp_path):
    write(tmp_path / "e.zarr")
    assert files(tmp_path / "e.zarr") == files(unbroken)


def test_what_was_torn_is_removed(unbroken, begun):
    (begun / "embedding/c/0/1/1.abc.partial").write_bytes(b"half")
    (begun / "zarr.abc.partial").write_bytes(b"{")
    assert write(begun) == [(1, 1)]
    assert files(begun) == files(unbroken)


# -- Processes that are killed ------------------------------------------------------------------


def kill_at_file(moment: str, n: int) -> None:
    """Have this process killed at its n-th file: before the file gets its name, or just after."""
    replace, unlink, count = pathlib.Path.replace, os.unlink, itertools.count(1)

    def die_if(so: bool) -> None:
        if so:
            os.kill(os.getpid(), signal.SIGKILL)

    def replace_and_die(self, target):
        at = next(count)
        die_if(at == n and moment == "torn")
        replace(self, target)
        die_if(at == n and moment == "written")

    def unlink_and_die(*args, **options):
        at = next(count)
        unlink(*args, **options)
        die_if(at == n)

    if moment == "removed":
        os.unlink = unlink_and_die
    else:
        pathlib.Path.replace = replace_and_die


def begin(store: Path, **options) -> None:
    """Write, with a line in a file beside the store for each block that is embedded."""
    log = os.open(f"{store}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    source = noting(lambda place: os.write(log, b"%d/%d\n" % place))
    with dask.config.set(num_workers=N_THREADS):
        embed(source).terramind.to_zarr(store, **options)


def begin_and_die(folder: str, moments: list[tuple[str, int]]) -> None:
    """Begin once for each moment, each time in a process of its own that is killed then."""
    # All is imported and the model loaded, but PyTorch has no threads yet: to fork is safe.
    torch.set_num_threads(1)
    embed(scene(32, 32))
    ends = {}
    for moment, n in moments:
        child = os.fork()
        if not child:
            kill_at_file(moment, n)
            options = {"overwrite": True} if moment == "removed" else {}
            with small_blocks():
                begin(Path(folder) / f"{moment}-{n}.zarr", **options)
            os._exit(0)
        ends[f"{moment}-{n}"] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps(ends))


WRITING = [("written", n) for n in (*range(1, N_FILES, 3), N_FILES)]
TEARING = [("torn", n) for n in (1, *range(2, N_FILES, 3), N_FILES)]
REMOVING = [("removed", n) for n in (1, 5, 9, 13, 17)]


@pytest.fixture(scope="module")
def killed(unbroken, tmp_path_factory):
    """A folder of stores that were being written, or overwritten, by processes that died."""
    folder = tmp_path_factory.mktemp("killed")
    moments = [*WRITING, *TEARING, *REMOVING]
    for moment, n in REMOVING:
        shutil.copytree(unbroken, folder / f"{moment}-{n}.zarr")
    code = (
        f"from tests.outside import test_kills as t; t.begin_and_die({str(folder)!r}, {moments!r})"
    )
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        check=True,
    )
    assert set(json.loads(run.stdout).values()) == {-signal.SIGKILL}
    return folder


@pytest.mark.parametrize(("moment", "n"), [*WRITING, *TEARING])
def test_after_any_file_it_goes_on_to_the_same_store(moment, n, killed, unbroken):
    store = killed / f"{moment}-{n}.zarr"
    torn = [name for name in files(store) if name.endswith(".partial")]
    assert torn or moment == "written"  # files are written side by side: more may be torn
    log = Path(f"{store}.log")
    before = len(log.read_text().splitlines())
    after = len(write(store))
    assert N_BLOCKS <= before + after <= N_BLOCKS + N_THREADS
    assert files(store) == files(unbroken)


@pytest.mark.parametrize(("moment", "n"), REMOVING)
def test_killed_while_it_removes_what_was_there_it_can_be_called_again(moment, n, killed, unbroken):
    store = killed / f"{moment}-{n}.zarr"
    embed(noting(lambda place: None)).terramind.to_zarr(store, overwrite=True)
    assert files(store) == files(unbroken)


def test_an_unfinished_layout_is_begun_anew_though_nobody_said_resume(unbroken, begun):
    path = begun / "zarr.json"
    metadata = json.loads(path.read_text())
    metadata["attributes"]["xr_terramind:unfinished"] = 1
    path.write_text(json.dumps(metadata))
    (begun / "y/zarr.json").unlink()
    embed(noting(lambda place: None)).terramind.to_zarr(begun)
    assert files(begun) == files(unbroken)


# -- What is of something else ------------------------------------------------------------------


def shifted(source, **by):
    return source.assign_coords({dim: source[dim] + step for dim, step in by.items()})


OTHERS = {
    "layer": (lambda s: embed(s, layer=3), "layer_index is 3 here and -1 there"),
    "model": (lambda s: embed(s, model="terramind_v1_small"), "model_key is 'terramind_v1_small'"),
    "window": (lambda s: embed(s, window_size=64), "image_size is 64 here and 32 there"),
    "overlap": (lambda s: embed(s, window_size=64, overlap=32), "overlap is 32 here and 0 there"),
    "fit": (lambda s: embed(s, fit="resize"), "fit is 'resize' here and 'windows' there"),
    "output": (lambda s: embed(s, output="windows"), "output is 'windows' here and 'grid' there"),
    "statistics": (lambda s: embed(s, normalize="raw"), "normalization is 'raw' here"),
    "clip": (lambda s: embed(s, clip=(0, 9000)), r"clip is \[.*9000.*\] here and \[.*10000.*\]"),
    "validity": (lambda s: embed(s, min_valid_fraction=0.5), "min_valid_fraction is 0.5 here"),
    "precision": (lambda s: embed(s, precision="bfloat16"), "precision is 'bfloat16' here"),
    "extent": (lambda s: embed(s.isel(x=slice(48))), "sizes are .*'x': 3.* here and .*'x': 4"),
    "place": (lambda s: embed(shifted(s, x=10)), r"x\[0\] is 440090.* here and 440080.* there"),
    "CRS": (lambda s: embed(s.rio.write_crs(32633)), "the CRS is EPSG:32633 here"),
    "day": (lambda s: embed(shifted(s, time=np.timedelta64(1, "D"))), "temporal_start is"),
    "pixels": (lambda s: embed(s + np.uint16(300)), "embedded again differs .* by"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_embedding_is_refused_and_told_apart(kind, begun):
    make, words = OTHERS[kind]
    before = files(begun)
    other = make(scene(64, 64).chunk(y=32, x=32))
    with pytest.raises(xtm.StoreError, match=words) as caught:
        other.terramind.to_zarr(begun, resume=True)
    assert "overwrite=True" in str(caught.value)
    assert files(begun) == before


def test_all_differences_are_said_at_once(begun):
    other = embed(shifted(scene(64, 64).chunk(), y=10, x=20), layer=2, min_valid_fraction=0.1)
    with pytest.raises(xtm.StoreError) as caught:
        other.terramind.to_zarr(begun, resume=True)
    for words in ("layer_index", "min_valid_fraction", "y[0]", "x[0]"):
        assert words in str(caught.value)


def test_other_dates_are_refused(tmp_path):
    source = scene(32, 32, 3)
    write(tmp_path / "e.zarr", source=source)
    # Between the first and the last, which attributes name.
    middle = source.time.values + np.array([0, 86400, 0], "m8[s]")
    with pytest.raises(xtm.StoreError, match=r"time\[1\] is 2022.* here and 2022.* there"):
        write(tmp_path / "e.zarr", source=source.assign_coords(time=middle))


def test_other_pixels_are_seen_though_the_middle_of_the_scene_has_none(tmp_path):
    # A satellite's swath leaves half of many scenes empty; what is empty says nothing.
    source = scene(64, 64)
    source[:, 32:], source[:, :, 32:] = 0, 0
    write(tmp_path / "e.zarr", source=source)
    other = source.copy(data=np.where(source > 0, source + 300, 0).astype(np.uint16))
    with pytest.raises(xtm.StoreError, match="differs"):
        write(tmp_path / "e.zarr", source=other)


def weights_file(path: Path, seed: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    return save(random_weights(shapes_of(), seed), path)


def test_weights_are_known_by_their_content_not_by_their_place(tmp_path):
    one = weights_file(tmp_path / "one/tiny.pt", seed=1)
    write(tmp_path / "e.zarr", weights=str(one))
    before = files(tmp_path / "e.zarr")
    remove_block(tmp_path / "e.zarr", "0/0/1")

    one.rename(tmp_path / "moved.pt")
    other = weights_file(one, seed=2)
    with pytest.raises(xtm.StoreError, match=r"weights_sha256 is '.*' here and '.*' there"):
        write(tmp_path / "e.zarr", weights=str(other))
    with pytest.raises(xtm.StoreError, match="weights"):
        write(tmp_path / "e.zarr")

    embedded = write(tmp_path / "e.zarr", weights=str(tmp_path / "moved.pt"))
    assert (0, 1) in embedded and len(embedded) <= 2
    assert files(tmp_path / "e.zarr") == before


# -- What is the same all the same --------------------------------------------------------------

SAME = {
    "other chunks": lambda s: embed(s.chunk(y=17, x=64)),
    "other batches": lambda s: embed(s.chunk(y=32, x=32), batch_size=1),
    "any device": lambda s: embed(s.chunk(y=32, x=32), device="auto"),
    "settled by hand": lambda s: embed(
        s.chunk(y=32, x=32), device="cpu", engine="torch", precision="float32"
    ),
}


@pytest.mark.parametrize("kind", SAME)
def test_the_same_is_not_refused(kind, begun, unbroken):
    embedding = SAME[kind](scene(64, 64))
    embedding.terramind.to_zarr(begun, resume=True)
    for name in ("embedding", "valid_fraction"):
        got, expected = (
            xr.open_zarr(store, consolidated=False, decode_coords="all")[name]
            for store in (begun, unbroken)
        )
        np.testing.assert_allclose(got, expected, atol=1e-5)
    assert files(begun).keys() == files(unbroken).keys()


def test_a_fill_value_that_is_no_number_is_the_same_the_next_time(tmp_path):
    source = scene(64, 64).astype("float32").assign_attrs(fill_value=np.nan)
    write(tmp_path / "e.zarr", source=source)
    assert write(tmp_path / "e.zarr", source=source) == []


def test_a_later_version_may_go_on(begun, monkeypatch):
    monkeypatch.setattr("xr_terramind.result.attrs.__version__", "9.9")
    assert write(begun) == [(1, 1)]


def test_from_a_cube_that_was_read_into_memory(begun):
    # Its blocks would be laid out otherwise; that is said, and nothing is written.
    before = files(begun)
    with pytest.raises(xtm.StoreError, match=r"blocks of \(192, 2, 2\) cells"):
        embed(scene(64, 64)).terramind.to_zarr(begun, resume=True)
    assert files(begun) == before
