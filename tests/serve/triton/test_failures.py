"""Triton 2.51's own answers, as tests/whole gets them from a running one, and what each means."""

from __future__ import annotations

import json

import pytest

from serve.errors import BadRequest, OutOfMemory, Overloaded, ServeError, TritonFailed, VersionGone
from serve.triton.failures import failure
from serve.triton.pool import TritonResponse

FAILURES = [
    (503, "[request id: <id_unknown>] Exceeds maximum queue size", Overloaded, 503),
    (400, "[request id: <id_unknown>] expected 2 inputs but got 1 inputs for model 'm'", BadRequest, 400),
    (400, 'unknown model variant "b"', BadRequest, 400),
    (500, "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'", TritonFailed, 500),
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
    gone = failure("m", answer_of(status, message), multi_model=False, gone=True)
    assert (type(gone), gone.status) == (VersionGone, 503)


def test_too_little_memory_is_507_where_models_can_be_unloaded() -> None:
    answer = answer_of(500, "CUDA out of memory")
    alone, among_others = failure("m", answer, multi_model=False), failure("m", answer, multi_model=True)
    assert (type(alone), alone.status) == (TritonFailed, 500)
    assert (type(among_others), among_others.status) == (OutOfMemory, 507)


@pytest.mark.parametrize("body", [b"", b"nothing to read", b"[]", b"{}"])
def test_a_failure_without_words_has_its_status(body: bytes) -> None:
    assert str(failure("m", TritonResponse(500, body), multi_model=False)) == "m: status 500"
