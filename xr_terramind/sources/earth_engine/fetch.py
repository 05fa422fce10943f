"""Read pixels of Earth Engine through Xee: bounded in number, retried, with errors that say where.

Strategy: Xee turns an index into one request per band. A pool of threads, one pool per process,
sends these requests, so that a chunk's bands come in side by side whatever the number of Dask's
threads, and never more than `fetch_workers` at once. Xee's own repeats are off: they would multiply
with those of the client library and with these.
"""

import http.client
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from xr_terramind.errors import SourceError, explain

TRIES = 5
FIRST_PAUSE_S = 1.0
"""Pause before the second try; each further one is twice as long, with some jitter."""

_TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})

T = TypeVar("T")


@dataclass(frozen=True)
class EarthEngineReader:
    """What Dask indexes: an array whose parts are fetched when they are asked for."""

    variables: Mapping[str, Any]  # band -> Xee's lazy variable (time, y, x)
    shape: tuple[int, ...]  # (time, band, y, x), or (band, y, x) for a composite
    fill_value: float | None  # put where Earth Engine has no pixel; None leaves NaN
    fetch_workers: int  # requests at once per process
    ee_init: Mapping[str, Any]  # for processes that have not called ee.Initialize

    dtype = np.dtype(np.float32)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __getitem__(self, key: tuple[Any, ...]) -> np.ndarray:
        initialise(self.ee_init)
        *time_key, band_key, rows, cols = key
        names = np.array(list(self.variables))[band_key]
        place = (*(time_key or [0]), rows, cols)
        pool = _get_pool(os.getpid(), self.fetch_workers)
        # Results are asked for in order, so that the error raised is the first band's.
        futures = [pool.submit(self._fetch, str(name), place) for name in np.atleast_1d(names)]
        bands = [future.result() for future in futures]
        if np.ndim(names) == 0:
            return bands[0]
        # The band axis stands behind time, unless the key picked a single date.
        has_time = bool(time_key) and not isinstance(time_key[0], int | np.integer)
        return np.stack(bands, axis=int(has_time))

    def _fetch(self, band: str, key: tuple[Any, ...]) -> np.ndarray:
        variable = self.variables[band]
        reads, picks = zip(*map(split_index, key, variable.shape), strict=True)
        rows, cols = (_describe_range(part) for part in reads[1:])
        pixels = with_retries(
            lambda: variable[reads].values, f"band {band}, rows {rows}, columns {cols}"
        )
        if self.fill_value is not None:
            pixels = np.where(np.isnan(pixels), np.float32(self.fill_value), pixels)
        picks = tuple(pick for pick in picks if pick is not None)
        picked = pixels[np.ix_(*picks)] if picks else pixels
        return picked.astype(np.float32, copy=False)


def split_index(part: Any, size: int) -> tuple[Any, np.ndarray | None]:
    """Split an index into a read without gaps and a pick out of what was read.

    Dask hands strides and lists down to its sources, and Xee reads strides as if there were none.
    The pick holds positions within the read; None for an integer, which leaves no axis.
    """
    wanted = np.arange(size)[part]
    if wanted.ndim == 0:
        return int(wanted), None
    if not wanted.size:
        return slice(0, 0), wanted
    low = int(wanted.min())
    return slice(low, int(wanted.max()) + 1), wanted - low


def _describe_range(part: Any) -> str:
    return f"{part.start or 0} to {part.stop}" if isinstance(part, slice) else str(part)


@lru_cache(maxsize=4)
def _get_pool(process_id: int, workers: int) -> ThreadPoolExecutor:
    # Keyed by the process: a fork inherits the executor, but not its threads.
    return ThreadPoolExecutor(workers, thread_name_prefix="earth-engine")


_initialising = threading.Lock()


def initialise(ee_init: Mapping[str, Any]) -> None:
    """Call ``ee.Initialize`` with these keywords in a worker process that has not.

    Raises
    ------
    SourceError
        Where that fails, saying how to pass what it needs.
    """
    import ee
    from google.auth.exceptions import GoogleAuthError

    with _initialising:
        if ee.data.is_initialized():
            return
        try:
            ee.Initialize(**ee_init)
        except (ee.EEException, GoogleAuthError, OSError, ValueError, TypeError) as error:
            raise SourceError(
                explain(
                    f"a worker process in which Earth Engine cannot be initialised with "
                    f"{sorted(ee_init)} ({type(error).__name__}: {error})",
                    "the credentials and project that the client's process has",
                    "Pass them to open_s2(..., ee_init={'project': ..., 'credentials': ...}), "
                    "or run ee.Initialize() on each worker.",
                )
            ) from error


def session_settings() -> dict[str, Any]:
    """Return project and address of this process's session, for the workers' own.

    Credentials are left to the worker (its own, stored or default ones), as secrets do not belong
    into a graph; anonymous ones are no secret and go along.
    """
    import ee
    from google.auth.credentials import AnonymousCredentials

    # The client has no public way to ask for these.
    state = ee.data._get_state() if hasattr(ee.data, "_get_state") else None
    found = {
        "project": getattr(state, "cloud_api_user_project", None),
        "url": getattr(state, "cloud_api_base_url", None),
    }
    if isinstance(getattr(state, "credentials", None), AnonymousCredentials):
        found["credentials"] = AnonymousCredentials()
    return {name: value for name, value in found.items() if value is not None}


def with_retries(request: Callable[[], T], what: str) -> T:
    """Make a request, again where the fault may pass; `what` names it in the error.

    Raises
    ------
    SourceError
        For a fault that does not pass: at once, or after `TRIES`.
    """
    import ee
    import httplib2

    failures = (ee.EEException, OSError, http.client.HTTPException, httplib2.HttpLib2Error)
    for tried in range(1, TRIES + 1):
        try:
            return request()
        except failures as error:
            if not is_transient(error) or tried == TRIES:
                raise describe_failure(error, what, tried) from error
            # Requests that were refused together must not come back together.
            time.sleep(FIRST_PAUSE_S * 2 ** (tried - 1) * random.uniform(0.75, 1.25))
    raise AssertionError("the last try returns or raises")


def is_transient(error: BaseException) -> bool:
    """Say whether the same request may succeed a moment later.

    True for too many requests, server errors, and connections that broke.
    """
    import ee

    if isinstance(error, ee.EEException):
        return status_of(error) in _TRANSIENT_STATUS
    return True


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status behind an error; the client keeps it only in what it handled."""
    for cause in _causes(error):
        response = getattr(cause, "resp", None)
        if response is not None:
            return int(response.status)
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def describe_failure(error: BaseException, what: str, tried: int) -> SourceError:
    """Say which request failed, how often it was tried, and what may help."""
    status = status_of(error)
    text = str(error).strip() or type(error).__name__
    remedy = "Look at Earth Engine's status, or try again later."
    if status == 429:
        remedy = "Lower fetch_workers (set_options or XR_TERRAMIND_FETCH_WORKERS), or wait."
    elif status in (401, 403):
        remedy = (
            "Register the project for Earth Engine, give your account the role "
            "'Service Usage Consumer' there, and pass it: ee.Initialize(project=...)."
        )
    elif any(words in text for words in ("memory limit", "timed out", "request size")):
        remedy = "Pass smaller chunks, for example chunks={'y': 448, 'x': 448}."
    elif status == 400:
        remedy = "Look at bands, collection and dates."
    times = "1 time" if tried == 1 else f"{tried} times"
    return SourceError(
        explain(
            f"no answer from Earth Engine for {what}, tried {times}: "
            f"{f'HTTP {status}, ' if status else ''}{type(error).__name__}: {text}",
            "an answer",
            remedy,
        )
    )
