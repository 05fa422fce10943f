"""The encoder on OpenVINO: converted once, kept in the cache, run without importing torch.

Clipping, filling and normalising are part of what is converted, so that a batch crosses into
OpenVINO once.
"""

import errno
import functools
import math
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xr_terramind._version import __version__
from xr_terramind.cube.bands import invalid_pixels
from xr_terramind.inference.device import Runtime, import_openvino
from xr_terramind.inference.engines.cache import kept
from xr_terramind.inference.engines.pytorch import TorchRunner, torch_ready
from xr_terramind.inference.engines.streams import HostStreams, Waiting
from xr_terramind.inference.request import EncodeRequest, EncoderKey
from xr_terramind.model.load import load_encoder
from xr_terramind.model.specs import PATCH_PX
from xr_terramind.model.weights import resolve_weights

if TYPE_CHECKING:
    import torch

LAYOUT = "1"
"""Of what is converted; it changes when inputs, outputs or arithmetic do."""

_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class OpenVinoRunner(TorchRunner):
    """A converted encoder on the CPU.

    Parameters
    ----------
    key : EncoderKey
    runtime : Runtime
        What ``"auto"`` became.
    n_threads : int
        Threads of the Dask worker around it; 0 leaves the number to OpenVINO.
    """

    def __init__(self, key: EncoderKey, runtime: Runtime, n_threads: int) -> None:
        self.spec = key.spec
        (self.modality,) = key.modalities
        self.device = runtime.device
        self.precision = runtime.precision
        self.streams = HostStreams(runtime.device)
        self.slots = threading.BoundedSemaphore(self.streams.n_under_way)
        self.batch_limit = None
        self.key = key
        self._n_threads = n_threads
        self._affordable: dict[int, int] = {}
        self._loaded: dict[int, Any] = {}

    @functools.cached_property
    def fill(self) -> "torch.Tensor":  # type: ignore[override]
        """Band means, shape (band, 1, 1)."""
        import torch

        return torch.tensor(self.key.scalings[0].fill)[:, None, None]

    def begin(self, raw: np.ndarray, padding: np.ndarray | None, request: EncodeRequest) -> Waiting:
        """Run one batch of windows; see `TorchRunner.begin`."""
        found = self._encode(raw, padding, request)
        return lambda: found

    def _encode(
        self, raw: np.ndarray, padding: np.ndarray | None, request: EncodeRequest
    ) -> tuple[np.ndarray, np.ndarray]:
        pixels = torch_ready(raw).astype(np.float32, copy=False)
        (source,) = request.inputs
        invalid = invalid_pixels(pixels, source.nodata, source.modality)
        if padding is not None:
            invalid |= padding
        n_windows, side = len(raw), request.window_px // PATCH_PX
        cut = invalid.reshape(n_windows, side, PATCH_PX, side, PATCH_PX)
        valid = 1.0 - cut.mean(axis=(2, 4), dtype=np.float32)
        seen = valid.any(axis=(1, 2))
        if seen.all():
            return self._infer(pixels, invalid, request), valid
        tokens = np.full((n_windows, side, side, self.spec.dim), np.nan, np.float32)
        if seen.any():
            tokens[seen] = self._infer(pixels[seen], invalid[seen], request)
        return tokens, valid

    def tokens(self, pixels: "torch.Tensor", request: EncodeRequest) -> "torch.Tensor":
        """Encode filled windows; see `TorchRunner.tokens`."""
        import torch

        raw = pixels.numpy()
        nothing = np.zeros((len(raw), *raw.shape[-2:]), bool)
        return torch.from_numpy(np.ascontiguousarray(self._infer(raw, nothing, request)))

    def _infer(self, pixels: np.ndarray, invalid: np.ndarray, request: EncodeRequest) -> np.ndarray:
        # (window, band, y, x) -> (window, row, column, feature), both in the cube's orientation
        low, high = request.inputs[0].clip or (-math.inf, math.inf)
        inputs = [np.flip(array, request.flips) for array in (pixels, invalid)]
        limits = [np.array(limit, np.float32) for limit in (low, high)]
        infer = self._infer_request(request.window_px)
        found = infer.infer([*map(np.ascontiguousarray, inputs), *limits])[0]
        side = request.window_px // PATCH_PX
        grid = found.reshape(len(pixels), side, side, self.spec.dim)
        # Features stand behind y and x here, so that the axes are one further from the end.
        return np.flip(grid, tuple(axis - 1 for axis in request.flips))

    def _infer_request(self, window_px: int) -> Any:
        if window_px not in self._loaded:
            self._loaded[window_px] = self._load(window_px)
        return self._loaded[window_px]

    def _load(self, window_px: int) -> Any:
        openvino = import_openvino()
        folder = kept(
            "openvino",
            self._facts(window_px, openvino.__version__),
            functools.partial(convert, self.key, window_px),
        )
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "PERFORMANCE_HINT": "LATENCY",  # all cores for one forward pass
            "ENABLE_CPU_PINNING": False,  # several workers would be pinned to the same cores
        }
        if self._n_threads:
            settings["INFERENCE_NUM_THREADS"] = self._n_threads
        core = openvino.Core()
        return core.compile_model(folder / "encoder.xml", "CPU", settings).create_infer_request()

    def _facts(self, window_px: int, version: str) -> dict[str, str]:
        return {
            "model": self.spec.key,
            "modality": self.modality.name,
            "bands": ",".join(self.modality.bands),
            "scaling": str(tuple(self.key.scalings[0])),
            "layer": str(self.key.layer),
            "window_px": str(window_px),
            "weights_sha256": resolve_weights(self.key.weights, self.spec).sha256,
            "layout": LAYOUT,
            "xr_terramind": __version__,
            "openvino": version,
        }


def convert(key: EncoderKey, window_px: int, folder: Path) -> None:
    """Convert an encoder with its normalisation, and write it.

    Inputs are raw pixels (window, band, y, x), invalid pixels (window, y, x), and the two limits of
    clipping; the output is tokens (window, patch, feature). OpenVINO's own convert_model is not
    used, as it reports to its makers.

    Parameters
    ----------
    key : EncoderKey
    window_px : int
        Edge of the windows; their number stays open.
    folder : Path
        Where ``encoder.xml`` and ``encoder.bin`` go.

    Raises
    ------
    WeightsError
        As `xr_terramind.model.weights.read_weights`.
    """
    openvino = import_openvino()
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    module = _pipeline(key)
    n_bands = len(key.modalities[0].bands)
    shape = (n_bands, window_px, window_px)
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


def _pipeline(key: EncoderKey) -> "torch.nn.Module":
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
