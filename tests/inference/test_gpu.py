"""What only a GPU can show, skipped where there is none; and that its benchmark runs bare."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

import xr_terramind as xtm
from tests.support.cubes import TINY
from tests.support.requests import make_key
from xr_terramind.inference.device import fastest_precision
from xr_terramind.inference.engines.cuda import CudaStreams
from xr_terramind.inference.loaded import engine_for

on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
on_mps = pytest.mark.skipif(not torch.backends.mps.is_available(), reason="no MPS device")


def cosine(a, b) -> float:
    """Return the smallest cosine of two embeddings' tokens."""
    lengths = np.sqrt((a**2).sum("feature") * (b**2).sum("feature"))
    return float(((a * b).sum("feature") / lengths).min())


def on_cpu(scene, **options):
    return scene.terramind.embed(engine="torch", device="cpu", **TINY, **options)


@on_cuda
@pytest.mark.parametrize("options", [{}, {"overlap": 64}, {"layer": 5}, {"window_size": 256}])
def test_float32_on_cuda_is_the_cpus(options):
    scene = xtm.sample_scene(size_px=700)
    found = scene.terramind.embed(device="cuda", precision="float32", **TINY, **options)
    np.testing.assert_allclose(found, on_cpu(scene, **options), atol=1e-4)


@on_cuda
@pytest.mark.parametrize("precision", ["auto", "float16"])
def test_half_precision_on_cuda_keeps_the_direction_of_every_token(precision):
    scene = xtm.sample_scene(size_px=672)
    found = scene.terramind.embed(device="cuda", precision=precision, **TINY)
    expected = fastest_precision("cuda") if precision == "auto" else precision
    assert found.attrs["precision"] == expected
    assert cosine(found, on_cpu(scene)) > 0.999


@on_cuda
def test_batches_of_many_threads_on_cuda_do_not_mix():
    scene = xtm.sample_scene(size_px=1344)
    scene[:, :230, :230] = 0
    chosen = {"device": "cuda", "precision": "float32", **TINY}
    expected = on_cpu(scene)
    for batch_size in (1, 3, 7):
        lazy = scene.chunk(x=300, y=500).terramind.embed(batch_size=batch_size, **chosen)
        np.testing.assert_allclose(lazy.compute(num_workers=8), expected, atol=1e-4)


@on_cuda
def test_arrays_go_up_and_come_back():
    streams = CudaStreams("cuda")
    buffer = streams.host_buffer((4, 1000, 1000), np.dtype("uint16"))
    buffer[:] = np.arange(4)[:, None, None]
    with streams.on_device():
        waits = [streams.download(streams.upload(buffer[n : n + 1]).to(torch.int32) + n)
                 for n in range(4)]  # fmt: skip
    for n, wait in enumerate(waits):
        np.testing.assert_array_equal(wait()[0], np.full((1, 1000, 1000), 2 * n))


@on_cuda
def test_out_of_memory_on_cuda_halves_the_batch():
    scene = xtm.sample_scene(size_px=2240)
    chosen = {"device": "cuda", "layer": 10, **TINY}
    expected = scene.terramind.embed(batch_size=4, **chosen)
    torch.cuda.empty_cache()
    # A hundred windows take 135 MB raw, and twice that in float32.
    limit = torch.cuda.memory_reserved() + 300 * 2**20
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(limit / total)
    try:
        found = scene.terramind.embed(batch_size=100, **chosen)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert cosine(found, expected) > 0.999
    key = make_key(layer=10, engine="torch", device="cuda", precision=fastest_precision("cuda"))
    assert 0 < engine_for(key).batch_limit < 100


@on_mps
def test_mps_is_float32_and_the_cpus():
    scene = xtm.sample_scene(size_px=448).astype("uint16")
    found = scene.terramind.embed(device="mps", **TINY)
    assert found.attrs["precision"] == "float32"
    np.testing.assert_allclose(found, on_cpu(scene), atol=1e-3)


# A stand-in for a machine with nothing but four packages: the others cannot be found.
BARE_MACHINE = """
import runpy, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].lower() in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
sys.argv = {arguments!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_benchmark_needs_no_more_than_four_packages():
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = {
        re.split(r"[<>=\[]", line)[0].lower()
        for line in [*project["dependencies"], *(line for extra in extras for line in extra)]
    }
    # Pandas comes with xarray, and the package itself is there, in a folder.
    missing = wanted - {"torch", "numpy", "xarray", "dask", "pandas", project["name"]}
    assert {"rioxarray", "psutil", "safetensors", "terratorch"} <= missing
    arguments = [str(root / "tests/benchmarks/gpu.py"), "--device", "cpu", "--models", "tiny"]
    arguments += ["--batches", "2", "--windows", "2", "--tile-px", "224", "--threads", "2"]
    code = BARE_MACHINE.format(missing=missing, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    header, _, row = re.findall(r"^\|.*", done.stdout, flags=re.MULTILINE)
    assert len(header.split("|")) == len(row.split("|"))
    assert row.startswith("| tiny | 2 | float32 |")
    assert "goal" in done.stdout
