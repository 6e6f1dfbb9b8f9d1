"""Requests as botocore's model of SageMaker's runtime describes them, and its event stream."""

from __future__ import annotations

import binascii
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import botocore.session

from deploy.local.refusals import invalid
from deploy.rules.service_model import compare

SERVICE = "sagemaker-runtime"
# Headers of a container's answer that reach the caller, and under which name.
ANSWER_HEADERS = (
    "X-Amzn-SageMaker-Custom-Attributes",
    "X-Amzn-SageMaker-New-Session-Id",
    "X-Amzn-SageMaker-Closed-Session-Id",
)


@dataclass(frozen=True)
class Request:
    """A request to an endpoint; `members` are the API's parameters by their names there."""

    body: bytes
    members: Mapping[str, Any]

    def get(self, name: str) -> str:
        return str(self.members.get(name, ""))

    def to_container(self) -> dict[str, str]:
        """The headers that a container gets: those of the API, and no other of the caller's."""
        names = _headers("InvokeEndpoint")
        return {names[name]: str(value) for name, value in self.members.items() if name in names}


def members(operation: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """The parameters in a request's headers. Raises Refusal for what the service would refuse."""
    model = botocore_model().operation_model(operation).input_shape
    found: dict[str, Any] = {}
    for name, header in _headers(operation).items():
        if header not in headers:
            continue
        found[name] = headers[header]
        if model.members[name].type_name == "integer":
            try:
                found[name] = int(headers[header])
            except ValueError:
                raise invalid(f"{name} is {headers[header]}, which is no whole number") from None
    for wrong in compare(model.name, found, SERVICE):
        raise invalid(f"Value '{wrong.value}' at '{wrong.where}' failed to satisfy constraint: {wrong.message}")
    return found


@cache
def botocore_model() -> Any:
    return botocore.session.get_session().get_service_model(SERVICE)


@cache
def _headers(operation: str) -> dict[str, str]:
    shape = botocore_model().operation_model(operation).input_shape
    return {
        name: member.serialization["name"]
        for name, member in shape.members.items()
        if member.serialization.get("location") == "header"
    }


def event(kind: str, name: str, content_type: str, payload: bytes) -> bytes:
    """A frame of AWS's event stream: lengths, headers of text, payload, and two sums. `kind`: event or exception."""
    about = {":message-type": kind, f":{kind}-type": name, ":content-type": content_type}
    headers = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for name, value in about.items()
    )
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", binascii.crc32(prelude)) + headers + payload
    return message + struct.pack("!I", binascii.crc32(message))
