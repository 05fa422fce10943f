"""Anything -> the numbers, times, text and attributes that Zarr, NetCDF and GeoTIFF take."""

import dataclasses
import json
import os
import re
from collections.abc import Callable, Hashable, Mapping
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from affine import Affine
from dask.base import is_dask_collection

MAX_TEXT = 10_000
"""Characters of a text that stands for an object: a CRS has up to 5,000."""

_EXACT = 2**53  # integers up to here are exact as float64

_MAX_DEPTH = 20  # of containers in containers; more are taken for a circle

# Bookkeeping of HDF5 and NetCDF, which write it themselves and refuse it from anybody else.
_RESERVED = {
    *("_NCProperties", "_Netcdf4Coordinates", "_Netcdf4Dimid", "_nc3_strict", "_IsNetcdf4"),
    *("_SuperblockVersion", "_ARRAY_DIMENSIONS", "_Encoding"),
    *("CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "DIMENSION_LABELS"),
}

# What NetCDF-4 and Zarr both take; without a slash, which is a group's.
_NAME = re.compile(r"[0-9A-Za-z_\u0080-\U0010ffff][^\x00-\x1f\x7f/\\]{0,254}")

_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")


def is_file_name(name: Hashable) -> bool:
    """Say whether Zarr and NetCDF take a name for a variable or an attribute."""
    if not isinstance(name, str) or name.endswith(" ") or name in (".", "..", "zarr.json"):
        return False
    return _NAME.fullmatch(name) is not None


def keep_attrs(attrs: Mapping[Any, Any]) -> tuple[dict[Hashable, Any], list[Hashable]]:
    """Return the attributes as every file takes them, and the names of those that none takes.

    Strings, numbers and lists of one type stay, all else becomes text. What says nothing (None), or
    belongs to the file that it came from, is left out.
    """
    kept: dict[Hashable, Any] = {}
    lost: list[Hashable] = []
    for name, value in attrs.items():
        if name in _RESERVED or value is None:
            continue
        plain = _as_attr(value) if is_file_name(name) else None
        if plain is None:
            lost.append(name)
        else:
            kept[name] = plain
    return kept, lost


def _as_attr(value: Any) -> Any:
    # None where no file takes it
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, str):
        return clean_text(value)
    number = _as_number(value)
    if number is not None:
        return number
    if isinstance(value, np.ndarray) and value.ndim == 1 and _is_plain_number(value.dtype):
        return value
    if isinstance(value, Affine):
        value = tuple(value)
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim == 1):
        items = list(value)
        if all(isinstance(item, str) for item in items):
            return [clean_text(item) for item in items]
        numbers = [_as_number(item) for item in items]
        if None not in numbers:
            return numbers
    return as_text(value)


def _as_number(value: Any) -> Any:
    # NetCDF has neither bool nor integers of more than 64 bits.
    if isinstance(value, bool | np.bool_):
        return int(value)
    if isinstance(value, np.number):
        if _is_plain_number(value.dtype):
            return value
        return float(value) if isinstance(value, np.floating) else None
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else None
    return float(value) if isinstance(value, float) else None


def _is_plain_number(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iu" or dtype in (np.float32, np.float64)


def clean_text(text: str) -> str:
    """Return a text that UTF-8 can hold, and without the zeros that C pads strings with."""
    return str(text).replace("\0", "").encode("utf-8", "replace").decode()


def as_text(value: Any) -> str | None:
    """Write a value as text, the same in every process; None where it has none, or a long one.

    Containers become JSON, sets in a fixed order; a CRS and geometries WKT; dates ISO 8601.
    """
    try:
        plain = _simplify(value, _MAX_DEPTH)
    except _NoTextError:
        return None
    text = plain if isinstance(plain, str) else _write_json(plain)
    return text if len(text) <= MAX_TEXT else None


class _NoTextError(Exception):
    """A value has no text of its own."""


def _write_json(plain: Any) -> str:
    return json.dumps(plain, sort_keys=True, ensure_ascii=False)


def _simplify(value: Any, depth: int) -> Any:
    # What JSON has: str, numbers, None, lists and dicts with text for keys
    if not depth or is_dask_collection(value):
        raise _NoTextError
    if is_missing(value):
        return None
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value)
    if isinstance(value, np.ndarray | pd.Index | pd.Series | xr.DataArray):
        if np.size(value) > MAX_TEXT:
            raise _NoTextError
        value = np.asarray(value)
        value = list(value) if value.ndim else value[()]
        return _simplify(value, depth - 1)
    if isinstance(value, np.void):
        value = value.item()  # a tuple, or bytes
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_name_key(key, depth): _simplify(item, depth - 1) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((_simplify(item, depth - 1) for item in value), key=_write_json)
    if isinstance(value, list | tuple | Affine):  # the text of an Affine is rounded
        return [_simplify(item, depth - 1) for item in value]
    return _say(value)


def _name_key(key: Any, depth: int) -> str:
    plain = _simplify(key, depth - 1)
    return plain if isinstance(plain, str) else _write_json(plain)


def _say(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return clean_text(value.decode())
        except UnicodeDecodeError:
            raise _NoTextError from None
    if isinstance(value, date) or is_cftime(value):
        return str(value.isoformat())
    if isinstance(value, timedelta):
        return pd.Timedelta(value).isoformat()
    if isinstance(value, os.PathLike):
        return clean_text(os.fsdecode(value))
    # Of a CRS and a geometry, WKT; both in all libraries that have them.
    for name in ("to_wkt", "wkt"):
        known = getattr(value, name, None)
        text = known() if callable(known) else known
        if isinstance(text, str):
            return clean_text(text)
    kind = type(value)
    speaks = kind.__str__ is not object.__str__ or kind.__repr__ is not object.__repr__
    text = str(value) if speaks else ""
    # An address is another one in the next process.
    if not text or _ADDRESS.search(text):
        raise _NoTextError
    return clean_text(text)


def is_missing(value: Any) -> bool:
    """Say whether one value stands for none: None, NaN, NaT or pandas' NA."""
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def is_cftime(value: Any) -> bool:
    """Say whether a value is a date of cftime, which has calendars that NumPy has not."""
    return hasattr(value, "calendar") and hasattr(value, "has_year_zero")


# -- Arrays of objects -----------------------------------------------------------------------------


def convert_objects(values: np.ndarray) -> np.ndarray | None:
    """Find the dtype of objects; text where there is none, None where there is no text either."""
    found = [item for item in values.flat if not is_missing(item)]
    for holds, convert in _KINDS:
        if all(map(holds, found)):
            converted = convert(values, found)
            if converted is not None:
                return converted
    return write_texts(values)


def write_texts(values: np.ndarray) -> np.ndarray | None:
    """Write each object as text, "" for a gap; None where one has no text."""
    texts = ["" if is_missing(item) else as_text(item) for item in values.flat]
    return None if None in texts else fill_array(values.shape, texts)


def fill_array(shape: tuple[int, ...], items: list[Any], dtype: Any = object) -> np.ndarray:
    """Make an array of items, each of which may be a list or an array itself."""
    filled = np.empty(len(items), dtype)
    filled[:] = items
    return filled.reshape(shape)


def _convert_missing(values: np.ndarray, found: list[Any]) -> np.ndarray | None:
    return None if found else np.full(values.shape, np.nan)


def _convert_bools(values: np.ndarray, found: list[Any]) -> np.ndarray | None:
    return values.astype(bool) if len(found) == values.size else None


def _convert_numbers(values: np.ndarray, found: list[Any]) -> np.ndarray | None:
    whole = all(isinstance(item, int | np.integer) for item in found)
    if whole and len(found) == values.size and all(-(2**63) <= int(item) < 2**63 for item in found):
        return values.astype(np.int64)
    if any(isinstance(item, int | np.integer) and abs(int(item)) > _EXACT for item in found):
        return None
    items = [np.nan if is_missing(item) else float(item) for item in values.flat]
    return fill_array(values.shape, items, np.float64)


def _convert_text(values: np.ndarray, found: list[Any]) -> np.ndarray:
    texts = ["" if is_missing(item) else clean_text(item) for item in values.flat]
    # What is text throughout stays the very array that it was.
    return values if texts == list(values.flat) else fill_array(values.shape, texts)


def _convert_times(values: np.ndarray, found: list[Any]) -> np.ndarray | None:
    zones = {has_zone(item) for item in found}
    if len(zones) > 1:  # without a zone, nobody knows which instant it is
        return None
    items = [pd.NaT if is_missing(item) else item for item in values.flat]
    try:
        times = pd.to_datetime(pd.Series(items, dtype=object), utc=zones == {True})
    except (ValueError, OverflowError):
        return None
    if times.dt.tz is not None:
        times = times.dt.tz_localize(None)
    return times.to_numpy().reshape(values.shape)


def _convert_spans(values: np.ndarray, found: list[Any]) -> np.ndarray | None:
    items = [pd.NaT if is_missing(item) else item for item in values.flat]
    try:
        return pd.to_timedelta(pd.Series(items, dtype=object)).to_numpy().reshape(values.shape)
    except (ValueError, OverflowError):
        return None


def _convert_cftime(values: np.ndarray, found: list[Any]) -> np.ndarray | None:
    calendars = {(item.calendar, item.has_year_zero) for item in found}
    if len(found) < values.size or len(calendars) > 1:
        return None
    return values


_KINDS: tuple[tuple[Callable[[Any], bool], Callable[..., np.ndarray | None]], ...] = (
    (lambda item: False, _convert_missing),
    (lambda item: isinstance(item, str), _convert_text),
    (lambda item: isinstance(item, bool | np.bool_), _convert_bools),
    (
        lambda item: (
            isinstance(item, int | float | np.integer | np.floating) and not isinstance(item, bool)
        ),
        _convert_numbers,
    ),
    (lambda item: isinstance(item, date | np.datetime64), _convert_times),
    (lambda item: isinstance(item, timedelta | np.timedelta64), _convert_spans),
    (is_cftime, _convert_cftime),
)


def has_zone(items: Any) -> bool:
    """Say whether all that is there is a date with a time zone."""
    found = [item for item in np.ravel(np.asarray(items, object)) if not is_missing(item)]
    return bool(found) and all(
        isinstance(item, datetime) and item.tzinfo is not None for item in found
    )
