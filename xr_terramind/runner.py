"""A loaded encoder on its device: one a process, found again by what makes it different."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from xr_terramind.bands import invalid_pixels
from xr_terramind.device import affordable_batch, resolve_runtime, warn_of_lowered_float32
from xr_terramind.errors import EngineError, explain
from xr_terramind.modalities import Modality, modality_of
from xr_terramind.models import PATCH_PX, ModelSpec, model_spec
from xr_terramind.request import EncodeRequest
from xr_terramind.statistics import band_means, statistics
from xr_terramind.weights import WeightsRef, read_weights

if TYPE_CHECKING:
    import torch

    from xr_terramind.encoder import TerraMindEncoder

    Encoder = Callable[[torch.Tensor], torch.Tensor]

T = TypeVar("T")


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
        warn_of_lowered_float32(self.dtype)
        mean, std = statistics(self.spec, self.modality, request.normalize)
        fill = band_means(self.spec, self.modality)
        self.mean, self.std, self.fill = (  # each (band, 1, 1)
            torch.tensor(numbers, device=self.device)[:, None, None]
            for numbers in (mean, std, fill)
        )
        self.encode = _build_encoder(self, request, runtime.engine)
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
        pixels = torch.from_numpy(torch_ready(raw)).to(self.device).to(torch.float32, copy=True)
        invalid = invalid_pixels(pixels, request.nodata, self.modality)
        if padding is not None:
            invalid |= torch.from_numpy(padding).to(self.device)
        if request.clip is not None:
            pixels.clamp_(*request.clip)
        if invalid.any():
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
        encoded = self.encode(images.to(self.dtype)).to(torch.float32)
        grid = encoded.reshape(-1, rows, cols, self.spec.dim)
        # Features stand behind y and x here, so that the axes are one further from the end.
        return grid.flip([axis - 1 for axis in request.flips]) if request.flips else grid


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
    if raw.dtype.itemsize >= 8 or raw.dtype == np.float16:
        # Some devices have no float64. Nodata such as -1.8e308 becomes infinite, and so invalid.
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(raw, dtype=np.float32)
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


def in_model_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Run a function in the one thread of this process that runs models, and wait for it.

    One forward pass at a time has all cores, or the whole GPU, already. That it is always the same
    thread matters on a CPU: each thread that calls torch gets compute threads of its own, and those
    of the last caller would still be spinning while the next one works.

    Parameters
    ----------
    function : callable
    *arguments
        Of the function.

    Returns
    -------
    object
        What the function returns; what it raises is raised here.
    """
    return _model_thread(os.getpid()).submit(function, *arguments).result()


@lru_cache(maxsize=1)
def _model_thread(process_id: int) -> ThreadPoolExecutor:
    # Keyed by the process: a fork inherits the executor, but not its thread.
    return ThreadPoolExecutor(
        max_workers=1,
        thread_name_prefix="terramind",
        initializer=_take_cores,
        initargs=(_worker_threads(),),
    )


def _worker_threads() -> int:
    """Return how many threads a Dask worker around this task has; 0 where there is none."""
    if "distributed" not in sys.modules:
        return 0
    from distributed import get_worker

    try:
        return int(get_worker().state.nthreads)
    except ValueError:  # no worker: another scheduler runs, though distributed is imported
        return 0


def _take_cores(n_threads: int) -> None:
    # Dask's nannies tell libraries to use one core, as many tasks are to run at once. Of forward
    # passes there is only one at a time, and the other threads of the worker wait for it.
    import torch

    if n_threads > torch.get_num_threads():
        torch.set_num_threads(n_threads)


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
