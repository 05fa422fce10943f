"""How much of a step there is between tokens that different windows own.

For each overlap: the mean distance of neighbouring tokens on two sides of a border between
windows, over the same mean for neighbours that one window owns. 1.0 is no seam. The control is the
same ratio for the mean of each band over each patch, without any model: it says how far from 1.0
the scene's own contents put the ratio, as only some places lie on a border.

Scenes: TerraMind's real example chips, and the synthetic sample scene. A chip is as large as one
window, so chips side by side would have their own edges where windows of overlap 0 meet. Each chip
is therefore mirrored on and on at its edges, which leaves no step in the image, and the image is
shifted by whole patches so that no mirror line lies on a border, whatever the overlap. All shifts
that do so are taken, for more places to lie on borders, and ratios are averaged over chips and
shifts. Neighbours across a mirror line are mirror images of one another and are left out, as are
patches with invalid pixels.

Run: python tests/benchmarks/seams.py [--model terramind_v1_small] [--weights pretrained]
"""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from measure import print_machine, print_table

import numpy as np  # isort: skip
import xarray as xr  # isort: skip

import xr_terramind as xtm  # isort: skip
from xr_terramind.errors import TerraMindWarning  # isort: skip
from xr_terramind.model.specs import PATCH_PX  # isort: skip
from xr_terramind.blocks.windows import Axis  # isort: skip

WINDOW_PX = 224
OVERLAPS_PX = (0, 32, 64, 96)
MOSAIC_PX = 896
SCENE_PX = 1120
HEADER = (
    "overlap, px",
    "windows",
    "cost",
    "step at borders (Euclidean)",
    "(1 - cosine)",
    "control (Euclidean)",
)

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


def window_axis(size_px: int, overlap_px: int) -> Axis:
    """Lay windows along one axis."""
    return Axis(size_px, WINDOW_PX, WINDOW_PX - overlap_px)


def borders_px(axis: Axis) -> list[int]:
    """Return where ownership passes from one window to the next."""
    return [axis.owned(window)[0] * PATCH_PX for window in range(1, axis.n_windows)]


def lines_px(size_px: int) -> np.ndarray:
    """Return where neighbouring patches meet along one axis."""
    return np.arange(PATCH_PX, size_px, PATCH_PX)


def euclidean(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return distances along the first axis."""
    return np.linalg.norm(one - other, axis=0)


def cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return 1 - cosine along the first axis."""
    lengths = np.linalg.norm(one, axis=0) * np.linalg.norm(other, axis=0)
    return 1 - (one * other).sum(axis=0) / lengths


def step(
    vectors: np.ndarray,
    usable: np.ndarray,
    crossing: np.ndarray,
    folded: np.ndarray,
    distance: Distance,
) -> float:
    """Return the mean distance across borders over that inside windows.

    Vectors are (feature, y, x), usable patches (y, x). Of the lines between neighbours, `crossing`
    marks those on a border and `folded` those on a mirror line, for rows and columns alike.
    """
    across, inside = [], []
    for patches, valid in ((vectors, usable), (vectors.swapaxes(1, 2), usable.T)):
        apart = distance(patches[:, :, :-1], patches[:, :, 1:])
        valid = valid[:, :-1] & valid[:, 1:] & ~folded
        across.append(apart[valid & crossing])
        inside.append(apart[valid & ~crossing])
    return float(np.concatenate(across).mean() / np.concatenate(inside).mean())


def band_means(cube: xr.DataArray) -> np.ndarray:
    """Average each band over each patch: (band, y, x)."""
    side = cube.sizes["x"] // PATCH_PX
    pixels = cube.values.astype(np.float64)
    return pixels.reshape(-1, side, PATCH_PX, side, PATCH_PX).mean(axis=(2, 4))


def free_shifts_px(size_px: int, period_px: int) -> list[int]:
    """Return where mirror lines can start without meeting a border of any overlap."""
    taken = {
        border % period_px
        for overlap_px in OVERLAPS_PX
        for border in borders_px(window_axis(size_px, overlap_px))
    }
    return [shift for shift in range(PATCH_PX, period_px, PATCH_PX) if shift not in taken]


def mosaics(folder: Path) -> Iterator[tuple[xr.DataArray, np.ndarray]]:
    """Yield each chip, mirrored and shifted, and which lines between patches are mirror lines."""
    import rioxarray

    frame = xtm.sample_scene(size_px=MOSAIC_PX)  # lends its coordinates
    for path in sorted(folder.glob("*.tif")):
        chip = rioxarray.open_rasterio(path).terramind.arrange("S2L2A")
        chip_px = chip.sizes["x"]
        assert chip.shape[1:] == (chip_px, chip_px) and chip_px % PATCH_PX == 0
        for shift in free_shifts_px(MOSAIC_PX, chip_px):
            after = MOSAIC_PX - shift - chip_px
            sides = ((0, 0), (shift, after), (shift, after))
            pixels = np.pad(chip.values, sides, mode="symmetric")
            yield frame.copy(data=pixels), lines_px(MOSAIC_PX) % chip_px == shift


def measure(cube: xr.DataArray, folded: np.ndarray, **options: str) -> list[tuple[float, ...]]:
    """Return windows, both steps and the control for each overlap."""
    found = []
    for overlap_px in OVERLAPS_PX:
        axis = window_axis(cube.sizes["x"], overlap_px)  # the extent is a square
        crossing = np.isin(lines_px(axis.size_px), borders_px(axis))
        assert not (crossing & folded).any()
        embedding = cube.terramind.embed(overlap=overlap_px, window_size=WINDOW_PX, **options)
        tokens = embedding.values.astype(np.float64)
        usable = (embedding.valid_fraction == 1).values
        assert tokens.shape[1:] == (axis.n_patches, axis.n_patches)
        steps = [
            step(vectors, usable, crossing, folded, distance)
            for vectors, distance in (
                (tokens, euclidean),
                (tokens, cosine),
                (band_means(cube), euclidean),
            )
        ]
        found.append((axis.n_windows**2, *steps))
    return found


def print_scene(title: str, found: list[list[tuple[float, ...]]]) -> None:
    """Print the average of several measurements."""
    mean = np.mean(found, axis=0)  # (overlap, figure)
    rows = [
        (
            overlap_px,
            f"{windows:.0f}",
            f"{windows / mean[0, 0]:.2f}",
            *(f"{ratio:.2f}" for ratio in ratios),
        )
        for overlap_px, (windows, *ratios) in zip(OVERLAPS_PX, mean, strict=True)
    ]
    print_table(title, HEADER, rows)


def describe(model: str, weights: str) -> str:
    """Say which weights made the tables."""
    if weights == "random":
        return (
            f"{model} with RANDOM weights: attention, and all that it makes of a token's position "
            "and neighbours, is untrained, so that these figures do not carry over to pretrained "
            "weights. Run again where those are cached."
        )
    name = weights if weights == "pretrained" else Path(weights).name
    return f"{model}, weights: {name}."


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="terramind_v1_small")
    parser.add_argument("--weights", help="default: pretrained where they are cached, else random")
    chosen = parser.parse_args()
    cached = xtm.list_models()["cached"].get(chosen.model, False)
    weights = chosen.weights or ("pretrained" if cached else "random")
    # Not every chip has a dark pixel, which looks like an offset; both sides of a border have it.
    warnings.simplefilter("ignore", TerraMindWarning)
    options = {"model": chosen.model, "weights": weights}
    print(describe(**options))

    named = os.environ.get("XR_TERRAMIND_EXAMPLES")
    beside = Path(__file__).resolve().parents[3] / "shared/data/terramind_examples"
    folder = (Path(named) if named else beside) / "S2L2A"
    if folder.is_dir():
        found = [measure(cube, folded, **options) for cube, folded in mosaics(folder)]
        title = f"Example chips mirrored to {MOSAIC_PX} px, {weights} weights, mean of {len(found)}"
        print_scene(title, found)
    else:
        print("\nNo example chips: name their folder in XR_TERRAMIND_EXAMPLES. Scene skipped.")

    scene = xtm.sample_scene(size_px=SCENE_PX)
    nowhere = np.zeros(len(lines_px(SCENE_PX)), bool)
    title = f"Sample scene of {SCENE_PX} px, {weights} weights"
    print_scene(title, [measure(scene, nowhere, **options)])
    print_machine()


if __name__ == "__main__":
    main()
