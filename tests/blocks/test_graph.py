"""The Dask graph: nothing computed too early, nothing read twice, chunks of no consequence."""

import pickle
import threading
from collections import Counter

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xr_terramind as xtm
from tests.support.cubes import TINY
from xr_terramind.blocks.graph import find_pieces, map_blocks
from xr_terramind.blocks.plan import plan_windows


def patch_means(pixels, rows, cols):
    """Stand in for the model: the mean of each patch, and 1."""
    out = np.full(
        (len(pixels), 3, rows.out_stop - rows.out_start, cols.out_stop - cols.out_start), np.nan
    )
    for row in rows.spans:
        for col in cols.spans:
            window = pixels[:, 0, row.start_px :, col.start_px :]
            window = window[:, 16 * row.patch_start : 16 * row.patch_stop]
            window = window[:, :, 16 * col.patch_start : 16 * col.patch_stop]
            t, h, w = window.shape
            means = window.reshape(t, h // 16, 16, w // 16, 16).mean((2, 4))
            place = np.s_[row.out_start : row.out_stop, col.out_start : col.out_stop]
            out[(slice(None), slice(0, 2), *place)] = means[:, None]
            out[(slice(None), 2, *place)] = 1
    return out.astype(np.float32)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).random((3, 2, 480, 640), dtype=np.float32)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_chunking_and_overlap_gives_each_patch_its_own_pixels(pixels, data):
    chunks = tuple(
        data.draw(st.sampled_from(sizes))
        for sizes in ((1, 2, 3), (1, 2), (480, 97, (1, 400, 79)), (640, 300, 224))
    )
    plan = plan_windows(
        (3, 480, 640),
        window_px=data.draw(st.sampled_from([96, 224])),
        overlap_px=data.draw(st.sampled_from([0, 32, 64])),
        pixel_bytes=8,
        times_per_chunk=data.draw(st.integers(1, 3)),
    )
    source = da.from_array(pixels, chunks=chunks)
    features, last = map_blocks(source, plan, patch_means, n_features=2, name="means")
    expected = pixels[:, 0].reshape(3, 30, 16, 40, 16).mean((2, 4))
    got, ones = dask.compute(features, last, scheduler="sync")
    np.testing.assert_allclose(got[:, 1], expected, rtol=1e-6)
    assert (ones == 1).all()
    assert features.chunks[2:] == last.chunks[1:] == plan.chunk_sizes[1:]


def test_each_source_chunk_is_read_once_though_valid_fraction_is_asked_too():
    scene = xtm.sample_scene(size_px=480)
    reads: Counter = Counter()
    lock = threading.Lock()

    def read(block, block_info=None):
        with lock:
            reads[tuple(block_info[0]["chunk-location"])] += 1
        return block

    source = da.from_array(scene.values, chunks=(12, 200, 200))
    cube = scene.copy(data=source.map_blocks(read, dtype=scene.dtype, meta=source._meta))
    cube.terramind.embed(**TINY).compute()
    assert len(reads) == 9 and set(reads.values()) == {1}


def test_embed_computes_nothing_on_a_lazy_cube():
    def refuse(*args, **kwargs):
        raise AssertionError("computed")

    cube = xtm.sample_scene(size_px=300, time=2, chunks={"x": 128})
    with dask.config.set(scheduler=refuse):
        for output in ("grid", "windows", "pooled"):
            for fit in ("windows", "resize"):
                result = cube.terramind.embed(output, fit=fit, **TINY)
                assert result.chunks is not None
        assert cube.terramind.plan().windows == 8


CHUNKINGS = {
    "one": -1,
    "windows": {"y": 224, "x": 224},
    "uneven": {"y": (7, 300, 93), "x": (399, 1), "band": 12},
    "bands": {"band": 1, "y": 256},
    "rows": {"y": 1},
    "odd bands": {"band": (5, 7), "x": 111},
}


@pytest.fixture(scope="module")
def eager():
    scene = xtm.sample_scene(size_px=400)
    scene[:, 100:160, 90:200] = 0  # no data
    return scene, scene.terramind.embed(**TINY)


@pytest.mark.parametrize("chunks", CHUNKINGS.values(), ids=CHUNKINGS.keys())
def test_the_result_does_not_depend_on_chunking(eager, chunks):
    scene, expected = eager
    result = scene.chunk(chunks).terramind.embed(**TINY).compute()
    np.testing.assert_allclose(result, expected, atol=1e-5)
    np.testing.assert_array_equal(result.valid_fraction, expected.valid_fraction)


@pytest.mark.parametrize("time_chunk", [1, 2, 5])
def test_nor_on_the_chunking_of_time(time_chunk):
    scene = xtm.sample_scene(size_px=230, time=5)
    expected = scene.terramind.embed(**TINY)
    result = scene.chunk(time=time_chunk, x=120).terramind.embed(**TINY)
    np.testing.assert_allclose(result.compute(), expected, atol=1e-5)
    assert result.get_index("time").equals(scene.get_index("time"))


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_nor_on_the_batch_size(eager, batch_size):
    scene, expected = eager
    result = scene.terramind.embed(batch_size=batch_size, **TINY)
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_nor_on_the_scheduler(eager, scheduler):
    scene, expected = eager
    lazy = scene.chunk(x=200).terramind.embed(**TINY)
    result = lazy.compute(scheduler=scheduler, num_workers=2)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_keys_are_deterministic_and_change_with_options_and_data(eager):
    scene, _ = eager

    def name(cube, **options):
        return cube.terramind.embed(**{**TINY, **options}).data.name

    lazy = scene.chunk(x=200)
    assert name(lazy) == name(scene.chunk(x=200))
    assert name(lazy) != name(lazy, layer=3)
    assert name(lazy) != name(lazy, overlap=32)
    assert name(lazy) != name((scene + 1).chunk(x=200))


def test_the_graph_holds_no_model():
    cube = xtm.sample_scene(size_px=448, chunks={"x": 224})
    graph = dict(cube.terramind.embed(**TINY).__dask_graph__())
    assert len(pickle.dumps(graph)) < 50_000


def test_task_names_say_what_runs():
    cube = xtm.sample_scene(size_px=448, chunks={"x": 224})
    names = {str(key[0]) for key in cube.terramind.embed(**TINY).__dask_graph__()}
    assert any(name.startswith("terramind-embed") for name in names)


def test_plain_to_zarr_takes_the_chunks(tmp_path):
    cube = xtm.sample_scene(size_px=1500, chunks={"x": 500})
    lazy = cube.terramind.embed(overlap=64, **TINY)
    assert len(lazy.chunks[-1]) > 2
    lazy.to_zarr(
        tmp_path / "e.zarr", compute=False, consolidated=False
    )  # refuses chunks of unequal size


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any),
    st.data(),
)
def test_pieces_cover_a_region_exactly(sizes, data):
    start = data.draw(st.integers(0, sum(sizes) - 1))
    stop = data.draw(st.integers(start + 1, sum(sizes)))
    edges = np.concatenate([[0], np.cumsum(sizes)])
    covered = [
        edges[piece.chunk] + inner
        for piece in find_pieces(sizes, start, stop)
        for inner in range(piece.start, piece.stop)
    ]
    assert covered == list(range(start, stop))
