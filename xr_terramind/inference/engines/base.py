"""What every engine is: a loaded encoder, and how windows get to it and vectors back."""

import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from xr_terramind.cube.bands import invalid_pixels
from xr_terramind.errors import EngineError, explain
from xr_terramind.inference.device import Runtime, affordable_batch
from xr_terramind.inference.request import EncodeRequest, EncoderKey

if TYPE_CHECKING:
    import torch

Waiting = Callable[[], tuple[np.ndarray, ...]]
"""A function that waits until arrays are on the host, and returns them."""


class Streams:
    """Copies that end before the next step begins: CPU, and Apple's GPUs."""

    n_under_way: ClassVar[int] = 2
    """Batches between gathering and arrival: one runs while the host gathers the next."""

    enqueues: bool = False
    """Whether work is only launched, so that to ask what an array holds would wait for it."""

    def __init__(self, device: str) -> None:
        self.device = device

    def host_buffer(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """Return memory that windows are gathered into; what it holds is undefined."""
        return np.empty(shape, dtype)

    def on_device(self) -> AbstractContextManager[Any]:
        """Make the device the current one of this thread."""
        return nullcontext()  # here, tensors name their device

    def upload(self, host: np.ndarray) -> "torch.Tensor":
        """Copy an array to the device (on a CPU, share its memory) before what is launched next."""
        import torch

        return torch.from_numpy(host).to(self.device)

    def download(self, *there: "torch.Tensor") -> Waiting:
        """Begin to copy tensors to the host; the function returned waits until they are there."""
        arrays = tuple(tensor.cpu().numpy() for tensor in there)
        return lambda: arrays


class Engine(ABC):
    """A loaded encoder with what belongs to it: device, batch size, the way there and back.

    Called in the one thread that runs models (`loaded.to_model_thread`), but for `slots`,
    `batch_size` and ``streams.host_buffer``, which every thread uses.

    Parameters
    ----------
    key : EncoderKey
    runtime : Runtime
        What ``"auto"`` became on this machine.
    n_threads : int
        Threads of the Dask worker around it; 0 leaves the number to the library.

    Attributes
    ----------
    slots : BoundedSemaphore
        One for each batch that may be under way.
    batch_limit : int or None
        The most windows at once; None until memory has run out.
    """

    def __init__(self, key: EncoderKey, runtime: Runtime, n_threads: int = 0) -> None:
        self.key = key
        self.spec = key.spec
        self.device = runtime.device
        self.precision = runtime.precision
        self.n_threads = n_threads
        self.streams = self.open_streams()
        self.slots = threading.BoundedSemaphore(self.streams.n_under_way)
        self.batch_limit: int | None = None
        self._affordable: dict[int, int] = {}
        self.load()

    def open_streams(self) -> Streams:
        """Return the way to the device and back."""
        return Streams(self.device)

    @abstractmethod
    def load(self) -> None:
        """Load what `begin` and `encode_filled` run; the end of ``__init__``."""

    @abstractmethod
    def begin(self, raw: np.ndarray, padding: np.ndarray | None, request: EncodeRequest) -> Waiting:
        """Send one batch of windows through the model.

        Parameters
        ----------
        raw : ndarray, shape (window, band, y, x)
        padding : ndarray of bool, shape (window, y, x), or None
            Further pixels that hold no data.
        request : EncodeRequest

        Returns
        -------
        callable
            It waits for the results and returns

            - tokens, float32, shape (window, row, column, feature): NaN in windows without a
              single valid pixel. Only a device that enqueues its work runs those;
            - valid, float32, shape (window, row, column): share of valid pixels of each patch.

            Where memory is too small, either this call or that function raises.
        """

    @abstractmethod
    def encode_filled(self, pixels: "torch.Tensor", request: EncodeRequest) -> "torch.Tensor":
        """Normalise windows and encode them, turned north up where the cube is not.

        Parameters
        ----------
        pixels : Tensor of float32, shape (window, band, y, x)
            As `upload` returns them, whole patches along y and x; overwritten.
        request : EncodeRequest

        Returns
        -------
        Tensor of float32, shape (window, row, column, feature)
            In the cube's own orientation.
        """

    def batch_size(self, request: EncodeRequest) -> int:
        """Choose how many windows go through at once."""
        size = request.batch_size
        if size == "auto":
            # Asked once: what torch keeps for itself afterwards would count as taken.
            if request.window_px not in self._affordable:
                self._affordable[request.window_px] = affordable_batch(
                    self.spec, self.key.modalities[0], request.window_px, self.device
                )
            size = self._affordable[request.window_px]
        return min(size, self.batch_limit or size)

    def encode(
        self, raw: np.ndarray, padding: np.ndarray | None, request: EncodeRequest
    ) -> tuple[np.ndarray, np.ndarray]:
        """Run one batch of windows through the model and wait; see `begin`."""
        tokens, valid = self.begin(raw, padding, request)()
        return tokens, valid

    def encode_extent(
        self, date: np.ndarray, request: EncodeRequest
    ) -> tuple[np.ndarray, np.ndarray]:
        """Resize a whole extent (band, y, x) to one window and run that.

        Returns
        -------
        vectors : ndarray of float32, shape (row, column, feature)
        invalid : ndarray of bool, shape (y, x)
            Of the source's pixels.
        """
        import torch
        from torch.nn.functional import interpolate

        size = (request.window_px, request.window_px)
        with torch.inference_mode(), self.streams.on_device():
            whole, invalid = self.upload(date[None], None, request)
            image = interpolate(whole, size=size, mode="bilinear", align_corners=False)
            return self.encode_filled(image, request)[0].cpu().numpy(), invalid[0].cpu().numpy()

    @cached_property
    def fill(self) -> "torch.Tensor":
        """What stands in for invalid pixels, in raw values; shape (band, 1, 1)."""
        import torch

        return torch.tensor(self.key.scalings[0].fill, device=self.device)[:, None, None]

    def upload(
        self, raw: np.ndarray, padding: np.ndarray | None, request: EncodeRequest
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Move raw windows to the device, clip them and put the band mean into invalid pixels.

        Returns
        -------
        pixels : Tensor of float32, shape (window, band, y, x)
        invalid : Tensor of bool, shape (window, y, x)
        """
        import torch

        (source,) = request.inputs
        # The copy is ours: what follows works in place, as fresh memory costs more than arithmetic.
        ready = to_device_dtype(raw, self.device)
        pixels = self.streams.upload(ready).to(torch.float32, copy=True)
        invalid = invalid_pixels(pixels, source.nodata, source.modality)
        if padding is not None:
            invalid |= self.streams.upload(padding)
        if source.clip is not None:
            pixels.clamp_(*source.clip)
        if self.streams.enqueues or invalid.any():
            pixels = torch.where(invalid.unsqueeze(-3), self.fill, pixels)
        return pixels, invalid

    def halve_batch(self, size: int, error: Exception) -> None:
        """Go on with half of `size` windows where memory ran out; raise any other error again.

        Raises
        ------
        EngineError
            Where not even one window fits.
        """
        if not is_out_of_memory(error):
            raise error
        if size == 1:
            raise EngineError(
                explain(
                    f"too little memory on {self.device} for a single window ({error})",
                    f"room for {self.spec.key}",
                    "Use a smaller model or window_size, or free the device.",
                )
            ) from error
        # Batches of the old size may be under way: each of them fails, and says so once more.
        self.batch_limit = min(self.batch_limit or size, size // 2)
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error of NumPy, torch or OpenVINO means that memory ran out."""
    # On a CPU, torch and OpenVINO say so in words only.
    words = ("can't allocate memory", "not enough memory", "bad_alloc", "Failed to allocate")
    if isinstance(error, MemoryError) or any(word in str(error) for word in words):
        return True
    return "torch" in sys.modules and isinstance(error, sys.modules["torch"].OutOfMemoryError)


def to_device_dtype(raw: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Return pixels in a dtype and byte order that torch and the device can take.

    The same array where nothing has to change.
    """
    # Nodata such as -1.8e308 becomes infinite, and so invalid.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(raw, dtype=device_dtype(raw.dtype, device))


def device_dtype(dtype: np.dtype, device: str) -> np.dtype:
    """Choose the dtype in which raw pixels go to a device.

    The cube's own, in the machine's byte order, where the device has it; else float32.
    """
    wide = dtype.itemsize >= 8 or dtype == np.float16  # some devices have no float64
    odd = device.startswith("mps") and dtype.kind == "u" and dtype.itemsize > 1
    return np.dtype(np.float32) if wide or odd else dtype.newbyteorder("=")
