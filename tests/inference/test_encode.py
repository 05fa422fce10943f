"""Running the model: loaded once, batches that shrink, pixels as they come."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from dask.base import tokenize

import xr_terramind as xtm
from tests.support.cubes import TINY, embed, image
from tests.support.requests import make_key, make_request
from xr_terramind.inference import loaded
from xr_terramind.inference.device import resolve_runtime
from xr_terramind.inference.loaded import engine_for
from xr_terramind.inference.resize import footprint_share
from xr_terramind.model import load
from xr_terramind.model.modalities import MODALITIES


@pytest.fixture
def fresh_cache():
    loaded._load_engine.cache_clear()
    yield
    loaded._load_engine.cache_clear()


def test_one_load_under_many_threads(monkeypatch, fresh_cache):
    loads = []
    read = load.read_weights

    def counted(*args):
        loads.append(threading.get_ident())
        return read(*args)

    monkeypatch.setattr(load, "read_weights", counted)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: engine_for(make_key(engine="torch")), range(32)))
    assert len(loads) == 1
    assert all(one is found[0] for one in found)


def test_cubes_that_differ_in_nodata_and_orientation_share_a_model(fresh_cache):
    loaded = [
        engine_for(make_request(make_key(), nodata, flip_y=flip_y, batch_size=3).key)
        for nodata in ((), (-1.0,))
        for flip_y in (True, False)
    ]
    assert all(one is loaded[0] for one in loaded)
    assert engine_for(make_key(layer=3)) is not loaded[0]
    assert engine_for(make_key(normalize="raw")) is not loaded[0]


def test_requests_are_values():
    request = make_request(make_key(), (-1.0,))
    copy = pickle.loads(pickle.dumps(request))
    assert copy == request and hash(copy) == hash(request)
    assert tokenize(copy, ensure_deterministic=True) == tokenize(request)
    assert tokenize(request) != tokenize(make_request(make_key()))
    assert len(pickle.dumps(request)) < 4000


def scarce_memory(monkeypatch, most: int, error: Exception) -> list[int]:
    """Let the tiny model fail on batches larger than `most`; return the sizes that it saw."""
    engine = engine_for(make_key(device="cpu", precision="float32", engine="torch"))
    engine.batch_limit = None
    encode, seen = engine.encoder, []

    def limited(pixels):
        seen.append(len(pixels))
        if len(pixels) > most:
            raise error
        return encode(pixels)

    monkeypatch.setattr(engine, "encoder", limited)
    return seen


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:115] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_out_of_memory_halves_the_batch_and_goes_on(monkeypatch, fresh_cache, error):
    scene = xtm.sample_scene(size_px=672)
    expected = scene.terramind.embed(engine="torch", **TINY)
    seen = scarce_memory(monkeypatch, 2, error)
    result = scene.terramind.embed(batch_size=8, engine="torch", **TINY)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    # Nine in two batches, of which one is gathered while the other runs; then the smaller size is
    # remembered.
    assert seen == [5, 4, 2, 2, 2, 2, 1]


def test_too_little_memory_for_one_window_is_an_error(monkeypatch, fresh_cache):
    scene = xtm.sample_scene(size_px=448)
    scarce_memory(monkeypatch, 0, OUT_OF_MEMORY[0])
    with pytest.raises(xtm.EngineError, match="single window"):
        scene.terramind.embed(batch_size=4, engine="torch", **TINY)


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch, fresh_cache):
    scene = xtm.sample_scene(size_px=224)
    seen = scarce_memory(monkeypatch, 0, RuntimeError("a kernel failed"))
    with pytest.raises(RuntimeError, match="a kernel failed"):
        scene.terramind.embed(engine="torch", **TINY)
    assert seen == [1]


@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i2", ">f4",
              "float16", "float32", "float64"]
)  # fmt: skip
def test_every_numeric_dtype_gives_the_same(dtype):
    scene = (xtm.sample_scene(size_px=224) // 40).astype("int16")
    expected = scene.terramind.embed(**TINY)
    result = scene.astype(dtype).terramind.embed(**TINY)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_windows_without_a_valid_pixel_are_not_run(monkeypatch, fresh_cache):
    scene = xtm.sample_scene(size_px=672)
    scene[:, :448] = 0
    seen = scarce_memory(monkeypatch, 99, MemoryError())
    scene.terramind.embed(batch_size=9, engine="torch", **TINY)
    assert seen == [3]


def test_pixels_are_clipped_before_normalisation():
    scene = xtm.sample_scene(size_px=224).astype("int32")
    bright = scene.where(scene < 2000, scene * 10)
    clipped = bright.clip(0, 10000)
    np.testing.assert_array_equal(
        bright.terramind.embed(**TINY), clipped.terramind.embed(clip=None, **TINY)
    )
    wide = bright.terramind.embed(clip=None, **TINY)
    assert float(abs(wide - clipped.terramind.embed(**TINY)).max()) > 0.1


def test_raw_takes_pixels_that_were_normalised_by_hand():
    scene = xtm.sample_scene(size_px=224).astype("float32")
    mean, std = (np.array(n)[:, None, None] for n in MODALITIES["S2L2A"].statistics["v1"])
    by_hand = ((scene - mean) / std).astype("float32")
    result = by_hand.terramind.embed(normalize="raw", clip=None, **TINY)
    assert result.attrs["normalization"] == "raw"
    np.testing.assert_allclose(result, scene.terramind.embed(**TINY), atol=1e-4)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_keeps_the_direction_of_every_token(precision):
    scene = xtm.sample_scene(size_px=224)
    exact = scene.terramind.embed(**TINY)
    half = scene.terramind.embed(precision=precision, **TINY)
    assert half.attrs["precision"] == precision and half.dtype == np.float32
    cosine = (exact * half).sum("feature") / np.sqrt(
        (exact**2).sum("feature") * (half**2).sum("feature")
    )
    assert float(cosine.min()) > 0.999


def test_auto_is_float32_on_a_cpu():
    assert resolve_runtime("auto", "cpu", "auto") == ("openvino", "cpu", "float32")
    assert resolve_runtime("torch", "cpu", "auto") == ("torch", "cpu", "float32")


def test_footprints_share_pixels_by_area():
    valid = np.zeros((5, 4), bool)
    valid[0] = True
    share = footprint_share(valid, 2)
    np.testing.assert_allclose(share, [[0.4, 0.4], [0, 0]])
    assert footprint_share(np.ones((3, 7), bool), 4) == pytest.approx(np.ones((4, 4)))


@pytest.mark.parametrize("output", ["grid", "windows"])
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_padding_is_no_data_where_0_is_a_height(engine, output):
    # 40 px are padded to whole patches; zeros that fill them would be sea level.
    heights = np.random.default_rng(0).normal(400, 80, (1, 40, 40)).astype("float32")
    rim = np.full((1, 48, 48), np.nan, "float32")
    rim[:, :40, :40] = heights
    how = {"modality": "DEM", "engine": engine, "output": output}
    found, expected = (embed(image(["DEM"], pixels), **how) for pixels in (heights, rim))
    if output == "grid":
        share = np.array([1, 1, 0.5])
        np.testing.assert_allclose(found.valid_fraction, share[:, None] * share, atol=1e-6)
    np.testing.assert_allclose(found.valid_fraction, expected.valid_fraction, atol=1e-6)
    np.testing.assert_allclose(found.values, expected.values, atol=1e-5)
