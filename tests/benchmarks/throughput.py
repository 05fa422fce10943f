"""The whole lazy pipeline on 36 windows beside TerraTorch's bare forward pass.

Ours reads a chunked uint16 cube, cuts windows, clips, normalises, encodes and labels the grid.
TerraTorch's gets windows that are normalised and in memory already. Importing TerraTorch lowers
torch's float32 matrix precision to "medium", which on CPUs with bfloat16 units is another number
format: it is measured so, and at "highest", which is what ours computes.

Run: python tests/benchmarks/throughput.py [--repeats 3]
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from jobs import SMALL, normalised, terratorch_model, write_weights
from measure import in_turns, median, print_machine, print_table

ENGINE_GOAL = 1.5
PIPELINE_GOAL = 0.95
SIDE = 6
PASSES = 3
CONTESTANTS = {
    "ours": "xr_terramind, whole pipeline (OpenVINO)",
    "engine": "its encoder alone, windows in memory",
    "ours-torch": 'xr_terramind, engine="torch"',
    "ours-bfloat16": 'xr_terramind, precision="bfloat16"',
    "ours-torch-bfloat16": 'xr_terramind, engine="torch", precision="bfloat16"',
    "theirs": "TerraTorch, bare forward, float32",
    "theirs-medium": 'TerraTorch, bare forward, as imported ("medium")',
}


def ours(weights: str, precision: str = "float32", engine: str = "auto") -> float:
    """Return windows a second of `embed(...).compute()`."""
    import xr_terramind as xtm

    cube = xtm.sample_scene(size_px=224 * SIDE).chunk(x=512, y=512)
    embedding = cube.terramind.embed(weights=weights, precision=precision, engine=engine)
    return _rate(embedding.compute)


def engine(weights: str) -> float:
    """Return windows a second of the encoder that the pipeline uses."""
    import numpy as np

    import xr_terramind as xtm
    from xr_terramind.models import MODELS
    from xr_terramind.request import EncodeRequest
    from xr_terramind.runner import runner_for
    from xr_terramind.weights import locate

    found = locate(weights, MODELS[SMALL])
    request = EncodeRequest(model=SMALL, modality="S2L2A", weights=found, clip=(0.0, 10000.0))
    scene = xtm.sample_scene(size_px=224 * SIDE).values.astype(np.float32)
    windows = scene.reshape(12, SIDE, 224, SIDE, 224).transpose(1, 3, 0, 2, 4)
    batches = np.split(np.ascontiguousarray(windows.reshape(-1, 12, 224, 224)), 4)
    runner = runner_for(request)
    return _rate(lambda: [runner.encode(batch, None, request) for batch in batches])


def theirs(weights: str, precision: str = "highest") -> float:
    """Return windows a second of the model alone, in batches of 8."""
    import torch

    import xr_terramind as xtm

    model = terratorch_model(weights)
    torch.set_float32_matmul_precision(precision)
    scene = xtm.sample_scene(size_px=224 * SIDE).values
    windows = scene.reshape(12, SIDE, 224, SIDE, 224).transpose(1, 3, 0, 2, 4)
    batches = normalised(windows.reshape(-1, 12, 224, 224)).split(8)

    def forward() -> None:
        with torch.inference_mode():
            for batch in batches:
                model({"S2L2A": batch})

    return _rate(forward)


def _rate(job) -> float:
    job()
    times = []
    for _ in range(PASSES):
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return SIDE**2 / sorted(times)[PASSES // 2]


RUNS = {
    "ours": ours,
    "engine": engine,
    "ours-torch": lambda weights: ours(weights, engine="torch"),
    "ours-bfloat16": lambda weights: ours(weights, "bfloat16"),
    "ours-torch-bfloat16": lambda weights: ours(weights, "bfloat16", "torch"),
    "theirs": theirs,
    "theirs-medium": lambda weights: theirs(weights, "medium"),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", choices=list(RUNS))
    parser.add_argument("--weights")
    chosen = parser.parse_args()
    if chosen.run:
        print(json.dumps({"rate": RUNS[chosen.run](chosen.weights)}))
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XR_TERRAMIND_CACHE"] = str(Path(folder, "cache"))
        weights = str(write_weights(Path(folder)))
        runs = in_turns(
            {name: [__file__, "--run", name, "--weights", weights] for name in RUNS},
            chosen.repeats,
            warm_up=False,
        )
    rates = {name: median(found, "rate") for name, found in runs.items()}
    rows = [
        (
            CONTESTANTS[name],
            f"{rates[name]:.1f}",
            f"{rates[name] / rates['theirs']:.2f}",
            f"{median(runs[name], 'peak_mb'):.0f}",
        )
        for name in CONTESTANTS
    ]
    print_table(
        f"{SIDE**2} windows of small",
        ("", "windows/s", "over TerraTorch float32", "peak memory, MB"),
        rows,
    )
    ratio = rates["engine"] / rates["theirs"]
    share = rates["ours"] / rates["engine"]
    print(f"\nEncoder over TerraTorch's: {ratio:.2f}; goal >= {ENGINE_GOAL}: ", end="")
    print(f"{_met(ratio >= ENGINE_GOAL)}.")
    print(f"Pipeline over its encoder: {share:.2f}; goal >= {PIPELINE_GOAL}: ", end="")
    print(f"{_met(share >= PIPELINE_GOAL)}.")
    print_machine()


def _met(reached: bool) -> str:
    return "met" if reached else "not met"


if __name__ == "__main__":
    main()
