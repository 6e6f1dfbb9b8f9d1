"""What AWS answers when it cannot or will not, in one sentence with the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions

from deploy.aws.session import Aws, in_words
from deploy.errors import DeployError, UserError, WorldError


def client_error(code: str, message: str, **more: Any) -> exceptions.ClientError:
    return exceptions.ClientError({"Error": {"Code": code, "Message": message, **more}}, "CreateChangeSet")


@pytest.mark.parametrize(
    ("failure", "kind", "expected"),
    [
        (exceptions.NoCredentialsError(), UserError, "there are no AWS credentials here; run `aws configure`"),
        (client_error("ExpiredToken", "The token has expired"), UserError, "not valid (any more): ExpiredToken"),
        (client_error("InvalidClientTokenId", "x"), UserError, "renew them"),
        (
            client_error(
                "AccessDenied",
                "User: arn:aws:iam::1:user/me is not authorized to perform: cloudformation:CreateChangeSet on "
                "resource: arn:aws:cloudformation:eu-central-1:1:stack/ncf-food/* because no policy allows it",
            ),
            UserError,
            "your role lacks the right cloudformation:CreateChangeSet on arn:aws:cloudformation:eu-central-1:1:stack",
        ),
        (client_error("403", "Forbidden"), UserError, "your role lacks the right aws:CreateChangeSet"),
        (client_error("ResourceLimitExceeded", "2 instances."), WorldError, "quota of the account is reached"),
        (client_error("NoSuchBucket", "no", BucketName="b"), UserError, "the bucket b does not exist; make it"),
        (client_error("PermanentRedirect", "other"), UserError, "another region"),
        (client_error("InternalFailure", "oh"), WorldError, "AWS refuses CreateChangeSet: oh (InternalFailure)"),
        (exceptions.EndpointConnectionError(endpoint_url="https://x"), WorldError, "is the region right"),
        (exceptions.ProfileNotFound(profile="mine"), UserError, "mine"),
        (exceptions.UnauthorizedSSOTokenError(), UserError, "aws sso login"),
    ],
)  # fmt: skip
def test_a_failure_has_its_remedy(failure: Exception, kind: type[DeployError], expected: str) -> None:
    with pytest.raises(kind) as caught, in_words():
        raise failure
    assert expected in str(caught.value)


def test_without_a_region_the_file_is_named(no_machine: None) -> None:
    with pytest.raises(UserError, match="write region: eu-central-1 into the file"):
        Aws(None)


def test_without_credentials_nothing_is_asked(
    no_machine: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(UserError, match="no AWS credentials"):
        _ = Aws("eu-central-1").account


def test_the_region_may_be_in_either_variable(no_machine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert Aws(None).region == "eu-west-1"
    monkeypatch.setenv("AWS_REGION", "eu-west-2")
    assert Aws(None).region == "eu-west-2"
    assert Aws("eu-west-3").region == "eu-west-3"
