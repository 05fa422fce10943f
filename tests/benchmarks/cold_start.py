"""From the start of the process to the first 224 x 224 grid: ours beside TerraTorch's.

Run: python tests/benchmarks/cold_start.py [--repeats 5]
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from figures import Figure, Report, print_report
from jobs import SMALL, normalised, own_folder, terratorch_model
from measure import Run, as_table, in_turns, median, most_others, run_once

import numpy as np  # isort: skip

GOAL = 0.25
IMPORT_GOAL_S = 0.3

BASE = "import xarray, dask.array, rioxarray"
IMPORTS = {
    "xarray, dask.array, rioxarray": BASE,
    "and xr_terramind": f"{BASE}, xr_terramind",
    "and openvino": f"{BASE}, xr_terramind, openvino",
    "and torch": f"{BASE}, xr_terramind, torch",
    "TerraTorch's registry alone": "import terratorch.models.backbones.terramind",
}


def chip() -> np.ndarray:
    """Return 12 bands of 224 x 224 digital numbers."""
    return np.random.default_rng(0).integers(1, 5000, (12, 224, 224), dtype=np.int16)


def ours(weights: str) -> None:
    """Embed one chip through the accessor."""
    import xarray as xr

    import xr_terramind  # noqa: F401

    bands = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12"]
    cube = xr.DataArray(chip(), dims=("band", "y", "x"), coords={"band": bands})
    assert cube.terramind.embed(weights=weights).shape == (384, 14, 14)


def theirs(weights: str) -> None:
    """Embed one chip with TerraTorch alone."""
    model = terratorch_model(weights)
    import torch

    with torch.inference_mode():
        tokens = model({"S2L2A": normalised(chip()[None])})[-1]
    assert tokens[0].T.reshape(384, 14, 14).shape == (384, 14, 14)


def first_grids(repeats: int) -> dict[str, list[Run]]:
    """Embed one chip with each, in turns; the first turn converts our encoder."""
    jobs = str(Path(__file__).resolve().with_name("jobs.py"))
    with own_folder() as folder:
        run_once([jobs, str(folder)])
        weights = str(folder / f"{SMALL}.pt")
        return in_turns(
            {name: [__file__, "--run", name, "--weights", weights] for name in ("ours", "theirs")},
            repeats,
        )


def tables(runs: Mapping[str, Sequence[Run]], imports: Mapping[str, Sequence[Run]]) -> str:
    """Return the tables of first grids and of imports."""
    grids = [
        (label, f"{median(runs[name], 'wall_s'):.1f}", f"{median(runs[name], 'peak_mb'):.0f}")
        for name, label in (("ours", "xr_terramind"), ("theirs", "TerraTorch"))
    ]
    ends = [(name, f"{median(found, 'wall_s'):.2f}") for name, found in imports.items()]
    return (
        "### Process start to the first grid (small)\n\n"
        f"{as_table(('', 'seconds', 'peak memory, MB'), grids)}\n\n"
        f"### Process start to the end of importing\n\n{as_table(('', 'seconds'), ends)}"
    )


def report(repeats: int = 5) -> Report:
    """Measure, and put our start beside TerraTorch's and our import beside what it builds on."""
    runs = first_grids(repeats)
    imports = in_turns({name: ["-c", code] for name, code in IMPORTS.items()}, repeats)
    ours_s, theirs_s = (median(runs[name], "wall_s") for name in ("ours", "theirs"))
    base_s, with_ours_s = (median(imports[name], "wall_s") for name in list(IMPORTS)[:2])
    figures = (
        Figure("first grid, time over TerraTorch's", ours_s / theirs_s, "at most", GOAL),
        Figure(
            "`import xr_terramind`, added to xarray, Dask and rioxarray",
            with_ours_s - base_s,
            "at most",
            IMPORT_GOAL_S,
            unit="s",
            digits=2,
        ),
    )
    return Report(figures, tables(runs, imports), most_others({**runs, **imports}))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--run", choices=["ours", "theirs"])
    parser.add_argument("--weights")
    chosen = parser.parse_args()
    if chosen.run:
        {"ours": ours, "theirs": theirs}[chosen.run](chosen.weights)
        return
    print_report(report(chosen.repeats))


if __name__ == "__main__":
    main()
