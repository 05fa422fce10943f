"""Cubes and embeddings out of files: the suffix of a name says which format."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import rioxarray
import xarray as xr

from xr_terramind.errors import GridError, SourceError, did_you_mean, explain
from xr_terramind.result.quantize import dequantize, is_quantized

CHUNK_PX = 1024
"""Edge of the chunks in which sources are read: 50 MB where they hold 12 bands of float32."""

_FORMATS = {".zarr": "Zarr", ".nc": "NetCDF", ".tif": "GeoTIFF", ".tiff": "GeoTIFF"}


def format_of(path: Path) -> str:
    """Return "Zarr", "NetCDF" or "GeoTIFF" by the suffix; raise SourceError for any other."""
    suffix = path.suffix.lower()
    if suffix in _FORMATS:
        return _FORMATS[suffix]
    raise SourceError(
        explain(
            f"{str(path)!r}, which ends in {suffix or 'nothing'!r}",
            ".tif or .tiff (GeoTIFF), .nc (NetCDF) or .zarr (Zarr)",
            "Rename or convert the file." + did_you_mean(suffix, list(_FORMATS)),
        )
    )


def open_cube(path: Path) -> xr.DataArray | xr.Dataset:
    """Open a cube lazily, in chunks that fit what is stored.

    Raises FileNotFoundError where there is nothing, SourceError where the file cannot be read as
    what its suffix says.
    """
    kind = format_of(path)
    if not path.exists():
        raise FileNotFoundError(
            explain(f"nothing at {str(path)!r}", f"a {kind} on this machine", "Check the path.")
        )
    try:
        if kind == "GeoTIFF":
            raster: Any = rioxarray.open_rasterio(path, chunks={"x": CHUNK_PX, "y": CHUNK_PX})
            return raster
        return _open_dataset(path, kind)
    # The libraries below have no error in common; these are how they say "not my format".
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise SourceError(
            explain(
                f"{str(path)!r}, which cannot be opened ({type(error).__name__}: {error})",
                f"a {kind}, as its suffix says",
                "Look whether the file is complete and its suffix right.",
            )
        ) from error


def _open_dataset(path: Path, kind: str) -> xr.Dataset:
    how: dict[str, Any] = {"engine": "netcdf4"}
    if kind == "Zarr":  # Zarr 3 has no consolidated metadata: xarray would warn of missing ones
        how = {"engine": "zarr", "consolidated": False}
    # Opened twice: chunks that split stored ones would read these again and again.
    with xr.open_dataset(path, decode_coords="all", **how) as stored:
        chunks = {dim: _choose_chunk_size(stored, dim) for dim in stored.sizes}
    return xr.open_dataset(path, decode_coords="all", chunks=chunks, **how)


def _choose_chunk_size(stored: xr.Dataset, dim: Hashable) -> int:
    # A multiple of what is stored together: of pixels about CHUNK_PX, of dates as few as there are.
    together = max(
        variable.encoding.get("preferred_chunks", {}).get(dim, 1)
        for variable in stored.variables.values()
    )
    is_time = dim in stored.coords and stored.coords[dim].dtype.kind == "M"
    return together if is_time else together * max(1, CHUNK_PX // together)


def open_embedding(path: Path) -> xr.DataArray:
    """Open an embedding lazily, as floats with dims ``([time,] feature, y, x)``.

    A pooled one has no y and x. A GeoTIFF has one band per feature. Raises as `open_cube` does, and
    GridError where the file holds no embedding.
    """
    stored = open_cube(path)
    if isinstance(stored, xr.Dataset) and is_quantized(stored):
        return dequantize(stored)
    if isinstance(stored, xr.Dataset) and "embedding" in stored:
        return stored["embedding"]
    if isinstance(stored, xr.DataArray) and stored.attrs.get("model") == "terramind":
        renamed = stored.rename(band="feature").rename("embedding")
        return renamed.assign_coords(feature=range(renamed.sizes["feature"]))
    found = "an image of something else" if isinstance(stored, xr.DataArray) else list(stored)
    raise GridError(
        explain(
            f"{str(path)!r} with {found}",
            "an embedding",
            f"Make one with xr-terramind embed {path.name} embedding.zarr.",
        )
    )
