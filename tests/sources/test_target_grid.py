"""Places and grids: what was asked for lies inside, on a lattice, in one piece."""

import math

import geopandas as gpd
import numpy as np
import pytest
import shapely
from pyproj import Geod, Transformer

from xr_terramind.errors import SourceError
from xr_terramind.sources.place import find_place
from xr_terramind.sources.target_grid import DEGREE_M, MAX_EDGE_PX, lay_grid, utm_crs

SHANGHAI, CAPE_TOWN = (121.5, 31.2), (18.42, -33.92)
BOX = (121.45, 31.15, 121.5, 31.2)
FORMAT = r"(?s)^found .+; expected .+\. "


def around(lon, lat, buffer_m=1000.0):
    return find_place((lon, lat), buffer_m, None, None)


def box(*bounds):
    return find_place(None, None, bounds, None)


def shape(geometry):
    return find_place(None, None, None, geometry)


def to_grid(grid, lon, lat):
    return Transformer.from_crs("OGC:CRS84", grid.crs, always_xy=True).transform(lon, lat)


def to_lonlat(grid, x, y):
    return Transformer.from_crs(grid.crs, "OGC:CRS84", always_xy=True).transform(x, y)


# ---- UTM zones ----


@pytest.mark.parametrize(
    ("place", "crs"),
    [
        (SHANGHAI, "EPSG:32651"),
        (CAPE_TOWN, "EPSG:32734"),
        ((119.999, 31.1), "EPSG:32650"),
        ((120.0, 31.1), "EPSG:32651"),
        ((-180.0, 10.0), "EPSG:32601"),
        ((180.0, 10.0), "EPSG:32660"),
        ((-120.0, 0.0), "EPSG:32611"),
        ((-74.0, -0.1), "EPSG:32718"),
        ((0.0, 84.0), "EPSG:32631"),
        ((0.0, -80.0), "EPSG:32731"),
    ],
)
def test_a_place_has_the_utm_zone_of_its_centre(place, crs):
    assert utm_crs(*place) == crs


@pytest.mark.parametrize(("lat", "polar"), [(85.0, "EPSG:3413"), (-81.0, "EPSG:3031")])
def test_beyond_utm_the_error_names_a_polar_crs_and_that_one_works(lat, polar):
    place = around(20.0, lat)
    with pytest.raises(SourceError, match=FORMAT) as refused:
        lay_grid(place, None, 10)
    assert f"latitude {lat:g}" in str(refused.value)
    assert f"crs={polar!r}" in str(refused.value)
    grid = lay_grid(place, polar, 10)
    assert grid.crs == polar
    assert 200 <= grid.width <= 201
    assert 200 <= grid.height <= 201


# ---- grids ----


@pytest.mark.parametrize("scale_m", [10, 20, 60, 10.5])
@pytest.mark.parametrize("place", [SHANGHAI, CAPE_TOWN, (-74.0, 40.7), (-70.0, -33.4)])
def test_a_square_has_the_pixels_asked_for_at_the_nearest_place_of_the_lattice(place, scale_m):
    grid = lay_grid(around(*place), None, scale_m)
    west, _, _, north = grid.boundingbox
    for edge in grid.boundingbox:
        assert edge / scale_m == pytest.approx(round(edge / scale_m), abs=1e-6)
    x, y = to_grid(grid, *place)
    assert abs(x - 1000 - west) <= scale_m / 2 + 1e-3
    assert abs(y + 1000 - north) <= scale_m / 2 + 1e-3
    assert grid.width == grid.height == math.ceil(2000 / scale_m)
    assert grid.affine[:6] == (scale_m, 0, west, 0, -scale_m, north)


@pytest.mark.parametrize("place", [SHANGHAI, CAPE_TOWN])
def test_a_buffer_is_in_metres_on_the_ground(place):
    grid = lay_grid(around(*place), None, 10)
    west, south, east, north = grid.boundingbox
    lon, lat = to_lonlat(grid, [west, west, east], [south, north, south])
    geod = Geod(ellps="WGS84")
    _, _, height_m = geod.inv(lon[0], lat[0], lon[1], lat[1])
    _, _, width_m = geod.inv(lon[0], lat[0], lon[2], lat[2])
    assert height_m == pytest.approx(2000, abs=20)
    assert width_m == pytest.approx(2000, abs=20)


@pytest.mark.parametrize("bounds", [BOX, (18.3, -34.0, 18.5, -33.9), (-0.1, -0.1, 0.1, 0.1)])
@pytest.mark.parametrize("crs", [None, "EPSG:4326", "EPSG:3857"])
def test_a_grid_holds_every_point_of_a_box(bounds, crs):
    grid = lay_grid(box(*bounds), crs, 100)
    lon, lat = np.meshgrid(np.linspace(*bounds[::2], 50), np.linspace(*bounds[1::2], 50))
    x, y = to_grid(grid, lon, lat)
    west, south, east, north = grid.boundingbox
    slack = grid.affine.a * 0.01
    assert west - slack <= x.min()
    assert x.max() <= east + slack
    assert south - slack <= y.min()
    assert y.max() <= north + slack


def test_what_lies_on_the_lattice_gains_no_pixel():
    lon, lat = Transformer.from_crs("EPSG:32651", "OGC:CRS84", always_xy=True).transform(
        357_000, 3_453_000
    )
    grid = lay_grid(around(lon, lat, 1120), None, 10)
    assert (grid.width, grid.height) == (224, 224)
    assert (grid.affine.c, grid.affine.f) == (355_880, 3_454_120)


def test_the_smallest_place_has_a_pixel():
    grid = lay_grid(around(*SHANGHAI, 0.01), None, 10)
    assert grid.width in (1, 2)
    assert grid.height in (1, 2)


def test_degrees_are_counted_as_on_the_equator():
    assert pytest.approx(111_319.49, abs=0.01) == DEGREE_M
    grid = lay_grid(box(*BOX), "EPSG:4326", 10)
    assert grid.crs == "EPSG:4326"
    assert grid.affine.a == 10 / DEGREE_M
    assert grid.width == pytest.approx(0.05 * DEGREE_M / 10, abs=2)
    assert grid.height == pytest.approx(0.05 * DEGREE_M / 10, abs=2)


def test_a_point_in_degrees_lies_in_the_middle_of_its_grid():
    west, south, east, north = lay_grid(around(*SHANGHAI), "EPSG:4326", 10).boundingbox
    assert (west + east) / 2 == pytest.approx(121.5, abs=1e-4)
    assert (south + north) / 2 == pytest.approx(31.2, abs=1e-4)


def test_a_crs_in_feet_has_pixels_of_as_many_metres():
    grid = lay_grid(around(-74.0, 40.7), "EPSG:2263", 10)  # New York, US survey feet
    assert grid.affine.a == pytest.approx(10 / 0.3048006096)
    assert 200 <= grid.width <= 201


# ---- the antimeridian ----


@pytest.mark.parametrize("lon", [179.995, -179.995, 180.0, -180.0])
def test_a_point_by_the_antimeridian_has_a_small_grid(lon):
    grid = lay_grid(around(lon, -16.5), None, 10)
    assert grid.crs in ("EPSG:32701", "EPSG:32760")
    assert 200 <= grid.width <= 201
    assert 200 <= grid.height <= 201


def test_a_box_across_the_antimeridian_stays_in_one_piece():
    grid = lay_grid(box(179.95, -16.6, -179.95, -16.5), None, 10)
    assert grid.width == pytest.approx(0.1 * 106_700 / 10, rel=0.03)
    assert grid.height == pytest.approx(0.1 * 110_650 / 10, rel=0.03)


@pytest.mark.parametrize(
    "place", [box(179.95, -16.6, -179.95, -16.5), around(179.9999, -16.5), around(180.0, -16.5)]
)
def test_degrees_across_the_antimeridian_work_or_say_why_not(place):
    try:
        grid = lay_grid(place, "EPSG:4326", 10)
    except SourceError as refused:
        assert "antimeridian" in str(refused)
    else:
        assert grid.width * grid.affine.a < 0.2


# ---- places ----

GEOJSON = shapely.geometry.mapping(shapely.box(*BOX))
FEATURE = {"type": "Feature", "properties": {"name": "here"}, "geometry": GEOJSON}
HALVES = [shapely.box(121.45, 31.15, 121.47, 31.2), shapely.box(121.46, 31.15, 121.5, 31.18)]
SHAPES = {
    "shapely": shapely.box(*BOX),
    "line": shapely.LineString([BOX[:2], BOX[2:]]),
    "GeoJSON": GEOJSON,
    "Feature": FEATURE,
    "FeatureCollection": {"type": "FeatureCollection", "features": [FEATURE, FEATURE]},
    "FeatureCollection of parts": {
        "type": "FeatureCollection",
        "features": [{"type": "Feature", "geometry": shapely.geometry.mapping(h)} for h in HALVES],
    },
    "GeometryCollection": shapely.geometry.mapping(shapely.GeometryCollection(HALVES)),
    "multipolygon": shapely.MultiPolygon(HALVES),
    "table": gpd.GeoDataFrame(geometry=HALVES, crs=4326),
    "table without a CRS": gpd.GeoDataFrame(geometry=HALVES),
    "series": gpd.GeoSeries(HALVES, crs=4326),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_geometry_is_its_bounds(name):
    assert shape(SHAPES[name]) == box(*BOX)


def test_a_table_is_read_in_its_own_crs():
    found = shape(gpd.GeoDataFrame(geometry=HALVES, crs=4326).to_crs(3857))
    bounds = (found.west, found.south, found.east, found.north)
    assert bounds == pytest.approx(BOX, abs=1e-9)


def test_numbers_of_any_type_name_the_same_place():
    assert find_place(np.array(SHANGHAI), np.float32(200), None, None) == around(*SHANGHAI, 200)
    assert box(*map(np.float64, BOX)) == find_place(None, None, list(BOX), None)


REFUSED = {
    "nothing": ((None, None, None, None), "exactly one of"),
    "two": ((SHANGHAI, 100, BOX, None), "point and bbox"),
    "three": ((SHANGHAI, 100, BOX, GEOJSON), "point and bbox and geometry"),
    "no buffer": ((SHANGHAI, None, None, None), "buffer_m=None"),
    "buffer 0": ((SHANGHAI, 0, None, None), "buffer_m=0"),
    "negative buffer": ((SHANGHAI, -1, None, None), "buffer_m=-1"),
    "infinite buffer": ((SHANGHAI, float("inf"), None, None), "buffer_m=inf"),
    "NaN buffer": ((SHANGHAI, float("nan"), None, None), "buffer_m=nan"),
    "buffer as text": ((SHANGHAI, "100", None, None), "buffer_m"),
    "buffer with a box": ((None, 100, BOX, None), "buffer_m with bbox"),
    "buffer with a geometry": ((None, 100, None, GEOJSON), "buffer_m with geometry"),
    "swapped": (((31.2, 121.5), 100, None, None), "swapped"),
    "far": (((500, 31), 100, None, None), "degrees"),
    "one number": ((121.5, 100, None, None), "2 finite numbers"),
    "three numbers": (((1, 2, 3), 100, None, None), "2 finite numbers"),
    "words": ((("a", "b"), 100, None, None), "2 finite numbers"),
    "swapped box": ((None, None, (31.1, 121.4, 31.2, 121.5), None), "swapped"),
    "upside down": ((None, None, (121, 32, 122, 31), None), "south below north"),
    "no width": ((None, None, (121, 31, 121, 32), None), "an area"),
    "metres": ((None, None, None, shapely.box(357_000, 3_452_000, 358_000, 3_453_000)), "degrees"),
    "a point": ((None, None, None, shapely.Point(SHANGHAI)), "point=(lon, lat)"),
    "empty": ((None, None, None, shapely.Polygon()), "empty geometry"),
    "no members": ((None, None, None, {"type": "FeatureCollection", "features": []}), "empty"),
    "empty table": ((None, None, None, gpd.GeoDataFrame(geometry=[], crs=4326)), "empty"),
    "no geometry": ((None, None, None, {"type": "Feature", "geometry": None}), "GeoJSON"),
    "no coordinates": ((None, None, None, {"type": "Polygon"}), "GeoJSON"),
    "no features": ((None, None, None, {"type": "FeatureCollection", "features": None}), "GeoJSON"),
    "no type": ((None, None, None, {}), "GeoJSON"),
    "text": ((None, None, None, "POINT (121.5 31.2)"), "type str"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_names_no_place_is_refused(case):
    arguments, words = REFUSED[case]
    with pytest.raises(SourceError, match=FORMAT) as refused:
        find_place(*arguments)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("crs", "scale_m", "words"),
    [
        ("EPSG:99", 10, "crs='EPSG:99'"),
        ("nonsense", 10, "crs='nonsense'"),
        (None, 0, "scale_m=0"),
        (None, -10, "scale_m=-10"),
        (None, float("nan"), "scale_m=nan"),
    ],
)
def test_grids_that_cannot_be_are_refused(crs, scale_m, words):
    with pytest.raises(SourceError, match=FORMAT) as refused:
        lay_grid(around(*SHANGHAI), crs, scale_m)
    assert words in str(refused.value)


UNFIT = {
    "heights only": (SHANGHAI, "EPSG:5703"),
    "from the centre of the earth": (SHANGHAI, "EPSG:4978"),
    "the other pole": ((0.0, -90.0), "EPSG:3413"),
    "the pole in Mercator": ((0.0, 90.0), "EPSG:3857"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_crs_that_cannot_hold_the_place_is_refused(case):
    place, crs = UNFIT[case]
    with pytest.raises(SourceError, match=FORMAT):
        lay_grid(around(*place), crs, 10)


@pytest.mark.parametrize("crs", [None, "EPSG:4326", "EPSG:3857", "EPSG:32650", "EPSG:3995"])
def test_the_middle_of_a_grid_is_the_place_in_any_crs(crs):
    grid = lay_grid(around(*SHANGHAI), crs, 10)
    west, south, east, north = grid.boundingbox
    found = to_lonlat(grid, (west + east) / 2, (south + north) / 2)
    assert found == pytest.approx(SHANGHAI, abs=2e-4)


def test_an_area_that_is_too_large_is_told_in_windows_and_gigabytes():
    with pytest.raises(SourceError, match=FORMAT) as refused:
        lay_grid(box(100, 0, 125, 40), "EPSG:4326", 10)
    width_px, height_px = 278_300, 445_278
    assert max(width_px, height_px) > MAX_EDGE_PX
    words = str(refused.value)
    assert f"{width_px:,} x {height_px:,} pixels" in words
    assert f"{1243 * 1988:,} windows" in words
    assert f"{width_px * height_px * 12 * 4 / 1e9:,.0f} GB" in words
