"""The meaning of Triton's errors: which error a caller gets whose request for inference Triton refused or failed."""

from __future__ import annotations

import re

import orjson

from serve.errors import BadRequest, OutOfMemory, Overloaded, ServeError, TritonFailed, VersionGone
from serve.triton.out_of_memory import is_out_of_memory
from serve.triton.pool import TritonPool, TritonResponse

# Triton's words for a version that is being unloaded, or is unloaded, with 404 or 503. A model may use the same words.
GONE = re.compile(
    r"(?:\[request id: [^\]]*\] )?"
    r"(?:Request for unknown model|Server is stopping, scheduler for model has stopped accepting)"
)
# Its words for a body it cannot read, with 500. A model may use the same words.
NOT_READ = re.compile(
    "Unable to parse|failed to parse the request JSON|failed to get request params|attempt to (?:get|access)"
)


async def is_gone(pool: TritonPool, path: str, answer: TritonResponse) -> bool:
    """Whether a request to `path` failed because Triton does not have the model's version, or not any more. A model's
    own error may have the same status and the same words, so Triton is asked; not for other words, such as those of a
    full queue, when it has the most to do. Raises Unavailable."""
    if answer.status not in (404, 503) or not GONE.match(message_of(answer)):
        return False
    return (await pool.request(b"GET", f"{path.rpartition('/')[0]}/ready")).status != 200


def failure(model: str, answer: TritonResponse, multi_model: bool, gone: bool = False) -> ServeError:
    """The error for a caller whose request to `model` Triton answered with a status of 400 or above; `gone` is that of
    `is_gone`.

    VersionGone    503  the version was unloaded in this moment
    BadRequest     400  the request does not fit the model
    OutOfMemory    507  there was too little memory; on a multi-model endpoint only
    Overloaded     503  a queue of Triton's is full, or the model says so
    TritonFailed   500  the model failed; or Triton's own status, such as 501 for a model that answers in parts
    """
    reason = message_of(answer)
    message = f"{model}: {reason}"
    if gone:
        return VersionGone(message)
    if answer.status == 400:
        return BadRequest(message)
    if multi_model and is_out_of_memory(reason):
        return OutOfMemory(message)
    if answer.status == 503:
        return Overloaded(message)
    failed = TritonFailed(message)
    failed.status = max(failed.status, answer.status)
    return failed


def message_of(answer: TritonResponse) -> str:
    """The text of Triton's error."""
    try:
        return str(orjson.loads(answer.body)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"status {answer.status}"
