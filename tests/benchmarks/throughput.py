"""The whole lazy pipeline on 36 windows beside TerraTorch's bare forward pass.

Ours reads a chunked uint16 cube, cuts windows, clips, normalises, encodes and labels the grid.
TerraTorch's gets windows that are normalised and in memory already. Importing TerraTorch lowers
torch's float32 matrix precision to "medium", which on CPUs with bfloat16 units is another number
format: it is measured so, and at "highest", which is what ours computes. One large matrix product,
measured in the same turns, says how near to the processor's own rate they all come.

Run: python tests/benchmarks/throughput.py [--repeats 3] [--passes 3]
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from figures import Figure, Report, print_report
from jobs import SMALL, normalised, own_folder, request_of, terratorch_model
from measure import Run, as_table, in_turns, median, most_others, run_once

ENGINE_GOAL = 1.5
PIPELINE_GOAL = 0.95
SIDE = 6
MATRIX = "matrix product"
CONTESTANTS = {
    "ours": "xr_terramind, whole pipeline (OpenVINO)",
    "engine": "its encoder alone, windows in memory",
    "ours-torch": 'xr_terramind, engine="torch"',
    "ours-bfloat16": 'xr_terramind, precision="bfloat16"',
    "ours-torch-bfloat16": 'xr_terramind, engine="torch", precision="bfloat16"',
    "theirs": "TerraTorch, bare forward, float32",
    "theirs-medium": 'TerraTorch, bare forward, as imported ("medium")',
}


def ours(weights: str, passes: int, precision: str = "float32", engine: str = "auto") -> float:
    """Return windows a second of `embed(...).compute()`."""
    import xr_terramind as xtm

    cube = xtm.sample_scene(size_px=224 * SIDE).chunk(x=512, y=512)
    embedding = cube.terramind.embed(weights=weights, precision=precision, engine=engine)
    return _rate(embedding.compute, passes)


def engine(weights: str, passes: int) -> float:
    """Return windows a second of the encoder that the pipeline uses."""
    import numpy as np

    import xr_terramind as xtm
    from xr_terramind.inference.loaded import engine_for

    request = request_of(weights)
    scene = xtm.sample_scene(size_px=224 * SIDE).values.astype(np.float32)
    windows = scene.reshape(12, SIDE, 224, SIDE, 224).transpose(1, 3, 0, 2, 4)
    batches = np.split(np.ascontiguousarray(windows.reshape(-1, 12, 224, 224)), 4)
    engine = engine_for(request.key)
    return _rate(lambda: [engine.encode(batch, None, request) for batch in batches], passes)


def theirs(weights: str, passes: int, precision: str = "highest") -> float:
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

    return _rate(forward, passes)


def _rate(job, passes: int) -> float:
    job()
    times_s = []
    for _ in range(passes):
        start = time.perf_counter()
        job()
        times_s.append(time.perf_counter() - start)
    return SIDE**2 / statistics.median(times_s)


RUNS = {
    "ours": ours,
    "engine": engine,
    "ours-torch": lambda *given: ours(*given, engine="torch"),
    "ours-bfloat16": lambda *given: ours(*given, "bfloat16"),
    "ours-torch-bfloat16": lambda *given: ours(*given, "bfloat16", "torch"),
    "theirs": theirs,
    "theirs-medium": lambda *given: theirs(*given, "medium"),
}


def measure(repeats: int, passes: int) -> dict[str, list[Run]]:
    """Run all contestants in turns."""
    here = Path(__file__).resolve().parent
    with own_folder() as folder:
        run_once([str(here / "jobs.py"), str(folder)])
        options = ["--weights", str(folder / f"{SMALL}.pt"), "--passes", str(passes)]
        contestants = {name: [__file__, "--run", name, *options] for name in RUNS}
        contestants[MATRIX] = [str(here / "matrix_rate.py"), "--passes", str(passes)]
        # The first use of a model converts it, which takes memory that no later one needs.
        run_once(contestants["engine"])
        return in_turns(contestants, repeats, warm_up=False)


def speeds(runs: Mapping[str, Sequence[Run]]) -> str:
    """Return the table of windows a second."""
    base = median(runs["theirs"], "rate")
    rows = [
        (
            label,
            f"{median(runs[name], 'rate'):.1f}",
            f"{median(runs[name], 'rate') / base:.2f}",
            f"{median(runs[name], 'peak_mb'):.0f}",
        )
        for name, label in CONTESTANTS.items()
    ]
    return as_table(("", "windows/s", "over TerraTorch float32", "peak memory, MB"), rows)


def arithmetic(runs: Mapping[str, Sequence[Run]]) -> str:
    """Return the table of float32 arithmetic, and the rate that it would allow at best."""
    best, gflop = (median(runs[MATRIX], figure) for figure in ("gflop_per_s", "gflop_per_window"))
    rates = {name: median(runs[name], "rate") for name in ("engine", "theirs")}
    labels = {"engine": "xr_terramind's encoder (OpenVINO)", "theirs": CONTESTANTS["theirs"]}
    rows = [("one matrix product, 4,096 x 4,096", f"{best:.0f}", "1.00")]
    rows += [
        (labels[name], f"{rate * gflop:.0f}", f"{rate * gflop / best:.2f}")
        for name, rate in rates.items()
    ]
    table = as_table(("float32", "GFLOP/s", "of the matrix product's rate"), rows)
    return (
        f"{table}\n\nThe matrix products of a window of small are {gflop:.1f} GFLOP. At the rate "
        f"of the large one, with nothing else to do, that is {best / gflop:.1f} windows/s, or "
        f"{best / gflop / rates['theirs']:.2f} of TerraTorch's rate in float32."
    )


def report(repeats: int = 3, passes: int = 3) -> Report:
    """Measure, and put the encoder beside TerraTorch's and the pipeline beside its encoder."""
    runs = measure(repeats, passes)
    pipeline, encoder, bare = (median(runs[name], "rate") for name in ("ours", "engine", "theirs"))
    figures = (
        Figure(
            "encoder, windows/s over TerraTorch's bare float32 forward",
            encoder / bare,
            "at least",
            ENGINE_GOAL,
        ),
        Figure(
            "whole pipeline, windows/s over its own encoder",
            pipeline / encoder,
            "at least",
            PIPELINE_GOAL,
        ),
    )
    text = (
        f"### {SIDE**2} windows of small\n\n{speeds(runs)}\n\n"
        f"### Float32 arithmetic\n\n{arithmetic(runs)}"
    )
    return Report(figures, text, most_others(runs))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--run", choices=list(RUNS))
    parser.add_argument("--weights")
    chosen = parser.parse_args()
    if chosen.run:
        print(json.dumps({"rate": RUNS[chosen.run](chosen.weights, chosen.passes)}))
        return
    print_report(report(chosen.repeats, chosen.passes))


if __name__ == "__main__":
    main()
