"""How an embedding lies in a store: blocks of one size, their places, and how they are encoded."""

import math
from collections.abc import Hashable
from itertools import accumulate, pairwise, product
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from zarr.codecs import ZstdCodec

from xr_terramind.blocks.dask_tasks import Key
from xr_terramind.errors import EngineError, explain
from xr_terramind.result.quantize import UNWRITTEN
from xr_terramind.storage.store import Region

WANTED_CELLS = 16
"""Edge of what can be read at once out of a block, about: 16 x 16 vectors of small are 400 kB."""

BLOCK_CELLS = 84
"""Edge of the blocks of an embedding that is in memory already."""

STORED_DTYPES = ("float32", "int8")

_ZSTD = ZstdCodec(level=3, checksum=True)

_WRITTEN_BY_BLOCK = ("valid_fraction",)

_ENCODING_TO_KEEP = {"_FillValue", "grid_mapping", "units", "calendar", "dtype"}

Index = tuple[int, ...]


class Lattice(NamedTuple):
    """Blocks of an embedding that is laid out for a store.

    `arrays` are variables in Dask that are written block by block, ``embedding`` last; `dims` are
    the embedding's, and so those of a block's index.
    """

    arrays: dict[str, xr.Variable]
    dims: tuple[Any, ...]

    @property
    def blocks(self) -> list[Index]:
        """Index of every block, row by row."""
        main = self.arrays["embedding"]
        return list(product(*(range(len(main.chunksizes[dim])) for dim in self.dims)))

    def key(self, array: str, block: Index) -> Key:
        """Return the Dask key of an array's part of a block."""
        return (self.arrays[array].data.name, *self.position(array, block))

    def position(self, array: str, block: Index) -> Index:
        """Return the index of an array's part of a block, along the array's own dimensions."""
        place = dict(zip(self.dims, block, strict=True))
        return tuple(place[dim] for dim in self.arrays[array].dims)

    def region(self, array: str, block: Index) -> Region:
        """Return where an array's part of a block goes."""
        sizes = self.arrays[array].chunksizes.values()
        numbers = self.position(array, block)
        return Region(
            array, tuple(_split(along)[n] for along, n in zip(sizes, numbers, strict=True))
        )


def _split(sizes: tuple[int, ...]) -> list[slice]:
    return [slice(start, stop) for start, stop in pairwise(accumulate(sizes, initial=0))]


def chunk_evenly(embedding: xr.DataArray) -> xr.DataArray:
    """Chunk an embedding evenly, as Zarr asks, with all features in one chunk.

    What belongs to no block is computed.
    """
    # Zarr's chunks are all of one size; those of a selection are not.
    if embedding.chunks is None:
        sizes = {dim: _choose_block_edge(embedding, dim) for dim in embedding.dims}
    else:
        sizes = {dim: max(chunks) for dim, chunks in embedding.chunksizes.items()}
    sizes["feature"] = -1
    # What belongs to no block (times, angles of a scene) is small, and written with the layout.
    coords = {
        name: coord.variable.chunk({dim: sizes[dim] for dim in coord.dims})
        if name in _WRITTEN_BY_BLOCK
        else _free_text(coord.variable.compute())
        for name, coord in embedding.coords.items()
        if name not in embedding.indexes
    }
    labels = {
        name: _free_text(embedding[name].variable)
        for name in embedding.dims
        if name in embedding.coords and embedding[name].dtype.kind == "U"
    }
    return embedding.chunk(sizes).assign_coords(coords | labels)


def _free_text(variable: xr.Variable) -> xr.Variable:
    # Text of a fixed width has no specification in Zarr 3, text of any length has.
    return variable.astype(object) if variable.dtype.kind == "U" else variable


def _choose_block_edge(embedding: xr.DataArray, dim: Hashable) -> int:
    if dim == "feature":
        return -1
    if dim in ("y", "x"):
        return BLOCK_CELLS
    # An image is a block; of vectors without y and x, as many as a block of cells has.
    return 1 if dim == "time" or "y" in embedding.dims else BLOCK_CELLS**2


def find_lattice(dataset: xr.Dataset) -> Lattice:
    """Find the arrays of a dataset that are written block by block."""
    names = [name for name in _WRITTEN_BY_BLOCK if name in dataset.coords]
    names += [str(name) for name in dataset.data_vars if name != "embedding"]
    arrays = {name: dataset[name].variable for name in [*names, "embedding"]}
    return Lattice(arrays, dataset["embedding"].dims)


def choose_encoding(variable: xr.Variable) -> dict[str, Any]:
    """Choose chunks, shards and codec of an array: a block is a shard, and is read in parts."""
    # Chunks and codecs of a file that it was read from do not belong here.
    kept = {key: variable.encoding[key] for key in _ENCODING_TO_KEEP & variable.encoding.keys()}
    block = find_block_shape(variable)
    encoding = {**kept, "chunks": block, "compressors": (_ZSTD,)}
    if variable.dtype == np.int8:
        # What has not been written yet is NaN among floats, and zarr's default of 0 would be data.
        encoding["fill_value"] = UNWRITTEN
    if "y" in variable.dims:  # one vector is nothing to be read in parts
        inner = (
            _choose_inner_edge(str(dim), n) for dim, n in zip(variable.dims, block, strict=True)
        )
        encoding |= {"shards": block, "chunks": tuple(inner)}
    return encoding


def find_block_shape(variable: xr.Variable) -> tuple[int, ...]:
    """Return the cells of a block along each dimension."""
    return tuple(variable.chunksizes[dim][0] for dim in variable.dims)


def _choose_inner_edge(dim: str, shard_cells: int) -> int:
    if dim == "feature":
        return shard_cells
    if dim not in ("y", "x"):
        return 1
    divisors = [n for n in range(1, shard_cells + 1) if shard_cells % n == 0]
    return min(divisors, key=lambda n: abs(math.log(n / WANTED_CELLS)))


def stored_dtype(dtype: Any) -> str:
    """Return ``"float32"`` or ``"int8"``; any other dtype is an `EngineError`."""
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    if name in STORED_DTYPES:
        return name
    raise EngineError(
        explain(
            f"dtype={name!r}",
            f"one of {', '.join(STORED_DTYPES)}",
            "'int8' takes a quarter of the bytes of 'float32', with a scale for each vector.",
        )
    )
