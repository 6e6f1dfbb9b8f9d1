"""The page of metrics on its way from the supervisor, which makes it, to a worker, which answers GET /metrics.

Only one process can add up the workers' counts, because it keeps those of workers that have died.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from serve.errors import Unavailable

log = logging.getLogger("serve")

# Prometheus' text format
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# The name of the socket in the folder that the supervisor and its workers share.
PAGE_SOCKET = "metrics.sock"
# Triton's part of the page may take one second (prometheus.py).
SECONDS = 5.0


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class PageSocket:
    """Sends the page to whoever connects to a Unix socket, in its own threads."""

    def __init__(self, path: Path, page: Callable[[], bytes]) -> None:
        """Begin to listen. Raises OSError."""

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                try:
                    text = page()
                except (OSError, ValueError) as error:
                    log.error("metrics: the workers' counts cannot be read: %s", error)
                    return
                self.request.settimeout(SECONDS)
                with suppress(OSError):  # the worker has gone
                    self.request.sendall(text)

        self._server = _Server(str(path), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop sending."""
        self._server.shutdown()
        self._server.server_close()


def read_page(path: Path) -> bytes:
    """The page that a `PageSocket` sends. Raises Unavailable if there is none."""
    parts = []
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SECONDS)
        try:
            connection.connect(str(path))
            while part := connection.recv(2**16):
                parts.append(part)
        except OSError as error:
            raise Unavailable(f"the metrics cannot be read: {error.strerror or error}; try again shortly") from error
    if not parts:
        raise Unavailable("the workers' counts cannot be read; the server's log has the reason")
    return b"".join(parts)
