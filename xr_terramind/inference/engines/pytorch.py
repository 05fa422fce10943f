"""A loaded encoder in torch, with what belongs to it: statistics, device, batch size."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from xr_terramind.cube.bands import invalid_pixels
from xr_terramind.inference.device import Runtime, affordable_batch, warn_of_lowered_float32
from xr_terramind.inference.engines.streams import Waiting, streams_for
from xr_terramind.inference.request import EncodeRequest, EncoderKey
from xr_terramind.model.load import load_encoder, read_state
from xr_terramind.model.specs import PATCH_PX

if TYPE_CHECKING:
    import torch

    Encoder = Callable[[torch.Tensor], torch.Tensor]


class TorchRunner:
    """A loaded encoder with what belongs to it: statistics, device, batch size.

    Parameters
    ----------
    key : EncoderKey
    runtime : Runtime
        What ``"auto"`` became.
    """

    def __init__(self, key: EncoderKey, runtime: Runtime) -> None:
        import torch

        self.spec = key.spec
        (self.modality,) = key.modalities
        self.device = runtime.device
        self.dtype: torch.dtype = getattr(torch, runtime.precision)
        warn_of_lowered_float32(self.dtype)
        self.mean, self.std, self.fill = (  # each (band, 1, 1)
            torch.tensor(numbers, device=self.device)[:, None, None] for numbers in key.scalings[0]
        )
        self.encoder = _build_encoder(self, key, runtime.engine)
        self.streams = streams_for(self.device)
        self.slots = threading.BoundedSemaphore(self.streams.n_under_way)
        self.batch_limit: int | None = None
        self._affordable: dict[int, int] = {}

    def batch_size(self, request: EncodeRequest) -> int:
        """Choose how many windows go through at once.

        Parameters
        ----------
        request : EncodeRequest

        Returns
        -------
        int
        """
        size = request.batch_size
        if size == "auto":
            # Asked once: what torch keeps for itself afterwards would count as taken.
            if request.window_px not in self._affordable:
                self._affordable[request.window_px] = affordable_batch(
                    self.spec, self.modality, request.window_px, self.device
                )
            size = self._affordable[request.window_px]
        return min(size, self.batch_limit or size)

    def upload(
        self, raw: np.ndarray, request: EncodeRequest, padding: np.ndarray | None = None
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Move raw windows to the device, clip them and put the band mean into invalid pixels.

        Parameters
        ----------
        raw : ndarray, shape (window, band, y, x)
            Digital numbers, in their own dtype.
        request : EncodeRequest
        padding : ndarray of bool, shape (window, y, x), optional
            Further pixels that hold no data.

        Returns
        -------
        pixels : Tensor of float32, shape (window, band, y, x)
        invalid : Tensor of bool, shape (window, y, x)
        """
        import torch

        # The copy is ours: what follows works in place, as fresh memory costs more than arithmetic.
        pixels = self.streams.upload(torch_ready(raw, self.device)).to(torch.float32, copy=True)
        (source,) = request.inputs
        invalid = invalid_pixels(pixels, source.nodata, source.modality)
        if padding is not None:
            invalid |= self.streams.upload(padding)
        if source.clip is not None:
            pixels.clamp_(*source.clip)
        # Where arrays are only enqueued, to ask what they hold would wait for them.
        if self._enqueues or invalid.any():
            pixels = torch.where(invalid.unsqueeze(-3), self.fill, pixels)
        return pixels, invalid

    def tokens(self, pixels: "torch.Tensor", request: EncodeRequest) -> "torch.Tensor":
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
        import torch

        images = pixels.sub_(self.mean).div_(self.std)
        if request.flips:
            images = images.flip(request.flips)
        rows, cols = (edge // PATCH_PX for edge in pixels.shape[-2:])
        encoded = self.encoder(images.to(self.dtype)).to(torch.float32)
        grid = encoded.reshape(-1, rows, cols, self.spec.dim)
        # Features stand behind y and x here, so that the axes are one further from the end.
        return grid.flip([axis - 1 for axis in request.flips]) if request.flips else grid

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
        import torch

        with torch.inference_mode(), self.streams.on_device():
            pixels, invalid = self.upload(raw, request, padding)
            n_windows, side = len(raw), request.window_px // PATCH_PX
            cut = invalid.reshape(n_windows, side, PATCH_PX, side, PATCH_PX)
            valid = 1.0 - cut.to(torch.float32).mean(dim=(2, 4))
            seen = valid.flatten(1).any(dim=1)
            if self._enqueues:
                tokens = self.tokens(pixels, request)
                tokens = torch.where(seen[:, None, None, None], tokens, torch.nan)
            elif seen.all():
                tokens = self.tokens(pixels, request)
            else:
                shape = (n_windows, side, side, self.spec.dim)
                tokens = torch.full(shape, torch.nan, device=self.device)
                if seen.any():
                    tokens[seen] = self.tokens(pixels[seen], request)
            return self.streams.download(tokens, valid)

    def encode(
        self, raw: np.ndarray, padding: np.ndarray | None, request: EncodeRequest
    ) -> tuple[np.ndarray, np.ndarray]:
        """Run one batch of windows through the model and wait; see `begin`."""
        tokens, valid = self.begin(raw, padding, request)()
        return tokens, valid

    @property
    def _enqueues(self) -> bool:
        return self.device.startswith("cuda")

    def encode_extent(
        self, date: np.ndarray, request: EncodeRequest
    ) -> tuple[np.ndarray, np.ndarray]:
        """Resize a whole extent to one window and run that.

        Parameters
        ----------
        date : ndarray, shape (band, y, x)
        request : EncodeRequest

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
            whole, invalid = self.upload(date[None], request)
            image = interpolate(whole, size=size, mode="bilinear", align_corners=False)
            return self.tokens(image, request)[0].cpu().numpy(), invalid[0].cpu().numpy()


def torch_ready(raw: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Return pixels in a dtype and byte order that torch and the device can take.

    Parameters
    ----------
    raw : ndarray
    device : str, default "cpu"

    Returns
    -------
    ndarray
        The same array where nothing has to change.
    """
    # Nodata such as -1.8e308 becomes infinite, and so invalid.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(raw, dtype=device_dtype(raw.dtype, device))


def device_dtype(dtype: np.dtype, device: str) -> np.dtype:
    """Choose the dtype in which raw pixels go to a device.

    Parameters
    ----------
    dtype : dtype
        Of the cube.
    device : str

    Returns
    -------
    dtype
        The cube's own, in the machine's byte order, where the device has it; else float32.
    """
    wide = dtype.itemsize >= 8 or dtype == np.float16  # some devices have no float64
    odd = device.startswith("mps") and dtype.kind == "u" and dtype.itemsize > 1
    return np.dtype(np.float32) if wide or odd else dtype.newbyteorder("=")


def _build_encoder(runner: TorchRunner, key: EncoderKey, engine: str) -> "Encoder":
    if engine == "terratorch":
        from xr_terramind.inference.engines.terratorch import build_terratorch

        return build_terratorch(
            runner.spec.key,
            runner.modality,
            read_state(runner.spec, runner.modality, key.weights),
            layer=key.layer,
            device=runner.device,
            dtype=runner.dtype,
        )
    encoder = load_encoder(runner.spec, runner.modality, key.weights)
    encoder = encoder.to(device=runner.device, dtype=runner.dtype)

    def encode(images: "torch.Tensor") -> "torch.Tensor":
        return encoder(images, key.layer)

    if runner.device.startswith("cuda"):
        from xr_terramind.inference.engines.cuda import FixedShapes

        return FixedShapes(encode)
    return encode
