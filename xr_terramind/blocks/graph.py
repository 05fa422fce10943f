"""The Dask graph that runs any picklable window function over a plan.

Strategy: one task a block. A block needs a few rectangles of a few source chunks, so small crop
tasks cut these out (workers then exchange rectangles, not chunks), and the block's task joins them
and runs the function. Its output stands in the graph once, and the chunks of the results are cut
out of it. Nothing is rechunked, and the source is read once.

What lies across the border of chunks or blocks is copied out: a view would keep its whole chunk,
or its whole block, in memory until the neighbours are there.

This module knows neither torch nor xarray.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, product
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask.array.core import concatenate3
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from xr_terramind.blocks.plan import Plan
from xr_terramind.blocks.windows import AxisBlock

TASK_NAME = "terramind-embed"
"""What the tasks that embed a block are called on the dashboard."""

Graph = dict[Any, Any]
_DATED = 4  # axes of a source with time

BlockFunction = Callable[[np.ndarray, AxisBlock, AxisBlock], np.ndarray]


class Piece(NamedTuple):
    """The part of one chunk that a region needs, along one axis."""

    chunk: int
    start: int
    stop: int
    is_whole: bool


def pieces(sizes: Sequence[int], start: int, stop: int) -> list[Piece]:
    """Find the chunks that cover [start, stop), and which part of each.

    Parameters
    ----------
    sizes : sequence of int
        Of the chunks along one axis.
    start, stop : int
        The region, counted from the axis's first element.

    Returns
    -------
    list of Piece
        In order; their lengths add up to ``stop - start``.
    """
    edges = np.concatenate([[0], np.cumsum(sizes)])
    first = int(np.searchsorted(edges, start, side="right")) - 1
    found = []
    for chunk in range(first, len(sizes)):
        low, high = int(edges[chunk]), int(edges[chunk + 1])
        if low >= stop:
            break
        inner = max(start, low) - low, min(stop, high) - low
        if inner[0] < inner[1]:  # chunks may be empty
            found.append(Piece(chunk, *inner, is_whole=inner == (0, high - low)))
    return found


def map_blocks(
    source: da.Array, plan: Plan, function: BlockFunction, *, n_features: int, name: str
) -> tuple[da.Array, da.Array]:
    """Run a function over the blocks of a plan.

    Parameters
    ----------
    source : dask.array.Array, shape ([time,] band, y, x)
        In any chunks of known sizes.
    plan : Plan
        The blocks, and the chunks of the results.
    function : callable
        ``function(pixels, rows, cols)`` with pixels (time, band, y, x) returns float32
        (time, n_features + 1, y, x). It is pickled into the graph.
    n_features : int
        Features of the first result.
    name : str
        What tasks are called on the dashboard.

    Returns
    -------
    features : dask.array.Array, shape ([time,] n_features, y, x)
        All but the last of the function's outputs.
    last : dask.array.Array, shape ([time,] y, x)
        The last of them.
    """
    token = tokenize(source.name, plan, function, n_features)
    blocks = f"{name}-{token}"
    reads: Any = [source]  # Dask's own Array does not meet Dask's own protocol for mypy
    tasks = _block_tasks(source, plan, function, blocks)
    graph = HighLevelGraph.from_collections(blocks, tasks, dependencies=reads)
    edges = _edge_tasks(plan, blocks)
    if edges:
        graph = _with_layer(graph, f"{blocks}-edge", edges, {blocks})
    dated = source.ndim == _DATED
    outputs = ("features", slice(0, n_features)), ("valid", n_features)
    features, last = (
        _output(graph, blocks, plan, f"{name}-{what}-{token}", select, dated=dated)
        for what, select in outputs
    )
    return features, last


def _block_tasks(source: da.Array, plan: Plan, function: BlockFunction, name: str) -> Graph:
    *time_chunks, band_chunks, row_chunks, col_chunks = source.chunks
    times = [[pieces(chunks, *dates) for chunks in time_chunks] for dates in plan.time_blocks]
    bands = pieces(band_chunks, 0, source.shape[-3])
    rows = [pieces(row_chunks, block.read_start, block.read_stop) for block in plan.row_blocks]
    cols = [pieces(col_chunks, block.read_start, block.read_stop) for block in plan.col_blocks]
    graph: Graph = {}
    for t, i, j in product(range(len(times)), range(len(rows)), range(len(cols))):
        axes = (*times[t], bands, rows[i], cols[j])
        parts = _crops(graph, source.name, f"{name}-crop", axes)
        # A partial, as Dask would look for keys inside tuples like AxisBlock.
        run = partial(run_block, function, plan.row_blocks[i], plan.col_blocks[j])
        graph[(name, t, i, j)] = (run, parts)
    return graph


def _crops(graph: Graph, source: str, name: str, axes: Sequence[list[Piece]]) -> Any:
    # Nested lists of keys, one level an axis; the crop tasks that they name go into the graph.
    waits = any(len(pieces_along) > 1 for pieces_along in axes)
    cut = copy_part if waits else view_part

    def nest(chosen: tuple[Piece, ...]) -> Any:
        if len(chosen) < len(axes):
            return [nest((*chosen, piece)) for piece in axes[len(chosen)]]
        key = (source, *(piece.chunk for piece in chosen))
        if all(piece.is_whole for piece in chosen):
            return key
        crop_key = (name, *(n for piece in chosen for n in piece[:3]))
        graph[crop_key] = (partial(cut, slices=_slices(chosen)), key)
        return crop_key

    return nest(())


def view_part(array: np.ndarray, slices: tuple[slice, ...]) -> np.ndarray:
    """Return a part of an array that is used at once, and so needs no memory of its own.

    Parameters
    ----------
    array : ndarray
    slices : tuple of slice

    Returns
    -------
    ndarray
    """
    return array[slices]


def copy_part(array: np.ndarray, slices: tuple[slice, ...]) -> np.ndarray:
    """Copy a part of an array, so that the rest of it can be let go.

    Parameters
    ----------
    array : ndarray
    slices : tuple of slice

    Returns
    -------
    ndarray
    """
    return array[slices].copy()


def _slices(chosen: Sequence[Piece]) -> tuple[slice, ...]:
    return tuple(slice(piece.start, piece.stop) for piece in chosen)


def run_block(
    function: BlockFunction, rows: AxisBlock, cols: AxisBlock, parts: list[Any]
) -> np.ndarray:
    """Join a block's rectangles and run the function on them.

    Parameters
    ----------
    function : callable
    rows, cols : AxisBlock
    parts : nested lists of ndarray
        One level each for time (where the source has it), band, y and x.

    Returns
    -------
    ndarray, shape (time, n_features + 1, y, x)
    """
    pixels = join(parts)
    return function(pixels if pixels.ndim == _DATED else pixels[None], rows, cols)


def join(parts: list[Any]) -> np.ndarray:
    """Join nested lists of arrays; a single one is passed on without a copy.

    Parameters
    ----------
    parts : nested lists of ndarray
        One level an axis.

    Returns
    -------
    ndarray
    """
    inner: Any = parts
    while isinstance(inner, list) and len(inner) == 1:
        inner = inner[0]
    return np.asarray(concatenate3(parts) if isinstance(inner, list) else inner)


def _with_layer(graph: HighLevelGraph, name: str, layer: Graph, needs: set[str]) -> HighLevelGraph:
    return HighLevelGraph({**graph.layers, name: layer}, {**graph.dependencies, name: needs})


def _output_pieces(plan: Plan) -> tuple[list[list[Piece]], ...]:
    # Of which blocks each chunk of the result consists, along time, y and x. Without overlap of
    # one, as a whole; with it, blocks reach half an overlap into the next chunk.
    times, rows, cols = (
        [
            pieces(block_sizes, stop - size, stop)
            for size, stop in zip(sizes, accumulate(sizes), strict=True)
        ]
        for block_sizes, sizes in zip(plan.block_sizes, plan.chunk_sizes, strict=True)
    )
    return times, rows, cols


def _edge_tasks(plan: Plan, blocks: str) -> Graph:
    # The last rows of a block wait for the next row of blocks: they are copied out, so that the
    # block itself need not wait.
    times, _, cols = (range(len(sizes)) for sizes in plan.block_sizes)
    everything = slice(None)
    return {
        _edge_key(blocks, t, row, j): (
            partial(copy_part, slices=(everything, everything, slice(row.start, row.stop))),
            (blocks, t, row.chunk, j),
        )
        for chunk in _output_pieces(plan)[1]
        for row in chunk
        if row.start > 0
        for t, j in product(times, cols)
    }


def _edge_key(blocks: str, t: int, row: Piece, j: int) -> tuple[str | int, ...]:
    return (f"{blocks}-edge", t, row.chunk, j, row.start)


def _output(
    graph: HighLevelGraph, blocks: str, plan: Plan, name: str, select: slice | int, *, dated: bool
) -> da.Array:
    times, rows, cols = _output_pieces(plan)
    feature_axis = () if isinstance(select, int) else (0,)

    def key(t: Piece, row: Piece, col: Piece) -> tuple[str | int, ...]:
        if row.start > 0:
            return _edge_key(blocks, t.chunk, row, col.chunk)
        return (blocks, t.chunk, row.chunk, col.chunk)

    layer: Graph = {}
    for t, i, j in product(range(len(times)), range(len(rows)), range(len(cols))):
        keys = [[[key(a, b, c) for c in cols[j]] for b in rows[i]] for a in times[t]]
        shifted = [row._replace(start=0, stop=row.stop - row.start) for row in rows[i]]
        cut = partial(select_output, times[t], shifted, cols[j], select, dated=dated)
        layer[(name, *(t,) * dated, *feature_axis, i, j)] = (cut, keys)
    feature_chunks = () if isinstance(select, int) else ((select.stop,),)
    chunks = (*plan.chunk_sizes[: int(dated)], *feature_chunks, *plan.chunk_sizes[1:])
    graph = _with_layer(graph, name, layer, set(graph.layers) & {blocks, f"{blocks}-edge"})
    return da.Array(graph, name, chunks, dtype=np.float32)


def select_output(
    times: list[Piece],
    rows: list[Piece],
    cols: list[Piece],
    select: slice | int,
    blocks: list[list[list[np.ndarray]]],
    *,
    dated: bool,
) -> np.ndarray:
    """Cut one chunk of a result out of the blocks that hold it.

    Parameters
    ----------
    times, rows, cols : list of Piece
        Which part of each block.
    select : slice or int
        Which of the function's outputs.
    blocks : nested lists of ndarray, shape (time, n_features + 1, y, x)
        One level each for time, y and x.
    dated : bool
        Keep the axis of time.

    Returns
    -------
    ndarray, shape ([time,] feature, y, x), or ([time,] y, x) for a single output
    """
    parts = [
        [[_cut(block, (a, b, c), select) for block, c in zip(run, cols, strict=True)]
         for run, b in zip(plane, rows, strict=True)]
        for plane, a in zip(blocks, times, strict=True)
    ]  # fmt: skip
    rows_at = -2
    chunk = np.concatenate(
        [
            np.concatenate([np.concatenate(run, axis=-1) for run in plane], axis=rows_at)
            for plane in parts
        ]
    )
    return chunk if dated else chunk[0]


def _cut(block: np.ndarray, chosen: tuple[Piece, Piece, Piece], select: slice | int) -> np.ndarray:
    times, rows, cols = _slices(chosen)
    return block[times, select, rows, cols]
