"""The encoder in torch: clip, fill, normalise and encode on the device."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from xr_terramind.inference.device import warn_of_lowered_float32
from xr_terramind.inference.engines.base import Engine, Streams, Waiting
from xr_terramind.inference.request import EncodeRequest
from xr_terramind.model.load import load_encoder
from xr_terramind.model.specs import PATCH_PX

if TYPE_CHECKING:
    import torch

    Encoder = Callable[[torch.Tensor], torch.Tensor]


class TorchEngine(Engine):
    """Our own network in torch, on any of its devices."""

    dtype: "torch.dtype"
    encoder: "Encoder"  # normalised windows (window, band, y, x) -> tokens (window, patch, feature)

    def open_streams(self) -> Streams:
        """Return the way to the device and back: beside the model, on a CUDA device."""
        if not self.device.startswith("cuda"):
            return Streams(self.device)
        from xr_terramind.inference.engines.cuda import CudaStreams

        return CudaStreams(self.device)

    def load(self) -> None:
        """Load statistics and encoder onto the device."""
        import torch

        self.dtype = getattr(torch, self.precision)
        warn_of_lowered_float32(self.dtype)
        mean, std, _ = self.key.scalings[0]
        self.mean, self.std = (  # each (band, 1, 1)
            torch.tensor(numbers, device=self.device)[:, None, None] for numbers in (mean, std)
        )
        self.encoder = self.build_encoder()

    def build_encoder(self) -> "Encoder":
        """Return the network on the device, with weights in it."""
        network = load_encoder(self.spec, self.key.modalities[0], self.key.weights)
        network = network.to(device=self.device, dtype=self.dtype)

        def encode(images: "torch.Tensor") -> "torch.Tensor":
            return network(images, self.key.layer)

        if not self.streams.enqueues:
            return encode
        from xr_terramind.inference.engines.cuda import FixedShapes

        return FixedShapes(encode)

    def begin(self, raw: np.ndarray, padding: np.ndarray | None, request: EncodeRequest) -> Waiting:
        """Send one batch of windows through the model; see `Engine.begin`."""
        import torch

        with torch.inference_mode(), self.streams.on_device():
            pixels, invalid = self.upload(raw, padding, request)
            n_windows, side = len(raw), request.window_px // PATCH_PX
            cut = invalid.reshape(n_windows, side, PATCH_PX, side, PATCH_PX)
            valid = 1.0 - cut.to(torch.float32).mean(dim=(2, 4))
            seen = valid.flatten(1).any(dim=1)
            if self.streams.enqueues:
                tokens = self.encode_filled(pixels, request)
                tokens = torch.where(seen[:, None, None, None], tokens, torch.nan)
            elif seen.all():
                tokens = self.encode_filled(pixels, request)
            else:
                shape = (n_windows, side, side, self.spec.dim)
                tokens = torch.full(shape, torch.nan, device=self.device)
                if seen.any():
                    tokens[seen] = self.encode_filled(pixels[seen], request)
            return self.streams.download(tokens, valid)

    def encode_filled(self, pixels: "torch.Tensor", request: EncodeRequest) -> "torch.Tensor":
        """Normalise windows and encode them; see `Engine.encode_filled`."""
        import torch

        images = pixels.sub_(self.mean).div_(self.std)
        if request.flips:
            images = images.flip(request.flips)
        rows, cols = (edge // PATCH_PX for edge in pixels.shape[-2:])
        encoded = self.encoder(images.to(self.dtype)).to(torch.float32)
        grid = encoded.reshape(-1, rows, cols, self.spec.dim)
        # Features stand behind y and x here, so that the axes are one further from the end.
        return grid.flip([axis - 1 for axis in request.flips]) if request.flips else grid
