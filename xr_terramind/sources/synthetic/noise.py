"""Lattice noise and map lines: the geometry that the sample scene is drawn with.

Every number is a pure function of place, date, size and seed, and sees only operations that
IEEE 754 rounds exactly: sin, exp and BLAS may differ in the last bit between array shapes and
machines.
"""

import zlib
from dataclasses import dataclass

import numpy as np

SCALE_M = 10
FIRST_MONTH = np.datetime64("2022-06")

# Town, river, roads and cloud repeat with this period; in a smaller scene they shrink with it.
LAYOUT_M = 11_200


@dataclass(frozen=True)
class View:
    """The rectangle to draw, by pixel indices that may lie outside the scene, at one date."""

    rows: np.ndarray  # (y,) from the northern edge
    cols: np.ndarray  # (x,) from the western edge
    size_px: int
    seed: int
    step: int  # months since FIRST_MONTH

    @property
    def south_m(self) -> np.ndarray:
        """Distance of the pixel centres from the northern edge, (y, 1)."""
        return (self.rows[:, None] * SCALE_M + SCALE_M / 2).astype(np.float32)

    @property
    def east_m(self) -> np.ndarray:
        """Distance of the pixel centres from the western edge, (1, x)."""
        return (self.cols[None, :] * SCALE_M + SCALE_M / 2).astype(np.float32)

    @property
    def layout_m(self) -> int:
        """Period of town, river, roads and cloud."""
        return min(self.size_px * SCALE_M, LAYOUT_M)

    @property
    def calendar_month(self) -> int:
        """0 for January to 11 for December."""
        return (int(FIRST_MONTH.astype(int)) + self.step) % 12


def hash_bits(seed: int, feature: str, *indices: np.ndarray) -> np.ndarray:
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


def byte_of(bits: np.ndarray, which: int) -> np.ndarray:
    """Take one of four independent uniform numbers in [0, 1) out of 32 bits."""
    return ((bits >> (8 * which)) & 255).astype(np.float32) / 256


def smooth(ramp: np.ndarray) -> np.ndarray:
    """Ease 0..1 with zero slope at both ends; values beyond are clipped."""
    ramp = np.clip(ramp, 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def nodes(view: View, feature: str, row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """Hash the lattice nodes around all cells (row, col): nodes are few where pixels are many."""
    rows = np.arange(row.min(), row.max() + 2)[:, None]
    cols = np.arange(col.min(), col.max() + 2)[None, :]
    return hash_bits(view.seed, feature, rows, cols)


def noise(view: View, feature: str, cell_m: float) -> np.ndarray:  # (y, x) in -1..1
    """Value noise: random numbers on a lattice, eased in between."""
    cell_px = max(2, int(cell_m) // SCALE_M)
    row, down = np.divmod(view.rows, cell_px)
    col, right = np.divmod(view.cols, cell_px)
    down = smooth((down / cell_px).astype(np.float32))[:, None]
    right = smooth((right / cell_px).astype(np.float32))[None, :]
    knots = (nodes(view, feature, row, col) >> 8).astype(np.float32) / 2**23 - 1
    west, east = knots[:, col - col[0]], knots[:, col - col[0] + 1]
    along = west + (east - west) * right  # one row for each lattice row
    north, south = along[row - row[0]], along[row - row[0] + 1]
    return north + (south - north) * down


def fractal(view: View, feature: str, cell_m: float, finest_m: float) -> np.ndarray:
    """Noise of halving cells and halving heights, from `cell_m` down to `finest_m`."""
    total, height = noise(view, feature, cell_m), 1.0
    while cell_m / 2 >= max(finest_m, 2 * SCALE_M):
        cell_m, height = cell_m / 2, height / 2
        total += height * noise(view, f"{feature}{height}", cell_m)
    return total / (2 - height)


def per_tile(view: View, feature: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give (bits, south, east) of each pixel's layout tile; the position runs from 0 to 1."""
    south, east = view.south_m / view.layout_m, view.east_m / view.layout_m
    row, col = np.floor(south).astype(int), np.floor(east).astype(int)
    bits = nodes(view, feature, row, col)[row - row.min(), col - col.min()]
    return bits, south % 1, east % 1


def winding_m(view: View, feature: str, position_m: np.ndarray, bend: float) -> np.ndarray:
    """Bend straight map lines; `bend` is a fraction of the layout."""
    wavelength_m = 2.5 * bend * view.layout_m
    return position_m + bend * view.layout_m * fractal(view, feature, wavelength_m, 400)


def from_line_m(view: View, winding_m: np.ndarray, at: float) -> np.ndarray:
    """Signed distance to a line that recurs once per layout tile, at the fraction `at` of it."""
    offset = winding_m / view.layout_m - at
    return (offset - np.rint(offset)) * view.layout_m


def edge_and_index(position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split lattice positions into (distance to the nearer end of the cell, cell number)."""
    index = np.floor(position)
    within = position - index
    return np.minimum(within, 1 - within), index.astype(np.int32)


def rotate(bits: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotate (x, y) by a random angle, from the tangent of its half: that needs no sine."""
    tangent = 0.9 * byte_of(bits, 2) - 0.3
    norm = 1 / (1 + tangent * tangent)
    cos, sin = (1 - tangent * tangent) * norm, 2 * tangent * norm
    return cos * x + sin * y, cos * y - sin * x
