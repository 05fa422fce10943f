"""Embeddings and the maps made of them -> cloud-optimised GeoTIFFs.

Blocks go to a plain, uncompressed GeoTIFF first, in whatever order they are computed, band by band,
which makes overviews ten times faster than tiles of all bands. GDAL makes of it the file that is
kept, with its tiles, overviews and header in the order that the format asks.
"""

import json
import math
import numbers
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rioxarray  # noqa: F401 - registers the .rio accessor that reads the CRS
import xarray as xr
from affine import Affine
from dask.base import compute
from rasterio.enums import ColorInterp, Resampling
from rasterio.windows import Window

from xr_terramind.result.cells import cell_step, north_up
from xr_terramind.result.check import check_crs, check_image, find_image_dims
from xr_terramind.storage.whole_files import complete_file

MAX_TILE_BYTES = 8 << 20
"""Of a tile with all bands together, as GDAL before 3.11 writes them."""

MAX_PIECE_BYTES = 64 << 20
"""Chunks that are computed at once; one that is larger is computed alone."""

_LABEL_NODATA = -1

_COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)


def to_cog(embedding: xr.DataArray, path: Any) -> None:
    """Write a cloud-optimised GeoTIFF that GDAL and QGIS read.

    Works for an embedding (one band per feature) and for maps made of one: similarity, labels,
    change, colours. A lazy one is computed piece by piece. Tiles are compressed with ZSTD and the
    predictor for their dtype. Overviews hold means of floats and nearest neighbours of integers.
    North is up and west is left, whatever way the axes run. Floats have nodata NaN, and signed
    integers -1. A dim ``rgb``, 0 to 1, becomes four bands of uint8: red, green, blue and an alpha
    that is 0 where a colour is NaN. Bands are described (``feature 0``, ...), and attrs become
    tags, lists as JSON.

    Parameters
    ----------
    embedding : xarray.DataArray
        Or a map made of one: dims y, x and perhaps one for the bands, in any order, of one date.
    path : str or path
        A file that is there is replaced once the new one is complete.

    Raises
    ------
    GridError
        Where there is no grid, CRS or even spacing; or several dates or dims for bands.
    OSError
        Where the file cannot be written.
    """
    from rasterio.shutil import copy as copy_raster

    check_image(embedding)
    check_crs(embedding)
    image = _arrange(embedding)
    with complete_file(path) as unfinished:
        plain = unfinished.with_name("plain.tif")
        _write_plain(image, plain)
        _add_overviews(image, plain)
        copy_raster(plain, unfinished, **_choose_options(image))


def _arrange(array: xr.DataArray) -> xr.DataArray:
    # ([band,] y, x), north up; a lone date, or image, becomes a scalar coordinate.
    array = array.squeeze(find_image_dims(array))
    return north_up(array.transpose(..., "y", "x"))


def _make_transform(image: xr.DataArray) -> Affine:
    # From steps, not footprints: pixels of an image do not overlap, as windows may.
    height, width = cell_step(image, "y"), cell_step(image, "x")
    north, west = image["y"].values[0] + height / 2, image["x"].values[0] - width / 2
    return Affine(width, 0, west, 0, -height, north)


def _is_colour(image: xr.DataArray) -> bool:
    return "rgb" in image.dims


def _choose_dtype(image: xr.DataArray) -> np.dtype[Any]:
    if _is_colour(image) or image.dtype.kind == "b":
        return np.dtype(np.uint8)
    if image.dtype == np.float16:  # GDAL has it from 3.11 on
        return np.dtype(np.float32)
    return image.dtype


def _choose_nodata(image: xr.DataArray) -> float | None:
    kind = _choose_dtype(image).kind
    return {"f": np.nan, "i": float(_LABEL_NODATA)}.get(kind)


def _write_plain(image: xr.DataArray, path: Path) -> None:
    height, width = image.sizes["y"], image.sizes["x"]
    names = _name_bands(image)
    edge = _choose_tile_edge(image)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=len(names),
        dtype=_choose_dtype(image),
        crs=image.rio.crs,
        transform=_make_transform(image),
        nodata=_choose_nodata(image),
        tiled=True,
        blockxsize=edge,
        blockysize=edge,
        interleave="band",
        bigtiff="if_safer",
        **({"photometric": "rgb", "alpha": "yes"} if _is_colour(image) else {}),
    ) as target:
        target.descriptions = names
        if _is_colour(image):
            target.colorinterp = _COLOURS
        target.update_tags(**_make_tags(image))
        for rows, cols in _make_pieces(image):
            (values,) = compute(image.isel(y=rows, x=cols).data)
            window = Window.from_slices(rows, cols)
            target.write(_make_bands(np.asarray(values), image), window=window)


def _is_smooth(image: xr.DataArray) -> bool:
    return _is_colour(image) or _choose_dtype(image).kind == "f"


def _add_overviews(image: xr.DataArray, path: Path) -> None:
    # Halved until one tile holds all, as GDAL's driver does where it finds none.
    longest = max(image.sizes["y"], image.sizes["x"])
    n_levels = math.ceil(math.log2(max(1, longest / _choose_tile_edge(image))))
    if not n_levels:
        return
    resampling = Resampling.average if _is_smooth(image) else Resampling.nearest
    with rasterio.open(path, "r+") as plain:
        plain.build_overviews([2 ** (level + 1) for level in range(n_levels)], resampling)


def _make_pieces(image: xr.DataArray) -> Iterator[tuple[slice, slice]]:
    """Yield rectangles that cover the image: whole chunks of a lazy one, some at once."""
    sizes = {dim: image.chunksizes.get(dim, (image.sizes[dim],)) for dim in ("y", "x")}
    n_bytes = image.dtype.itemsize * image.size // (image.sizes["y"] * image.sizes["x"])
    top = 0
    for height in sizes["y"]:
        left = right = 0
        for width in sizes["x"]:
            if right > left and height * (right + width - left) * n_bytes > MAX_PIECE_BYTES:
                yield slice(top, top + height), slice(left, right)
                left = right
            right += width
        yield slice(top, top + height), slice(left, right)
        top += height


def _make_bands(values: np.ndarray, image: xr.DataArray) -> np.ndarray:
    # (band, y, x) as stored
    if not _is_colour(image):
        bands = values if values.ndim == 3 else values[None]
        return bands.astype(_choose_dtype(image), copy=False)
    seen = np.isfinite(values).all(axis=0)
    colours = np.rint(np.clip(np.where(seen, values, 0), 0, 1) * 255)
    return np.concatenate([colours, 255.0 * seen[None]]).astype(np.uint8)


def _name_bands(image: xr.DataArray) -> list[str]:
    if image.ndim == 2:
        return [str(image.name or "value")]
    if _is_colour(image):
        return [colour.name for colour in _COLOURS]
    dim = image.dims[0]
    values = image[dim].values
    # A name speaks for itself; a number has to say what it counts.
    return [str(value) if isinstance(value, str) else f"{dim} {value}" for value in values]


def _make_tags(image: xr.DataArray) -> dict[str, str]:
    tags = {str(name): _format_tag(value) for name, value in image.attrs.items()}
    for name in ("STATISTICS", "AREA_OR_POINT", "_FillValue", "long_name"):
        tags.pop(name, None)
    if "time" in image.coords:
        tags["time"] = str(image["time"].values)
    return tags


def _format_tag(value: Any) -> str:
    if isinstance(value, str | numbers.Number):
        return str(value)
    if isinstance(value, np.ndarray | list | tuple):
        return json.dumps(np.asarray(value).tolist())
    return str(value)


def _choose_tile_edge(image: xr.DataArray) -> int:
    # Where all bands of a tile lie together, tiles of many bands have to be small.
    if _interleaves_by_tile():
        return 512
    n_bands = len(_name_bands(image))
    edge = 512
    while edge > 32 and edge**2 * n_bands * _choose_dtype(image).itemsize > MAX_TILE_BYTES:
        edge //= 2
    return edge


def _interleaves_by_tile() -> bool:
    major, minor = rasterio.__gdal_version__.split(".")[:2]
    return (int(major), int(minor)) >= (3, 11)


def _choose_options(image: xr.DataArray) -> dict[str, Any]:
    options = {
        "driver": "COG",
        "compress": "zstd",
        "predictor": "yes",  # GDAL's word for 3 of floats and 2 of integers
        "blocksize": _choose_tile_edge(image),
        "bigtiff": "if_safer",
        "num_threads": "all_cpus",
    }
    # Each band's tile apart, those of one place side by side: a reader may take a few bands only.
    return options | ({"interleave": "tile"} if _interleaves_by_tile() else {})
