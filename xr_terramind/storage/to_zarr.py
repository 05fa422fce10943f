"""Embeddings into Zarr, block by block: what is written once is not computed again."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import xarray as xr
from dask.base import annotate, compute, tokenize
from dask.delayed import delayed
from dask.highlevelgraph import HighLevelGraph
from rich.console import Console
from zarr.storage import StorePath

from xr_terramind.blocks.dask_tasks import Graph, make_task
from xr_terramind.blocks.graph import TASK_NAME as BLOCK_NAME
from xr_terramind.blocks.progress import block_progress
from xr_terramind.blocks.run import Failure, run_blocks
from xr_terramind.errors import SourceError, StoreError, StoreExistsError, explain
from xr_terramind.inference.device import Runtime, resolve_runtime
from xr_terramind.model.specs import model_spec
from xr_terramind.model.weights import WeightsRef, resolve_weights
from xr_terramind.result.check import check_storable
from xr_terramind.result.coords import keep_writable
from xr_terramind.result.grid import with_own_transform
from xr_terramind.result.quantize import dequantize, is_quantized, quantize
from xr_terramind.storage.geoemb import make_geoemb_attrs
from xr_terramind.storage.layout import (
    Index,
    Lattice,
    choose_encoding,
    chunk_evenly,
    find_block_shape,
    find_lattice,
    stored_dtype,
)
from xr_terramind.storage.resume import GRAPH, check_same_embedding, check_same_values
from xr_terramind.storage.store import (
    UNFINISHED,
    Region,
    find_group,
    lay_out,
    list_blocks,
    locate_store,
    open_stored,
    remove_torn_files,
    write_block,
)

TASK_NAME = "terramind-write"


def to_zarr(
    embedding: xr.DataArray,
    store: Any,
    *,
    resume: bool = False,
    overwrite: bool = False,
    dtype: Any = "float32",
    retries: int = 2,
    progress: bool | Console = False,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Write an embedding block by block; see `TerraMindAccessor.to_zarr`."""
    dtype = stored_dtype(dtype)
    check_storable(embedding)
    place = locate_store(store, storage_options)
    group = _find_permitted_group(place, resume=resume, overwrite=overwrite)
    embedding = _resolve_open_attrs(
        with_own_transform(chunk_evenly(_convert_to_float32(keep_writable(embedding))))
    )
    dataset = quantize(embedding) if dtype == "int8" else embedding.to_dataset(name="embedding")
    done: set[Index] = set()
    if group is None or overwrite or UNFINISHED in group.attrs:
        _lay_out_store(place, dataset, embedding.data.name)
    else:
        done = _find_done_blocks(place, embedding, dataset)
    lattice = find_lattice(dataset)
    missing = [block for block in lattice.blocks if block not in done]
    failures = _write_blocks(place, lattice, missing, embedding, retries=retries, progress=progress)
    _check_written(place, lattice, embedding, failures)
    return _restore_floats(open_stored(place))


def _convert_to_float32(embedding: xr.DataArray) -> xr.DataArray:
    if embedding.dtype == np.float32:
        return embedding
    return embedding.copy(data=embedding.data.astype(np.float32))


def _restore_floats(stored: xr.Dataset) -> xr.DataArray:
    return dequantize(stored) if is_quantized(stored) else stored["embedding"]


def _find_permitted_group(place: StorePath, *, resume: bool, overwrite: bool) -> Any:
    if resume and overwrite:
        raise StoreError(
            explain(
                "resume=True and overwrite=True",
                "one of them",
                "resume=True keeps the blocks that stand, overwrite=True replaces them.",
            )
        )
    group = find_group(place)
    if group is None or resume or overwrite or UNFINISHED in group.attrs:
        return group
    raise StoreExistsError(
        explain(
            f"a Zarr group at {place}",
            "nothing there",
            "resume=True goes on with an embedding that was begun, overwrite=True replaces it, "
            "or choose another name.",
        )
    )


def _resolve_open_attrs(embedding: xr.DataArray) -> xr.DataArray:
    # Engine, device, precision and weights' hash, before attributes are written: a lazy embedding
    # may leave them open, and a store says what made it.
    attrs = dict(embedding.attrs)
    if attrs["weights"] == "pretrained" and not attrs["weights_sha256"]:
        spec = model_spec(attrs["model_key"])
        attrs["weights_sha256"] = resolve_weights(WeightsRef("hub"), spec).sha256
    asked = Runtime(attrs["engine"], attrs["device"], attrs["precision"])
    if "auto" in asked:
        # Where blocks will be computed: on a cluster, that is not here, and not on every worker.
        with annotate(**_find_block_annotations(embedding)):
            (found,) = compute(delayed(resolve_runtime)(*asked))
        attrs |= found._asdict()
    return embedding.assign_attrs(attrs)


def _find_block_annotations(embedding: xr.DataArray) -> dict[str, Any]:
    layers = getattr(embedding.__dask_graph__(), "layers", {})
    found = (layer.annotations for name, layer in layers.items() if name.startswith(BLOCK_NAME))
    return next((dict(annotations) for annotations in found if annotations), {})


def _lay_out_store(place: StorePath, dataset: xr.Dataset, graph: str) -> None:
    dataset = dataset.assign_attrs({**make_geoemb_attrs(dataset["embedding"]), GRAPH: graph})
    encoding = {
        name: choose_encoding(array) for name, array in find_lattice(dataset).arrays.items()
    }
    lay_out(place, dataset, encoding)


def _find_done_blocks(place: StorePath, embedding: xr.DataArray, dataset: xr.Dataset) -> set[Index]:
    remove_torn_files(place)
    stored = open_stored(place)
    check_same_embedding(dataset, stored, place)
    here, encoding = find_block_shape(embedding.variable), stored["embedding"].encoding
    there = encoding.get("shards") or encoding["chunks"]
    if here != there:
        raise StoreError(
            explain(
                f"blocks of {there} cells at {place}",
                f"blocks of {here}, as the embedding has them now",
                "Open the cube with the dtype and dates per chunk that it had before, or embed "
                "with the version of xr_terramind that began the store.",
            )
        )
    lattice = find_lattice(dataset)
    done = set.intersection(*(_list_written(place, lattice, array) for array in lattice.arrays))
    if done and stored.attrs.get(GRAPH) != embedding.data.name:
        cells = _choose_block_to_compare(lattice, _restore_floats(stored), sorted(done))
        check_same_values(embedding, stored, cells, place)
    return done


def _choose_block_to_compare(
    lattice: Lattice, stored: xr.DataArray, done: list[Index]
) -> tuple[slice, ...]:
    # The block nearest to the middle that holds data: one without would be the same in any cube.
    middle = len(done) // 2
    for block in sorted(done, key=lambda block: abs(done.index(block) - middle)):
        cells = lattice.region("embedding", block).slices
        if stored[cells].isel(feature=0).notnull().any():
            return cells
    return lattice.region("embedding", done[middle]).slices


def _list_written(place: StorePath, lattice: Lattice, array: str) -> set[Index]:
    # Of one array: a coordinate without features stands where its own block stands.
    stored = list_blocks(place, array)
    return {block for block in lattice.blocks if lattice.position(array, block) in stored}


def _write_blocks(
    place: StorePath,
    lattice: Lattice,
    missing: list[Index],
    embedding: xr.DataArray,
    *,
    retries: int,
    progress: bool | Console,
) -> dict[Index, Failure]:
    if not missing:
        return {}
    name = f"{TASK_NAME}-{tokenize(str(place), embedding.data.name, sorted(lattice.arrays))}"
    layer: Graph = {}
    for block in missing:
        regions = tuple(lattice.region(array, block) for array in lattice.arrays)
        needs = (lattice.key(array, block) for array in lattice.arrays)
        layer[(name, *block)] = make_task((name, *block), write_block, place, regions, needs=needs)
    sources: list[Any] = [variable.data for variable in lattice.arrays.values()]
    graph = HighLevelGraph.from_collections(name, layer, dependencies=sources)
    console = progress if isinstance(progress, Console) else None
    bar = block_progress(len(missing), console) if progress else nullcontext(lambda: None)
    with bar as advance:
        failures = run_blocks(
            graph, list(layer), retries=retries, on_block=lambda key, result: advance()
        )
    return {tuple(int(part) for part in key[1:]): failure for key, failure in failures.items()}


def _check_written(
    place: StorePath, lattice: Lattice, embedding: xr.DataArray, failures: dict[Index, Failure]
) -> None:
    n_blocks = len(lattice.blocks)
    if failures:
        listed = [
            f"{_describe_region(embedding, lattice.region('embedding', block))}: {failure.reason}"
            for block, failure in sorted(failures.items())
        ]
        more = [f"and {len(listed) - 5} more"] if len(listed) > 5 else []
        raise SourceError(
            explain(
                f"{len(failures)} of {n_blocks} blocks that could not be embedded, though they "
                f"were tried again: {' | '.join(listed[:5] + more)}",
                f"all of them; the other {n_blocks - len(failures)} are written to {place}",
                "Look at the source there, then call again with resume=True.",
            )
        )
    lost = n_blocks - len(_list_written(place, lattice, "embedding"))
    if lost:
        raise StoreError(
            explain(
                f"{lost} of {n_blocks} blocks that workers say they wrote, but not at {place}",
                "a store that all workers and this process share",
                "Write to a network file system or an object store (a URL).",
            )
        )


def _describe_region(embedding: xr.DataArray, region: Region) -> str:
    parts = []
    for dim, span in zip(embedding.dims, region.slices, strict=True):
        if dim != "feature" and dim in embedding.indexes:
            first, last = embedding.indexes[dim][span][[0, -1]]
            parts.append(f"{dim} {first}" + (f" to {last}" if last != first else ""))
    return ", ".join(parts) or "the whole extent"
