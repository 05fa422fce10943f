"""Peak memory of writing embeddings: a hundred windows, nine hundred, and a whole Sentinel-2 tile.

Each run is a process of its own that embeds a uint16 cube, whose chunks are drawn when asked for,
into a Zarr store. The peak is the resident memory of the process, model and libraries included.

Run: python tests/benchmarks/memory.py [--repeats 3] [--cases "100 windows" "900 windows"]
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
from figures import Figure, Report, print_report
from jobs import own_folder
from measure import Run, as_table, in_turns, median, most_others, run_once

FLAT_GOAL = 1.1
TILE_GOAL_MB = 4096
TILE_PX = 10_980
SMALL, TINY = "terramind_v1_small", "terramind_v1_tiny"


class Case(NamedTuple):
    """A cube and how it is embedded."""

    size_px: int
    model: str = SMALL
    chunk_px: int = 1024
    overlap_px: int = 0


CASES = {
    "100 windows": Case(2_240),
    "900 windows": Case(6_720),
    "100, chunks of 2,048 px": Case(2_240, chunk_px=2048),
    "900, chunks of 2,048 px": Case(6_720, chunk_px=2048),
    "900, overlap of 64 px": Case(4_832, overlap_px=64),
    "a tile, tiny": Case(TILE_PX, model=TINY),
}
CONVERSIONS = {"one window, small": Case(224), "one window, tiny": Case(224, model=TINY)}
TILE = "a tile, tiny"
PAIRS = {  # which should be flat: few windows and many
    "900 windows over 100": ("100 windows", "900 windows"),
    "900 windows over 100, chunks of 2,048 px": (
        "100, chunks of 2,048 px",
        "900, chunks of 2,048 px",
    ),
}
FEWEST = ("100 windows", "900 windows", TILE)


def cube(size_px: int, chunk_px: int):
    """Return a lazy cube of digital numbers, in chunks that are no multiple of a window."""
    import dask.array as da
    import numpy as np
    import xarray as xr

    def draw(block_id, shape):
        rng = np.random.default_rng(block_id)
        return rng.integers(100, 4000, shape, dtype=np.uint16)

    chunks = da.core.normalize_chunks((12, chunk_px, chunk_px), (12, size_px, size_px))
    template = da.zeros((12, size_px, size_px), chunks=chunks, dtype=np.uint16)
    pixels = template.map_blocks(
        lambda block, block_info=None: draw(block_info[0]["chunk-location"], block.shape),
        dtype=np.uint16,
        meta=np.empty((0, 0, 0), np.uint16),
    )
    bands = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12"]
    axis = 10.0 * np.arange(size_px)
    coords = {"band": bands, "y": 6_200_000 - axis, "x": 400_000 + axis}
    return xr.DataArray(pixels, dims=("band", "y", "x"), coords=coords).rio.write_crs(32632)


def write(case: Case) -> None:
    """Embed and write one of the cases, and print what it took."""
    import xr_terramind  # noqa: F401

    lazy = cube(case.size_px, case.chunk_px)
    options = {"model": case.model, "weights": "random", "overlap": case.overlap_px}
    plan = lazy.terramind.plan(**options)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        lazy.terramind.embed(**options).terramind.to_zarr(Path(folder, "embedding.zarr"))
    write_s = time.perf_counter() - start
    figures = {
        "windows": plan.windows,
        "blocks": plan.blocks,
        "planned_mb": plan.worker_bytes / 2**20,
    }
    print(json.dumps({**figures, "write_s": write_s}))


def measure(repeats: int, cases: Sequence[str]) -> dict[str, list[Run]]:
    """Run the cases in turns."""
    with own_folder():
        for name in CONVERSIONS:  # the first use of a model imports torch, which no later one needs
            run_once([__file__, "--run", name])
        contestants = {name: [__file__, "--run", name] for name in cases}
        # Peaks hardly depend on what others do, and the cases are long.
        return in_turns(contestants, repeats, warm_up=False, tries=1)


def table(runs: Mapping[str, Sequence[Run]]) -> str:
    """Return peaks and times."""
    rows = [
        (
            name,
            f"{CASES[name].size_px:,} px",
            f"{median(found, 'windows'):,.0f}",
            f"{median(found, 'blocks'):.0f}",
            f"{median(found, 'peak_mb'):,.0f}",
            f"{median(found, 'planned_mb'):,.0f}",
            f"{median(found, 'write_s'):.0f}",
        )
        for name, found in runs.items()
    ]
    header = ("", "square of", "windows", "blocks", "peak memory, MB", "plan() says", "seconds")
    return as_table(header, rows)


def report(repeats: int = 3, cases: Sequence[str] = tuple(CASES)) -> Report:
    """Measure the cases, and judge those pairs of which both are there."""
    runs = measure(repeats, cases)
    peak_mb = {name: median(found, "peak_mb") for name, found in runs.items()}
    figures = [
        Figure(f"peak memory, {what}", peak_mb[many] / peak_mb[few], "at most", FLAT_GOAL)
        for what, (few, many) in PAIRS.items()
        if {few, many} <= peak_mb.keys()
    ]
    if TILE in peak_mb:
        figures.append(
            Figure(
                "peak memory, a whole tile", peak_mb[TILE], "at most", TILE_GOAL_MB, "MB", digits=0
            )
        )
    text = f"### Peak memory of embed(...).terramind.to_zarr(...)\n\n{table(runs)}"
    return Report(tuple(figures), text, most_others(runs))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--run", choices=[*CASES, *CONVERSIONS])
    chosen = parser.parse_args()
    if chosen.run:
        write({**CASES, **CONVERSIONS}[chosen.run])
        return
    print_report(report(chosen.repeats, chosen.cases))


if __name__ == "__main__":
    main()
