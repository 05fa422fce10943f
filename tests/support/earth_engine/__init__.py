"""A local Earth Engine for tests, driven by the real clients.

It listens on 127.0.0.1, serves a synthetic Sentinel-2 archive (`scenes`), and evaluates what
earthengine-api and Xee send (`evaluator`, the `*_algorithms` modules, `images`). It logs every
request and fails on demand (`faults`). An algorithm it does not know is answered with a 400 that
names it, never with a number of its own making.

In a test::

    with LocalEarthEngine() as engine:
        engine.initialize()
        cube = xr.open_dataset(collection, engine="ee", ...)
        assert len(engine.pixel_requests) == 12

By hand: ``python -m tests.support.earth_engine`` prints the address and the snippet to connect.

What it takes for granted, where Earth Engine leaves a choice or this server knows less:

- pixels are the nearest ones of a band's own grid, at every scale: there are no pyramids;
- a median over an even number of values is the mean of the two in the middle;
- composites are unbounded and described in EPSG:4326 with pixels of one degree;
- pixels still masked at the end are 0 in an NPY answer, and cost one byte of the 48 MB each;
- footprints have straight edges in longitude and latitude, and masks are all or nothing.
"""

from __future__ import annotations

import contextlib
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import ClassVar

import ee
from google.auth.credentials import AnonymousCredentials

from tests.support.earth_engine.faults import KINDS, Fault
from tests.support.earth_engine.scenes import (
    CLOUD_SCORE_PLUS,
    S2_SR,
    S2_TOA,
    Scene,
    expected_pixels,
    linked,
    pixel_value,
    scenes,
    select_scenes,
)
from tests.support.earth_engine.server import Request, Server

__all__ = [
    "CLOUD_SCORE_PLUS",
    "KINDS",
    "S2_SR",
    "S2_TOA",
    "LocalEarthEngine",
    "Request",
    "Scene",
    "expected_pixels",
    "linked",
    "pixel_value",
    "scenes",
    "select_scenes",
]

PROJECT = "test"


class LocalEarthEngine:
    """An Earth Engine server on this machine, running while its `with` block does.

    Parameters
    ----------
    port : int, default 0
        Where to listen; 0 takes a free port.
    """

    # The client keeps one connection for the whole process: this is the server it leads to.
    _current: ClassVar[LocalEarthEngine | None] = None

    def __init__(self, port: int = 0):
        self._server = Server(port)
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> LocalEarthEngine:
        """Start to serve."""
        direct = {name: self.environment[name] for name in ("no_proxy", "NO_PROXY")}
        self._cleanup.enter_context(_environment(direct))
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        for stop in (thread.join, self._server.server_close, self._server.close_connections):
            self._cleanup.callback(stop)
        self._cleanup.callback(self._server.shutdown)
        return self

    def __exit__(self, *_) -> None:
        """Stop, and disconnect the client if it was connected here."""
        if LocalEarthEngine._current is self:
            LocalEarthEngine._current = None
            ee.Reset()
        self._cleanup.close()

    @property
    def url(self) -> str:
        """The address for `ee.Initialize(url=...)`."""
        return self._server.url

    @property
    def init_kwargs(self) -> dict:
        """What another process passes to `ee.Initialize`; it can be pickled."""
        return {"url": self.url, "project": PROJECT, "credentials": AnonymousCredentials()}

    @property
    def environment(self) -> dict[str, str]:
        """Variables for other processes, so that Initialize asks no outside host there either."""
        direct = filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1", "localhost"])
        variables = {"https_proxy": "http://127.0.0.1:9", "no_proxy": ",".join(direct)}
        # Libraries differ in which spelling they prefer.
        return variables | {name.upper(): value for name, value in variables.items()}

    def initialize(self, max_retries: int = 0) -> None:
        """Connect this process's Earth Engine client, and forget what it was connected to.

        Parameters
        ----------
        max_retries : int, default 0
            How often the client repeats a request that failed; its own default, 5, takes minutes.
        """
        ee.Reset()
        with _no_outside_host():
            ee.Initialize(**self.init_kwargs)
        ee.data.setMaxRetries(max_retries)
        LocalEarthEngine._current = self

    @property
    def requests(self) -> list[Request]:
        """All requests since the start or the last `reset`, in order of arrival."""
        with self._server.lock:
            return list(self._server.log)

    @property
    def pixel_requests(self) -> list[Request]:
        """The requests for pixels among them."""
        return [request for request in self.requests if request.kind == "pixels"]

    @property
    def value_requests(self) -> list[Request]:
        """The requests for values, those of `getInfo`, among them."""
        return [request for request in self.requests if request.kind == "value"]

    def fault(self, kind: str, times: int | None = None, **where) -> None:
        """Let requests fail: all, or the next so many; see `faults.Fault` for the choices.

        Parameters
        ----------
        kind : str
            One of `KINDS`.
        times : int, optional
            How many requests it hits; all of them where not given.
        **where
            `path`, `method` and `band` restrict it; `delay_s` is for "slow".
        """
        self._server.faults.add(Fault(kind, times, **where))

    def reset(self) -> None:
        """Forget the log and all faults."""
        self._server.faults.clear()
        with self._server.lock:
            self._server.log.clear()


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _RefuseHttps(urllib.request.HTTPSHandler):
    def https_open(self, req):
        raise urllib.error.URLError(f"the local Earth Engine asks no outside host ({req.host})")


@contextlib.contextmanager
def _no_outside_host() -> Iterator[None]:
    """Refuse HTTPS for a moment: Initialize asks a storage host too, with no time-out.

    The client takes a refusal for an answer. What it asks through urllib's default opener, and
    that opener remembers proxies from its first use, so setting variables could come too late.
    """
    before = urllib.request._opener
    urllib.request.install_opener(urllib.request.build_opener(_RefuseHttps))
    try:
        yield
    finally:
        urllib.request.install_opener(before)
