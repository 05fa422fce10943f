"""Algorithms on collections: loading, filtering, mapping, listing, summarising, compositing."""

from __future__ import annotations

import functools
import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.support.earth_engine.evaluator import algorithm
from tests.support.earth_engine.images import COMPOSITES, Image, composite, scene_image
from tests.support.earth_engine.scenes import BANDS, scenes
from tests.support.earth_engine.values import (
    Collection,
    Date,
    EarthEngineError,
    Feature,
    Filter,
    Reducer,
    property_of,
)


@algorithm("ImageCollection.load")
@functools.cache
def _load(id, version=None):
    if id not in BANDS:
        raise EarthEngineError(
            f"ImageCollection.load: ImageCollection asset '{id}' not found (does not exist or "
            "caller does not have access)."
        )
    # Catalogue entries describe themselves at length, in types that few file formats take.
    described = {"title": id, "keywords": ["sentinel", "synthetic"], "visualization": {"min": 0}}
    return Collection(tuple(map(scene_image, scenes(id))), described, id)


@algorithm("ImageCollection.fromImages")
def _from_images(images):
    images = images if isinstance(images, list) else [images]
    return Collection(tuple(_with_index(image, str(n)) for n, image in enumerate(images)))


def _with_index(element: Any, index: str | None) -> Any:
    return replace(element, properties=element.properties | {"system:index": index})


def _register_composite(method: str) -> None:
    prefix = "ImageCollection" if method == "mosaic" else "reduce"
    algorithm(f"{prefix}.{method}")(lambda collection: composite(collection, method))


for _method in COMPOSITES:
    _register_composite(_method)


@algorithm("Collection.filter")
def _filter(collection, filter):
    return replace(collection, elements=tuple(e for e in collection.elements if filter.test(e)))


@algorithm("Collection.map")
def _map(collection, base_algorithm, drop_nulls=False):
    mapped = []
    for element in collection.elements:
        result = base_algorithm(element)
        if result is None and drop_nulls:
            continue
        if not isinstance(result, Image | Feature):
            raise EarthEngineError(
                f"Collection.map: A mapped algorithm must return a Feature or Image, found {result}"
            )
        mapped.append(_with_index(result, element.properties.get("system:index")))
    return replace(collection, elements=tuple(mapped))


@algorithm("Collection.toList")
def _to_list(collection, count, offset=0):
    return list(collection.elements[int(offset) : int(offset) + int(count)])


@algorithm("Collection.limit")
def _limit(collection, limit=None, key=None, ascending=True):
    # The client sends a plain sort as a limit without a number.
    elements = list(collection.elements)
    if key is not None:
        elements.sort(key=lambda element: property_of(element, key), reverse=not ascending)
    return replace(collection, elements=tuple(elements[: None if limit is None else int(limit)]))


@algorithm("Collection.iterate")
def _iterate(collection, function, first=None):
    return functools.reduce(lambda state, e: function(e, state), collection.elements, first)


algorithm("Collection.size")(lambda collection: len(collection.elements))
algorithm("Collection.first")(lambda collection: next(iter(collection.elements), None))


# ---- summaries of properties; elements that lack one do not count ----


_SUMMARIES: dict[str, Callable[[list], Any]] = {
    "array": list,
    "count": len,
    "count_distinct": lambda values: len(set(values)),
    "first": lambda values: next(iter(values), None),
    "histogram": lambda values: {str(value): n for value, n in Counter(values).items()},
    "max": lambda values: max(values, default=None),
    "mean": lambda values: sum(values) / len(values) if values else None,
    "min": lambda values: min(values, default=None),
    "sum": sum,
}
_REDUCERS = {"toList": "list", "count": "count", "max": "max", "mean": "mean", "min": "min"}


def _column(collection: Collection, name: str) -> list:
    found = (property_of(element, name) for element in collection.elements)
    return [value for value in found if value is not None]


def _register_aggregate(name: str, summarise: Callable[[list], Any]) -> None:
    algorithm(f"AggregateFeatureCollection.{name}")(
        lambda collection, property: summarise(_column(collection, property))
    )


for _name, _summarise in _SUMMARIES.items():
    _register_aggregate(_name, _summarise)
for _name, _output in _REDUCERS.items():
    algorithm(f"Reducer.{_name}")(functools.partial(Reducer, _output))


@algorithm("Reducer.repeat")
def _repeat(reducer, count):
    return replace(reducer, repeat=int(count))


@algorithm("Collection.reduceColumns")
def _reduce_columns(collection, reducer, selectors):
    summarise = _SUMMARIES["array" if reducer.output == "list" else reducer.output]
    if len(selectors) != (reducer.repeat or 1):
        raise EarthEngineError(
            f"Collection.reduceColumns: found {len(selectors)} selectors, expected "
            f"{reducer.repeat or 1}, one an input of the reducer"
        )
    found = [summarise(_column(collection, name)) for name in selectors]
    return {reducer.output: found if reducer.repeat else found[0]}


# ---- filters: what an element lacks never passes a comparison ----


def _register_comparison(name: str, compare: Callable[[Any, Any], bool]) -> None:
    def make(left_field=None, right_value=None, right_field=None, left_value=None):
        def test(element: Any) -> bool:
            left = left_value if left_field is None else property_of(element, left_field)
            right = right_value if right_field is None else property_of(element, right_field)
            return left is not None and right is not None and bool(compare(left, right))

        return Filter(test)

    algorithm(f"Filter.{name}")(make)


def _contains_date(period: Any, value: Any) -> bool:
    return period.start.ms <= Date.of(value).ms < period.end.ms


def _meet(left: Any, right: Any) -> bool:
    shapes = (side.geometry if isinstance(side, Feature) else side for side in (left, right))
    return operator.methodcaller("intersects", next(shapes))(next(shapes))


for _name, _compare in {
    "equals": operator.eq,
    "notEquals": operator.ne,
    "lessThan": operator.lt,
    "lessThanOrEquals": operator.le,
    "greaterThan": operator.gt,
    "greaterThanOrEquals": operator.ge,
    "stringStartsWith": str.startswith,
    "stringEndsWith": str.endswith,
    "stringContains": operator.contains,
    "listContains": operator.contains,
    "inList": lambda value, choices: value in choices,
    "dateRangeContains": _contains_date,
    "intersects": _meet,
}.items():
    _register_comparison(_name, _compare)


@algorithm("Filter.and")
def _all(filters):
    return Filter(lambda element: all(one.test(element) for one in filters))


@algorithm("Filter.or")
def _any(filters):
    return Filter(lambda element: any(one.test(element) for one in filters))


@algorithm("Filter.not")
def _not(filter):
    return Filter(lambda element: not filter.test(element))


@algorithm("Filter.notNull")
def _not_null(properties):
    return Filter(lambda e: all(property_of(e, name) is not None for name in properties))
