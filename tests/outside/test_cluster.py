"""On worker processes, which come and go: what comes out is what one process gives."""

import errno
import importlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import dask
import dask.array as da
import distributed
import ee
import numpy as np
import psutil
import pytest
import rioxarray
import xarray as xr
from rich.console import Console
from zarr.storage import LocalStore, MemoryStore, WrapperStore

import xr_terramind as xtm
from tests.support.cubes import BANDS, assert_same_embedding, embed, scene
from tests.support.weights import make_state, save
from tests.support.workers import connected, local_cluster
from xr_terramind.inference import loaded

N_BLOCKS = 16
BLOCK = re.compile(r"terramind-embed-[0-9a-f]+")


pytestmark = pytest.mark.usefixtures("small_blocks")


@pytest.fixture(scope="module")
def two_threads():
    """One process with two threads, and one GPU as Dask counts them."""
    with local_cluster(n_workers=1, threads_per_worker=2, resources={"GPU": 1}) as workers:
        yield workers


@pytest.fixture(scope="module")
def mortal():
    """Two processes to be killed: a task that two of them died of is given up."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        local_cluster(n_workers=2, threads_per_worker=1) as workers,
    ):
        yield workers


@pytest.fixture
def client_of_threads(two_threads):
    yield from connected(two_threads)


@pytest.fixture
def client_of_mortals(mortal):
    yield from connected(mortal)


def cube(n_times: int = 1) -> xr.DataArray:
    """Sixteen windows of 32 x 32 pixels, in chunks that draw themselves where they are needed."""
    chunks = {"band": -1, "y": 32, "x": 32} | ({"time": 1} if n_times > 1 else {})
    return xtm.sample_scene(128, time=n_times, chunks=chunks)


def here(embedding: xr.DataArray) -> xr.DataArray:
    """Computed by this process alone."""
    return embedding.compute(scheduler="synchronous")


def opened(store: Path) -> xr.DataArray:
    """As somebody reads it who knows xarray only, without the cluster."""
    stored = xr.open_zarr(store, consolidated=False, decode_coords="all", chunks=None)
    return stored["embedding"].load()


def blocks(store: Path) -> set[tuple[int, int]]:
    """Row and column of the blocks that stand."""
    found = (store / "embedding/c").glob("*/*/*")
    return {tuple(int(part) for part in path.parts[-2:]) for path in found if path.suffix == ""}


def reading(source: xr.DataArray, before) -> xr.DataArray:
    """The cube, on which a worker calls ``before(place)`` before it reads the chunk there."""

    def read(block, block_info=None):
        before(tuple(block_info[None]["chunk-location"])[-2:])
        return block

    data = source.data
    # The name is the same whatever comes before, as that of a source that is mended.
    name = f"reading-{data.name}"
    read.__dask_tokenize__ = lambda: name  # Dask of 2025 adds the function to the name
    return source.copy(data=da.map_blocks(read, data, dtype=data.dtype, meta=data._meta, name=name))


def logged(path: Path):
    """Give a function that adds a place to a file, from whatever process."""

    def note(place):
        with open(path, "a") as file:
            file.write(f"{place[0]} {place[1]}\n")

    return note


def noted(path: Path) -> Counter:
    """How often each place was added to the file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return Counter(tuple(int(part) for part in line.split()) for line in lines)


class Watch(distributed.SchedulerPlugin):
    """What the scheduler is asked for, and how many blocks were embedded."""

    name = "watch"

    def __init__(self):
        self.graphs = []
        self.n_blocks = 0

    def update_graph(self, scheduler, *, tasks, annotations, **more):
        self.graphs.append((set(tasks), annotations))

    def transition(self, key, start, finish, *args, **more):
        self.n_blocks += (start, finish) == ("processing", "memory") and is_block(key)


def is_block(key) -> bool:
    return isinstance(key, tuple) and bool(BLOCK.fullmatch(str(key[0])))


def watched(workers) -> Watch:
    watch = Watch()
    if watch.name in workers.scheduler.plugins:
        workers.scheduler.remove_plugin(watch.name)  # of an earlier test
    workers.scheduler.add_plugin(watch)
    return watch


def wait_until(is_so, timeout_s: float = 10) -> bool:
    end = time.monotonic() + timeout_s
    while not is_so() and time.monotonic() < end:
        time.sleep(0.02)
    return is_so()


# -- The same as without a cluster --------------------------------------------------------------


def from_geotiff(folder: Path) -> xr.DataArray:
    scene(64, 64).drop_vars("time").rio.to_raster(folder / "s2.tif", tiled=True, blockxsize=32)
    source = rioxarray.open_rasterio(folder / "s2.tif", chunks={"x": 32, "y": 32})
    return source.assign_coords(band=BANDS)


def from_zarr(folder: Path, n_times: int = 1) -> xr.DataArray:
    chunks = {"y": 20, "x": 24} | ({"time": 2} if n_times > 1 else {})
    source = scene(64, 64, n_times).chunk(chunks).assign_coords(band=np.arange(12))
    source.to_dataset(name="s2").to_zarr(folder / "s2.zarr", consolidated=False)
    stored = xr.open_zarr(folder / "s2.zarr", consolidated=False, decode_coords="all")
    return stored["s2"].assign_coords(band=BANDS)


KINDS = {
    "GeoTIFF": lambda folder: embed(from_geotiff(folder)),
    "Zarr": lambda folder: embed(from_zarr(folder)),
    "overlap": lambda folder: embed(from_zarr(folder), window_size=48, overlap=32),
    "dates": lambda folder: embed(from_zarr(folder, 3)),
    "dates, overlap": lambda folder: embed(from_zarr(folder, 3), window_size=48, overlap=32),
    "pooled": lambda folder: embed(from_zarr(folder, 3), output="pooled"),
    "windows": lambda folder: embed(from_geotiff(folder), output="windows"),
    "resized": lambda folder: embed(from_geotiff(folder), fit="resize"),
    "in memory": lambda folder: embed(scene(64, 64)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_workers_give_what_one_process_gives(kind, client, tmp_path):
    embedding = KINDS[kind](tmp_path)
    expected = here(embedding)
    found = [embedding.compute()]
    embedding.terramind.to_zarr(tmp_path / "e.zarr")
    found.append(opened(tmp_path / "e.zarr"))
    for one in found:
        xr.testing.assert_allclose(one, expected, atol=1e-5, rtol=0)
        assert np.array_equal(np.isnan(one), np.isnan(expected))


def test_at_native_size_too(client, tmp_path):
    source = xtm.sample_scene(448, chunks={"y": 200, "x": 256})
    embedding = source.terramind.embed(model="terramind_v1_tiny", weights="random")
    assert embedding.data.npartitions == 4
    embedding.terramind.to_zarr(tmp_path / "e.zarr")
    assert_same_embedding(opened(tmp_path / "e.zarr"), here(embedding))


def test_what_workers_hold_already_is_used(client, tmp_path):
    source, expected = cube().persist(), here(embed(cube()))
    assert_same_embedding(embed(source).compute(), expected)
    embed(source).terramind.to_zarr(tmp_path / "source.zarr")
    assert_same_embedding(opened(tmp_path / "source.zarr"), expected)


def test_so_are_vectors_that_they_hold(client, tmp_path):
    embedding = embed(cube())
    expected = here(embedding)
    watch = watched(client.cluster)
    embedding = embedding.persist()
    embedding.terramind.to_zarr(tmp_path / "e.zarr")
    assert_same_embedding(opened(tmp_path / "e.zarr"), expected)
    assert watch.n_blocks == N_BLOCKS


def test_a_client_may_be_named_and_not_be_the_default(two_processes, tmp_path):
    with distributed.Client(two_processes, set_as_default=False) as client:
        watch = watched(two_processes)
        with dask.config.set(scheduler=client):
            embed(cube()).terramind.to_zarr(tmp_path / "e.zarr")
        assert watch.n_blocks == N_BLOCKS
    assert_same_embedding(opened(tmp_path / "e.zarr"), here(embed(cube())))


def test_one_store_is_begun_here_and_finished_there(client, tmp_path):
    read = tmp_path / "read"
    embedding = embed(reading(cube(), logged(read)))
    corner = tmp_path / "e.zarr/embedding/c/0/2/1"
    with dask.config.set(scheduler="synchronous"):
        embedding.terramind.to_zarr(tmp_path / "e.zarr")
    corner.unlink()
    read.unlink()
    embedding.terramind.to_zarr(tmp_path / "e.zarr", resume=True)
    assert noted(read).keys() - {(2, 1)} <= {(0, 0), (1, 1), (2, 2)}  # one is compared
    assert_same_embedding(opened(tmp_path / "e.zarr"), here(embed(cube())))


# -- Cubes that workers open themselves ---------------------------------------------------------


@pytest.fixture
def strangers(client, earth_engine, tmp_path):
    """Workers that know no credentials of Earth Engine and reach this machine only."""
    alone = {**earth_engine.environment, "HOME": str(tmp_path), "NO_GCE_CHECK": "true"}

    befores = client.run(take_credentials, alone)
    yield client
    client.run(give_back, befores)


def take_credentials(settings: dict[str, str]) -> dict[str, str]:
    """Run on a worker: forget Earth Engine, and have no settings but these."""
    ee.Reset()
    before = dict(os.environ)
    os.environ.pop("GOOGLE_APPLICATION_CREDENTIALS", None)
    os.environ.update(settings)
    return before


def give_back(befores: dict[str, dict[str, str]], dask_worker) -> None:
    """Run on a worker: leave it as it was."""
    ee.Reset()
    os.environ.clear()
    os.environ.update(befores[dask_worker.address])


def shanghai(**options) -> xr.DataArray:
    """Some 40 x 40 pixels in summer, as Earth Engine has them."""
    dates = {"start": "2022-06-01", "end": "2022-09-01"}
    return xtm.open_s2(point=(121.5, 31.2), buffer_m=200, **dates, **options)


def test_workers_initialise_earth_engine_themselves_and_give_the_same(strangers):
    source = shanghai(chunks={"y": 16, "x": 16}, bands=["B2", "B3"])
    xr.testing.assert_identical(source.compute(), here(source))
    assert any(strangers.run(ee.data.is_initialized).values())


def test_a_worker_without_credentials_says_how_to_pass_them(strangers):
    source = shanghai(bands=["B2"], ee_init={"url": "http://127.0.0.1:9", "project": "x"})
    with pytest.raises(xtm.SourceError, match=r"(?s)^found .+; expected .+\. .*ee_init"):
        source.compute()


# -- The graph ----------------------------------------------------------------------------------


def test_a_small_graph_goes_to_the_scheduler(client, tmp_path, monkeypatch):
    sizes = []
    get = distributed.Client.get

    def measured(self, graph, *args, **options):
        pickled = distributed.protocol.pickle.dumps(graph)
        sizes.append((len(pickled), b"torch.nn" in pickled or b"Tensor" in pickled))
        return get(self, graph, *args, **options)

    monkeypatch.setattr(distributed.Client, "get", measured)
    source = cube()
    embed(source).terramind.to_zarr(tmp_path / "e.zarr")
    monkeypatch.undo()
    n_bytes, holds_model = max(sizes)
    # Of a model of 22 MB, nothing; of a block, a few names and numbers.
    assert not holds_model and n_bytes < 4000 * N_BLOCKS


def test_keys_say_what_runs_and_are_the_same_next_time(client, tmp_path):
    watch = watched(client.cluster)
    for _ in range(2):
        embed(cube()).terramind.to_zarr(tmp_path / "e.zarr", overwrite=True)
    one, other = (keys for keys, _ in watch.graphs if any(map(is_block, keys)))
    assert one == other
    names = Counter(key[0] for key in one)
    assert sum(map(is_block, one)) == N_BLOCKS
    assert sum(names[name] for name in names if name.startswith("terramind-write-")) == N_BLOCKS
    assert {name.rpartition("-")[0] for name in names if name.startswith("terramind-")} == {
        "terramind-embed",
        "terramind-embed-features",
        "terramind-embed-valid",
        "terramind-write",
    }


def test_nothing_stays_behind_on_the_cluster(client, tmp_path):
    def refuse(place):
        raise OSError("gone")

    embed(cube()).terramind.to_zarr(tmp_path / "e.zarr")
    with pytest.raises(xtm.SourceError):
        embed(reading(cube(), refuse)).terramind.to_zarr(tmp_path / "f.zarr", retries=0)
    scheduler = client.cluster.scheduler
    assert wait_until(lambda: not scheduler.tasks)


# -- One model a process ------------------------------------------------------------------------


def count_calls(module: str, name: str) -> None:
    """Run on a worker: note from now on how many calls of a function run at once, and where."""
    place = importlib.import_module(module)
    function = getattr(place, name)
    state = {"now": 0, "most": 0, "calls": 0, "threads": set()}
    lock = threading.Lock()

    def counted(*arguments):
        with lock:
            state["now"] += 1
            state["calls"] += 1
            state["most"] = max(state["most"], state["now"])
            state["threads"].add(threading.get_ident())
        try:
            return function(*arguments)
        finally:
            with lock:
                state["now"] -= 1

    counted.state, counted.function = state, function
    setattr(place, name, counted)


def counted_calls(module: str, name: str) -> dict:
    """Run on a worker: stop counting, and tell."""
    place = importlib.import_module(module)
    counted = getattr(place, name)
    setattr(place, name, counted.function)
    return counted.state


FORWARD_PASS = "xr_terramind.inference.loaded", "_run"  # what the model thread runs
BLOCK_TASK = "xr_terramind.blocks.graph", "run_block"


def loads() -> tuple[int, int]:
    """Run on a worker: models that it has loaded, and those that it still holds."""
    info = loaded._load_engine.cache_info()
    return info.misses, info.currsize


@pytest.mark.parametrize("which", ["client", "client_of_threads"])
def test_a_process_has_one_model_and_one_forward_pass_at_a_time(which, request, tmp_path):
    client = request.getfixturevalue(which)
    client.run(loaded._load_engine.cache_clear)
    client.run(count_calls, *FORWARD_PASS)
    embed(cube()[:, :64]).terramind.to_zarr(tmp_path / "e.zarr")
    embed(cube()[:, 64:96]).compute()  # another cube and graph, but the same model
    counts = client.run(counted_calls, *FORWARD_PASS).values()
    assert sum(count["calls"] for count in counts) == 8 + 4
    for count in counts:
        assert count["most"] == 1 and len(count["threads"]) == 1
    assert set(client.run(loads).values()) == {(1, 1)}


def test_the_model_has_all_cores_of_its_worker(client_of_threads, tmp_path):
    def threads():
        import torch

        said = os.environ.get("OMP_NUM_THREADS")
        return said, loaded.in_model_thread(torch.get_num_threads)

    embed(cube()[:, :32], engine="torch").compute()
    (found,) = client_of_threads.run(threads).values()
    # The nanny says one, as it thinks of many tasks at once.
    assert found == ("1", 2)


# -- Workers that have something special --------------------------------------------------------


@contextmanager
def at_once(client, n_expected: int, n_blocks: int):
    """Assert how many blocks its one worker embedded at the same time, at most."""
    client.run(count_calls, *BLOCK_TASK)
    yield
    (counts,) = client.run(counted_calls, *BLOCK_TASK).values()
    assert (counts["most"], counts["calls"]) == (n_expected, n_blocks)


def test_with_two_threads_blocks_run_side_by_side(client_of_threads, tmp_path):
    with at_once(client_of_threads, 2, n_blocks=8):
        embed(cube()[:, :64]).terramind.to_zarr(tmp_path / "e.zarr")


def test_blocks_that_need_a_gpu_run_one_at_a_time(client_of_threads, tmp_path):
    watch = watched(client_of_threads.cluster)
    with dask.annotate(resources={"GPU": 1}):
        embedding = embed(cube())
    with at_once(client_of_threads, 1, N_BLOCKS):
        embedding.terramind.to_zarr(tmp_path / "e.zarr")
    keys, annotations = next(graph for graph in watch.graphs if any(map(is_block, graph[0])))
    needed = annotations["resources"]
    assert {key for key in needed if is_block(key)} == {key for key in keys if is_block(key)}
    assert all(need == {"GPU": 1} for need in needed.values())
    others = {key[0] for key in keys - needed.keys()}
    assert any(name.startswith("terramind-write-") for name in others)
    assert set(annotations["priority"]) >= keys  # ours are not lost for it
    assert_same_embedding(opened(tmp_path / "e.zarr"), here(embedding))


def test_so_they_do_without_a_store(client_of_threads):
    with dask.annotate(resources={"GPU": 1}):
        embedding = embed(cube()[:, :64])
    # Where Dask fuses tasks, it forgets what was said of them.
    with (
        dask.config.set({"optimization.fuse.active": False}),
        at_once(client_of_threads, 1, n_blocks=8),
    ):
        embedding.compute()


def test_which_device_it_was_is_asked_where_blocks_run(client_of_threads, tmp_path):
    watch = watched(client_of_threads.cluster)
    with dask.annotate(resources={"GPU": 1}):
        embedding = embed(cube(), device="auto")
    embedding.terramind.to_zarr(tmp_path / "e.zarr")
    asked = [
        annotations.get("resources", {}).get(key)
        for keys, annotations in watch.graphs
        for key in keys
        if "resolve_runtime" in str(key)
    ]
    assert asked and all(need == {"GPU": 1} for need in asked)


# -- Workers that die ---------------------------------------------------------------------------


def test_a_killed_worker_costs_only_what_it_had_under_way(client_of_mortals, tmp_path):
    read, store = tmp_path / "read", tmp_path / "e.zarr"
    note = logged(read)

    def slowly(place):
        note(place)
        time.sleep(0.05)

    source = xtm.sample_scene(192, chunks={"band": -1, "y": 32, "x": 32})
    embedding = embed(reading(source, slowly))
    (victim, *_) = client_of_mortals.run(os.getpid).values()
    stood = []

    def kill():
        if wait_until(lambda: len(blocks(store)) >= 12, 30):
            stood.extend(blocks(store))
            time.sleep(0.1)  # until the client knows of them, too
            os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    embedding.terramind.to_zarr(store)
    killer.join()
    assert not psutil.pid_exists(victim) and 12 <= len(stood) < 36
    times = noted(read)
    assert len(times) == 36 and all(times[place] == 1 for place in stood)
    # One was being embedded; a few more chunks and blocks were held, and not yet written.
    assert times.total() - 36 <= 4
    assert_same_embedding(opened(store), here(embed(source)))


def test_a_block_that_kills_its_worker_takes_no_other_down(client_of_mortals, tmp_path):
    mended = tmp_path / "mended"

    def deadly(place):
        if place == (1, 2) and not mended.exists():
            os.kill(os.getpid(), signal.SIGKILL)

    embedding = embed(reading(cube(), deadly))
    with pytest.raises(xtm.SourceError, match="KilledWorker") as caught:
        embedding.terramind.to_zarr(tmp_path / "e.zarr")
    message = str(caught.value)
    assert "1 of 16 blocks" in message and "the other 15" in message
    assert f"y {embedding.y.values[2]} to {embedding.y.values[3]}" in message
    assert f"x {embedding.x.values[4]} to {embedding.x.values[5]}" in message
    assert len(blocks(tmp_path / "e.zarr")) == 15 and (1, 2) not in blocks(tmp_path / "e.zarr")

    mended.touch()
    embedding.terramind.to_zarr(tmp_path / "e.zarr", resume=True)
    assert_same_embedding(opened(tmp_path / "e.zarr"), here(embed(cube())))


# -- Blocks that fail ---------------------------------------------------------------------------


def test_a_broken_chunk_takes_no_other_block_down(client, tmp_path):
    read, mended = tmp_path / "read", tmp_path / "mended"
    note = logged(read)

    def break_one(place):
        note(place)
        if place == (1, 0) and not mended.exists():
            raise TimeoutError("no answer from the tile server")

    embedding = embed(reading(cube(), break_one))
    with pytest.raises(xtm.SourceError) as caught:
        embedding.terramind.to_zarr(tmp_path / "e.zarr", retries=1)
    message = str(caught.value)
    for words in (
        "1 of 16 blocks",
        "TimeoutError: no answer from the tile server",
        f"y {embedding.y.values[2]} to {embedding.y.values[3]}",
        f"x {embedding.x.values[0]} to {embedding.x.values[1]}",
        "the other 15",
    ):
        assert words in message
    assert noted(read)[1, 0] == 2 and noted(read).total() == 17
    assert len(blocks(tmp_path / "e.zarr")) == 15

    mended.touch()
    read.unlink()
    embedding.terramind.to_zarr(tmp_path / "e.zarr", resume=True)
    assert set(noted(read)) == {(1, 0)}
    assert_same_embedding(opened(tmp_path / "e.zarr"), here(embed(cube())))


def test_an_error_that_cannot_be_sent_is_told_all_the_same(client, tmp_path):
    class Odd(Exception):
        def __init__(self, code, text):
            super().__init__(f"{code}: {text}")  # so it cannot be made again from its arguments

    def break_one(place):
        if place == (1, 0):
            raise Odd(503, "slow down")

    embedding = embed(reading(cube(), break_one))
    with pytest.raises(xtm.SourceError, match="Odd: 503: slow down"):
        embedding.terramind.to_zarr(tmp_path / "e.zarr", retries=0)
    with pytest.raises(Exception, match="slow down"):
        embedding.compute()


def test_a_wrong_unit_ends_it_at_once(client, tmp_path):
    read = tmp_path / "read"
    source = (cube(4) / 1e4).astype("float32")
    embedding = embed(reading(source, logged(read)))
    with pytest.raises(xtm.ValueRangeError, match="10000"):
        embedding.terramind.to_zarr(tmp_path / "e.zarr")
    assert not blocks(tmp_path / "e.zarr")
    time.sleep(0.1)
    assert noted(read).total() < 4 * N_BLOCKS
    with pytest.raises(xtm.ValueRangeError, match="10000"):
        embedding.compute()


def test_ctrl_c_leaves_whole_blocks_and_an_idle_cluster(client, tmp_path):
    read, store = tmp_path / "read", tmp_path / "e.zarr"
    note = logged(read)

    def slowly(place):
        note(place)
        time.sleep(0.1)

    def interrupt():
        wait_until(lambda: len(blocks(store)) >= 4)
        os.kill(os.getpid(), signal.SIGINT)

    embedding = embed(reading(cube(), slowly))
    watcher = threading.Thread(target=interrupt)
    watcher.start()
    with pytest.raises(KeyboardInterrupt):
        embedding.terramind.to_zarr(store)
    watcher.join()
    assert wait_until(lambda: not client.cluster.scheduler.tasks)
    time.sleep(0.3)  # for what a worker was in the middle of
    stood = blocks(store)
    assert 4 <= len(stood) < N_BLOCKS
    read.unlink()
    embedding.terramind.to_zarr(store, resume=True)
    assert not set(noted(read)) & stood
    assert_same_embedding(opened(store), here(embed(cube())))


# -- Stores that workers cannot write -----------------------------------------------------------


class Full(WrapperStore):
    """A store without room for a block in columns from the third on."""

    async def set(self, key, value):
        if "embedding/c/" in key and int(key.split("/")[-1]) >= 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        await super().set(key, value)


def test_a_full_disk_is_said_as_such_and_resumed(client, tmp_path):
    read = tmp_path / "read"
    embedding = embed(reading(cube(), logged(read)))
    with pytest.raises(xtm.StoreError, match=r"No space left.*resume=True"):
        embedding.terramind.to_zarr(Full(LocalStore(tmp_path / "e.zarr")))
    wait_until(lambda: not client.cluster.scheduler.tasks)
    stood = blocks(tmp_path / "e.zarr")
    assert len(stood) < N_BLOCKS and all(column < 2 for _, column in stood)
    read.unlink()
    embedding.terramind.to_zarr(tmp_path / "e.zarr", resume=True)
    assert not set(noted(read)) & stood
    assert_same_embedding(opened(tmp_path / "e.zarr"), here(embed(cube())))


class Elsewhere(LocalStore):
    """A path that is another disk's on each machine."""

    def __reduce__(self):
        return LocalStore, (self.root / "elsewhere",)


UNSHARED = {
    "MemoryStore": lambda folder: MemoryStore(),
    "memory URL": lambda folder: f"memory://{folder.name}.zarr",
    "own disk": lambda folder: Elsewhere(folder / "e.zarr"),
}


@pytest.mark.parametrize("kind", UNSHARED)
def test_a_store_that_workers_do_not_share_is_refused(kind, client, tmp_path):
    with pytest.raises(xtm.StoreError, match="share"):
        embed(cube()).terramind.to_zarr(UNSHARED[kind](tmp_path))


# -- What else goes along -----------------------------------------------------------------------


def test_progress_counts_all_blocks(client, tmp_path):
    out = io.StringIO()
    console = Console(file=out, width=160, force_terminal=True, color_system=None)
    embed(cube()).terramind.to_zarr(tmp_path / "e.zarr", progress=console)
    assert "16 of 16 blocks" in out.getvalue() and "blocks/s" in out.getvalue()


def test_so_does_the_default_bar(client, tmp_path, capsys):
    embed(cube()).terramind.to_zarr(tmp_path / "e.zarr", progress=True)
    assert "16 of 16 blocks" in " ".join(capsys.readouterr().err.split())


def test_workers_read_weights_from_a_file(client, tmp_path):
    file = save(make_state(), tmp_path / "tiny.pt")
    embedding = embed(cube(), weights=str(file))
    embedding.terramind.to_zarr(tmp_path / "e.zarr")
    assert_same_embedding(opened(tmp_path / "e.zarr"), here(embedding))


def test_or_say_that_they_cannot(client, tmp_path):
    file = save(make_state(), tmp_path / "tiny.pt")
    # What OpenVINO has converted needs the file no more.
    embedding = embed(cube(), weights=str(file), engine="torch")
    file.rename(tmp_path / "elsewhere.pt")
    with pytest.raises(xtm.WeightsError, match=re.escape(file.name)):
        embedding.terramind.to_zarr(tmp_path / "e.zarr")
    assert not blocks(tmp_path / "e.zarr")


# rioxarray has affine 3 multiply as it no longer wants to.
AFFINE = "Use `@` matmul instead of `*` mul operator for matrix multiplication"

SCRIPT = """
import distributed
import psutil
import xr_terramind as xtm

if __name__ == "__main__":
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    with cluster, distributed.Client(cluster) as client:
        cube = xtm.sample_scene(64, chunks={"x": 32, "y": 32})
        embedding = cube.terramind.embed(
            model="terramind_v1_tiny", weights="random", window_size=32
        )
        embedding.terramind.to_zarr("e.zarr")
        workers = [psutil.Process(pid) for pid in client.run(__import__("os").getpid).values()]
    print(len(workers), [worker for worker in workers if worker.is_running()])
"""


def test_a_script_ends_without_a_word_and_leaves_nobody_behind(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-W", f"ignore:{AFFINE}", "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(xtm.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "2 []\n", "")
    assert (tmp_path / "e.zarr/zarr.json").exists()
