"""The plan, integers only: which pixels each window reads and which patches it owns.

Rows and columns are planned apart: a window is a pair of one row span and one column span.
Everything is counted in pixels or patches of the source grid, from its first row and column.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from xr_terramind.errors import GridError, explain
from xr_terramind.model.specs import PATCH_PX


class Span(NamedTuple):
    """What one window contributes to its block, along one axis.

    Attributes
    ----------
    start_px : int
        First pixel that the window reads, counted from the block's first pixel.
    patch_start, patch_stop : int
        The window's own patches that are used.
    out_start, out_stop : int
        Where they go in the block's output.
    """

    start_px: int
    patch_start: int
    patch_stop: int
    out_start: int
    out_stop: int


class AxisBlock(NamedTuple):
    """One axis of a block: pixels in, windows, cells out.

    Attributes
    ----------
    read_start, read_stop : int
        Source pixels that the block reads; never outside the source.
    out_start, out_stop : int
        Cells of the output (patches, or windows) that the block fills.
    spans : tuple of Span
        The windows that fill them.
    """

    read_start: int
    read_stop: int
    out_start: int
    out_stop: int
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Axis:
    """Windows along one axis of the source grid.

    Attributes
    ----------
    size_px : int
        Extent of the source.
    window_px : int
        Edge of a window, a multiple of ``PATCH_PX``.
    stride_px : int
        Distance of two neighbouring windows (the last may be nearer).
    """

    size_px: int
    window_px: int
    stride_px: int

    @property
    def n_patches(self) -> int:
        """Patches that touch the extent; the last may reach past its far edge."""
        return math.ceil(self.size_px / PATCH_PX)

    @property
    def padded_px(self) -> int:
        """Extent that the windows cover: whole patches, and one window at least."""
        return max(self.n_patches * PATCH_PX, self.window_px)

    @property
    def n_windows(self) -> int:
        """Windows needed to cover the extent."""
        return 1 + math.ceil((self.padded_px - self.window_px) / self.stride_px)

    def start(self, window: int) -> int:
        """Return the first pixel of a window; the last is moved inwards to read real pixels."""
        return min(window * self.stride_px, self.padded_px - self.window_px)

    def owned(self, window: int) -> tuple[int, int]:
        """Return the patches [start, stop) that lie deepest in this window.

        A patch lies deepest in the window whose centre is nearest to its own. With the patch
        centre at 16 p + 8 and two window centres at s + w/2 and t + w/2, the earlier window
        keeps p while 2 (16 p + 8) <= s + t + w.
        """
        return self._first_owned(window), self._first_owned(window + 1)

    def _first_owned(self, window: int) -> int:
        if window == 0:
            return 0
        if window == self.n_windows:
            return self.n_patches
        centres = self.start(window - 1) + self.start(window) + self.window_px
        return (centres - PATCH_PX) // (2 * PATCH_PX) + 1

    def block(self, window_start: int, window_stop: int, *, per_window: bool) -> AxisBlock:
        """Group the windows [window_start, window_stop) into one block.

        With `per_window` an output cell is one window, from all its patches that touch the
        extent; without, it is one patch that a window owns.
        """
        windows = range(window_start, window_stop)
        read_start = self.start(window_start)
        read_stop = min(self.start(windows[-1]) + self.window_px, self.size_px)
        make_span = self._window_span if per_window else self._patch_span
        out_start = window_start if per_window else self._first_owned(window_start)
        out_stop = window_stop if per_window else self._first_owned(window_stop)
        spans = tuple(make_span(window, read_start, out_start) for window in windows)
        return AxisBlock(read_start, read_stop, out_start, out_stop, spans)

    def _patch_span(self, window: int, read_start: int, out_start: int) -> Span:
        start_px = self.start(window)
        first, last = self.owned(window)
        return Span(
            start_px=start_px - read_start,
            patch_start=first - start_px // PATCH_PX,
            patch_stop=last - start_px // PATCH_PX,
            out_start=first - out_start,
            out_stop=last - out_start,
        )

    def _window_span(self, window: int, read_start: int, out_start: int) -> Span:
        cell = window - out_start
        return Span(
            start_px=self.start(window) - read_start,
            patch_start=0,
            patch_stop=self.window_patches(window),
            out_start=cell,
            out_stop=cell + 1,
        )

    def window_patches(self, window: int) -> int:
        """Return how many of a window's patches touch the extent."""
        return min(self.window_px // PATCH_PX, self.n_patches - self.start(window) // PATCH_PX)


def check_window(window_px: int, overlap_px: int) -> None:
    """Refuse windows and overlaps that would cut patches.

    Raises
    ------
    GridError
        Unless the window is a multiple of 16 and the overlap a multiple of 32 under it.
    """
    if window_px < PATCH_PX or window_px % PATCH_PX:
        raise GridError(
            explain(
                f"window_size={window_px}",
                f"a positive multiple of {PATCH_PX} pixels (a patch)",
                "224 is what TerraMind was trained on.",
            )
        )
    # Half the overlap goes to each neighbour, and half a patch cannot be owned.
    if not 0 <= overlap_px < window_px or overlap_px % (2 * PATCH_PX):
        raise GridError(
            explain(
                f"overlap={overlap_px}",
                f"a multiple of {2 * PATCH_PX} pixels from 0 to under window_size={window_px}",
                "0, 32 and 64 are usual.",
            )
        )
