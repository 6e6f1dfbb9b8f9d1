"""One worker's application behind real sockets in this process, with a small stand-in for Triton behind real HTTP.

It serves the recommender `m` (users u1 to u9, items 1 to 9) and the plain model `plain`; scores depend on the indices
alone, so that every answer can be compared with every other.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ncf.data.interactions import IdIndex
from ncf.export.id_file import write_counts, write_id_file
from serve.http1.connection import Connection
from serve.http1.request import Request
from serve.http1.server import Server
from serve.http1.state import ServerState
from serve.models.repository import beside_weights, file_stamp
from serve.models.served import SERVED_FILE, VIEW_FOLDER, Served
from serve.settings import Settings
from serve.telemetry.counts import TALLY_FOLDER
from serve.triton.address import ADDRESS_FILE, TritonAddress
from serve.worker.application import Application

MODELS = ("m", "m_query", "plain")
K = 3
INFERENCE_ID = "X-Amzn-SageMaker-Inference-Id"


def write_recommender(folder: Path) -> None:
    """The files beside the weights of a version of `m`."""
    folder.mkdir(parents=True)
    write_id_file(folder / "users.ids", IdIndex.of(pl.Series([f"u{number}" for number in range(1, 10)])))
    write_id_file(folder / "items.ids", IdIndex.of(pl.Series(list(range(1, 10)))))
    write_counts(folder / "items.counts", pl.Series(list(range(9))).to_numpy())
    described = {"query_model": "m_query", "k": K, "columns": []}
    (folder / "recommender.json").write_text(json.dumps(described))


class StandIn:
    """Answers as Triton does, as far as `serve` asks it; a score is 10 · user + item, in halves."""

    async def __call__(self, request: Request) -> None:
        body = await request.body(2**30)
        if request.path.startswith(b"/v2/health"):
            request.respond(200, [], b"")
            return
        length = request.headers.get(b"inference-header-content-length")
        name = request.path.split(b"/")[3].decode()
        if length is None or name == "plain":
            outputs = [{"name": "Y", "datatype": "FP32", "shape": [1], "data": [len(body)]}]
            answer = json.dumps({"model_name": name, "outputs": outputs}).encode()
            request.respond(200, [(b"content-type", b"application/json")], answer)
            return
        rows, values = int64_inputs(body, int(length))
        if not values.keys() & {"user_index", "query"}:
            request.respond(400, [(b"content-type", b"application/json")], b'{"error":"unexpected inference input"}')
            return
        scores: list[float] = []
        items: list[int] = []
        for row in range(rows):
            if name == "m":
                scores.append((10 * values["user_index"][row] + values["item_index"][row]) / 2)
                continue
            width = len(next(iter(values.values()))) // rows
            first = sum(next(iter(values.values()))[row * width : (row + 1) * width])
            items += [(first + at) % 9 for at in range(K)]
            scores += [first - at / 2 for at in range(K)]
        outputs, data = [], b""
        for output, kind, mark, numbers in (("item_index", "INT64", "q", items), ("score", "FP32", "f", scores)):
            packed = struct.pack(f"<{len(numbers)}{mark}", *numbers)
            parameters = {"binary_data_size": len(packed)}
            outputs.append({"name": output, "datatype": kind, "shape": [len(numbers)], "parameters": parameters})
            data += packed
        header = json.dumps({"outputs": outputs}).encode()
        request.respond(
            200,
            [
                (b"content-type", b"application/octet-stream"),
                (b"inference-header-content-length", b"%d" % len(header)),
            ],
            header + data,
        )

    def expire(self, request: Request) -> None:
        request.abort()


def int64_inputs(body: bytes, length: int) -> tuple[int, dict[str, Sequence[int]]]:
    """The rows of a request in binary, and its flat inputs by name."""
    position, values, rows = length, {}, 0
    for each in json.loads(body[:length])["inputs"]:
        size = each.get("parameters", {}).get("binary_data_size", 0)
        values[each["name"]] = struct.unpack(f"<{size // 8}q", body[position : position + size])
        position, rows = position + size, each["shape"][0]
    return rows, values


class Counting(Connection):
    """A connection of the front that counts the bytes it has read."""

    def __init__(self, worker: OneWorker) -> None:
        super().__init__(worker.application, worker.application.state, worker.server.connections)
        self.worker = worker

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.worker.received += len(data)
        self.worker.more.set()


class OneWorker:
    """The application of one worker; `exchange` sends it a request cut into segments that it reads one by one."""

    def __init__(self, folder: Path, **environment: str) -> None:
        write_recommender(folder / VIEW_FOLDER / "m" / "1")
        stamp = file_stamp(beside_weights(folder / VIEW_FOLDER / "m" / "1"))
        parts = ("m", "m_query")
        versions, sizes = dict.fromkeys(parts, 1), dict.fromkeys(parts, 64)
        served = Served(True, MODELS, {"m": 1}, {"m": stamp}, versions, sizes, default="m", parts={"m": [*parts]})
        served.write(folder / SERVED_FILE)
        self.folder = folder
        self.settings = Settings.from_environment({"SERVE_TIMEOUT_SECONDS": "120", **environment})
        (folder / TALLY_FOLDER).mkdir(exist_ok=True)
        self.application = Application(self.settings, folder)

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.received, self.more = 0, asyncio.Event()
        self.triton = Server(StandIn(), ServerState(120, 2**30), 1000)
        self.server = Server(self.application, self.application.state, 1000)
        self.listening = [
            await loop.create_server(self.triton.connection, "127.0.0.1", 0),
            await loop.create_server(lambda: Counting(self), "127.0.0.1", 0),
        ]
        behind, self.port = (each.sockets[0].getsockname()[1] for each in self.listening)
        TritonAddress("127.0.0.1", behind).write(self.folder / ADDRESS_FILE)
        self.application.start()

    async def stop(self) -> None:
        for each in self.listening:
            each.close()
        await self.server.drain(0)
        await self.triton.drain(0)
        self.application.stop()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=5)
        await asyncio.sleep(0.01)  # for the transports to close

    async def exchange(self, segments: Sequence[bytes]) -> tuple[int, dict[bytes, bytes], bytes]:
        """Status, headers and body of the answer to one request; a segment is sent when the one before was read."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for segment in filter(None, segments):
                wanted = self.received + len(segment)
                writer.write(segment)
                while self.received < wanted:
                    self.more.clear()
                    await asyncio.wait_for(self.more.wait(), 60)
                for _ in range(4):  # the application does with it what it can
                    await asyncio.sleep(0)
            return await asyncio.wait_for(read_answer(reader), 60)
        finally:
            writer.close()
            await writer.wait_closed()

    async def ask(self, body: bytes, headers: dict[str, str], path: str = "/invocations") -> tuple[int, Any, bytes]:
        """The answer to a request that is sent in one piece."""
        return await self.exchange([request_bytes(body, headers, path=path)])


def request_bytes(
    body: bytes, headers: dict[str, str], chunked: bool = False, method: str = "POST", path: str = "/invocations"
) -> bytes:
    """A request as it goes over the wire, with an id of its own, so that equal answers are equal bytes."""
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: x",
        framing,
        f"{INFERENCE_ID}: one",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    if chunked:
        body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    return "\r\n".join([*lines, "", ""]).encode() + body


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes], bytes]:
    """One answer, whether it has a length or comes in chunks."""
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).rstrip().split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines)
    if headers.get(b"transfer-encoding") == b"chunked":
        parts = []
        while size := int(await reader.readline(), 16):
            parts.append(await reader.readexactly(size))
            await reader.readline()
        await reader.readline()
        return int(status.split()[1]), headers, b"".join(parts)
    return int(status.split()[1]), headers, await reader.readexactly(int(headers[b"content-length"]))


def comparable(answer: tuple[int, dict[bytes, bytes], bytes]) -> tuple[int, dict[bytes, bytes], bytes]:
    """An answer without the date."""
    status, headers, body = answer
    return status, {name: value for name, value in headers.items() if name != b"date"}, body
