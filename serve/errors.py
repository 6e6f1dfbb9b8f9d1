"""What a request can go wrong with: each class carries its HTTP status and a code.

ServeError                500  internal
├── BadRequest            400  bad_request
├── UnknownModel          404  unknown_model
├── MethodNotAllowed      405  method_not_allowed
├── NotAcceptable         406  not_acceptable          Accept leaves no format that the answer fits in
├── BodyTooLarge          413  body_too_large
├── UnsupportedMediaType  415  unsupported_media_type  Content-Type, charset or Content-Encoding cannot be read
├── TritonFailed          502  model_failed            Triton answered with an error of its own
└── Unavailable           503  unavailable             Triton, or the model asked for, is not ready
    └── VersionGone       503  unavailable             the model's version was just replaced by another
"""

from __future__ import annotations

_WORDS = {"None": "null", "True": "true", "False": "false"}  # JSON's, which is what the caller wrote


def show(value: object) -> str:
    """A value as it may stand in a message: one short line without its depths, whatever was sent."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = f"'{value[:80]}'" if isinstance(value, str) else _WORDS.get(str(value), str(value))
    if not text.isprintable():
        text = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
    return text if len(text) <= 80 else text[:77] + "…"


class ServeError(Exception):
    """The base; its text is what the caller reads."""

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


class BodyTooLarge(ServeError):
    status = 413
    code = "body_too_large"


class UnsupportedMediaType(ServeError):
    status = 415
    code = "unsupported_media_type"


class TritonFailed(ServeError):
    status = 502
    code = "model_failed"


class Unavailable(ServeError):
    status = 503
    code = "unavailable"


class VersionGone(Unavailable):
    pass
