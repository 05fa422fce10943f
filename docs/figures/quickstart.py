"""Draws the pictures of the quickstart, of the synthetic scene: docs/images/quickstart.png.

Run: python docs/figures/quickstart.py
"""

from pathlib import Path

import matplotlib.pyplot as plt

import xr_terramind as xtm

TARGET = Path(__file__).resolve().parents[1] / "images" / "quickstart.png"
PLACE = {"x": 442_000, "y": 6_158_000}  # as in the quickstart
GREY, ACCENT = "#808080", "#ff2d2d"  # grey is visible on white and on black


def main() -> None:
    """Embed, draw and save."""
    scene = xtm.sample_scene(448)
    embedding = scene.terramind.embed(model="terramind_v1_small", weights="random")
    alike = embedding.terramind.similarity(**PLACE)
    colours = scene.sel(band=["B4", "B3", "B2"])
    edges = [coordinate / 1000 for coordinate in embedding.rio.bounds()]
    extent = (edges[0], edges[2], edges[1], edges[3])

    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.2), layout="constrained")
    stretched = (colours / colours.quantile(0.98)).clip(0, 1).transpose("y", "x", "band")
    axes[0].imshow(stretched, extent=extent)
    axes[0].set_title("true colour", color=GREY, fontsize=11)
    axes[1].imshow(embedding.terramind.to_rgb().transpose("y", "x", "rgb"), extent=extent)
    axes[1].set_title("to_rgb()", color=GREY, fontsize=11)
    shown = axes[2].imshow(alike.squeeze(), extent=extent, vmax=1, cmap="cividis")
    axes[2].set_title("similarity(x=..., y=...)", color=GREY, fontsize=11)
    figure.colorbar(shown, ax=axes[2], shrink=0.8).ax.tick_params(colors=GREY)
    for ax in axes:
        ax.plot(PLACE["x"] / 1000, PLACE["y"] / 1000, "+", color=ACCENT, markersize=11, mew=2)
        ax.set(xticks=[], yticks=[])
        for spine in ax.spines.values():
            spine.set_color(GREY)
    figure.savefig(TARGET, dpi=144, transparent=True)


if __name__ == "__main__":
    main()
