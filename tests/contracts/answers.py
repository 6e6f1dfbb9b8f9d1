"""How the contract's tests ask /invocations, and read its answers."""

from __future__ import annotations

import json
from typing import Any

from tests.contracts.oracle import BINARY
from tests.support.serving import Answer, Server


def typed(header: bytes, kind: str = "", **more: str) -> dict[str, str]:
    return {"Content-Type": kind or f"{BINARY};json-header-size={len(header)}", **more}


def invoke(server: Server, body: bytes, headers: dict[str, str] | None = None) -> Answer:
    return server.request("POST", "/invocations", body, headers)


def binary_parts(answer: Answer) -> tuple[Any, bytes]:
    """The JSON part and the tensors of an answer in the binary type."""
    kind, _, length = answer.headers["content-type"].partition(";json-header-size=")
    assert kind == BINARY
    return json.loads(answer.body[: int(length)]), answer.body[int(length) :]


def outputs(answer: Answer) -> dict[str, list[Any]]:
    assert answer.status == 200, answer.body[:500]
    return {each["name"]: each["data"] for each in answer.json["outputs"]}


def is_error(answer: Answer, status: int) -> bool:
    """Whether it is a refusal as a client can read it; a model's own faults keep Triton's type."""
    typed = status >= 500 or answer.headers["content-type"] == "application/json"
    return answer.status == status and typed and isinstance(answer.json["error"], str)
