"""A synthetic, georeferenced Sentinel-2 scene: fields, forest, river, town, coast and a cloud.

In order: lattice noise, then the layers of land cover painted over each other (each pixel a linear
mixture of two classes), then cloud, shadow and band values, then the labelled array.

Every pixel is a pure function of its row, its column, the date, the scene's size and the seed, so
any rectangle can be drawn alone and a chunked scene equals the eager one bit for bit. Pixels see
only operations that IEEE 754 rounds exactly: sin, exp and BLAS may differ in the last bit between
array shapes and machines.
"""

import operator
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
import rioxarray  # noqa: F401  (registers .rio)
import xarray as xr
from affine import Affine
from dask.base import tokenize

from xr_terramind.bands import MODALITIES
from xr_terramind.errors import explain

SCALE_M = 10
CRS = "EPSG:32632"
WEST_M, NORTH_M = 440_000, 6_160_000  # on the west coast of Jutland, the sea to the west
FIRST_MONTH = np.datetime64("2022-06")
BANDS = MODALITIES["S2L2A"].bands

# Town, river, roads and cloud recur with this period; a smaller scene shrinks them to fit itself.
LAYOUT_M = 11_200
STRIP_PX = 64  # rows drawn at a time: the layers stay in cache, memory does not grow with a chunk

# Surface reflectance x 10000 in the order of BANDS, a line a class.
# "published": the typical land-cover profiles of Esri's Sentinel-2 Explorer (repository
# Esri/imagery-explorer-apps, src/sentinel-2-explorer/components/SpectralProfileTool/config.ts),
# rounded to 10 and kept within 10..10000. "mixed": the mean of "conifer" and "crop"
# (rounded half up). "estimated": no published source, only made to look right beside the others.
# fmt: off
SPECTRA = {
    # published: Clear Water, Turbid Water, Sand, Bare Soil, Dry Vegetation, Healthy Vegetation,
    # Trees, Paved Surface, Cloud
    "clear_water": (180, 210, 220, 90, 80, 30, 40, 30, 30, 10, 30, 30),
    "turbid_water": (720, 900, 1220, 1400, 1490, 1040, 1090, 960, 820, 330, 190, 170),
    "sand": (1700, 2430, 3100, 3650, 3890, 3880, 3970, 4110, 4010, 3720, 4340, 3830),
    "soil": (740, 960, 1310, 1810, 2160, 2370, 2560, 2670, 2850, 2870, 3850, 2930),
    "straw": (470, 610, 890, 1010, 1470, 2350, 2670, 2830, 2930, 2970, 2920, 2000),
    "crop": (240, 290, 530, 300, 800, 3200, 4280, 4380, 4510, 4480, 1750, 800),
    "conifer": (110, 170, 330, 210, 580, 1660, 2000, 2150, 2180, 2120, 980, 500),
    "paved": (1370, 1730, 2000, 2190, 2340, 2300, 2330, 2280, 2310, 2260, 2700, 2720),
    "cloud": (10000, 10000, 10000, 10000, 10000, 10000, 10000, 10000, 9890, 10000, 5760, 4710),
    # mixed
    "broadleaf": (180, 230, 430, 260, 690, 2430, 3140, 3270, 3350, 3300, 1370, 650),
    # estimated
    "shallow_water": (480, 680, 770, 420, 260, 90, 80, 70, 60, 20, 30, 30),
    "tiles": (700, 850, 1150, 1950, 2250, 2450, 2600, 2700, 2800, 2800, 3200, 2900),
}
# Fraction of the light that a cumulus keeps from the ground; blue skylight fills its shadow
# (estimated).
SHADOW = (0.50, 0.54, 0.59, 0.63, 0.64, 0.66, 0.67, 0.68, 0.69, 0.70, 0.76, 0.78)
# What shows between the plants, and the fraction of green cover from January to December
# (estimated, for northern Europe): wheat, barley, rape, maize, beet, two meadows, pasture.
CROPS = (
    ("straw", (0.35, 0.35, 0.50, 0.75, 0.90, 0.70, 0.20, 0.05, 0.05, 0.15, 0.30, 0.35)),
    ("straw", (0.05, 0.05, 0.10, 0.25, 0.65, 0.80, 0.35, 0.05, 0.10, 0.15, 0.10, 0.05)),
    ("straw", (0.45, 0.45, 0.55, 0.75, 0.80, 0.60, 0.30, 0.05, 0.20, 0.40, 0.45, 0.45)),
    ("soil", (0.00, 0.00, 0.00, 0.00, 0.05, 0.15, 0.75, 0.95, 0.85, 0.35, 0.05, 0.00)),
    ("soil", (0.05, 0.00, 0.00, 0.05, 0.25, 0.55, 0.95, 0.95, 0.90, 0.60, 0.15, 0.05)),
    ("straw", (0.60, 0.60, 0.70, 0.85, 0.95, 0.95, 0.80, 0.75, 0.80, 0.80, 0.70, 0.65)),
    ("straw", (0.60, 0.60, 0.70, 0.85, 0.95, 0.80, 0.90, 0.80, 0.80, 0.80, 0.70, 0.65)),
    ("straw", (0.50, 0.50, 0.60, 0.75, 0.80, 0.60, 0.50, 0.45, 0.55, 0.60, 0.55, 0.50)),
)
# fmt: on
LEAF_ON = (0.0, 0.0, 0.1, 0.5, 1.0, 1.0, 1.0, 1.0, 0.9, 0.6, 0.1, 0.0)  # January to December
CLASS = {name: row for row, name in enumerate(SPECTRA)}


@dataclass(frozen=True)
class _View:
    """The rectangle to draw, by pixel indices that may lie outside the scene, at one date."""

    rows: np.ndarray  # (y,) from the northern edge
    cols: np.ndarray  # (x,) from the western edge
    size_px: int
    seed: int
    step: int  # months since FIRST_MONTH

    @property
    def south_m(self) -> np.ndarray:  # (y, 1)
        return (self.rows[:, None] * SCALE_M + SCALE_M / 2).astype(np.float32)

    @property
    def east_m(self) -> np.ndarray:  # (1, x)
        return (self.cols[None, :] * SCALE_M + SCALE_M / 2).astype(np.float32)

    @property
    def layout_m(self) -> int:
        return min(self.size_px * SCALE_M, LAYOUT_M)

    @property
    def calendar_month(self) -> int:  # 0 is January
        return (int(FIRST_MONTH.astype(int)) + self.step) % 12


def _hash(seed: int, feature: str, *indices: np.ndarray) -> np.ndarray:
    """Give 32 random-looking bits for each (broadcast) lattice index."""
    bits = np.full((1,), zlib.crc32(feature.encode(), seed), np.uint32)
    for index in indices:
        bits = (bits ^ index.astype(np.uint32)) * 0x9E3779B1
        bits ^= bits >> 15
    bits = bits * 0x85EBCA6B
    bits ^= bits >> 13
    bits *= 0xC2B2AE35
    bits ^= bits >> 16
    return bits


def _byte(bits: np.ndarray, which: int) -> np.ndarray:
    """Take one of four independent uniform numbers in [0, 1) out of 32 bits."""
    return ((bits >> (8 * which)) & 255).astype(np.float32) / 256


def _smooth(ramp: np.ndarray) -> np.ndarray:
    """Ease 0..1 with zero slope at both ends; values beyond are clipped."""
    ramp = np.clip(ramp, 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def _nodes(view: _View, feature: str, row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """Hash the lattice nodes around all cells (row, col): nodes are few where pixels are many."""
    rows = np.arange(row.min(), row.max() + 2)[:, None]
    cols = np.arange(col.min(), col.max() + 2)[None, :]
    return _hash(view.seed, feature, rows, cols)


def _noise(view: _View, feature: str, cell_m: float) -> np.ndarray:  # (y, x) in -1..1
    """Value noise: random numbers on a lattice, eased in between."""
    cell_px = max(2, int(cell_m) // SCALE_M)
    row, down = np.divmod(view.rows, cell_px)
    col, right = np.divmod(view.cols, cell_px)
    down = _smooth((down / cell_px).astype(np.float32))[:, None]
    right = _smooth((right / cell_px).astype(np.float32))[None, :]
    nodes = (_nodes(view, feature, row, col) >> 8).astype(np.float32) / 2**23 - 1
    west, east = nodes[:, col - col[0]], nodes[:, col - col[0] + 1]
    along = west + (east - west) * right  # one row for each lattice row
    north, south = along[row - row[0]], along[row - row[0] + 1]
    return north + (south - north) * down


def _fractal(view: _View, feature: str, cell_m: float, finest_m: float) -> np.ndarray:
    """Noise of halving cells and halving heights, from `cell_m` down to `finest_m`."""
    total, height = _noise(view, feature, cell_m), 1.0
    while cell_m / 2 >= max(finest_m, 2 * SCALE_M):
        cell_m, height = cell_m / 2, height / 2
        total += height * _noise(view, f"{feature}{height}", cell_m)
    return total / (2 - height)


def _per_tile(view: _View, feature: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give (bits, south, east) of each pixel's layout tile; the position runs from 0 to 1."""
    south, east = view.south_m / view.layout_m, view.east_m / view.layout_m
    row, col = np.floor(south).astype(int), np.floor(east).astype(int)
    bits = _nodes(view, feature, row, col)[row - row.min(), col - col.min()]
    return bits, south % 1, east % 1


def _winding_m(view: _View, feature: str, position_m: np.ndarray, bend: float) -> np.ndarray:
    """Bend straight map lines; `bend` is a fraction of the layout."""
    wavelength_m = 2.5 * bend * view.layout_m
    return position_m + bend * view.layout_m * _fractal(view, feature, wavelength_m, 400)


def _from_line_m(view: _View, winding_m: np.ndarray, at: float) -> np.ndarray:
    """Signed distance to a line that recurs once a layout tile, at the fraction `at` of it."""
    offset = winding_m / view.layout_m - at
    return (offset - np.rint(offset)) * view.layout_m


def _edge_and_index(position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split lattice positions into (distance to the nearer end of the cell, cell number)."""
    index = np.floor(position)
    within = position - index
    return np.minimum(within, 1 - within), index.astype(np.int32)


def _turned(bits: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn (x, y) by a random angle, from the tangent of its half: that needs no sine."""
    tangent = 0.9 * _byte(bits, 2) - 0.3
    norm = 1 / (1 + tangent * tangent)
    cos, sin = (1 - tangent * tangent) * norm, 2 * tangent * norm
    return cos * x + sin * y, cos * y - sin * x


@dataclass(frozen=True)
class _Parcels:
    """The farmland's geometry (y, x)."""

    field: np.ndarray  # random bits of the field that a pixel lies in
    across_m: np.ndarray  # position across the rows
    edge_m: np.ndarray  # distance to the field's edge
    lane_m: np.ndarray  # distance to the nearest country lane


def _parcels(view: _View) -> _Parcels:
    """Cut each district into strips, and each strip into fields, of uneven widths."""
    district, east_m, south_m, lane_m = _districts(view)
    along_m, across_m = _turned(district, east_m, south_m)
    wave = across_m / 1300 + _byte(district, 3)
    strip_edge, strip = _edge_and_index(across_m / 280 + 2 * np.abs(wave - np.rint(wave)))
    strip_bits = _hash(view.seed, "strip", district, strip)
    width_m = 160 + 280 * _byte(strip_bits, 0)
    field_edge, field = _edge_and_index(along_m / width_m + _byte(strip_bits, 1))
    edge_m = np.minimum(strip_edge * 280, field_edge * width_m)
    return _Parcels(_hash(view.seed, "field", strip_bits, field), across_m, edge_m, lane_m)


def _districts(view: _View) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Find the Voronoi cells, about 1.3 km wide, whose fields share a direction.

    Returns (bits, east_m, south_m, border_m): the cell's random bits, the position relative to
    its centre, the distance to its border. A centre strays so little from its lattice node that
    the nearest one is always among the four nodes around a pixel.
    """
    cell_m, stray = 1300, 0.38
    x = view.east_m / cell_m + 0.5 * _fractal(view, "bend_x", 3000, 700)
    y = view.south_m / cell_m + 0.5 * _fractal(view, "bend_y", 3000, 700)
    row, col = np.floor(y).astype(np.int32), np.floor(x).astype(np.int32)
    nodes = _nodes(view, "district", row, col)
    bits, east, south = np.zeros(x.shape, np.uint32), np.zeros_like(x), np.zeros_like(x)
    nearest = second = np.full_like(x, np.inf)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        node = nodes[row - row.min() + down, col - col.min() + right]
        dx = x - (col + right).astype(np.float32) - stray * (_byte(node, 0) - 0.5)
        dy = y - (row + down).astype(np.float32) - stray * (_byte(node, 1) - 0.5)
        distance = dx * dx + dy * dy
        closer = distance < nearest
        second = np.where(closer, nearest, np.minimum(second, distance))
        for kept, found in ((nearest, distance), (bits, node), (east, dx), (south, dy)):
            np.copyto(kept, found, where=closer)
    # Half the difference of squared distances to two centres one cell apart is the distance to
    # their bisector.
    return bits, east * cell_m, south * cell_m, (second - nearest) * (cell_m / 2)


@dataclass(frozen=True)
class _Surface:
    """Land cover (y, x): each pixel a linear mixture of two classes, times a brightness."""

    base: np.ndarray
    other: np.ndarray
    share: np.ndarray  # of `other`
    brightness: np.ndarray

    def paint(
        self, where: np.ndarray, base: str, other: str, share: Any, brightness: Any = 1.0
    ) -> None:
        np.copyto(self.base, CLASS[base], where=where)
        np.copyto(self.other, CLASS[other], where=where)
        np.copyto(self.share, share, where=where)
        np.copyto(self.brightness, brightness, where=where)


def _paint_fields(surface: _Surface, view: _View, parcels: _Parcels) -> None:
    """Paint crops by their calendar, with rows, hedges and country lanes."""
    field, across_m = parcels.field, parcels.across_m
    streak = _byte(_hash(view.seed, "streak", field, np.floor(across_m / 22).astype(int)), 0)
    tramline, _ = _edge_and_index(across_m / 36)
    rows = 0.10 * (streak - 0.5) + 0.12 * (tramline - 0.25)
    fertility = _fractal(view, "fertility", 400, 50)
    crop = field & 7
    green = np.array([months[view.calendar_month] for _, months in CROPS], np.float32)[crop]
    green = np.clip(green + 0.3 * (_byte(field, 2) - 0.5) + 0.2 * fertility - rows, 0, 1)
    on_soil = np.array([background == "soil" for background, _ in CROPS])[crop]
    brightness = 1.0 + 0.5 * _byte(field, 1) + rows
    ripe = brightness * (1.5 - 0.4 * green)
    bare = brightness * (0.75 - 0.25 * _byte(field, 3) - 0.1 * fertility)
    surface.paint(~on_soil, "straw", "crop", green, ripe)
    surface.paint(on_soil, "soil", "crop", green, bare + (brightness - bare) * green)
    hedged = _byte(field, 3) < 0.4
    surface.paint((parcels.edge_m < 6) & hedged, "broadleaf", "crop", 0.3, 1.0)
    surface.paint(parcels.lane_m < 14, "broadleaf", "crop", 0.5, 1.0)
    surface.paint(parcels.lane_m < 6, "paved", "straw", 0.3, 0.8)


def _paint_forest(surface: _Surface, view: _View, parcels: _Parcels) -> None:
    """Paint woods whose edges follow the parcels, with conifer stands, crowns, slopes and rides."""
    wood = _fractal(view, "wood", 0.25 * view.layout_m, 60)
    inside = wood + 0.35 * (_byte(parcels.field, 3) - 0.5) > 0.27
    conifer = _fractal(view, "stand", 900, 60) + 0.5 * (_byte(parcels.field, 2) - 0.5) > 0.05
    crowns, slope = _noise(view, "crowns", 20), _fractal(view, "slope", 500, 60)
    brightness = 1.2 + 0.40 * crowns + 0.5 * slope
    surface.paint(inside, "straw", "broadleaf", LEAF_ON[view.calendar_month], brightness)
    surface.paint(inside & conifer, "conifer", "broadleaf", 0.25, brightness)
    surface.paint(inside & (parcels.edge_m < 4), "broadleaf", "straw", 0.2, 1.2)


def _paint_coast(surface: _Surface, view: _View) -> None:
    """Paint dunes, beach, surf and a sea that deepens away from the shore."""
    extent_m = view.size_px * SCALE_M
    bays = _fractal(view, "coast", extent_m / 3, 50)
    shore_m = view.east_m - 0.1 * view.south_m - 0.14 * extent_m + 0.14 * extent_m * bays
    patch = _fractal(view, "dunes", 200, 30)
    surface.paint(shore_m < 130 + 130 * patch, "sand", "straw", np.clip(0.75 + patch, 0, 1), 0.85)
    surface.paint(shore_m < 50 + 30 * patch, "sand", "straw", 0.1, 0.75 + 0.2 * patch)
    depth = _smooth(-shore_m / 900 + 0.25 * patch)
    ripple = 1 + 0.12 * _fractal(view, "ripple", 400, 20)
    surface.paint(shore_m <= 0, "shallow_water", "clear_water", depth, ripple)
    surf = (shore_m <= 0) & (shore_m > -40) & (patch > 0)
    surface.paint(surf, "shallow_water", "sand", 0.05)


def _inland(surface: _Surface) -> np.ndarray:
    """Tell where neither sea nor beach is painted."""
    return (surface.base != CLASS["shallow_water"]) & (surface.base != CLASS["sand"])


def _paint_river(surface: _Surface, view: _View) -> None:
    """Paint a meandering river between meadows and riverside trees, down to the sea."""
    river_m = _from_line_m(view, _winding_m(view, "river", view.south_m, 0.12), 0.68)
    bank_m = np.abs(river_m) - 40 - 15 * _noise(view, "width", 500)
    patch = _fractal(view, "meadow", 250, 40)
    meadow = (bank_m < 140 + 160 * patch) & _inland(surface)
    surface.paint(meadow, "straw", "crop", 0.75, 1.1 + 0.2 * patch)
    trees = meadow & ((bank_m < 30 + 60 * patch) | (patch > 0.35))
    surface.paint(trees, "broadleaf", "crop", 0.2, 1 + 0.3 * patch)
    water = (bank_m < 0) & (surface.base != CLASS["shallow_water"])
    surface.paint(water, "clear_water", "shallow_water", 0.7)


def _paint_town(surface: _Surface, view: _View) -> None:
    """Paint a town where two main roads cross: roofs among gardens, a street grid, industry."""
    east_m = _winding_m(view, "road_north", view.east_m, 0.08)
    south_m = _winding_m(view, "road_west", view.south_m, 0.08)
    dx_m, dy_m = _from_line_m(view, east_m, 0.6), _from_line_m(view, south_m, 0.46)
    radius_m = 0.075 * view.layout_m
    outward = (dx_m * dx_m + dy_m * dy_m) / radius_m**2
    outward += 0.9 * _fractal(view, "suburb", radius_m, 60)
    dry = _inland(surface)
    inside = (outward < 1) & dry
    if inside.any():
        _paint_blocks(surface, view, inside, outward, east_m, south_m)
    road = np.minimum(np.abs(dx_m), np.abs(dy_m)) < 9
    surface.paint(road & dry, "paved", "tiles", 0.0, 0.9)


def _paint_blocks(
    surface: _Surface,
    view: _View,
    inside: np.ndarray,
    outward: np.ndarray,
    east_m: np.ndarray,
    south_m: np.ndarray,
) -> None:
    """Paint blocks of houses, thinning outwards, with a few parks and bright halls."""
    street_x, block_x = _edge_and_index(east_m / 120)
    street_y, block_y = _edge_and_index(south_m / 90)
    _, lot_x = _edge_and_index(east_m / 24)
    _, lot_y = _edge_and_index(south_m / 18)
    block = _byte(_hash(view.seed, "block", block_x, block_y), 0)
    lot = _hash(view.seed, "lot", lot_x, lot_y)
    roof, tone = _byte(lot, 0), 0.75 + 0.4 * _byte(lot, 1)
    built = np.clip(1.0 - 0.8 * outward, 0.1, 0.9) * (0.4 + 0.6 * _byte(lot, 2))
    surface.paint(inside, "broadleaf", "tiles", built, tone)
    surface.paint(inside & (roof > 0.55), "broadleaf", "paved", built, tone)
    surface.paint(inside & (roof > 0.95), "paved", "sand", 0.4)
    street = np.minimum(street_x * 120, street_y * 90) < 6
    surface.paint(inside & street, "paved", "broadleaf", 0.25, 0.8)
    surface.paint(inside & (block < 0.06), "paved", "sand", 0.5 * _byte(lot, 2), tone)
    surface.paint(inside & (block > 0.94), "broadleaf", "crop", 0.5, tone)


def _land_cover(view: _View) -> _Surface:
    shape = (view.rows.size, view.cols.size)
    classes, fractions = np.zeros((2, *shape), np.intp), np.zeros((2, *shape), np.float32)
    surface, parcels = _Surface(*classes, *fractions), _parcels(view)
    _paint_fields(surface, view, parcels)
    _paint_forest(surface, view, parcels)
    for paint in (_paint_coast, _paint_river, _paint_town):
        paint(surface, view)
    return surface


def _cloud_thickness(view: _View) -> np.ndarray:
    """One cumulus a layout tile (y, x): 0 outside, 1 in its core."""
    bits, south, east = _per_tile(view, f"cloud{view.step}")
    dy, dx = south - 0.25 - 0.5 * _byte(bits, 0), east - 0.35 - 0.4 * _byte(bits, 1)
    distance = (dx * dx + dy * dy) / (0.07 + 0.03 * _byte(bits, 2)) ** 2
    if distance.min() > 2.1:  # puffs, of -1..1, cannot reach there
        return np.zeros_like(distance)
    puffs = _fractal(view, f"puffs{view.step}", 0.08 * view.layout_m, 30)
    return _smooth(0.9 - distance + 1.2 * puffs)


def _digital_numbers(view: _View, bands: np.ndarray) -> np.ndarray:  # (band, y - 2, x - 2)
    """Draw a view less its margin of one pixel, which the optics' blur looks into."""
    surface, cloud = _land_cover(view), _cloud_thickness(view)
    # The sun stands in the south-east, so a shadow falls to the north-west of its cloud.
    sunward_px = max(1, view.layout_m // 140)
    shadow = _cloud_thickness(
        replace(view, rows=view.rows + sunward_px, cols=view.cols + sunward_px // 2)
    )
    cloud_tone = 0.5 + 0.45 * cloud
    grain = _hash(view.seed, f"grain{view.step}", view.rows[1:-1, None], view.cols[None, 1:-1])
    drawn = np.empty((bands.size, *grain.shape), np.uint16)
    for layer, band in enumerate(bands.tolist()):
        values = np.array([spectrum[band] for spectrum in SPECTRA.values()], np.float32)
        light = values[surface.base]
        light += surface.share * (values[surface.other] - light)
        light *= surface.brightness * (1 - SHADOW[band] * shadow)
        light += cloud * (values[CLASS["cloud"]] * cloud_tone - light)
        noise = ((grain * (2 * band + 1)) >> 24).astype(np.float32) / 256 - 0.5
        drawn[layer] = np.rint(np.clip(_blurred(light) * (1 + 0.03 * noise), 1, 10_000))
    return drawn


def _blurred(image: np.ndarray) -> np.ndarray:
    """Mix each pixel with its neighbours as optics do: contrast at Nyquist falls to a quarter."""
    image = (image[:-2] + image[2:]) * (3 / 16) + image[1:-1] * (10 / 16)
    return (image[:, :-2] + image[:, 2:]) * (3 / 16) + image[:, 1:-1] * (10 / 16)


def _draw(ranges: Sequence[np.ndarray], size_px: int, seed: int) -> np.ndarray:
    """Draw (time, band, y, x) for consecutive indices of each, strip by strip."""
    steps, bands, rows, cols = ranges
    drawn = np.empty((steps.size, bands.size, rows.size, cols.size), np.uint16)
    around = np.arange(cols[0] - 1, cols[-1] + 2)
    for index, step in enumerate(steps.tolist()):
        for start in range(0, rows.size, STRIP_PX):
            strip = rows[start : start + STRIP_PX]
            view = _View(np.arange(strip[0] - 1, strip[-1] + 2), around, size_px, seed, step)
            drawn[index, :, start : start + strip.size] = _digital_numbers(view, bands)
    return drawn


def _draw_block(size_px: int, seed: int, block_info: Any = None) -> np.ndarray:
    """Draw one block of a Dask array, ([time,] band, y, x), by its place in the scene."""
    ranges = [np.arange(*bounds) for bounds in block_info[None]["array-location"]]
    if len(ranges) == 3:
        return _draw([np.arange(1), *ranges], size_px, seed)[0]
    return _draw(ranges, size_px, seed)


def _lazy(dims: dict[str, int], size_px: int, seed: int, chunks: Any) -> da.Array:
    """Lay out the scene as blocks that draw themselves."""
    if isinstance(chunks, tuple | list):
        chunks = dict(zip(dims, chunks, strict=True))
    # xarray itself reads `chunks`, so whatever its chunk() takes is taken here.
    canvas = da.empty(tuple(dims.values()), dtype=np.uint16, chunks=-1)
    blocks = xr.DataArray(canvas, dims=tuple(dims)).chunk(chunks).chunks
    return da.map_blocks(
        _draw_block,
        size_px,
        seed,
        chunks=blocks,
        dtype=np.uint16,
        meta=np.empty((0,) * len(dims), np.uint16),
        name=f"sample-scene-{tokenize(blocks, size_px, seed)}",
    )


def _whole(name: str, value: Any, least: int, most: int) -> int:
    """Return `value` as an int from `least` to `most`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or not least <= number <= most:
        raise ValueError(
            explain(
                f"{name}={value!r}",
                f"a whole number from {least} to {most}",
                f"Pass for example {name}={least + 1}.",
            )
        )
    return number


def sample_scene(
    size_px: int = 1120, time: int = 1, seed: int = 0, chunks: Any = None
) -> xr.DataArray:
    """Draw a synthetic 12-band Sentinel-2 L2A scene, georeferenced, without any download.

    Fields, woods, a river, a town at a crossroads, a coast and a cumulus with its shadow, at 10 m
    in every band. Fields, streets and lanes keep their size in metres; the rest shrinks with a
    scene below 11.2 km and recurs in a larger one. The spectra are typical ones of each land
    cover; the scene is there to try things on, not to measure anything.

    Parameters
    ----------
    size_px : int, default 1120
        Height and width in pixels of 10 m.
    time : int, default 1
        Number of monthly dates from 2022-06-15 on. Crops and leaves follow the season and the
        cloud moves.
    seed : int, default 0
        Another seed, from 0 to 2**32 - 1, is another landscape.
    chunks : int, dict, tuple or "auto", optional
        As in ``xarray.DataArray.chunk``: the scene is then lazy, each block draws itself, and the
        values are the same. None draws at once.

    Returns
    -------
    xarray.DataArray
        Digital numbers 1..10000 (reflectance x 10000), uint16, ``(band, y, x)`` with a scalar
        ``time``, or ``(time, band, y, x)`` where `time` is above 1; `y` descends, in EPSG:32632.

    Raises
    ------
    ValueError
        If `size_px`, `time` or `seed` is no whole number or out of range, or `chunks` does not
        fit the dimensions.

    Examples
    --------
    >>> scene = sample_scene(size_px=64)
    >>> scene.dims, scene.shape, str(scene.dtype)
    (('band', 'y', 'x'), (12, 64, 64), 'uint16')
    >>> sample_scene(size_px=10980, chunks={"x": 2048, "y": 2048}).data.numblocks
    (1, 6, 6)
    """
    size_px = _whole("size_px", size_px, 1, 1_000_000)
    time = _whole("time", time, 1, 1200)
    seed = _whole("seed", seed, 0, 2**32 - 1)
    dims = {"time": time, "band": len(BANDS), "y": size_px, "x": size_px}
    dates = ((FIRST_MONTH + np.arange(time)).astype("datetime64[D]") + 14).astype("datetime64[ns]")
    if time == 1:
        del dims["time"]
    pixels: np.ndarray | da.Array
    if chunks is None:
        ranges = [np.arange(n) for n in (time, len(BANDS), size_px, size_px)]
        pixels = _draw(ranges, size_px, seed).reshape(tuple(dims.values()))
    else:
        pixels = _lazy(dims, size_px, seed, chunks)
    centre_m = SCALE_M * (np.arange(size_px) + 0.5)
    scene = xr.DataArray(
        pixels,
        dims=tuple(dims),
        coords={
            "time": dates if time > 1 else dates[0],
            "band": list(BANDS),
            "y": NORTH_M - centre_m,
            "x": WEST_M + centre_m,
        },
        name="sentinel2",
        attrs={
            "long_name": "surface reflectance x 10000, digital numbers as in Sentinel-2 L2A",
            "units": MODALITIES["S2L2A"].unit,
            "scale_m": SCALE_M,
            "collection": "synthetic",
            "comment": "Synthetic: drawn by xr_terramind.sample_scene, seen by no satellite.",
        },
    )
    transform = Affine(SCALE_M, 0, WEST_M, 0, -SCALE_M, NORTH_M)
    return scene.rio.write_crs(CRS).rio.write_coordinate_system().rio.write_transform(transform)
