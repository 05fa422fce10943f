"""Peak memory of writing embeddings: a hundred windows, nine hundred, and a whole Sentinel-2 tile.

Each run is a process of its own that embeds a uint16 cube, whose chunks are drawn when asked for,
into a Zarr store. The peak is the resident memory of the process, model and libraries included.

Run: python tests/benchmarks/memory.py [--model terramind_v1_tiny]
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from measure import print_machine, print_table, run_once

FLAT_GOAL = 1.1
TILE_GOAL_MB = 4096
TILE_PX = 10_980
SIZES_PX = {"100": 2_240, "900": 6_720, "900, overlap 64": 4_832, "tile": TILE_PX}


def cube(size_px: int, chunk_px: int = 2048):
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


def write(name: str, model: str) -> None:
    """Embed and write one of the sizes, and print what it took."""
    import xr_terramind  # noqa: F401

    overlap = 64 if "overlap" in name else 0
    lazy = cube(SIZES_PX[name])
    options = {"model": model, "weights": "random", "overlap": overlap}
    plan = lazy.terramind.plan(**options)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        lazy.terramind.embed(**options).terramind.to_zarr(Path(folder, "embedding.zarr"))
    wall_s = time.perf_counter() - start
    print(json.dumps({"windows": plan.windows, "blocks": plan.blocks, "wall_s": wall_s}))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="terramind_v1_tiny")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES_PX), choices=list(SIZES_PX))
    parser.add_argument("--run", choices=list(SIZES_PX))
    chosen = parser.parse_args()
    if chosen.run:
        write(chosen.run, chosen.model)
        return
    rows, peak_mb = [], {}
    for name in chosen.sizes:
        run = run_once([__file__, "--run", name, "--model", chosen.model])
        peak_mb[name] = run.peak_mb
        rows.append(
            (
                name,
                f"{SIZES_PX[name]:,} px",
                f"{run.figures['windows']:,}",
                run.figures["blocks"],
                f"{run.peak_mb:,.0f}",
                f"{run.peak_mb / peak_mb.get('100', run.peak_mb):.2f}",
                f"{run.figures['wall_s']:.0f}",
            )
        )
    header = ("", "square of", "windows", "blocks", "peak memory, MB", "over 100", "seconds")
    print_table(f"Peak memory of embed(...).terramind.to_zarr(...), {chosen.model}", header, rows)
    if {"100", "900"} <= peak_mb.keys():
        ratio = peak_mb["900"] / peak_mb["100"]
        print(
            f"\n900 windows over 100: {ratio:.2f}; goal <= {FLAT_GOAL}: {_met(ratio <= FLAT_GOAL)}."
        )
    if "tile" in peak_mb:
        tile = peak_mb["tile"]
        print(f"The tile: {tile:,.0f} MB; goal <= {TILE_GOAL_MB:,}: {_met(tile <= TILE_GOAL_MB)}.")
    print_machine()


def _met(reached: bool) -> str:
    return "met" if reached else "not met"


if __name__ == "__main__":
    main()
