"""Batches under way: gathered beside the model, padded to a few sizes, none lost, none waiting."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import xr_terramind as xtm
from tests.support.cubes import TINY
from tests.support.requests import make_key
from xr_terramind.inference import encode, loaded
from xr_terramind.inference.device import fastest_precision, resolve_runtime
from xr_terramind.inference.engines.base import Streams, device_dtype, to_device_dtype
from xr_terramind.inference.engines.cuda import FixedShapes, padded_size
from xr_terramind.inference.loaded import engine_for

ON_TORCH = {**TINY, "engine": "torch", "device": "cpu"}


@pytest.fixture
def engine():
    """The tiny model in torch, loaded afresh."""
    loaded._load_engine.cache_clear()
    yield engine_for(make_key(engine="torch", device="cpu", precision="float32"))
    loaded._load_engine.cache_clear()


def n_free(slots: threading.BoundedSemaphore) -> int:
    """Count the slots that nobody holds."""
    taken = 0
    while slots.acquire(blocking=False):
        taken += 1
    for _ in range(taken):
        slots.release()
    return taken


# --- batch sizes ---


@given(st.integers(1, 2000))
def test_padded_sizes_are_few_and_waste_little(n_windows):
    size = padded_size(n_windows)
    assert size >= n_windows and padded_size(size) == size
    assert size - n_windows < 4 or 3 * (size - n_windows) < size
    assert len({padded_size(n) for n in range(1, 129)}) == 14


@settings(deadline=None)
@given(st.integers(1, 9))
def test_padding_changes_no_token(n_windows):
    seen = []

    def encoder(images):
        seen.append(len(images))
        return images.mean(dim=1).flatten(1)[:, None]

    images = torch.rand(n_windows, 12, 4, 4)
    tokens = FixedShapes(encoder)(images)
    assert seen == [padded_size(n_windows)]
    torch.testing.assert_close(tokens, encoder(images))


def test_a_device_that_enqueues_gives_the_same(monkeypatch, engine):
    """What a GPU does but for the GPU: fixed shapes, no question that would wait for an answer."""
    scene = xtm.sample_scene(size_px=608)
    scene[:, :230, :230] = 0
    expected = scene.terramind.embed(overlap=32, **ON_TORCH)
    monkeypatch.setattr(engine.streams, "enqueues", True)
    monkeypatch.setattr(engine, "encoder", FixedShapes(engine.encoder))
    found = scene.terramind.embed(overlap=32, batch_size=5, **ON_TORCH)
    assert np.isnan(found).any("feature").sum() > 0
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(found.valid_fraction, expected.valid_fraction)


# --- slots ---


def test_the_next_batch_is_gathered_while_one_runs(monkeypatch, engine):
    gathered = threading.Semaphore(0)
    gather, run, in_time = encode.gather_windows, engine.encoder, []

    def counted(*arguments):
        raw = gather(*arguments)
        gathered.release()
        return raw

    def encode_after_the_next_is_gathered(images):
        if not in_time:  # the first of two: its own windows and the other's
            in_time.append(all(gathered.acquire(timeout=20) for _ in range(2)))
        return run(images)

    monkeypatch.setattr(encode, "gather_windows", counted)
    monkeypatch.setattr(engine, "encoder", encode_after_the_next_is_gathered)
    xtm.sample_scene(size_px=448)[:, :224].terramind.embed(batch_size=1, **ON_TORCH)
    assert in_time == [True]


def test_many_blocks_at_once_share_few_slots(engine):
    scene = xtm.sample_scene(size_px=96).chunk(x=32, y=32)
    options = {**ON_TORCH, "window_size": 16}
    expected = scene.terramind.embed(**options).compute(scheduler="synchronous")
    found = scene.terramind.embed(**options, batch_size=1).compute(num_workers=12)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert n_free(engine.slots) == Streams.n_under_way


@pytest.mark.parametrize("where", ["choosing", "gathering", "running"])
@pytest.mark.parametrize("error", [ValueError, RuntimeError, MemoryError])
def test_what_fails_frees_its_slots(monkeypatch, engine, where, error):
    def fail(*arguments):
        raise error("no luck")

    if where == "choosing":
        monkeypatch.setattr(engine, "batch_size", fail)
    elif where == "gathering":
        monkeypatch.setattr(encode, "gather_windows", fail)
    else:
        monkeypatch.setattr(engine, "encoder", fail)
    scene = xtm.sample_scene(size_px=448)
    with pytest.raises((error, xtm.EngineError), match="no luck"):
        scene.terramind.embed(batch_size=1, **ON_TORCH)
    assert n_free(engine.slots) == Streams.n_under_way


# --- number formats ---


@pytest.mark.parametrize(
    ("generation", "hip", "precision"),
    [
        ((9, 0), None, "bfloat16"),
        ((8, 6), None, "bfloat16"),
        ((7, 5), None, "float16"),
        ((7, 0), None, "float16"),
        ((6, 1), None, "float32"),
        ((9, 4), "6.2", "bfloat16"),
    ],
)
def test_precision_is_the_cards_own(monkeypatch, generation, hip, precision):
    asked = []

    def capability(device):
        asked.append(device)
        return generation

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert resolve_runtime("torch", "cuda:1", "auto") == ("torch", "cuda:1", precision)
    assert asked == [torch.device("cuda:1")]
    assert resolve_runtime("torch", "cuda:1", "float32").precision == "float32"


def test_precision_is_float32_elsewhere():
    assert fastest_precision("cpu") == fastest_precision("mps") == "float32"


@pytest.mark.parametrize(
    ("dtype", "device", "expected"),
    [
        ("uint16", "cuda", "uint16"),
        ("uint16", "cpu", "uint16"),
        ("uint16", "mps", "float32"),
        ("uint32", "mps", "float32"),
        ("uint8", "mps", "uint8"),
        ("int16", "mps", "int16"),
        (">i2", "cuda", "int16"),
        ("float64", "cpu", "float32"),
        ("int64", "cuda", "float32"),
        ("float16", "mps", "float32"),
    ],
)
def test_pixels_go_up_in_a_format_that_the_device_has(dtype, device, expected):
    assert device_dtype(np.dtype(dtype), device) == np.dtype(expected)


def test_windows_are_gathered_in_that_format(engine):
    block = np.array([1.0, -1.8e308, np.nan, 7.0]).reshape(1, 1, 2, 2)
    window = SimpleNamespace(start_px=0)
    raw = encode.gather_windows(block, [(0, window, window)], 4, engine)
    assert raw.dtype == np.float32
    np.testing.assert_array_equal(
        raw[0, 0], [[1, -np.inf, 0, 0], [np.nan, 7, 0, 0], [0] * 4, [0] * 4]
    )
    ready = to_device_dtype(block)
    np.testing.assert_array_equal(raw[:, :, :2, :2], ready)
