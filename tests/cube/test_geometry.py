"""Where pixels lie: what says it, what contradicts it, and that each printed remedy is one."""

import warnings
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.warp
import rioxarray
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_zeros
from pyproj import CRS as ProjCRS
from pyproj import Transformer
from rasterio.control import GroundControlPoint

import xr_terramind as xtm
from tests.support.cubes import BANDS, QUICK, assert_same_embedding, embed, radar, scene

SIZE_PX = 64
EDGE = Affine(10, 0, 440_000, 0, -10, 6_160_000)  # of the sample scene
EAST, NORTH = EDGE.c, EDGE.f

LOCAL = 'LOCAL_CS["site",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
ENGINEERING = (
    'ENGCRS["site",EDATUM["here"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],'
    'LENGTHUNIT["metre",1]]'
)

quiet = pytest.mark.filterwarnings("ignore::xr_terramind.TerraMindWarning")


def cube() -> xr.DataArray:
    return scene(SIZE_PX, SIZE_PX)


def bare() -> xr.DataArray:
    """The pixels alone."""
    return cube().drop_vars(["x", "y", "spatial_ref"])


def numbered(first: float, step: float = 1) -> xr.DataArray:
    along = first + step * np.arange(SIZE_PX)
    return bare().assign_coords(x=along, y=along)


def on_axes(x: np.ndarray, y: np.ndarray, crs: Any = None) -> xr.DataArray:
    placed = bare().assign_coords(x=x, y=y)
    return placed if crs is None else placed.rio.write_crs(crs)


def along(first: float, step: float) -> np.ndarray:
    return first + step * np.arange(SIZE_PX)


def issues(obj: xr.DataArray | xr.Dataset, **options: Any) -> dict[str, str]:
    with xtm.set_options(window_size=32):
        report = obj.terramind.check(**options)
    return {issue.code: issue.message for issue in report.issues}


def calls(message: str) -> list[str]:
    """Return the calls that a message prints: from ``cube.`` to the bracket that ends them."""
    found, at = [], 0
    while (start := message.find("cube.", at)) >= 0:
        depth, at = 0, start
        while at < len(message) and (depth or message[at] not in " ;,)"):
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(message[at], 0)
            at += 1
        found.append(message[start:at].rstrip("."))
    return [call for call in found if "(" in call]


def follow(call: str, obj: xr.DataArray | xr.Dataset, **known: Any) -> Any:
    for name, value in known.items():
        call = call.replace(name, repr(value))
    return eval(call, {"cube": obj, "Affine": Affine, "numpy": np})


# Numbers of pixels are no place


BEGINNINGS = [0, 0.5, 1]
WITHOUT_PLACE = {
    "no coordinates": bare,
    **{f"from {first}": lambda first=first: numbered(first) for first in BEGINNINGS},
    "a selection of them": lambda: numbered(0.5).isel(x=slice(8, None)),
    "rows from below": lambda: numbered(0.5).isel(y=slice(None, None, -1)),
    "mirrored": lambda: numbered(0).isel(x=slice(None, None, -1)),
    "int32": lambda: numbered(0).assign_coords(x=np.arange(SIZE_PX, dtype="int32")),
    "one axis": lambda: cube().drop_vars(["y", "spatial_ref"]),
    "GDAL's transform of no place": lambda: numbered(0.5).rio.write_transform(Affine.identity()),
    "every other of a file": lambda: numbered(0.5, 2).rio.write_transform(Affine.identity()),
    "that transform alone": lambda: bare().rio.write_transform(Affine.identity()),
}


@quiet
@pytest.mark.parametrize("crs", [None, 32632, 4326, 3857, LOCAL], ids=str)
@pytest.mark.parametrize("name", WITHOUT_PLACE)
def test_an_image_without_a_place_is_taken_as_it_stands_and_claims_none(name, crs):
    image = WITHOUT_PLACE[name]()
    image = image if crs is None else image.rio.write_crs(crs)
    if crs == 4326 and name == "a selection of them":
        return  # whole degrees may be degrees
    with pytest.warns(xtm.TerraMindWarning, match="without a place, and its first row is the top"):
        result = embed(image)
    assert result.rio.crs is None
    expected = xtm.embed_array(image.values, "grid", **QUICK)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert set(issues(image)) - {"small-extent"} == {"no-crs" if crs is None else "no-place"}


@pytest.mark.parametrize("name", WITHOUT_PLACE)
@pytest.mark.parametrize("crs", [None, 32632])
def test_the_call_that_writes_its_place_is_right(name, crs):
    image = WITHOUT_PLACE[name]()
    image = image if crs is None else image.rio.write_crs(crs)
    (message,) = issues(image).values()
    (call,) = calls(message)
    placed = follow(call.replace("EPSG:...", "EPSG:32632"), image, west=EAST, north=NORTH)
    assert issues(placed) == {}
    result = embed(placed)
    assert result.rio.crs.to_epsg() == 32632
    assert (result.x[0], result.y[0]) == (EAST + 80, NORTH - 80)


def test_a_picture_without_a_place_keeps_its_first_row_at_the_top(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        profile = {"count": 12, "height": SIZE_PX, "width": SIZE_PX, "dtype": "uint16"}
        with rasterio.open(tmp_path / "image.tif", "w", driver="GTiff", **profile) as file:
            file.write(cube().values)
            file.descriptions = BANDS
        with rioxarray.open_rasterio(tmp_path / "image.tif") as read:
            image = read.load()
    with pytest.warns(xtm.TerraMindWarning, match="only number the pixels"):
        result = embed(image.rio.write_crs(32632))
    np.testing.assert_allclose(result, xtm.embed_array(cube().values, "grid", **QUICK), atol=1e-5)


@pytest.mark.parametrize("first", BEGINNINGS)
def test_a_transform_beside_pixel_numbers_says_the_place(first):
    image = numbered(first).rio.write_crs(32632).rio.write_transform(EDGE)
    (message,) = issues(image).values()
    assert "only number the pixels" in message and "440005" in message
    with pytest.warns(xtm.TerraMindWarning, match="only number the pixels"):
        assert_same_embedding(embed(image), embed(cube()))
    (call,) = calls(message)
    assert issues(follow(call, image)) == {}
    assert_same_embedding(embed(follow(call, image)), embed(cube()))


@pytest.mark.parametrize("first", [0, 0.5])
def test_a_selection_of_pixel_numbers_beside_a_transform_can_be_placed(first):
    image = numbered(first).rio.write_crs(32632).rio.write_transform(EDGE)
    corner = image.isel(y=slice(32, None), x=slice(16, None))
    (message,) = issues(corner).values()
    (call,) = calls(message)
    placed = follow(call, corner)
    assert issues(placed) == {}
    assert_same_embedding(embed(placed), embed(cube().isel(y=slice(32, None), x=slice(16, None))))


def test_metres_and_degrees_are_no_pixel_numbers():
    fine = on_axes(along(440_000.5, 1), along(6_160_000.5, -1), 32632)
    assert set(issues(fine)) == {"pixel-size"}
    coarse = on_axes(along(10.0, 1), along(80.0, -1), 4326)
    assert set(issues(coarse)) == {"pixel-size"}


# South-up only where a georeference says so


def turned() -> xr.DataArray:
    upside_down = cube().isel(y=slice(None, None, -1), x=slice(None, None, -1))
    plain = upside_down.drop_vars("spatial_ref")
    plain.x.attrs = plain.y.attrs = {}
    return plain


SAYS_NORTH = {
    "CRS": lambda c: c.rio.write_crs(32632),
    "CRS in attrs": lambda c: c.assign_attrs(crs="EPSG:32632"),
    "EPSG coordinate": lambda c: c.assign_coords(epsg=32632),
    "proj:epsg": lambda c: c.assign_coords({"proj:epsg": 32632.0}),
    "proj:code": lambda c: c.assign_attrs({"proj:code": "EPSG:32632"}),
    "CRS object": lambda c: c.assign_coords(crs=((), np.array(ProjCRS(32632), object))),
    "transform": lambda c: c.rio.write_transform(EDGE),
    "standard name": lambda c: c.assign_coords(
        y=c.y.assign_attrs(standard_name="projection_y_coordinate")
    ),
    "units": lambda c: c.assign_coords(y=c.y.assign_attrs(units="degrees_north")),
    "lat": lambda c: c.rename(y="lat", x="lon"),
    "northing": lambda c: c.rename(y="northing", x="easting"),
}


@quiet
@pytest.mark.parametrize("name", SAYS_NORTH)
def test_what_says_north_turns_the_image(name):
    assert_same_embedding(embed(SAYS_NORTH[name](turned())), embed(cube()))


@pytest.mark.parametrize(
    "crs", [ProjCRS(32632), ProjCRS("+proj=tmerc +lon_0=9 +x_0=500000")], ids=["EPSG", "none"]
)
def test_a_crs_object_as_a_coordinate_is_the_crs(crs):
    bare = cube().drop_vars("spatial_ref").assign_coords(crs=((), np.array(crs, object)))
    assert "no-crs" not in issues(bare)
    assert ProjCRS(embed(bare).rio.crs.to_wkt()) == ProjCRS(crs.to_wkt())


def test_without_a_georeference_the_first_row_is_the_top():
    with pytest.warns(xtm.TerraMindWarning, match="y rises and x falls from pixel to pixel"):
        result = embed(turned())
    expected = xtm.embed_array(turned().values, "grid", **QUICK)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    (call,) = calls(issues(turned())["no-crs"])
    remedied = follow(call.replace("EPSG:...", "EPSG:32632"), turned())
    assert_same_embedding(embed(remedied), embed(cube()))


def test_a_grid_that_counts_southwards_and_westwards_is_north_up():
    # EPSG:2048: the image's first row has the least southing, its first column the most westing.
    image = on_axes(along(-5.0, -10), along(3_700_000.0, 10), "EPSG:2048")
    expected = xtm.embed_array(image.values, "grid", **QUICK)
    np.testing.assert_allclose(embed(image), expected, atol=1e-5)
    assert "north up" in image.terramind.check().facts["pixel"]


def test_codes_that_disagree_are_named_and_none_is_taken():
    image = turned().assign_coords({"epsg": 32632, "proj:epsg": 32633})
    assert "EPSG:32632, EPSG:32633" in issues(image)["no-crs"]


# Selections explain a transform that stayed behind


SELECTIONS = {
    "whole": lambda c: c,
    "isel": lambda c: c.isel(x=slice(5, 60), y=slice(3, None)),
    "sel": lambda c: c.sel(x=slice(EAST + 50, EAST + 400)),
    "flipped": lambda c: c.isel(y=slice(None, None, -1)),
    "mirrored and cut": lambda c: c.isel(x=slice(50, 4, -1)),
    "a third": lambda c: c.isel(x=slice(1, None, 3), y=slice(None, None, 3)),
    "a half": lambda c: c.isel(x=slice(1, None, 2), y=slice(None, None, 2)),
    "means of 2": lambda c: c.coarsen(x=2, y=2).mean(),
    "means of 3": lambda c: c.coarsen(x=3, y=3, boundary="trim").mean(),
    "means of 4, cut": lambda c: c.isel(x=slice(2, 62)).coarsen(x=4, y=4).mean().isel(y=slice(3)),
    "one row": lambda c: c.isel(y=[7]),
    "one mean": lambda c: c.coarsen(x=64, y=64).mean(),
    "a row of means": lambda c: c.coarsen(x=4, y=4).mean().isel(y=[2]),
}

BESIDE = {
    "spatial_ref": lambda c: c,
    "attrs": lambda c: c.drop_vars("spatial_ref").assign_attrs(crs="EPSG:32632", transform=EDGE),
    "nine numbers": lambda c: c.assign_attrs(transform=[*EDGE]),
    "GDAL's order": lambda c: c.assign_attrs(GeoTransform=EDGE.to_gdal()),
    "text": lambda c: c.assign_attrs(GeoTransform="440000 10 0 6160000 0 -10"),
    "array": lambda c: c.assign_attrs({"proj:transform": np.array(EDGE[:6])}),
    "no transform at all": lambda c: c.assign_attrs(transform="log10", GeoTransform=3),
}


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("name", SELECTIONS)
def test_ordinary_selections_say_nothing(name, beside):
    found = issues(
        SELECTIONS[name](BESIDE[beside](cube())).assign_attrs(BESIDE[beside](cube()).attrs)
    )
    assert set(found) <= {"pixel-size", "small-extent"}


def test_a_lone_row_of_means_is_as_coarse_as_its_columns():
    row = cube().coarsen(x=2, y=2).mean().isel(y=[3])
    with pytest.warns(xtm.TerraMindWarning):
        result = embed(row)
    assert float(result.y[0]) == NORTH - 70 - 7.5 * 20


def test_longitudes_that_were_wrapped_are_a_selection():
    east = on_axes(along(200, 1e-4), along(31, -1e-4), 4326).rio.write_transform()
    wrapped = east.assign_coords(x=(east.x + 180) % 360 - 180)
    assert "place-differs" not in issues(wrapped)


# What no selection explains is told with both values


def moved(dx_m: float, dy_m: float) -> xr.DataArray:
    return cube().assign_coords(x=cube().x + dx_m, y=cube().y + dy_m)


SHIFTED = {
    "upper left corners": (lambda: moved(-5, 5), ["440000", "6160000", "corner", "half a pixel"]),
    "lower left corners": (lambda: moved(-5, -5), ["440000", "6159990", "corner"]),
    "lower right corners": (lambda: moved(5, -5), ["440010", "6159990", "corner"]),
    "x alone": (lambda: moved(-5, 0), ["440000", "corner"]),
    "a fifth": (lambda: moved(2, 0), ["440007", "440005", "0.2 and 0 pixels"]),
    "corners, cut": (
        lambda: moved(-5, 5).isel(x=slice(4, None), y=slice(7, None)),
        ["440040", "6159930", "corner"],
    ),
    "corners, flipped": (lambda: moved(-5, 5).isel(y=slice(None, None, -1)), ["6159370", "corner"]),
    "a third of the corners": (lambda: moved(-5, 5)[:, ::3, ::3], ["440000", "corner"]),
}


@quiet
@pytest.mark.parametrize("beside", ["spatial_ref", "attrs", "GDAL's order", "array"])
@pytest.mark.parametrize("name", SHIFTED)
def test_a_shift_is_told_with_both_values_and_both_remedies_work(name, beside):
    make, parts = SHIFTED[name]
    image = BESIDE[beside](make())
    message = issues(image)["place-differs"]
    for part in parts:
        assert part in message
    with pytest.warns(xtm.TerraMindWarning, match="for the first pixel"):
        result = embed(image)
    step = float(image.x[1] - image.x[0])
    assert float(result.x[0]) == float(image.x[0]) + 7.5 * step  # nothing is shifted
    move, own = calls(message)
    placed = follow(move, image)
    assert "place-differs" not in issues(placed)
    # On the centres of the scene.
    assert np.isin(placed.x, cube().x).all() and np.isin(placed.y, cube().y).all()
    assert "place-differs" not in issues(follow(own, image))


@pytest.mark.parametrize(
    "make",
    [
        lambda: cube().assign_coords(x=cube().x - 700),
        lambda: on_axes(along(440_010, 15), along(6_159_990, -15)).assign_coords(
            spatial_ref=cube().spatial_ref
        ),
        lambda: cube().assign_coords(x=8 + 1e-4 * np.arange(64), y=55 - 1e-4 * np.arange(64)),
        lambda: (
            cube()
            .drop_vars("spatial_ref")
            .assign_attrs(crs="EPSG:32632", transform=EDGE @ Affine.translation(70, 0))
        ),
    ],
    ids=["before the origin", "another step", "degrees beside metres", "attrs"],
)
def test_another_grid_is_told_and_both_remedies_work(make):
    image = make()
    message = issues(image)["place-differs"]
    own, drop = calls(message)
    assert "place-differs" not in issues(follow(own, image))
    assert "place-differs" not in issues(follow(drop, image))
    np.testing.assert_allclose(follow(own, image).x, image.x)
    transform = follow(drop, image).rio.transform()
    assert float(embed(follow(drop, image)).x[0]) == transform.c + 8 * transform.a


def test_two_transforms_that_contradict_each_other_are_told():
    image = cube().drop_vars(["x", "y"]).assign_attrs(transform=EDGE @ Affine.translation(0.3, 0))
    assert "0.3 and 0 pixels off" in issues(image)["place-differs"]


@pytest.mark.parametrize("as_dataset", [False, True])
def test_stacks_with_corners_are_told_in_the_callers_words(as_dataset):
    image = BESIDE["attrs"](moved(-5, 5)).rename(x="lon", y="lat")
    obj = image.to_dataset("band") if as_dataset else image
    move, own = calls(issues(obj)["place-differs"])
    assert "lon=cube.lon + 5" in move
    assert issues(follow(move, obj)) == {}
    assert issues(follow(own, obj)) == {}


def test_a_transform_in_attrs_alone_says_the_place():
    for attrs in (
        {"transform": EDGE},
        {"transform": tuple(EDGE)},
        {"transform": EDGE.to_gdal()},
        {"GeoTransform": "440000 10 0 6160000 0 -10"},
    ):
        assert_same_embedding(embed(bare().assign_attrs(crs="EPSG:32632", **attrs)), embed(cube()))


# Ground control points


def write_points(path, epsg: int, *, places=(0, 112, 224)) -> list[GroundControlPoint]:
    """An image in UTM zone 32 whose place is told by points alone, in another CRS."""
    to_crs = Transformer.from_crs(32632, epsg, always_xy=True)
    points = [
        GroundControlPoint(row, col, *to_crs.transform(440_000 + 10 * col, 6_160_000 - 10 * row))
        for row in places
        for col in places
    ]
    profile = {"driver": "GTiff", "count": 2, "height": 224, "width": 224, "dtype": "float32"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", **profile) as file:
            file.gcps = (points, rasterio.CRS.from_epsg(epsg))
            file.write(radar(size_px=224).values)
            file.descriptions = ("VV", "VH")
    return points


@pytest.mark.parametrize("epsg", [4326, 32632, 32633, 3857])
@pytest.mark.parametrize("as_dataset", [False, True])
def test_ground_control_points_are_refused_with_the_call_that_warps(tmp_path, epsg, as_dataset):
    write_points(tmp_path / "s1.tif", epsg)
    read = rioxarray.open_rasterio(tmp_path / "s1.tif", band_as_variable=as_dataset).load()
    with pytest.raises(xtm.GridError, match="9 ground control points") as raised:
        embed(read, modality="S1GRD")
    (call,) = calls(str(raised.value))
    assert "'EPSG:32632', resolution=10" in call
    warped = follow(call, read)
    assert issues(warped, modality="S1GRD") == {}
    first = warped if not as_dataset else warped[next(iter(warped.data_vars))]
    west, south, east, north = first.rio.bounds()
    # The image's own place, within the pixel that polynomials of the points leave.
    assert (west, south, east, north) == pytest.approx(
        (440_000, 6_157_760, 442_240, 6_160_000), abs=15
    )
    assert float(np.isfinite(first).sum()) / first.size > 0.95
    assert embed(warped, modality="S1GRD").rio.crs.to_epsg() == 32632


def test_points_of_a_cube_that_was_cut_since_are_no_place(tmp_path):
    write_points(tmp_path / "s1.tif", 4326)
    read = rioxarray.open_rasterio(tmp_path / "s1.tif").load().isel(x=slice(64, None))
    with pytest.raises(xtm.GridError, match="cut or thinned after it was opened"):
        embed(read, modality="S1GRD")


def test_points_of_a_series_are_warped_as_a_dataset(tmp_path):
    write_points(tmp_path / "s1.tif", 4326)
    read = rioxarray.open_rasterio(tmp_path / "s1.tif").load().assign_coords(band=["VV", "VH"])
    series = xr.concat([read, read], "time")
    (call,) = calls(issues(series, modality="S1GRD")["grid"])
    assert issues(follow(call, series), modality="S1GRD") == {}


def test_points_beside_coordinates_are_compared():
    def point(row: int, col: int, off_m: float) -> GroundControlPoint:
        return GroundControlPoint(row, col, EAST + 10 * col + off_m, NORTH - 10 * row)

    right = [point(row, col, 0.5) for row in (0, 64) for col in (0, 64)]
    assert issues(cube().rio.write_gcps(right, 32632)) == {}
    wrong = cube().rio.write_gcps([*right, point(32, 32, 30)], 32632)
    message = issues(wrong)["place-differs"]
    assert "440350 and 6159680" in message and "440320 and 6159680" in message
    (call,) = calls(message)
    assert issues(follow(call, wrong)) == {}
    assert_same_embedding(embed(follow(call, wrong)), embed(cube()))


# Rotated images


def write_turned(
    path, transform: Affine, crs: str | None = "EPSG:32632", size_px: int = 128
) -> None:
    profile = {"count": 12, "height": size_px, "width": size_px, "dtype": "uint16", "nodata": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(
            path, "w", driver="GTiff", crs=crs, transform=transform, **profile
        ) as file:
            file.write(xtm.sample_scene(size_px).values)
            file.descriptions = BANDS


def turn(degrees: float, step: float = 10.0, mirror: int = 1) -> Affine:
    return (
        Affine.translation(EAST, NORTH)
        @ Affine.rotation(degrees)
        @ Affine.scale(step * mirror, -step)
    )


ROTATIONS = {
    "12 degrees": (turn(12), "EPSG:32632"),
    "45 degrees": (turn(45), "EPSG:32632"),
    "a quarter": (turn(90), "EPSG:32632"),
    "150 degrees": (turn(150), "EPSG:32632"),
    "mirrored": (turn(-20, mirror=-1), "EPSG:32632"),
    "degrees": (
        Affine.translation(8, 55) @ Affine.rotation(12) @ Affine.scale(1.5e-4, -9e-5),
        "EPSG:4326",
    ),
}


@pytest.mark.filterwarnings("ignore:Transform that is non-rectilinear")
@pytest.mark.parametrize("as_dataset", [False, True])
@pytest.mark.parametrize("name", ROTATIONS)
def test_a_rotated_image_is_refused_with_a_call_that_keeps_all_of_it(tmp_path, name, as_dataset):
    transform, crs = ROTATIONS[name]
    write_turned(tmp_path / "turned.tif", transform, crs)
    read = rioxarray.open_rasterio(tmp_path / "turned.tif", band_as_variable=as_dataset).load()
    (call,) = calls(issues(read)["grid"])
    straight = follow(call, read)
    assert "grid" not in issues(straight)
    image = straight.to_dataarray("band") if as_dataset else straight
    step = [abs(number) for number in image.rio.resolution()]
    area = float((image != 0).any("band").sum()) * step[0] * step[1]
    # What was nodata before is so still: the scene has some.
    kept = (xtm.sample_scene(128) != 0).any("band").sum() * abs(transform.determinant)
    assert area / float(kept) == pytest.approx(1, abs=0.05)
    # GDAL, from the file: the same pixels at the same place.
    expected = np.zeros(image.shape, "uint16")
    with rasterio.open(tmp_path / "turned.tif") as file:
        rasterio.warp.reproject(
            rasterio.band(file, list(range(1, 13))),
            expected,
            dst_transform=image.rio.transform(),
            dst_crs=file.crs,
        )
    np.testing.assert_array_equal(image.values, expected)


@pytest.mark.filterwarnings("ignore:Transform that is non-rectilinear")
def test_a_selection_of_a_rotated_image_keeps_its_place(tmp_path):
    write_turned(tmp_path / "turned.tif", turn(12))
    read = rioxarray.open_rasterio(tmp_path / "turned.tif").load()
    corner = read.isel(x=slice(40, None), y=slice(64, None))
    (call,) = calls(issues(corner)["grid"])
    (whole,) = calls(issues(read)["grid"])
    straight, expected = follow(call, corner), follow(whole, read)
    both = xr.align(straight, expected, join="inner")
    there = both[0] != 0
    assert there.any("band").sum() > 0.95 * 88 * 64
    assert float((both[0] == both[1]).where(there).mean()) > 0.99


@pytest.mark.filterwarnings("ignore:Transform that is non-rectilinear")
def test_a_rotated_grid_of_odc_geo_is_straightened_from_its_pixel_numbers():
    box = GeoBox((SIZE_PX, SIZE_PX), turn(12), "EPSG:32632")
    image = bare().assign_coords(xr_zeros(box).coords)
    (whole,) = calls(issues(image)["grid"])
    part = image.isel(x=slice(16, None), y=slice(8, None))
    (call,) = calls(issues(part)["grid"])
    straight, expected = follow(call, part), follow(whole, image)
    both = xr.align(straight, expected, join="inner")
    there = both[0] != straight.rio.nodata
    assert there.all("band").sum() > 0.95 * 48 * 56
    assert float((both[0] == both[1]).where(there).mean()) > 0.99


@pytest.mark.filterwarnings("ignore:Transform that is non-rectilinear")
def test_a_rotated_transform_without_a_crs_or_in_attrs_is_straightened_too(tmp_path):
    write_turned(tmp_path / "turned.tif", turn(12), None)
    read = rioxarray.open_rasterio(tmp_path / "turned.tif").load()
    (call,) = calls(issues(read)["grid"])
    assert "grid" not in issues(follow(call.replace("EPSG:...", "EPSG:32632"), read))
    attrs = bare().assign_attrs(crs="EPSG:32632", transform=turn(12))
    (call,) = calls(issues(attrs)["grid"])
    straight = follow(call, attrs)
    assert "grid" not in issues(straight) and straight.sizes["x"] > SIZE_PX


def test_a_rotation_of_less_than_a_tenth_of_a_pixel_is_none():
    almost = Affine(10, 1e-9, EAST, -1e-9, -10, NORTH)
    image = bare().rio.write_crs(32632).rio.write_transform(almost)
    assert_same_embedding(embed(image), embed(cube()))


# Uneven coordinates


UNEVEN = {
    "a column lost": lambda c: c.isel(x=[*range(9), *range(10, 64)]),
    "rows lost": lambda c: c.isel(y=[*range(9), *range(20, 64)]),
    "both": lambda c: c.isel(y=[*range(9), *range(20, 64)], x=[*range(40), *range(50, 64)]),
    "pieces in the wrong order": lambda c: c.isel(x=[*range(32, 64), *range(32)]),
    "a column twice": lambda c: c.isel(x=[*range(9), *range(8, 64)]),
    "other names": lambda c: c.isel(x=[*range(9), *range(10, 64)]).rename(x="lon", y="lat"),
    "dataset": lambda c: c.isel(x=[*range(9), *range(10, 64)]).to_dataset("band"),
}


@pytest.mark.parametrize("name", UNEVEN)
def test_uneven_coordinates_are_brought_onto_the_grid_and_what_is_lost_is_empty(name):
    obj = UNEVEN[name](cube())
    while found := issues(obj):  # one axis after the other
        obj = follow(calls(found["grid"])[0], obj)
    mended = obj if isinstance(obj, xr.DataArray) else obj.to_dataarray("band")
    mended = mended.rename({k: v for k, v in {"lon": "x", "lat": "y"}.items() if k in mended.dims})
    np.testing.assert_array_equal(mended.x, cube().x)
    np.testing.assert_array_equal(mended.y, cube().y)
    there = mended.notnull()
    assert float(there.mean()) > 0.6
    np.testing.assert_array_equal(mended.where(there, 0), cube().where(there, 0))


# Coordinates of two dimensions


def swath(shear: float = 2e-5) -> xr.DataArray:
    lon, lat = np.meshgrid(along(8, 1.6e-4), along(55.5, -9e-5))
    lon = lon + shear * np.arange(SIZE_PX)[:, None]
    return bare().assign_coords(lon=(("y", "x"), lon), lat=(("y", "x"), lat))


SWATHS = {
    "lon, lat": swath,
    "with a CRS": lambda: swath().rio.write_crs(4326),
    "other names": lambda: swath().rename(lon="Longitude", lat="Latitude"),
    "pixel numbers beside them": lambda: swath().assign_coords(x=along(0, 1), y=along(0, 1)),
    "of another order": lambda: swath().transpose("x", "y", "band"),
}


@pytest.mark.parametrize("name", SWATHS)
def test_places_of_two_dimensions_are_named_and_the_call_warps_by_them(name):
    image = SWATHS[name]()
    (message,) = issues(image).values()
    assert "of two dimensions" in message
    with pytest.warns(xtm.TerraMindWarning, match="without a place"):
        result = embed(image)
    assert result.rio.crs is None
    (call,) = calls(message)
    warped = follow(call, image)
    assert issues(warped) == {}
    # Each pixel of the swath, at its own place.
    to_utm = Transformer.from_crs(4326, 32632, always_xy=True)
    names = [c for c in image.coords if str(c).lower() in ("lon", "lat", "longitude", "latitude")]
    lon, lat = (
        image[c].transpose("y", "x").values[8:-8, 8:-8] for c in sorted(names, reverse=True)
    )
    x, y = to_utm.transform(lon, lat)
    there = warped.sel(
        x=xr.DataArray(x, dims=("row", "col")),
        y=xr.DataArray(y, dims=("row", "col")),
        method="nearest",
    ).transpose("band", "row", "col")
    own = image.transpose("band", "y", "x").values[:, 8:-8, 8:-8]
    assert np.corrcoef(there.values[7].ravel(), own[7].ravel())[0, 1] > 0.9


def test_a_coordinate_x_of_two_dimensions_is_no_crash():
    x, y = np.meshgrid(cube().x.values, cube().y.values)
    both = {"x": (("y", "x"), x), "y": (("y", "x"), y)}
    image = bare().assign_coords(xr.Coordinates(both, indexes={})).rio.write_crs(32632)
    (call,) = calls(issues(image)["no-place"])
    warped = follow(call, image)
    assert issues(warped) == {}
    assert warped.rio.bounds() == pytest.approx(cube().rio.bounds(), abs=15)


# CRSs of every kind


@pytest.mark.parametrize("crs", [LOCAL, ENGINEERING, "EPSG:32632+5773"], ids=lambda crs: crs[:6])
def test_local_and_compound_crss_are_kept(crs, tmp_path):
    image = on_axes(cube().x.values, cube().y.values, crs)
    assert issues(image) == {}
    result = embed(image)
    assert result.rio.crs == image.rio.crs
    np.testing.assert_allclose(result, embed(cube()), atol=1e-5)
    result.terramind.to_zarr(tmp_path / "local.zarr")
    store = tmp_path / "local.zarr"
    with xr.open_zarr(store, decode_coords="all", consolidated=False) as read:
        assert read["embedding"].rio.crs == image.rio.crs
    result.rio.to_raster(tmp_path / "local.tif")


@quiet
@pytest.mark.parametrize("first", [0.0, 179.99, 180.0, 200.0, 359.99])
def test_longitudes_to_360_have_their_size_and_keep_their_labels(first):
    image = on_axes(along(first, 1e-4), along(31, -1e-4), 4326)
    found = issues(image)
    assert "8.55 x 11.09 m" not in found.get("no-crs", "")
    assert "x 11.09 m" in found["pixel-size"]
    assert ("longitudes" in found) == (first > 179.99 or first + 64e-4 > 180.0001)
    result = embed(image)
    np.testing.assert_allclose(result.x, along(first, 1e-4).reshape(4, 16).mean(1), rtol=1e-12)
    if "longitudes" in found:
        (call,) = calls(found["longitudes"])
        remedied = follow(call, image)
        assert "longitudes" not in issues(remedied)


# The size of pixels


SIZES = {
    "degrees": lambda: on_axes(along(8, 3e-4), along(55, -2e-4), 4326),
    "20 m": lambda: on_axes(along(440_000, 20), along(6_160_000, -20), 32632),
    "Web Mercator": lambda: on_axes(along(900_000, 20), along(7_000_000, -20), 3857),
    "LAEA": lambda: on_axes(along(4_300_000, 20), along(3_600_000, -20), 3035),
    "compound": lambda: on_axes(along(440_000, 20), along(6_160_000, -20), "EPSG:32632+5773"),
    "code in a coordinate": lambda: on_axes(
        along(440_000, 20), along(6_160_000, -20)
    ).assign_coords(epsg=32632),
    "lat and lon": lambda: on_axes(along(8, 3e-4), along(55, -2e-4), 4326).rename(x="lon", y="lat"),
    "another order": lambda: SIZES["degrees"]().transpose("x", "band", "y"),
    "series": lambda: xr.concat([SIZES["20 m"](), SIZES["20 m"]()], "time"),
    "dataset": lambda: SIZES["degrees"]().to_dataset("band"),
    "dataset of a store": lambda: SIZES["20 m"]().to_dataset("band").reset_coords("spatial_ref"),
    "one variable": lambda: SIZES["series"]().to_dataset(name="reflectance"),
    "upside down": lambda: SIZES["20 m"]().isel(y=slice(None, None, -1)),
    "means": lambda: cube().coarsen(x=2, y=2).mean(),
    "south": lambda: on_axes(along(-60, 3e-4), along(-33, -2e-4), 4326),
}


@pytest.mark.parametrize("name", SIZES)
def test_the_call_that_resamples_to_10_m_keeps_area_and_place(name):
    obj = SIZES[name]()
    (call,) = calls(issues(obj)["pixel-size"])
    warped = follow(call, obj)
    assert issues(warped) == {}
    before = obj if isinstance(obj, xr.DataArray) else obj.to_dataarray("b")
    before = before.rename({k: v for k, v in {"lon": "x", "lat": "y"}.items() if k in before.dims})
    crs = before.rio.crs or 32632
    one = embed(warped)
    to_lonlat = Transformer.from_crs(one.rio.crs.to_wkt(), "OGC:CRS84", always_xy=True)
    from_lonlat = Transformer.from_crs(
        crs if isinstance(crs, int) else crs.to_wkt(), "OGC:CRS84", always_xy=True
    )
    middle = to_lonlat.transform(float(one.x.mean()), float(one.y.mean()))
    expected = from_lonlat.transform(float(before.x.mean()), float(before.y.mean()))
    assert middle == pytest.approx(expected, abs=2e-3)


# Laws


@settings(max_examples=25, deadline=None)
@given(
    step=st.sampled_from([5.0, 10.0, 12.5, 20.0]),
    west=st.integers(200_000, 700_000),
    south=st.integers(1_000, 9_000_000),
    zone=st.sampled_from([32632, 32733, 3857, 3035, "EPSG:32632+5773", LOCAL]),
    flipped=st.sets(st.sampled_from(["x", "y"])),
    dims=st.permutations(["band", "y", "x"]),
    says=st.sampled_from(["coordinates", "GeoTransform", "attrs", "both"]),
    convention=st.sampled_from(["centre", "corner"]),
)
def test_the_same_ground_has_the_same_vectors_under_the_same_labels(
    step, west, south, zone, flipped, dims, says, convention
):
    pixels = scene(32, 32)
    north = south + 32 * step
    x, y = (np.arange(32) + 0.5) * step + west, north - (np.arange(32) + 0.5) * step
    image = xr.DataArray(
        pixels.values, dims=("band", "y", "x"), coords={"band": pixels.band, "x": x, "y": y}
    ).rio.write_crs(zone)
    place = Affine(step, 0, west, 0, -step, north)
    image = image.isel({dim: slice(None, None, -1) for dim in flipped}).transpose(*dims)
    if says == "attrs":
        image = image.assign_attrs(transform=place)
    elif says == "both":
        image = image.rio.write_transform(place)
    elif says == "GeoTransform":
        sign = {"x": -1 if "x" in flipped else 1, "y": 1 if "y" in flipped else -1}
        edge = Affine(
            *(step * sign["x"], 0, west + 32 * step * ("x" in flipped)),
            *(0, step * sign["y"], north - 32 * step * ("y" in flipped)),
        )
        image = image.drop_vars(["x", "y"]).rio.write_transform(edge)
    if convention == "corner" and says in ("attrs", "both"):
        image = image.assign_coords(x=image.x - step / 2, y=image.y + step / 2)
        image = follow(calls(issues(image)["place-differs"])[0], image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xtm.TerraMindWarning)
        result = embed(image)
    assert result.rio.crs == image.rio.crs
    by_label = result.sel(x=sorted(result.x.values), y=sorted(result.y.values, reverse=True))
    np.testing.assert_allclose(by_label, embed(pixels), atol=1e-5)
    np.testing.assert_allclose(by_label.x, west + step * (16 * np.arange(2) + 8), rtol=1e-9)
    np.testing.assert_allclose(by_label.y, north - step * (16 * np.arange(2) + 8), rtol=1e-9)


@settings(max_examples=100, deadline=None)
@given(
    start=st.integers(0, 40),
    stop=st.integers(44, 64),
    stride=st.integers(1, 5),
    block=st.integers(1, 4),
    flip=st.booleans(),
)
def test_no_selection_is_told(start, stop, stride, block, flip):
    image = cube().isel(band=slice(1), x=slice(start, stop), y=slice(start, stop))
    image = image.isel(x=slice(None, None, stride), y=slice(None, None, stride))
    if image.sizes["x"] >= block:
        image = image.coarsen(x=block, y=block, boundary="trim").mean()
    image = image.isel(y=slice(None, None, -1)) if flip else image
    assert "place-differs" not in issues(image)
