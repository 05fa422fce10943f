"""Cubes and embeddings out of files: the suffix of a name says which format."""

from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import rioxarray
import xarray as xr

from xr_terramind.cli.mend.mends import Line, Mends
from xr_terramind.cli.mend.packed import SCALE, describe_unpacking, find_packed, unpack
from xr_terramind.cli.mend.remedies import Source
from xr_terramind.cli.mend.warp import open_warped
from xr_terramind.cli.messages import say
from xr_terramind.errors import GridError, SourceError, TerraMindError, did_you_mean, explain
from xr_terramind.model.modalities import Modality, modality_of
from xr_terramind.options import resolve_options
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


@contextmanager
def open_source(path: Path, mends: Mends, options: Mapping[str, Any]) -> Iterator[Source]:
    """Open a cube lazily with what the flags say of it, and word what goes wrong as flags.

    Raises as `open_cube`, and what `Mends.apply` raises.
    """
    modality = modality_of(resolve_options(**options).modality)
    kind = format_of(path)
    if mends.warp and kind != "GeoTIFF":
        raise SourceError(
            explain(
                f"--warp with {path}",
                "a .tif",
                "Leave it out, or write the cube as a GeoTIFF first.",
            )
        )
    opened, base = _open_as_told(path, mends, modality)
    with opened:
        yet = Source(path, kind, opened, mends, modality, base)
        with yet.reword_messages():
            mended = replace(yet, cube=mends.apply(opened, modality))
        with mended.reword_messages():
            yield mended


def open_cube(path: Path) -> xr.DataArray | xr.Dataset:
    """Open a cube lazily, in chunks that fit what is stored.

    Raises FileNotFoundError where there is nothing, SourceError where the file cannot be read as
    what its suffix says.
    """
    kind = format_of(path)
    with _name_failures(path, kind):
        if kind == "GeoTIFF":
            raster: Any = rioxarray.open_rasterio(path, chunks={"x": CHUNK_PX, "y": CHUNK_PX})
            return raster
        return _open_dataset(path, kind)


@contextmanager
def _name_failures(path: Path, kind: str) -> Iterator[None]:
    if not path.exists():
        raise FileNotFoundError(
            explain(f"nothing at {str(path)!r}", f"a {kind} on this machine", "Check the path.")
        )
    try:
        yield
    except TerraMindError:
        raise
    # The libraries below have no error in common; these are how they say "not my format".
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise SourceError(
            explain(
                f"{str(path)!r}, which cannot be opened ({type(error).__name__}: {error})",
                f"a {kind}, as its suffix says",
                "Look whether the file is complete and its suffix right.",
            )
        ) from error


def _open_as_told(path: Path, mends: Mends, modality: Modality) -> tuple[Any, Line]:
    # -> the cube, and what was done to the values that other programs see
    kind = format_of(path)
    with _name_failures(path, kind):
        if mends.warp:
            return open_warped(path, mends.warp, mends.crs, modality, CHUNK_PX), Line()
        if kind == "GeoTIFF" or mends.scale is not None:
            return open_cube(path), Line()
        with xr.open_dataset(path, **_ENGINES[kind]) as stored:
            packed = find_packed(stored, modality)
        if not packed:
            return _open_dataset(path, kind), Line()
        raw = _open_dataset(path, kind, mask_and_scale={name: False for name in packed})
        say("note", "bold", describe_unpacking(packed))
        return unpack(raw, packed, modality), Line(1 / SCALE)


_ENGINES: dict[str, dict[str, Any]] = {
    "NetCDF": {"engine": "netcdf4", "decode_coords": "all"},
    # Zarr 3 has no consolidated metadata: xarray would warn of missing ones.
    "Zarr": {"engine": "zarr", "consolidated": False, "decode_coords": "all"},
}


def _open_dataset(path: Path, kind: str, **how: Any) -> xr.Dataset:
    how = {**_ENGINES[kind], **how}
    # Opened twice: chunks that split stored ones would read these again and again.
    with xr.open_dataset(path, **how) as stored:
        chunks = {dim: _choose_chunk_size(stored, dim) for dim in stored.sizes}
    return xr.open_dataset(path, chunks=chunks, **how)


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
