"""Where a cube lies: a point, box or geometry in longitude and latitude."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, cast

import shapely
from shapely.geometry import shape

from xr_terramind.errors import SourceError, explain

LONLAT = "OGC:CRS84"
"""WGS 84 with longitude first."""


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
    """Read exactly one way of naming a place: a point with its buffer, a box, or a geometry.

    The buffer is half the edge of a square, in metres. A box with ``west > east`` crosses the
    antimeridian. A geometry is shapely's or GeoJSON in degrees, or a GeoDataFrame or GeoSeries in
    any CRS; its bounds are taken.

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
        return _place_around(point, buffer_m)
    if buffer_m is not None:
        raise SourceError(
            explain(f"buffer_m with {named[0]}", "buffer_m with point only", "Leave it out.")
        )
    bounds = bbox if bbox is not None else _find_bounds(geometry)
    return _place_of_box(named[0], bounds)


def check_number(name: str, value: Any) -> float | None:
    """Accept a number or None; an integer stays one. `name` is the argument's, for the error."""
    if value is None or (isinstance(value, Real) and not math.isnan(value)):
        return cast(float | None, value)
    raise SourceError(explain(f"{name}={value!r}", "a number", "Pass it without quotes."))


def _place_around(point: tuple[float, float], buffer_m: float | None) -> Place:
    lon, lat = _read_numbers("point", point, 2, "(longitude, latitude)")
    _check_degrees(f"point=({lon:g}, {lat:g})", lon, lat)
    buffer_m = check_number("buffer_m", buffer_m)
    if buffer_m is None or not 0 < buffer_m < math.inf:
        raise SourceError(
            explain(
                f"buffer_m={buffer_m}",
                "metres from the point to each edge, more than 0",
                "1120 gives one window of 224 pixels of 10 m.",
            )
        )
    return Place(lon, lat, lon, lat, float(buffer_m))


def _place_of_box(name: str, bounds: Any) -> Place:
    west, south, east, north = _read_numbers(name, bounds, 4, "(west, south, east, north)")
    found = f"{name} with bounds ({west:g}, {south:g}, {east:g}, {north:g})"
    _check_degrees(found, west, south)
    _check_degrees(found, east, north)
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


def _read_numbers(name: str, value: Any, count: int, meaning: str) -> list[float]:
    try:
        numbers = [float(number) for number in value]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        raise SourceError(
            explain(f"{name}={value!r}", f"{count} finite numbers {meaning}", "In degrees.")
        )
    return numbers


def _check_degrees(found: str, lon: float, lat: float) -> None:
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


def _find_bounds(geometry: Any) -> Any:
    if hasattr(geometry, "total_bounds"):  # GeoDataFrame or GeoSeries
        if geometry.crs is not None:
            geometry = geometry.to_crs(LONLAT)
        bounds = tuple(geometry.total_bounds)
    elif isinstance(geometry, Mapping):
        bounds = _read_geojson(geometry).bounds
    elif isinstance(geometry, shapely.Geometry):
        bounds = geometry.bounds
    else:
        raise SourceError(
            explain(
                f"a geometry of type {type(geometry).__name__}",
                "a shapely geometry, a GeoJSON mapping, a GeoDataFrame or a GeoSeries",
                "Pass one of these; GeoJSON text becomes a mapping by json.loads(...).",
            )
        )
    if len(bounds) != 4 or not all(math.isfinite(number) for number in bounds):
        raise SourceError(explain("an empty geometry", "one with an area", "Look at its source."))
    return bounds


def _read_geojson(geometry: Mapping[str, Any]) -> Any:
    try:
        parts = [geometry]
        if geometry.get("type") == "FeatureCollection":
            parts = geometry["features"]
        parts = [part["geometry"] if part.get("type") == "Feature" else part for part in parts]
        return shapely.union_all([shape(part) for part in parts])
    except (shapely.errors.ShapelyError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(
            explain(
                f"a mapping that is no GeoJSON ({type(error).__name__}: {error})",
                "a geometry, Feature or FeatureCollection with type and coordinates",
                "See RFC 7946.",
            )
        ) from error
