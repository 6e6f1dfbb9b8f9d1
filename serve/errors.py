"""The ways in which a request can fail: each class has an HTTP status and a code.

ServeError                500  internal                a fault of this server; its log says more
├── TritonFailed          500  model_failed            the model failed, or its answer cannot be read
├── BadRequest            400  bad_request
├── UnknownModel          404  unknown_model
├── MethodNotAllowed      405  method_not_allowed
├── NotAcceptable         406  not_acceptable          Accept allows no format that the answer can have
├── RequestTimeout        408  request_timeout         the body did not come in time
├── Conflict              409  already_loaded          the model is loaded, or being loaded, already
├── BodyTooLarge          413  body_too_large
├── UnsupportedMediaType  415  unsupported_media_type  Content-Type, charset or Content-Encoding cannot be read
├── Unavailable           503  unavailable             Triton, or the model asked for, is not ready
│   ├── Overloaded        503  overloaded              too many requests or bodies at once; try again shortly
│   └── VersionGone       503  unavailable             the model's version was just replaced by another
├── DeadlineExceeded      504  deadline_exceeded       not answered in time
└── OutOfMemory           507  out_of_memory           a multi-model endpoint must unload other models first
"""

from __future__ import annotations

_WORDS = {"None": "null", "True": "true", "False": "false"}  # as the caller wrote them in JSON


def show(value: object) -> str:
    """A value of the caller's for a message: one short, printable line; of a list or an object only its kind."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = f"'{value[:80]}'" if isinstance(value, str) else _WORDS.get(str(value), str(value))
    if not text.isprintable():
        text = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
    return text if len(text) <= 80 else text[:77] + "…"


class ServeError(Exception):
    """The base class; the caller reads its text."""

    status = 500
    code = "internal"


class BadRequest(ServeError):
    status = 400
    code = "bad_request"


class UnknownModel(ServeError):
    status = 404
    code = "unknown_model"


class MethodNotAllowed(ServeError):
    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class NotAcceptable(ServeError):
    status = 406
    code = "not_acceptable"


class RequestTimeout(ServeError):
    status = 408
    code = "request_timeout"


class Conflict(ServeError):
    status = 409
    code = "already_loaded"


class BodyTooLarge(ServeError):
    status = 413
    code = "body_too_large"


class UnsupportedMediaType(ServeError):
    status = 415
    code = "unsupported_media_type"


class TritonFailed(ServeError):
    code = "model_failed"


class Unavailable(ServeError):
    status = 503
    code = "unavailable"


class Overloaded(Unavailable):
    code = "overloaded"


class VersionGone(Unavailable):
    pass


class DeadlineExceeded(ServeError):
    status = 504
    code = "deadline_exceeded"


class OutOfMemory(ServeError):
    status = 507
    code = "out_of_memory"


class StartError(Exception):
    """Serving cannot start or go on; the message is one line for the person who reads the log."""

    exit_code = 1
