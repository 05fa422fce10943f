"""The encoder on OpenVINO: converted once, kept in the cache, run without importing torch.

Clipping, filling and normalising are part of what is converted, so that a batch crosses into
OpenVINO once.
"""

import errno
import functools
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xr_terramind._version import __version__
from xr_terramind.cube.bands import invalid_pixels
from xr_terramind.inference.device import import_openvino
from xr_terramind.inference.engines.base import Engine, Waiting, to_device_dtype
from xr_terramind.inference.engines.cache import find_or_make
from xr_terramind.inference.request import EncodeRequest, EncoderKey
from xr_terramind.model.load import load_encoder
from xr_terramind.model.specs import PATCH_PX
from xr_terramind.model.weights import resolve_weights

if TYPE_CHECKING:
    import torch

LAYOUT = "1"
"""Of what is converted; it changes when inputs, outputs or arithmetic do."""

_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class OpenVinoEngine(Engine):
    """A converted encoder on the CPU, one for each size of windows."""

    def load(self) -> None:
        """Load nothing yet: a converted encoder has windows of one size."""
        self._infer_requests: dict[int, Any] = {}

    def begin(self, raw: np.ndarray, padding: np.ndarray | None, request: EncodeRequest) -> Waiting:
        """Run one batch of windows; see `Engine.begin`."""
        found = self._encode(raw, padding, request)
        return lambda: found

    def _encode(
        self, raw: np.ndarray, padding: np.ndarray | None, request: EncodeRequest
    ) -> tuple[np.ndarray, np.ndarray]:
        (source,) = request.inputs
        pixels = to_device_dtype(raw).astype(np.float32, copy=False)
        invalid = invalid_pixels(pixels, source.nodata, source.modality)
        if padding is not None:
            invalid |= padding
        n_windows, side = len(raw), request.window_px // PATCH_PX
        cut = invalid.reshape(n_windows, side, PATCH_PX, side, PATCH_PX)
        valid = 1.0 - cut.mean(axis=(2, 4), dtype=np.float32)
        seen = valid.any(axis=(1, 2))
        if seen.all():
            return self.infer(pixels, invalid, request), valid
        tokens = np.full((n_windows, side, side, self.spec.dim), np.nan, np.float32)
        if seen.any():
            tokens[seen] = self.infer(pixels[seen], invalid[seen], request)
        return tokens, valid

    def encode_filled(self, pixels: "torch.Tensor", request: EncodeRequest) -> "torch.Tensor":
        """Encode filled windows; see `Engine.encode_filled`."""
        import torch

        raw = pixels.numpy()
        nothing = np.zeros((len(raw), *raw.shape[-2:]), bool)
        return torch.from_numpy(np.ascontiguousarray(self.infer(raw, nothing, request)))

    def infer(self, pixels: np.ndarray, invalid: np.ndarray, request: EncodeRequest) -> np.ndarray:
        """Encode windows (window, band, y, x) to tokens (window, row, column, feature).

        Both in the cube's orientation; `invalid` (window, y, x) marks pixels to be filled.
        """
        low, high = request.inputs[0].clip or (-math.inf, math.inf)
        inputs = [np.flip(array, request.flips) for array in (pixels, invalid)]
        limits = [np.array(limit, np.float32) for limit in (low, high)]
        found = self.infer_request(request.window_px).infer(
            [*map(np.ascontiguousarray, inputs), *limits]
        )[0]
        side = request.window_px // PATCH_PX
        grid = found.reshape(len(pixels), side, side, self.spec.dim)
        # Features stand behind y and x here, so that the axes are one further from the end.
        return np.flip(grid, tuple(axis - 1 for axis in request.flips))

    def infer_request(self, window_px: int) -> Any:
        """Return OpenVINO's own request for windows of a size, compiled the first time."""
        if window_px not in self._infer_requests:
            self._infer_requests[window_px] = self._compile(window_px)
        return self._infer_requests[window_px]

    def _compile(self, window_px: int) -> Any:
        openvino = import_openvino()
        folder = find_or_make(
            "openvino",
            self._facts(window_px, openvino.__version__),
            functools.partial(convert, self.key, window_px),
        )
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "PERFORMANCE_HINT": "LATENCY",  # all cores for one forward pass
            "ENABLE_CPU_PINNING": False,  # several workers would be pinned to the same cores
        }
        if self.n_threads:
            settings["INFERENCE_NUM_THREADS"] = self.n_threads
        core = openvino.Core()
        return core.compile_model(folder / "encoder.xml", "CPU", settings).create_infer_request()

    def _facts(self, window_px: int, version: str) -> dict[str, str]:
        (modality,), (scaling,) = self.key.modalities, self.key.scalings
        return {
            "model": self.spec.key,
            "modality": modality.name,
            "bands": ",".join(modality.bands),
            "scaling": str(tuple(scaling)),
            "layer": str(self.key.layer),
            "window_px": str(window_px),
            "weights_sha256": resolve_weights(self.key.weights, self.spec).sha256,
            "layout": LAYOUT,
            "xr_terramind": __version__,
            "openvino": version,
        }


def convert(key: EncoderKey, window_px: int, folder: Path) -> None:
    """Convert an encoder with its normalisation, and save it.

    ``encoder.xml`` and ``encoder.bin`` go into `folder`; the number of windows stays open.

    Raises
    ------
    WeightsError
        As `xr_terramind.model.weights.read_weights`.
    """
    openvino = import_openvino()
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    module = _join_pipeline(key)
    shape = (len(key.modalities[0].bands), window_px, window_px)
    example = (
        torch.rand(2, *shape),
        torch.zeros(2, *shape[1:], dtype=torch.bool),
        torch.tensor(0.0),
        torch.tensor(1.0),
    )
    with torch.inference_mode(), warnings.catch_warnings():
        # Of torch, about the way in which OpenVINO reads modules, and each shape that is fixed.
        warnings.simplefilter("ignore")
        traced = TorchScriptPythonDecoder(
            module, example_input=example, trace_kwargs={"check_trace": False}
        )
    frontend = FrontEndManager().load_by_framework("pytorch")
    model = frontend.convert(frontend.load(traced))
    model.reshape({0: [-1, *shape], 1: [-1, *shape[1:]], 2: [], 3: []})
    try:
        openvino.save_model(model, folder / "encoder.xml", compress_to_fp16=False)
    except RuntimeError as error:  # a C++ stream that failed: all it says is that
        raise OSError(errno.ENOSPC, f"OpenVINO could not write its files: {error}") from error


def _join_pipeline(key: EncoderKey) -> "torch.nn.Module":
    import torch

    encoder = load_encoder(key.spec, key.modalities[0], key.weights)
    mean, std, fill = (torch.tensor(numbers)[:, None, None] for numbers in key.scalings[0])

    class Pipeline(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(
            self,
            raw: torch.Tensor,
            invalid: torch.Tensor,
            low: torch.Tensor,
            high: torch.Tensor,
        ) -> torch.Tensor:
            clipped = torch.minimum(torch.maximum(raw, low), high)
            pixels = torch.where(invalid.unsqueeze(1), fill, clipped)
            return self.encoder((pixels - mean) / std, key.layer)

    return Pipeline().eval()
