"""The application that tests of the front put behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from serve.errors import ServeError
from serve.http1.request import ClientGone, Request

LIMIT = 1_000_000


async def echo(request: Request) -> None:
    """Answer with the request's own method, path, query and body."""
    body = await request.body(LIMIT)
    request.respond(200, [], b"%b %b?%b %b" % (request.method.encode(), request.path, request.query, body))


class App:
    """Answers requests by a function, and keeps the requests and how their tasks ended."""

    def __init__(self, answer: Callable[[Request], Awaitable[None]] = echo) -> None:
        self.answer = answer
        self.seen: list[Request] = []
        self.expired: list[Request] = []
        self.ends: list[str] = []  # "answered", "failed", "client gone", "cancelled"

    async def __call__(self, request: Request) -> None:
        self.seen.append(request)
        end = "answered"
        try:
            await self.answer(request)
        except ServeError as error:
            end = "failed"
            request.respond(error.status, [], str(error).encode())
        except ClientGone:
            end = "client gone"
        except asyncio.CancelledError:
            end = "cancelled"
        finally:
            self.ends.append(end)
            request.release_bytes(request.counted_bytes)

    def expire(self, request: Request) -> None:
        self.expired.append(request)
        request.abort() if request.status else request.respond(408, [], b"too late")
        request.cancel_after(0)
