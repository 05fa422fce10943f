"""How fast this machine multiplies float32 matrices, and how much of that a window needs.

Run: python tests/benchmarks/matrix_rate.py [--passes 3]
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from jobs import SMALL

SIDE = 4096


def gflop_per_s(passes: int) -> float:
    """Return the rate of one large matrix product: near the best that any float32 model can do."""
    import torch

    left, right = torch.rand(2, SIDE, SIDE)
    out = left @ right
    times_s = []
    for _ in range(passes):
        start = time.perf_counter()
        torch.matmul(left, right, out=out)
        times_s.append(time.perf_counter() - start)
    return 2 * SIDE**3 / 1e9 / statistics.median(times_s)


def gflop_per_window(key: str = SMALL) -> float:
    """Count the matrix products of one window, without running them."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from xr_terramind.model.encoder import TerraMindEncoder
    from xr_terramind.model.modalities import MODALITIES
    from xr_terramind.model.specs import MODELS

    counter = FlopCounterMode(display=False)
    with torch.device("meta"), torch.inference_mode(), counter:
        TerraMindEncoder(MODELS[key], MODALITIES["S2L2A"].embedding, 12)(
            torch.rand(1, 12, 224, 224)
        )
    return counter.get_total_flops() / 1e9


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=3)
    passes = parser.parse_args().passes
    found = {"gflop_per_s": gflop_per_s(passes), "gflop_per_window": gflop_per_window()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
