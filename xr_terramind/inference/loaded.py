"""Loaded encoders, found again by what makes them different, and the one thread that runs them."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

from xr_terramind.inference.device import resolve_runtime
from xr_terramind.inference.engines.base import Engine
from xr_terramind.inference.request import EncoderKey

T = TypeVar("T")

_loading = threading.Lock()


def engine_for(key: EncoderKey) -> Engine:
    """Return the loaded encoder; threads that ask at once wait for one load."""
    with _loading:
        return _load_engine(key)


@lru_cache(maxsize=4)
def _load_engine(key: EncoderKey) -> Engine:
    runtime = resolve_runtime(key.engine, key.device, key.precision)
    return _find_class(runtime.engine)(key, runtime, _count_worker_threads())


def _find_class(engine: str) -> type[Engine]:
    # One engine does without what another imports.
    if engine == "openvino":
        from xr_terramind.inference.engines.openvino import OpenVinoEngine

        return OpenVinoEngine
    if engine == "terratorch":
        from xr_terramind.inference.engines.terratorch import TerraTorchEngine

        return TerraTorchEngine
    from xr_terramind.inference.engines.pytorch import TorchEngine

    return TorchEngine


def in_model_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Run a function in the thread that runs models, and wait; see `to_model_thread`."""
    return to_model_thread(function, *arguments).result()


def to_model_thread(function: Callable[..., T], *arguments: Any) -> "Future[T]":
    """Have a function run in the one thread of this process that runs models.

    One forward pass at a time has all cores, or the whole GPU, already. That it is always the same
    thread matters on a CPU: each thread that calls torch gets compute threads of its own, and those
    of the last caller would still be spinning while the next one works.
    """
    thread = _model_thread(os.getpid())
    return thread.submit(_run, _count_worker_threads(), function, *arguments)


@lru_cache(maxsize=1)
def _model_thread(process_id: int) -> ThreadPoolExecutor:
    # Keyed by the process: a fork inherits the executor, but not its thread.
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="terramind")


def _count_worker_threads() -> int:
    """Count the threads of the Dask worker around this task; 0 where there is none."""
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
