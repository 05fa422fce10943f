"""Faults on demand: what goes wrong between a client and Earth Engine.

How each kind reaches the user, through earthengine-api with `ee.data.setMaxRetries(0)`; with the
default of 5 the client first repeats those marked *, with growing pauses. Around that, Xee
repeats what raises an EEException; a ConnectionError or TimeoutError ends its read at once.

============  ========================================  =========================================
kind          what the server does                      what the client raises
============  ========================================  =========================================
`429` *       too many requests                         EEException, "Too many concurrent ..."
`500` *       internal error                            EEException, "An internal error ..."
`503` *       service unavailable                       EEException, "The service is ..."
`403`         no permission for the project             EEException, "Caller does not have ..."
`memory`      400, out of memory                        EEException, "User memory limit exceeded."
`timeout`     400, computation took too long            EEException, "Computation timed out."
`too_large`   400, as for a request over 48 MB          EEException, "Total request size (...)"
`reset` *     closes the connection with a reset        ConnectionError
`truncated` * half of the answer, then the end          ConnectionError
`slow`        waits `delay_s`, then answers             nothing, or TimeoutError past the client's
                                                        own `ee.data.setDeadline`
============  ========================================  =========================================
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass

from tests.support.earth_engine.values import EarthEngineError

_ERRORS = {
    "429": (429, "RESOURCE_EXHAUSTED", "Too many concurrent aggregations."),
    "500": (500, "INTERNAL", "An internal error has occurred."),
    "503": (503, "UNAVAILABLE", "The service is currently unavailable."),
    "403": (
        403,
        "PERMISSION_DENIED",
        "Caller does not have required permission to use project test. Grant the caller the "
        "roles/serviceusage.serviceUsageConsumer role.",
    ),
    "memory": (400, "INVALID_ARGUMENT", "User memory limit exceeded."),
    "timeout": (400, "INVALID_ARGUMENT", "Computation timed out."),
    "too_large": (
        400,
        "INVALID_ARGUMENT",
        "Total request size (50331649 bytes) must be less than or equal to 50331648 bytes.",
    ),
}
KINDS = (*_ERRORS, "reset", "truncated", "slow")


@dataclass
class Fault:
    """One thing that goes wrong, and when.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    times : int, optional
        How many requests it hits; all of them where not given.
    path : str, optional
        Only requests whose path contains this, for instance "computePixels" or "value:compute".
    method : str, optional
        Only GET or only POST.
    band : str, optional
        Only pixel requests that ask for this band.
    delay_s : float
        How long `slow` waits.
    """

    kind: str
    times: int | None = None
    path: str | None = None
    method: str | None = None
    band: str | None = None
    delay_s: float = 1.0

    def __post_init__(self):
        """Refuse a kind that does not exist."""
        if self.kind not in KINDS:
            raise ValueError(f"found fault kind {self.kind!r}, expected one of {KINDS}")

    def hits(self, method: str, path: str, bands: tuple[str, ...]) -> bool:
        """Say whether a request is one this fault is meant for, and still due."""
        return (
            self.times != 0
            and (self.path is None or self.path in path)
            and (self.method is None or self.method == method)
            and (self.band is None or self.band in map(_plain_name, bands))
        )

    def error(self) -> EarthEngineError | None:
        """Return the error to answer with, or None where the fault is one of the connection."""
        if self.kind not in _ERRORS:
            return None
        code, status, message = _ERRORS[self.kind]
        return EarthEngineError(message, code, status)


def _plain_name(band: str) -> str:
    """Undo the numbers by which Xee's one request for several dates tells its bands apart."""
    return re.sub(r"_\d+$", "", band)


class FaultList:
    """The faults of a server; safe to ask from many threads."""

    def __init__(self):
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Add one."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._faults.clear()

    def take(self, method: str, path: str, bands: tuple[str, ...] = ()) -> Fault | None:
        """Return the first fault that hits a request, and count it down."""
        with self._lock:
            for fault in self._faults:
                if fault.hits(method, path, bands):
                    fault.times = None if fault.times is None else fault.times - 1
                    return fault
        return None
