"""Nodata that nobody declared: one value, again and again, where real pixels would differ."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from xr_terramind.cube.report import Fix, Issue, make_warning
from xr_terramind.cube.values.images import Image
from xr_terramind.cube.values.remedies import format_value, mask_values
from xr_terramind.model.modalities import Modality

_MIN_SHARE_OUTSIDE = 0.0005  # of values that no sensor measures
_MIN_SHARE_INSIDE = 0.01  # of pixels that hold one plausible value in all their bands
_MIN_PIXELS = 8
_DEM_GAP_M = 1000  # heights of the sea floor are no nodata where others are near
_MAX_NAMED = 3


def find_undeclared(images: Sequence[Image], modality: Modality) -> dict[float, float]:
    """Find values that stand for no data: value -> the share of valid pixels that hold it.

    Either no sensor measures the value, or more than a few pixels hold it in all of their bands.
    """
    n_pixels = sum(image.pixels.shape[1] for image in images)
    counts: Counter[float] = Counter()
    for image in images:
        for value in {*_outside_values(image, modality), *_constant_values(image, modality)}:
            counts[value] += 0
    # Counted in all images: a date that holds nothing else is not told by itself.
    for image in images if counts else ():
        for value in counts:
            counts[value] += int(np.count_nonzero((image.pixels == value).any(axis=0)))
    return {value: count / n_pixels for value, count in counts.most_common(_MAX_NAMED)}


def undeclared_issues(found: dict[float, float]) -> Iterator[Issue]:
    """Name each value, its share, and the call that declares it."""
    for value, share in found.items():
        text = format_value(value)
        yield make_warning(
            "undeclared-nodata",
            f"{text} in {share:.1%} of the valid pixels, again and again: nodata, it seems",
            "nodata that is declared, or NaN",
            f"Declare it with cube.rio.write_nodata({text}), or mask it with "
            f"{mask_values('cube', [value])}, which a Dataset has, too.",
            fix=Fix(nodata=value),
        )


def _outside_values(image: Image, modality: Modality) -> Iterator[float]:
    low, high = _plausible_range(image, modality)
    ordered = image.ordered
    below = ordered[: np.searchsorted(ordered, low)]
    above = ordered[np.searchsorted(ordered, high, side="right") :]
    for tail in (below, above):
        values, counts = np.unique(tail, return_counts=True)
        for value in values[counts >= max(3, _MIN_SHARE_OUTSIDE * ordered.size)]:
            if modality.name != "DEM" or _is_far(float(value), image):
                yield _exact(value)


def _is_far(value: float, image: Image) -> bool:
    rest = image.ordered[image.ordered != value]
    if not rest.size:
        return True
    low, high = np.quantile(rest, [0.01, 0.99])
    return bool(value < low - _DEM_GAP_M or value > high + _DEM_GAP_M)


def _plausible_range(image: Image, modality: Modality) -> tuple[float, float]:
    # In the unit that the cube has, which may be another than that of the modality.
    middle = image.quantile(0.5)
    if modality.name == "DEM":
        return -500, 9000
    if modality.is_sentinel1:
        if middle > 0:  # amplitudes or bytes, of any size
            return -70, float(np.iinfo(np.int32).max)
        return (-70, 100) if middle > -100 else (-7000, 4000)
    if image.is_fractional and -0.2 < middle < 1.5:
        return -0.2, 3  # reflectance; glint goes beyond 2
    return -2000, 30000


def _constant_values(image: Image, modality: Modality) -> Iterator[float]:
    pixels = image.pixels
    if len(pixels) < 2:  # one band: a lake has one height
        return
    constant = pixels.min(axis=0) == pixels.max(axis=0)
    n_constant, n_pixels = int(np.count_nonzero(constant)), pixels.shape[1]
    if n_constant < _MIN_PIXELS or n_constant == n_pixels:
        return
    rest = pixels[:, ~constant]
    values, counts = np.unique(pixels[0, constant], return_counts=True)
    for value in values[counts >= max(_MIN_PIXELS, _MIN_SHARE_INSIDE * n_pixels)]:
        # Two or three bands of whole numbers may agree by chance, and flat drawings have no other
        # pixels: there, only a value at the end of the range counts.
        at_the_end = value <= np.quantile(rest, 0.001) or value >= np.quantile(rest, 0.999)
        many_vary = rest.shape[1] >= _MIN_PIXELS and (len(pixels) > 3 or image.is_fractional)
        if (at_the_end or many_vary) and not _is_ceiling(_exact(value), image, modality):
            yield _exact(value)


def _is_ceiling(value: float, image: Image, modality: Modality) -> bool:
    # Bright clouds saturate, and values were clipped there.
    if modality.name == "RGB":
        return value in (1.0, 255.0)
    return modality.is_sentinel2 and (
        (value in (1.0, 100.0) and image.is_fractional) or 10000 <= value <= 20000
    )


def _exact(value: np.generic) -> float:
    return float(str(value))  # the short form of float32 is the one that can be typed
