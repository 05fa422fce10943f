"""Draws which patches each window owns, with and without overlap: docs/images/windows.png.

Run: python docs/figures/windows.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from xr_terramind.blocks.windows import Axis

TARGET = Path(__file__).resolve().parents[1] / "images" / "windows.png"
HEIGHT_PX, WIDTH_PX, WINDOW_PX, PATCH_PX = 384, 608, 224, 16
GREY, ACCENT = "#808080", "#c2410c"  # grey is visible on white and on black
TINTS = np.array([[(214, 228, 240), (226, 238, 220)], [(244, 232, 212), (234, 222, 238)]]) / 255


def owners(axis: Axis) -> np.ndarray:
    """Return the window that owns each patch along one axis."""
    return np.concatenate(
        [np.full(np.diff(axis.owned(window)), window) for window in range(axis.n_windows)]
    )


def draw(ax: Axes, overlap_px: int, window: tuple[int, int]) -> None:
    """Draw the extent, coloured by owning window, and what one window reads and owns."""
    rows, cols = (
        Axis(size_px, WINDOW_PX, WINDOW_PX - overlap_px) for size_px in (HEIGHT_PX, WIDTH_PX)
    )
    by_row, by_col = owners(rows), owners(cols)
    tints = TINTS[by_row[:, None] % 2, by_col[None, :] % 2]
    ax.imshow(tints, extent=(0, WIDTH_PX, HEIGHT_PX, 0), interpolation="nearest")
    ax.set_xticks(np.arange(0, WIDTH_PX + 1, PATCH_PX), minor=True)
    ax.set_yticks(np.arange(0, HEIGHT_PX + 1, PATCH_PX), minor=True)
    ax.grid(which="minor", color="white", linewidth=0.6)
    ax.tick_params(which="both", length=0, colors=GREY)
    starts = [[axis.start(one) for one in range(axis.n_windows)] for axis in (rows, cols)]
    ax.set_xticks(starts[1])
    ax.set_yticks(starts[0])
    top, left = rows.start(window[0]), cols.start(window[1])
    (first_row, last_row), (first_col, last_col) = rows.owned(window[0]), cols.owned(window[1])
    ax.add_patch(
        Rectangle(
            (first_col * PATCH_PX, first_row * PATCH_PX),
            (last_col - first_col) * PATCH_PX,
            (last_row - first_row) * PATCH_PX,
            facecolor=ACCENT,
            alpha=0.45,
        )
    )
    # Within the extent, so that no edge of the line is cut off.
    ax.add_patch(
        Rectangle(
            (left + 1.5, top + 1.5), WINDOW_PX - 3, WINDOW_PX - 3, fill=False, edgecolor=ACCENT,
            linewidth=2, zorder=4,
        )
    )  # fmt: skip
    n_windows = rows.n_windows * cols.n_windows
    ax.set_title(f"overlap={overlap_px}: {n_windows} windows", color=GREY, fontsize=11)
    for spine in ax.spines.values():
        spine.set_visible(False)


def main() -> None:
    """Draw and save."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.3), layout="constrained")
    for ax, overlap_px in zip(axes, (0, 64), strict=True):
        draw(ax, overlap_px, (1, 1))
        ax.set_xlabel("first pixel of each window", color=GREY)
    figure.savefig(TARGET, dpi=144, transparent=True)


if __name__ == "__main__":
    main()
