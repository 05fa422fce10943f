"""Where a cube's pixels lie: read an affine grid off its coordinates, transform and CRS."""

import math
from dataclasses import dataclass, field

import numpy as np
import rioxarray  # noqa: F401 - registers the .rio accessor that reads CRS and transform
import xarray as xr
from affine import Affine
from pyproj import Geod, Transformer
from pyproj.exceptions import CRSError as ProjCRSError
from rasterio.crs import CRS
from rasterio.errors import CRSError

from xr_terramind.errors import GridError, explain

_IRREGULAR_PX = 0.1  # float32 degrees are off by up to 0.04 pixels; a missing column by 1


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
        None where the cube has none.
    counts_pixels : bool
        The coordinates only number rows and columns, so that they say nothing of north.
    """

    x0: float
    y0: float
    dx: float
    dy: float
    crs: CRS | None = field(default=None, compare=False)
    counts_pixels: bool = False

    @property
    def flip_y(self) -> bool:
        """Whether the first row is the southernmost: TerraMind was trained with north up."""
        return self.dy > 0 and not self.counts_pixels

    @property
    def flip_x(self) -> bool:
        """Whether the first column is the easternmost."""
        return self.dx < 0 and not self.counts_pixels


def pixel_grid(array: xr.DataArray) -> PixelGrid:
    """Read the affine grid off the coordinates, or off the transform where there are none.

    Raises
    ------
    GridError
        For uneven spacing, a rotated transform or a CRS that cannot be read.
    """
    crs = crs_of(array)
    transform = read_transform(array)
    x_hint = (transform.c + transform.a / 2, transform.a) if transform else None
    y_hint = (transform.f + transform.e / 2, transform.e) if transform else None
    x0, dx = _read_axis(array, "x", x_hint)
    y0, dy = _read_axis(array, "y", y_hint)
    # Coordinates 0, 1, 2, ... without a CRS are array indices, whose rows run downwards.
    counts = crs is None and (x0, dx, y0, dy) == (0.0, 1.0, 0.0, 1.0)
    return PixelGrid(x0, y0, dx, dy, crs, counts)


def read_transform(array: xr.DataArray) -> Affine | None:
    """Read the GeoTransform that GDAL keeps beside the CRS; None where there is none.

    Raises
    ------
    GridError
        For anything but six finite numbers, and for a rotated grid.
    """
    # Read by hand: rio.transform() also computes one from coordinates, which are checked first.
    mapping = array.coords.get(array.rio.grid_mapping)
    text = None if mapping is None else mapping.attrs.get("GeoTransform")
    if text is None:
        return None
    try:
        numbers = [float(number) for number in str(text).split()]
    except ValueError:
        numbers = []
    x_west, dx, row_turn, y_north, col_turn, dy = numbers if len(numbers) == 6 else 6 * [math.nan]
    if not math.isfinite(x_west + dx + row_turn + y_north + col_turn + dy) or not dx or not dy:
        expected = "six finite numbers, GDAL's order, with steps that are not 0"
        remedy = "Write the right one with cube.rio.write_transform(...)."
        raise GridError(explain(f"the GeoTransform {text!r}", expected, remedy))
    if row_turn or col_turn:
        expected = "a grid whose rows and columns follow the axes of its CRS"
        remedy = "Resample it with cube.rio.reproject(cube.rio.crs)."
        raise GridError(explain(f"a rotated transform, GeoTransform={text!r}", expected, remedy))
    return Affine(dx, 0, x_west, 0, dy, y_north)


def _read_axis(
    array: xr.DataArray, dim: str, from_transform: tuple[float, float] | None
) -> tuple[float, float]:
    size = array.sizes[dim]
    if dim not in array.coords:
        return from_transform or (0.0, 1.0)
    values = array.coords[dim].values
    if values.dtype.kind not in "iuf":
        found = f"a coordinate {dim} of {values.dtype}"
        expected = "numbers: the pixel centres in the cube's CRS"
        raise GridError(explain(found, expected, f"Set them with cube.assign_coords({dim}=...)."))
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise _explain_uneven(dim, "some values are not finite")
    if size == 1:
        if from_transform:
            return float(values[0]), from_transform[1]
        other = array.coords.get("y" if dim == "x" else "x")
        if other is not None and other.size > 1:
            # One row or column has no step of its own: pixels are taken to be square.
            step = abs(float(other[1] - other[0]))
            return float(values[0]), step if dim == "x" else -step
        return float(values[0]), 1.0 if dim == "x" else -1.0
    step = float(values[-1] - values[0]) / (size - 1)
    off = np.abs(values - (values[0] + step * np.arange(size))).max()
    if not step or off > _IRREGULAR_PX * abs(step):
        raise _explain_uneven(dim, f"by up to {off:.3g}, at a mean step of {step:.3g}")
    return float(values[0]), step


def _explain_uneven(dim: str, how: str) -> GridError:
    found = f"a coordinate {dim} that is unevenly spaced ({how})"
    remedy = "Resample the cube to a regular grid, for example with cube.rio.reproject(...)."
    return GridError(explain(found, "one step from each pixel to the next", remedy))


def crs_of(array: xr.DataArray) -> CRS | None:
    """Read the CRS as rioxarray does; a `GridError` says where it cannot be read."""
    try:
        return array.rio.crs
    except (CRSError, ProjCRSError) as error:
        found = f"a CRS that cannot be read ({error})"
        remedy = "Write the right one with cube.rio.write_crs(...)."
        raise GridError(explain(found, "an EPSG code or WKT in spatial_ref", remedy)) from error


def pixel_size_m(grid: PixelGrid, shape: tuple[int, int]) -> tuple[float, float] | None:
    """Measure the centre pixel of a cube of `shape` (y, x) on the ground: (width_m, height_m).

    Geodesic lengths on WGS 84, so that degrees and Web Mercator come out at the cube's latitude;
    None without a CRS, or where the centre lies outside the CRS's domain.
    """
    if grid.crs is None:
        return None
    x = grid.x0 + grid.dx * (shape[1] - 1) / 2
    y = grid.y0 + grid.dy * (shape[0] - 1) / 2
    to_lonlat = Transformer.from_crs(grid.crs.to_wkt(), "OGC:CRS84", always_xy=True)
    half_dx, half_dy = grid.dx / 2, grid.dy / 2
    lon, lat = to_lonlat.transform(
        [x - half_dx, x + half_dx, x, x], [y, y, y - half_dy, y + half_dy]
    )
    if not all(math.isfinite(number) for number in (*lon, *lat)):
        return None
    lengths = Geod(ellps="WGS84").inv([lon[0], lon[2]], [lat[0], lat[2]], lon[1::2], lat[1::2])[2]
    return float(lengths[0]), float(lengths[1])
