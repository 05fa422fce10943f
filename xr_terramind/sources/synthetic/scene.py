"""A synthetic, georeferenced Sentinel-2 scene: fields, forest, river, town, coast and a cloud.

Every pixel is a pure function of its row, its column, the date, the scene's size and the seed, so
any rectangle can be drawn alone and a chunked scene equals the eager one bit for bit.
"""

import operator
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from affine import Affine
from dask.base import tokenize
from odc.geo.geobox import GeoBox

from xr_terramind.errors import explain
from xr_terramind.model.modalities import MODALITIES
from xr_terramind.sources.label import label_cube
from xr_terramind.sources.synthetic.landscape import draw
from xr_terramind.sources.synthetic.noise import FIRST_MONTH, SCALE_M

CRS = "EPSG:32632"
WEST_M, NORTH_M = 440_000, 6_160_000  # on the west coast of Jutland, the sea to the west
BANDS = MODALITIES["S2L2A"].bands


def _draw_block(size_px: int, seed: int, block_info: Any = None) -> np.ndarray:
    """Draw one block of a Dask array, ([time,] band, y, x), by its place in the scene."""
    ranges = [np.arange(*bounds) for bounds in block_info[None]["array-location"]]
    if len(ranges) == 3:
        return draw([np.arange(1), *ranges], size_px, seed)[0]
    return draw(ranges, size_px, seed)


def _build_lazy_pixels(dims: dict[str, int], size_px: int, seed: int, chunks: Any) -> da.Array:
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


def _check_whole_number(name: str, value: Any, least: int, most: int) -> int:
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
    size_px = _check_whole_number("size_px", size_px, 1, 1_000_000)
    time = _check_whole_number("time", time, 1, 1200)
    seed = _check_whole_number("seed", seed, 0, 2**32 - 1)
    dims = {"time": time, "band": len(BANDS), "y": size_px, "x": size_px}
    months = FIRST_MONTH + np.arange(time).astype("timedelta64[M]")
    dates = (months.astype("datetime64[D]") + np.timedelta64(14, "D")).astype("datetime64[ns]")
    if time == 1:
        del dims["time"]
    pixels: np.ndarray | da.Array
    if chunks is None:
        ranges = [np.arange(n) for n in (time, len(BANDS), size_px, size_px)]
        pixels = draw(ranges, size_px, seed).reshape(tuple(dims.values()))
    else:
        pixels = _build_lazy_pixels(dims, size_px, seed, chunks)
    grid = GeoBox((size_px, size_px), Affine(SCALE_M, 0, WEST_M, 0, -SCALE_M, NORTH_M), CRS)
    attrs = {
        "long_name": "surface reflectance x 10000, digital numbers as in Sentinel-2 L2A",
        "units": MODALITIES["S2L2A"].unit,
        "scale_m": SCALE_M,
        "collection": "synthetic",
        "comment": "Synthetic: drawn by xr_terramind.sample_scene, seen by no satellite.",
    }
    when = dates if time > 1 else dates[0]
    scene = label_cube(pixels, grid, BANDS, when, name="sentinel2", attrs=attrs)
    return scene.rio.write_coordinate_system()
