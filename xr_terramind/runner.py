"""A loaded encoder on its device: one a process, found again by what makes it different."""

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from xr_terramind.bands import Modality, invalid_pixels, modality_of
from xr_terramind.errors import EngineError, TerraMindWarning, explain
from xr_terramind.models import PATCH_PX, ModelSpec, model_spec
from xr_terramind.weights import WeightsRef, read_weights

if TYPE_CHECKING:
    import torch

    from xr_terramind.encoder import TerraMindEncoder

    Encoder = Callable[[torch.Tensor], torch.Tensor]

MAX_BATCH_CPU = 8
"""More windows a forward pass gain nothing on a CPU, and cost memory."""

MAX_BATCH_GPU = 256

_MEMORY_SHARE = 0.25  # of what is free; the rest is for blocks that wait and for other workers
_LIVE_TENSORS = 16  # float32 copies of the token tensor that live at once within a block


@dataclass(frozen=True, kw_only=True)
class EncodeRequest:
    """All that a worker needs to know to encode a block; small, hashable, without a model.

    Attributes
    ----------
    model, modality : str
    weights : WeightsRef
    layer : int
    engine, device, precision : str
        ``"auto"`` is settled on the machine that encodes.
    normalize : str
    clip : tuple of float or None
    nodata : tuple of float
        Raw values that stand for no data.
    window_px : int
    batch_size : int or "auto"
    min_valid_fraction : float
    pooling : {"mean", "max"} or None
        None returns a vector a patch, otherwise one a window.
    flip_y, flip_x : bool
        The cube's first row lies south, its first column east: windows are turned north up for
        the model, and their tokens back.
    """

    model: str
    modality: str
    weights: WeightsRef
    layer: int = -1
    engine: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    normalize: str = "zscore"
    clip: tuple[float, float] | None = None
    nodata: tuple[float, ...] = ()
    window_px: int = 224
    batch_size: int | Literal["auto"] = "auto"
    min_valid_fraction: float = 0.0
    pooling: str | None = None
    flip_y: bool = False
    flip_x: bool = False

    @property
    def flips(self) -> tuple[int, ...]:
        """The axes of an image (..., y, x) that are turned."""
        return (-2,) * self.flip_y + (-1,) * self.flip_x


class Runtime(NamedTuple):
    """What ``"auto"`` became on this machine."""

    engine: str
    device: str
    precision: str


def resolve_runtime(engine: str, device: str, precision: str) -> Runtime:
    """Settle ``"auto"`` and refuse what this machine does not have.

    Parameters
    ----------
    engine, device, precision : str
        As in `EncodeRequest`.

    Returns
    -------
    Runtime

    Raises
    ------
    EngineError
        For a device that is not there, or a precision that it does not have.
    """
    import torch

    has_mps = torch.backends.mps.is_available()
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    kind, _, index = device.partition(":")
    n_devices = {"cuda": torch.cuda.device_count(), "mps": int(has_mps), "cpu": 1}[kind]
    if int(index or 0) >= n_devices:
        raise EngineError(
            explain(
                f"device={device!r} on a machine with {n_devices} {kind} devices",
                "a device that torch can see",
                "Use device='auto', or install a build of torch for your GPU.",
            )
        )
    if precision == "auto":
        fast = kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bfloat16" if fast else "float16" if kind == "cuda" else "float32"
    return Runtime("torch" if engine == "auto" else engine, device, precision)


class Runner:
    """A loaded encoder with what belongs to it: statistics, device, batch size.

    Parameters
    ----------
    request : EncodeRequest
        Only what concerns the model is kept.
    """

    def __init__(self, request: EncodeRequest) -> None:
        import torch

        self.spec = model_spec(request.model)
        self.modality = modality_of(request.modality)
        runtime = resolve_runtime(request.engine, request.device, request.precision)
        self.device = runtime.device
        self.dtype: torch.dtype = getattr(torch, runtime.precision)
        _warn_of_lowered_float32(self.dtype)
        mean, std = statistics(self.spec, self.modality, request.normalize)
        fill = band_means(self.spec, self.modality)
        self.mean, self.std, self.fill = (  # each (band, 1, 1)
            torch.tensor(numbers, device=self.device)[:, None, None]
            for numbers in (mean, std, fill)
        )
        self.encode = _build_encoder(self, request, runtime.engine)
        self.batch_limit: int | None = None

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
            size = _affordable_batch(self.spec, self.modality, request.window_px, self.device)
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

        pixels = torch.from_numpy(torch_ready(raw)).to(self.device).to(torch.float32)
        invalid = invalid_pixels(pixels, request.nodata, self.modality)
        if padding is not None:
            invalid |= torch.from_numpy(padding).to(self.device)
        if request.clip is not None:
            pixels = pixels.clamp(*request.clip)
        return torch.where(invalid.unsqueeze(-3), self.fill, pixels), invalid

    def tokens(self, pixels: "torch.Tensor", request: EncodeRequest) -> "torch.Tensor":
        """Normalise windows and encode them, turned north up where the cube is not.

        Parameters
        ----------
        pixels : Tensor of float32, shape (window, band, y, x)
            As `upload` returns them, whole patches along y and x.
        request : EncodeRequest

        Returns
        -------
        Tensor of float32, shape (window, row, column, feature)
            In the cube's own orientation.
        """
        import torch

        images = (pixels - self.mean) / self.std
        if request.flips:
            images = images.flip(request.flips)
        rows, cols = (edge // PATCH_PX for edge in pixels.shape[-2:])
        encoded = self.encode(images.to(self.dtype)).to(torch.float32)
        grid = encoded.reshape(-1, rows, cols, self.spec.dim)
        # Features stand behind y and x here, so that the axes are one further from the end.
        return grid.flip([axis - 1 for axis in request.flips]) if request.flips else grid


def _warn_of_lowered_float32(dtype: "torch.dtype") -> None:
    import torch

    # The switch is the user's, and comparisons within a process should agree: it is left alone.
    lowered = torch.get_float32_matmul_precision()
    if dtype == torch.float32 and lowered != "highest":
        warnings.warn(
            explain(
                f"torch's float32 matrix precision set to {lowered!r} in this process "
                "(importing TerraTorch does that)",
                "'highest': on CPUs and GPUs with bfloat16 or TF32 units, features otherwise "
                "differ by some 0.02",
                "Call torch.set_float32_matmul_precision('highest') before embedding.",
            ),
            TerraMindWarning,
            stacklevel=2,
        )


def statistics(
    spec: ModelSpec, modality: Modality, normalize: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return what is subtracted and divided by, band by band.

    Parameters
    ----------
    spec : ModelSpec
    modality : Modality
    normalize : str
        ``"zscore"``, ``"raw"`` or ``"none"``.

    Returns
    -------
    mean, std : tuple of float

    Raises
    ------
    EngineError
        Where the model was not pretrained on the modality.
    """
    if normalize != "zscore":
        return (0.0,) * len(modality.bands), (1.0,) * len(modality.bands)
    if spec.statistics not in modality.statistics:
        raise EngineError(
            explain(
                f"model={spec.key!r} with modality={modality.name!r}",
                "S2L2A: version 0.1 was pretrained on no other raw modality",
                "Use a terramind_v1 model, or normalize='raw' with values that you scaled.",
            )
        )
    return modality.statistics[spec.statistics]


def band_means(spec: ModelSpec, modality: Modality) -> tuple[float, ...]:
    """Return what stands in for an invalid pixel, in raw values.

    Parameters
    ----------
    spec : ModelSpec
    modality : Modality

    Returns
    -------
    tuple of float
    """
    return modality.statistics.get(spec.statistics, modality.statistics["v1"])[0]


def torch_ready(raw: np.ndarray) -> np.ndarray:
    """Return pixels in a dtype and byte order that torch and every device can take.

    Parameters
    ----------
    raw : ndarray

    Returns
    -------
    ndarray
        The same array where nothing has to change.
    """
    if raw.dtype.itemsize == 8 or raw.dtype == np.float16:
        return np.ascontiguousarray(raw, dtype=np.float32)  # some devices have no float64
    return np.ascontiguousarray(raw, dtype=raw.dtype.newbyteorder("="))


def _meta_encoder(spec: ModelSpec, modality: Modality) -> "TerraMindEncoder":
    import torch

    from xr_terramind.encoder import TerraMindEncoder

    with torch.device("meta"):  # names and shapes only: no memory, no random numbers
        return TerraMindEncoder(spec, modality.embedding, len(modality.bands))


def _read_state(
    encoder: "TerraMindEncoder", weights: WeightsRef, spec: ModelSpec
) -> dict[str, "torch.Tensor"]:
    shapes = {key: tuple(value.shape) for key, value in encoder.state_dict().items()}
    return read_weights(weights, spec, shapes)


@lru_cache(maxsize=16)
def verify_weights(weights: WeightsRef, model: str, modality: str) -> None:
    """Read a local weights file once, so that a bad one is refused before any work is planned.

    Parameters
    ----------
    weights : WeightsRef
    model, modality : str

    Raises
    ------
    WeightsError
        As `xr_terramind.weights.read_weights`.
    """
    spec = model_spec(model)
    _read_state(_meta_encoder(spec, modality_of(modality)), weights, spec)


def _build_encoder(runner: Runner, request: EncodeRequest, engine: str) -> "Encoder":
    encoder = _meta_encoder(runner.spec, runner.modality)
    state = _read_state(encoder, request.weights, runner.spec)
    if engine == "terratorch":
        from xr_terramind.engines.terratorch import build_terratorch

        return build_terratorch(
            runner.spec.key,
            runner.modality,
            state,
            layer=request.layer,
            device=runner.device,
            dtype=runner.dtype,
        )
    encoder.load_state_dict(state, strict=True, assign=True)
    encoder = encoder.to(device=runner.device, dtype=runner.dtype).eval().requires_grad_(False)
    return lambda pixels: encoder(pixels, request.layer)


_loading = threading.Lock()

forward_pass = threading.Lock()
"""One forward pass at a time a process: torch has all cores, or the whole GPU, for it already."""


def runner_for(request: EncodeRequest) -> Runner:
    """Return the loaded encoder; threads that ask at once wait for one load.

    Parameters
    ----------
    request : EncodeRequest

    Returns
    -------
    Runner
    """
    # Only what makes another model is part of the key; cubes differ in nodata and orientation.
    key = EncodeRequest(
        model=request.model,
        modality=request.modality,
        weights=request.weights,
        layer=request.layer,
        engine=request.engine,
        device=request.device,
        precision=request.precision,
        normalize=request.normalize,
    )
    with _loading:
        return _load_runner(key)


@lru_cache(maxsize=4)
def _load_runner(key: EncodeRequest) -> Runner:
    return Runner(key)


def _affordable_batch(spec: ModelSpec, modality: Modality, window_px: int, device: str) -> int:
    tokens = (window_px // PATCH_PX) ** 2
    image_bytes = 3 * 4 * len(modality.bands) * window_px**2  # raw, normalised, cut
    window_bytes = image_bytes + 4 * _LIVE_TENSORS * tokens * spec.dim
    if device.startswith("cuda"):
        import torch

        free_bytes, limit = torch.cuda.mem_get_info(torch.device(device))[0], MAX_BATCH_GPU
    else:
        import psutil

        free_bytes, limit = psutil.virtual_memory().available, MAX_BATCH_CPU
    return max(1, min(limit, int(_MEMORY_SHARE * free_bytes / window_bytes)))


def halve_batch(runner: Runner, size: int, error: Exception) -> None:
    """Go on with half the batch where the device ran out of memory; raise any other error again.

    Parameters
    ----------
    runner : Runner
    size : int
        Windows of the batch that failed.
    error : Exception

    Raises
    ------
    EngineError
        Where not even one window fits.
    """
    import torch

    # On a CPU torch says so in words only.
    out_of_memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "can't allocate memory" in str(error) or "not enough memory" in str(error)
    )
    if not out_of_memory:
        raise error
    if size == 1:
        raise EngineError(
            explain(
                f"too little memory on {runner.device} for a single window ({error})",
                f"room for {runner.spec.key}",
                "Use a smaller model or window_size, or free the device.",
            )
        ) from error
    runner.batch_limit = size // 2
    if runner.device.startswith("cuda"):
        torch.cuda.empty_cache()
