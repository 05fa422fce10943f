"""How long `embed` takes to say what would run, for 10,000 to a million windows.

The cubes are 12 bands of float32 in 2048-pixel chunks of zeros; no pixel of them is ever made. The
graph is that of the embedding and its valid fraction together, before Dask optimises it, the
source's own tasks included. The clock runs from the call of `embed` to its return and so includes
what the first call in a process imports; peak memory is that of the whole process, which afterwards
counts the graph and pickles it.

Run: python tests/benchmarks/graph.py [--repeats 3]
"""

import argparse
import json
import pickle
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from figures import Figure, Report, print_report
from measure import Run, as_table, in_turns, median, most_others

GOAL_S = 5.0
GOAL_TASKS = 100_000
CHUNK_PX = 2048
CASES = {  # edge of the square in pixels, overlap
    "ten thousand": (22_400, 0),
    "a hundred thousand": (71_680, 0),
    "a million": (224_000, 0),
    "overlapping": (224_000, 64),
}
JUDGED = "a million"


def zeros(size_px: int):
    """Return a georeferenced 12-band cube that is only promised."""
    import dask.array as da
    import numpy as np
    import rioxarray  # noqa: F401
    import xarray as xr

    bands = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12"]
    shape, chunks = (len(bands), size_px, size_px), (len(bands), CHUNK_PX, CHUNK_PX)
    centre_m = 10 * (np.arange(size_px) + 0.5)
    return xr.DataArray(
        da.zeros(shape, dtype=np.float32, chunks=chunks),
        dims=("band", "y", "x"),
        coords={"band": bands, "y": 9_000_000 - centre_m, "x": 200_000 + centre_m},
    ).rio.write_crs("EPSG:32632")


def build(size_px: int, overlap_px: int) -> dict[str, float]:
    """Build one graph and return its figures."""
    import cloudpickle

    import xr_terramind  # noqa: F401

    cube = zeros(size_px)
    start = time.perf_counter()
    embedding = cube.terramind.embed(weights="random", overlap=overlap_px)
    build_s = time.perf_counter() - start
    # An xarray object's graph holds its coordinates', and so the valid fraction's.
    graph = dict(embedding.__dask_graph__())
    assert set(embedding.valid_fraction.__dask_graph__()) <= set(graph)
    return {
        "windows": cube.terramind.plan(overlap=overlap_px).windows,
        "build_s": build_s,
        "tasks": len(graph),
        "source_tasks": len(dict(cube.__dask_graph__())),
        "pickled_mb": len(cloudpickle.dumps(graph, protocol=pickle.HIGHEST_PROTOCOL)) / 1e6,
    }


def table(runs: Mapping[str, Sequence[Run]]) -> str:
    """Return what each graph took and how large it is."""
    rows = [
        (
            f"{size_px:,} px" + (f", overlap={overlap_px}" if overlap_px else ""),
            f"{median(runs[name], 'windows'):,.0f}",
            f"{median(runs[name], 'build_s'):.2f}",
            f"{median(runs[name], 'tasks'):,.0f}",
            f"{median(runs[name], 'source_tasks'):,.0f}",
            f"{median(runs[name], 'pickled_mb'):.1f}",
            f"{median(runs[name], 'peak_mb'):.0f}",
        )
        for name, (size_px, overlap_px) in CASES.items()
    ]
    header = ("square of", "windows", "seconds to build", "tasks", "of these the source's")
    return as_table((*header, "pickled graph, MB", "peak memory, MB"), rows)


def report(repeats: int = 3) -> Report:
    """Measure; the overlap makes about twice the windows and has no goal of its own."""
    runs = in_turns({name: [__file__, "--run", name] for name in CASES}, repeats, warm_up=False)
    build_s, tasks = (median(runs[JUDGED], figure) for figure in ("build_s", "tasks"))
    figures = (
        Figure(
            "graph of a million windows, time to build", build_s, "at most", GOAL_S, "s", digits=2
        ),
        Figure("graph of a million windows", tasks, "at most", GOAL_TASKS, "tasks", digits=0),
    )
    return Report(figures, f"### Building the graph\n\n{table(runs)}", most_others(runs))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", choices=list(CASES))
    chosen = parser.parse_args()
    if chosen.run:
        print(json.dumps(build(*CASES[chosen.run])))
        return
    print_report(report(chosen.repeats))


if __name__ == "__main__":
    main()
