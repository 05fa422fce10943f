"""Images as Earth Engine sees them: lazy bands that render on whatever grid a request asks for.

A band renders to a float64 array whose masked pixels are NaN; every integer type that occurs fits
a float64 exactly. Nothing is resampled but to the nearest pixel, as Earth Engine does unless told
otherwise, and there are no pyramids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial, reduce

import numpy as np
import pyproj
import shapely

from tests.support.earth_engine.scenes import (
    BANDS,
    CLOUD_SCORE_PLUS,
    TILE_SIZE_M,
    Scene,
    pixel_size_m,
    pixel_value,
)
from tests.support.earth_engine.values import Collection, EarthEngineError, Projection

_INTEGER_TYPES = ("uint8", "int8", "uint16", "int16", "int32", "uint32")


@dataclass(frozen=True)
class PixelType:
    """Precision ("int", "float" or "double") and range of a band's values."""

    precision: str
    low: float | None = None
    high: float | None = None

    @property
    def dtype(self) -> np.dtype:
        """What an NPY answer holds: for integers the smallest type that takes the range."""
        if self.precision != "int":
            return np.dtype("float32" if self.precision == "float" else "float64")
        for name in _INTEGER_TYPES:
            if np.iinfo(name).min <= self.low and self.high <= np.iinfo(name).max:
                return np.dtype(name)
        return np.dtype("int64")

    def union(self, other: PixelType) -> PixelType:
        """Return the type that holds both."""
        rank = ("int", "float", "double").index
        precision = max(self.precision, other.precision, key=rank)
        if None in (self.low, self.high, other.low, other.high):
            return PixelType(precision)
        return PixelType(precision, min(self.low, other.low), max(self.high, other.high))

    def describe(self) -> dict:
        """Return it as `getInfo` shows it."""
        limits = {} if self.low is None else {"min": self.low, "max": self.high}
        return {"type": "PixelType", "precision": self.precision} | limits


BOOLEAN = PixelType("int", 0, 1)


@dataclass(frozen=True)
class Grid:
    """The pixel grid of one request.

    Attributes
    ----------
    width, height : int
        In pixels.
    transform : tuple of float
        scaleX, shearX, translateX, shearY, scaleY, translateY.
    crs : str
        Code or WKT.
    """

    width: int
    height: int
    transform: tuple[float, ...]
    crs: str

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    # All scenes of a request ask for the same few, and so do Xee's requests band after band.
    @lru_cache(maxsize=4)  # noqa: B019 - a grid is a value, four of them are kept in all
    def coordinates(self, crs: str) -> tuple[np.ndarray, np.ndarray]:
        """Return x and y of all pixel centres in another CRS."""
        a, b, c, d, e, f = self.transform
        row, column = np.indices(self.shape) + 0.5
        try:
            change = pyproj.Transformer.from_crs(self.crs, crs, always_xy=True)
        except pyproj.exceptions.CRSError as error:
            raise EarthEngineError(f"The CRS '{self.crs}' is not known: {error}") from error
        return change.transform(a * column + b * row + c, d * column + e * row + f)


@dataclass(frozen=True, eq=False)
class Band:
    """One band: a description, and how to render it."""

    name: str
    type: PixelType
    projection: Projection
    render: Callable[[Grid], np.ndarray]
    dimensions: tuple[int, int] | None = None

    def describe(self) -> dict:
        """Return it as `getInfo` shows it."""
        found = {"id": self.name, "data_type": self.type.describe()}
        if self.dimensions:
            found["dimensions"] = list(self.dimensions)
        transform = list(self.projection.transform)
        return found | {"crs": self.projection.crs, "crs_transform": transform}


@dataclass(frozen=True, eq=False)
class Image:
    """Bands with properties; a footprint of None is unbounded."""

    bands: tuple[Band, ...]
    properties: dict = field(default_factory=dict)
    footprint: shapely.Geometry | None = None
    id: str | None = None

    @property
    def band_names(self) -> list[str]:
        """The bands' names in order."""
        return [band.name for band in self.bands]

    def band(self, name: str) -> Band:
        """Return the band of that name."""
        return next(band for band in self.bands if band.name == name)

    def describe(self) -> dict:
        """Return it as `getInfo` shows it."""
        found = {"type": "Image", "bands": [band.describe() for band in self.bands]}
        if self.id:
            found["id"] = self.id
        return found | ({"properties": self.properties} if self.properties else {})

    @property
    def geometry(self) -> shapely.Geometry:
        """The footprint; that of an unbounded image is the world."""
        return shapely.box(-180, -90, 180, 90) if self.footprint is None else self.footprint


def scene_image(scene: Scene) -> Image:
    """Return the image of an archive scene."""
    return Image(
        tuple(_scene_band(scene, name) for name in BANDS[scene.collection]),
        scene.properties(),
        scene.footprint,
        scene.id,
    )


def _scene_band(scene: Scene, name: str) -> Band:
    size_m, tile = pixel_size_m(name), scene.tile
    pixel_type = PixelType("int", 0, 255 if name == "SCL" else 65_535)
    if scene.collection == CLOUD_SCORE_PLUS:
        pixel_type = PixelType("float", 0, 1)
    return Band(
        name,
        pixel_type,
        Projection(tile.crs, (size_m, 0, tile.west_m, 0, -size_m, tile.north_m)),
        lambda grid: pixel_value(scene, name, *grid.coordinates(tile.crs)),
        (TILE_SIZE_M // size_m, TILE_SIZE_M // size_m),
    )


def constant_image(value: float) -> Image:
    """Return an unbounded image of one value, in a band named `constant`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EarthEngineError(
            f"Image.constant: found {type(value).__name__}, the local server takes one number"
        )
    pixel_type = PixelType("int" if isinstance(value, int) else "double", value, value)
    band = Band(
        "constant",
        pixel_type,
        Projection("EPSG:4326"),
        lambda grid: np.full(grid.shape, float(value)),
    )
    return Image((band,))


def _median(pixels: np.ndarray) -> np.ndarray:
    """Over an even number of values, the mean of the two in the middle."""
    ordered = np.sort(pixels, axis=0)  # NaN last
    count = np.isfinite(pixels).sum(axis=0, keepdims=True)
    middle = [np.take_along_axis(ordered, n, axis=0)[0] for n in ((count - 1) // 2, count // 2)]
    return (middle[0] + middle[1]) / 2


def _mean(pixels: np.ndarray) -> np.ndarray:
    count = np.isfinite(pixels).sum(axis=0)
    return np.where(count > 0, np.nansum(pixels, axis=0) / np.maximum(count, 1), np.nan)


def _last_valid(pixels: np.ndarray) -> np.ndarray:
    found = pixels[0]
    for later in pixels[1:]:
        found = np.where(np.isfinite(later), later, found)
    return found


# Each takes the pixels of all images, dims (image, y, x), NaN where masked.
COMPOSITES = {
    "median": _median,
    "mean": _mean,
    "min": partial(np.fmin.reduce, axis=0),
    "max": partial(np.fmax.reduce, axis=0),
    "mosaic": _last_valid,
}


def composite(images: Collection, method: str) -> Image:
    """Reduce a collection to one unbounded image without properties.

    A pixel masked in every image is masked. The projection is that of every composite in Earth
    Engine, one degree in EPSG:4326. An empty collection gives an image without bands.
    """
    if not images.elements:
        return Image(())
    names = images.elements[0].band_names
    for image in images.elements:
        if image.band_names != names:
            raise EarthEngineError(
                "Expected a homogeneous image collection, but an image with incompatible bands "
                f"was encountered. Expected: {names}, found: {image.band_names}"
            )
    return Image(tuple(_composite_band(images.elements, name, method) for name in names))


def _composite_band(images: tuple[Image, ...], name: str, method: str) -> Band:
    bands = [image.band(name) for image in images]
    pixel_type = reduce(PixelType.union, (band.type for band in bands))
    if method in ("median", "mean"):
        pixel_type = replace(pixel_type, precision="double")

    def render(grid: Grid) -> np.ndarray:
        return COMPOSITES[method](np.stack([band.render(grid) for band in bands]))

    return Band(name, pixel_type, Projection("EPSG:4326"), render)
