"""Puts the two planes together for a gunicorn worker."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

from a2wsgi import WSGIMiddleware
from uvicorn_worker import UvicornWorker

from serve.control_plane import create_control_plane
from serve.data_plane import DataPlane, Receive, Scope, Send
from serve.served import SERVED_FILE, VIEW_FOLDER, ServedFile
from serve.settings import Settings
from serve.triton import TritonPool
from serve.triton_admin import TritonAdmin

CONTROL_THREADS = 4


class Worker(UvicornWorker):  # type: ignore[misc]
    """uvicorn's worker without what this service does not use: every header and log line is paid by every request."""

    CONFIG_KWARGS = {  # noqa: RUF012  the name and kind are uvicorn_worker's
        "loop": "uvloop",
        "http": "httptools",
        "ws": "none",
        "lifespan": "off",
        "interface": "asgi3",
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
    }


class Application:
    """One ASGI callable: the data plane for its few paths, Flask for the rest."""

    def __init__(
        self, settings: Settings, served: ServedFile, triton: TritonPool, health: TritonPool, admin: TritonAdmin
    ) -> None:
        self.data_plane = DataPlane(settings, served, triton, health)
        # Any, because a2wsgi and Flask type the WSGI environment differently.
        flask: Any = create_control_plane(settings, served, admin)
        self.control_plane = WSGIMiddleware(flask, workers=CONTROL_THREADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in DataPlane.PATHS:
            await self.data_plane(scope, receive, send)
        else:
            await self.control_plane(scope, receive, send)  # type: ignore[arg-type]


def create_app(triton_host: str, http_port: int, grpc_port: int, scratch: str) -> Application:
    """The application of one worker; gunicorn calls it in the worker, after the fork."""
    # A large body makes many objects and no garbage: with Python's usual threshold the collector looks at all of them
    # again and again, which was nine tenths of the time of reading one (docs/log.md).
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)
    settings = Settings.from_environment(os.environ)
    triton, health = TritonPool(triton_host, http_port), TritonPool(triton_host, http_port)
    served = ServedFile(Path(scratch, SERVED_FILE), Path(scratch, VIEW_FOLDER))
    return Application(settings, served, triton, health, TritonAdmin(triton_host, grpc_port))
