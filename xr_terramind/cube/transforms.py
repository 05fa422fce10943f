"""What says where the pixels lie beside the coordinates: transforms and ground control points."""

import math
from typing import Any

import numpy as np
import rioxarray  # noqa: F401 - registers the .rio accessor that reads ground control points
import xarray as xr
from affine import Affine
from pyproj import Transformer
from pyproj.exceptions import ProjError
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from xr_terramind.cube.caller import AS_USUAL, Caller
from xr_terramind.errors import GridError, explain

TOLERANCE_PX = 0.1
"""Places that are farther apart contradict each other; float32 degrees are off by up to 0.04."""

_GEO_TRANSFORM = "GeoTransform"
# Of attrs, with the order of their numbers where both orders would do.
_ATTRS = ("transform", "proj:transform", _GEO_TRANSFORM)

# Names of coordinates of two dimensions, in lower case, as pairs (x, y).
DEGREES_2D = (("lon", "lat"), ("longitude", "latitude"), ("nav_lon", "nav_lat"))
_PLACES_2D = (*DEGREES_2D, ("xc", "yc"), ("x", "y"), ("easting", "northing"))


def read_transform(array: xr.DataArray, caller: Caller = AS_USUAL) -> Affine | None:
    """Read the GeoTransform that GDAL keeps beside the CRS; None where there is none.

    Raises
    ------
    GridError
        For anything but six finite numbers, and for a rotated grid.
    """
    # Read by hand: rio.transform() also computes one from coordinates, which are checked first.
    mapping = array.coords.get(array.rio.grid_mapping)
    text = None if mapping is None else mapping.attrs.get(_GEO_TRANSFORM)
    if text is None:
        return None
    numbers = _read_numbers(text)
    affine = Affine.from_gdal(*numbers) if len(numbers) == 6 else None
    if affine is None or not _is_sound(affine):
        expected = "six finite numbers, GDAL's order, with steps that are not 0"
        remedy = "Write the right one with cube.rio.write_transform(...)."
        raise GridError(explain(f"the GeoTransform {text!r}", expected, remedy))
    return _check_straight(affine, array, f"GeoTransform={text!r}", caller)


def find_transforms(array: xr.DataArray, caller: Caller) -> dict[str, Affine]:
    """Find the transforms beside the coordinates: where each stands -> what it says.

    Raises
    ------
    GridError
        As `read_transform`. What stands in attrs and is no transform is passed over.
    """
    stored = read_transform(array, caller)
    found = {} if stored is None else {"the GeoTransform of spatial_ref": stored}
    for name in _ATTRS:
        affine = _read_attr(array.attrs.get(name), gdal=name == _GEO_TRANSFORM)
        if affine is not None:
            where = f"attrs[{name!r}]"
            told = f"{where}={affine.to_gdal()} in GDAL's order"
            found[where] = _check_straight(affine, array, told, caller)
    return found


def find_place(array: xr.DataArray, caller: Caller) -> Affine | None:
    """Find the first transform that says more than that pixels are pixels."""
    found = find_transforms(array, caller).values()
    return next((affine for affine in found if not is_identity(affine)), None)


def find_places_2d(array: xr.DataArray) -> tuple[str, str] | None:
    """Find the names of coordinates that give each pixel its own place: (x, y)."""
    names = {str(n).lower(): str(n) for n, c in array.coords.items() if {*c.dims} == {"y", "x"}}
    found = [pair for pair in _PLACES_2D if set(pair) <= set(names)]
    return (names[found[0][0]], names[found[0][1]]) if found else None


def is_identity(affine: Affine) -> bool:
    """Say whether a transform only counts pixels, as GDAL's does of an image without a place."""
    return (affine.a, affine.c, abs(affine.e), affine.f) == (1, 0, 1, 0)


def _read_numbers(value: Any) -> list[float]:
    try:
        words = value.replace(",", " ").split() if isinstance(value, str) else list(value)
        return [float(word) for word in words]
    except (TypeError, ValueError):
        return []


def _read_attr(value: Any, *, gdal: bool) -> Affine | None:
    # rasterio's order is a, b, c, d, e, f; GDAL's c, a, b, f, d, e. The zeros of a straight grid
    # tell them apart where the name does not.
    numbers = _read_numbers(value)[:6] if value is not None else []
    if len(numbers) != 6:
        return None
    as_gdal, as_rasterio = Affine.from_gdal(*numbers), Affine(*numbers)
    straight = [one for one in (as_rasterio, as_gdal) if one.b == one.d == 0 and _is_sound(one)]
    affine = straight[0] if len(straight) == 1 else as_gdal if gdal else as_rasterio
    return affine if _is_sound(affine) else None


def _is_sound(affine: Affine) -> bool:
    return all(map(math.isfinite, affine[:6])) and affine.determinant != 0


def _check_straight(affine: Affine, array: xr.DataArray, told: str, caller: Caller) -> Affine:
    height_px, width_px = (array.sizes.get(dim, 1) for dim in ("y", "x"))
    turned_px = max(
        abs(affine.b) * height_px / abs(affine.a) if affine.a else math.inf,
        abs(affine.d) * width_px / abs(affine.e) if affine.e else math.inf,
    )
    if turned_px <= TOLERANCE_PX:
        return Affine(affine.a, 0, affine.c, 0, affine.e, affine.f)
    expected = "a grid whose rows and columns follow the axes of its CRS"
    remedy = f"Resample it with {_straighten(affine, array, caller.ready)}."
    raise GridError(explain(f"a rotated transform, {told}", expected, remedy))


def _straighten(stored: Affine, array: xr.DataArray, cube: str) -> str:
    # The call is given the grid: rio.bounds() does not know of the rotation, and what is resampled
    # onto it would lose most of the image.
    height_px, width_px = (array.sizes.get(dim, 1) for dim in ("y", "x"))
    affine = _read_corners(array) or _read_pixel_numbers(array, stored)
    if not _agree(affine, stored, (height_px, width_px)):
        # A selection was made since, and rioxarray would not know of it.
        cube += f".rio.write_transform({write_affine(affine)})"
    crs = array.rio.crs
    target = "'EPSG:...'" if crs is None else write_crs(crs, cube)
    if crs is None:
        cube += f".rio.write_crs({target})"
    steps = math.hypot(affine.a, affine.d), math.hypot(affine.b, affine.e)
    # More than 45 degrees: columns run along y.
    steps = steps if abs(affine.a) >= abs(affine.d) else steps[::-1]
    across, down = (round_step(step) for step in steps)
    corners = [(col, row) for col in (0, width_px) for row in (0, height_px)]
    xs = [affine.a * col + affine.b * row + affine.c for col, row in corners]
    ys = [affine.d * col + affine.e * row + affine.f for col, row in corners]
    # On multiples of the pixel size, so that the numbers are short.
    west, north = math.floor(min(xs) / across), math.ceil(max(ys) / down)
    shape = math.ceil(north - min(ys) / down), math.ceil(max(xs) / across - west)
    place = Affine(across, 0, west * across, 0, -down, north * down)
    return f"{cube}.rio.reproject({target}, transform={write_affine(place)}, shape={shape})"


def _read_corners(array: xr.DataArray) -> Affine | None:
    # rioxarray gives a rotated image its centres in two dimensions, which selections keep up to
    # date.
    if not {"xc", "yc"} <= set(array.coords) or min(array.sizes["y"], array.sizes["x"]) < 2:
        return None
    xs, ys = (array.coords[name].transpose("y", "x").values for name in ("xc", "yc"))
    rows, cols = (size - 1 for size in xs.shape)
    a, d = (float(c[0, -1] - c[0, 0]) / cols for c in (xs, ys))
    b, e = (float(c[-1, 0] - c[0, 0]) / rows for c in (xs, ys))
    return Affine(a, b, float(xs[0, 0]) - (a + b) / 2, d, e, float(ys[0, 0]) - (d + e) / 2)


def _read_pixel_numbers(array: xr.DataArray, stored: Affine) -> Affine:
    # odc-geo numbers the pixels of a rotated image, and selections keep that up to date.
    if any(dim not in array.coords for dim in ("y", "x")):
        return stored
    y, x = (array.coords[dim] for dim in ("y", "x"))
    if not x.attrs.get("units") == y.attrs.get("units") == "pixel":
        return stored
    (x0, dx), (y0, dy) = ((float(c[0]), float(c[1] - c[0]) if c.size > 1 else 1.0) for c in (x, y))
    return stored @ Affine(dx, 0, x0 - dx / 2, 0, dy, y0 - dy / 2)


def _agree(one: Affine, other: Affine, shape: tuple[int, int]) -> bool:
    # At opposite corners, measured in pixels of the other.
    to_px = ~other @ one
    return all(
        abs(to_px.a * col + to_px.b * row + to_px.c - col) <= TOLERANCE_PX
        and abs(to_px.d * col + to_px.e * row + to_px.f - row) <= TOLERANCE_PX
        for row, col in ((0, 0), shape)
    )


def round_step(step: float) -> float:
    """Round away what a rotation or a difference leaves in the last digits."""
    return float(f"{step:.12g}")


def write_affine(affine: Affine) -> str:
    """Write a transform as Python."""
    return f"Affine({', '.join(f'{number:.15g}' for number in affine[:6])})"


def write_crs(crs: CRS, cube: str = "cube") -> str:
    """Write a CRS as Python: its code where it has one."""
    code = crs.to_epsg()
    return f"{cube}.rio.crs" if code is None else f"'EPSG:{code}'"


def name_utm(crs: CRS, x: float, y: float) -> str | None:
    """Name the metric CRS that a place calls for: UTM, or polar stereographic beyond its reach."""
    try:
        to_lonlat = Transformer.from_crs(crs.to_wkt(), "OGC:CRS84", always_xy=True)
    except ProjError:
        return None
    lon, lat = to_lonlat.transform(x, y)
    if not math.isfinite(lon + lat):
        return None
    if not -80 <= lat <= 84:
        return "EPSG:3413" if lat > 0 else "EPSG:3031"
    zone = int((lon + 180) % 360 // 6) + 1
    return f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"


def read_points(array: xr.DataArray) -> list[GroundControlPoint]:
    """Read the ground control points that rioxarray keeps beside the CRS."""
    mapping = array.coords.get(array.rio.grid_mapping)
    if mapping is None or "gcps" not in mapping.attrs:
        return []
    try:
        return array.rio.get_gcps() or []
    except (KeyError, TypeError, ValueError) as error:
        found = f"ground control points that cannot be read ({error!r})"
        remedy = "Write the right ones with cube.rio.write_gcps(...)."
        raise GridError(explain(found, "GeoJSON as rioxarray writes it", remedy)) from error


def refuse_points(array: xr.DataArray, caller: Caller) -> None:
    """Refuse an image whose place only ground control points tell, with the call that warps it."""
    points = read_points(array)
    if not points:
        return
    found = f"{len(points)} ground control points, and neither coordinates nor a transform"
    expected = "a straight grid in a CRS"
    raise GridError(explain(found, expected, _say_warp(points, array, caller)))


def _say_warp(points: list[GroundControlPoint], array: xr.DataArray, caller: Caller) -> str:
    last_row, last_col = (max(getattr(p, axis) for p in points) for axis in ("row", "col"))
    if last_row > array.sizes["y"] or last_col > array.sizes["x"]:
        return (
            f"The points reach to row {last_row:g} and column {last_col:g}: the cube was cut or "
            "thinned after it was opened, and nothing says where. Warp the whole image with "
            "cube.rio.reproject('EPSG:...', resolution=10), and select then."
        )
    cube, crs = caller.ready, array.rio.crs
    if crs is None:
        remedy = "Write their CRS first, with cube.rio.write_gcps(cube.rio.get_gcps(), 'EPSG:...')."
        return remedy
    utm = name_utm(crs, *(float(np.median([getattr(p, axis) for p in points])) for axis in "xy"))
    target = f"'{utm}'" if utm else write_crs(crs, cube)
    return f"Warp it with {cube}.rio.reproject({target}, resolution=10)."


def find_shift(centres: np.ndarray, edge: float, step: float, period: float | None = None) -> float:
    """Find by how much coordinates miss the pixel centres of a transform, along one axis.

    Parameters
    ----------
    centres : ndarray
        The coordinates, evenly spaced.
    edge, step : float
        Of the transform: the outer edge of its first pixel, and the signed step to the next.
    period : float, optional
        After which the axis repeats, as longitudes do.

    Returns
    -------
    float
        What has to be added to the coordinates; 0 where a selection of whole pixels, in either
        direction, with a stride, or a mean over blocks of pixels explains them; NaN where no
        shift of less than a pixel does.
    """
    own = (centres[-1] - centres[0]) / max(1, centres.size - 1)
    ratio = abs(own / step) if centres.size > 1 else 1.0
    block = max(1, round(ratio))
    if abs(ratio - block) * (centres.size - 1) > TOLERANCE_PX:
        return math.nan
    ends_px = sorted((float(end) - edge) / step for end in (centres[0], centres[-1]))
    if period and ends_px[0] < 0:
        turns = math.ceil(-ends_px[0] * abs(step) / period)
        ends_px = [end + turns * period / abs(step) for end in ends_px]
    # Centres of single pixels, of blocks, and of blocks of every n-th pixel, from the outer edge of
    # the first pixel. One row alone does not say whether it is a block.
    halves = {(block - block // n + 1) / 2 for n in range(1, block + 1) if block % n == 0}
    halves |= {1.0} if centres.size == 1 else set()
    misses = [_miss_px(ends_px[0] - half) for half in halves]
    nearest = min(misses, key=abs)
    if abs(nearest) <= TOLERANCE_PX:
        return 0.0
    return nearest * step if abs(nearest) <= 0.5 + TOLERANCE_PX else math.nan


def _miss_px(first: float) -> float:
    # From a first pixel to the nearest whole one that there is. Halves are upper corners, but for
    # those a pixel from the beginning: the first pixel's lower corner.
    below = math.floor(first)
    if abs(first - below - 0.5) <= TOLERANCE_PX:
        return (below if below == 0 else below + 1) - first
    return max(0, round(first)) - first
