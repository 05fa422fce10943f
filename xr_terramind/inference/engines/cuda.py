"""An encoder at a few batch sizes only, each recorded once as a CUDA graph.

A small encoder launches some two hundred kernels a batch, which take a CPU longer to launch than a
large GPU to run. A graph launches them at once, but only ever for the shape it was recorded with.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    Encoder = Callable[[torch.Tensor], torch.Tensor]

WARM_UPS = 3
"""Forward passes before a recording: libraries choose kernels and take workspaces in the first."""


class _Recording(NamedTuple):
    graph: "torch.cuda.CUDAGraph"
    images: torch.Tensor
    tokens: torch.Tensor


def padded_size(n_windows: int) -> int:
    """Return the batch size that a batch is padded to.

    Parameters
    ----------
    n_windows : int

    Returns
    -------
    int
        Multiples of 4 up to 32, of 16 up to 128, of 32 beyond: eighteen shapes up to 256. Less
        than a third of the windows that run are padding, and never more than three up to 32.
    """
    step = 4 if n_windows <= 32 else 16 if n_windows <= 128 else 32
    return math.ceil(n_windows / step) * step


class FixedShapes:
    """Pad batches to a few sizes and run them, on CUDA by replaying a graph.

    The padding's tokens are cut off. Windows do not see each other, so that it changes nothing.

    Parameters
    ----------
    encoder : callable
        Images (window, band, y, x) to tokens (window, patch, feature).
    """

    def __init__(self, encoder: "Encoder") -> None:
        self.encoder = encoder
        self._recordings: dict[tuple[int, ...], _Recording] = {}

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Encode images.

        Parameters
        ----------
        images : Tensor, shape (window, band, y, x)

        Returns
        -------
        Tensor, shape (window, patch, feature)
            On CUDA a view of memory that the next call overwrites.
        """
        n_windows = len(images)
        shape = (padded_size(n_windows), *images.shape[1:])
        if images.device.type != "cuda":
            padded = images.new_zeros(shape)
            padded[:n_windows] = images
            return self.encoder(padded)[:n_windows]
        if shape not in self._recordings:
            self._recordings[shape] = self._record(images.new_zeros(shape))
        recording = self._recordings[shape]
        recording.images[:n_windows].copy_(images)  # behind them stand those of an earlier batch
        recording.graph.replay()
        return recording.tokens[:n_windows]

    def _record(self, images: torch.Tensor) -> _Recording:
        running, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(running)
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                self.encoder(images)
        running.wait_stream(aside)
        # One after another they may work in the same memory.
        pool = next((found.graph.pool() for found in self._recordings.values()), None)
        graph = torch.cuda.CUDAGraph()
        # Other threads page-lock memory meanwhile, which a recording of the process would refuse.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            tokens = self.encoder(images)
        return _Recording(graph, images, tokens)
