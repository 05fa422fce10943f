"""Ways to run the encoder on a CPU in float32, side by side: which one is worth being an engine.

Each gets the same nine normalised windows of small that are in memory, and has its output compared
with our torch module's. ONNX Runtime is no dependency: it takes part where onnxruntime and onnx are
installed.

Run: python tests/benchmarks/ways.py [--repeats 3]
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from jobs import SMALL, own_folder, request_of, terratorch_model
from measure import in_turns, median, most_others, print_machine, print_table, run_once

N_WINDOWS = 9
PASSES = 6

Forward = Callable[[], Any]


def eager(encoder: Any, images: Any, weights: str) -> Forward:
    """Our torch module as it is."""
    return lambda: encoder(images)


def inductor(encoder: Any, images: Any, weights: str) -> Forward:
    """The same, compiled with its weights frozen and packed."""
    import torch
    from torch._inductor import config

    config.freezing = True
    compiled = torch.compile(encoder, dynamic=False)
    return lambda: compiled(images)


def openvino(encoder: Any, images: Any, weights: str) -> Forward:
    """What `engine="openvino"` runs, with normalising left out."""
    import numpy as np

    from xr_terramind.inference.device import Runtime
    from xr_terramind.inference.engines.openvino import OpenVinoEngine

    request = request_of(weights, normalize="none")
    engine = OpenVinoEngine(request.key, Runtime("openvino", "cpu", "float32"), 0)
    pixels, invalid = images.numpy(), np.zeros((N_WINDOWS, 224, 224), bool)
    return lambda: engine.infer(pixels, invalid, request).reshape(N_WINDOWS, 196, -1)


def onnx_runtime(encoder: Any, images: Any, weights: str) -> Forward:
    """The same module exported to ONNX, with all of the runtime's optimisations."""
    import onnxruntime
    import torch

    path = str(Path(weights).with_suffix(".onnx"))
    torch.onnx.export(encoder, (images,), path, dynamo=False, input_names=["pixels"])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"pixels": images.numpy()})[0]


def terratorch(encoder: Any, images: Any, weights: str) -> Forward:
    """TerraTorch's own model, at the precision that torch has without it."""
    import torch

    model = terratorch_model(weights)
    torch.set_float32_matmul_precision("highest")
    return lambda: model({"S2L2A": images})[-1]


WAYS = {
    "torch module, eager": eager,
    "torch.compile, weights frozen": inductor,
    "OpenVINO": openvino,
    "ONNX Runtime": onnx_runtime,
    "TerraTorch, bare forward": terratorch,
}


def run(name: str, weights: str) -> dict[str, float]:
    """Measure one way: windows a second, and how far its numbers are from our torch module's."""
    import numpy as np
    import torch

    from xr_terramind.model.load import load_encoder
    from xr_terramind.model.modalities import MODALITIES
    from xr_terramind.model.specs import MODELS
    from xr_terramind.model.weights import locate

    found = locate(weights, MODELS[SMALL])
    encoder = load_encoder(MODELS[SMALL], MODALITIES["S2L2A"], found)
    images = torch.randn(N_WINDOWS, 12, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = encoder(images).numpy()
        forward = WAYS[name](encoder, images, weights)
        difference = float(np.abs(np.asarray(forward()) - expected).max())
        times_s = []
        for _ in range(PASSES):
            start = time.perf_counter()
            forward()
            times_s.append(time.perf_counter() - start)
    return {"rate": N_WINDOWS / sorted(times_s)[PASSES // 2], "difference": difference}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", choices=list(WAYS))
    parser.add_argument("--weights")
    chosen = parser.parse_args()
    if chosen.run:
        print(json.dumps(run(chosen.run, chosen.weights)))
        return
    has_onnx = find_spec("onnxruntime") is not None and find_spec("onnx") is not None
    names = [name for name in WAYS if has_onnx or WAYS[name] is not onnx_runtime]
    with own_folder() as folder:
        run_once([str(Path(__file__).with_name("jobs.py")), str(folder)])
        weights = str(folder / f"{SMALL}.pt")
        runs = in_turns(
            {name: [__file__, "--run", name, "--weights", weights] for name in names},
            chosen.repeats,
        )
    rates = {name: median(found, "rate") for name, found in runs.items()}
    base = rates["TerraTorch, bare forward"]
    rows = [
        (
            name,
            f"{rate:.1f}",
            f"{rate / base:.2f}",
            f"{max(r.figures['difference'] for r in runs[name]):.0e}",
        )
        for name, rate in rates.items()
    ]
    header = ("", "windows/s", "over TerraTorch", "largest difference")
    print_table(f"{N_WINDOWS} windows of small, float32", header, rows)
    print_machine()
    print(f"Other processes had up to {most_others(runs):.0%} of the cores.")
    if not has_onnx:
        print("ONNX Runtime is not installed here, and was not measured.")


if __name__ == "__main__":
    main()
