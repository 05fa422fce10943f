"""The encoder and the whole pipeline on one GPU, beside the rate of its matrix units.

One table: model x batch x precision. "encoder" gets normalised windows that are on the device
already; "from host" is what a block's task does: gather raw uint16 windows, send them up, clip,
normalise, encode, bring the tokens back and lay them out. "upload" is the time that the raw windows
alone take to the device, as a share of that. TerraTorch's network as it is written there (float32,
attention in separate steps) runs beside them on the same card.

Needs torch, numpy, xarray and dask, and this repository's folder on PYTHONPATH; nothing else, so
that it runs on a bare GPU machine. Weights are random: speed does not depend on them.

Run: PYTHONPATH=. python tests/benchmarks/gpu.py [--models tiny small base large] [--batches 32 256]
"""

import argparse
import statistics
import sys
import time
import types
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import dask.array as da
import numpy as np
import torch

REPEATS = 5
PATCHES, PATCH_VALUES = 196, 12 * 256
TILE_PX = 10980
GOALS = {
    "windows_per_s": 10_000,  # small, from host memory
    "tile_s": 1.0,  # small, one tile of 2,401 windows
    "base_share": 0.5,  # base's encoder, of the measured bfloat16 matrix rate
    "over_terratorch": 5.0,
}


def import_without_xarray_tools() -> None:
    """Make the package's rooms importable without running its __init__, which needs rioxarray."""
    folder = Path(__file__).resolve().parents[2] / "xr_terramind"
    package = types.ModuleType("xr_terramind")
    package.__path__ = [str(folder)]
    sys.modules.setdefault("xr_terramind", package)


def request_of(model: str, precision: str, device: str, batch_size: int):
    """Return what a worker needs to know, with random weights."""
    from xr_terramind.inference.request import EncodeRequest, EncoderKey, Input
    from xr_terramind.model.modalities import MODALITIES
    from xr_terramind.model.specs import MODELS
    from xr_terramind.model.weights import locate

    spec, modality = MODELS[f"terramind_v1_{model}"], MODALITIES["S2L2A"]
    scaling = modality.scaling(spec, "zscore")
    key = EncoderKey(
        spec=spec,
        modalities=(modality,),
        scalings=(scaling,),
        weights=locate("random", spec),
        engine="torch",
        device=device,
        precision=precision,
    )
    source = Input(modality=modality, scaling=scaling, clip=modality.clip)
    return EncodeRequest(key=key, inputs=(source,), batch_size=batch_size)


def window_flop(model: str) -> float:
    """Count the floating-point operations of one window of 224 px, products only."""
    from xr_terramind.model.specs import MODELS

    spec = MODELS[f"terramind_v1_{model}"]
    products = 4 * spec.dim**2 + (3 if spec.gated else 2) * spec.dim * spec.hidden
    block = 2 * PATCHES * products + 4 * PATCHES**2 * spec.dim
    return spec.depth * block + 2 * PATCHES * PATCH_VALUES * spec.dim


def seconds(job: Callable[[], object], device: str) -> float:
    """Return the median time of a job, the device's work included."""
    job()
    times = []
    for _ in range(REPEATS):
        wait_for(device)
        start = time.perf_counter()
        job()
        wait_for(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def wait_for(device: str) -> None:
    """Wait until the device has done what was launched."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def matrix_flop_per_s(dtype: torch.dtype, device: str) -> float:
    """Measure the device's rate of matrix products, on random numbers."""
    edge = 8192 if device.startswith("cuda") else 1024
    left, right = (torch.randn(edge, edge, device=device).to(dtype) for _ in range(2))
    n_products = 10

    def multiply() -> None:
        for _ in range(n_products):
            torch.mm(left, right)

    return n_products * 2 * edge**3 / seconds(multiply, device)


def encoder_rate(request, device: str) -> float:
    """Return windows a second of the encoder alone."""
    from xr_terramind.inference.loaded import engine_for

    engine = engine_for(request.key)
    images = torch.randn(request.batch_size, 12, 224, 224, device=device).to(engine.dtype)

    def encode() -> None:
        with torch.inference_mode(), engine.streams.on_device():
            engine.encoder(images)

    return request.batch_size / seconds(encode, device)


def host_rate(request, device: str, n_windows: int) -> float:
    """Return windows a second of one block after another, from host memory and back."""
    from xr_terramind.blocks.windows import Axis
    from xr_terramind.inference.encode import encode_block

    pixels = random_pixels((n_windows, 12, 224, 224))
    axis = Axis(224, 224, 224).block(0, 1, per_window=False)
    return n_windows / seconds(lambda: encode_block(pixels, axis, axis, request), device)


def upload_seconds(request, device: str, n_windows: int) -> float:
    """Return how long the raw windows alone take to the device."""
    from xr_terramind.inference.loaded import engine_for

    streams = engine_for(request.key).streams
    buffer = streams.host_buffer((request.batch_size, 12, 224, 224), np.dtype(np.uint16))
    buffer[:] = random_pixels(buffer.shape)
    n_batches = max(1, n_windows // request.batch_size)

    def upload() -> None:
        with streams.on_device():
            for _ in range(n_batches):
                streams.upload(buffer)

    return seconds(upload, device) * n_windows / (n_batches * request.batch_size)


def tile_seconds(request, edge_px: int, n_threads: int) -> float:
    """Return how long one tile takes as Dask runs it: in blocks, on several threads."""
    from xr_terramind.blocks.graph import map_blocks
    from xr_terramind.blocks.plan import plan_windows
    from xr_terramind.inference.encode import encode_block

    cube = da.from_array(random_pixels((1, 12, edge_px, edge_px)), chunks=(1, 12, 1120, 1120))
    plan = plan_windows((1, edge_px, edge_px), window_px=224, overlap_px=0, pixel_bytes=24)
    features, _ = map_blocks(
        cube,
        plan,
        partial(encode_block, request=request),
        n_features=request.key.spec.dim,
        name="tile",
    )

    def embed() -> None:
        # Blocks are let go as they are done: the tile's tokens are not what is measured.
        features.map_blocks(lambda block: block[:, :1, :1, :1]).compute(num_workers=n_threads)

    return seconds(embed, request.key.device)


def random_pixels(shape: Sequence[int]) -> np.ndarray:
    """Return raw digital numbers, none of them zero."""
    return np.random.default_rng(0).integers(1, 10000, shape, dtype=np.uint16)


def terratorch_like_rate(model: str, device: str, batch_size: int) -> float:
    """Return windows a second of the network in float32, with attention in separate steps.

    That is how TerraTorch 1.2 runs it; TerraTorch itself is measured where it is installed, by
    throughput.py on a CPU.
    """
    from xr_terramind.model.encoder import Attention
    from xr_terramind.model.load import load_encoder

    key = request_of(model, "float32", device, batch_size).key
    encoder = load_encoder(key.spec, key.modalities[0], key.weights).to(device)
    fused = Attention.forward
    images = torch.randn(batch_size, 12, 224, 224, device=device)

    def encode() -> None:
        with torch.inference_mode():
            encoder(images)

    Attention.forward = attention_in_steps
    try:
        return batch_size / seconds(encode, device)
    finally:
        Attention.forward = fused


def attention_in_steps(self, tokens: torch.Tensor) -> torch.Tensor:
    """Multiply, scale, normalise and mix, each with its result in memory."""
    n_windows, n_tokens, dim = tokens.shape
    qkv = self.qkv(tokens).reshape(n_windows, n_tokens, 3, self.heads, dim // self.heads)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    scores = (query @ key.transpose(-2, -1)) * query.shape[-1] ** -0.5
    mixed = scores.softmax(dim=-1) @ value
    return self.proj(mixed.transpose(1, 2).reshape(n_windows, n_tokens, dim))


def print_row(cells: Sequence[object]) -> None:
    """Print one row of a Markdown table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def precisions_of(device: str) -> list[str]:
    """Return the number formats worth measuring on a device."""
    from xr_terramind.inference.device import fastest_precision

    return list(dict.fromkeys([fastest_precision(device), "float32"]))


def measure(chosen: argparse.Namespace) -> None:
    """Print the table, then what the goals ask about."""
    device = chosen.device
    matrix = {
        name: matrix_flop_per_s(getattr(torch, name), device) for name in precisions_of(device)
    }
    rates = ", ".join(f"{name} {rate / 1e12:.1f} TFLOP/s" for name, rate in matrix.items())
    print(f"\nMatrix products: {rates}.\n")
    header = ("model", "batch", "precision", "encoder, windows/s", "of the matrix rate",
              "from host, windows/s", "upload")  # fmt: skip
    print_row(header)
    print_row(["---"] * len(header))
    best: dict[tuple[str, str], float] = {}
    for model in chosen.models:
        for precision in matrix:
            for batch in chosen.batches:
                request = request_of(model, precision, device, batch)
                encoder = encoder_rate(request, device)
                host = host_rate(request, device, chosen.windows)
                upload_s = upload_seconds(request, device, chosen.windows)
                share = encoder * window_flop(model) / matrix[precision]
                upload_share = upload_s * host / chosen.windows
                print_row((model, batch, precision, f"{encoder:,.0f}", f"{share:.2f}",
                           f"{host:,.0f}", f"{upload_share:.2f}"))  # fmt: skip
                for name, figure in (("encoder", encoder), ("share", share), ("host", host)):
                    best[model, name] = max(best.get((model, name), 0.0), figure)
    print_goals(chosen, best)


def print_goals(chosen: argparse.Namespace, best: dict[tuple[str, str], float]) -> None:
    """Print each goal beside its figure, for the models that were measured."""
    batch = max(chosen.batches)
    precision = precisions_of(chosen.device)[0]
    print()
    for model in chosen.models:
        theirs = terratorch_like_rate(model, chosen.device, batch)
        over = best[model, "encoder"] / theirs
        say(f"{model} over TerraTorch's float32 forward", over, ">=", GOALS["over_terratorch"])
    if "small" in chosen.models:
        rate = best["small", "host"]
        say("small from host memory, windows/s", rate, ">=", GOALS["windows_per_s"])
    if "base" in chosen.models:
        say("base's encoder, of the matrix rate", best["base", "share"], ">=", GOALS["base_share"])
    model = "small" if "small" in chosen.models else chosen.models[0]
    request = request_of(model, precision, chosen.device, batch)
    tile_s = tile_seconds(request, chosen.tile_px, chosen.threads)
    say(f"{model}, {chosen.tile_px} px square as blocks, s", tile_s, "<=", GOALS["tile_s"])


def say(what: str, figure: float, sign: str, goal: float) -> None:
    """Print a figure and whether it meets its goal."""
    is_met = figure >= goal if sign == ">=" else figure <= goal
    print(f"- {what}: {figure:,.2f}; goal {sign} {goal:,g}: {'met' if is_met else 'not met'}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", nargs="+", default=["tiny", "small", "base", "large"])
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 128, 256])
    parser.add_argument("--windows", type=int, default=1024, help="of a run from host memory")
    parser.add_argument("--tile-px", type=int, default=TILE_PX)
    parser.add_argument("--threads", type=int, default=8, help="Dask's, for the tile")
    chosen = parser.parse_args()
    if chosen.device.startswith("cuda") and not torch.cuda.is_available():
        print("No GPU is at hand: nothing was measured. --device cpu tries the script without one.")
        return
    name = torch.cuda.get_device_name() if chosen.device.startswith("cuda") else chosen.device
    print(f"Measured {time.strftime('%Y-%m-%d')} on {name}, torch {torch.__version__}.")
    import_without_xarray_tools()
    measure(chosen)


if __name__ == "__main__":
    main()
