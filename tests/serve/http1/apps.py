"""Applications for tests of the front."""

from __future__ import annotations

import asyncio

from serve.errors import ServeError
from serve.http1.request import ClientGone, Request

LIMIT = 1_000_000


class Echo:
    """Answers with method, path and body; asked for /slow it waits for `go`, asked for /early it reads no body.

    It keeps the requests it has seen, and those that ended with ClientGone or were cancelled.
    """

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.expired: list[Request] = []
        self.gone = self.cancelled = 0
        self.go = asyncio.Event()

    async def __call__(self, request: Request) -> None:
        self.seen.append(request)
        try:
            if request.path == b"/early":
                request.respond(200, [], b"early")
                return
            body = await request.body(LIMIT)
            if request.path == b"/slow":
                await self.go.wait()
            request.respond(200, [], b"%b %b?%b %b" % (request.method.encode(), request.path, request.query, body))
        except ServeError as error:
            request.respond(error.status, [], str(error).encode())
        except ClientGone:
            self.gone += 1
        except asyncio.CancelledError:
            self.cancelled += 1
        finally:
            request.release_bytes(request.counted_bytes)

    def expire(self, request: Request) -> None:
        self.expired.append(request)
        request.respond(408, [], b"too late")
        request.cancel_after(0)
