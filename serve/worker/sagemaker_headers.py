"""The headers of SageMaker's runtime API, and which headers of a request are repeated or passed on."""

from __future__ import annotations

import re

from serve.http1.request import Headers

CUSTOM_ATTRIBUTES = b"x-amzn-sagemaker-custom-attributes"
INFERENCE_ID = b"x-amzn-sagemaker-inference-id"
TARGET_MODEL = b"x-amzn-sagemaker-target-model"
# The answer repeats these, if they have at most 1,024 visible ASCII characters as the API demands: longer values would
# be repeated in every answer of a body with many requests.
ECHOED = frozenset((CUSTOM_ATTRIBUTES, INFERENCE_ID))
VISIBLE = re.compile(rb"[\x20-\x7e]{1,1024}")
# Triton gets these: the trace that the request belongs to, and the attributes, as parameters of the request.
FORWARDED = frozenset((b"traceparent", b"tracestate", CUSTOM_ATTRIBUTES))


def echoed(headers: dict[bytes, bytes]) -> Headers:
    """The headers of a request that its answer repeats."""
    if ECHOED.isdisjoint(headers):  # most requests
        return []
    return [(name, headers[name]) for name in ECHOED if name in headers and VISIBLE.fullmatch(headers[name])]


def forwarded(headers: dict[bytes, bytes]) -> bytes:
    """The headers of a request that Triton gets, as lines of a request's head."""
    if FORWARDED.isdisjoint(headers):  # most requests
        return b""
    found = [name for name in FORWARDED if name in headers and VISIBLE.fullmatch(headers[name])]
    return b"".join(b"%b: %b\r\n" % (name, headers[name]) for name in found)


def inference_id(headers: dict[bytes, bytes]) -> str:
    """The caller's id of a request, "" without one that can be repeated."""
    found = headers.get(INFERENCE_ID)
    return found.decode("ascii") if found is not None and VISIBLE.fullmatch(found) else ""
