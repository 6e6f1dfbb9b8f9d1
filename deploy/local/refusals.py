"""The platform's own answers to a caller: errors as botocore reads them."""

from __future__ import annotations

from typing import Any

from aiohttp import web

ACCOUNT = "000000000000"  # nobody's
MAX_MESSAGE = 2048  # characters of a message in the API's model


class Refusal(Exception):
    """An error of SageMaker's API: its HTTP status, its code, its message and further members."""

    def __init__(self, status: int, code: str, message: str, **members: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.members = status, code, {"Message": message[:MAX_MESSAGE], **members}

    def response(self) -> web.Response:
        document = {"__type": self.code, **self.members} if self.code else {"message": self.members["Message"]}
        return web.json_response(document, status=self.status)


def invalid(message: str) -> Refusal:
    return Refusal(400, "ValidationError", message)


def too_large(most: int) -> Refusal:
    """SageMaker gives this one no code."""
    return Refusal(413, "", f"HTTP content length exceeded {most} bytes.")


def model_error(endpoint: str, region: str, container: str, status: int, body: bytes, log: object) -> Refusal:
    """What a caller gets if the container answers 4xx or 5xx; `status` is 0 if it did not answer."""
    original = body.decode(errors="replace")[:MAX_MESSAGE]
    whose = "client" if 400 <= status < 500 else "server"
    return Refusal(
        424,
        "ModelError",
        f'Received {whose} error ({status}) from {container} with message "{original}". '
        f"See {log} for more information.",
        OriginalStatusCode=status,
        OriginalMessage=original,
        LogStreamArn=f"arn:aws:logs:{region}:{ACCOUNT}:log-group:/aws/sagemaker/Endpoints/{endpoint}",
    )
