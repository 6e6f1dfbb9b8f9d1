"""What an HTTP front costs: CPU time of the worker for a request whose application does nothing.

Our front (serve/http1) beside gunicorn's own ASGI worker, each with one worker on uvloop. The client keeps a number of
connections busy: it sends a request on each of them, then reads all answers, and so on.

    python -m benchmarks.serving.http_front --requests 100000 --connections 16
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

BODY = b'{"model": "ncf_food_model", "pairs": [{"user_id": "u17", "item_id": "sushi-01"}]}'
ANSWER = b'{"model_name": "ncf_food_model", "model_version": "1", "scores": [1.234567]}'
HEAD = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
MODULE = "benchmarks.serving.http_front"
ROOT = Path(__file__).parents[2]


class NothingToDo:
    """Our front's application: it reads the body and answers."""

    async def __call__(self, request: Any) -> None:
        await request.body(1_000_000)
        request.respond(200, [(b"content-type", b"application/json")], ANSWER)
        request.release_bytes(request.counted_bytes)

    def expire(self, request: Any) -> None:
        """No request takes that long."""


async def nothing_to_do(
    scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Awaitable[None]]
) -> None:
    """The same as an ASGI application."""
    if scope["type"] == "lifespan":
        while True:
            event = (await receive())["type"]
            await send({"type": f"{event}.complete"})
            if event == "lifespan.shutdown":
                return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


def run_our_front(port: int) -> None:
    """Serve until killed."""
    import uvloop

    from serve.http1.server import Server
    from serve.http1.state import ServerState

    async def serve() -> None:
        server = Server(NothingToDo(), ServerState(60.0, 2**29), 1000)
        await asyncio.get_running_loop().create_server(server.connection, "127.0.0.1", port, backlog=2048)
        while True:
            server.tick()
            await asyncio.sleep(0.25)

    uvloop.run(serve())


def command(front: str, port: int) -> list[str]:
    if front == "serve.http1":
        return [sys.executable, "-c", f"from {MODULE} import run_our_front; run_our_front({port})"]
    gunicorn = [sys.executable, "-m", "gunicorn", f"{MODULE}:nothing_to_do", "--worker-class", "asgi", "--workers", "1"]
    return [*gunicorn, "--bind", f"127.0.0.1:{port}", "--log-level", "warning", "--keep-alive", "60"]


@contextmanager
def running(front: str) -> Iterator[tuple[int, int]]:
    """The port of a front that listens, and the pid of its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(command(front, port), cwd=ROOT)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.1)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(30)


def worker_of(pid: int) -> int:
    """The process that answers: the child of a front that has one, which gunicorn starts after it listens."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else pid


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def ask(clients: list[socket.socket], rounds: int) -> None:
    request = HEAD % len(BODY) + BODY
    for _ in range(rounds):
        for client in clients:
            client.sendall(request)
        for client in clients:
            answer = b""
            while not answer.endswith(ANSWER):
                part = client.recv(65_536)
                if not part:
                    raise ConnectionError(f"the front closed the connection after {answer!r}")
                answer += part


@click.command()
@click.option("--requests", default=100_000, show_default=True, type=click.IntRange(min=1))
@click.option("--connections", default=16, show_default=True, type=click.IntRange(min=1))
def main(requests: int, connections: int) -> None:
    """Measure both fronts, one after the other."""
    rounds = max(1, requests // connections)
    for front in ("serve.http1", "gunicorn asgi"):
        with running(front) as (port, first), ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(connections)]
            for client in clients:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ask(clients, max(1, rounds // 10))  # warm-up
            pid = worker_of(first)
            before, began = cpu_seconds(pid), time.perf_counter()
            ask(clients, rounds)
            seconds, cpu = time.perf_counter() - began, cpu_seconds(pid) - before
        done = rounds * connections
        click.echo(f"{front:<14} {1e6 * cpu / done:6.1f} µs of CPU a request, {done / seconds:8,.0f} requests/s")


if __name__ == "__main__":
    main()
