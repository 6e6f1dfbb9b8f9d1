"""JSON and JSON Lines, and what every format shares: the form of decoded requests."""

from __future__ import annotations

import contextlib
import json
from typing import Any, NamedTuple

import orjson

from serve.errors import BadRequest, BodyTooLarge, ServeError, show
from serve.recommend.asks import Answer
from serve.recommend.straight import read_straight

BOM = b"\xef\xbb\xbf"
EXAMPLE = '{"user_id": "u17", "k": 10}'
NO_LINES = f"the body is empty; send one JSON object a line, such as {EXAMPLE}"
# Finding which name comes twice takes milliseconds in a body of this size, and seconds in one of 25 MB.
MAX_TO_NAME = 65_536
# The largest request for recommendations (SERVE_MAX_WORK) has half as many of each. Parsing blocks the event loop, and
# an object of three bytes of JSON takes 64 bytes of memory or more.
MAX_CONTAINERS, MAX_VALUES = 500_000, 1_000_000
# botocore's model of InvokeEndpoint has no room for a longer message.
MAX_ERROR = 2048


class Loose(dict[str, Any]):
    """A KServe-v2 document that Triton takes and strict JSON does not: it has NaN, an infinity, or text that is not
    UTF-8. It is there to be checked; `raw` is what goes to Triton."""

    raw = b""


class Decoded(NamedTuple):
    """The JSON documents of one body, or of some of its lines; a document that cannot be read is replaced by its error,
    and one that was read straight into a request by a `Parsed`.

    `many` says whether the answer is a list of answers, as it is for a list with one request.
    It is a tuple because a frozen dataclass takes three times as long to make, and every request makes one.
    """

    requests: list[Any]
    many: bool


def parse_json(body: bytes, where: str = "the body") -> Any:
    """The body as JSON; for KServe-v2 see `Loose`, too.

    Raises BadRequest that says where it stops being JSON, or which name an object has twice, and BodyTooLarge for more
    values than are taken, before any of them takes memory.
    """
    body = body.removeprefix(BOM)
    if len(body) > MAX_CONTAINERS:
        _check_values(body, where)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if (loose := read_loose(body)) is not None:
            return loose
        raise BadRequest(_not_json(body, where, error)) from error
    colons = body.count(b":")
    if colons and (type(document) is not dict or colons != len(document)) and _has_repeats(document, body, where):
        _refuse_repeats(body, where)
    return document


def read_loose(body: bytes) -> Loose | None:
    """A body that is no strict JSON as a KServe-v2 document; None if it is none for Triton either, or has a name twice
    in an object."""
    if b"NaN" not in body and b"Infinity" not in body and _is_utf8(body):
        return None
    try:
        document = json.loads(body.decode("utf-8", "surrogateescape"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or "inputs" not in document:
        return None
    loose = Loose(document)
    loose.raw = body
    return loose


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a name comes twice")
    return document


def to_json(document: Any) -> bytes:
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError as error:  # the caller sent a document that is too deep to be written again
        raise BadRequest(f"the body cannot be passed on: {error}") from error


def decode_json(body: bytes, max_requests: int) -> Decoded:
    """One request, or many in `{"requests": […], "model": …}`; that model is for the requests that name none.

    A list, or `{"instances": […]}` as callers of other containers write it, holds requests or pairs.
    """
    straight = read_straight(body)
    if straight is not None:
        return Decoded([straight], False)
    document, called = parse_json(body), "requests"
    if type(document) is list and document and type(document[0]) in (dict, list):
        document = {"instances": document}
    if type(document) is dict and "instances" in document and document.keys() <= {"instances", "model"}:
        rows, called = document.pop("instances"), "instances"
        document["pairs" if _are_pairs(rows) else "requests"] = rows
    if type(document) is not dict or "requests" not in document:
        return Decoded([document], False)
    requests = document["requests"]
    for name in document:
        if name not in ("requests", "model"):
            raise BadRequest(f"field {show(name)} is unknown beside requests; known here: requests, model")
    if not isinstance(requests, list) or not requests:
        what = "empty" if requests == [] else show(requests)
        raise BadRequest(f"{called} is {what}; it must be a list such as [{EXAMPLE}]")
    if len(requests) > max_requests:
        raise BadRequest(f"the body has {len(requests):,} requests; at most {max_requests:,} are taken at once")
    model = document.get("model")
    if model is not None:
        for request in requests:
            if isinstance(request, dict) and request.get("model") is None:
                request["model"] = model
    return Decoded(requests, True)


def _are_pairs(rows: Any) -> bool:
    first = rows[0] if type(rows) is list and rows else None
    return type(first) is list or (type(first) is dict and "user_id" in first and "item_id" in first)


def json_line(line: bytes, number: int) -> Any:
    """The document on one line, or the error that stands in its place."""
    line = line.rstrip()
    if not line:
        return BadRequest(f"line {number} is empty; leave it out")
    try:
        return parse_json(line, f"line {number}")
    except ServeError as error:
        return error


def too_long(number: int, max_line: int) -> BadRequest:
    """The error in the place of a line that is too long to be kept."""
    return BadRequest(f"line {number} has more than {max_line:,} bytes; no line may have more in a body of many")


def encode_json(answers: list[Answer], many: bool) -> bytes:
    """The answer, or `{"responses": […]}` with many answers in the order of their requests."""
    return to_json({"responses": answers} if many else answers[0])


def encode_json_lines(answers: list[Answer], many: bool) -> bytes:
    """One answer a line; the last line ends with a newline too."""
    return b"".join([orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE) for answer in answers])


def _check_values(body: bytes, where: str) -> None:
    """Raises BodyTooLarge if the body has too many objects and lists, or too many values.

    Signs inside texts are counted too, so a body of long texts could be refused; no request needs so many.
    """
    containers, values = body.count(b"[") + body.count(b"{"), body.count(b",")
    for number, most, name in ((containers, MAX_CONTAINERS, "objects and lists"), (values, MAX_VALUES, "values")):
        if number > most:
            raise BodyTooLarge(
                f"{where} has {number:,} {name}; at most {most:,} are taken in JSON: send it in parts, or tensors in "
                "Triton's binary form"
            )


def _not_json(body: bytes, where: str, error: orjson.JSONDecodeError) -> str:
    if not body or body.isspace():
        return f"{where} is empty; send JSON such as {EXAMPLE}"
    if "depth limit" in error.msg:
        return f"{where} is nested more than 1,024 levels deep; a request needs four at the most"
    if "valid UTF-8" in error.msg:
        return f"{where} is not UTF-8; send the text in UTF-8"
    if where != "the body":
        return f"{where} is not JSON: {error.msg}: column {error.colno}"
    hint = "; send several documents one a line, as application/jsonlines" if "after document" in error.msg else ""
    return f"{where} is not JSON: {error}{hint}"


def _has_repeats(document: Any, body: bytes, where: str) -> bool:
    """Whether an object of the body has a name twice.

    orjson keeps one of the two, so the document written again has fewer colons than the body; colons in texts are in
    both. Raises BadRequest if the document is too deep to be written.
    """
    colons = body.count(b":")
    if b"\\u003" in body:  # a colon in a text may come escaped, and is written as it is
        plain = body.replace(b"\\\\", b"--")
        colons += plain.count(b"\\u003a") + plain.count(b"\\u003A")
    try:
        return orjson.dumps(document).count(b":") != colons
    except orjson.JSONEncodeError:
        raise BadRequest(
            f"{where} is nested too deep for its fields to be checked; a request needs four levels"
        ) from None


def _refuse_repeats(body: bytes, where: str) -> None:
    """Raises BadRequest with the name that comes twice. Python's slower parser finds it, for it shows every pair."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        if len(dict(pairs)) != len(pairs):
            seen: set[str] = set()
            for name, _ in pairs:
                if name in seen:
                    raise BadRequest(f"{where} has the field {show(name)} more than once in an object; send it once")
                seen.add(name)

    if len(body) <= MAX_TO_NAME:
        with contextlib.suppress(RecursionError):  # the value that orjson dropped may be deeper than the one it kept
            # Numbers are not looked at, and Python's int would refuse thousands of digits.
            json.loads(body.decode(), object_pairs_hook=check, parse_int=len, parse_float=len)
    raise BadRequest(f"{where} has a field more than once in an object; send every field of an object once")


def error_json(message: str, code: str | None = None) -> bytes:
    """An error as a body that fits into SageMaker's OriginalMessage; the middle of a longer message is left out."""
    room = len(message)
    while True:
        text = message if room >= len(message) else f"{message[: room // 2]} … {message[-(room // 2) :]}"
        body = to_json({"error": text} if code is None else {"error": text, "code": code})
        if len(body) <= MAX_ERROR:
            return body
        room = min(room * 3 // 4, MAX_ERROR)
