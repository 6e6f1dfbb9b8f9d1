"""One worker's application: the data plane for its few paths, Flask in threads for the rest."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from serve.errors import DeadlineExceeded, MethodNotAllowed, Overloaded, RequestTimeout, ServeError, Unavailable
from serve.formats.json_format import error_json
from serve.http1.request import ClientGone, Headers, Request
from serve.http1.server import Server
from serve.http1.wsgi import call
from serve.models.served import SERVED_FILE, VIEW_FOLDER, ServedFile
from serve.settings import Settings
from serve.telemetry.counts import TALLY_FOLDER, Tally
from serve.telemetry.request_log import RequestLog
from serve.triton.address import ADDRESS_FILE
from serve.triton.admin import TritonAdmin
from serve.triton.pool import TritonPool
from serve.worker.call import Call
from serve.worker.control_plane import create_control_plane
from serve.worker.invocations import DataPlane
from serve.worker.sagemaker_headers import echoed

log = logging.getLogger("serve")

# Loads and unloads may take minutes: so many may be under way in one worker before others wait, but for those that only
# look.
CHANGES, READS = 32, 4
# What a request whose client did not wait is counted as, as nginx does.
CLIENT_GONE = 499
TRACE_ID = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-")  # W3C Trace Context
# /models takes a name and an address.
MAX_CONTROL_BODY = 65_536


class Application:
    """What a worker answers requests with; `start`, `tick` and `stop` frame its life on the event loop."""

    def __init__(self, settings: Settings, scratch: Path) -> None:
        self.settings = settings
        address = scratch / ADDRESS_FILE
        served = ServedFile(scratch / SERVED_FILE, scratch / VIEW_FOLDER)
        counted = settings.allow_metrics or settings.emf_seconds
        self.tally = Tally(scratch / TALLY_FOLDER if counted else None)
        self.log = RequestLog(settings.access_log)
        self.data_plane = DataPlane(settings, served, TritonPool(address), TritonPool(address), self.tally)
        self.flask = create_control_plane(settings, served, TritonAdmin(address))
        self.changes, self.reads = ThreadPoolExecutor(CHANGES, "change"), ThreadPoolExecutor(READS, "read")
        self.at_work: set[Future[tuple[int, Headers, bytes]]] = set()  # what these threads have to do
        self.calls: dict[Request, Call] = {}  # requests for the data plane that are not answered yet
        self.stopping: asyncio.Future[None]

    def start(self, server: Server) -> None:
        self.data_plane.ping.server = server
        self.stopping = asyncio.get_running_loop().create_future()

    def drain(self) -> None:
        """Loads and unloads are not waited for any more: the server goes, and what is loaded with it."""
        self.stopping.set_result(None)

    @property
    def busy(self) -> bool:
        """Whether a thread is still at something; the process would wait for it to end."""
        return bool(self.at_work)

    def tick(self) -> None:
        """Several times a second."""
        self.log.flush()
        self.tally.flush()

    def stop(self) -> None:
        self.log.close()
        self.tally.close()
        for threads in (self.changes, self.reads):
            threads.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, request: Request) -> None:
        """Answer one request, whatever happens."""
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
            request.let_go(request.held)
            if (done := self.calls.pop(request, None)) is not None:
                done.leave()
                if done.kind:
                    self.note(request, done)

    def note(self, request: Request, call: Call) -> None:
        """Count and log a request for inference that is over."""
        status = request.status or CLIENT_GONE
        seconds = time.monotonic() - request.started
        self.tally.end(call.model, call.kind, status, seconds)
        if status >= 500 or self.settings.access_log:
            trace = TRACE_ID.match(request.headers.get(b"traceparent", b""))
            trace_id = trace[1].decode() if trace else ""
            self.log.add(call.id, call.model, call.kind, status, seconds, call.error, trace_id)

    def fail(self, request: Request, error: ServeError) -> None:
        """Answer with an error; an answer that was begun is broken off instead."""
        if (call := self.calls.get(request)) is not None:
            call.error = str(error)
        if request.status:
            if request.connection.current is request:
                request.abort()
            return
        headers: Headers = [(b"content-type", b"application/json"), *echoed(request.headers)]
        if isinstance(error, MethodNotAllowed):
            headers.append((b"allow", error.allow.encode()))
        if isinstance(error, Overloaded):
            headers.append((b"retry-after", b"1"))
        request.respond(error.status, headers, error_json(str(error), error.code))

    def expire(self, request: Request) -> None:
        """Answer a request that is too old, or break its stream off; loads and unloads have times of their own."""
        limit = f"{self.settings.timeout_seconds:g} s (SERVE_TIMEOUT_SECONDS)"
        inference = request in self.calls and self.calls[request].kind
        if not request.complete:
            self.fail(request, RequestTimeout(f"the request's body did not come within {limit}"))
        elif inference:
            self.fail(request, DeadlineExceeded(f"the request was not answered within {limit}"))
        if inference:
            request.give_up_after(0 if request.cancel or not request.complete else self.settings.timeout_seconds)

    async def control(self, request: Request) -> None:
        body = await request.body(MAX_CONTROL_BODY)
        reads = request.method in ("GET", "HEAD")
        arguments = (self.flask, request.method, request.path, request.query, request.headers, body)
        work = (self.reads if reads else self.changes).submit(call, *arguments)
        self.at_work.add(work)
        work.add_done_callback(self.at_work.discard)
        answer = asyncio.wrap_future(work)
        await asyncio.wait((answer,) if reads else (answer, self.stopping), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise Unavailable("the server is stopping")
        request.respond(*answer.result())


def create_application(scratch: str) -> Application:
    """The application of one worker; gunicorn calls it in the worker, after the fork."""
    # A large body makes many objects and no garbage: with Python's usual threshold the collector looks at all of them
    # again and again, which was nine tenths of the time of reading one (docs/log.md).
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)
    return Application(Settings.from_environment(os.environ), Path(scratch))
