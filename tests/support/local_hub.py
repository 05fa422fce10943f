"""A Hugging Face hub on this machine, with the files that a test gives it."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from xr_terramind.model.specs import MODELS


class Hub(BaseHTTPRequestHandler):
    """What huggingface_hub asks: HEAD and GET of /<repo>/resolve/main/<file>."""

    protocol_version = "HTTP/1.1"
    files: ClassVar[dict[str, bytes]]
    gated: ClassVar[str]
    asked: ClassVar[list[tuple[str, str]]]

    def do_HEAD(self) -> None:
        self.asked.append((self.command, self.path))
        content = self.files.get(self.path, b"")
        if self.path == self.gated:
            self.send_response(403)
            self.send_header("X-Error-Code", "GatedRepo")
        else:
            self.send_response(200 if content or self.path == "/" else 404)
        if content:
            self.send_header("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567")
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_GET = do_HEAD

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def local_hub(
    files: dict[str, bytes], gated: str = ""
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    hub = type("LocalHub", (Hub,), {"files": files, "gated": gated, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", hub.asked
        finally:
            server.shutdown()
            thread.join()


def hub_path(key: str) -> str:
    return f"/{MODELS[key].hub_id}/resolve/main/{MODELS[key].hub_file}"
