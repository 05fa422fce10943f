"""Where a cube's pixels lie: read an affine grid off its coordinates, transform and CRS."""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import rioxarray  # noqa: F401 - registers the .rio accessor that reads the CRS
import xarray as xr
from affine import Affine
from pyproj import CRS as ProjCRS
from pyproj import Geod, Transformer
from pyproj.exceptions import CRSError as ProjCRSError
from pyproj.exceptions import ProjError
from rasterio.crs import CRS
from rasterio.errors import CRSError

from xr_terramind.cube.caller import AS_USUAL, Caller
from xr_terramind.cube.transforms import (
    find_place,
    find_shift,
    find_transforms,
    is_identity,
    refuse_points,
    round_step,
)
from xr_terramind.errors import GridError, explain

_IRREGULAR_PX = 0.1  # float32 degrees are off by up to 0.04 pixels; a missing column by 1

# Pixel numbers begin at a corner, at a centre or at one. No image has more rows than this, and
# hardly a map has coordinates below it along both axes.
_FIRST_NUMBERS = (0.0, 0.5, 1.0)
_MOST_PIXELS = 2**16

# Names and units by which an axis says that it grows northwards, in lower case.
_NORTHWARD = ("lat", "latitude", "northing", "projection_y_coordinate")
_NORTHWARD_UNITS = ("degrees_north", "degree_north", "degree_n", "degrees_n", "degreen", "degreesn")

# Where loaders note the CRS besides spatial_ref and attrs["crs"], which rioxarray reads.
_CODES = ("epsg", "proj:epsg", "proj:code", "crs")


@dataclass(frozen=True)
class PixelGrid:
    """Where the pixels lie: an affine grid without rotation.

    Attributes
    ----------
    x0, y0 : float
        Centre of the first pixel, in the cube's CRS.
    dx, dy : float
        Signed step from one pixel to the next; ``dy`` is negative where north is up.
    crs : rasterio.crs.CRS or None
        None where the cube has none, or where nothing says where in it the pixels lie.
    north : int
        1 where y grows northwards and x eastwards, -1 where both run the other way, as in some
        grids of southern Africa. 0 where nothing says: then the first row is the top.
    is_located : bool
        Whether x0, y0, dx and dy are a place; if not, they number rows and columns.
    """

    x0: float
    y0: float
    dx: float
    dy: float
    crs: CRS | None = field(default=None, compare=False)
    north: int = 1
    is_located: bool = True

    @property
    def flip_y(self) -> bool:
        """Whether the first row is the southernmost: TerraMind was trained with north up."""
        return self.dy * self.north > 0

    @property
    def flip_x(self) -> bool:
        """Whether the first column is the easternmost."""
        return self.dx * self.north < 0


def pixel_grid(array: xr.DataArray, caller: Caller = AS_USUAL) -> PixelGrid:
    """Read the affine grid off the coordinates, or off the transform where there are none.

    Raises
    ------
    GridError
        For uneven spacing, a rotated transform, ground control points that have to be warped
        first, or a CRS that cannot be read.
    """
    crs = find_crs(array)
    place = find_place(array, caller)
    numbered = number_pixels(array, caller)
    if numbered and place and starts_at_first(array, caller):
        # What only counts the pixels from the first on is as good as no coordinate.
        array, numbered = array.drop_vars(["x", "y"]), False
    is_located = not numbered and (place is not None or has_both_axes(array, caller))
    if not is_located:
        refuse_points(array, caller)
        # A CRS alone is no place: none is claimed, and nothing says where north is.
        crs = place = None
    x_hint, y_hint = _hint_axes(array, place, caller)
    x0, dx = _read_axis(array, "x", x_hint, caller)
    y0, dy = _read_axis(array, "y", y_hint, caller)
    knows_north = is_located and (crs or place or _names_north(array, caller))
    north = _find_north(crs.to_wkt() if crs else None) if knows_north else 0
    return PixelGrid(x0, y0, dx, dy, crs, north, is_located)


def read_centres(array: xr.DataArray, dim: str, caller: Caller) -> np.ndarray | None:
    """Read the coordinate along y or x; None where there is none, or one of two dimensions."""
    # Not coords.get: that counts the pixels where there is no coordinate.
    if dim not in array.coords or array.coords[dim].dims != (dim,):
        return None
    coord = array.coords[dim]
    if coord.dtype.kind not in "iuf":
        name = caller.x if dim == "x" else caller.y
        found = f"a coordinate {name} of {coord.dtype}"
        expected = "numbers: the pixel centres in the cube's CRS"
        raise GridError(explain(found, expected, f"Set them with cube.assign_coords({name}=...)."))
    return coord.values.astype(np.float64)


def has_both_axes(array: xr.DataArray, caller: Caller) -> bool:
    """Say whether there is a coordinate along y and one along x."""
    return all(read_centres(array, dim, caller) is not None for dim in ("y", "x"))


def number_pixels(array: xr.DataArray, caller: Caller) -> bool:
    """Say whether x and y only number columns and rows: 0, 1, 2 or 0.5, 1.5 or 1, 2, 3.

    Or a selection of them. Degrees that begin elsewhere are degrees, not a selection.
    """
    both = [read_centres(array, dim, caller) for dim in ("y", "x")]
    axes = [centres for centres in both if centres is not None]
    if len(axes) < 2 or not all(map(_is_whole, axes)):
        return False
    if any(map(is_identity, find_transforms(array, caller).values())):
        # A file without a place, as rioxarray opens it: every selection numbers its pixels.
        return all(find_shift(centres, 0, 1) == 0 for centres in axes)
    if not all(
        np.array_equal(np.abs(np.diff(centres)), np.ones(centres.size - 1)) for centres in axes
    ):
        return False
    crs = find_crs(array)
    begin = all(centres.min() in _FIRST_NUMBERS for centres in axes)
    return crs is None or not crs.is_geographic or begin


def _is_whole(centres: np.ndarray) -> bool:
    # Whole or half numbers of pixels, as many as an image may have.
    inside = np.isfinite(centres).all() and 0 <= centres.min() <= centres.max() < _MOST_PIXELS
    return bool(inside) and np.array_equal(2 * centres, np.round(2 * centres))


def starts_at_first(array: xr.DataArray, caller: Caller) -> bool:
    """Say whether pixel numbers begin with the first pixel, in whichever way they count."""
    both = [read_centres(array, dim, caller) for dim in ("y", "x")]
    return all(centres is not None and centres[0] in _FIRST_NUMBERS for centres in both)


def _hint_axes(
    array: xr.DataArray, place: Affine | None, caller: Caller
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    # First centre and step along x and y, as the transform has them.
    if place is None:
        return None, None
    x, y = (read_centres(array, dim, caller) for dim in ("x", "y"))
    # A lone row or column of a cube that was coarsened is as coarse as the other axis says.
    coarser_x = _count_block(y, place.e) if x is not None and x.size == 1 else 1
    coarser_y = _count_block(x, place.a) if y is not None and y.size == 1 else 1
    x_hint = place.c + place.a / 2, place.a * coarser_x
    return x_hint, (place.f + place.e / 2, place.e * coarser_y)


def _count_block(centres: np.ndarray | None, step: float) -> int:
    return (
        1
        if centres is None or centres.size < 2
        else round(abs((centres[1] - centres[0]) / step)) or 1
    )


def _read_axis(
    array: xr.DataArray, dim: str, from_transform: tuple[float, float] | None, caller: Caller
) -> tuple[float, float]:
    values = read_centres(array, dim, caller)
    if values is None:
        return from_transform or (0.0, 1.0)
    size, name = values.size, caller.x if dim == "x" else caller.y
    if not np.isfinite(values).all():
        remedy = f"Set them with cube.assign_coords({name}=...)."
        raise _explain_uneven(name, "some values are not finite", remedy)
    if size == 1:
        if from_transform:
            return float(values[0]), from_transform[1]
        other = read_centres(array, "y" if dim == "x" else "x", caller)
        # One row or column has no step of its own: pixels are taken to be square.
        step = abs(float(other[1] - other[0])) if other is not None and other.size > 1 else 1.0
        return float(values[0]), step if dim == "x" else -step
    step = float(values[-1] - values[0]) / (size - 1)
    off = np.abs(values - (values[0] + step * np.arange(size))).max()
    if not step or off > _IRREGULAR_PX * abs(step):
        how = f"by up to {off:.3g}, at a mean step of {step:.3g}"
        raise _explain_uneven(name, how, _say_even(name, values))
    return float(values[0]), step


def _explain_uneven(name: str, how: str, remedy: str) -> GridError:
    found = f"a coordinate {name} that is unevenly spaced ({how})"
    return GridError(explain(found, "one step from each pixel to the next", remedy))


def _say_even(name: str, values: np.ndarray) -> str:
    # What was lost stays empty: nothing is interpolated.
    steps = np.diff(values)
    if not steps.all():
        return f"Drop what is there twice, with cube.drop_duplicates({name!r})."
    if len({*np.sign(steps)}) > 1:
        return f"Bring it into order, with cube.sortby({name!r})."
    step = round_step(float(np.median(steps)))
    end = values[-1] + step / 2
    even = f"numpy.arange({values[0]:.15g}, {end:.15g}, {step:.15g})"
    return (
        f"Bring it onto one with cube.reindex({name}={even}, method='nearest', "
        f"tolerance={abs(step) / 2:.12g}). cube.rio.reproject(...) would take it for even."
    )


def _names_north(array: xr.DataArray, caller: Caller) -> bool:
    attrs = array.coords["y"].attrs if "y" in array.coords else {}
    names = {caller.y.lower(), str(attrs.get("standard_name")).lower()}
    return bool(names & {*_NORTHWARD}) or str(attrs.get("units")).lower() in _NORTHWARD_UNITS


@lru_cache
def _find_north(wkt: str | None) -> int:
    # Grids that count southwards and westwards, such as EPSG:2048. Polar ones have both axes south.
    if wkt is None:
        return 1
    try:
        axes = ProjCRS.from_wkt(wkt).axis_info[:2]
    except ProjCRSError:  # known to GDAL alone: they are taken to grow north and east, as most do
        return 1
    return -1 if {axis.direction for axis in axes} == {"south", "west"} else 1


def crs_of(array: xr.DataArray) -> CRS | None:
    """Read the CRS as rioxarray does; a `GridError` says where it cannot be read."""
    try:
        return array.rio.crs
    except (CRSError, ProjCRSError) as error:
        found = f"a CRS that cannot be read ({error})"
        remedy = "Write the right one with cube.rio.write_crs(...)."
        raise GridError(explain(found, "an EPSG code or WKT in spatial_ref", remedy)) from error


def find_crs(array: xr.DataArray) -> CRS | None:
    """Find the CRS: rioxarray's, or the only code that a loader noted elsewhere."""
    crs = crs_of(array)
    codes = list_codes(array) if crs is None else []
    return CRS.from_user_input(codes[0]) if len(codes) == 1 else crs


def list_codes(array: xr.DataArray) -> list[str]:
    """List the EPSG codes in the coordinates and attributes that loaders write, as stackstac's."""
    found: list[Any] = [array.attrs.get(name) for name in _CODES]
    for name in _CODES:
        coord = array.coords.get(name)
        if coord is not None and coord.chunks is None:  # nothing is computed for it
            found += coord.values.ravel().tolist()
    return sorted({code for code in map(_read_code, found) if code})


def list_image_codes(array: xr.DataArray) -> list[str]:
    """List the different EPSG codes of images that have each their own: the first image's first."""
    for name in _CODES:
        coord = array.coords.get(name)
        if coord is not None and coord.dims and set(coord.dims) <= set(array.dims[:-3]):
            codes = [_read_code(value) for value in coord.values.ravel().tolist()]
            return list(dict.fromkeys(code for code in codes if code)) if all(codes) else []
    return []


def _read_code(value: Any) -> str | None:
    if isinstance(value, ProjCRS | CRS):  # as satpy's coordinate crs holds it
        epsg = value.to_epsg()
        return f"EPSG:{epsg}" if epsg else value.to_wkt()
    text = str(value).strip().upper().removeprefix("EPSG:").removesuffix(".0")
    if not text.isdigit():
        return None
    try:
        CRS.from_epsg(int(text))
    except CRSError:
        return None
    return f"EPSG:{text}"


def pixel_size_m(grid: PixelGrid, shape: tuple[int, int]) -> tuple[float, float] | None:
    """Measure the centre pixel of a cube of `shape` (y, x) on the ground: (width_m, height_m).

    Geodesic lengths on WGS 84, so that degrees and Web Mercator come out at the cube's latitude;
    None without a CRS, for one that has no place on the earth, or where the centre lies outside
    the CRS's domain.
    """
    if grid.crs is None:
        return None
    x = grid.x0 + grid.dx * (shape[1] - 1) / 2
    y = grid.y0 + grid.dy * (shape[0] - 1) / 2
    try:
        to_lonlat = Transformer.from_crs(grid.crs.to_wkt(), "OGC:CRS84", always_xy=True)
    except ProjError:  # a local grid
        return None
    half_dx, half_dy = grid.dx / 2, grid.dy / 2
    lon, lat = to_lonlat.transform(
        [x - half_dx, x + half_dx, x, x], [y, y, y - half_dy, y + half_dy]
    )
    if not all(math.isfinite(number) for number in (*lon, *lat)):
        return None
    if max(map(abs, lat)) > 90:  # no degrees, whatever the CRS says: Geod would give NaN
        return None
    lengths = Geod(ellps="WGS84").inv([lon[0], lon[2]], [lat[0], lat[2]], lon[1::2], lat[1::2])[2]
    return float(lengths[0]), float(lengths[1])
