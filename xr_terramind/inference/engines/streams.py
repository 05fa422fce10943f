"""Windows up to the device and tokens back down, beside the model where the device can do that."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch

Waiting = Callable[[], tuple[np.ndarray, ...]]
"""A function that waits until arrays are on the host, and returns them."""

BATCHES_UNDER_WAY = 2
"""One runs while the host gathers the next."""

CUDA_BATCHES_UNDER_WAY = 4
"""One runs while others are gathered, go up and come down."""


class Streams(Protocol):
    """How arrays reach a device and come back.

    Attributes
    ----------
    n_under_way : int
        Batches that may be between the gathering of their windows and the arrival of their tokens.
    """

    n_under_way: int

    def host_buffer(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """Return memory that windows are gathered into; what it holds is undefined."""

    def on_device(self) -> AbstractContextManager[Any]:
        """Make the device the current one of this thread."""

    def upload(self, host: np.ndarray) -> "torch.Tensor":
        """Copy an array to the device; what is launched next on it waits for the copy."""

    def download(self, *there: "torch.Tensor") -> Waiting:
        """Begin to copy tensors to the host; the function returned waits until they are there."""


class HostStreams:
    """Copies that end before the next step begins: CPU, and Apple's GPUs.

    Parameters
    ----------
    device : str
    """

    n_under_way = BATCHES_UNDER_WAY

    def __init__(self, device: str) -> None:
        self.device = device

    def host_buffer(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """Return ordinary memory."""
        return np.empty(shape, dtype)

    def on_device(self) -> AbstractContextManager[Any]:
        """Do nothing: tensors name their device."""
        return nullcontext()

    def upload(self, host: np.ndarray) -> "torch.Tensor":
        """Copy an array to the device; on a CPU, share its memory."""
        import torch

        return torch.from_numpy(host).to(self.device)

    def download(self, *there: "torch.Tensor") -> Waiting:
        """Copy tensors to the host at once."""
        arrays = tuple(tensor.cpu().numpy() for tensor in there)
        return lambda: arrays


class CudaStreams:
    """Copies in both directions on streams of their own, through page-locked memory.

    Launched work is only enqueued: while one batch runs, the next one's windows go up and the last
    one's tokens come down. Page-locked memory is torch's own cache of it, which hands a buffer out
    again only after the copies from it have ended.

    Parameters
    ----------
    device : str
    """

    n_under_way = CUDA_BATCHES_UNDER_WAY

    def __init__(self, device: str) -> None:
        import torch

        self.device = torch.device(device)
        self._up = torch.cuda.Stream(self.device)
        self._down = torch.cuda.Stream(self.device)

    def host_buffer(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """Return page-locked memory."""
        import torch

        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        return torch.empty(tuple(shape), dtype=kind, pin_memory=True).numpy()

    def on_device(self) -> AbstractContextManager[Any]:
        """Make the device the current one of this thread."""
        import torch

        return torch.cuda.device(self.device)

    def upload(self, host: np.ndarray) -> "torch.Tensor":
        """Enqueue a copy to the device."""
        import torch

        running = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._up):
            there = torch.from_numpy(host).to(self.device, non_blocking=True)
        running.wait_stream(self._up)
        there.record_stream(running)  # its memory belongs to the stream that allocated it
        return there

    def download(self, *there: "torch.Tensor") -> Waiting:
        """Enqueue copies to page-locked memory."""
        import torch

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


def streams_for(device: str) -> Streams:
    """Return the way to a device and back.

    Parameters
    ----------
    device : str
        As torch names it.

    Returns
    -------
    Streams
    """
    return CudaStreams(device) if device.startswith("cuda") else HostStreams(device)
