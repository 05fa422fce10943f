"""What an Earth Engine expression can evaluate to, beside images and plain Python values.

Geometries are shapely shapes in longitude and latitude whose edges are straight in these: where
Earth Engine would follow a great circle, the difference over a tile is a few pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import shapely

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class EarthEngineError(Exception):
    """An answer other than 200, with the fields of Earth Engine's error object."""

    def __init__(self, message: str, code: int = 400, status: str = "INVALID_ARGUMENT"):
        super().__init__(message)
        self.message, self.code, self.status = message, code, status


@dataclass(frozen=True)
class Date:
    """A moment, in milliseconds since 1970."""

    ms: int

    @classmethod
    def of(cls, value: Any) -> Date:
        """Read a Date, milliseconds or an ISO string, which is UTC unless it says otherwise."""
        if isinstance(value, Date):
            return value
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return cls((moment - EPOCH) // timedelta(milliseconds=1))
        return cls(int(value))

    @property
    def moment(self) -> datetime:
        """The same as a datetime."""
        return EPOCH + timedelta(milliseconds=self.ms)


@dataclass(frozen=True)
class DateRange:
    """From start to before end."""

    start: Date
    end: Date


@dataclass(frozen=True)
class Projection:
    """A CRS and the affine transform of a pixel grid in it."""

    crs: str
    transform: tuple[float, ...] = (1, 0, 0, 0, 1, 0)


@dataclass(frozen=True)
class Feature:
    """A geometry with properties."""

    geometry: shapely.Geometry | None
    properties: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Collection:
    """Elements in order, with properties of their own."""

    elements: tuple
    properties: dict = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True)
class Filter:
    """A question to an element; `test(None)` is never asked."""

    test: Callable[[Any], bool]


@dataclass(frozen=True)
class Reducer:
    """A summary of lists of values, named as its output is; repeated, one of several lists."""

    output: str
    repeat: int | None = None


def property_of(element: Any, name: str) -> Any:
    """Return a property of an image or feature, or None; `.all` and `.geo` are its geometry."""
    if name in (".all", ".geo"):
        return element.geometry
    if name == "system:id":
        return getattr(element, "id", None)
    return element.properties.get(name)


def to_json(value: Any) -> Any:
    """Encode a value the way `value:compute` answers it."""
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, shapely.Geometry):
        return to_json(shapely.geometry.mapping(value))
    if isinstance(value, Date):
        return {"type": "Date", "value": value.ms}
    if isinstance(value, DateRange):
        return {"type": "DateRange", "dates": [value.start.ms, value.end.ms]}
    if isinstance(value, Projection):
        return {"type": "Projection", "crs": value.crs, "transform": list(value.transform)}
    if isinstance(value, Feature):
        fields = {"geometry": value.geometry, "properties": value.properties}
        return {"type": "Feature"} | to_json(fields)
    if isinstance(value, Collection):
        fields = {"properties": value.properties, "features": value.elements, "bands": []}
        return {"type": "ImageCollection", "id": value.id} | to_json(fields)
    if hasattr(value, "describe"):
        return to_json(value.describe())
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise EarthEngineError(f"the local server cannot answer with a {type(value).__name__}")


def project(shape: Any, transformer: Any) -> Any:
    """Shapely 2.0 passes coordinates as rows (x, y) alone, pyproj takes them apart."""
    return shapely.transform(shape, lambda xy: np.column_stack(transformer.transform(*xy.T)))
