"""Two ways to ask: HTTP to a URL, and SageMaker's runtime. Both give the same answers and errors."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import boto3
import urllib3
from botocore import exceptions
from botocore.config import Config

from deploy.client.results import AskError, refusal

JSON = "application/json"
LONGEST_STREAM = 480.0  # seconds; SageMaker's limit for a response stream
MAX_BYTES = 25 << 20  # of a request to an endpoint (Model Hosting FAQs)
MAX_SERVERLESS_BYTES = 4 << 20  # of one to a serverless endpoint
MAX_ASYNC_BYTES = 1 << 30  # of an asynchronous request
INLINE_BYTES = 128_000  # of an asynchronous request; a larger body goes through S3
NOT_READY = ("ModelNotReadyException", "ThrottlingException", "TooManyRequestsException", "Throttling")


@dataclass(frozen=True)
class Answer:
    body: bytes
    content_type: str
    variant: str = ""  # which answered, behind an endpoint
    custom_attributes: str = ""


@dataclass(frozen=True)
class Ask:
    """A request as both ways understand it; empty fields are not sent."""

    body: bytes
    content_type: str = JSON
    accept: str = ""
    target_model: str = ""
    target_container: str = ""
    target_variant: str = ""
    custom_attributes: str = ""
    inference_id: str = ""


class Transport(Protocol):
    def ask(self, ask: Ask) -> Answer: ...

    def stream(self, ask: Ask) -> Iterator[bytes]: ...


class Url:
    """`serve` under a URL; connections stay open and are shared by threads."""

    def __init__(self, url: str, seconds: float, connections: int) -> None:
        self._url = url.rstrip("/").removesuffix("/invocations") + "/invocations"
        # Retries are the client's matter, because they have a budget there.
        self._pool = urllib3.PoolManager(maxsize=connections, retries=False, timeout=seconds)

    def ask(self, ask: Ask) -> Answer:
        response = self._send(ask, preload=True)
        headers = response.headers
        return Answer(
            response.data,
            headers.get("Content-Type", ""),
            custom_attributes=headers.get("X-Amzn-SageMaker-Custom-Attributes", ""),
        )

    def stream(self, ask: Ask) -> Iterator[bytes]:
        response = self._send(ask, preload=False)
        try:
            yield from response.stream(1 << 16)
        except urllib3.exceptions.HTTPError as error:
            raise AskError(502, "connection", f"the stream broke: {error}") from error
        finally:
            response.release_conn()

    def _send(self, ask: Ask, preload: bool) -> urllib3.BaseHTTPResponse:
        names = {
            "Content-Type": ask.content_type,
            "Accept": ask.accept,
            "X-Amzn-SageMaker-Target-Model": ask.target_model,
            "X-Amzn-SageMaker-Target-Container-Hostname": ask.target_container,
            "X-Amzn-SageMaker-Target-Variant": ask.target_variant,
            "X-Amzn-SageMaker-Custom-Attributes": ask.custom_attributes,
            "X-Amzn-SageMaker-Inference-Id": ask.inference_id,
        }
        headers = {name: value for name, value in names.items() if value}
        try:
            response = self._pool.request("POST", self._url, body=ask.body, headers=headers, preload_content=preload)
        except urllib3.exceptions.HTTPError as error:
            is_late = isinstance(error, urllib3.exceptions.TimeoutError)
            if is_late and not isinstance(error, urllib3.exceptions.NewConnectionError):  # which counts as one, too
                raise AskError(504, "timeout", f"{self._url} did not answer in time") from error
            raise AskError(502, "connection", f"{self._url} does not answer: {error}; is `serve` running?") from error
        if response.status >= 400:
            after = response.headers.get("Retry-After", "")
            raise refusal(response.status, response.data, retry_after=float(after) if after.isdigit() else 0)
        return response


@dataclass
class Pending:
    """An asynchronous request under way."""

    inference_id: str
    output: str
    failure: str
    _s3: Any = field(repr=False)
    _pause: Callable[[float], None] = field(repr=False, default=time.sleep)

    def ready(self) -> Answer | None:
        """The answer, or None as long as there is none. Raises AskError if the request failed."""
        if found := self._object(self.output):
            return found
        if self.failure and (failed := self._object(self.failure)):
            raise AskError(500, "failed", failed.body[:2000].decode(errors="replace"))
        return None

    def wait(self, seconds: float = 900, every: float = 2) -> Answer:
        """Look in S3 until the answer is there. Raises AskError."""
        waited = 0.0
        while (found := self.ready()) is None:
            if waited >= seconds:
                raise AskError(504, "timeout", f"there is no answer at {self.output} after {seconds:g} s")
            self._pause(every)
            waited += every
        return found

    def _object(self, uri: str) -> Answer | None:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        try:
            found = self._s3.get_object(Bucket=bucket, Key=key)
        except exceptions.ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise _in_words(error) from error
        return Answer(found["Body"].read(), found.get("ContentType", ""))


class Endpoint:
    """A SageMaker endpoint by its name."""

    def __init__(
        self, name: str, region: str | None, seconds: float, connections: int, requests_prefix: str | None,
        endpoint_url: str | None,
    ) -> None:  # fmt: skip
        self._name, self._prefix = name, requests_prefix
        self._session = boto3.session.Session(region_name=region or os.environ.get("AWS_REGION"))
        config = Config(
            max_pool_connections=connections, read_timeout=seconds, connect_timeout=5, retries={"total_max_attempts": 1}
        )
        self._config, self._url = config, endpoint_url
        self._runtime = self._client("sagemaker-runtime")

    def _client(self, service: str) -> Any:
        try:
            return self._session.client(service, config=self._config, endpoint_url=self._url)
        except exceptions.BotoCoreError as error:
            raise AskError(400, "configuration", f"{error} Set AWS_REGION, or give region") from error

    def ask(self, ask: Ask) -> Answer:
        _require_size(ask.body, MAX_BYTES, "send JSON Lines in several requests, or use an asynchronous endpoint")
        answer = self._call("invoke_endpoint", Body=ask.body, **_parameters(ask))
        with self._failures():  # the connection can break within the body, too
            body = answer["Body"].read()
        return Answer(
            body,
            answer.get("ContentType", ""),
            answer.get("InvokedProductionVariant", ""),
            answer.get("CustomAttributes", ""),
        )

    def stream(self, ask: Ask) -> Iterator[bytes]:
        _require_size(ask.body, MAX_BYTES, "send JSON Lines in several requests")
        answer = self._call("invoke_endpoint_with_response_stream", Body=ask.body, **_parameters(ask))
        for event in answer["Body"]:
            if "PayloadPart" in event:
                yield event["PayloadPart"]["Bytes"]
                continue
            for kind, failure in event.items():  # ModelStreamError, InternalStreamFailure
                raise AskError(500, str(failure.get("ErrorCode", kind)), str(failure.get("Message", kind)))

    def begin(self, ask: Ask, seconds: int | None) -> Pending:
        """Queue a request of an asynchronous endpoint."""
        _require_size(ask.body, MAX_ASYNC_BYTES, "send it in several requests")
        s3 = self._client("s3")
        parameters = _parameters(ask)
        for name in ("TargetModel", "TargetContainerHostname", "TargetVariant"):
            parameters.pop(name, None)  # InvokeEndpointAsync has none of these
        if seconds is not None:
            parameters["InvocationTimeoutSeconds"] = seconds
        if len(ask.body) <= INLINE_BYTES:
            parameters["Body"] = ask.body
        elif self._prefix is None:
            raise AskError(413, "body_too_large", f"bodies above {INLINE_BYTES:,} bytes need requests_prefix, s3://…")
        else:
            bucket, _, key = f"{self._prefix.removeprefix('s3://').rstrip('/')}/{uuid.uuid4().hex}".partition("/")
            try:
                s3.put_object(Bucket=bucket, Key=key, Body=ask.body, ContentType=ask.content_type)
            except exceptions.ClientError as error:
                raise _in_words(error) from error
            parameters["InputLocation"] = f"s3://{bucket}/{key}"
        answer = self._call("invoke_endpoint_async", **parameters)
        return Pending(answer["InferenceId"], answer["OutputLocation"], answer.get("FailureLocation", ""), s3)

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        with self._failures():
            return dict(getattr(self._runtime, operation)(EndpointName=self._name, **parameters))

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except exceptions.ClientError as error:
            raise _in_words(error) from error
        except exceptions.ReadTimeoutError as error:
            raise AskError(504, "timeout", f"endpoint {self._name} did not answer in time") from error
        except exceptions.NoCredentialsError as error:
            raise AskError(401, "credentials", "there are no AWS credentials here; run `aws configure`") from error
        except exceptions.BotoCoreError as error:
            raise AskError(502, "connection", str(error)) from error


def _require_size(body: bytes, most: int, remedy: str) -> None:
    if len(body) > most:
        raise AskError(413, "body_too_large", f"the body has {len(body):,} bytes and {most:,} are taken; {remedy}")


def _parameters(ask: Ask) -> dict[str, Any]:
    named = {
        "ContentType": ask.content_type,
        "Accept": ask.accept,
        "TargetModel": ask.target_model,
        "TargetContainerHostname": ask.target_container,
        "TargetVariant": ask.target_variant,
        "CustomAttributes": ask.custom_attributes,
        "InferenceId": ask.inference_id,
    }
    return {name: value for name, value in named.items() if value}


def _in_words(error: exceptions.ClientError) -> AskError:
    """The container's own status and message out of ModelError; AWS's code for the rest."""
    answer: Any = error.response
    code, message = answer["Error"]["Code"], answer["Error"].get("Message", "")
    if code == "ModelError":
        status = int(answer.get("OriginalStatusCode", 500))
        original = str(answer.get("OriginalMessage", message))
        return refusal(status, original.encode(), str(answer.get("LogStreamArn", "")))
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
    return AskError(429 if code in NOT_READY else status, code, message)
