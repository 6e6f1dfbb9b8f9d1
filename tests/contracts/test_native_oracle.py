"""`serve` with one model against Triton's own SageMaker endpoint with the same one, request by request."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.contracts.bodies import (
    CLASSES,
    ECHO_ASKED,
    ECHO_OF_WRONG_FORM,
    LINES,
    LISTS,
    NOT_JSON,
    SUMS_ASKED,
    SUMS_OF_WRONG_FORM,
)
from tests.contracts.oracle import (
    BINARY,
    Allowed,
    Native,
    Pair,
    Request,
    assert_alike,
    assert_ours,
    binary,
    bodies,
    on_the_wire,
)
from tests.support.serving import Server
from tests.support.small_models import SHARED, asked, left, one, output, raw_tensor, sums, write_model

pytestmark = pytest.mark.e2e

ERROR, EMPTY, CONTENT = "application/json error", "text/plain empty", "application/json content"
# Every difference that is meant; "table" is the contract's table of native answers. One that is gone fails its test.
ALLOWED = {
    "ping POST": Allowed("C25", "AWS says the container must accept it", "405 text/plain error", f"200 {EMPTY}"),
    "ping HEAD": Allowed("C25", "load balancers ask so", f"405 {EMPTY}", f"200 {EMPTY}"),
    "ping/": Allowed("table", "/ping/ is /ping", f"400 {EMPTY}", f"200 {EMPTY}"),
    "ping/ 405": Allowed("table", "/ping/ is /ping, other methods too", f"400 {EMPTY}", f"405 {ERROR}"),
    "405": Allowed("C34", "an error in JSON says that it is JSON", "405 text/plain error", f"405 {ERROR}"),
    "405 HEAD": Allowed("C34", "the same without its body", f"405 {EMPTY}", "405 application/json empty"),
    "method unheard of": Allowed("C34", "no method of HTTP's is no HTTP", "405 text/plain error", f"400 {ERROR}"),
    "path": Allowed("table", "an unknown path is 404, in JSON", f"400 {EMPTY}", f"404 {ERROR}"),
    "path HEAD": Allowed("table", "the same without its body", f"400 {EMPTY}", "404 application/json empty"),
    "parameters": Allowed("C84", "/execution-parameters is there", f"400 {EMPTY}", f"200 {CONTENT}"),
    "parameters 405": Allowed("C84", "and takes GET only", f"400 {EMPTY}", f"405 {ERROR}"),
    "models": Allowed("C71", "the one model is listed, as JSON", "200 text/plain content", f"200 {CONTENT}"),
    "models 404": Allowed("C73", "an error says why", f"404 {EMPTY}", f"404 {ERROR}"),
    "model": Allowed("C73", "the one model can be looked at", f"404 {EMPTY}", f"200 {CONTENT}"),
    "load": Allowed("C64", "models are loaded in multi-model mode only", "400 text/plain error", f"405 {ERROR}"),
    "unload": Allowed("C64", "and unloaded", f"404 {EMPTY}", f"405 {ERROR}"),
    "GET invoke": Allowed("table", "GET …/invoke is 405", f"404 {EMPTY}", f"405 {ERROR}"),
    "models PUT": Allowed("table", "PUT is 405", f"400 {EMPTY}", f"405 {ERROR}"),
    "JSON": Allowed("C36", "JSON of a wrong form is the caller's mistake", f"500 {ERROR}", f"400 {ERROR}"),
    "choice": Allowed("E13", "a request may choose its model", f"200 {CONTENT}", f"404 {ERROR}"),
    "choice type": Allowed("E13", "`model` is a name", f"200 {CONTENT}", f"400 {ERROR}"),
    "gzip": Allowed("C39", "gzip is unpacked", f"500 {ERROR}", f"200 {CONTENT}"),
    "coding": Allowed("C39", "a coding that cannot be undone is refused", f"200 {CONTENT}", f"415 {ERROR}"),
    "not gzip": Allowed("C39", "what says gzip and is none is refused", f"200 {CONTENT}", f"400 {ERROR}"),
    "size": Allowed("C48", "an error in JSON says that it is JSON", "400 text/plain error", f"400 {ERROR}"),
    "size text": Allowed("C48", "what only begins as a number is none", f"200 {CONTENT}", f"400 {ERROR}"),
    "size raw": Allowed("C48", "what is no number is not 0", f"200 {BINARY} content", f"400 {ERROR}"),
    "type": Allowed("C50", "any case, space after the semicolon", f"500 {ERROR}", f"200 {CONTENT}"),
    "length": Allowed("C51", "Inference-Header-Content-Length counts", f"500 {ERROR}", f"200 {CONTENT}"),
    "length text": Allowed("C51", "and must be a number", f"200 {CONTENT}", f"400 {ERROR}"),
    "shared memory": Allowed("C52", "is refused before it is looked for", f"404 {ERROR}", f"400 {ERROR}"),
    "classes": Allowed("C19", "no request may end the server", f"200 {CONTENT}", f"400 {ERROR}"),
    "list": Allowed("C81", "as a document a line", f"500 {ERROR}", "200 application/json content"),
    "lines": Allowed("C81", "a document a line is JSON Lines", f"500 {ERROR}", "200 application/jsonlines content"),
    "nothing": Allowed("table", "an empty body is 400, for any model", f"200 {CONTENT}", f"400 {ERROR}"),
    "decoupled": Allowed("C36", "the caller's mistake comes first", "501 text/plain error", f"400 {ERROR}"),
    "silence": Allowed("C18", "what is no HTTP gets an answer", "no answer", f"400 {ERROR}"),
    "taken": Allowed("C18", "native does not understand it", "no answer", f"200 {CONTENT}"),
    "CONNECT": Allowed("C34", "any other method is 405", "no answer", f"405 {ERROR}"),
    "asterisk": Allowed("table", "an unknown path is 404", "no answer", f"404 {ERROR}"),
    "two lengths": Allowed("C18", "a request has one length", f"500 {ERROR}", f"400 {ERROR}"),
    "smuggling": Allowed("C18", "RFC 9112: two proxies could read two requests", f"200 {CONTENT}", f"400 {ERROR}"),
}  # fmt: skip

PLAIN_METHODS = ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def no_path(*paths: str) -> Iterator[Request]:
    for path in paths:
        for method in (*PLAIN_METHODS, "GET", "HEAD", "POST"):
            differs = "path HEAD" if method == "HEAD" else "path"
            yield Request(f"{method} {path}", method, path, sums() if method == "POST" else b"", differs=differs)


def pings() -> Iterator[Request]:
    for query in ("", "?x=1", "?"):
        yield Request(f"GET /ping{query}", "GET", f"/ping{query}")
        yield Request(f"POST /ping{query}", "POST", f"/ping{query}", differs="ping POST")
        yield Request(f"HEAD /ping{query}", "HEAD", f"/ping{query}", differs="ping HEAD")
        for method in PLAIN_METHODS:
            yield Request(f"{method} /ping{query}", method, f"/ping{query}", differs="405")
    for method in (*PLAIN_METHODS, "GET", "POST", "HEAD"):
        yield Request(f"{method} /ping/", method, "/ping/", differs=f"ping/{' 405' * (method in PLAIN_METHODS)}")
    yield Request("GET /ping with a body", "GET", "/ping", b"hello", {"Content-Length": "5"})
    yield Request("GET http://x/ping", "GET", "http://x/ping")
    yield from no_path("/pingx", "/ping/x", "/PING", "//ping", "/./ping", "/a/../ping", "/%70ing", "/ping%00")


def paths() -> Iterator[Request]:
    yield from no_path("/", "/invocations/", "/invocationsx", "/invocations/x", "/INVOCATIONS", "//invocations")
    yield from no_path("/v2", "/v2/health/ready", "/v2/models/sums/infer", "/v2/repository/index", "/nope")
    for method in ("GET", "POST", "PUT"):
        yield Request(f"{method} *", method, "*", differs="asterisk")
    yield Request("GET /execution-parameters", "GET", "/execution-parameters", differs="parameters")
    for method in ("POST", "PUT", "DELETE"):
        yield Request(f"{method} /execution-parameters", method, "/execution-parameters", differs="parameters 405")
    yield Request("GET /models", "GET", "/models", differs="models")
    yield Request("GET /models/sums", "GET", "/models/sums", differs="model")
    for method, path in (("GET", "/models/nope"), ("GET", "/modelsfoo"), ("DELETE", "/modelsfoo")):
        yield Request(f"{method} {path}", method, path, differs="models 404")
    for path in ("/models", "/models/nope"):
        yield Request(f"DELETE {path}", "DELETE", path, differs="unload")
    yield Request("POST /models", path="/models", body=sums(), differs="load")
    yield Request("PUT /models", "PUT", "/models", differs="models PUT")
    yield Request("POST /models/sums/invoke", path="/models/sums/invoke", body=sums(), differs="models 404")
    yield Request("GET /models/sums/invoke", "GET", "/models/sums/invoke", differs="GET invoke")


CONTENT_TYPES = (
    "", "application/json", "application/octet-stream", "text/csv", "text/plain", "image/png", "garbage", ";;", "*/*",
    "application/json; charset=utf-8", "application/json; charset=latin-1", "application/x-npy", "application/jsonl",
    "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", BINARY, f"{BINARY};charset=utf-8",
)  # fmt: skip
AMZN = "X-Amzn-SageMaker-"
HEADERS = (
    ("Accept", "application/json"), ("Accept", "text/csv"), ("Accept", "image/png"), ("Accept", "garbage"),
    ("Accept", ""), ("Accept-Encoding", "gzip"), ("Accept-Encoding", "br"), ("Accept-Language", "xx"),
    (f"{AMZN}Custom-Attributes", "trace=1"), (f"{AMZN}Custom-Attributes", "é" * 400), (f"{AMZN}Target-Variant", "blue"),
    (f"{AMZN}Target-Model", "another.model.tar.gz"), (f"{AMZN}Target-Model", ""), (f"{AMZN}Inference-Id", "i"),
    (f"{AMZN}Target-Container-Hostname", "h"), (f"{AMZN}Enable-Explanations", "`true`"), ("X-Long", "x" * 4000),
    (f"{AMZN}Inference-Component", "c"), (f"{AMZN}Session-Id", "NEW_SESSION"), (f"{AMZN}Prefix-Aware-Id", "p"),
    ("Authorization", "Bearer x"), ("Cookie", "a=b"), ("X-Forwarded-For", "1.2.3.4"), ("Range", "bytes=0-1"),
    ("Content-Encoding", "identity"), ("Content-Encoding", ""), ("Expect", "100-continue"), ("Expect", "nothing"),
    ("Inference-Header-Content-Length", str(len(sums()))), ("triton-request-id", "r"), ("Connection", "close"),
)  # fmt: skip
DIFFERENT_HEADERS = {
    "choice": (f"{AMZN}Custom-Attributes", "model=nope"), "coding": ("Content-Encoding", "br"),
    "not gzip": ("Content-Encoding", "gzip"), "length text": ("Inference-Header-Content-Length", "x"),
}  # fmt: skip


def headers() -> Iterator[Request]:
    for name, value in HEADERS:
        yield Request(f"{name}: {value[:40]}", body=sums(), headers={name: value})
    for differs, (name, value) in DIFFERENT_HEADERS.items():
        yield Request(f"{name}: {value}", body=sums(), headers={name: value}, differs=differs)
    yield Request("gzip", body=gzip.compress(sums()), headers={"Content-Encoding": "gzip"}, differs="gzip")


def binary_type() -> Iterator[Request]:
    tensors, tail = (raw_tensor("LEFT"), raw_tensor("RIGHT")), struct.pack("<6i", *range(1, 7))
    both, everything = asked(*tensors), {"parameters": {"binary_data_output": True}}

    def ask(name: str, header: bytes, tail: bytes = b"", size: object = None, differs: str = "") -> Request:
        return Request(f"binary: {name}", **binary(header, tail, size), differs=differs)

    def typed(content_type: str, differs: str, body: bytes = both + tail) -> Request:
        return Request(f"binary: {content_type}", body=body, headers={"Content-Type": content_type}, differs=differs)

    yield ask("in, JSON out", both, tail)
    yield ask("in and out", asked(*tensors, **everything), tail)
    mixed = [{"name": "SUM", "parameters": {"binary_data": True}}, {"name": "DIFFERENCE"}]
    yield ask("one of two out", asked(*tensors, outputs=mixed), tail)
    yield ask("JSON only in", sums(**everything))
    yield ask("one of two in", sums(raw_tensor("LEFT")), tail[:12])
    yield Request("binary: chunked", chunks=(both[:20], both[20:], tail), headers=binary(both)["headers"])
    for size in (-1, len(both) + 25, 2**31 - 1, 2**31, 2**64):
        yield ask(f"size {size}", both, tail, size, "size")
    for text in ("x", "", "-", "0x10", 0, 2**32):  # to native all of them are 0: a raw request, which needs one input
        yield ask(f"size {text}", both, tail, text)
    for text in ("1e2", "+150", "1.5", len(both) - 1, len(both) + 1):
        yield ask(f"size {text}", both, tail, text, "JSON")
    for text, differs in (("; charset=utf-8", ""), (";x", ""), (" ", ""), ("x", "size text"), (", a/b", "size text")):
        yield ask(f"size followed by {text!r}", both, tail, f"{len(both)}{text}", differs)
    for text in (f"00{len(both)}", f" {len(both)}"):
        yield ask(f"size '{text}'", both, tail, text)
    right = f"json-header-size={len(both)}"
    for kind in (f"additional-string/{BINARY}", f"x{BINARY}"):
        yield typed(f"{kind};{right}", "size")
    for kind in (f"{BINARY.upper()};{right}", f"{BINARY} ;{right}", f"{BINARY}; {right}", f"{BINARY};{right.upper()}"):
        yield typed(kind, "type")
    for kind in (BINARY, f"{BINARY};", f"{BINARY};a=b;{right}"):
        yield typed(kind, "JSON")
    for number in (0, 11, 13, 24, 2**31):
        yield ask(f"data size {number}", sums(raw_tensor("LEFT", number)), tail[:12])
    for value in (-1, "12", 12.0, None, True):
        yield ask(f"data size {value!r}", sums(raw_tensor("LEFT", value)), tail[:12], differs="JSON")
    for name, cut in {"missing": b"", "too short": tail[:-1], "too long": tail + b"x"}.items():
        yield ask(f"tail {name}", both, cut)
    for name, header in {"malformed": both[:-1], "a list": b"[]", "without inputs": b"{}"}.items():
        yield ask(f"JSON part {name}", header, tail, differs="JSON")
    yield ask("data and tail", sums(raw_tensor("LEFT", data=[1, 2, 3])), tail[:12])
    yield ask("shape of 2**40 rows", sums(raw_tensor("LEFT", shape=[2**40, 3])), tail[:12])
    length = {"Inference-Header-Content-Length": str(len(both))}
    yield Request("binary: length in a header", body=both + tail, headers=length, differs="length")
    yield Request("binary: in both", body=both + tail, headers={**length, "Content-Type": f"{BINARY};{right}"})


HALVES, TEXT = raw_tensor("HALF", 4, [2], "FP16"), raw_tensor("TEXT", 6, [1], "BYTES")
NAN = raw_tensor("SINGLE", 8, [2], "FP32")
ECHO = [
    *bodies("echo", "", ECHO_ASKED),
    *bodies("echo", "JSON", ECHO_OF_WRONG_FORM),
    Request("echo: halves in binary, JSON out", **binary(asked(HALVES), b"\x00\x3c\x00\x40")),
    Request("echo: text in binary", **binary(asked(TEXT), b"\x02\x00\x00\x00hi")),
    Request("echo: text cut short", **binary(asked({**TEXT, "shape": [2]}), b"\x02\x00\x00\x00hi")),
    Request("echo: text that is not UTF-8", **binary(asked(TEXT), b"\x02\x00\x00\x00\xff\xfe")),
    Request("echo: NaN in binary, JSON out", **binary(asked(NAN), struct.pack("<2f", float("nan"), float("inf")))),
]
DOUBLE = [
    *bodies("double, shape", "", {str(shape): one("NUMBER", "INT32", shape=shape) for shape in ([1, 0], [0, 2])}),
    Request("double", body=one("NUMBER", "INT32", 1, 2, 3, shape=[1, 3])),
    Request("double: nothing", differs="nothing"),
    *(Request(f"double: raw {raw!r}", **binary(b"", raw)) for raw in (b"1234", b"12345", b"")),
    Request("double: raw, 4 MB", **binary(b"", b"1234" * 1_000_000)),
    Request("double: raw, chunked", chunks=(b"123", b"45678"), headers=binary(b"")["headers"]),
    *(Request(f"double: size {n}", **binary(b"", b"1234", n), differs="size raw") for n in ("x", "", 2**32)),
    Request("double: raw, charset", **binary(b"", b"1234", "0; charset=utf-8")),
]
REPEAT = [
    *bodies("decoupled", "", {"asked": one("IN", "INT32", 1), "unknown input": one("nope", "INT32", 1)}),
    *bodies("decoupled", "decoupled", {"malformed": b"{"}),
]
SUBJECTS: dict[str, tuple[str, list[Request]]] = {
    "c020_c025_ping": ("sums", [*pings()]),
    "c034_methods": ("sums", [
        *(Request(f"{m} /invocations", m, body=sums(), differs="405") for m in (*PLAIN_METHODS, "GET")),
        Request("HEAD /invocations", "HEAD", differs="405 HEAD"),
        Request("POST /invocations?x=1", path="/invocations?x=1", body=sums()),
        Request("BREW /invocations", "BREW", differs="method unheard of"),
        Request("CONNECT /invocations", "CONNECT", differs="CONNECT"),
    ]),
    "c064_paths": ("sums", [*paths()]),
    "c030_content_types": ("sums", [
        Request(f"type {kind!r}", body=sums(), headers={"Content-Type": kind} if kind else {}) for kind in CONTENT_TYPES
    ]),
    "c033_c042_headers": ("sums", [*headers()]),
    "c031_c035_json": ("sums", bodies("asked", "", SUMS_ASKED)),
    "c036_json_of_a_wrong_form": ("sums", bodies("wrong form", "JSON", SUMS_OF_WRONG_FORM)),
    "c019_classification": ("sums", bodies("classes", "classes", CLASSES)),
    "c081_lines": ("sums", [*bodies("lines", "lines", LINES), *bodies("list", "list", LISTS)]),
    "c036_not_json": ("sums", bodies("not JSON", "JSON", NOT_JSON)),
    "c038_model_in_the_body": ("sums", [
        Request("unknown", body=sums(model="nope"), differs="choice"), Request("its own", body=sums(model="sums")),
        Request("a number", body=sums(model=7), differs="choice type"),
    ]),
    "c052_shared_memory_output": ("sums", bodies("shared", "shared memory", {"out": sums(outputs=[output(**SHARED)])})),
    "c046_c050_binary_type": ("sums", [*binary_type()]),
    "c018_on_the_wire": ("sums", [*on_the_wire(sums())]),
    "c032_data_of_all_kinds": ("echo", ECHO),
    "c049_raw_requests": ("double", DOUBLE),
    "c063_decoupled": ("repeat", REPEAT),
}  # fmt: skip


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pair]]:
    """For each model both endpoints in single-model mode; all start and stop at the same time."""
    with ExitStack() as stack:
        servers = {}
        for model in ("sums", "echo", "double", "repeat"):
            repository = tmp_path_factory.mktemp(model)
            write_model(model, repository / model)
            servers[model] = stack.enter_context(Native(repository, model)), stack.enter_context(Server(repository))
        for server in (each for both in servers.values() for each in both):
            stack.callback(server.process.terminate)
            server.wait_until_ready()
        yield {model: Pair(native.port, ours.port, ours.log) for model, (native, ours) in servers.items()}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_ours_answers_as_native_does(pairs: dict[str, Pair], subject: str) -> None:
    model, requests = SUBJECTS[subject]
    assert_alike(pairs[model], requests, ALLOWED)


def test_every_allowed_difference_has_a_request() -> None:
    assert {request.differs for _, requests in SUBJECTS.values() for request in requests} - {""} == set(ALLOWED)


def test_what_native_dies_of_is_refused(pairs: dict[str, Pair]) -> None:
    """A shape that promises too much, lists too deep, and POST /models with what is not JSON (E6, in this mode too)."""
    shapes = ([2**31, 3], [2**40, 3], [2**63 - 1], [10**6] * 4)
    refused = bodies("shape", "", {str(shape): left(shape=shape) for shape in shapes})
    refused += bodies("deep", "", {"lists": b'{"inputs":' + b"[" * 200_000 + b"]" * 200_000 + b"}"})
    expected = [(request, f"400 {ERROR}") for request in refused]
    expected += [(Request("E6", path="/models", body=b"{"), f"405 {ERROR}")]
    expected += [(Request("still there", "GET", "/ping"), f"200 {EMPTY}")]
    assert_ours(pairs["sums"].ours, expected)
