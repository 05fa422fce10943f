"""Draws the patches of a scene with a gap, and their embedding: docs/images/footprints.png.

Run: python docs/figures/footprints.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import xr_terramind as xtm

TARGET = Path(__file__).resolve().parents[1] / "images" / "footprints.png"
SIZE_PX, PATCH_PX = 224, 16
GREY = "#808080"  # visible on white and on black


def scene_with_a_gap() -> xr.DataArray:
    """Return a scene without data in a slanting strip, as at the edge of a swath."""
    scene = xtm.sample_scene(SIZE_PX)
    rows, cols = np.mgrid[:SIZE_PX, :SIZE_PX]
    seen = xr.DataArray(cols + 0.25 * rows < 196, dims=("y", "x"))
    return scene.where(seen)


def main() -> None:
    """Embed, draw and save."""
    scene = scene_with_a_gap()
    embedding = scene.terramind.embed(
        model="terramind_v1_tiny", weights="random", min_valid_fraction=0.5
    )
    colours = scene.sel(band=["B4", "B3", "B2"]).transpose("y", "x", "band")
    # Pixels without data are transparent.
    stretched = (colours / colours.quantile(0.98)).clip(0, 1)
    opacity = stretched.notnull().all("band").astype(float).expand_dims(band=["opacity"], axis=-1)
    picture = np.concatenate([stretched.fillna(0), opacity], axis=-1)

    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.3), layout="constrained")
    axes[0].imshow(picture, extent=(0, SIZE_PX, SIZE_PX, 0))
    axes[0].set_xticks(np.arange(0, SIZE_PX + 1, PATCH_PX), minor=True)
    axes[0].set_yticks(np.arange(0, SIZE_PX + 1, PATCH_PX), minor=True)
    axes[0].grid(which="minor", color=GREY, linewidth=0.5)
    axes[0].set_title("pixels, and 14 x 14 patches", color=GREY, fontsize=11)
    shown = axes[1].imshow(embedding.valid_fraction, vmin=0, vmax=1, cmap="cividis")
    axes[1].set_title("valid_fraction", color=GREY, fontsize=11)
    bar = figure.colorbar(shown, ax=axes[1], shrink=0.8)
    bar.ax.tick_params(colors=GREY)
    rgb = embedding.terramind.to_rgb().transpose("y", "x", "rgb")
    opacity = rgb.notnull().all("rgb").astype(float).expand_dims(rgb=["opacity"], axis=-1)
    axes[2].imshow(np.concatenate([rgb.fillna(0), opacity], axis=-1))
    axes[2].set_title("embedding, as colours", color=GREY, fontsize=11)
    for ax in axes:
        ax.set(xticks=[], yticks=[], facecolor="none")
        ax.tick_params(which="both", length=0)
        for spine in ax.spines.values():
            spine.set_color(GREY)
    figure.savefig(TARGET, dpi=144, transparent=True)


if __name__ == "__main__":
    main()
