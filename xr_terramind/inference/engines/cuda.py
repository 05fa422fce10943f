"""What CUDA devices gain by: copies beside the model, and encoders recorded as CUDA graphs."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import torch

from xr_terramind.inference.engines.base import Streams, Waiting

Encoder = Callable[[torch.Tensor], torch.Tensor]


class CudaStreams(Streams):
    """Copies in both directions on streams of their own, through page-locked memory.

    Launched work is only enqueued: while one batch runs, the next one's windows go up and the last
    one's tokens come down. Page-locked memory is torch's own cache of it, which hands a buffer out
    again only after the copies from it have ended.
    """

    n_under_way = 4  # one runs while others are gathered, go up and come down
    enqueues = True

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self._up = torch.cuda.Stream(torch.device(device))
        self._down = torch.cuda.Stream(torch.device(device))

    def host_buffer(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """Return page-locked memory."""
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        return torch.empty(tuple(shape), dtype=kind, pin_memory=True).numpy()

    def on_device(self) -> AbstractContextManager[Any]:
        """Make the device the current one of this thread."""
        return torch.cuda.device(self.device)

    def upload(self, host: np.ndarray) -> torch.Tensor:
        """Enqueue a copy to the device."""
        running = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._up):
            there = torch.from_numpy(host).to(self.device, non_blocking=True)
        running.wait_stream(self._up)
        there.record_stream(running)  # its memory belongs to the stream that allocated it
        return there

    def download(self, *there: torch.Tensor) -> Waiting:
        """Enqueue copies to page-locked memory."""
        self._down.wait_stream(torch.cuda.current_stream(self.device))
        arrived = []
        with torch.cuda.stream(self._down):
            for tensor in there:
                host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
                arrived.append(host.copy_(tensor, non_blocking=True))
                tensor.record_stream(self._down)
            done = self._down.record_event()

        def wait() -> tuple[np.ndarray, ...]:
            done.synchronize()  # other Python threads run meanwhile
            return tuple(host.numpy() for host in arrived)

        return wait


WARM_UPS = 3
"""Forward passes before a recording: libraries choose kernels and take workspaces in the first."""


class _Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    images: torch.Tensor
    tokens: torch.Tensor


def padded_size(n_windows: int) -> int:
    """Return the batch size that a batch is padded to.

    Multiples of 4 up to 32, of 16 up to 128, of 32 beyond: eighteen shapes up to 256. Less than a
    third of the windows that run are padding, and never more than three up to 32.
    """
    step = 4 if n_windows <= 32 else 16 if n_windows <= 128 else 32
    return math.ceil(n_windows / step) * step


class FixedShapes:
    """Pad batches to a few sizes and run them, on CUDA by replaying a graph.

    A small encoder launches some two hundred kernels per batch, which take a CPU longer to launch
    than a large GPU to run. A graph launches them at once, but only ever for the shape that it was
    recorded with. The padding's tokens are cut off: windows do not see each other.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._recordings: dict[tuple[int, ...], _Recording] = {}

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Encode images (window, band, y, x) to tokens (window, patch, feature).

        On CUDA those are a view of memory that the next call overwrites.
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
