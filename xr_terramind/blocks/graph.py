"""The Dask graph that runs any picklable window function over a plan.

Strategy: one task per block. A block needs a few rectangles of a few source chunks, so small crop
tasks cut these out (workers then exchange rectangles, not chunks), and the block's task joins them
and runs the function. Its output stands in the graph once, and the chunks of the results are cut
out of it. Nothing is rechunked, and the source is read once.

What lies across the border of chunks or blocks is copied out: a view would keep its whole chunk,
or its whole block, in memory until the neighbours are there.

This module knows neither torch nor xarray.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate, product
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from xr_terramind.blocks.dask_tasks import Graph, Key, make_task
from xr_terramind.blocks.plan import Plan, split_images
from xr_terramind.blocks.windows import AxisBlock

TASK_NAME = "terramind-embed"
"""What the tasks that embed a block are called on the dashboard."""

_EVERYTHING = slice(None)

BlockFunction = Callable[[np.ndarray, AxisBlock, AxisBlock], np.ndarray]


class Piece(NamedTuple):
    """The part of one chunk that a region needs, along one axis."""

    chunk: int
    start: int
    stop: int
    part: slice
    is_whole: bool


def find_pieces(sizes: Sequence[int], start: int, stop: int) -> list[Piece]:
    """Find the chunks that cover [start, stop) of an axis, and which part of each."""
    edges = np.concatenate([[0], np.cumsum(sizes)])
    first = int(np.searchsorted(edges, start, side="right")) - 1
    found = []
    for chunk in range(first, len(sizes)):
        low, high = int(edges[chunk]), int(edges[chunk + 1])
        if low >= stop:
            break
        inner = max(start, low) - low, min(stop, high) - low
        if inner[0] < inner[1]:  # chunks may be empty
            found.append(Piece(chunk, *inner, slice(*inner), is_whole=inner == (0, high - low)))
    return found


def map_blocks(
    source: da.Array, plan: Plan, function: BlockFunction, *, n_features: int, name: str
) -> tuple[da.Array, da.Array]:
    """Run a function over the blocks of a plan.

    Parameters
    ----------
    source : dask.array.Array, shape (..., band, y, x)
        In any chunks of known sizes. The axes in front, none or many, are one axis of images in the
        plan and for the function: the last of them fastest.
    plan : Plan
        The blocks, and the chunks of the results.
    function : callable
        ``function(pixels, rows, cols)`` with pixels (image, band, y, x) returns float32
        (image, n_features + 1, y, x). It is pickled into the graph.
    n_features : int
        Features of the first result.
    name : str
        What tasks are called on the dashboard.

    Returns
    -------
    features : dask.array.Array, shape (..., n_features, y, x)
        All but the last of the function's outputs.
    last : dask.array.Array, shape (..., y, x)
        The last of them.
    """
    token = tokenize(source.name, plan, function, n_features)
    blocks = f"{name}-{token}"
    reads: Any = [source]  # Dask's own Array does not meet Dask's own protocol for mypy
    tasks = _make_block_tasks(source, plan, function, blocks)
    graph = HighLevelGraph.from_collections(blocks, tasks, dependencies=reads)
    edges = _make_edge_tasks(plan, blocks)
    if edges:
        graph = _add_layer(graph, _edge_name(blocks), edges, {blocks})
    outputs = ("features", slice(0, n_features)), ("valid", n_features)
    features, last = (
        _make_output(graph, blocks, plan, f"{name}-{what}-{token}", select, source.shape[:-3])
        for what, select in outputs
    )
    return features, last


def _make_block_tasks(source: da.Array, plan: Plan, function: BlockFunction, name: str) -> Graph:
    *image_chunks, band_chunks, row_chunks, col_chunks = source.chunks
    images = [
        [find_pieces(chunks, *span) for chunks, span in zip(image_chunks, spans, strict=True)]
        for spans in product(*split_images(source.shape[:-3], plan.times_per_block))
    ]
    bands = find_pieces(band_chunks, 0, source.shape[-3])
    rows = [find_pieces(row_chunks, block.read_start, block.read_stop) for block in plan.row_blocks]
    cols = [find_pieces(col_chunks, block.read_start, block.read_stop) for block in plan.col_blocks]
    graph: Graph = {}
    for t, i, j in product(range(len(images)), range(len(rows)), range(len(cols))):
        axes = (*images[t], bands, rows[i], cols[j])
        needs = _add_crops(graph, source.name, f"{name}-crop", axes)
        counts = tuple(map(len, axes))
        spans = plan.row_blocks[i], plan.col_blocks[j]
        key = name, t, i, j
        graph[key] = make_task(key, run_block, function, *spans, counts, needs=needs)
    return graph


def _add_crops(graph: Graph, source: str, name: str, axes: Sequence[list[Piece]]) -> list[Key]:
    # The keys of a block's rectangles, the last axis fastest; tasks that cut them go into the
    # graph. A single rectangle is used at once, and so needs no memory of its own.
    cut = copy_part if any(len(pieces) > 1 for pieces in axes) else view_part
    keys: list[Key] = []
    for chosen in product(*axes):
        chunks, starts, stops, slices, are_whole = zip(*chosen, strict=True)
        key: Key = (source, *chunks)
        if not all(are_whole):
            chunk, key = key, (name, *chunks, *starts, *stops)
            graph[key] = make_task(key, cut, slices, needs=(chunk,))
        keys.append(key)
    return keys


def view_part(slices: tuple[slice, ...], array: np.ndarray) -> np.ndarray:
    """Return a part of an array that is used at once."""
    return array[slices]


def copy_part(slices: tuple[slice, ...], array: np.ndarray) -> np.ndarray:
    """Copy a part of an array, so that the rest of it can be let go."""
    return array[slices].copy()


def run_block(
    function: BlockFunction,
    rows: AxisBlock,
    cols: AxisBlock,
    counts: tuple[int, ...],
    *parts: np.ndarray,
) -> np.ndarray:
    """Join a block's rectangles, so many along each axis, and run the function on them."""
    pixels = np.asarray(parts[0]) if len(parts) == 1 else join(parts, counts)
    # (image, n_features + 1, y, x)
    return function(pixels.reshape(-1, *pixels.shape[-3:]), rows, cols)


def join(parts: Sequence[np.ndarray], counts: Sequence[int]) -> np.ndarray:
    """Join arrays into a new one: `counts` of them along each axis, the last axis fastest."""
    nested: Any = list(parts)
    for count in reversed(counts):
        nested = [nested[start : start + count] for start in range(0, len(nested), count)]
    return np.ascontiguousarray(np.block(nested[0]))


def _add_layer(graph: HighLevelGraph, name: str, layer: Graph, needs: set[str]) -> HighLevelGraph:
    return HighLevelGraph({**graph.layers, name: layer}, {**graph.dependencies, name: needs})


def _find_output_pieces(plan: Plan) -> tuple[list[list[Piece]], ...]:
    # Of which blocks each chunk of the result consists, along time, y and x. Without overlap of
    # one, as a whole; with it, blocks reach half an overlap into the next chunk.
    times, rows, cols = (
        [
            find_pieces(block_sizes, stop - size, stop)
            for size, stop in zip(sizes, accumulate(sizes), strict=True)
        ]
        for block_sizes, sizes in zip(plan.block_sizes, plan.chunk_sizes, strict=True)
    )
    return times, rows, cols


def _make_edge_tasks(plan: Plan, blocks: str) -> Graph:
    # The last rows of a block wait for the next row of blocks: they are copied out, so that the
    # block itself need not wait.
    times, _, cols = (range(len(sizes)) for sizes in plan.block_sizes)
    graph: Graph = {}
    for row in (piece for chunk in _find_output_pieces(plan)[1] for piece in chunk if piece.start):
        slices = (_EVERYTHING, _EVERYTHING, row.part)
        for t, j in product(times, cols):
            key = _edge_key(blocks, t, row, j)
            graph[key] = make_task(key, copy_part, slices, needs=((blocks, t, row.chunk, j),))
    return graph


def _edge_name(blocks: str) -> str:
    return f"{blocks}-edge"


def _edge_key(blocks: str, t: int, row: Piece, j: int) -> Key:
    return (_edge_name(blocks), t, row.chunk, j, row.start)


def _make_output(
    graph: HighLevelGraph,
    blocks: str,
    plan: Plan,
    name: str,
    select: slice | int,
    image_sizes: tuple[int, ...],
) -> da.Array:
    times, rows, cols = _find_output_pieces(plan)
    # Blocks hold whole images, and so the chunks along all axes in front are those of the blocks.
    image_chunks = [
        tuple(stop - start for start, stop in spans)
        for spans in split_images(image_sizes, plan.times_per_block)
    ]
    places = list(product(*(range(len(sizes)) for sizes in image_chunks)))
    shapes = list(product(*image_chunks))
    feature_axis = () if isinstance(select, int) else (0,)

    def source_key(t: Piece, row: Piece, col: Piece) -> Key:
        if row.start > 0:
            return _edge_key(blocks, t.chunk, row, col.chunk)
        return (blocks, t.chunk, row.chunk, col.chunk)

    # What was copied out of a block's edge begins at 0.
    row_slices = [[slice(0, row.stop - row.start) for row in pieces] for pieces in rows]
    time_slices, col_slices = (
        [[piece.part for piece in pieces] for pieces in axis] for axis in (times, cols)
    )
    layer: Graph = {}
    for t, i, j in product(range(len(times)), range(len(rows)), range(len(cols))):
        key = (name, *places[t], *feature_axis, i, j)
        slices = time_slices[t], row_slices[i], col_slices[j]
        needs = [source_key(*chosen) for chosen in product(times[t], rows[i], cols[j])]
        layer[key] = make_task(key, select_output, slices, select, shapes[t], needs=needs)
    feature_chunks = () if isinstance(select, int) else ((select.stop,),)
    chunks = (*image_chunks, *feature_chunks, *plan.chunk_sizes[1:])
    graph = _add_layer(graph, name, layer, set(graph.layers) & {blocks, _edge_name(blocks)})
    return da.Array(graph, name, chunks, dtype=np.float32)


def select_output(
    slices: tuple[Sequence[slice], Sequence[slice], Sequence[slice]],
    select: slice | int,
    image_shape: tuple[int, ...],
    *blocks: np.ndarray,
) -> np.ndarray:
    """Cut one chunk of a result out of the blocks that hold it.

    Parameters
    ----------
    slices : tuple of lists of slice
        Which part of each block, along images, y and x.
    select : slice or int
        Which of the function's outputs.
    image_shape : tuple of int
        The chunk's axes in front, of which the images are one.
    *blocks : ndarray, shape (image, n_features + 1, y, x)
        As many as `slices` has combinations, the last axis fastest.

    Returns
    -------
    ndarray, shape (..., feature, y, x), or (..., y, x) for a single output
    """
    parts = [
        block[times, select, rows, cols]
        for block, (times, rows, cols) in zip(blocks, product(*slices), strict=True)
    ]
    n_times, n_rows, n_cols = map(len, slices)
    feature_axis = () if isinstance(select, int) else (1,)
    chunk = join(parts, (n_times, *feature_axis, n_rows, n_cols))
    return chunk.reshape(*image_shape, *chunk.shape[1:])
