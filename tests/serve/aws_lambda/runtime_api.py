"""A stand-in for Lambda's runtime API, which speaks the protocol of Lambda's own client."""

from __future__ import annotations

import base64
import gzip
import json
import queue
import threading
import time
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

PREFIX = "/2018-06-01/runtime/"
MAX_RESULT_BYTES = 6_291_556  # of Lambda's documentation: a longer result is refused
SECONDS = 120


@dataclass(frozen=True)
class Result:
    """What the function has posted for an event: `kind` is "response" or "error"."""

    kind: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Invocation:
    event: bytes
    seconds: float
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    result: queue.Queue[Result] = field(default_factory=queue.Queue)


class RuntimeApi(ThreadingHTTPServer):
    """Context manager; `invoke` is what a caller of the function does, `init_errors` what failed starts have posted."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"127.0.0.1:{self.server_port}"
        self.waiting: queue.Queue[Invocation] = queue.Queue()
        self.taken: dict[str, Invocation] = {}
        self.init_errors: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self.asked = threading.Event()  # the function has asked for an event, so its init phase is over

    def __enter__(self) -> RuntimeApi:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()

    def invoke(self, event: Any, seconds: float = SECONDS) -> Result:
        """Have the function answer an event within so many seconds; bytes are an event as they are."""
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        invocation = Invocation(body, seconds)
        self.waiting.put(invocation)
        return invocation.result.get(timeout=SECONDS)


class _Handler(BaseHTTPRequestHandler):
    server: RuntimeApi
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # the head and the body of an answer go together, or the kernel would keep the body back for 40 ms

    def do_GET(self) -> None:
        assert self.path == f"{PREFIX}invocation/next", self.path
        self.server.asked.set()
        invocation = self.server.waiting.get()
        self.server.taken[invocation.id] = invocation
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": invocation.id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + invocation.seconds) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-central-1:123456789012:function:ncf",
            "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0",
        }
        self._answer(200, invocation.event, headers)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        words = self.path.removeprefix(PREFIX).split("/")
        if words == ["init", "error"]:
            self.server.init_errors.put((self.headers["Lambda-Runtime-Function-Error-Type"], json.loads(body)))
        elif len(body) > MAX_RESULT_BYTES:
            self._answer(413, b'{"errorMessage":"too large","errorType":"RequestEntityTooLarge"}', {})
            return
        else:
            _, id, kind = words
            self.server.taken.pop(id).result.put(Result(kind, body))
        self._answer(202, b'{"status":"OK"}', {})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def http_event(method: str, path: str, body: str | None = None, **more: Any) -> dict[str, Any]:
    """A request in payload format 2.0, as a function URL sends it."""
    context = {
        "accountId": "anonymous", "apiId": "url", "domainName": "url.lambda-url.eu-central-1.on.aws",
        "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "curl"},
        "requestId": "2d", "routeKey": "$default", "stage": "$default", "timeEpoch": 1764500000000,
    }  # fmt: skip
    headers = {
        "content-type": "application/json", "host": "url.lambda-url.eu-central-1.on.aws", "x-forwarded-proto": "https",
        **({} if body is None else {"content-length": str(len(body))}),
    }  # fmt: skip
    given = {} if body is None else {"body": body}
    event = {"version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "", "headers": headers}
    return event | {"requestContext": context, "isBase64Encoded": False} | given | more


def assert_binary_both_ways(api: RuntimeApi, user: str, item: str) -> None:
    """200 pairs as CSV in gzip, and so are their scores: both bodies are in base64 in the event and the result."""
    body = base64.b64encode(gzip.compress(b"user_id,item_id\n" + f"{user},{item}\n".encode() * 200)).decode()
    event = http_event("POST", "/invocations", body, isBase64Encoded=True)
    event["headers"] |= {"content-type": "text/csv", "content-encoding": "gzip", "accept-encoding": "gzip"}
    answer = api.invoke(event).json
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, True), answer
    assert answer["headers"]["content-encoding"] == "gzip"
    assert len(gzip.decompress(base64.b64decode(answer["body"])).splitlines()) >= 200
