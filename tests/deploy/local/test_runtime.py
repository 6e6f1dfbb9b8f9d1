"""What SageMaker's runtime does between a caller and a container, by unmodified boto3."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EventStreamError

from deploy.client import NcfClient
from deploy.rules.service_model import compare
from tests.deploy.local.support import FILE, NOBODY, Local
from tests.deploy.support import written
from tests.support.eventually import eventually


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """An endpoint of the stand-in, which tells what it got."""
    file = FILE.replace("}\ninst", ", environment: {VERSION: 1, MY_KEY: {secret: shop/key}}}\ninst")
    path = written(tmp_path_factory.mktemp("local"), file)
    with Local(path, MY_KEY="from this shell", SERVE_WORKERS="7") as running:
        yield running.ready()


def told(local: Local, **parameters: Any) -> Any:
    answer = local.runtime.invoke_endpoint(EndpointName="shop", **{"Body": b"{}", **parameters})
    return json.loads(answer["Body"].read())


def refused(local: Local, operation: str = "invoke_endpoint", **parameters: Any) -> Any:
    with pytest.raises(ClientError) as raised:
        getattr(local.runtime, operation)(**{"EndpointName": "shop", "Body": b"{}", **parameters})
    return raised.value.response


def make(**wanted: Any) -> bytes:
    return json.dumps({"make": wanted}).encode()


def test_a_container_gets_the_api_s_headers_and_no_others(local: Local) -> None:
    answer = local.runtime.invoke_endpoint(
        EndpointName="shop", Body=b"some,csv", ContentType="text/csv", Accept="text/csv", InferenceId="click-1",
        CustomAttributes="shop=7", TargetModel="any.tar.gz",
    )  # fmt: skip
    found = json.loads(answer["Body"].read())
    assert found["body"] == "some,csv"
    headers = {name: value for name, value in found["headers"].items() if name not in ("host", "content-length")}
    assert headers == {
        "content-type": "text/csv", "accept": "text/csv", "x-amzn-sagemaker-inference-id": "click-1",
        "x-amzn-sagemaker-custom-attributes": "shop=7", "x-amzn-sagemaker-target-model": "any.tar.gz",
    }  # fmt: skip
    assert (answer["ContentType"], answer["CustomAttributes"]) == ("application/json", "shop=7")
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert "x-own" not in answer["ResponseMetadata"]["HTTPHeaders"]


def test_a_container_gets_the_file_s_variables_and_none_of_serve_s_from_this_shell(local: Local) -> None:
    environment = told(local)["environment"]
    assert environment.pop("SAGEMAKER_BIND_TO_PORT").isdecimal()
    assert Path(environment.pop("SERVE_MODEL_REPOSITORY")).name == "model"
    assert environment == {"MY_KEY": "from this shell", "SERVE_BIND_ADDRESS": "127.0.0.1"}


@pytest.mark.parametrize(("status", "whose"), [(400, "client"), (429, "client"), (503, "server")])
def test_an_error_of_the_container_is_a_model_error(local: Local, status: int, whose: str) -> None:
    response = refused(local, Body=make(status=status))
    assert response["Error"]["Code"] == "ModelError"
    assert f"Received {whose} error ({status}) from primary with message" in response["Error"]["Message"]
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == status
    assert json.loads(response["OriginalMessage"])["body"] == make(status=status).decode()
    assert response["LogStreamArn"].endswith(":log-group:/aws/sagemaker/Endpoints/shop")


@pytest.mark.parametrize(
    ("parameters", "status", "code", "words"),
    [
        ({"EndpointName": "none"}, 400, "ValidationError", "Endpoint none of account 000000000000 not found."),
        ({"InferenceId": "x" * 65}, 400, "ValidationError", "1 to 64"),
        ({"TargetVariant": "Other"}, 400, "ValidationError", "Variant Other is not found"),
        ({"TargetContainerHostname": "food"}, 400, "ValidationError", "invocation mode Direct"),
        ({"Body": b"x" * (25 * 2**20 + 1)}, 413, "413", "HTTP content length exceeded 26214400 bytes."),
    ],
)  # fmt: skip
def test_what_the_platform_refuses_itself(
    local: Local, parameters: dict[str, Any], status: int, code: str, words: str
) -> None:
    response = refused(local, **parameters)
    assert (response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]) == (status, code)
    assert words in response["Error"]["Message"]


def test_the_largest_body_is_taken(local: Local) -> None:
    assert len(told(local, Body=b"x" * (25 * 2**20))["body"]) == 25 * 2**20


def test_an_asynchronous_call_is_for_asynchronous_endpoints(local: Local) -> None:
    response = refused(local, "invoke_endpoint_async")
    assert "use InvokeEndpoint." in response["Error"]["Message"]


def test_a_stream_comes_in_parts(local: Local) -> None:
    answer = local.runtime.invoke_endpoint_with_response_stream(
        EndpointName="shop", Body=make(parts=3), ContentType="application/json", InferenceId="click-2"
    )
    parts = [event["PayloadPart"]["Bytes"] for event in answer["Body"]]
    assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("text/event-stream", "AllTraffic")
    assert b"".join(parts) == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert len(parts) > 1
    broken = local.runtime.invoke_endpoint_with_response_stream(EndpointName="shop", Body=make(parts=2, breaks=True))
    with pytest.raises(EventStreamError, match=r"ModelStreamError.*The model's stream broke"):
        list(broken["Body"])
    broken["Body"].close()
    dead = refused(local, "invoke_endpoint_with_response_stream", Body=make(die=True))
    assert (dead["Error"]["Code"], dead["OriginalStatusCode"]) == ("ModelError", 0)
    local.says("is healthy again")
    failed = refused(local, "invoke_endpoint_with_response_stream", Body=make(status=400))
    assert (failed["Error"]["Code"], failed["OriginalStatusCode"]) == ("ModelError", 400)


def test_our_client_and_the_command_line_ask_it_too(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{local.port}"
    for name, value in NOBODY.items():
        monkeypatch.setenv(name, value)
    answer = NcfClient("shop", region="eu-central-1", endpoint_url=url).invoke(b"hello", "text/csv")
    assert (json.loads(answer.body)["body"], answer.variant) == ("hello", "AllTraffic")
    command = [
        str(Path(sys.executable).parent / "aws"), "sagemaker-runtime", "invoke-endpoint", "--endpoint-url", url,
        "--region=eu-central-1", "--endpoint-name=shop", "--body=hello", "--cli-binary-format=raw-in-base64-out",
    ]  # fmt: skip
    shown = subprocess.run([*command[:5], *command[5:-1], "/dev/null"], capture_output=True, text=True, check=True)
    assert json.loads(shown.stdout)["InvokedProductionVariant"] == "AllTraffic"


def test_what_describe_says_is_what_sagemaker_could_say(local: Local) -> None:
    described = local.describe()
    del described["ResponseMetadata"]
    assert list(compare("DescribeEndpointOutput", described)) == []
    assert described["EndpointStatus"] == "InService"
    assert [one["VariantName"] for one in described["ProductionVariants"]] == ["AllTraffic"]
    assert [one["EndpointName"] for one in local.sagemaker.list_endpoints()["Endpoints"]] == ["shop"]


def test_what_is_not_rehearsed_says_so(local: Local) -> None:
    with pytest.raises(ClientError, match="DeleteEndpoint is not rehearsed; DescribeEndpoint, ListEndpoints"):
        local.sagemaker.delete_endpoint(EndpointName="shop")
    with pytest.raises(ClientError, match="Could not find endpoint"):
        local.sagemaker.describe_endpoint(EndpointName="other")


def test_a_container_that_dies_is_started_again(local: Local) -> None:
    response = refused(local, Body=make(die=True))
    assert (response["Error"]["Code"], response["OriginalStatusCode"]) == ("ModelError", 0)
    local.says("shop/1/AllTraffic/primary ended with code 3 and is started again")

    def answers() -> bool:
        with suppress(local.runtime.exceptions.ServiceUnavailable, local.runtime.exceptions.ModelError):
            return bool(told(local))
        return False

    eventually(answers)
