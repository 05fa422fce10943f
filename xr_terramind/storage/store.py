"""A Zarr store of embeddings: open it, lay it out, see which blocks stand, write one."""

import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
import xarray as xr
import zarr
from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, ObjectStore, StorePath

from xr_terramind.errors import StoreError, TerraMindError, explain

UNFINISHED = "xr_terramind:unfinished"
"""Attribute of a group whose metadata are still being written; it holds no block yet."""

_PARTIAL = ".partial"  # the suffix of what zarr has not yet moved to its place


class Region(NamedTuple):
    """Where one array of a block goes: its name in the group, and cells along its dimensions."""

    array: str
    slices: tuple[slice, ...]


def locate_store(store: Any, storage_options: Mapping[str, Any] | None = None) -> StorePath:
    """Find out what a user means by a store.

    Parameters
    ----------
    store : str, path, zarr Store, StorePath or obstore store
        A local path, a URL that fsspec understands, or an open store.
    storage_options : mapping, optional
        For fsspec.

    Raises
    ------
    StoreError
        For anything else, or a URL whose file system is not installed.
    """
    if isinstance(store, StorePath):
        return store
    if isinstance(store, Store):
        return StorePath(store)
    if isinstance(store, str) and "://" in store and not store.startswith("file://"):
        with _explain_errors(store, "opened"):
            return StorePath(
                FsspecStore.from_url(store, storage_options=dict(storage_options or {}))
            )
    if isinstance(store, str | os.PathLike):
        # fsspec's own local files are not written whole or not at all; zarr's are.
        path = os.fspath(store)
        path = unquote(urlsplit(path).path) if "://" in path else os.path.expanduser(path)
        return StorePath(LocalStore(path))
    if type(store).__module__.partition(".")[0] == "obstore":
        return StorePath(ObjectStore(store))
    raise StoreError(
        explain(
            f"a store of type {type(store).__name__}",
            "a path, a URL, a zarr store or an obstore store",
            "Pass for example 'embedding.zarr' or 's3://bucket/embedding.zarr'.",
        )
    )


def find_group(place: StorePath) -> zarr.Group | None:
    """Return the group that stands at a place, or None where there is nothing.

    Raises
    ------
    StoreError
        For a place that holds something else: it is not ours to write into.
    """
    if _is_file(place):
        raise _foreign_error(place)
    with _explain_errors(place, "read"):
        try:
            return zarr.open_group(place, mode="r", zarr_format=3)
        except FileNotFoundError:
            # A process that was killed at its first write leaves a part of it, and no group.
            names = _collect(lambda: place.store.list_dir(place.path))
    if not all(name.endswith(_PARTIAL) for name in names):
        raise _foreign_error(place)
    return None


def _foreign_error(place: StorePath) -> StoreError:
    return StoreError(
        explain(
            f"something at {place} that is no Zarr 3 group",
            "nothing there, or an embedding that was begun",
            "Choose another name, or remove it yourself.",
        )
    )


def _is_file(place: StorePath) -> bool:
    return isinstance(place.store, LocalStore) and Path(place.store.root, place.path).is_file()


def lay_out(place: StorePath, dataset: xr.Dataset, encoding: Mapping[str, Any]) -> None:
    """Write all of a dataset but its Dask arrays; a group that stood there is replaced.

    At every moment there is either nothing or a group; from its first change to its last, it says
    that it is unfinished.
    """
    mark = {UNFINISHED: 1}
    with _explain_errors(place, "written"):
        _mark_and_clear(place, mark)
        dataset.assign_attrs(mark).to_zarr(
            place.store,
            group=place.path or None,
            mode="a",
            compute=False,
            consolidated=False,
            zarr_format=3,
            encoding=dict(encoding),
        )
        group = zarr.open_group(place, mode="r+")
        group.attrs.put({**dataset.attrs})


def _mark_and_clear(place: StorePath, mark: Mapping[str, Any]) -> None:
    group = find_group(place)
    if group is None:
        zarr.create_group(place.store, path=place.path, attributes=dict(mark))
    else:
        zarr.open_group(place, mode="r+").attrs.put({**group.attrs, **mark})
    files = set(_list_keys(place))
    for name in _collect(lambda: place.store.list_dir(place.path)):
        key = (place / name).path
        if name != "zarr.json":
            sync(place.store.delete(key) if key in files else place.store.delete_dir(key))


def open_stored(place: StorePath) -> xr.Dataset:
    """Open a stored embedding lazily."""
    return xr.open_zarr(
        place.store,
        group=place.path or None,
        consolidated=False,
        zarr_format=3,
        decode_coords="all",
        chunks={},
    )


def list_blocks(place: StorePath, array: str) -> set[tuple[int, ...]]:
    """List the blocks of an array that stand in a store, as positions along each dimension."""
    # A file or object is moved to its name when it is complete, so that a name is a whole block.
    part = place / array
    names = (key.removeprefix(f"{part.path}/") for key in _list_keys(part))
    return {
        tuple(int(step) for step in steps)
        for first, *steps in (name.split("/") for name in names)
        if first == "c" and all(step.isdecimal() for step in steps)
    }


def remove_torn_files(place: StorePath) -> None:
    """Remove what a process that was killed while writing has left beside whole blocks."""
    with _explain_errors(place, "cleaned"):
        for key in _list_keys(place):
            if key.endswith(_PARTIAL):
                sync(place.store.delete(key))


def _list_keys(place: StorePath) -> list[str]:
    with _explain_errors(place, "listed"):
        return _collect(lambda: place.store.list_prefix(f"{place.path}/".lstrip("/")))


def _collect(listing: Callable[[], AsyncIterator[str]]) -> list[str]:
    async def collect() -> list[str]:
        return [key async for key in listing()]

    return sync(collect())


def write_block(place: StorePath, regions: tuple[Region, ...], *arrays: np.ndarray) -> None:
    """Write what belongs to one block; the last array says that it is complete.

    Parameters
    ----------
    place : StorePath
    regions : tuple of Region
        Whole shards of the stored arrays, so that each is one file or object.
    *arrays : ndarray
        One per region.

    Raises
    ------
    StoreError
    """
    with _explain_errors(place, "written"):
        for region, values in zip(regions, arrays, strict=True):
            try:
                stored = zarr.open_array(place / region.array, mode="r+")
            except FileNotFoundError as error:
                raise _unshared_error(place) from error
            # A block without a valid pixel is all NaN: not to write it would mean not done.
            stored.with_config({"write_empty_chunks": True})[region.slices] = values


def _unshared_error(place: StorePath) -> StoreError:
    return StoreError(
        explain(
            f"nothing at {place} on the machine, or in the process, of a worker",
            "a store that all workers and this process share",
            "Write to a network file system or an object store (a URL).",
        )
    )


@contextmanager
def _explain_errors(place: Any, action: str) -> Iterator[None]:
    try:
        yield
    except TerraMindError:
        raise
    # Stores have no error in common: OSError is a disk's word, ValueError zarr's for a read-only
    # store, ImportError fsspec's for a file system that is not installed, and others have theirs.
    except Exception as error:
        raise StoreError(_explain_failure(place, action, error)) from error


def _explain_failure(place: Any, action: str, error: Exception) -> str:
    said = f"({type(error).__name__}: {error})"
    # xarray adds a note of the variable that it cannot write.
    notes = " ".join(getattr(error, "__notes__", ()))
    variable = re.search(r"encoding variable ('[^']+')", notes)
    if variable is not None and not isinstance(error, OSError):
        return explain(
            f"the variable {variable[1]}, which cannot be {action} to {place} {said}",
            "numbers, times or text",
            f"Leave it out with embedding.drop_vars({variable[1]}), or write it as text.",
        )
    if isinstance(error, TypeError | AttributeError | NotImplementedError):
        # Of what is written, not of the place: no room and no access would help.
        return explain(
            f"what cannot be {action} to {place} {said}",
            "coordinates and attributes that are numbers, times or text",
            "Leave out the one that the error names, with embedding.drop_vars(...).",
        )
    return explain(
        f"{place}, which cannot be {action} {said}",
        "a store that can be read and written, with room left",
        "Blocks that are written stay: make room or get access, then call again with resume=True.",
    )
