"""Algorithms on images: selecting, masking, comparing, casting, linking.

What each one does stands in Earth Engine's reference. Comments say where this server knows less,
and then refuses: it never answers with a number that Earth Engine might not.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import shapely

from tests.support.earth_engine.evaluator import algorithm
from tests.support.earth_engine.images import (
    BOOLEAN,
    Band,
    Grid,
    Image,
    PixelType,
    constant_image,
    scene_image,
)
from tests.support.earth_engine.scenes import BANDS, scenes
from tests.support.earth_engine.values import Date, EarthEngineError, Projection

algorithm("Image.constant")(constant_image)
algorithm("Image.bandNames")(lambda image: image.band_names)
algorithm("Image.date")(lambda image: Date.of(image.properties["system:time_start"]))


@algorithm("Image.load")
def _load(id, version=None):
    collection = id.rpartition("/")[0]
    for scene in scenes(collection) if collection in BANDS else ():
        if scene.id == id:
            return scene_image(scene)
    raise EarthEngineError(
        f"Image.load: Image asset '{id}' not found (does not exist or caller does not have access)."
    )


@algorithm("Image.select")
def _select(input, band_selectors, new_names=None):
    selectors = band_selectors if isinstance(band_selectors, list) else [band_selectors]
    found = [band for selector in selectors for band in _matching(input, selector)]
    selected = replace(input, bands=_with_unique_names(found))
    return _rename(selected, new_names) if new_names else selected


def _matching(image: Image, selector: str | int) -> list[Band]:
    """Return the bands of a name, a position or a regular expression."""
    if not isinstance(selector, str):
        return [image.bands[int(selector)]]
    if selector in image.band_names:
        return [image.band(selector)]
    found = [band for band in image.bands if re.fullmatch(selector, band.name)]
    if not found:
        raise EarthEngineError(
            f"Image.select: Band pattern '{selector}' did not match any bands. "
            f"Available bands: [{', '.join(image.band_names)}]"
        )
    return found


def _with_unique_names(bands: Iterable[Band]) -> tuple[Band, ...]:
    """Number repeated names: B2, B2_1, B2_2."""
    taken: dict[str, Band] = {}
    for band in bands:
        candidates = (f"{band.name}_{n}" if n else band.name for n in itertools.count())
        name = next(name for name in candidates if name not in taken)
        taken[name] = replace(band, name=name)
    return tuple(taken.values())


@algorithm("Image.rename")
def _rename(input, names):
    names = names if isinstance(names, list) else [names]
    if len(names) != len(input.bands):
        raise EarthEngineError(
            f"Image.rename: found {len(names)} names, expected {len(input.bands)}, one a band"
        )
    bands = (replace(band, name=name) for band, name in zip(input.bands, names, strict=True))
    return replace(input, bands=tuple(bands))


@algorithm("Image.addBands")
def _add_bands(dst_img, src_img, names=None, overwrite=False):
    added = src_img.bands if names is None else _select(src_img, names).bands
    if not overwrite:
        return replace(dst_img, bands=_with_unique_names(dst_img.bands + added))
    by_name = {band.name: band for band in (*dst_img.bands, *added)}
    return replace(dst_img, bands=tuple(by_name.values()))


@algorithm("Image.projection")
def _projection(image):
    found = {(band.projection.crs, tuple(band.projection.transform)) for band in image.bands}
    if len(found) != 1:
        raise EarthEngineError(
            "Image.projection: The bands of the specified image contains different projections. "
            "Use Image.select() to pick a single band."
        )
    return Projection(*found.pop())


# ---- masks: a masked pixel is NaN ----


@algorithm("Image.updateMask")
def _update_mask(image, mask):
    def hide(band: Band, by: Band) -> Callable[[Grid], np.ndarray]:
        return lambda grid: np.where(_nonzero(by, grid), band.render(grid), np.nan)

    return _zip_bands("Image.updateMask", image, mask, hide)


@algorithm("Image.selfMask")
def _self_mask(image):
    return _update_mask(image, image)


@algorithm("Image.mask")
def _mask(image, mask=None):
    if mask is None:
        return _change_pixels(image, lambda pixels: 1.0 * np.isfinite(pixels), BOOLEAN)

    # Other than updateMask this one may uncover masked pixels, whose values nobody knows here.
    def cover(band: Band, by: Band) -> Callable[[Grid], np.ndarray]:
        def render(grid: Grid) -> np.ndarray:
            pixels, shown = band.render(grid), _nonzero(by, grid)
            if np.any(shown & np.isnan(pixels)):
                raise EarthEngineError("Image.mask: the local server cannot uncover masked pixels")
            return np.where(shown, pixels, np.nan)

        return render

    return _zip_bands("Image.mask", image, mask, cover)


@algorithm("Image.unmask")
def _unmask(input, value=None, same_footprint=True):
    footprint = input.footprint if same_footprint else None

    def fill(band: Band, by: Band) -> Callable[[Grid], np.ndarray]:
        def render(grid: Grid) -> np.ndarray:
            pixels = band.render(grid)
            gaps = np.isnan(pixels)
            if footprint is not None:
                gaps &= shapely.contains_xy(footprint, *grid.coordinates("EPSG:4326"))
            return np.where(gaps, by.render(grid), pixels)

        return render

    filler = constant_image(0) if value is None else value
    filled = _zip_bands("Image.unmask", input, filler, fill, PixelType.union)
    return replace(filled, footprint=footprint)


def _nonzero(band: Band, grid: Grid) -> np.ndarray:
    return np.nan_to_num(band.render(grid)) != 0


# ---- comparison and logic: 1 or 0, masked where one operand is ----


def _zip_bands(name: str, first: Image, second: Image, make_render, type_of=None) -> Image:
    """Combine two images band by band; a single band goes with all of the other image."""
    left, right = first.bands, second.bands
    if len(right) == 1:
        right = right * len(left)
    elif len(left) == 1:
        left = tuple(replace(left[0], name=band.name) for band in right)
    if len(left) != len(right):
        raise EarthEngineError(
            f"{name}: found {len(left)} and {len(right)} bands, expected equally many or one"
        )
    bands = (
        replace(a, render=make_render(a, b), type=type_of(a.type, b.type) if type_of else a.type)
        for a, b in zip(left, right, strict=True)
    )
    return replace(first, bands=tuple(bands))


def _register_comparison(name: str, operation: Callable) -> None:
    def make_render(left: Band, right: Band) -> Callable[[Grid], np.ndarray]:
        def render(grid: Grid) -> np.ndarray:
            a, b = left.render(grid), right.render(grid)
            return np.where(np.isnan(a) | np.isnan(b), np.nan, operation(a, b))

        return render

    def apply(image1, image2):
        shapes = [image.footprint for image in (image1, image2) if image.footprint is not None]
        footprint = shapely.intersection_all(shapes) if shapes else None
        compared = _zip_bands(name, image1, image2, make_render, lambda *_: BOOLEAN)
        return replace(compared, footprint=footprint)

    algorithm(name)(apply)


for _name, _operation in {
    "eq": np.equal,
    "neq": np.not_equal,
    "lt": np.less,
    "lte": np.less_equal,
    "gt": np.greater,
    "gte": np.greater_equal,
    "and": np.logical_and,
    "or": np.logical_or,
}.items():
    _register_comparison(f"Image.{_name}", _operation)


def _change_pixels(image: Image, change: Callable, pixel_type: PixelType) -> Image:
    def changed(band: Band) -> Band:
        return replace(band, type=pixel_type, render=lambda grid: change(band.render(grid)))

    return replace(image, bands=tuple(map(changed, image.bands)))


@algorithm("Image.not")
def _not(value):
    return _change_pixels(value, lambda p: np.where(np.isnan(p), np.nan, p == 0), BOOLEAN)


@algorithm("Image.remap")
def _remap(image, from_, to, default_value=None, band_name=None):
    outcomes = [*to, *([] if default_value is None else [default_value])]
    precision = "int" if all(isinstance(value, int) for value in outcomes) else "double"

    def change(pixels: np.ndarray) -> np.ndarray:
        found = np.full(pixels.shape, np.nan if default_value is None else float(default_value))
        for old, new in zip(from_, to, strict=True):
            found[pixels == old] = new
        return np.where(np.isnan(pixels), np.nan, found)

    band = image.band(band_name) if band_name else image.bands[0]
    one = replace(image, bands=(replace(band, name="remapped"),))
    return _change_pixels(one, change, PixelType(precision, min(outcomes), max(outcomes)))


# Casts to integers are left out: this server does not know how Earth Engine rounds and clamps.
algorithm("Image.float", "Image.toFloat")(
    lambda value: _change_pixels(value, np.float32, PixelType("float"))
)
algorithm("Image.double", "Image.toDouble")(
    lambda value: _change_pixels(value, np.float64, PixelType("double"))
)


@algorithm("Image.linkCollection")
def _link_collection(
    input,
    image_collection,
    linked_bands=None,
    linked_properties=None,
    match_property_name="system:index",
):
    others, key = image_collection.elements, input.properties.get(match_property_name)
    match = next((o for o in others if o.properties.get(match_property_name) == key), None)
    names = [linked_bands] if isinstance(linked_bands, str) else linked_bands or []
    if names and not others:
        raise EarthEngineError("Image.linkCollection: the local server finds nothing to link")
    if names:
        added = _select(match or others[0], names)
        # Without a match the bands are there, and fully masked.
        input = _add_bands(
            input, added if match else _update_mask(added, constant_image(0)), overwrite=True
        )
    found = match.properties if match else {}
    linked = {name: found.get(name) for name in linked_properties or []}
    return replace(input, properties=input.properties | linked)
