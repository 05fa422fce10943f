"""A place -> a grid of pixels in a CRS, snapped to multiples of their edge."""

import math

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import CRSError, ProjError

from xr_terramind.errors import SourceError, explain
from xr_terramind.model.specs import PRETRAINING_PX
from xr_terramind.sources.place import LONLAT, Place

DEGREE_M = math.pi * 6_378_137 / 180
"""Metres of a degree as Earth Engine counts scales: on the equator of WGS 84."""

MAX_EDGE_PX = 100_000
"""Longest edge of a cube, 1000 km at 10 m: beyond, one UTM grid makes no sense any more."""

_MAX_DISTORTION = 50.0  # Web Mercator reaches 11 at 85 degrees, degrees 57 at 89
_ON_LATTICE_PX = 5e-7  # an edge of a box so near a multiple of the step gains no pixel
_EDGE_SAMPLES = 21  # straight edges in degrees bulge in a projection: look between the corners too


def lay_grid(place: Place, crs: str | None, scale_m: float) -> GeoBox:
    """Lay pixels over a place, north up, their edges at multiples of their size.

    Cubes of neighbouring places in one UTM zone so share their pixels. A point's square has exactly
    the pixels that its buffer asks for; a box is widened to whole pixels. Without a CRS the UTM
    zone of the centre is taken. In a CRS in degrees, `scale_m` is converted as Earth Engine does,
    by `DEGREE_M`.

    Raises
    ------
    SourceError
        For a place without UTM zone, a CRS that is unknown or does not reach there, or an area
        that is too large.
    """
    if not 0 < scale_m < math.inf:
        raise SourceError(
            explain(f"scale_m={scale_m}", "metres, more than 0", "10 is Sentinel-2's finest.")
        )
    chosen = _parse_crs(crs or utm_crs(*place.centre))
    code = chosen.to_authority()
    name = ":".join(code) if code else chosen.to_wkt()
    step = scale_m / DEGREE_M if chosen.is_geographic else scale_m / _unit_m(chosen)
    west, south, east, north = _project(place, chosen, step / scale_m)
    if place.buffer_m:
        # The pixels asked for, at the nearest place of the lattice: 1120 m gives 224 of 10 m.
        width_px = height_px = max(1, math.ceil(round(2 * place.buffer_m / scale_m, 6)))
    else:
        bounds = (west, south, east, north)
        box = GeoBox.from_bbox(bounds, name, resolution=step, tol=_ON_LATTICE_PX)
        height_px, width_px = box.shape
        west, north = box.affine.c, box.affine.f
    if max(width_px, height_px) > MAX_EDGE_PX:
        raise _too_large(place, width_px, height_px)
    # The corner is a whole number times the step, not a sum of steps: only then are the
    # coordinates of neighbours equal to the last bit, in degrees too.
    west, north = round(west / step) * step, round(north / step) * step
    _check_scale(place, chosen, west, north, step, scale_m)
    return GeoBox((height_px, width_px), Affine(step, 0, west, 0, -step, north), name)


def utm_crs(lon: float, lat: float) -> str:
    """Name the UTM zone of a place, for example ``"EPSG:32651"``.

    Raises
    ------
    SourceError
        Beyond 84 degrees north and 80 south, where UTM ends.
    """
    if not -80 <= lat <= 84:
        polar = "EPSG:3413" if lat > 0 else "EPSG:3031"
        raise SourceError(
            explain(
                f"latitude {lat:g}",
                "-80 to 84 degrees, where there are UTM zones",
                f"Pass a polar CRS, for example crs={polar!r}; Sentinel-2 images land only to "
                "about 83 degrees.",
            )
        )
    # By arithmetic: a search for the zone (odc.geo's CRS.utm) answers with the western neighbour
    # where the place lies on a zone's border.
    zone = min(int((lon + 180) // 6) + 1, 60)
    return f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"


def _parse_crs(name: str) -> CRS:
    try:
        crs = CRS.from_user_input(name)
    except CRSError as error:
        raise SourceError(
            explain(f"crs={name!r}, which is unknown", "an EPSG code or WKT", "Try crs=None.")
        ) from error
    if not (crs.is_projected or crs.is_geographic):
        raise SourceError(
            explain(
                f"crs={name!r} ({crs.name}), a {crs.type_name}",
                "a projected CRS, or one in longitude and latitude",
                "Leave crs out for the UTM zone of the centre.",
            )
        )
    return crs


def _unit_m(crs: CRS) -> float:
    return crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0


def _project(place: Place, crs: CRS, units_per_m: float) -> tuple[float, float, float, float]:
    lon = np.linspace(place.west, place.east, _EDGE_SAMPLES)
    lat = np.linspace(place.south, place.north, _EDGE_SAMPLES)
    if not crs.is_geographic:  # projections know longitudes to 180 degrees only
        lon = (lon + 180) % 360 - 180
    grid_lon, grid_lat = np.meshgrid(lon, lat)
    try:
        transformer = Transformer.from_crs(LONLAT, crs, always_xy=True)
        x, y = transformer.transform(grid_lon, grid_lat, errcheck=True)
    except ProjError as error:
        raise _out_of_reach(place, crs, str(error)) from error
    if crs.is_geographic:
        x = grid_lon  # not wrapped, so that a box across the antimeridian stays in one piece
    buffer = place.buffer_m * units_per_m
    return x.min() - buffer, y.min() - buffer, x.max() + buffer, y.max() + buffer


def _check_scale(place: Place, crs: CRS, x: float, y: float, step: float, scale_m: float) -> None:
    # Projections give numbers far outside their domain, too; there, pixels shrink or blow up.
    to_lonlat = Transformer.from_crs(crs, LONLAT, always_xy=True)
    lon, lat = to_lonlat.transform([x, x + step, x], [y, y, y - step])
    if not np.isfinite([*lon, *lat]).all():
        raise _out_of_reach(place, crs, "its pixels have no place on the ground")
    edges_m = Geod(ellps="WGS84").inv(lon[:1] * 2, lat[:1] * 2, lon[1:], lat[1:])[2]
    if not all(scale_m / _MAX_DISTORTION < edge < scale_m * _MAX_DISTORTION for edge in edges_m):
        sizes = " x ".join(f"{edge:.3g}" for edge in edges_m)
        raise _out_of_reach(place, crs, f"pixels of {scale_m:g} m would be {sizes} m there")


def _out_of_reach(place: Place, crs: CRS, why: str) -> SourceError:
    return SourceError(
        explain(
            f"{place}, which {crs.name} does not reach ({why})",
            "a CRS that covers the place",
            "Leave crs out for the UTM zone of the centre, or pass a polar CRS.",
        )
    )


def _too_large(place: Place, width_px: int, height_px: int) -> SourceError:
    windows = math.ceil(width_px / PRETRAINING_PX) * math.ceil(height_px / PRETRAINING_PX)
    gigabytes = width_px * height_px * 12 * 4 / 1e9
    return SourceError(
        explain(
            f"{place}: {width_px:,} x {height_px:,} pixels, {windows:,} windows, "
            f"{gigabytes:,.0f} GB with 12 bands",
            f"edges of {MAX_EDGE_PX:,} pixels at the most",
            "Open it in parts, each in its own UTM zone, or choose a larger scale_m.",
        )
    )
