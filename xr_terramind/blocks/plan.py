"""Group windows into blocks: one block is one task, of bounded size."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

from xr_terramind.blocks.windows import Axis, AxisBlock, Span, check_window
from xr_terramind.model.specs import PATCH_PX

MAX_BLOCK_BYTES = 256 * 2**20
"""Input that one task may hold: 3,300 x 3,300 pixels of 12 int16 bands."""

WANTED_BLOCKS = 128
"""Blocks that a cube is cut into where bytes allow: some for every worker, a smooth progress."""

MIN_BLOCKS = 4
"""Blocks that even a small cube is cut into, unless it has fewer windows."""

MIN_BATCH = 9
"""Windows that a block of a small cube still has, so that the encoder gets batches."""


class _BlockCounts(NamedTuple):
    wanted_blocks: int
    min_blocks: int
    min_batch: int


_counts: ContextVar[_BlockCounts | None] = ContextVar("block counts", default=None)


@contextmanager
def set_block_counts(*, wanted_blocks: int, min_blocks: int, min_batch: int) -> Iterator[None]:
    """Plan with other numbers than those above, as tests do that need many small blocks."""
    token = _counts.set(_BlockCounts(wanted_blocks, min_blocks, min_batch))
    try:
        yield
    finally:
        _counts.reset(token)


@dataclass(frozen=True)
class Plan:
    """Which blocks a cube is cut into; each block is one task.

    Attributes
    ----------
    n_times : int
        Images of the cube: dates, or entries of whatever dims it has in front (1 without any).
    rows, cols : Axis
        The windows along y and x.
    times_per_block : int
        Images that one block covers, as `split_images` groups them.
    row_blocks, col_blocks : tuple of AxisBlock
        One axis of each block; blocks are their product with the blocks of images.
    out_chunk : tuple of int
        Cells (image, y, x) of a chunk of the result. All chunks but the last of an axis have this
        size, as Zarr asks; with an overlap the blocks' own borders lie half an overlap further.
    """

    n_times: int
    rows: Axis
    cols: Axis
    times_per_block: int
    row_blocks: tuple[AxisBlock, ...]
    col_blocks: tuple[AxisBlock, ...]
    out_chunk: tuple[int, int, int]

    @property
    def time_blocks(self) -> tuple[tuple[int, int], ...]:
        """Images [start, stop) of each block."""
        return tuple(_split(self.n_times, self.times_per_block))

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """The windows along y and x."""
        return self.rows, self.cols

    @property
    def block_sizes(self) -> tuple[tuple[int, ...], ...]:
        """Output cells (image, y, x) of the blocks along each axis."""
        return (
            tuple(stop - start for start, stop in self.time_blocks),
            tuple(block.out_stop - block.out_start for block in self.row_blocks),
            tuple(block.out_stop - block.out_start for block in self.col_blocks),
        )

    @property
    def chunk_sizes(self) -> tuple[tuple[int, ...], ...]:
        """Output cells (image, y, x) of the result's chunks along each axis."""
        return tuple(
            tuple(stop - start for start, stop in _split(total, size))
            for total, size in zip(self.out_shape, self.out_chunk, strict=True)
        )

    @property
    def n_windows(self) -> int:
        """Windows over all images, and so what passes through the encoder."""
        spans = [sum(len(b.spans) for b in blocks) for blocks in (self.row_blocks, self.col_blocks)]
        return self.n_times * spans[0] * spans[1]

    @property
    def n_blocks(self) -> int:
        """Blocks, and so embedding tasks."""
        return len(self.time_blocks) * len(self.row_blocks) * len(self.col_blocks)

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """Cells of the output (image, y, x)."""
        return self.n_times, self.row_blocks[-1].out_stop, self.col_blocks[-1].out_stop


def plan_windows(
    shape: tuple[int, int, int],
    *,
    window_px: int,
    overlap_px: int,
    pixel_bytes: int,
    times_per_chunk: int = 1,
    per_window: bool = False,
    in_memory: bool = False,
    image_sizes: tuple[int, ...] = (),
) -> Plan:
    """Lay windows over a source grid and group them into blocks of bounded size.

    Blocks depend on the extent and on bytes, not on how the source is chunked in space.

    Parameters
    ----------
    shape : tuple of int
        (image, y, x) of the source, in images and pixels.
    window_px, overlap_px : int
        Edge of a window and the pixels that neighbours share.
    pixel_bytes : int
        Bytes of one pixel, all bands together, in the source's dtype.
    times_per_chunk : int
        Images that come out of the source together; they share a block where they fit.
    per_window : bool
        One output cell per window instead of one per patch.
    in_memory : bool
        The source is in memory already: make one block of it all.
    image_sizes : tuple of int
        Sizes of the axes that hold the images, where there are several.

    Raises
    ------
    GridError
        Where window and overlap are no multiples of 16 and 32, or the overlap is too large.
    """
    check_window(window_px, overlap_px)
    n_times, height_px, width_px = shape
    stride_px = window_px - overlap_px
    rows, cols = (Axis(size_px, window_px, stride_px) for size_px in (height_px, width_px))

    total = n_times * rows.n_windows * cols.n_windows
    if in_memory:
        times, per_axis = n_times, max(rows.n_windows, cols.n_windows)
    else:
        counts = _counts.get() or _BlockCounts(WANTED_BLOCKS, MIN_BLOCKS, MIN_BATCH)
        few = min(counts.min_batch, math.ceil(total / counts.min_blocks))
        wanted = max(few, math.ceil(total / counts.wanted_blocks))
        times = max(1, min(times_per_chunk, n_times, wanted))
        times = _fit_images(times, image_sizes) if len(image_sizes) > 1 else times
        edge_px = math.isqrt(MAX_BLOCK_BYTES // (pixel_bytes * times))
        affordable = (edge_px - overlap_px) // stride_px
        per_axis = max(1, min(math.ceil(math.sqrt(wanted / times)), affordable))

    cells = per_axis if per_window else per_axis * stride_px // PATCH_PX
    row_blocks, col_blocks = (
        tuple(axis.block(*run, per_window=per_window) for run in _split(axis.n_windows, per_axis))
        for axis in (rows, cols)
    )
    return Plan(n_times, rows, cols, times, row_blocks, col_blocks, (times, cells, cells))


def plan_resize(shape: tuple[int, int, int], *, window_px: int, per_window: bool = False) -> Plan:
    """Plan one forward pass over the whole extent of each image, resized to `window_px`.

    Each image is one block; its single span covers all patches of the resized image, or the one
    output cell of the extent where `per_window` is asked for.
    """
    check_window(window_px, 0)
    n_times, height_px, width_px = shape
    side = window_px // PATCH_PX
    cells = 1 if per_window else side
    whole = Span(start_px=0, patch_start=0, patch_stop=side, out_start=0, out_stop=cells)
    rows, cols = (Axis(size_px, window_px, window_px) for size_px in (height_px, width_px))
    row_block, col_block = (AxisBlock(0, axis.size_px, 0, cells, (whole,)) for axis in (rows, cols))
    return Plan(n_times, rows, cols, 1, (row_block,), (col_block,), (1, cells, cells))


def split_images(sizes: tuple[int, ...], per_block: int) -> list[list[tuple[int, int]]]:
    """Return [start, stop) of blocks of images along each of their axes; the last is the fastest.

    A block is whole along the last axes, so that its images follow one another.
    """
    spans: list[list[tuple[int, int]]] = []
    for size in reversed(sizes):
        here = max(1, min(per_block, size))
        spans.insert(0, list(_split(size, here)))
        per_block = per_block // size if here == size else 1
    return spans


def _fit_images(most: int, sizes: tuple[int, ...]) -> int:
    # The most images that `split_images` splits evenly: whole along the last axes, and a divisor of
    # the axis before them, unless that is the first.
    count = 1
    for axis in reversed(range(len(sizes))):
        size = sizes[axis]
        if count * size > most:
            here = most // count
            is_first = all(other == 1 for other in sizes[:axis])
            return count * (here if is_first else _largest_divisor(size, here))
        count *= size
    return count


def _largest_divisor(number: int, most: int) -> int:
    return next(n for n in range(most, 0, -1) if number % n == 0)


def _split(total: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, total, size):
        yield start, min(start + size, total)
