"""From the start of the process to the first 224 x 224 grid: ours beside TerraTorch's.

Run: python tests/benchmarks/cold_start.py [--repeats 5]
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from jobs import normalised, terratorch_model, write_weights
from measure import in_turns, median, print_machine, print_table

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
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XR_TERRAMIND_CACHE"] = str(Path(folder, "cache"))  # the first turn fills it
        weights = str(write_weights(Path(folder)))
        runs = in_turns(
            {name: [__file__, "--run", name, "--weights", weights] for name in ("ours", "theirs")},
            chosen.repeats,
        )
        imports = in_turns({name: ["-c", code] for name, code in IMPORTS.items()}, chosen.repeats)
    wall_s = {name: median(found, "wall_s") for name, found in runs.items()}
    rows = [
        (label, f"{wall_s[name]:.1f}", f"{median(runs[name], 'peak_mb'):.0f}")
        for name, label in (("ours", "xr_terramind"), ("theirs", "TerraTorch"))
    ]
    print_table("Process start to the first grid (small)", ("", "seconds", "peak memory, MB"), rows)
    ratio = wall_s["ours"] / wall_s["theirs"]
    print(f"\nRatio {ratio:.2f} of TerraTorch's time; goal <= {GOAL}: {_met(ratio <= GOAL)}.")
    import_s = {name: median(found, "wall_s") for name, found in imports.items()}
    rows = [(name, f"{seconds:.2f}") for name, seconds in import_s.items()]
    print_table("Process start to the end of importing", ("", "seconds"), rows)
    ours_s = import_s["and xr_terramind"] - import_s["xarray, dask.array, rioxarray"]
    reached = _met(ours_s <= IMPORT_GOAL_S)
    print(f"\nxr_terramind adds {ours_s:.2f} s; goal <= {IMPORT_GOAL_S}: {reached}.")
    print_machine()


def _met(reached: bool) -> str:
    return "met" if reached else "not met"


if __name__ == "__main__":
    main()
