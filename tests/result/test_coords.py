"""Coordinates and attributes of any kind: the cube is embedded, and what comes out can be kept."""

import dataclasses
import enum
import json
import os
import pickle
import subprocess
import sys
import uuid
import warnings
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath

import cftime
import dask
import dask.array as da
import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
import shapely
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

import xr_terramind as xtm
from tests.support.cubes import QUICK, scene
from xr_terramind.result.coords import make_writable
from xr_terramind.result.plain import keep_attrs

pytestmark = [
    pytest.mark.wide,
    # zarr has no settled way to hold text of one length, and bytes, and says so.
    pytest.mark.filterwarnings("ignore:The data type .* does not have a Zarr V3 specification"),
    pytest.mark.filterwarnings("ignore:found an extent of:xr_terramind.TerraMindWarning"),
]

UTM = CRS.from_epsg(32632)


class Silent:
    """Has no text but its address."""


class Orbit(enum.Enum):
    UP = "ascending"


@dataclasses.dataclass
class Tile:
    name: str
    bands: set


def objects(*items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


def dates(*texts, unit="ns"):
    return np.array(texts, f"M8[{unit}]")


def as_cftime(calendar):
    days = [(2022, 2, 28, 10, 30), (2022, 3, 1)]
    return [cftime.datetime(*day, calendar=calendar) for day in days]


CALENDARS = ("standard", "proleptic_gregorian", "julian", "noleap", "all_leap", "360_day")
BERLIN = timezone(timedelta(hours=2))

# What the coordinate of two dates holds, and what that of the embedding holds: the same where it is
# SAME, nothing where it is LOST. Right values are written down by hand.
SAME, LOST = "same", "lost"
VALUES = {
    # times
    "index with a zone": (
        pd.date_range("2022-06-01 01:30", periods=2, tz="Europe/Berlin"),
        dates("2022-05-31T23:30", "2022-06-01T23:30"),
    ),
    "timestamps with a zone": (
        objects(pd.Timestamp("2022-06-01", tz="UTC"), pd.Timestamp("2022-06-02", tz="UTC")),
        dates("2022-06-01", "2022-06-02"),
    ),
    "several zones": (
        objects(datetime(2022, 6, 1, 1, tzinfo=UTC), datetime(2022, 6, 2, 1, tzinfo=BERLIN)),
        dates("2022-06-01T01", "2022-06-01T23"),
    ),
    "a zone and a gap": (
        objects(datetime(2022, 6, 1, 1, tzinfo=UTC), None),
        dates("2022-06-01T01", "NaT"),
    ),
    "a zone and none": (
        objects(datetime(2022, 6, 1, 1, tzinfo=UTC), datetime(2022, 6, 2)),
        objects("2022-06-01T01:00:00+00:00", "2022-06-02T00:00:00"),
    ),
    "datetimes": (
        objects(datetime(2022, 6, 1), datetime(2022, 6, 2)),
        dates("2022-06-01", "2022-06-02"),
    ),
    "days": (objects(date(2022, 6, 1), date(2022, 6, 2)), dates("2022-06-01", "2022-06-02")),
    "a date and a gap": (dates("2022-06-01", "NaT"), SAME),
    "the same date twice": (dates("2022-06-01", "2022-06-01"), SAME),
    "months": (pd.period_range("2022-06", periods=2, freq="M"), objects("2022-06", "2022-07")),
    "spans": (np.array([1, 36], "m8[h]").astype("m8[ns]"), SAME),
    "spans of datetime": (objects(timedelta(1), timedelta(2)), np.array([1, 2], "m8[D]")),
    **{f"cftime, {name}": (objects(*as_cftime(name)), SAME) for name in CALENDARS},
    "cftime, two calendars": (
        objects(as_cftime("noleap")[0], as_cftime("360_day")[0]),
        objects("2022-02-28T10:30:00", "2022-02-28T10:30:00"),
    ),
    "cftime and a gap": (
        objects(as_cftime("noleap")[0], None),
        objects("2022-02-28T10:30:00", ""),
    ),
    "cftime, no calendar": (
        objects(cftime.datetime(2022, 1, 1, calendar=""), cftime.datetime(2022, 1, 2, calendar="")),
        objects("2022-01-01T00:00:00", "2022-01-02T00:00:00"),
    ),
    # numbers
    "float16": (np.array([0.5, 2], "f2"), np.array([0.5, 2], "f4")),
    "long double": (np.array([0.5, 2], "g"), np.array([0.5, 2], "f8")),
    "uint64": (np.array([1, 2**64 - 1], "u8"), SAME),
    "bool": (np.array([True, False]), SAME),
    "complex": (np.array([1 + 2j, 3]), objects("(1+2j)", "(3+0j)")),
    "integers as objects": (objects(1, 2), np.array([1, 2])),
    "integers and None": (objects(1, None), np.array([1.0, np.nan])),
    "integers too large": (objects(1, 2**70), objects("1", str(2**70))),
    "floats and integers": (objects(1, 2.5), np.array([1, 2.5])),
    "bool as objects": (objects(True, False), np.array([True, False])),
    "bool and None": (objects(True, None), objects("true", "")),
    "None": (objects(None, None), np.array([np.nan, np.nan])),
    "pandas integers": (pd.array([1, None], dtype="Int64"), np.array([1, np.nan])),
    "decimals": (objects(Decimal("1.50"), Decimal(2)), objects("1.50", "2")),
    # text
    "text": (np.array(["a", "é"]), SAME),
    "text as objects": (objects("a", "é"), SAME),
    "text and None": (objects("a", None), objects("a", "")),
    "text of NumPy 2": (np.array(["a", "é"], np.dtypes.StringDType()), objects("a", "é")),
    "text with the zeros of C": (objects("a\0", "b\0c"), objects("a", "bc")),
    "bytes": (np.array([b"a", b"bc"]), SAME),
    "bytes as objects": (objects(b"a", b"bc"), objects("a", "bc")),
    "text and numbers": (objects("a", 2), objects("a", "2")),
    "categories": (pd.Categorical(["a", "b"]), objects("a", "b")),
    "intervals": (pd.interval_range(0, 2, periods=2), objects("(0, 1]", "(1, 2]")),
    # other objects
    "sets": (objects({10980}, {"b", "a"}), objects("[10980]", '["a", "b"]')),
    "lists": (objects([2, 1], []), objects("[2, 1]", "[]")),
    "arrays": (objects(np.arange(2), np.ones(1)), objects("[0, 1]", "[1.0]")),
    "dicts": (
        objects({"b": {1, 2}, "a": None}, {1: date(2022, 6, 1)}),
        objects('{"a": null, "b": [1, 2]}', '{"1": "2022-06-01"}'),
    ),
    "CRS of rasterio": (objects(UTM, None), objects(UTM.to_wkt(), "")),
    "CRS of pyproj": (
        objects(*[pyproj.CRS(32632)] * 2),
        objects(*[pyproj.CRS(32632).to_wkt()] * 2),
    ),
    "geometries": (
        objects(shapely.Point(1, 2), shapely.box(0, 0, 1, 1)),
        objects("POINT (1 2)", "POLYGON ((1 0, 1 1, 0 1, 0 0, 1 0))"),
    ),
    "paths": (objects(PurePosixPath("/a"), PurePosixPath("b/c")), objects("/a", "b/c")),
    "identifiers": (
        objects(uuid.UUID(int=1), uuid.UUID(int=2)),
        objects(*(f"00000000-0000-0000-0000-00000000000{n}" for n in (1, 2))),
    ),
    "enumeration": (objects(Orbit.UP, Orbit.UP), objects("Orbit.UP", "Orbit.UP")),
    "dataclass with a set": (
        objects(Tile("a", {"y", "x"}), Tile("b", set())),
        objects('{"bands": ["x", "y"], "name": "a"}', '{"bands": [], "name": "b"}'),
    ),
    "records": (np.array([(1, "a"), (2, "b")], "i4,U1"), objects('[1, "a"]', '[2, "b"]')),
    "objects without text": (objects(Silent(), Silent()), LOST),
    "lambdas": (objects(lambda: 1, None), LOST),
    "long text of an object": (objects(list(range(9999)), []), LOST),
    "bytes that are no text": (objects(b"\xff\xfe", b"a"), LOST),
}
# As the index of time, text has no gaps, and what has no text is no date.
AS_TIME = [name for name in VALUES if name not in ("text and None", "CRS of rasterio", "float16")]


@pytest.fixture(scope="module")
def series():
    return scene(64, 32, 2)


@pytest.fixture(scope="module")
def vectors(series):
    return embedded(series).values


def embedded(cube, **options):
    return cube.terramind.embed(**{**QUICK, **options})


def expected_of(name):
    given_values, right = VALUES[name]
    return given_values if isinstance(right, str) else right


def assert_holds(coord, right):
    here, there = np.ravel(coord.values), np.ravel(np.asarray(right))
    assert coord.dtype.kind == there.dtype.kind or {coord.dtype.kind, there.dtype.kind} <= {*"OUT"}
    if there.dtype.kind in "mMf":
        assert ((here == there) | (pd.isnull(here) & pd.isnull(there))).all()
    else:
        assert list(here) == list(there)


def with_coord(cube, role, values):
    if role == "time":
        return cube.drop_vars("time").assign_coords(time=values)
    return cube.assign_coords(extra=("time", values))


def embed_quietly_unless(lost, cube, **options):
    if not lost:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "found an extent of")
            return embedded(cube, **options)
    with pytest.warns(xtm.TerraMindWarning, match=f"coordinate '{lost}'"):
        return embedded(cube, **options)


ROLES = [("extra", name) for name in VALUES] + [("time", name) for name in AS_TIME]


@pytest.mark.parametrize(("role", "name"), ROLES)
def test_what_a_coordinate_holds(series, vectors, role, name):
    values, right = VALUES[name]
    lost = role if isinstance(right, str) and right == LOST else None
    found = embed_quietly_unless(lost, with_coord(series, role, values))
    np.testing.assert_array_equal(found.values, vectors)
    assert (role in found.coords) == (lost is None)
    if not lost:
        assert_holds(found[role], expected_of(name))


# Every way out


def write_zarr(embedding, folder, dtype="float32"):
    store = folder / f"{dtype}.zarr"
    first = embedding.terramind.to_zarr(store, dtype=dtype)
    blocks = sorted((store / "embedding" / "c").rglob("*"))
    blocks = [path for path in blocks if path.is_file()]
    assert len(blocks) > 1
    for path in blocks[::2]:
        path.unlink()
    again = embedding.terramind.to_zarr(store, dtype=dtype, resume=True)
    xr.testing.assert_identical(first.load(), again.load())
    assert (store / "embedding" / "c").exists()
    return again


def write_int8(embedding, folder):
    return write_zarr(embedding, folder, "int8")


def write_netcdf(embedding, folder, engine="netcdf4"):
    embedding.to_netcdf(folder / f"{engine}.nc", engine=engine)
    with xr.open_dataarray(
        folder / f"{engine}.nc", engine=engine, decode_coords="all", decode_timedelta=True
    ) as found:
        return found.load()


def write_h5netcdf(embedding, folder):
    return write_netcdf(embedding, folder, "h5netcdf")


def write_pickle(embedding, folder):
    return pickle.loads(pickle.dumps(embedding))


def write_quantized(embedding, folder):
    return embedding.terramind.quantize().terramind.dequantize()


def write_others(embedding, folder):
    date = embedding.isel(time=0)
    date.terramind.to_cog(folder / "e.tif")
    with rasterio.open(folder / "e.tif") as image:
        assert image.count == embedding.sizes["feature"]
    embedding.terramind.to_geoparquet(folder / "e.parquet")
    n_rows = len(pd.read_parquet(folder / "e.parquet"))
    assert n_rows == embedding.size / embedding.sizes["feature"]
    for made in (date.terramind.similarity(x=float(date.x[0]), y=float(date.y[0])),):
        made.terramind.to_cog(folder / "s.tif")
    for made in (
        embedding.terramind.similarity(embedding[0, :, 0, 0].values),
        embedding.terramind.cluster(2),
        embedding.terramind.to_rgb(),
    ):
        made.to_netcdf(folder / "m.nc")
    return embedding


WAYS = [write_zarr, write_int8, write_netcdf, write_h5netcdf, write_pickle, write_quantized]
WAYS += [write_others]


def assert_came_back(found, embedding):
    """The coordinates that were kept, as they were; nothing more."""
    assert set(found.coords) == set(embedding.coords)
    for name in embedding.coords:
        here, there = np.ravel(found[name].values), np.ravel(embedding[name].values)
        if there.dtype.kind == "O" and hasattr(there[0], "isoformat"):
            # Dates of the standard calendar come back as NumPy's.
            here = [pd.Timestamp(x) if isinstance(x, np.datetime64) else x for x in here]
            assert [x.isoformat() for x in here] == [x.isoformat() for x in there]
        else:
            assert ((here == there) | (pd.isnull(here) & pd.isnull(there))).all(), name
        zone = embedding[name].attrs.get("time_zone")
        assert found[name].attrs.get("time_zone") == zone


def chunked(cube):
    return cube.copy(data=cube.chunk(time=1, y=32).data)


@pytest.fixture(scope="module")
def with_all(series):
    """A lazy embedding with a coordinate of every kind, and with one date's of every kind."""
    cube = chunked(series)
    for number, name in enumerate(VALUES):
        along = xr.DataArray(np.zeros(2), dims="time", coords={"extra": ("time", VALUES[name][0])})
        cube = cube.assign_coords({f"extra_{number}": ("time", VALUES[name][0])})
        cube = cube.assign_coords({f"one_{number}": along.extra[1].variable})
    with pytest.warns(xtm.TerraMindWarning, match="found what no file takes"):
        return embedded(cube)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_comes_out_can_be_kept(with_all, way, tmp_path):
    assert_came_back(way(with_all, tmp_path), with_all)


FEW = ("index with a zone", "cftime, 360_day", "months", "sets", "text as objects", "spans")


STORED = ("several zones", "a date and a gap", "the same date twice", "text", "text and numbers")
STORED += ("bytes", "bool", "intervals", "objects without text", "None")
STORED += tuple(f"cftime, {name}" for name in CALENDARS[:5])


@pytest.mark.parametrize(
    ("way", "name"),
    [(write_zarr, name) for name in STORED] + [(way, name) for way in WAYS for name in FEW],
)
@pytest.mark.filterwarnings("ignore:found what no file takes:xr_terramind.TerraMindWarning")
def test_of_what_counts_as_time(series, way, name, tmp_path):
    embedding = embedded(chunked(with_coord(series, "time", VALUES[name][0])))
    assert_came_back(way(embedding, tmp_path), embedding)


# Lazy coordinates


LAZY = {
    "numbers": (np.array([22, 65]), [22, 65]),
    "float16": (np.array([0.5, 2], "f2"), [0.5, 2]),
    "dates": (dates("2022-06-01", "2022-06-02"), dates("2022-06-01", "2022-06-02")),
    "text": (np.array(["a", "é"]), ["a", "é"]),
    "text as objects": (objects("a", None), ["a", ""]),
    "sets": (objects({2, 1}, {3}), ["[1, 2]", "[3]"]),
    "complex": (np.array([1j, 2]), ["1j", "(2+0j)"]),
    "objects without text": (objects(Silent(), "a"), ["", "a"]),
}


@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 2}], ids=str)
@pytest.mark.parametrize("name", LAZY)
def test_a_lazy_coordinate_is_not_computed_and_comes_along(series, name, chunks, tmp_path):
    values, right = LAZY[name]
    computed = []

    def read(block):
        if block.size:  # Dask tries functions on nothing
            computed.append(block.shape)
        return block

    whole = da.from_array(values, chunks=chunks["time"]) if values.dtype != object else None
    if whole is None:
        whole = da.from_delayed(dask.delayed(values, traverse=False), (2,), object)
        whole = whole.rechunk(chunks["time"])
    lazy = whole.map_blocks(read, dtype=values.dtype, meta=np.empty((0,), values.dtype))
    found = embedded(chunked(series).assign_coords(extra=("time", lazy)))
    assert not computed and found.extra.chunks is not None
    assert list(found.extra.values) == list(right)
    for dtype in ("float32", "int8"):
        stored = found.terramind.to_zarr(tmp_path / f"{dtype}.zarr", dtype=dtype)
        assert list(stored.extra.values) == list(right)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("calendar", ["noleap", "standard"])
def test_what_a_file_holds_opened_lazily(series, calendar, dtype, tmp_path):
    times = xr.date_range("2022-02-28", periods=2, calendar=calendar, use_cftime=True)
    file = series.assign_coords(sensed=("time", times), tile=("time", objects("a", "é")))
    file.to_dataset(name="s2").to_zarr(tmp_path / "s2.zarr", consolidated=False)
    cube = xr.open_zarr(tmp_path / "s2.zarr", consolidated=False, decode_coords="all")["s2"]
    stored = embedded(cube).terramind.to_zarr(tmp_path / "e.zarr", dtype=dtype)
    assert [str(x)[:10] for x in stored.sensed.values] == ["2022-02-28", "2022-03-01"]
    assert list(stored.tile.values) == ["a", "é"]


# MultiIndexes


def with_index(cube, dim, **levels):
    index = pd.MultiIndex.from_arrays(list(levels.values()), names=list(levels))
    bare = cube.drop_vars(dim)
    return bare.assign_coords(xr.Coordinates.from_pandas_multiindex(index, dim))


def north(cube):
    return cube.y.values


INDEXES = {  # the cube with a MultiIndex, and labels of the embedding along time
    "dates and orbits": (
        lambda s: with_index(s, "time", date=s.time.values, orbit=[22, 65]),
        lambda s: {"time": s.time.values, "date": s.time.values, "orbit": [22, 65]},
    ),
    "satellites and orbits": (
        lambda s: with_index(s, "time", satellite=["A", "B"], orbit=[22, 65]),
        lambda s: {"satellite": ["A", "B"], "orbit": [22, 65]},
    ),
    "under another name": (
        lambda s: with_index(s, "time", date=s.time.values, orbit=[1, 2]).rename(time="t"),
        lambda s: {"time": s.time.values, "date": s.time.values, "orbit": [1, 2]},
    ),
    "stacked": (
        lambda s: s.rename(time="day").stack(date=["day"]).transpose("date", ...),
        lambda s: {"time": s.time.values, "day": s.time.values},
    ),
    "stacked from time": (
        lambda s: s.stack(date=["time"]).transpose("date", ...),
        lambda s: {"time": s.time.values},
    ),
    "of a Dataset": (
        lambda s: with_index(s, "time", date=s.time.values, orbit=[22, 65]).to_dataset("band"),
        lambda s: {"time": s.time.values, "date": s.time.values, "orbit": [22, 65]},
    ),
    "sensor and band": (
        lambda s: with_index(s, "band", sensor=["S2"] * 12, name=s.band.values),
        lambda s: {"time": s.time.values},
    ),
    "band in another order": (
        lambda s: with_index(s[:, ::-1], "band", name=s.band.values[::-1], n=range(12)),
        lambda s: {"time": s.time.values},
    ),
    "rows": (
        lambda s: with_index(s, "y", northing=s.y.values, row=range(64)),
        lambda s: {"time": s.time.values},
    ),
    "rows and columns": (
        lambda s: with_index(
            with_index(s, "x", easting=s.x.values, column=range(32)),
            "y",
            row=range(64),
            y_=s.y.values,
        ).rename(y_="lat"),
        lambda s: {"time": s.time.values},
    ),
}


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("kind", INDEXES)
def test_levels_become_coordinates(series, vectors, kind, lazy, tmp_path):
    make, right = INDEXES[kind]
    cube = make(chunked(series) if lazy else series)
    embedding = embed_quietly_unless(None, cube)
    np.testing.assert_array_equal(embedding.values, vectors)
    plain = embedded(series)
    for dim in ("y", "x"):
        np.testing.assert_array_equal(embedding[dim], plain[dim])
    along = {name for name, coord in embedding.coords.items() if coord.dims == ("time",)}
    assert along == set(right(series))
    for name, labels in right(series).items():
        np.testing.assert_array_equal(embedding[name].values, labels)
    if lazy:
        assert_came_back(write_zarr(embedding, tmp_path), embedding)
    else:
        assert_came_back(write_netcdf(embedding, tmp_path), embedding)


def test_one_date_of_a_multiindex(series, tmp_path):
    make, _ = INDEXES["dates and orbits"]
    embedding = embedded(make(series).isel(time=1))
    assert embedding.orbit == 65 and embedding.time.item() == '["2022-07-15T00:00:00", 65]'
    assert_came_back(write_netcdf(embedding, tmp_path), embedding)


@pytest.mark.parametrize(
    ("dim", "error", "labels"),
    [("y", xtm.GridError, "range(64)"), ("band", xtm.BandError, "abcdefghijkl")],
)
def test_no_pixel_is_placed_or_named_by_a_guess(series, dim, error, labels):
    labels = list(range(64)) if dim == "y" else list(labels)
    cube = with_index(series, dim, one=labels, other=labels)
    with pytest.raises(error):
        embedded(cube)


# Attributes


ATTRS = {  # value, and what it becomes; None where it is left out in silence
    "text": ("ü", "ü"),
    "text of NumPy": (np.str_("a"), "a"),
    "text with the zeros of C": ("a\0", "a"),
    "long text": ("x" * 70_000, "x" * 70_000),
    "integer": (3, 3),
    "integer of NumPy": (np.int8(3), 3),
    "large integer": (2**70, str(2**70)),
    "float": (0.5, 0.5),
    "float16": (np.float16(0.5), 0.5),
    "long double": (np.longdouble(0.5), 0.5),
    "complex": (1j, "1j"),
    "bool": (True, 1),
    "bool of NumPy": (np.False_, 0),
    "None": (None, None),
    "bytes": (b"ab", "ab"),
    "date": (datetime(2022, 6, 1, tzinfo=UTC), "2022-06-01T00:00:00+00:00"),
    "date of NumPy": (np.datetime64("2022-06-01"), "2022-06-01"),
    "span": (timedelta(hours=1), "P0DT1H0M0S"),
    "list of text": (["a", "b"], ["a", "b"]),
    "array of text": (np.array(["a", "b"]), ["a", "b"]),
    "tuple": ((1, 2.5), [1, 2.5]),
    "list of bool": ([True, False], [1, 0]),
    "array of bool": (np.array([True]), [1]),
    "array": (np.arange(3), [0, 1, 2]),
    "array without axes": (np.array(3), 3),
    "mixed list": ([1, "a"], '[1, "a"]'),
    "nested list": ([[1, 2], [3]], "[[1, 2], [3]]"),
    "image": (np.eye(2), "[[1.0, 0.0], [0.0, 1.0]]"),
    "empty list": ([], []),
    "set": ({"b", "a"}, '["a", "b"]'),
    "dict": ({"b": None, "a": (1, UTM)}, json.dumps({"a": [1, UTM.to_wkt()], "b": None})),
    "CRS": (UTM, UTM.to_wkt()),
    "transform": (rasterio.Affine.identity(), [1, 0, 0, 0, 1, 0, 0, 0, 1]),
    "path": (PurePosixPath("/a"), "/a"),
    "dtype": (np.dtype("i2"), "int16"),
    "fraction": (Decimal("0.1"), "0.1"),
    "array of xarray": (xr.DataArray([1, 2]), "[1, 2]"),
    "object without text": (Silent(), LOST),
    "list of such": ([1, Silent()], LOST),
    "circle": ((lambda x: x.append(x) or x)([]), LOST),
    "a million numbers": (np.zeros((1000, 1000)), LOST),
}


@pytest.fixture(scope="module")
def with_attrs(series):
    """An embedding of a cube with every attribute, on coordinates of every kind."""
    attrs = {f"attr_{n}": value for n, (value, _) in enumerate(ATTRS.values())}
    cube = series.assign_coords(extra=("time", [1, 2]), one=((), objects({1})[0]), name="é")
    for name in ("time", "y", "x", "extra", "one", "name"):
        cube[name].attrs.update(attrs)
    with pytest.warns(xtm.TerraMindWarning, match="the attribute 'attr_.*' of 'time'"):
        return embedded(chunked(cube))


@pytest.mark.parametrize("coord", ["time", "y", "x", "extra", "one", "name"])
def test_what_attributes_become(with_attrs, coord):
    attrs = with_attrs[coord].attrs
    for number, (_, right) in enumerate(ATTRS.values()):
        found = attrs.get(f"attr_{number}")
        if isinstance(right, str) and right == LOST:
            right = None
        assert np.array_equal(found, right), (number, found)
        assert type(found) is not tuple and not isinstance(found, bool)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_attributes_can_be_written(with_attrs, way, tmp_path):
    found = way(with_attrs, tmp_path)
    for coord in ("time", "y", "x", "extra", "one", "name"):
        assert found[coord].attrs.keys() == with_attrs[coord].attrs.keys()
        for name, value in with_attrs[coord].attrs.items():
            assert list(np.atleast_1d(found[coord].attrs[name])) == list(np.atleast_1d(value))


SOURCE = {
    "collection": [(["A", "B"], ["A", "B"]), ({"id": "A"}, '{"id": "A"}'), (None, None)],
    "cloud_mask": [(True, 1), (np.True_, 1)],
    "temporal_start": [(datetime(2022, 6, 1), "2022-06-01T00:00:00")],
    "cloudy_pct": [(np.float16(30), 30.0), (complex(30), "(30+0j)")],
}


@pytest.mark.parametrize(
    ("name", "value", "right"), [(name, *pair) for name, pairs in SOURCE.items() for pair in pairs]
)
def test_attributes_of_the_source(series, name, value, right, tmp_path):
    cube = series.assign_attrs({name: value})
    embedding = embed_quietly_unless(None, cube)
    assert embedding.attrs.get(name) == right
    write_netcdf(embedding, tmp_path)
    write_zarr(embedded(chunked(cube)), tmp_path)


@pytest.mark.parametrize(
    ("values", "right"),
    [
        (pd.date_range("2022-06-01", periods=2, tz="Asia/Tokyo"), ("2022-05-31", "2022-06-01")),
        (objects(*as_cftime("360_day")), ("2022-02-28", "2022-03-01")),
        (dates("NaT", "2022-06-02"), ("2022-06-02", "2022-06-02")),
        (np.array(["June", "July"]), (None, None)),
    ],
)
def test_first_and_last_date(series, values, right):
    bare = series.copy()
    bare.attrs = {}
    attrs = embedded(with_coord(bare, "time", values)).attrs
    assert (attrs.get("temporal_start"), attrs.get("temporal_end")) == right


# What says how a file holds values: attributes and encoding


TOLD = {  # coordinate -> its attributes that no file takes with it, and those that stay
    "dates": (
        dates("2022-06-01", "2022-06-02"),
        {"units": "days since 2000", "calendar": "x", "_FillValue": 0, "scale_factor": 2.0},
        {"axis": "T"},
    ),
    "spans": (np.array([1, 2], "m8[ns]"), {"units": "hours", "dtype": "x"}, {"long_name": "a"}),
    "dates of cftime": (objects(*as_cftime("noleap")), {"units": "days"}, {"axis": "T"}),
    "text": (objects("a", "b"), {"_FillValue": 1, "scale_factor": 2.0}, {"units": "1"}),
    "bool": (np.array([True, False]), {"dtype": "x"}, {"units": "1"}),
    "numbers": (
        np.array([1.5, 2]),
        {"_FillValue": "x", "scale_factor": "2", "a/b": 1, " c": 1, "": 1, 5: 1},
        {"missing_value": -1.0, "units": "m", "proj:epsg": 1, "ä": 1},
    ),
}
SILENT = {
    "bounds": "gone_bnds",
    "cell_measures": "area: gone",
    "coordinates": "gone",
    "_NCProperties": "version=2",
    "CLASS": "DIMENSION_SCALE",
    "DIMENSION_LIST": [1],
}


def write_everywhere(embedding, folder):
    for way in (write_zarr, write_int8, write_netcdf, write_h5netcdf):
        assert_came_back(way(embedding, folder), embedding)


@pytest.mark.parametrize("kind", TOLD)
def test_attributes_that_would_change_what_is_read(series, kind, tmp_path):
    values, told, stay = TOLD[kind]
    cube = with_coord(with_coord(chunked(series), "time", values), "extra", values)
    for role in ("time", "extra"):
        cube[role].attrs = {**told, **stay, **SILENT}
    with pytest.warns(xtm.TerraMindWarning, match="no file takes") as caught:
        embedding = embedded(cube)
    message = next(str(x.message) for x in caught if "no file takes" in str(x.message))
    assert not any(repr(name) in message for name in (*stay, *SILENT))
    for role in ("time", "extra"):
        assert all(f"the attribute {name!r} of {role!r}" in message for name in told)
        assert embedding[role].attrs == stay
    write_everywhere(embedding, tmp_path)


def test_references_to_what_is_there_are_kept(series):
    cube = series.assign_coords(quality=("time", [1, 2]), flag=("time", [0, 1]))
    cube.quality.attrs = {"ancillary_variables": "flag", "cell_measures": "area: flag"}
    assert embedded(cube).quality.attrs == cube.quality.attrs


ENCODINGS = {
    "hours would be lost": {"units": "days since 2022-01-01", "dtype": "int64"},
    "unknown units": {"units": "fortnights since 2022-01-01"},
    "no units at all": {"units": "metres"},
    "another calendar": {"units": "days since 2022-01-01", "calendar": "noleap"},
    "too few bits": {"units": "seconds since 1970-01-01", "dtype": "int8"},
    "not a dtype": {"dtype": "S1"},
}


@pytest.mark.parametrize("kind", ENCODINGS)
def test_an_encoding_that_loses_something_is_not_kept(series, kind, tmp_path):
    times = dates("2022-06-01T10:31:05.25", "2022-06-02")
    cube = with_coord(with_coord(chunked(series), "time", times), "extra", times)
    for role in ("time", "extra"):
        cube[role].encoding = ENCODINGS[kind]
    write_everywhere(embedded(cube), tmp_path)


def test_an_encoding_that_loses_nothing_is_kept(series):
    kept = {"units": "hours since 2022-01-01", "calendar": "standard", "dtype": np.dtype("int32")}
    series = series.copy()
    series["time"].encoding = {**kept, "chunksizes": (1,), "zlib": True}
    assert embedded(series).time.encoding == kept


@pytest.mark.parametrize("way", [write_zarr])
@pytest.mark.parametrize("units", ["days since 2022-01-01", "days since 2022-01-01 00:00:00+02:00"])
def test_times_that_were_never_decoded(series, units, way, tmp_path):
    cube = with_coord(chunked(series), "time", [3, 5])
    cube["time"].attrs["units"] = units
    embedding = embedded(cube)
    np.testing.assert_array_equal(embedding.time, [3, 5])
    assert way(embedding, tmp_path).time.dtype.kind == "M"


# Names, and remedies


NAMES = ["a/b", "a\\b", "a b", " a", "-a", "a\nb", "", ".", "zarr.json", 5, ("a", 1)]
NAMES += ["feature", "valid_fraction", "embedding"]


@pytest.mark.parametrize("name", NAMES, ids=repr)
@pytest.mark.parametrize("as_dataset", [False, True])
def test_names_that_no_file_takes(series, name, as_dataset, tmp_path):
    cube = series.assign_coords({name: ("time", [1, 2])})
    cube = cube.to_dataset("band") if as_dataset else cube
    with pytest.warns(xtm.TerraMindWarning, match="no file takes") as caught:
        embedding = embedded(cube)
    write_netcdf(embedding, tmp_path)
    assert repr(name) in str([str(x.message) for x in caught]) or isinstance(name, str)
    assert set(embedding.coords) == set(embedded(series).coords)


@pytest.mark.parametrize("name", ["proj:shape", "s2:mgrs_tile", "é", "a.b", "1a", "_a", "scale2"])
def test_names_that_files_take(series, name, tmp_path):
    cube = series.assign_coords({name: ("time", [1, 2])})
    embedding = embed_quietly_unless(None, cube)
    assert_came_back(write_netcdf(embedding, tmp_path), embedding)


def lose_values(cube):
    return cube.assign_coords(item=("time", objects(Silent(), Silent())))


def lose_time(cube):
    return cube.drop_vars("time").rename(time="t").assign_coords(t=objects(Silent(), Silent()))


def lose_attr(cube):
    cube = cube.copy()
    cube["time"].attrs["item"] = Silent()
    cube["y"].attrs["item"] = Silent()
    return cube


def lose_source(cube):
    return cube.assign_attrs(collection=Silent())


def lose_all(cube):
    return lose_source(lose_attr(lose_values(cube.assign_coords({"a/b": 1, 7: 2}))))


@pytest.mark.parametrize("as_dataset", [False, True])
@pytest.mark.parametrize("lose", [lose_values, lose_time, lose_attr, lose_source, lose_all])
def test_the_remedy_works(series, vectors, lose, as_dataset):
    cube = lose(series)
    cube = cube.to_dataset("band") if as_dataset else cube
    report = cube.terramind.check()
    (issue,) = [issue for issue in report.issues if issue.code == "lost-metadata"]
    assert issue.severity == "warning" and report.ok
    with pytest.warns(xtm.TerraMindWarning) as caught:
        embedded(cube)
    assert [str(x.message) for x in caught].count(issue.message) == 1
    names = {"cube": cube}
    exec(issue.message.split("or drop it: ")[1], names)
    assert not [i for i in names["cube"].terramind.check().issues if i.code == issue.code]
    found = embed_quietly_unless(None, names["cube"])
    np.testing.assert_array_equal(found.values, vectors)
    xr.testing.assert_equal(found.y, embedded(series).y)


@pytest.mark.parametrize("output", ["windows", "pooled"])
@pytest.mark.parametrize("name", ["index with a zone", "cftime, 360_day", "sets", "CRS of pyproj"])
def test_of_other_outputs(series, output, name, tmp_path):
    cube = with_coord(chunked(series), "extra", VALUES[name][0])
    embedding = embedded(cube, output=output)
    assert_holds(embedding.extra, expected_of(name))
    stored = embedding.terramind.to_zarr(tmp_path / "e.zarr")
    assert_came_back(stored, embedding)
    assert_came_back(embedding.terramind.to_zarr(tmp_path / "e.zarr", resume=True), embedding)
    assert_came_back(write_netcdf(embedding, tmp_path), embedding)


# What is given to an embedding later


def test_what_is_added_later_is_stored_all_the_same(series, tmp_path):
    embedding = embedded(chunked(series))
    plain = write_zarr(embedding, tmp_path)
    index = pd.MultiIndex.from_arrays([series.time.values, [22, 65]], names=["date", "orbit"])
    added = embedding.drop_vars("time").assign_coords(
        xr.Coordinates.from_pandas_multiindex(index, "time")
    )
    added = added.assign_coords(
        crs=((), objects(UTM).reshape(())),
        sets=("time", objects({1}, {2})),
        kind=("time", pd.Categorical(["a", "b"])),
        silent=("time", objects(Silent(), None)),
    ).assign_attrs(note={"b", "a"}, nothing=None, item=Silent())
    (tmp_path / "later").mkdir()
    with pytest.warns(xtm.TerraMindWarning, match=r"'silent' .*attribute 'item'"):
        found = write_zarr(added, tmp_path / "later")
    np.testing.assert_array_equal(found, plain)
    assert found.crs.item() == UTM.to_wkt() and list(found.sets.values) == ["[1]", "[2]"]
    assert list(found.kind.values) == ["a", "b"] and list(found.orbit.values) == [22, 65]
    assert found.attrs["note"] == '["a", "b"]' and "silent" not in found.coords


def test_an_error_of_a_library_is_not_called_a_lack_of_room(series, tmp_path):
    embedding = embedded(chunked(series))
    cells = ("y", "x"), np.full(embedding.shape[2:], None, object)
    cells[1][:] = [[Silent()]]
    odd = embedding.assign_coords(odd=cells)
    with pytest.raises(xtm.StoreError, match="the variable 'odd'") as caught:
        odd.terramind.to_zarr(tmp_path / "e.zarr")
    assert "room" not in str(caught.value)
    assert "embedding.drop_vars('odd')" in str(caught.value)
    odd.drop_vars("odd").terramind.to_zarr(tmp_path / "e.zarr", overwrite=True)


# No noise, and the same in every process


def stac_items(cube):
    """Coordinates as stackstac and odc-stac put them beside a series."""
    return cube.assign_coords(
        {
            "id": ("time", ["S2A_1", "S2B_2"]),
            "eo:cloud_cover": ("time", objects(12.5, None)),
            "platform": ("time", np.array(["sentinel-2a", "sentinel-2b"])),
            "proj:shape": ((), objects({10980})[0]),
            "proj:bbox": ((), objects((1, 2))[:1].reshape(())),
            "s2:granule": ("time", objects("a", None)),
            "constellation": "sentinel-2",
            "epsg": 32632,
        }
    )


@pytest.mark.parametrize("lazy", [False, True])
def test_nothing_is_said_of_what_is_kept(series, lazy, tmp_path):
    cube = stac_items(chunked(series) if lazy else series)
    embedding = embed_quietly_unless(None, cube)
    assert not [i for i in cube.terramind.check().issues if i.code == "lost-metadata"]
    assert embedding["proj:shape"].item() == "[10980]"
    np.testing.assert_array_equal(embedding["eo:cloud_cover"], [12.5, np.nan])
    assert_came_back(write_netcdf(embedding, tmp_path), embedding)


def test_text_is_the_same_in_every_process():
    code = (
        "from xr_terramind.result.plain import as_text\n"
        "names = [f'name {n}' for n in range(50)]\n"
        "print(as_text([set(names), frozenset(names), {name: {name, 1} for name in names}]))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(found) == 1 and len(found.pop()) > 1000


# Any value


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.complex_numbers(),
    st.datetimes(),
    st.dates(),
    st.timedeltas(timedelta(-9999), timedelta(9999)),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.fractions(),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.frozensets(SCALARS, max_size=3),
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.one_of(st.text(max_size=6), st.integers()), ANYTHING, max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_attributes_can_be_written(tmp_path_factory, attrs):
    kept, lost = keep_attrs(attrs)
    left = [name for name, value in attrs.items() if value is not None]
    assert len(kept) + len(lost) <= len(left)
    folder = tmp_path_factory.mktemp("any")
    dataset = xr.Dataset(coords={"extra": ("time", [1.0, 2.0], kept)})
    assume(not set(kept) & {"units", "calendar"})
    for engine in ("netcdf4", "h5netcdf"):
        dataset.to_netcdf(folder / f"{engine}.nc", engine=engine)
    dataset.to_zarr(folder / "e.zarr", zarr_format=3, consolidated=False)


@given(st.lists(ANYTHING, min_size=2, max_size=2))
@settings(max_examples=60, deadline=None)
def test_any_objects_can_be_written(tmp_path_factory, items):
    variable = make_writable(xr.Variable("time", objects(*items), fastpath=True))
    if variable is None:
        return
    assert variable.shape == (2,)
    folder = tmp_path_factory.mktemp("any")
    dataset = xr.Dataset(coords={"extra": variable})
    for engine in ("netcdf4", "h5netcdf"):
        dataset.to_netcdf(folder / f"{engine}.nc", engine=engine)
    dataset.to_zarr(folder / "e.zarr", zarr_format=3, consolidated=False)
