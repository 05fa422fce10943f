"""Loaded encoders, one a process, found again by what makes them different."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import numpy as np

from xr_terramind.errors import EngineError, explain
from xr_terramind.inference.device import resolve_runtime
from xr_terramind.inference.engines.pytorch import TorchRunner
from xr_terramind.inference.engines.streams import Streams, Waiting
from xr_terramind.inference.request import EncodeRequest, EncoderKey
from xr_terramind.model.specs import ModelSpec

T = TypeVar("T")


class Runner(Protocol):
    """A loaded encoder, whatever runs it; `TorchRunner` describes its methods."""

    spec: ModelSpec
    device: str
    batch_limit: int | None
    streams: Streams
    slots: threading.BoundedSemaphore

    def batch_size(self, request: EncodeRequest) -> int:
        """Choose how many windows go through at once."""

    def begin(self, raw: np.ndarray, padding: np.ndarray | None, request: EncodeRequest) -> Waiting:
        """Send one batch of windows through the model; the function returned waits for it."""

    def encode(
        self, raw: np.ndarray, padding: np.ndarray | None, request: EncodeRequest
    ) -> tuple[np.ndarray, np.ndarray]:
        """Run one batch of windows through the model and wait."""

    def encode_extent(
        self, date: np.ndarray, request: EncodeRequest
    ) -> tuple[np.ndarray, np.ndarray]:
        """Resize a whole extent to one window and run that."""


_loading = threading.Lock()


def in_model_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Run a function in the thread that runs models, and wait; see `to_model_thread`.

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
    return to_model_thread(function, *arguments).result()


def to_model_thread(function: Callable[..., T], *arguments: Any) -> "Future[T]":
    """Have a function run in the one thread of this process that runs models.

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
    Future
    """
    thread = _model_thread(os.getpid())
    return thread.submit(_run, _worker_threads(), function, *arguments)


@lru_cache(maxsize=1)
def _model_thread(process_id: int) -> ThreadPoolExecutor:
    # Keyed by the process: a fork inherits the executor, but not its thread.
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="terramind")


def _worker_threads() -> int:
    """Return how many threads a Dask worker around this task has; 0 where there is none."""
    if "distributed" not in sys.modules:
        return 0
    from distributed import get_worker

    try:
        return int(get_worker().state.nthreads)
    except ValueError:  # no worker: another scheduler runs, though distributed is imported
        return 0


def _run(n_threads: int, function: Callable[..., T], *arguments: Any) -> T:
    # Dask's nannies tell libraries to use one core, as many tasks are to run at once. Of forward
    # passes there is only one at a time, and the other threads of the worker wait for it.
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() < n_threads:
        torch.set_num_threads(n_threads)
    return function(*arguments)


def runner_for(key: EncoderKey) -> Runner:
    """Return the loaded encoder; threads that ask at once wait for one load."""
    with _loading:
        return _load_runner(key)


@lru_cache(maxsize=4)
def _load_runner(key: EncoderKey) -> Runner:
    runtime = resolve_runtime(key.engine, key.device, key.precision)
    if runtime.engine == "openvino":
        from xr_terramind.inference.engines.openvino import OpenVinoRunner

        return OpenVinoRunner(key, runtime, _worker_threads())
    return TorchRunner(key, runtime)


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
    # On a CPU, torch and OpenVINO say so in words only.
    words = ("can't allocate memory", "not enough memory", "bad_alloc", "Failed to allocate")
    out_of_memory = isinstance(error, MemoryError) or any(word in str(error) for word in words)
    if "torch" in sys.modules:
        out_of_memory |= isinstance(error, sys.modules["torch"].OutOfMemoryError)
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
    # Batches of the old size may be under way: each of them fails, and says so once more.
    runner.batch_limit = min(runner.batch_limit or size, size // 2)
    if runner.device.startswith("cuda"):
        import torch

        in_model_thread(torch.cuda.empty_cache)
