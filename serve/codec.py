"""Bytes to requests and answers to bytes."""

from __future__ import annotations

from typing import Any

import orjson

from serve.errors import BadRequest

JSON = b"application/json"


def parse_json(body: bytes) -> Any:
    """The body as JSON. Raises BadRequest that says where it stops being JSON."""
    if not body:
        raise BadRequest('the body is empty; send JSON such as {"user_id": "u17", "k": 10}')
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error


def to_json(document: Any) -> bytes:
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError as error:  # nested deeper than it can be written, which only a caller can have sent
        raise BadRequest(f"the body cannot be passed on: {error}") from error
