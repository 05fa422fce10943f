"""Samples of valid pixels, one image per date, and what a cube's attrs say of their unit."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from xr_terramind.cube.bands import invalid_pixels
from xr_terramind.model.modalities import Modality

ODD_SHARE = 0.04
"""Share of values at either end that decides nothing: a few odd values must not hide the rest."""

_IMAGE_SAMPLE_VALUES = 40_000  # per image of a long series, so that quantiles stay reliable

_PERCENT = ("%", "percent", "pct")


class Told(NamedTuple):
    """What the attrs of a cube say of its values."""

    units: str = ""
    scale: float = 1.0
    offset: float = 0.0

    @property
    def is_percent(self) -> bool:
        """Whether the units are percent."""
        return self.units.strip().lower() in _PERCENT

    @property
    def is_packed(self) -> bool:
        """Whether values are to be scaled; GDAL writes 1 and 0 beside values that are not."""
        return (self.scale, self.offset) != (1.0, 0.0)

    @property
    def words(self) -> str:
        """The attrs as a message quotes them, or nothing."""
        said = [f"units={self.units!r}"] if self.units else []
        if self.is_packed:
            said.append(f"scale_factor={self.scale:g} and add_offset={self.offset:g}")
        return f" (attrs say {', '.join(said)})" if said else ""


NOTHING_TOLD = Told()


def read_told(attrs: Mapping[Any, Any]) -> Told:
    """Read units, scale_factor and add_offset as they stand beside values that are not scaled.

    Xarray and rioxarray move them to the encoding where they have applied them.
    """
    units = _shared(attrs, "units")
    scale = _shared(attrs, "scale_factor", "scales")
    offset = _shared(attrs, "add_offset", "offsets")
    return Told(
        units if isinstance(units, str) else "",
        _finite(scale, 1.0) or 1.0,
        _finite(offset, 0.0),
    )


def _shared(attrs: Mapping[Any, Any], *keys: str) -> Any:
    # rioxarray has one entry per band where bands differ; those say nothing of the whole cube.
    for key in keys:
        found = np.atleast_1d(np.asarray(attrs.get(key, ())))
        if found.size and (found == found[0]).all():
            return found[0].item()
    return None


def _finite(number: Any, default: float) -> float:
    try:
        found = float(number)
    except (TypeError, ValueError):
        return default
    return found if math.isfinite(found) else default


class ImageName(NamedTuple):
    """How a message calls an image, and the Python that is true for it, as `Image` has them."""

    text: str
    test: str = ""


NO_NAME = ImageName("")


@dataclass(frozen=True)
class Image:
    """Valid pixels of one date."""

    label: str  # the date as YYYY-MM-DD, or its place in the cube; empty of a cube of one image
    pixels: np.ndarray  # (band, pixel)
    n_sampled: int  # pixels, with those that are not valid
    test: str = ""  # Python that is true for it; empty where the date is all that tells it apart

    @cached_property
    def ordered(self) -> np.ndarray:
        """All values, from the least to the greatest."""
        return np.sort(self.pixels, axis=None)

    def share_below(self, value: float) -> float:
        """Return the share of values less than a value."""
        return float(np.searchsorted(self.ordered, value)) / self.ordered.size

    def share_above(self, value: float) -> float:
        """Return the share of values greater than a value."""
        return 1 - float(np.searchsorted(self.ordered, value, side="right")) / self.ordered.size

    def quantile(self, share: float) -> float:
        """Return the value that `share` of the values do not exceed."""
        return float(self.ordered[round(share * (self.ordered.size - 1))])

    @property
    def low(self) -> float:
        """What all but a few values exceed."""
        return self.quantile(ODD_SHARE)

    @property
    def high(self) -> float:
        """What all but a few values stay below."""
        return self.quantile(1 - ODD_SHARE)

    @cached_property
    def is_fractional(self) -> bool:
        """Whether more than a few values are no whole numbers."""
        if self.pixels.dtype.kind != "f":
            return False
        some = self.ordered[:: max(1, self.ordered.size // 10_000)]
        return bool(np.count_nonzero(some != np.rint(some)) > ODD_SHARE * some.size)

    def without(self, values: Iterable[float]) -> "Image":
        """Leave out the pixels that hold one of some values in any band."""
        kept = np.ones(self.pixels.shape[1], bool)
        for value in values:
            kept &= ~(self.pixels == value).any(axis=0)
        if kept.all():
            return self
        return Image(self.label, self.pixels[:, kept], self.n_sampled, self.test)


def pool(images: Sequence[Image]) -> Image:
    """Join images into one, for figures of several dates."""
    if len(images) == 1:
        return images[0]
    pixels = np.concatenate([image.pixels for image in images], axis=1)
    return Image("", pixels, sum(image.n_sampled for image in images))


def sample_values(values: np.ndarray, n_values: int = 250_000) -> np.ndarray:
    """View every n-th row and column (..., band, y, x): some `n_values`, more of a series."""
    n_images = math.prod(values.shape[:-3])
    wanted = max(n_values, n_images * _IMAGE_SAMPLE_VALUES)
    step = max(1, math.ceil(math.sqrt(values.size / wanted)))
    return values[..., ::step, ::step]


def cut_images(
    values: np.ndarray,
    nodata: Sequence[float],
    modality: Modality,
    labels: Sequence[ImageName] = (),
) -> list[Image]:
    """Cut raw values (..., band, y, x) into images, each without its invalid pixels."""
    stack = values.reshape(-1, *values.shape[-3:])
    names = labels if len(labels) == len(stack) else [NO_NAME] * len(stack)
    images = []
    for name, image in zip(names, stack, strict=True):
        valid = ~invalid_pixels(image, nodata, modality)
        images.append(Image(name.text, image[:, valid], valid.size, name.test))
    return images


def name_images(axes: Mapping[Any, tuple[int, np.ndarray | None]]) -> tuple[ImageName, ...]:
    """Name images by their date, or by their place along the dimensions that count them.

    Each dimension has its size and its labels, if any. The last counts fastest.
    """
    if list(axes) == ["time"]:
        times = axes["time"][1]
        if times is not None and times.dtype.kind == "M":
            return tuple(ImageName(str(day)) for day in np.datetime_as_string(times, unit="D"))
    named = [
        [_name_entry(dim, size, labels, number) for number in range(size)]
        for dim, (size, labels) in axes.items()
    ]
    return tuple(
        ImageName(", ".join(one.text for one in parts), " & ".join(one.test for one in parts))
        for parts in product(*named)
    )


def _name_entry(dim: Any, size: int, labels: np.ndarray | None, number: int) -> ImageName:
    if labels is None:
        return ImageName(f"{dim} {number}", f"(cube[{dim!r}] == {number})")
    label = labels[number]
    if labels.dtype.kind == "M":
        text = str(label).removesuffix(".000000000")
        return ImageName(f"{dim} {text}", f"(cube[{dim!r}] == numpy.datetime64('{label}'))")
    if isinstance(label, str | int | float | np.number):
        value = label.item() if isinstance(label, np.generic) else label
        return ImageName(f"{dim} {value}", f"(cube[{dim!r}] == {value!r})")
    position = f"(xarray.DataArray(range({size}), dims={dim!r}) == {number})"
    return ImageName(f"{dim} {number}", position)


def value_facts(images: Sequence[Image]) -> dict[str, str]:
    """Describe the values of images in one line, for a report."""
    seen = [image for image in images if image.pixels.size]
    if not seen:
        return {"values": "no valid pixel in the sample"}
    n_pixels = sum(image.n_sampled for image in images)
    share = sum(image.pixels.shape[1] for image in seen) / n_pixels
    valid = np.concatenate([image.pixels.ravel() for image in seen])
    low, middle, high = (float(np.percentile(valid, q)) for q in (1, 50, 99))
    return {
        "values": f"1 % {low:.5g}, median {middle:.5g}, 99 % {high:.5g}; "
        f"{share:.1%} of {n_pixels} sampled pixels valid"
    }
