"""Triton 2.51's own answers, as tests/whole gets them from a running one, and what each means."""

from __future__ import annotations

import contextlib
import json
from typing import Any, cast

import pytest

from serve.errors import BadRequest, OutOfMemory, Overloaded, ServeError, TritonFailed, VersionGone
from serve.settings import Settings
from serve.triton.failures import failure
from serve.triton.pool import TritonResponse
from serve.worker.pass_through import PassThrough

FAILURES = [
    (404, "Request for unknown model: 'm' is not found", VersionGone, 503),
    (404, "Request for unknown model: 'm' version 7 is not found", VersionGone, 503),
    (404, "Request for unknown model: 'm' has no available versions", VersionGone, 503),
    (503, "Request for unknown model: 'm' version 1 is not at ready state", VersionGone, 503),
    (
        503,
        "[request id: x] Server is stopping, scheduler for model has stopped accepting new inference requests",
        VersionGone,
        503,
    ),
    (503, "[request id: <id_unknown>] Exceeds maximum queue size", Overloaded, 503),
    (400, "[request id: <id_unknown>] expected 2 inputs but got 1 inputs for model 'm'", BadRequest, 400),
    (500, "failed to parse the request JSON buffer: Missing a colon after a name of object member. at 9",
     BadRequest, 400),
    (500, "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'", BadRequest, 400),
    (500, "Unable to parse 'data': Shape does not match true shape of 'data' field", BadRequest, 400),
    (500, "failed to get request params.", BadRequest, 400),
    (500, "attempt to get members for non-object", BadRequest, 400),
    (500, "attempt to access JSON non-object as object", BadRequest, 400),
    (501, "HTTP end point doesn't support models with decoupled transaction policy", TritonFailed, 501),
    (500, "Stub process 'm_0_0' is not healthy.", TritonFailed, 500),
    (500, "refused on demand", TritonFailed, 500),
    (500, "Failed to process the request(s) for model 'm_0_0', message: unknown model", TritonFailed, 500),
    (404, "Not Found", TritonFailed, 500),
]  # fmt: skip


def answer_of(status: int, message: str) -> TritonResponse:
    return TritonResponse(status, json.dumps({"error": message}).encode())


@pytest.mark.parametrize(("status", "message", "kind", "ours"), FAILURES)
def test_what_triton_says_and_what_it_means(status: int, message: str, kind: type[ServeError], ours: int) -> None:
    error = failure("m", answer_of(status, message), multi_model=False)
    assert (type(error), error.status, str(error)) == (kind, ours, f"m: {message}")


@pytest.mark.parametrize(("status", "message", "kind", "ours"), FAILURES)
def test_a_body_that_is_passed_on_gets_the_same_status(
    status: int, message: str, kind: type[ServeError], ours: int
) -> None:
    """Either the error is raised, or Triton's own answer is passed on, which then has that status."""
    passing = PassThrough(Settings.from_environment({}), cast(Any, None), cast(Any, None))
    answer = answer_of(status, message)
    expected = contextlib.nullcontext() if status == ours and status != 503 else pytest.raises(kind)
    with expected as raised:
        passing.check_failure("m", answer, b"{}")
    assert (raised.value if raised else answer).status == ours


def test_too_little_memory_is_507_where_models_can_be_unloaded() -> None:
    answer = answer_of(500, "CUDA out of memory")
    alone, among_others = failure("m", answer, multi_model=False), failure("m", answer, multi_model=True)
    assert (type(alone), alone.status) == (TritonFailed, 500)
    assert (type(among_others), among_others.status) == (OutOfMemory, 507)


@pytest.mark.parametrize("body", [b"", b"nothing to read", b"[]", b"{}"])
def test_a_failure_without_words_has_its_status(body: bytes) -> None:
    assert str(failure("m", TritonResponse(500, body), multi_model=False)) == "m: status 500"
