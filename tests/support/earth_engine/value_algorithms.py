"""Algorithms on everything else: properties, dates, lists, dictionaries, geometries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyproj
import shapely

from tests.support.earth_engine.evaluator import algorithm
from tests.support.earth_engine.values import (
    Date,
    DateRange,
    EarthEngineError,
    Feature,
    Projection,
    project,
    property_of,
)

# ---- properties of elements ----

algorithm("Element.get", "Element.getNumber", "Element.getString")(
    lambda object, property: property_of(object, property)
)
algorithm("Element.set")(
    lambda object, key, value=None: replace(object, properties=object.properties | {key: value})
)
algorithm("Element.setMulti")(
    lambda object, properties: replace(object, properties=object.properties | properties)
)
algorithm("Element.propertyNames")(lambda element: sorted(element.properties))


@algorithm("Element.toDictionary")
def _to_dictionary(element, properties=None):
    found = element.properties
    names = [n for n in found if not n.startswith("system:")] if properties is None else properties
    return {name: found[name] for name in names}


@algorithm("Element.copyProperties", "Image.copyProperties")
def _copy_properties(destination, source, properties=None, exclude=()):
    copied = _to_dictionary(source, properties)
    kept = {name: value for name, value in copied.items() if name not in exclude}
    return replace(destination, properties=destination.properties | kept)


# ---- dates, in UTC ----


@algorithm("Date")
def _date(value, time_zone=None):
    if time_zone not in (None, "UTC"):
        raise EarthEngineError(f"Date: found time zone {time_zone}, the local server knows UTC")
    return Date.of(value)


@algorithm("DateRange")
def _date_range(start, end=None):
    start = Date.of(start)
    end = Date(start.ms + 1) if end is None else Date.of(end)
    if end.ms < start.ms:
        raise EarthEngineError("DateRange: found an end before the start")
    return DateRange(start, end)


@algorithm("Date.advance")
def _advance(date, delta, unit):
    # Months and years have no fixed length.
    units = ("weeks", "days", "hours", "minutes", "seconds")
    name = f"{unit.removesuffix('s')}s"
    if name not in units:
        raise EarthEngineError(f"Date.advance: found unit {unit}, expected one of {units}")
    return Date(Date.of(date).ms + timedelta(**{name: delta}) // timedelta(milliseconds=1))


algorithm("Date.millis")(lambda date: Date.of(date).ms)
algorithm("DateRange.start")(lambda date_range: date_range.start)
algorithm("DateRange.end")(lambda date_range: date_range.end)

# ---- lists, dictionaries ----

algorithm("List.slice")(lambda list, start, end=None, step=None: list[start:end:step])
algorithm("List.size", "List.length")(lambda list: len(list))
algorithm("List.cat")(lambda list, other: [*list, *other])
algorithm("List.contains")(lambda list, element: element in list)
algorithm("List.sort")(lambda list: sorted(list))
algorithm("List.distinct")(lambda list: [*dict.fromkeys(list)])
algorithm("List.map")(lambda list, base_algorithm: [base_algorithm(item) for item in list])
algorithm("Dictionary")(lambda input: input)
algorithm("Dictionary.set")(lambda dictionary, key, value: {**dictionary, key: value})
algorithm("Dictionary.combine")(lambda first, second: {**first, **second})
algorithm("Dictionary.contains")(lambda dictionary, key: key in dictionary)
algorithm("Dictionary.keys")(lambda dictionary: sorted(dictionary))


@algorithm("List.get", "List.getNumber", "List.getString")
def _list_get(list, index):
    if not -len(list) <= index < len(list):
        raise EarthEngineError(f"List.get: found index {index}, the list has {len(list)} items")
    return list[int(index)]


@algorithm("Dictionary.get", "Dictionary.getNumber", "Dictionary.getString")
def _dictionary_get(dictionary, key, default_value=None):
    if key not in dictionary and default_value is None:
        raise EarthEngineError(f"Dictionary.get: Dictionary does not contain key: '{key}'.")
    return dictionary.get(key, default_value)


# ---- geometries, in longitude and latitude ----


def _register_shape(name: str, build: Callable[[list], shapely.Geometry]) -> None:
    def apply(coordinates, crs=None, geodesic=None, even_odd=True, max_error=None):
        return _to_lonlat(build(coordinates), crs)

    algorithm(f"GeometryConstructors.{name}")(apply)


def _polygon(rings: list) -> shapely.Polygon:
    return shapely.Polygon(rings[0], rings[1:])


def _to_lonlat(shape: shapely.Geometry, crs: Projection | None) -> shapely.Geometry:
    """Transform from a CRS, in small pieces: an edge that is straight there is bent here."""
    if crs is None or crs.crs == "EPSG:4326":
        return shape
    west, south, east, north = shape.bounds
    pieces = shape.segmentize(max(east - west, north - south, 1e-6) / 100)
    to_lonlat = pyproj.Transformer.from_crs(crs.crs, "EPSG:4326", always_xy=True)
    return project(pieces, to_lonlat)


_register_shape("Point", shapely.Point)
_register_shape("LinearRing", shapely.LinearRing)
_register_shape("Polygon", _polygon)
_register_shape("MultiPolygon", lambda polygons: shapely.MultiPolygon([*map(_polygon, polygons)]))
_register_shape("Rectangle", lambda corners: shapely.box(*np.ravel(corners)))


@algorithm("Geometry.buffer")
def _buffer(geometry, distance, max_error=None):
    # Equidistant about the centre: true to the metre for what is small.
    centre = geometry.centroid
    local = f"+proj=aeqd +lon_0={centre.x} +lat_0={centre.y} +datum=WGS84 +units=m"
    to_local = pyproj.Transformer.from_crs("EPSG:4326", local, always_xy=True)
    there = project(geometry, to_local)
    return _to_lonlat(there.buffer(distance), Projection(local))


algorithm("Geometry.bounds")(lambda geometry, max_error=None: shapely.box(*geometry.bounds))
algorithm("Feature")(lambda geometry=None, metadata=None: Feature(geometry, metadata or {}))
algorithm("Element.geometry", "Image.geometry", "Feature.geometry")(
    lambda feature, max_error=None: property_of(feature, ".geo")
)
algorithm("Projection")(lambda crs, transform=(1, 0, 0, 0, 1, 0): Projection(crs, tuple(transform)))
