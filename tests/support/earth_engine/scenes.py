"""The synthetic Sentinel-2 archive that the local Earth Engine serves.

Five MGRS tiles (two UTM zones that meet at 120 degrees east, and one tile south of the equator),
an acquisition every five days from May to October 2022, three collections. Every pixel is a pure
function of (scene, band, easting, northing): see `pixel_value`. Nothing is stored.

What makes it a useful archive: neighbouring tiles overlap by 9.8 km, every third date covers only
the western half of its tile, every scene has masked diagonal lines, cloud percentages spread over
0..100 and hit 30 exactly, and one acquisition in eleven has no Cloud Score+ image.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import numpy as np
import pyproj
import shapely

from tests.support.earth_engine.values import project

S2_SR = "COPERNICUS/S2_SR_HARMONIZED"
S2_TOA = "COPERNICUS/S2_HARMONIZED"
CLOUD_SCORE_PLUS = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"

TILE_SIZE_M = 109_800
_BANDS_OF_SIZE_M = {10: "B2 B3 B4 B8 AOT WVP cs cs_cdf", 60: "B1 B9 B10"}  # the others: 20 m
_PIXEL_SIZE_M = {b: size_m for size_m, bands in _BANDS_OF_SIZE_M.items() for b in bands.split()}
_REFLECTANCE = "B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B10 B11 B12".split()

BANDS = MappingProxyType(
    {
        S2_SR: (*(b for b in _REFLECTANCE if b != "B10"), "AOT", "WVP", "SCL"),
        S2_TOA: tuple(_REFLECTANCE),
        CLOUD_SCORE_PLUS: ("cs", "cs_cdf"),
    }
)
_BAND_NUMBER = {b: n for n, b in enumerate([*_REFLECTANCE, "AOT", "WVP", "SCL", "cs", "cs_cdf"])}

# The scene classes of one 80 m block in turn: vegetation, soil, water, the clouds and shadows.
_SCL_CYCLE = np.array([4, 5, 6, 4, 8, 9, 4, 3, 10, 7, 5, 1, 2, 11, 4])
_PRIME = 9973


@dataclass(frozen=True)
class Tile:
    """One MGRS tile: its UTM zone and the upper left corner of its grid."""

    name: str
    epsg: int
    west_m: int
    north_m: int

    @property
    def crs(self) -> str:
        """Code of the tile's UTM zone."""
        return f"EPSG:{self.epsg}"


TILES = (
    Tile("34HBH", 32734, 199_980, 6_300_040),
    Tile("50RQV", 32650, 699_960, 3_500_040),
    Tile("51RTQ", 32651, 199_980, 3_500_040),
    Tile("51RUQ", 32651, 300_000, 3_500_040),
    Tile("51RVQ", 32651, 399_960, 3_500_040),
)
DATES = tuple(
    datetime(2022, 5, 3, 2, 35, 51, tzinfo=UTC) + timedelta(days=5 * n) for n in range(36)
)


@dataclass(frozen=True)
class Scene:
    """One image of one collection.

    Attributes
    ----------
    collection : str
        The collection's id.
    acquisition : int
        The same for the images of all collections that show the same tile on the same day.
    tile : Tile
        Where it lies.
    time : datetime
        When it was taken, UTC; tiles of one day are a few seconds apart.
    """

    collection: str
    acquisition: int
    tile: Tile
    time: datetime

    @property
    def index(self) -> str:
        """The `system:index`, by which the collections are linked."""
        return f"{self.time:%Y%m%dT%H%M%S}_{self.time:%Y%m%dT024350}_T{self.tile.name}"

    @property
    def id(self) -> str:
        """The asset id."""
        return f"{self.collection}/{self.index}"

    @property
    def time_ms(self) -> int:
        """The `system:time_start`: milliseconds since 1970."""
        return round(self.time.timestamp() * 1000)

    @property
    def cloudy_percent(self) -> float:
        """The `CLOUDY_PIXEL_PERCENTAGE`."""
        return float((self.acquisition * 37 + 22) % 101)

    @property
    def bounds_m(self) -> tuple[int, int, int, int]:
        """Footprint (west, south, east, north) in the tile's CRS; every third date is a half."""
        width_m = 54_900 if (self.acquisition // len(TILES)) % 3 == 2 else TILE_SIZE_M
        west, north = self.tile.west_m, self.tile.north_m
        return west, north - TILE_SIZE_M, west + width_m, north

    @property
    def footprint(self) -> shapely.Polygon:
        """The footprint in longitude and latitude."""
        return _lonlat(shapely.box(*self.bounds_m), self.tile.crs)

    def properties(self) -> dict:
        """Metadata as Earth Engine spells it."""
        found = {
            "system:index": self.index,
            "system:time_start": self.time_ms,
            "system:time_end": self.time_ms,
            "MGRS_TILE": self.tile.name,
            "system:footprint": {
                "type": "LinearRing",
                "coordinates": [list(xy) for xy in self.footprint.exterior.coords],
            },
        }
        if self.collection == CLOUD_SCORE_PLUS:
            return found
        return found | {
            "CLOUDY_PIXEL_PERCENTAGE": self.cloudy_percent,
            "SPACECRAFT_NAME": "Sentinel-2A",
            "PRODUCT_ID": f"S2A_{'MSIL2A' if self.collection == S2_SR else 'MSIL1C'}_{self.index}",
        }


@functools.lru_cache(maxsize=512)
def _lonlat(shape: shapely.Polygon, crs: str) -> shapely.Polygon:
    to_lonlat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return project(shape.segmentize(10_000), to_lonlat)


@functools.cache
def scenes(collection: str = S2_SR) -> tuple[Scene, ...]:
    """Return all scenes of a collection, in the order of `system:index`."""
    found = []
    for day, date in enumerate(DATES):
        for place, tile in enumerate(TILES):
            acquisition = day * len(TILES) + place
            if collection == CLOUD_SCORE_PLUS and acquisition % 11 == 10:
                continue
            time = date + timedelta(seconds=14 * place, milliseconds=7 * place)
            found.append(Scene(collection, acquisition, tile, time))
    return tuple(sorted(found, key=lambda scene: scene.index))


def select_scenes(lon, lat, start: str, end: str, collection: str = S2_SR) -> list[Scene]:
    """Return the scenes whose footprint holds a point, with start <= time < end (ISO dates)."""
    first, last = (datetime.fromisoformat(day).replace(tzinfo=UTC) for day in (start, end))
    return [
        scene
        for scene in scenes(collection)
        if first <= scene.time < last and scene.footprint.covers(shapely.Point(lon, lat))
    ]


def linked(scene: Scene, collection: str = CLOUD_SCORE_PLUS) -> Scene | None:
    """Return the image of another collection with the same `system:index`, if there is one."""
    return next((other for other in scenes(collection) if other.index == scene.index), None)


def pixel_size_m(band: str) -> int:
    """Return the size of a band's own pixels."""
    return _PIXEL_SIZE_M.get(band, 20)


def pixel_value(scene: Scene, band: str, easting_m, northing_m) -> np.ndarray:
    """Return what a scene shows at points of its own UTM zone; masked points are NaN.

    A point takes the value of the band's own cell (10, 20 or 60 m) it lies in, a point on the
    edge of two cells that of the eastern or northern one. Reflectances, AOT and WVP are integers
    in 1..9973, different for every scene and band of a cell; SCL is a class in 1..11, the same
    over 80 m; `cs` and `cs_cdf` are multiples of 1/64 in 0..1. Outside the footprint, and on
    diagonal lines of 60 m cells, all bands of an acquisition are masked.

    There are no pyramids: a coarse grid reads single cells too.
    """
    east, north = np.broadcast_arrays(*(np.asarray(m, "float64") for m in (easting_m, northing_m)))
    west_m, south_m, east_m, north_m = scene.bounds_m
    inside = (east >= west_m) & (east < east_m) & (north >= south_m) & (north < north_m)
    east, north = np.where(inside, east, west_m), np.where(inside, north, south_m)
    size_m = pixel_size_m(band)
    values = _cell_value(scene, band, _cell(east, size_m), _cell(north, size_m))
    line = (_cell(east, 60) + 2 * _cell(north, 60) + 3 * scene.acquisition) % 11 == 0
    return np.where(inside & ~line, values, np.nan)


def expected_pixels(scene: Scene, band: str, x, y, crs) -> np.ndarray:
    """Return `pixel_value` on the pixel centres of any grid, dims (y, x).

    Parameters
    ----------
    scene, band
        What to read.
    x, y : 1-D arrays
        Pixel centres, as the coordinates of an xarray object hold them.
    crs : anything pyproj takes
        Their CRS.
    """
    to_scene = pyproj.Transformer.from_crs(crs, scene.tile.crs, always_xy=True)
    easting_m, northing_m = to_scene.transform(*np.meshgrid(np.asarray(x), np.asarray(y)))
    return pixel_value(scene, band, easting_m, northing_m)


def _cell(metres: np.ndarray, size_m: int) -> np.ndarray:
    return np.floor(metres / size_m).astype("int64")


def _cell_value(scene: Scene, band: str, column: np.ndarray, row: np.ndarray) -> np.ndarray:
    number = _BAND_NUMBER[band] + 20 * scene.acquisition
    if scene.collection == S2_TOA:
        number += 20 * len(DATES) * len(TILES)
    if band == "SCL":
        return _SCL_CYCLE[(7 * (column // 4) + 4 * (row // 4) + number) % len(_SCL_CYCLE)]
    # Distinct numbers stay distinct modulo the prime; the product term breaks up the ramps.
    cell = 7919 * column + 6151 * row + 31 * (column % 89) * (row % 97) + 2741 * number
    if band in ("cs", "cs_cdf"):
        return cell % _PRIME % 65 / 64
    return cell % _PRIME + 1
