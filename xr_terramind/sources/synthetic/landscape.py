"""The sample scene's land cover: layers painted over each other, then cloud, shadow and bands.

Each pixel is a linear mixture of two classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xr_terramind.sources.synthetic.noise import (
    SCALE_M,
    View,
    byte_of,
    edge_and_index,
    fractal,
    from_line_m,
    hash_bits,
    nodes,
    noise,
    per_tile,
    rotate,
    smooth,
    winding_m,
)

STRIP_PX = 64  # rows drawn at a time: the layers stay in cache, memory does not grow with a chunk

# Surface reflectance x 10000 in the order of S2L2A's bands, one line per class.
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
class _Parcels:
    """The farmland's geometry (y, x)."""

    field: np.ndarray  # random bits of the field that a pixel lies in
    across_m: np.ndarray  # position across the rows
    edge_m: np.ndarray  # distance to the field's edge
    lane_m: np.ndarray  # distance to the nearest country lane


def _cut_parcels(view: View) -> _Parcels:
    """Cut each district into strips, and each strip into fields, of uneven widths."""
    district, east_m, south_m, lane_m = _find_districts(view)
    along_m, across_m = rotate(district, east_m, south_m)
    wave = across_m / 1300 + byte_of(district, 3)
    strip_edge, strip = edge_and_index(across_m / 280 + 2 * np.abs(wave - np.rint(wave)))
    strip_bits = hash_bits(view.seed, "strip", district, strip)
    width_m = 160 + 280 * byte_of(strip_bits, 0)
    field_edge, field = edge_and_index(along_m / width_m + byte_of(strip_bits, 1))
    edge_m = np.minimum(strip_edge * 280, field_edge * width_m)
    return _Parcels(hash_bits(view.seed, "field", strip_bits, field), across_m, edge_m, lane_m)


def _find_districts(view: View) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Find the Voronoi cells, about 1.3 km wide, whose fields share a direction.

    Returns (bits, east_m, south_m, border_m): the cell's random bits, the position relative to
    its centre, the distance to its border. A centre strays so little from its lattice node that
    the nearest one is always among the four nodes around a pixel.
    """
    cell_m, stray = 1300, 0.38
    x = view.east_m / cell_m + 0.5 * fractal(view, "bend_x", 3000, 700)
    y = view.south_m / cell_m + 0.5 * fractal(view, "bend_y", 3000, 700)
    row, col = np.floor(y).astype(np.int32), np.floor(x).astype(np.int32)
    knots = nodes(view, "district", row, col)
    bits, east, south = np.zeros(x.shape, np.uint32), np.zeros_like(x), np.zeros_like(x)
    nearest = second = np.full_like(x, np.inf)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        node = knots[row - row.min() + down, col - col.min() + right]
        dx = x - (col + right).astype(np.float32) - stray * (byte_of(node, 0) - 0.5)
        dy = y - (row + down).astype(np.float32) - stray * (byte_of(node, 1) - 0.5)
        distance = dx * dx + dy * dy
        closer = distance < nearest
        second = np.where(closer, nearest, np.minimum(second, distance))
        for best, found in ((nearest, distance), (bits, node), (east, dx), (south, dy)):
            np.copyto(best, found, where=closer)
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


def _paint_fields(surface: _Surface, view: View, parcels: _Parcels) -> None:
    """Paint crops by their calendar, with rows, hedges and country lanes."""
    field, across_m = parcels.field, parcels.across_m
    streak = byte_of(hash_bits(view.seed, "streak", field, np.floor(across_m / 22).astype(int)), 0)
    tramline, _ = edge_and_index(across_m / 36)
    rows = 0.10 * (streak - 0.5) + 0.12 * (tramline - 0.25)
    fertility = fractal(view, "fertility", 400, 50)
    crop = field & 7
    green = np.array([months[view.calendar_month] for _, months in CROPS], np.float32)[crop]
    green = np.clip(green + 0.3 * (byte_of(field, 2) - 0.5) + 0.2 * fertility - rows, 0, 1)
    on_soil = np.array([background == "soil" for background, _ in CROPS])[crop]
    brightness = 1.0 + 0.5 * byte_of(field, 1) + rows
    ripe = brightness * (1.5 - 0.4 * green)
    bare = brightness * (0.75 - 0.25 * byte_of(field, 3) - 0.1 * fertility)
    surface.paint(~on_soil, "straw", "crop", green, ripe)
    surface.paint(on_soil, "soil", "crop", green, bare + (brightness - bare) * green)
    hedged = byte_of(field, 3) < 0.4
    surface.paint((parcels.edge_m < 6) & hedged, "broadleaf", "crop", 0.3, 1.0)
    surface.paint(parcels.lane_m < 14, "broadleaf", "crop", 0.5, 1.0)
    surface.paint(parcels.lane_m < 6, "paved", "straw", 0.3, 0.8)


def _paint_forest(surface: _Surface, view: View, parcels: _Parcels) -> None:
    """Paint woods whose edges follow the parcels, with conifer stands, crowns, slopes and rides."""
    wood = fractal(view, "wood", 0.25 * view.layout_m, 60)
    inside = wood + 0.35 * (byte_of(parcels.field, 3) - 0.5) > 0.27
    conifer = fractal(view, "stand", 900, 60) + 0.5 * (byte_of(parcels.field, 2) - 0.5) > 0.05
    crowns, slope = noise(view, "crowns", 20), fractal(view, "slope", 500, 60)
    brightness = 1.2 + 0.40 * crowns + 0.5 * slope
    surface.paint(inside, "straw", "broadleaf", LEAF_ON[view.calendar_month], brightness)
    surface.paint(inside & conifer, "conifer", "broadleaf", 0.25, brightness)
    surface.paint(inside & (parcels.edge_m < 4), "broadleaf", "straw", 0.2, 1.2)


def _paint_coast(surface: _Surface, view: View) -> None:
    """Paint dunes, beach, surf and a sea that deepens away from the shore."""
    extent_m = view.size_px * SCALE_M
    bays = fractal(view, "coast", extent_m / 3, 50)
    shore_m = view.east_m - 0.1 * view.south_m - 0.14 * extent_m + 0.14 * extent_m * bays
    patch = fractal(view, "dunes", 200, 30)
    surface.paint(shore_m < 130 + 130 * patch, "sand", "straw", np.clip(0.75 + patch, 0, 1), 0.85)
    surface.paint(shore_m < 50 + 30 * patch, "sand", "straw", 0.1, 0.75 + 0.2 * patch)
    depth = smooth(-shore_m / 900 + 0.25 * patch)
    ripple = 1 + 0.12 * fractal(view, "ripple", 400, 20)
    surface.paint(shore_m <= 0, "shallow_water", "clear_water", depth, ripple)
    surf = (shore_m <= 0) & (shore_m > -40) & (patch > 0)
    surface.paint(surf, "shallow_water", "sand", 0.05)


def _find_inland(surface: _Surface) -> np.ndarray:
    """Tell where neither sea nor beach is painted."""
    return (surface.base != CLASS["shallow_water"]) & (surface.base != CLASS["sand"])


def _paint_river(surface: _Surface, view: View) -> None:
    """Paint a meandering river between meadows and riverside trees, down to the sea."""
    river_m = from_line_m(view, winding_m(view, "river", view.south_m, 0.12), 0.68)
    bank_m = np.abs(river_m) - 40 - 15 * noise(view, "width", 500)
    patch = fractal(view, "meadow", 250, 40)
    meadow = (bank_m < 140 + 160 * patch) & _find_inland(surface)
    surface.paint(meadow, "straw", "crop", 0.75, 1.1 + 0.2 * patch)
    trees = meadow & ((bank_m < 30 + 60 * patch) | (patch > 0.35))
    surface.paint(trees, "broadleaf", "crop", 0.2, 1 + 0.3 * patch)
    water = (bank_m < 0) & (surface.base != CLASS["shallow_water"])
    surface.paint(water, "clear_water", "shallow_water", 0.7)


def _paint_town(surface: _Surface, view: View) -> None:
    """Paint a town where two main roads cross: roofs among gardens, a street grid, industry."""
    east_m = winding_m(view, "road_north", view.east_m, 0.08)
    south_m = winding_m(view, "road_west", view.south_m, 0.08)
    dx_m, dy_m = from_line_m(view, east_m, 0.6), from_line_m(view, south_m, 0.46)
    radius_m = 0.075 * view.layout_m
    outward = (dx_m * dx_m + dy_m * dy_m) / radius_m**2
    outward += 0.9 * fractal(view, "suburb", radius_m, 60)
    dry = _find_inland(surface)
    inside = (outward < 1) & dry
    if inside.any():
        _paint_blocks(surface, view, inside, outward, east_m, south_m)
    road = np.minimum(np.abs(dx_m), np.abs(dy_m)) < 9
    surface.paint(road & dry, "paved", "tiles", 0.0, 0.9)


def _paint_blocks(
    surface: _Surface,
    view: View,
    inside: np.ndarray,
    outward: np.ndarray,
    east_m: np.ndarray,
    south_m: np.ndarray,
) -> None:
    """Paint blocks of houses, fewer outwards, with some parks and bright halls."""
    street_x, block_x = edge_and_index(east_m / 120)
    street_y, block_y = edge_and_index(south_m / 90)
    _, lot_x = edge_and_index(east_m / 24)
    _, lot_y = edge_and_index(south_m / 18)
    block = byte_of(hash_bits(view.seed, "block", block_x, block_y), 0)
    lot = hash_bits(view.seed, "lot", lot_x, lot_y)
    roof, tone = byte_of(lot, 0), 0.75 + 0.4 * byte_of(lot, 1)
    built = np.clip(1.0 - 0.8 * outward, 0.1, 0.9) * (0.4 + 0.6 * byte_of(lot, 2))
    surface.paint(inside, "broadleaf", "tiles", built, tone)
    surface.paint(inside & (roof > 0.55), "broadleaf", "paved", built, tone)
    surface.paint(inside & (roof > 0.95), "paved", "sand", 0.4)
    street = np.minimum(street_x * 120, street_y * 90) < 6
    surface.paint(inside & street, "paved", "broadleaf", 0.25, 0.8)
    surface.paint(inside & (block < 0.06), "paved", "sand", 0.5 * byte_of(lot, 2), tone)
    surface.paint(inside & (block > 0.94), "broadleaf", "crop", 0.5, tone)


def _paint_land_cover(view: View) -> _Surface:
    shape = (view.rows.size, view.cols.size)
    classes, fractions = np.zeros((2, *shape), np.intp), np.zeros((2, *shape), np.float32)
    surface, parcels = _Surface(*classes, *fractions), _cut_parcels(view)
    _paint_fields(surface, view, parcels)
    _paint_forest(surface, view, parcels)
    for paint in (_paint_coast, _paint_river, _paint_town):
        paint(surface, view)
    return surface


def _draw_cloud(view: View) -> np.ndarray:
    """Draw the thickness (y, x) of one cumulus per layout tile: 0 outside, 1 in its core."""
    bits, south, east = per_tile(view, f"cloud{view.step}")
    dy, dx = south - 0.25 - 0.5 * byte_of(bits, 0), east - 0.35 - 0.4 * byte_of(bits, 1)
    distance = (dx * dx + dy * dy) / (0.07 + 0.03 * byte_of(bits, 2)) ** 2
    if distance.min() > 2.1:  # puffs, of -1..1, cannot reach there
        return np.zeros_like(distance)
    puffs = fractal(view, f"puffs{view.step}", 0.08 * view.layout_m, 30)
    return smooth(0.9 - distance + 1.2 * puffs)


def _draw_strip(view: View, bands: np.ndarray) -> np.ndarray:  # (band, y - 2, x - 2)
    """Draw a view less its margin of one pixel, which the optics' blur looks into."""
    surface, cloud = _paint_land_cover(view), _draw_cloud(view)
    # The sun stands in the south-east, so a shadow falls to the north-west of its cloud.
    sunward_px = max(1, view.layout_m // 140)
    shadow = _draw_cloud(
        replace(view, rows=view.rows + sunward_px, cols=view.cols + sunward_px // 2)
    )
    cloud_tone = 0.5 + 0.45 * cloud
    grain = hash_bits(view.seed, f"grain{view.step}", view.rows[1:-1, None], view.cols[None, 1:-1])
    drawn = np.empty((bands.size, *grain.shape), np.uint16)
    for layer, band in enumerate(bands.tolist()):
        values = np.array([spectrum[band] for spectrum in SPECTRA.values()], np.float32)
        light = values[surface.base]
        light += surface.share * (values[surface.other] - light)
        light *= surface.brightness * (1 - SHADOW[band] * shadow)
        light += cloud * (values[CLASS["cloud"]] * cloud_tone - light)
        noise = ((grain * (2 * band + 1)) >> 24).astype(np.float32) / 256 - 0.5
        drawn[layer] = np.rint(np.clip(_blur(light) * (1 + 0.03 * noise), 1, 10_000))
    return drawn


def _blur(image: np.ndarray) -> np.ndarray:
    """Mix each pixel with its neighbours as optics do: contrast at Nyquist falls to a quarter."""
    image = (image[:-2] + image[2:]) * (3 / 16) + image[1:-1] * (10 / 16)
    return (image[:, :-2] + image[:, 2:]) * (3 / 16) + image[:, 1:-1] * (10 / 16)


def draw(ranges: Sequence[np.ndarray], size_px: int, seed: int) -> np.ndarray:
    """Draw (time, band, y, x) for consecutive indices of each, strip by strip."""
    steps, bands, rows, cols = ranges
    drawn = np.empty((steps.size, bands.size, rows.size, cols.size), np.uint16)
    around = np.arange(cols[0] - 1, cols[-1] + 2)
    for index, step in enumerate(steps.tolist()):
        for start in range(0, rows.size, STRIP_PX):
            strip = rows[start : start + STRIP_PX]
            view = View(np.arange(strip[0] - 1, strip[-1] + 2), around, size_px, seed, step)
            drawn[index, :, start : start + strip.size] = _draw_strip(view, bands)
    return drawn
