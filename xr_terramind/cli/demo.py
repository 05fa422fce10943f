"""The picture that ``xr-terramind demo`` draws: a scene beside what TerraMind sees in it."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_PICTURE_PX = 1200  # a larger scene is thinned: no screen shows more
_INK, _FAINT, _ALARM = "#222222", "#777777", "#b3261e"


def draw_overview(scene: xr.DataArray, embedding: xr.DataArray, path: Path) -> None:
    """Draw a scene in true colour beside the principal components of its embedding, as PNG.

    The scene has bands B4, B3 and B2, in a CRS in metres; the embedding has dims (feature, y, x).
    """
    # Matplotlib takes a second to import. Without pyplot no window system is asked for.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.9), dpi=130, facecolor="white")
    figure.set_layout_engine("compressed", w_pad=0.12, h_pad=0.12)  # inches
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    extent_km = _extent_km(scene)
    left.imshow(stretch_colours(scene), extent=extent_km)
    components = embedding.terramind.to_rgb().transpose("y", "x", "rgb")
    right.imshow(components, extent=_extent_km(embedding), interpolation="nearest")
    pixel_m, patch_m = (_step_m(image) for image in (scene, embedding))
    _draw_title(left, "True colour", f"bands B4, B3, B2; pixels of {pixel_m:g} m")
    _draw_title(
        right,
        "TerraMind embedding",
        f"first three principal components of {embedding.sizes['feature']} features; "
        f"patches of {patch_m:g} m",
    )
    _label_axes(left, right, scene, extent_km)
    _name_the_model(figure, embedding)
    figure.savefig(path)


def stretch_colours(scene: xr.DataArray) -> np.ndarray:
    """Stretch red, green and blue together, so that their balance stays.

    Returns (y, x, 3), 0 to 1, at most about 1200 pixels high and wide.
    """
    step = math.ceil(max(scene.sizes["y"], scene.sizes["x"]) / _MAX_PICTURE_PX)
    shown = scene.sel(band=["B4", "B3", "B2"]).isel(y=slice(None, None, step))
    shown = shown.isel(x=slice(None, None, step)).transpose("y", "x", "band")
    colours = shown.values.astype(np.float32)
    low, high = np.nanpercentile(colours, (1, 98))
    # A gamma under 1 lifts the dark greens, as the eye and every satellite viewer do.
    return np.clip((colours - low) / max(high - low, 1.0), 0, 1) ** 0.75


def _step_m(image: xr.DataArray) -> float:
    return abs(image.rio.transform().a)


def _extent_km(image: xr.DataArray) -> tuple[float, float, float, float]:
    west, south, east, north = (metres / 1000 for metres in image.rio.bounds())
    return west, east, south, north


def _draw_title(axes: "Axes", title: str, detail: str) -> None:
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color=_INK, pad=22)
    axes.text(0, 1.015, detail, transform=axes.transAxes, fontsize=9.5, color=_FAINT)


def _label_axes(
    left: "Axes", right: "Axes", scene: xr.DataArray, extent_km: tuple[float, ...]
) -> None:
    west, east, south, north = extent_km
    left.set(xlim=(west, east), ylim=(south, north), ylabel="northing (km)")
    for axes in (left, right):
        axes.set_xlabel(f"easting (km), {scene.rio.crs.to_string()}")
        axes.ticklabel_format(useOffset=False, style="plain")
        axes.locator_params(nbins=6)
        axes.tick_params(colors=_FAINT, labelsize=9)
        axes.spines[:].set_color("#cccccc")
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set(color=_FAINT, fontsize=9.5)


def _name_the_model(figure: "Figure", embedding: xr.DataArray) -> None:
    model = embedding.attrs["model_key"]
    if embedding.attrs["weights"] == "random":
        # A picture travels without its terminal: what it does not show must stand in it.
        text = f"{model} with RANDOM weights: this shows the plumbing, not what TerraMind sees"
        figure.supxlabel(text, fontsize=11, fontweight="bold", color=_ALARM)
    else:
        figure.supxlabel(f"{model}, synthetic scene", fontsize=9.5, color=_FAINT)
