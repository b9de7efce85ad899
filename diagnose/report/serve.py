"""One run folder on the loopback interface, for machines without a display: nothing else is served or listed."""

from __future__ import annotations

import mimetypes
import secrets
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from diagnose.errors import DiagnoseError
from diagnose.report import HTML

IDLE = 30 * 60.0  # seconds without a request after which serving ends
LARGEST = 64 * 2**20  # bytes of one file


def serve(folder: Path, ready: Callable[[str], None], port: int = 0, idle: float = IDLE) -> None:
    """Serve a run folder until Ctrl-C, or until nobody has asked for `idle` seconds.

    The address holds a secret, because other users of the machine reach its loopback interface too.

    Args:
        ready: called with the address of the report once it can be opened.
        port: 0 for a free one.

    Raises:
        DiagnoseError: there is no report in the folder, or the port is taken.
    """
    folder = folder.resolve()
    if not (folder / HTML).is_file():
        raise DiagnoseError(f"{folder}: no {HTML}")
    secret = secrets.token_urlsafe(16)
    try:
        server = _Server(("127.0.0.1", port), _Handler)
    except (OSError, OverflowError) as e:
        raise DiagnoseError(f"--port {port}: {getattr(e, 'strerror', None) or e}; leave it out for a free one") from e
    server.folder, server.secret, server.asked = folder, secret, time.monotonic()
    with server:
        ready(f"http://127.0.0.1:{server.server_address[1]}/{secret}/{HTML}")
        while time.monotonic() < server.asked + idle:
            server.handle_request()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = False
    timeout = 0.5  # seconds that `handle_request` waits
    folder: Path
    secret: str
    asked: float


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version, sys_version = "diagnose", ""
    timeout = 30  # seconds that a silent connection is kept

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        found = inside(self.server.folder, self.path, self.server.secret)
        if found is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            data = found.read_bytes()
        except OSError:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.server.asked = time.monotonic()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", _kind(found))
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the terminal shows the address."""


def inside(folder: Path, address: str, secret: str) -> Path | None:
    """The file below `folder` that a request means, or None; links that lead out of the folder lead nowhere."""
    try:
        first, *parts = unquote(urlsplit(address).path, errors="strict").removeprefix("/").split("/")
        if not secrets.compare_digest(first.encode(), secret.encode()):
            return None
        if any(part in ("", ".", "..") or part.startswith(".") or "\\" in part for part in parts) or not parts:
            return None
        found = folder.joinpath(*parts).resolve(strict=True)
        allowed = found.is_relative_to(folder.resolve()) and found.is_file() and found.stat().st_size <= LARGEST
    except (OSError, ValueError, RuntimeError):  # no such file, a NUL, no UTF-8, a loop of links
        return None
    return found if allowed else None


def _kind(path: Path) -> str:
    if path.suffix in (".md", ".sarif", ".xml"):  # read, not run or downloaded
        return "text/plain; charset=utf-8"
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") or kind == "application/json" else kind
