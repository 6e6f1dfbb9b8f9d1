"""Triton's own SageMaker endpoint as the oracle for ours: both are sent the same bytes and their answers compared."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from serve.supervisor.child import tied_to_us
from serve.triton.runtime import find_runtime
from tests.support.eventually import eventually
from tests.support.serving import free_port

BINARY = "application/vnd.sagemaker-triton.binary+json"
SECONDS = 15.0


@dataclass(frozen=True)
class Request:
    """One request. `differs` names the row of the table of allowed differences that its two answers must match.

    `chunks` are sent chunked in place of `body`; `raw` are the bytes of the whole request in place of all else.
    """

    name: str
    method: str = "POST"
    path: str = "/invocations"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: tuple[bytes, ...] = ()
    raw: bytes = b""
    differs: str = ""

    def bytes(self) -> bytes:
        if self.raw:
            return self.raw
        headers = {"Host": "x", **self.headers}
        payload = self.body
        if self.chunks:
            headers["Transfer-Encoding"] = "chunked"
            payload = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in self.chunks) + b"0\r\n\r\n"
        elif self.body or self.method in ("POST", "PUT", "PATCH"):
            headers.setdefault("Content-Length", str(len(self.body)))
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + payload


@dataclass(frozen=True)
class Reply:
    """An answer; status 0 means that the connection ended or stayed silent without one."""

    status: int
    content_type: str = ""
    body: bytes = b""

    @property
    def content(self) -> Any:
        """The body as it is compared: parsed where it is JSON, with the tensors behind it where it is binary."""
        if self.content_type.startswith(BINARY):
            length = int(self.content_type.partition("json-header-size=")[2])
            return json.loads(self.body[:length]), self.body[length:]
        with suppress(ValueError):
            return json.loads(self.body)
        return self.body

    @property
    def kind(self) -> str:
        """What is compared of every answer, in words: status, media type, and nothing, an error, or content."""
        if not self.status:
            return "no answer"
        content = self.content
        error = isinstance(content, dict) and isinstance(content.get("error"), str) and content["error"] != ""
        what = "error" if error else "content" if self.body else "empty"
        return f"{self.status} {self.content_type.partition(';')[0].strip() or 'untyped'} {what}"

    def same_as(self, other: Reply) -> bool:
        """Whether two answers say the same; the words of errors are each server's own."""
        return self.kind == other.kind and (self.kind.endswith("error") or self.content == other.content)


@dataclass(frozen=True)
class Allowed:
    """One difference that is meant: its number in the contract, the reason, and what each server answers (Reply.kind).

    `same_content` is for what differs in its media type alone.
    """

    number: str
    reason: str
    native: str
    ours: str
    same_content: bool = False


@dataclass(frozen=True)
class Pair:
    """The ports of the native endpoint and of ours, both serving the same; `log` is ours."""

    native: int
    ours: int
    log: Path


def bodies(subject: str, differs: str, by_name: Mapping[str, bytes], path: str = "/invocations") -> list[Request]:
    """One POST for each body."""
    return [Request(f"{subject}: {name}", path=path, body=body, differs=differs) for name, body in by_name.items()]


def binary(header: bytes, tail: bytes = b"", size: object = None, kind: str = BINARY) -> dict[str, Any]:
    """Body and headers of a request in the binary type; `size` in place of the true length of the JSON part."""
    size = len(header) if size is None else size
    return {"body": header + tail, "headers": {"Content-Type": f"{kind};json-header-size={size}"}}


def on_the_wire(body: bytes) -> Iterator[Request]:
    """The HTTP around a body that POST /invocations takes: odd, wrong, or cut in many ways."""
    start, length = b"POST /invocations HTTP/1.1\r\nHost: x\r\n", b"Content-Length: %d\r\n" % len(body)
    chunked, whole = b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    rest = length + b"\r\n" + body
    yield Request("one chunk", chunks=(body,))
    yield Request("chunks of one byte", chunks=tuple(body[n : n + 1] for n in range(len(body))))
    yield Request("many chunks", chunks=(body, *[b" "] * 5000))
    for differs, raws in {
        "": {
            "trailer": start + chunked + whole[:-2] + b"X-A: b\r\n\r\n", "two Hosts": start + b"Host: y\r\n" + rest,
            "chunk size in capitals": start + chunked + b"%X\r\n%s\r\n0\r\n\r\n" % (len(body), body),
            "no length, no body": start + b"\r\n", "expect continue": start + b"Expect: 100-continue\r\n" + rest,
            "HTTP/1.0": b"POST /invocations HTTP/1.0\r\n" + rest, "no Host": b"POST /invocations HTTP/1.1\r\n" + rest,
            "HTTP/1.0 kept": b"POST /invocations HTTP/1.0\r\nConnection: keep-alive\r\n" + rest,
            "transfer encoding gzip": start + b"Transfer-Encoding: gzip\r\n\r\n",
            "not ASCII": start + b"X-A: \xff\xfe\r\n" + rest,
            "100 headers": start + b"".join(b"X-%d: y\r\n" % n for n in range(100)) + rest,
            "two requests at once": (start + rest) * 2,
        },
        "two lengths": {"two lengths": start + b"Content-Length: 5\r\n" + rest},
        "silence": {
            "bad chunk size": start + chunked + b"zz\r\n" + body, "negative chunk": start + chunked + b"-1\r\n" + body,
            "chunk too long": start + chunked + b"5\r\n" + body, "header without colon": start + b"hello\r\n" + rest,
            "length -5": start + b"Content-Length: -5\r\n\r\n", "header folded": start + b"X-A: b\r\n c\r\n" + rest,
            "length x": start + b"Content-Length: x\r\n\r\n", "small letters": start.replace(b"POST", b"post") + rest,
            "length beyond 64 bits": start + b"Content-Length: 99999999999999999999999\r\n\r\n",
            "no path": b"GET HTTP/1.1\r\nHost: x\r\n\r\n", "TLS": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
            "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "space in path": b"GET /pi ng HTTP/1.1\r\nHost: x\r\n\r\n",
        },
        "taken": {
            "chunk extension": start + chunked + whole.replace(b"\r\n", b";a=b\r\n", 1),
            "header of 60 kB": start + b"X-A: " + b"x" * 60_000 + b"\r\n" + rest,
        },
        "smuggling": {
            "length and chunked": start + length + chunked + whole, "two lengths alike": start + length + rest,
            "space before colon": start + b"X-A : b\r\n" + rest, "zero byte": start + b"X-A: \x00\r\n" + rest,
        },
    }.items():  # fmt: skip
        for name, raw in raws.items():
            yield Request(f"wire: {name}", raw=raw, differs=differs)


def send(port: int, request: Request, seconds: float = SECONDS) -> Reply:
    """The answer to one request on a connection of its own."""
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=seconds))
            with suppress(ConnectionError):  # refused before all was sent: the answer is there to be read
                connection.sendall(request.bytes())
            response = http.client.HTTPResponse(connection, method=request.method)
            stack.callback(response.close)
            response.begin()
            return Reply(response.status, response.getheader("Content-Type", ""), response.read())
        except (OSError, http.client.HTTPException):
            return Reply(0)


def assert_alike(pair: Pair, requests: Iterable[Request], allowed: Mapping[str, Allowed]) -> None:
    """Both get the same requests in the same order; all differences without leave are told at once."""
    found = []
    with ThreadPoolExecutor(2) as pool:
        for request in requests:
            native, ours = pool.map(lambda port, each=request: send(port, each), (pair.native, pair.ours))
            complaint = complain(native, ours, allowed[request.differs] if request.differs else None)
            if complaint:
                found.append(f"{request.name}: {complaint}\n  native {shown(native)}\n  ours   {shown(ours)}")
    wrong = f"{len(found)} requests are not answered as they should be\n" + "\n".join(found)
    assert not found, f"{wrong}\n{pair.log.read_text()[-4000:]}"


def complain(native: Reply, ours: Reply, row: Allowed | None) -> str:
    """What is wrong with two answers, a row that no longer holds included; empty if nothing is."""
    if row is None:
        return "" if native.same_as(ours) else "the answers differ"
    if native.same_as(ours):
        return f"the answers are the same, and {row.number} ({row.reason}) says they differ"
    if (native.kind, ours.kind) != (row.native, row.ours):
        return f"{row.number} ({row.reason}) has '{row.native}' and '{row.ours}'"
    if row.same_content and native.content != ours.content:
        return f"{row.number} ({row.reason}) has the same content under another type"
    return ""


def assert_ours(port: int, expected: Sequence[tuple[Request, str]]) -> None:
    """What only ours is asked, because native dies of it or never answers: the kind of each answer."""
    found = [
        f"{request.name}: {shown(reply)}, expected {kind}"
        for request, kind in expected
        if (reply := send(port, request)).kind != kind
    ]
    assert not found, "\n".join(found)


def shown(reply: Reply) -> str:
    return f"{reply.kind}: {reply.body[:200]!r}"


class Native:
    """Context manager: tritonserver with its native SageMaker endpoint and nothing else.

    With `model` it serves that one model of `repository`, without one it is a multi-model endpoint.
    """

    def __init__(self, repository: Path, model: str | None = None) -> None:
        self.port = free_port()
        self.repository, self.model = repository, model
        self.prefix = f"oracle_{secrets.token_hex(4)}_"

    def __enter__(self) -> Native:
        self._scratch = tempfile.TemporaryDirectory(prefix="oracle-")
        scratch = Path(self._scratch.name)
        runtime = find_runtime(scratch)
        multi = {"SAGEMAKER_MULTI_MODEL": "true"}
        environment = {name: value for name, value in runtime.environment.items() if not name.startswith("SAGEMAKER_")}
        environment |= {"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": self.model} if self.model else multi
        command = [
            str(runtime.program), *runtime.arguments,
            "--allow-sagemaker=true", f"--sagemaker-port={self.port}",
            "--allow-http=false", "--allow-grpc=false", "--allow-metrics=false",
            "--model-control-mode=explicit",
            f"--load-model={self.model}" if self.model else "--model-namespacing=true",
            f"--model-repository={self.repository}",
            f"--backend-config=python,shm-region-prefix-name={self.prefix}",
            "--log-info=false",
            "--exit-timeout-secs=2",
        ]  # fmt: skip
        self.log = scratch / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                tied_to_us(command), env=environment, stdout=log, stderr=log, start_new_session=True
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        with suppress(ProcessLookupError):  # its stubs are in its session
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)
        self._scratch.cleanup()
        for left in Path("/dev/shm").glob(f"{self.prefix}*"):  # a killed server leaves its regions
            left.unlink(missing_ok=True)

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return send(self.port, Request("ready", "GET", "/ping"), 2).status == 200

        eventually(ready, about=self.log.read_text)
