"""Clients of AWS, and its refusals in words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import boto3
from botocore import exceptions
from botocore.config import Config

from deploy.errors import DeployError, UserError, WorldError

RETRIES = Config(retries={"mode": "standard", "max_attempts": 6}, connect_timeout=10, read_timeout=70)
EXPIRED = (
    "ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId", "UnrecognizedClientException",
    "SignatureDoesNotMatch", "InvalidAccessKeyId", "AuthFailure",
)  # fmt: skip
DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403")
QUOTAS = ("ResourceLimitExceeded", "LimitExceededException", "ServiceQuotaExceededException", "LimitExceeded")
NO_CREDENTIALS = "there are no AWS credentials here; run `aws configure` or `aws sso login`, or set AWS_PROFILE"


class Aws:
    """One account in one region; each client is made when it is first asked for."""

    def __init__(self, region: str | None, endpoint_url: str | None = None) -> None:
        with in_words():
            # boto3 reads AWS_DEFAULT_REGION alone; most other tools of AWS read AWS_REGION.
            self._session = boto3.session.Session(region_name=region or os.environ.get("AWS_REGION"))
        self._endpoint_url = endpoint_url
        self.region: str = self._session.region_name or ""
        if not self.region:
            raise UserError("no region is given; write region: eu-central-1 into the file, or set AWS_REGION")

    def client(self, service: str) -> Any:
        with in_words():
            return self._session.client(service, config=RETRIES, endpoint_url=self._endpoint_url)

    @cached_property
    def account(self) -> str:
        with in_words():
            return str(self.client("sts").get_caller_identity()["Account"])

    @cached_property
    def cloudformation(self) -> Any:
        return self.client("cloudformation")

    @cached_property
    def sagemaker(self) -> Any:
        return self.client("sagemaker")

    @cached_property
    def s3(self) -> Any:
        return self.client("s3")

    @cached_property
    def logs(self) -> Any:
        return self.client("logs")

    @cached_property
    def ecr(self) -> Any:
        return self.client("ecr")


@contextmanager
def in_words() -> Iterator[None]:
    """Failures of botocore become DeployErrors of one sentence with the remedy."""
    try:
        yield
    except exceptions.ClientError as error:
        raise of_client_error(error) from error
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
        raise UserError(NO_CREDENTIALS) from error
    except (exceptions.SSOError, exceptions.TokenRetrievalError, exceptions.CredentialRetrievalError) as error:
        raise UserError(f"the AWS credentials cannot be had: {error}; run `aws sso login`") from error
    except exceptions.ProfileNotFound as error:
        raise UserError(f"{error}; see `aws configure list-profiles`, and AWS_PROFILE") from error
    except exceptions.NoRegionError as error:
        raise UserError("no region is given; write region: eu-central-1 into the file, or set AWS_REGION") from error
    except (exceptions.EndpointConnectionError, exceptions.ConnectTimeoutError, exceptions.ConnectionError) as error:
        raise WorldError(
            f"AWS does not answer: {error}; is the region right, and does the network reach it?"
        ) from error
    except exceptions.BotoCoreError as error:
        raise WorldError(f"AWS was not asked: {error}") from error


def of_client_error(error: exceptions.ClientError) -> DeployError:
    """AWS's answer in words."""
    code, message = code_of(error), str(error.response.get("Error", {}).get("Message", error))
    if code in EXPIRED:
        return UserError(f"the AWS credentials are not valid (any more): {code}; run `aws sso login`, or renew them")
    if code in DENIED or "is not authorized to perform" in message:
        match = re.search(r"perform:? ([\w-]+:\w+)(?: on resource:? (\S+))?", message)
        action = match[1] if match else f"{_service(error)}:{error.operation_name}"
        resource = f" on {match[2]}" if match and match[2] else ""
        return UserError(f"your role lacks the right {action}{resource}; have it added to its policy ({code})")
    if code in QUOTAS:
        return WorldError(f"a quota of the account is reached: {message} Ask for more in the Service Quotas console")
    if code == "NoSuchBucket":
        bucket = error.response["Error"].get("BucketName", "")
        return UserError(f"the bucket {bucket} does not exist; make it (aws s3 mb), or name another one")
    if code in ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"):
        return UserError(f"the bucket is in another region than the file says: {message}")
    return WorldError(f"AWS refuses {error.operation_name}: {message} ({code})")


def code_of(error: exceptions.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _service(error: exceptions.ClientError) -> str:
    host = str(error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("host", ""))
    return host.split(".")[0] or "aws"
