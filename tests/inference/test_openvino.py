"""The encoder on OpenVINO: equal to torch, and quiet about it."""

import json
import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import numpy as np
import pytest
import torch
import xarray as xr

import xr_terramind as xtm
from tests.support.blocks import small_blocks
from tests.support.cubes import embed, noise, noise_image, scene
from tests.support.requests import make_key, make_request
from tests.support.weights import NORM, make_state, save
from xr_terramind.inference import device, loaded
from xr_terramind.inference.device import resolve_runtime
from xr_terramind.inference.engines import cache
from xr_terramind.inference.engines import openvino as engine
from xr_terramind.inference.loaded import engine_for
from xr_terramind.model.modalities import MODALITIES

TINY = "terramind_v1_tiny"
TOLERANCE = 1e-4


@pytest.fixture(scope="module", autouse=True)
def _free_models():
    yield
    loaded._load_engine.cache_clear()


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("openvino/[!.]*"))


KEY = make_key(engine="openvino", device="cpu", precision="float32")


def same_as_torch(cube: xr.DataArray, **options: object) -> xr.DataArray:
    """Embed with both engines, compare all, and return what OpenVINO gave."""
    found = embed(cube, engine="openvino", **options)
    expected = embed(cube, engine="torch", **options)
    assert (found.attrs["engine"], expected.attrs["engine"]) == ("openvino", "torch")
    assert float(abs(expected).max()) > 0.5  # a comparison of zeros would prove nothing
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(found.valid_fraction, expected.valid_fraction, atol=1e-6, rtol=0)
    return found


# Equal to torch


def test_overlap_gives_the_same():
    same_as_torch(scene(64, 64), overlap=32, window_size=64)
    cube = xtm.sample_scene(size_px=160).isel(x=slice(96))
    same_as_torch(cube, overlap=32, window_size=64)


@pytest.mark.parametrize("output", ["windows", "pooled"])
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_pooled_outputs_are_the_same(output, pooling):
    found = embed(scene(64, 64), output=output, pooling=pooling, engine="openvino")
    expected = embed(scene(64, 64), output=output, pooling=pooling, engine="torch")
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def holes(cube: xr.DataArray) -> xr.DataArray:
    """A whole patch, a part of one, and one band of one pixel without data."""
    found = cube.astype("float32")
    found[..., :16, 16:32] = np.nan
    found[..., 20:25, 3:9] = np.nan
    found[..., 0, 30, 30] = np.inf
    return found


@pytest.mark.parametrize("fit", ["windows", "resize"])
@pytest.mark.parametrize("min_valid_fraction", [0.0, 0.95])
def test_invalid_pixels_are_the_same(fit, min_valid_fraction):
    cube = holes(scene(64, 48))
    found = same_as_torch(cube, fit=fit, min_valid_fraction=min_valid_fraction)
    # Resized, each patch covers 32 x 24 pixels: none of them is quite empty.
    is_any_empty = fit == "windows" or min_valid_fraction > 0
    assert np.isnan(found).any() == is_any_empty and not np.isnan(found).all()


def test_windows_without_a_valid_pixel_are_the_same():
    cube = scene(64, 64, n_times=2)
    cube[:, :, 32:] = 0
    cube[1] = 0
    found = same_as_torch(cube)
    assert np.isnan(found[1]).all() and not np.isnan(found[0, :, :2]).any()
    empty = embed(xr.zeros_like(scene()), engine="openvino", normalize="raw")
    assert np.isnan(empty).all() and not empty.valid_fraction.any()


def test_padding_at_the_rim_is_the_same():
    found = same_as_torch(scene(40, 61))
    assert 0 < float(found.valid_fraction.min()) < 1


@pytest.mark.parametrize("fit", ["windows", "resize"])
@pytest.mark.parametrize("axes", [("y",), ("x",), ("y", "x")])
def test_flipped_cubes_are_the_same(fit, axes):
    cube = holes(scene(64, 48)).isel({axis: slice(None, None, -1) for axis in axes})
    found = same_as_torch(cube, fit=fit)
    if fit == "windows" and axes == ("y",):  # 64 px are whole windows: they stand where they stood
        upright = embed(holes(scene(64, 48)), engine="openvino").sortby("y")
        np.testing.assert_allclose(found.sortby("y"), upright, atol=1e-5)


@pytest.mark.parametrize("clip", [None, (500.0, 1500.0), "auto"])
def test_clipping_is_the_same(clip):
    cube = scene().astype("float32")
    cube[:, ::3] *= 6
    cube[:, 1::3, ::5] *= -1
    same_as_torch(cube, clip=clip)


def test_radar_without_and_with_clipping_is_the_same():
    cube = noise_image("S1GRD", 32, 32)
    free = same_as_torch(cube, modality="S1GRD")
    assert free.attrs["clip"] == "none"
    clipped = same_as_torch(cube, modality="S1GRD", clip=(-20.0, -5.0))
    assert float(abs(free - clipped).max()) > 0.01


@pytest.mark.parametrize("normalize", ["raw", "none"])
def test_other_normalisations_are_the_same(normalize):
    cube = (scene().astype("float32") - 2000) / 2000
    same_as_torch(cube, normalize=normalize, clip=None)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "uint16", ">i2", "int64", "float16", ">f4", "float64"]
)
def test_every_dtype_is_the_same(dtype):
    cube = (scene() // 40).astype(dtype)
    found = same_as_torch(cube)
    np.testing.assert_allclose(found, embed(scene() // 40, engine="openvino"), atol=1e-5)


def test_uint16_beyond_int16_is_the_same():
    cube = scene().astype("uint16")
    cube[:, ::2] += 40000
    same_as_torch(cube, clip=None)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("int16", -9999),
        ("uint16", 65535),
        ("float32", -9999.0),
        ("float32", float(np.finfo("float32").min)),
        ("float64", -9999.9),
        ("float64", float(np.finfo("float64").min)),
        ("float64", 1e39),
    ],
)
def test_nodata_is_the_same(dtype, value):
    cube = scene().astype(dtype)
    cube[3, 4:20, 5:31] = value
    cube = cube.rio.write_nodata(value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", xtm.TerraMindWarning)
        found = same_as_torch(cube)
    assert 0 < float(found.valid_fraction.min()) < 1


@pytest.fixture(scope="module")
def sixteen_windows():
    cube = xtm.sample_scene(size_px=128)
    return cube, embed(cube, engine="torch")


@pytest.mark.parametrize("batch_size", [1, 3, 13, "auto"])
def test_batch_size_does_not_matter(sixteen_windows, batch_size):
    cube, expected = sixteen_windows
    found = embed(cube, engine="openvino", batch_size=batch_size)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)


def test_results_are_not_overwritten_by_the_next_batch():
    encoder = engine_for(KEY)
    windows = np.stack([noise("S2L2A", 32, 32), 2 * noise("S2L2A", 32, 32)])
    before = windows.copy()
    chosen = make_request(KEY, window_px=32)
    first, _ = encoder.encode(windows[:1], None, chosen)
    kept = first.copy()
    second, _ = encoder.encode(windows[1:], None, chosen)
    np.testing.assert_array_equal(first, kept)
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_array_equal(windows, before)


def test_a_subset_of_bands_is_the_same():
    windows = noise("S2L2A", 32, 32)[None, [1, 2, 8]]
    subset = MODALITIES["S2L2A"].subset(["B2", "B3", "B8A"])
    found = []
    for name in ("openvino", "torch"):
        key = make_key(subset, engine=name, device="cpu", precision="float32")
        tokens, valid = engine_for(key).encode(windows, None, make_request(key, window_px=32))
        assert tokens.shape == (1, 2, 2, 192) and valid.all()
        found.append(tokens)
    assert np.abs(found[1]).max() > 0.5
    np.testing.assert_allclose(*found, atol=TOLERANCE, rtol=0)


# Precision and device


def needs_bfloat16() -> None:
    if "bfloat16" not in device._openvino_precisions():
        pytest.skip("this processor has no bfloat16")


def test_bfloat16_keeps_the_direction_of_every_token():
    needs_bfloat16()
    cube = xtm.sample_scene(size_px=224)
    chosen = {"engine": "openvino", "window_size": 224}
    exact = embed(cube, **chosen)
    half = embed(cube, precision="bfloat16", **chosen)
    assert half.attrs["precision"] == "bfloat16" and half.attrs["engine"] == "openvino"
    assert half.dtype == np.float32
    lengths = np.sqrt((exact**2).sum("feature") * (half**2).sum("feature"))
    assert float(((exact * half).sum("feature") / lengths).min()) > 0.999
    assert not np.array_equal(exact, half)  # else float32 would have run


def test_float32_is_float32_where_the_processor_would_rather_not():
    assert embed(scene(), engine="openvino").attrs["precision"] == "float32"
    encoder = engine_for(KEY)
    compiled = encoder.infer_request(224).get_compiled_model()
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"


def test_a_processor_without_bfloat16_says_so(monkeypatch):
    monkeypatch.setattr(device, "_openvino_precisions", lambda: ("float32",))
    with pytest.raises(xtm.EngineError, match=r"bfloat16.*openvino.*float32"):
        embed(scene(), engine="openvino", precision="bfloat16")
    assert resolve_runtime("auto", "cpu", "bfloat16") == ("torch", "cpu", "bfloat16")


def test_float16_says_what_is_possible():
    with pytest.raises(xtm.EngineError, match=r"float16.*openvino.*expected one of float32"):
        embed(scene(), engine="openvino", precision="float16")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
@pytest.mark.parametrize("lazy", [False, True])
def test_another_device_is_refused_at_once(name, lazy):
    cube = scene().chunk() if lazy else scene()
    with pytest.raises(xtm.EngineError, match=rf"openvino.*{name}.*'cpu'.*engine='torch'"):
        embed(cube, engine="openvino", device=name)


def test_auto_is_openvino_on_a_cpu():
    assert embed(scene(), engine="auto").attrs["engine"] == "openvino"
    assert embed(scene()).attrs["engine"] == "openvino"
    assert resolve_runtime("openvino", "auto", "auto") == ("openvino", "cpu", "float32")


def test_auto_is_torch_where_only_torch_has_the_precision():
    found = embed(scene(), engine="auto", precision="float16")
    assert (found.attrs["engine"], found.attrs["precision"]) == ("torch", "float16")


def test_auto_is_torch_on_a_gpu(monkeypatch):
    monkeypatch.setattr(device, "_may_have_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert resolve_runtime("auto", "auto", "auto") == ("torch", "cuda", "bfloat16")
    assert resolve_runtime("auto", "cpu", "auto") == ("openvino", "cpu", "float32")
    assert resolve_runtime("openvino", "auto", "auto") == ("openvino", "cpu", "float32")


def test_without_openvino_it_is_torch_or_a_hint(monkeypatch):
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    with pytest.raises(xtm.EngineError, match=r"pip install 'xr_terramind\[openvino\]'"):
        embed(scene(), engine="openvino")
    assert embed(scene(), engine="auto").attrs["engine"] == "torch"


def test_auto_is_torch_where_openvino_cannot_be_imported(monkeypatch):
    # A folder of that name in the working directory is enough for find_spec to find it.
    def fail():
        raise ImportError("libopenvino.so: cannot open shared object file")

    monkeypatch.setattr(device, "import_openvino", fail)
    device._openvino_precisions.cache_clear()
    try:
        assert resolve_runtime("auto", "cpu", "auto") == ("torch", "cpu", "float32")
    finally:
        device._openvino_precisions.cache_clear()


# What is imported, and who is told

CHILD = """
import json, sys
import numpy as np
import xr_terramind as xtm
chip = np.random.default_rng(0).integers(1, 9000, (12, 224, 224)).astype("int16")
features = xtm.embed_array(
    chip, model="terramind_v1_tiny", weights="random", engine="auto", device=sys.argv[1]
)
found = {"finite": bool(np.isfinite(features).all()), "modules": sorted(sys.modules)}
print(json.dumps(found))
"""


def test_a_warm_cache_needs_no_torch_and_nobody_is_told(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    kept_out = ("XDG_", "HF_", "TORCH", "XR_TERRAMIND_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(kept_out)}
    env |= {"HOME": str(home), "USERPROFILE": str(home), cache.VARIABLE: str(tmp_path / "cache")}
    chosen = "cpu" if device._may_have_gpu() else "auto"

    for is_warm in (False, True):
        done = subprocess.run(
            [sys.executable, "-c", CHILD, chosen], env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        modules = {name.partition(".")[0] for name in found["modules"]}
        assert found["finite"]
        assert "openvino" in modules
        assert ("torch" in modules) is not is_warm
        assert not modules & {"terratorch", "openvino_telemetry", "huggingface_hub"}
        assert list(home.iterdir()) == []


# Weights


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_checkpoint_gives_the_same_as_torch(tmp_path, suffix):
    path = save(make_state(), tmp_path / f"weights{suffix}")
    found = same_as_torch(scene(), weights=path, window_size=224)
    assert float(abs(found - embed(scene(), engine="openvino", window_size=224)).max()) > 0.1


def test_one_entry_for_each_file_of_weights(tmp_path, own_cache):
    chosen = {"engine": "openvino", "window_size": 224}
    one = save(make_state(1), tmp_path / "one.pt")
    other = save(make_state(2), tmp_path / "other.pt")
    first, second = (embed(scene(), weights=path, **chosen) for path in (one, other))
    assert float(abs(first - second).max()) > 0.1
    assert len(entries(own_cache)) == 2
    # What a file is called does not matter, nor does the process.
    loaded._load_engine.cache_clear()
    again = embed(scene(), weights=other.rename(tmp_path / "renamed.pt"), **chosen)
    np.testing.assert_array_equal(again, second)
    # Other weights under the first one's name.
    save(make_state(2), one)
    replaced = embed(scene(), weights=one, **chosen)
    np.testing.assert_allclose(replaced, second, atol=1e-6)


def test_one_entry_for_one_window_size(own_cache):
    embed(scene(), engine="openvino", window_size=32)
    assert len(entries(own_cache)) == 1


def _without(state, name):
    return {key: value for key, value in state.items() if key != name}


SPOILT = {
    "missing": lambda state: _without(state, NORM),
    "NaN": lambda state: {**state, NORM: state[NORM] * np.nan},
    "shape": lambda state: {**state, NORM: state[NORM][:-1]},
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_bad_weights_are_refused_and_leave_nothing(tmp_path, own_cache, spoil):
    path = save(spoil(make_state()), tmp_path / "weights.pt")
    for _ in range(2):
        with pytest.raises(xtm.WeightsError, match=NORM):
            embed(scene(), engine="openvino", weights=path)
    assert not [found for found in own_cache.rglob("*") if found.name != "openvino"]


def test_a_file_replaced_after_planning_is_refused(tmp_path, own_cache):
    path = save(make_state(1), tmp_path / "weights.pt")
    planned = embed(scene().chunk(), engine="openvino", weights=path)
    save(make_state(2), path)
    with pytest.raises(xtm.WeightsError, match="planned"):
        planned.compute()
    assert entries(own_cache) == []


# Threads and memory


def threads_of_loaded() -> int:
    """Load the encoder as a task does, and ask OpenVINO how many threads it uses."""
    loaded._load_engine.cache_clear()
    compiled = engine_for(KEY).infer_request(224).get_compiled_model()
    return int(compiled.get_property("INFERENCE_NUM_THREADS"))


def test_as_many_threads_as_it_is_told():
    runtime = resolve_runtime("openvino", "cpu", "float32")
    encoder = engine.OpenVinoEngine(KEY, runtime, 1)
    compiled = encoder.infer_request(224).get_compiled_model()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1


@pytest.mark.parametrize("n_threads", [1, 2])
def test_as_many_threads_as_the_dask_worker_has(n_threads):
    distributed = pytest.importorskip("distributed")
    options = {"processes": False, "dashboard_address": ":0", "memory_limit": 0}
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=n_threads, **options) as workers,
        distributed.Client(workers) as client,
    ):
        found = client.submit(threads_of_loaded, pure=False).result(timeout=60)
        cube = xtm.sample_scene(size_px=64, chunks={"y": 32, "x": 32})
        embedding = embed(cube, engine="openvino").compute()
    loaded._load_engine.cache_clear()  # other tests have all threads
    assert found == min(n_threads, os.cpu_count() or 1)
    np.testing.assert_allclose(embedding, embed(cube.compute(), engine="torch"), atol=TOLERANCE)


def test_many_dask_threads_at_once_are_right():
    cube = xtm.sample_scene(size_px=128)
    options = [
        (cube, {}),
        (cube.isel(y=slice(None, None, -1)), {}),
        (cube, {"window_size": 64}),
        (cube, {"layer": 5}),
        (cube.isel(y=slice(100)), {"clip": (100.0, 2000.0)}),
    ]
    with small_blocks():
        lazy = [
            embed(one.chunk({"y": 32, "x": 32}), engine="openvino", **chosen)
            for one, chosen in options
        ]
    assert lazy[0].data.npartitions >= 16
    loaded._load_engine.cache_clear()
    found = dask.compute(*lazy, scheduler="threads", num_workers=16)
    for result, (one, chosen) in zip(found, options, strict=True):
        expected = embed(one, engine="torch", **chosen)
        np.testing.assert_allclose(result, expected, atol=TOLERANCE, rtol=0)


def test_threads_that_ask_at_once_wait_for_one_conversion(monkeypatch, own_cache):
    chosen = {"engine": "openvino", "window_size": 224}
    conversions = []
    convert = engine.convert

    def counted(*arguments):
        conversions.append(threading.get_ident())
        convert(*arguments)

    monkeypatch.setattr(engine, "convert", counted)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda cube: embed(cube, **chosen), [scene()] * 16))
    assert len(conversions) == 1
    for one in found:
        np.testing.assert_array_equal(one, found[0])


def scarce_memory(monkeypatch, most: int, error: Exception) -> list[int]:
    """Let the tiny model fail on batches larger than `most`; return the sizes that it saw."""
    loaded._load_engine.cache_clear()
    encoder = engine_for(KEY)
    begin, seen = encoder.begin, []

    def limited(raw, padding, chosen):
        seen.append(len(raw))
        if len(raw) > most:
            raise error
        return begin(raw, padding, chosen)

    monkeypatch.setattr(encoder, "begin", limited)
    return seen


OUT_OF_MEMORY = {
    "numpy": MemoryError("Unable to allocate 1. GiB"),
    # As OpenVINO 2026 says it under a limit on the address space.
    "openvino's tensors": RuntimeError(
        "Exception from src/core/src/runtime/tensor.cpp:89:\n"
        "Exception from src/core/src/runtime/allocator.cpp:79:\nstd::bad_alloc\n"
    ),
    "openvino's plugin": RuntimeError(
        "Exception from src/inference/src/cpp/infer_request.cpp:224:\n"
        "Check 'ptr' failed at src/plugins/intel_cpu/src/cpu_memory.cpp:257:\n"
        "Failed to allocate 481689600 bytes of memory\n"
    ),
}


@pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_out_of_memory_halves_the_batch_and_goes_on(monkeypatch, error):
    cube = xtm.sample_scene(size_px=96)
    seen = scarce_memory(monkeypatch, 2, error)
    found = embed(cube, batch_size=8, engine="openvino")
    # Nine in two batches, of which one is gathered while the other runs; then the smaller size is
    # remembered.
    assert seen == [5, 4, 2, 2, 2, 2, 1]
    np.testing.assert_allclose(found, embed(cube, engine="torch"), atol=TOLERANCE)
    loaded._load_engine.cache_clear()


def test_too_little_memory_for_one_window_is_an_error(monkeypatch):
    scarce_memory(monkeypatch, 0, OUT_OF_MEMORY["numpy"])
    with pytest.raises(xtm.EngineError, match="single window"):
        embed(scene(), engine="openvino")
    loaded._load_engine.cache_clear()


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch):
    seen = scarce_memory(monkeypatch, 0, RuntimeError("a kernel failed"))
    with pytest.raises(RuntimeError, match="a kernel failed"):
        embed(scene(), engine="openvino")
    assert seen == [1]
    loaded._load_engine.cache_clear()
