"""Where a cube lies: a point, box or geometry in longitude and latitude -> a grid of pixels."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from xr_terramind.errors import SourceError, explain
from xr_terramind.models import PRETRAINING_PX

DEGREE_M = math.pi * 6_378_137 / 180
"""Metres of a degree as Earth Engine counts scales: on the equator of WGS 84."""

MAX_EDGE_PX = 100_000
"""Longest edge of a cube, 1000 km at 10 m: beyond, one UTM grid makes no sense any more."""

_LONLAT = "OGC:CRS84"
_EDGE_SAMPLES = 21  # straight edges in degrees bulge in a projection: look between the corners too


@dataclass(frozen=True)
class GridSpec:
    """The pixels of a cube, north up.

    Attributes
    ----------
    crs : str
        For example ``"EPSG:32651"``.
    west, north : float
        Outer corner of the first pixel.
    step : float
        Edge of a pixel in units of the CRS.
    width_px, height_px : int
    """

    crs: str
    west: float
    north: float
    step: float
    width_px: int
    height_px: int

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """Affine transform as Earth Engine and Xee take it."""
        return self.step, 0.0, self.west, 0.0, -self.step, self.north

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(west, south, east, north) in the CRS."""
        east = self.west + self.width_px * self.step
        return self.west, self.north - self.height_px * self.step, east, self.north


@dataclass(frozen=True)
class Place:
    """What the caller asked for, in degrees; ``east`` is more than 180 beyond the antimeridian."""

    west: float
    south: float
    east: float
    north: float
    buffer_m: float = 0.0

    @property
    def centre(self) -> tuple[float, float]:
        """(longitude, latitude)."""
        lon = (self.west + self.east) / 2
        return (lon + 180) % 360 - 180, (self.south + self.north) / 2

    def __str__(self) -> str:
        lon, lat = self.centre
        if self.buffer_m:
            return f"point ({lon:.5g}, {lat:.5g}) with {self.buffer_m:g} m around"
        return f"box ({self.west:.5g}, {self.south:.5g}, {self.east:.5g}, {self.north:.5g})"


def find_place(
    point: tuple[float, float] | None,
    buffer_m: float | None,
    bbox: tuple[float, float, float, float] | None,
    geometry: Any,
) -> Place:
    """Read exactly one way of naming a place.

    Parameters
    ----------
    point : (longitude, latitude), optional
        With `buffer_m`, half the edge of a square around it in metres.
    buffer_m : float, optional
    bbox : (west, south, east, north), optional
        In degrees; ``west > east`` crosses the antimeridian.
    geometry : optional
        A shapely geometry or GeoJSON mapping in degrees, or a GeoDataFrame or GeoSeries in any
        CRS. Its bounds are taken.

    Returns
    -------
    Place

    Raises
    ------
    SourceError
        For none or several of them, numbers out of range, or an area of nothing.
    """
    given = {"point": point, "bbox": bbox, "geometry": geometry}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise SourceError(
            explain(
                f"{' and '.join(named) or 'no place'}",
                "exactly one of point (with buffer_m), bbox and geometry",
                "For example open_s2(point=(121.5, 31.2), buffer_m=2048, ...).",
            )
        )
    if point is not None:
        return _around(point, buffer_m)
    if buffer_m is not None:
        raise SourceError(
            explain(f"buffer_m with {named[0]}", "buffer_m with point only", "Leave it out.")
        )
    bounds = bbox if bbox is not None else _bounds_of(geometry)
    return _box(named[0], bounds)


def _around(point: tuple[float, float], buffer_m: float | None) -> Place:
    lon, lat = _numbers("point", point, 2, "(longitude, latitude)")
    _check_lonlat(f"point=({lon:g}, {lat:g})", lon, lat)
    if buffer_m is None or not 0 < buffer_m < math.inf:
        raise SourceError(
            explain(
                f"buffer_m={buffer_m}",
                "metres from the point to each edge, more than 0",
                "1120 gives one window of 224 pixels of 10 m.",
            )
        )
    return Place(lon, lat, lon, lat, float(buffer_m))


def _box(name: str, bounds: Any) -> Place:
    west, south, east, north = _numbers(name, bounds, 4, "(west, south, east, north)")
    found = f"{name} with bounds ({west:g}, {south:g}, {east:g}, {north:g})"
    _check_lonlat(found, west, south)
    _check_lonlat(found, east, north)
    if south >= north or west == east:
        raise SourceError(
            explain(
                found,
                "an area: south below north, and west other than east",
                "Look at the order (west, south, east, north); a single place is "
                "point=(lon, lat), buffer_m=...",
            )
        )
    # West of east, or across the antimeridian.
    return Place(west, south, east if west < east else east + 360, north)


def _numbers(name: str, value: Any, count: int, meaning: str) -> list[float]:
    try:
        numbers = [float(number) for number in value]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        raise SourceError(
            explain(f"{name}={value!r}", f"{count} finite numbers {meaning}", "In degrees.")
        )
    return numbers


def _check_lonlat(found: str, lon: float, lat: float) -> None:
    if abs(lon) <= 180 and abs(lat) <= 90:
        return
    swapped = abs(lat) <= 180 and abs(lon) <= 90
    raise SourceError(
        explain(
            found,
            "longitudes from -180 to 180 and latitudes from -90 to 90, longitude first",
            "Latitude and longitude seem to be swapped."
            if swapped
            else "Give degrees, not metres or pixels.",
        )
    )


def _bounds_of(geometry: Any) -> Any:
    # Shapely takes a moment to import, and only geometries need it.
    import shapely

    if hasattr(geometry, "total_bounds"):  # GeoDataFrame or GeoSeries
        if geometry.crs is not None:
            geometry = geometry.to_crs(_LONLAT)
        bounds = tuple(geometry.total_bounds)
    elif isinstance(geometry, Mapping):
        bounds = _shape(geometry).bounds
    elif isinstance(geometry, shapely.Geometry):
        bounds = geometry.bounds
    else:
        raise SourceError(
            explain(
                f"a geometry of type {type(geometry).__name__}",
                "a shapely geometry, a GeoJSON mapping, a GeoDataFrame or a GeoSeries",
                "Convert it with shapely.geometry.shape(...).",
            )
        )
    if len(bounds) != 4 or not all(math.isfinite(number) for number in bounds):
        raise SourceError(explain("an empty geometry", "one with an area", "Look at its source."))
    return bounds


def _shape(geometry: Mapping[str, Any]) -> Any:
    import shapely
    from shapely.geometry import shape

    parts = [geometry]
    if geometry.get("type") == "FeatureCollection":
        parts = geometry.get("features", [])
    parts = [part.get("geometry", {}) if part.get("type") == "Feature" else part for part in parts]
    try:
        return shapely.union_all([shape(part) for part in parts])
    except (shapely.errors.ShapelyError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(
            explain(
                f"a mapping that is no GeoJSON ({type(error).__name__}: {error})",
                "a geometry, Feature or FeatureCollection with type and coordinates",
                "See RFC 7946.",
            )
        ) from error


def lay_grid(place: Place, crs: str | None, scale_m: float) -> GridSpec:
    """Lay a grid over a place, snapped to multiples of the pixel's edge.

    Cubes of neighbouring places in one UTM zone so share their grid.

    Parameters
    ----------
    place : Place
    crs : str or None
        None takes the UTM zone of the centre.
    scale_m : float
        Edge of a pixel; for a CRS in degrees as Earth Engine converts it, by `DEGREE_M`.

    Returns
    -------
    GridSpec

    Raises
    ------
    SourceError
        For a place without UTM zone, a CRS that is unknown or does not reach there, or an area
        that is too large.
    """
    if not 0 < scale_m < math.inf:
        raise SourceError(
            explain(f"scale_m={scale_m}", "metres, more than 0", "10 is Sentinel-2's finest.")
        )
    chosen = _crs(crs or utm_crs(*place.centre))
    step = scale_m / DEGREE_M if chosen.is_geographic else scale_m / _unit_m(chosen)
    west, south, east, north = _project(place, chosen, step / scale_m)
    # Whole pixels outwards; rounding first keeps what lies on the lattice from gaining a pixel.
    left, bottom = (math.floor(round(edge / step, 6)) for edge in (west, south))
    right, top = (math.ceil(round(edge / step, 6)) for edge in (east, north))
    width_px, height_px = max(1, right - left), max(1, top - bottom)
    if max(width_px, height_px) > MAX_EDGE_PX:
        raise _too_large(place, width_px, height_px)
    code = chosen.to_authority()
    name = ":".join(code) if code else chosen.to_wkt()
    return GridSpec(name, left * step, top * step, step, width_px, height_px)


def utm_crs(lon: float, lat: float) -> str:
    """Name the UTM zone of a place.

    Parameters
    ----------
    lon, lat : float
        In degrees.

    Returns
    -------
    str
        For example ``"EPSG:32651"``.

    Raises
    ------
    SourceError
        Beyond 84 degrees north and 80 south, where UTM ends.
    """
    if not -80 <= lat <= 84:
        polar = "EPSG:3413" if lat > 0 else "EPSG:3031"
        raise SourceError(
            explain(
                f"latitude {lat:g}",
                "-80 to 84 degrees, where there are UTM zones",
                f"Pass a polar CRS, for example crs={polar!r}; Sentinel-2 images land only to "
                "about 83 degrees.",
            )
        )
    zone = min(int((lon + 180) // 6) + 1, 60)
    return f"EPSG:{32600 if lat >= 0 else 32700}".replace("00", f"{zone:02d}")


def _crs(name: str) -> CRS:
    try:
        return CRS.from_user_input(name)
    except CRSError as error:
        raise SourceError(
            explain(f"crs={name!r}, which is unknown", "an EPSG code or WKT", "Try crs=None.")
        ) from error


def _unit_m(crs: CRS) -> float:
    return crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0


def _project(place: Place, crs: CRS, units_per_m: float) -> tuple[float, float, float, float]:
    transformer = Transformer.from_crs(_LONLAT, crs, always_xy=True)
    lon = np.linspace(place.west, place.east, _EDGE_SAMPLES)
    lat = np.linspace(place.south, place.north, _EDGE_SAMPLES)
    if not crs.is_geographic:  # projections know longitudes to 180 degrees only
        lon = (lon + 180) % 360 - 180
    grid_lon, grid_lat = np.meshgrid(lon, lat)
    try:
        x, y = transformer.transform(grid_lon, grid_lat, errcheck=True)
    except ProjError as error:
        raise SourceError(
            explain(
                f"{place}, which {crs.name} does not reach ({error})",
                "a CRS that covers the place",
                "Leave crs out for the UTM zone of the centre.",
            )
        ) from error
    if crs.is_geographic:
        x = grid_lon  # not wrapped, so that a box across the antimeridian stays in one piece
    buffer = place.buffer_m * units_per_m
    return x.min() - buffer, y.min() - buffer, x.max() + buffer, y.max() + buffer


def _too_large(place: Place, width_px: int, height_px: int) -> SourceError:
    windows = math.ceil(width_px / PRETRAINING_PX) * math.ceil(height_px / PRETRAINING_PX)
    gigabytes = width_px * height_px * 12 * 4 / 1e9
    return SourceError(
        explain(
            f"{place}: {width_px:,} x {height_px:,} pixels, {windows:,} windows, "
            f"{gigabytes:,.0f} GB with 12 bands",
            f"edges of {MAX_EDGE_PX:,} pixels at the most",
            "Open it in parts, each in its own UTM zone, or choose a larger scale_m.",
        )
    )
