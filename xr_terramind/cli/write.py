"""Embeddings into files: the suffix of a name says which format.

A Zarr store grows block by block, and can be resumed. The other formats stand under their name only
when they are complete.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import xarray as xr
from dask.callbacks import Callback
from rich.console import Console

from xr_terramind.blocks.graph import TASK_NAME
from xr_terramind.blocks.progress import block_progress
from xr_terramind.blocks.run import wait_for_threads
from xr_terramind.cli.read import format_of
from xr_terramind.errors import SourceError, TerraMindError, explain
from xr_terramind.result.check import check_image, find_image_dims
from xr_terramind.storage.cog import to_cog
from xr_terramind.storage.layout import stored_dtype
from xr_terramind.storage.to_zarr import to_zarr
from xr_terramind.storage.whole_files import check_folder, complete_file


def check_target(
    path: Path, source: Path, *, overwrite: bool, resume: bool = False, dtype: str = "float32"
) -> None:
    """Refuse a target that could not be written, before anything is computed for it.

    Raises SourceError (no known suffix, or a format that takes no int8 or resume), EngineError (a
    dtype that embeddings are not stored in) or OSError (no folder, or a target that exists).
    """
    format_of(path)
    check_folder(path)
    if path.exists() and source.exists() and path.samefile(source):
        raise FileExistsError(
            explain(f"{str(path)!r} as input and output", "two names", "Choose another output.")
        )
    if resume and (format_of(path) != "Zarr" or overwrite):
        found = "--overwrite" if overwrite else str(path)
        raise SourceError(
            explain(
                f"--resume with {found}",
                "a .zarr that was begun, and is not to be replaced",
                "Only Zarr can be resumed; leave out one of the two.",
            )
        )
    if stored_dtype(dtype) != "float32" and format_of(path) != "Zarr":
        raise SourceError(
            explain(
                f"--dtype {dtype} with {path}",
                "a .zarr, which holds the scale of each vector beside it",
                "Choose a name that ends in .zarr, or leave --dtype out.",
            )
        )
    if path.exists() and not overwrite and not resume:
        remedy = "Choose another one, or pass --overwrite to replace it"
        remedy += ", or --resume to go on with it." if format_of(path) == "Zarr" else "."
        raise FileExistsError(explain(f"{str(path)!r}, which exists", "a new name", remedy))


def check_embedding(embedding: xr.DataArray, path: Path) -> None:
    """Raise GridError for an embedding that is no single image where `path` is a GeoTIFF."""
    if format_of(path) == "GeoTIFF":
        check_image(embedding)


def write_embedding(
    embedding: xr.DataArray,
    path: Path,
    console: Console,
    *,
    resume: bool = False,
    dtype: str = "float32",
) -> None:
    """Compute an embedding block by block and write it; what was there is replaced.

    `resume` keeps the blocks that stand in a Zarr store instead. The progress bar is drawn on
    `console`. Raises SourceError where a block cannot be read, embedded or written.
    """
    check_embedding(embedding, path)
    if format_of(path) == "Zarr":
        how: dict[str, Any] = {"resume": resume, "overwrite": not resume, "dtype": dtype}
        to_zarr(embedding, path, **how, progress=console)
        return
    try:
        with wait_for_threads(), _show_blocks(embedding, console):
            _write_file(embedding, path)
    except TerraMindError:
        raise
    # OSError is a disk's and GDAL's word for it, RuntimeError that of NetCDF, Zarr and torch.
    except (OSError, RuntimeError) as error:
        cause = error.__cause__ or error  # rasterio only says "see previous exception"
        raise SourceError(
            explain(
                f"a failure while blocks were read, embedded and written "
                f"({type(cause).__name__}: {cause})",
                "a complete source, and room for it in memory and on disk",
                "Look at the source first; a smaller --batch-size needs less memory.",
            )
        ) from error


def _write_file(embedding: xr.DataArray, path: Path) -> None:
    if format_of(path) == "GeoTIFF" and embedding.rio.crs is not None:
        to_cog(embedding, path)
        return
    with complete_file(path) as unfinished:
        if format_of(path) == "NetCDF":
            embedding.to_netcdf(unfinished)
        else:
            # A cloud-optimised GeoTIFF says where it lies. Images without a CRS are small pictures
            # of a data set, whose embedding fits in memory.
            names = [f"feature {number}" for number in embedding["feature"].values]
            named = embedding.compute().assign_attrs(long_name=names)
            lone = find_image_dims(named)  # of one image each, which has been checked
            named.squeeze(lone).rio.to_raster(unfinished, recalc_transform=True)


@contextmanager
def _show_blocks(embedding: xr.DataArray, console: Console) -> Iterator[None]:
    """Draw a progress bar that counts the blocks which Dask embeds, whoever asks it to."""
    n_blocks = sum(map(_is_block, embedding.__dask_graph__() or ()))
    with block_progress(n_blocks, console) as advance:

        def count(key: Any, *_: Any) -> None:
            if _is_block(key):
                advance()

        # Fused with what comes after it, a block would have a name that cannot be counted.
        with dask.config.set({"optimization.fuse.active": False}), Callback(posttask=count):
            yield


def _is_block(key: Any) -> bool:
    # not the tasks around it, whose names begin alike
    return isinstance(key, tuple) and bool(re.fullmatch(f"{TASK_NAME}-[0-9a-f]+", str(key[0])))
