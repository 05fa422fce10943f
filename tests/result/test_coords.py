"""Coordinates and attributes of any kind: the cube is embedded, and what comes out can be kept."""

import dataclasses
import enum
import pickle
import uuid
import warnings
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath

import cftime
import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
import shapely
import xarray as xr
from rasterio.crs import CRS

import xr_terramind as xtm
from tests.support.cubes import QUICK, scene

pytestmark = [
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


@pytest.mark.parametrize(
    ("way", "name"),
    [(write_zarr, name) for name in AS_TIME] + [(w, n) for w in WAYS[1:] for n in FEW],
)
@pytest.mark.filterwarnings("ignore:found what no file takes:xr_terramind.TerraMindWarning")
def test_of_what_counts_as_time(series, way, name, tmp_path):
    embedding = embedded(chunked(with_coord(series, "time", VALUES[name][0])))
    assert_came_back(way(embedding, tmp_path), embedding)
