"""One worker's application: the data plane answers inference and /ping, Flask in threads answers all other paths."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from serve.errors import DeadlineExceeded, MethodNotAllowed, Overloaded, RequestTimeout, ServeError, Unavailable
from serve.formats.json_format import error_json
from serve.http1 import wsgi
from serve.http1.request import ClientGone, Headers, Request
from serve.http1.state import ServerState
from serve.models.served import SERVED_FILE, VIEW_FOLDER, ServedFile
from serve.settings import Settings
from serve.telemetry.counts import CHANGES, TALLY_FOLDER, Tally
from serve.telemetry.logs import configure_logging
from serve.telemetry.page_socket import PAGE_SOCKET
from serve.telemetry.request_log import RequestLog
from serve.triton.address import address_reader
from serve.triton.admin import TritonAdmin
from serve.triton.pool import TritonPool
from serve.worker.call import Call
from serve.worker.control_plane import create_control_plane
from serve.worker.invocations import DataPlane
from serve.worker.sagemaker_headers import echoed

log = logging.getLogger("serve")

# Threads of one worker for loads and unloads, which may take minutes, and for requests that only read.
CHANGE_THREADS, READ_THREADS = 32, 4
# The status under which a request is counted whose client did not wait for the answer; nginx uses the same.
CLIENT_GONE = 499
TRACE_ID = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-")  # W3C Trace Context
# The body of POST /models is a name and a path.
MAX_CONTROL_BODY = 65_536
# The bodies of all requests together may take the memory of LARGEST_BODIES of the largest that is allowed, and at least
# MIN_BODY_BYTES.
LARGEST_BODIES, MIN_BODY_BYTES = 4, 512 * 2**20


class Application:
    """Answers the requests of one worker, which calls `start`, `tick`, `drain` and `stop` on its event loop."""

    def __init__(self, settings: Settings, scratch: Path) -> None:
        self.settings = settings
        max_body_bytes = max(MIN_BODY_BYTES, LARGEST_BODIES * settings.max_body_bytes)
        self.state = ServerState(settings.timeout_seconds, max_body_bytes)
        address = address_reader(scratch)
        served = ServedFile(scratch / SERVED_FILE, scratch / VIEW_FOLDER)
        self.tally = Tally(scratch / TALLY_FOLDER)
        self.log = RequestLog(settings.access_log)
        self.data_plane = DataPlane(settings, self.state, served, TritonPool(address), TritonPool(address), self.tally)
        self.flask = create_control_plane(settings, served, TritonAdmin(address), scratch / PAGE_SOCKET)
        self.changes = ThreadPoolExecutor(CHANGE_THREADS, "change")
        self.reads = ThreadPoolExecutor(READ_THREADS, "read")
        self.in_threads: set[Future[tuple[int, Headers, bytes]]] = set()  # requests that these threads answer
        self.calls: dict[Request, Call] = {}  # requests for the data plane that are not answered yet
        self.stopping: asyncio.Future[None]

    def start(self) -> None:
        """On the event loop, before the first request."""
        self.stopping = asyncio.get_running_loop().create_future()

    def drain(self) -> None:
        """Answer unfinished loads and unloads with 503: the server stops, and its models are gone with it."""
        self.stopping.set_result(None)

    def tick(self) -> None:
        """Several times a second: write the log of requests and the counts."""
        self.log.flush()
        self.tally.flush()

    def stop(self) -> None:
        """After the last request."""
        self.log.close()
        self.tally.close()
        for threads in (self.changes, self.reads):
            threads.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, request: Request) -> None:
        """Answer one request; every failure becomes an answer."""
        try:
            path = request.path
            if path in DataPlane.PATHS or (path[:8] == b"/models/" and path[8:].endswith(b"/invoke")):
                call = self.calls[request] = self.data_plane.call(request)
                await self.data_plane(request, call)
            else:
                await self.control(request)
        except (ClientGone, asyncio.CancelledError):
            pass
        except ServeError as error:
            self.fail(request, error)
        except Exception:  # a bug of ours: the caller gets an answer, the log the traceback
            log.exception("%s %s failed", request.method, request.path[:200].decode("latin-1").encode("unicode_escape"))
            self.fail(request, ServeError("internal error; the server's log says more"))
        finally:
            request.release_bytes(request.counted_bytes)
            if (done := self.calls.pop(request, None)) is not None:
                done.leave()
                if done.kind:
                    self.note(request, done)
            elif request.method in CHANGES and request.path[:7] == b"/models":
                status = request.status or CLIENT_GONE
                self.tally.end("", CHANGES[request.method], status, time.monotonic() - request.started)

    def note(self, request: Request, call: Call) -> None:
        """Count a request for inference that is over, and log it if it failed or all are logged."""
        status = request.status or CLIENT_GONE
        seconds = time.monotonic() - request.started
        self.tally.end(call.model, call.kind, status, seconds)
        if status >= 500 or self.settings.access_log:
            trace = TRACE_ID.match(request.headers.get(b"traceparent", b""))
            trace_id = trace[1].decode() if trace else ""
            self.log.add(call.id, call.model, call.kind, status, seconds, call.error, trace_id)

    def fail(self, request: Request, error: ServeError) -> None:
        """Answer with an error, or break off an answer that was begun."""
        error_body: Callable[[str, str], bytes] = error_json
        if (call := self.calls.get(request)) is not None:
            call.error, error_body = str(error), call.error_body
        if request.status:
            request.abort()
            return
        headers: Headers = [(b"content-type", b"application/json"), *echoed(request.headers)]
        if isinstance(error, MethodNotAllowed):
            headers.append((b"allow", error.allow.encode()))
        if isinstance(error, Overloaded):
            headers.append((b"retry-after", b"1"))
        request.respond(error.status, headers, error_body(str(error), error.code))

    def expire(self, request: Request) -> None:
        """End a request that is too old, unless it is a load or an unload, which have time limits of their own."""
        limit = f"{self.settings.timeout_seconds:g} s (SERVE_TIMEOUT_SECONDS)"
        if not request.complete:
            self.fail(request, RequestTimeout(f"the request's body did not come within {limit}"))
            request.cancel_after(0)
        elif request in self.calls and self.calls[request].kind:
            self.fail(request, DeadlineExceeded(f"the request was not answered within {limit}"))
            request.cancel_after(0 if request.cancel else self.settings.timeout_seconds)

    async def control(self, request: Request) -> None:
        """Answer a request by Flask, in a thread. Raises ServeError."""
        body = await request.body(MAX_CONTROL_BODY)
        reads = request.method in ("GET", "HEAD")
        arguments = (self.flask, request.method, request.path, request.query, request.headers, body)
        called = (self.reads if reads else self.changes).submit(wsgi.call, *arguments)
        self.in_threads.add(called)
        called.add_done_callback(self.in_threads.discard)
        answer = asyncio.wrap_future(called)
        await asyncio.wait((answer,) if reads else (answer, self.stopping), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise Unavailable("the server is stopping")
        request.respond(*answer.result())


def create_application(scratch: str) -> Application:
    """The application of one worker; gunicorn calls it in the worker, after the fork."""
    configure_logging()
    # A large body becomes many objects and no garbage. With Python's usual threshold the collector looks at all of them
    # again and again, which took nine tenths of the time of reading such a body (docs/log.md).
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)
    return Application(Settings.from_environment(os.environ), Path(scratch))
