"""The HTTP side: the four requests that the Python clients send, their log, and their faults.

The discovery document and the list of algorithms are those that the installed earthengine-api
ships with its own tests, so the client is never told anything it does not know.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.resources
import io
import json
import logging
import socket
import struct
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np

from tests.support.earth_engine import (  # noqa: F401 - importing them registers what they know
    collection_algorithms,
    image_algorithms,
    value_algorithms,
)
from tests.support.earth_engine.evaluator import evaluate
from tests.support.earth_engine.faults import FaultList
from tests.support.earth_engine.images import Grid, Image
from tests.support.earth_engine.values import EarthEngineError, to_json

REQUEST_LIMIT_BYTES = 48 * 2**20
SIDE_LIMIT_PX = 32_768
_logger = logging.getLogger(__name__)


@dataclass
class Request:
    """One request, as the log keeps it.

    Attributes
    ----------
    method, path : str
        As sent, the path without its query.
    kind : str
        "discovery", "algorithms", "value", "pixels" or "unknown".
    status : int
        Of the answer; 0 where the connection was reset.
    bytes_answered : int
        Length of the answer's body.
    grid : Grid, optional
        What a pixel request asked for.
    bands : tuple of str
        The bands it asked for; Xee numbers the dates of one request, B2, B2_1, ...
    charged_bytes : int
        What counts against the limit of 48 MB.
    fault : str, optional
        The fault that hit it.
    in_flight : int
        How many requests were being answered when it arrived, itself among them.
    """

    method: str
    path: str
    kind: str
    status: int = 0
    bytes_answered: int = 0
    grid: Grid | None = None
    bands: tuple[str, ...] = ()
    charged_bytes: int = 0
    fault: str | None = None
    in_flight: int = 1


_REQUEST_KINDS = {
    ("GET", "/$discovery/rest"): "discovery",
    ("GET", "algorithms"): "algorithms",
    ("POST", "value:compute"): "value",
    ("POST", "image:computePixels"): "pixels",
}


def _kind(method: str, path: str) -> str:
    known = (
        kind for (m, end), kind in _REQUEST_KINDS.items() if m == method and path.endswith(end)
    )
    return next(known, "unknown")


class Server(ThreadingHTTPServer):
    """A local Earth Engine on 127.0.0.1; port 0 takes a free one."""

    daemon_threads = True
    # A stopped test should not wait for clients that keep their connections.
    block_on_close = False

    def __init__(self, port: int = 0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.faults = FaultList()
        self.log: list[Request] = []
        self.lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._busy = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def process_request(self, request, client_address):
        """Remember the connection, then handle it in a thread of its own."""
        with self.lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        """Forget the connection."""
        with self.lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """End the connections that clients keep open."""
        with self.lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address):
        """Stay silent when a client goes away in the middle of an answer."""

    @contextlib.contextmanager
    def logged(self, request: Request):
        """Put a request into the log for as long as it is answered, and after."""
        with self.lock:
            self._busy += 1
            request.in_flight = self._busy
            self.log.append(request)
        try:
            yield
        finally:
            with self.lock:
                self._busy -= 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Server

    def log_message(self, *_):
        """Write nothing: the server keeps its own log."""

    def do_GET(self):
        self._answer("GET")

    def do_POST(self):
        self._answer("POST")

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        request = Request(method, path, _kind(method, path))
        with self.server.logged(request):
            try:
                self._send(request, 200, *self._content(request, body))
            except EarthEngineError as error:
                self._send_error(request, error)
            except OSError:
                raise
            except Exception as error:
                # Answered as 400: the client would repeat a 500, and hide the defect for minutes.
                _logger.exception("the local Earth Engine failed")
                self._send_error(request, EarthEngineError(f"local server defect: {error!r}"))

    def _content(self, request: Request, body: bytes) -> tuple[str, bytes]:
        """Return the type and the body of the answer, after the fault that is due, if any."""
        parsed = json.loads(body) if body else {}
        render = self._prepare(request, parsed)
        fault = self.server.faults.take(request.method, request.path, request.bands)
        if fault is not None:
            request.fault = fault.kind
            if fault.kind == "slow":
                time.sleep(fault.delay_s)
            if error := fault.error():
                raise error
        return render()

    def _prepare(self, request: Request, parsed: dict):
        """Read a request as far as its log entry needs; return what computes the answer."""
        match request.kind:
            case "discovery":
                return lambda: ("application/json", _discovery_document(self.server.url))
            case "algorithms":
                return lambda: ("application/json", _test_data("algorithms.json"))
            case "value":
                return lambda: _json_answer({"result": to_json(evaluate(parsed["expression"]))})
            case "pixels":
                return _prepare_pixels(request, parsed)
        found = (
            f"found {request.method} {request.path}, the local server answers {[*_REQUEST_KINDS]}"
        )
        raise EarthEngineError(found, 404, "NOT_FOUND")

    def _send_error(self, request: Request, error: EarthEngineError) -> None:
        fields = {"code": error.code, "message": error.message, "status": error.status}
        self._send(request, error.code, *_json_answer({"error": fields}))

    def _send(self, request: Request, status: int, content_type: str, body: bytes) -> None:
        if request.fault == "reset":
            self._reset()
            return
        request.status, request.bytes_answered = status, len(body)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if request.fault == "truncated":
            request.bytes_answered = len(body) // 2
            self.close_connection = True
        self.wfile.write(body[: request.bytes_answered])
        self.wfile.flush()

    def _reset(self) -> None:
        """Close such that the client sees a reset, not an orderly end."""
        linger_no_time = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_no_time)
        self.close_connection = True
        # An orderly shutdown would come first otherwise.
        self.connection.close()


def _json_answer(value: dict) -> tuple[str, bytes]:
    return "application/json", json.dumps(value).encode()


@functools.cache
def _test_data(name: str) -> bytes:
    return importlib.resources.files("ee.tests").joinpath(name).read_bytes()


def _discovery_document(url: str) -> bytes:
    text = _test_data("cloud_api_discovery_document.json").decode().replace("v1alpha", "v1")
    document = json.loads(text)
    document.update(rootUrl=f"{url}/", baseUrl=f"{url}/", servicePath="")
    return json.dumps(document).encode()


def _prepare_pixels(request: Request, parsed: dict):
    image = evaluate(parsed["expression"])
    if not isinstance(image, Image):
        raise EarthEngineError(f"computePixels: found {type(image).__name__}, expected an image")
    if parsed.get("fileFormat") != "NPY" or "bandIds" in parsed:
        raise EarthEngineError("computePixels: the local server answers NPY with all bands")
    request.grid = _grid(parsed.get("grid", {}))
    request.bands = tuple(image.band_names)
    height, width = request.grid.shape
    # Earth Engine counts a byte of mask beside each value.
    bytes_a_pixel = sum(band.type.dtype.itemsize + 1 for band in image.bands)
    request.charged_bytes = width * height * bytes_a_pixel
    return lambda: _pixels(request, image)


def _grid(described: dict) -> Grid:
    try:
        size, affine = described["dimensions"], described["affineTransform"]
        crs = described.get("crsCode") or described["crsWkt"]
    except KeyError as error:
        raise EarthEngineError(
            f"computePixels: the grid has no {error}; the local server needs dimensions, "
            "affineTransform and crsCode"
        ) from error
    names = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
    return Grid(size["width"], size["height"], tuple(affine.get(name, 0.0) for name in names), crs)


def _pixels(request: Request, image: Image) -> tuple[str, bytes]:
    """Render all bands as a structured NPY array; masked pixels hold 0."""
    height, width = request.grid.shape
    if max(width, height) > SIDE_LIMIT_PX:
        raise EarthEngineError(
            f"Pixel grid dimensions ({width}x{height}) must be less than or equal to "
            f"{SIDE_LIMIT_PX}."
        )
    if request.charged_bytes > REQUEST_LIMIT_BYTES:
        raise EarthEngineError(
            f"Total request size ({request.charged_bytes} bytes) must be less than or equal to "
            f"{REQUEST_LIMIT_BYTES} bytes."
        )
    if not image.bands:
        raise EarthEngineError("computePixels: Image has no bands.")
    pixels = np.zeros(request.grid.shape, [(band.name, band.type.dtype) for band in image.bands])
    for band in image.bands:
        pixels[band.name] = np.nan_to_num(band.render(request.grid))
    answer = io.BytesIO()
    np.save(answer, pixels)
    return "application/octet-stream", answer.getvalue()
