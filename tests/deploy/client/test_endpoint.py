"""The client of an endpoint: botocore's own client with stubbed answers."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber

from deploy.aws.session import Aws
from deploy.client import AskError, NcfClient
from deploy.client.retries import Retries
from deploy.client.transports import Endpoint

QUICK = {"pause": lambda seconds: None}


def body(document: Any) -> StreamingBody:
    data = json.dumps(document).encode()
    return StreamingBody(io.BytesIO(data), len(data))


@pytest.fixture
def client(aws: Aws) -> NcfClient:
    return NcfClient("food", region=aws.region, requests_prefix="s3://my-bucket/in", retries=Retries(**QUICK))


def stub(client: NcfClient) -> Stubber:
    assert isinstance(client._way, Endpoint)
    made = Stubber(client._way._runtime)
    made.activate()
    return made


def test_an_endpoint_is_asked_as_a_url_is(client: NcfClient) -> None:
    runtime = stub(client)
    document = {"reason": "personal", "model_name": "food", "model_version": "1", "recommendations": [{"item_id": 7}]}
    asked = {"EndpointName": "food", "ContentType": "application/json", "Accept": "application/json", "Body": ANY}
    runtime.add_response("invoke_endpoint", {"Body": body(document), "InvokedProductionVariant": "A"}, asked)
    found = client.recommend("u17", k=5)
    assert found.items[0].item_id == 7
    assert found.items[0].score is None


def test_targets_are_passed_on(client: NcfClient) -> None:
    runtime = stub(client)
    asked = {
        "EndpointName": "food", "ContentType": "text/csv", "Body": b"x", "TargetModel": "a.tar.gz",
        "TargetVariant": "B", "TargetContainerHostname": "c", "CustomAttributes": "d", "InferenceId": "e",
    }  # fmt: skip
    runtime.add_response("invoke_endpoint", {"Body": body(1), "InvokedProductionVariant": "B"}, asked)
    answer = client.invoke(
        b"x", "text/csv", target_model="a.tar.gz", target_variant="B", target_container="c", custom_attributes="d",
        inference_id="e",
    )  # fmt: skip
    assert answer.variant == "B"


def model_error(runtime: Stubber, status: int, message: str) -> None:
    runtime.add_client_error(
        "invoke_endpoint",
        "ModelError",
        "Received client error",
        424,
        modeled_fields={"OriginalStatusCode": status, "OriginalMessage": message, "LogStreamArn": "https://log"},
    )


def test_the_containers_own_status_is_read_out_of_a_model_error(client: NcfClient) -> None:
    runtime = stub(client)
    model_error(runtime, 400, json.dumps({"error": "k is 0", "code": "bad_request"}))
    with pytest.raises(AskError) as caught:
        client.recommend("u17", k=0)
    assert (caught.value.status, caught.value.code, caught.value.message) == (400, "bad_request", "k is 0")
    assert caught.value.log == "https://log"


def test_overload_of_container_and_platform_is_tried_again(client: NcfClient) -> None:
    runtime = stub(client)
    model_error(runtime, 503, json.dumps({"error": "too many requests", "code": "overloaded"}))
    runtime.add_client_error("invoke_endpoint", "ModelNotReadyException", "loading", 429)
    runtime.add_client_error("invoke_endpoint", "ServiceUnavailable", "no", 503)
    runtime.add_client_error("invoke_endpoint", "ThrottlingException", "slow", 400)
    runtime.add_response("invoke_endpoint", {"Body": body({"scores": [1.5]})})
    assert client.score([("u17", "i1")]) == [1.5]
    runtime.add_client_error("invoke_endpoint", "ValidationError", "Endpoint food of account 1 not found.", 400)
    with pytest.raises(AskError, match="not found"):
        client.score([("u17", "i1")])
    runtime.assert_no_pending_responses()


def test_streams_come_in_parts_and_their_failures_are_errors(
    client: NcfClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [{"PayloadPart": {"Bytes": b"one"}}, {"PayloadPart": {"Bytes": b"two"}}]
    assert isinstance(client._way, Endpoint)
    answers = [
        parts,
        [*parts[:1], {"ModelStreamError": {"Message": "broke", "ErrorCode": "ModelInvocationTimeExceeded"}}],
    ]
    monkeypatch.setattr(
        client._way._runtime, "invoke_endpoint_with_response_stream", lambda **_: {"Body": answers.pop(0)}
    )
    assert list(client.stream(b"{}")) == [b"one", b"two"]
    with pytest.raises(AskError, match=r"broke \(500 ModelInvocationTimeExceeded\)"):
        list(client.stream(b"{}"))


@pytest.mark.parametrize("size", [100, 200_000])
def test_an_asynchronous_answer_is_waited_for_in_s3(size: int, client: NcfClient, aws: Aws) -> None:
    runtime = stub(client)
    asked: dict[str, Any] = {"EndpointName": "food", "ContentType": "application/json", "InferenceId": "i"}
    asked |= {"Body": ANY} if size < 128_000 else {"InputLocation": ANY}
    answer = {"InferenceId": "i", "OutputLocation": "s3://my-bucket/out/i", "FailureLocation": "s3://my-bucket/bad/i"}
    runtime.add_response("invoke_endpoint_async", answer, asked)
    pending = client.invoke_async(b"x" * size, inference_id="i")
    inputs = aws.s3.list_objects_v2(Bucket="my-bucket", Prefix="in/").get("Contents", [])
    assert [one["Size"] for one in inputs] == ([] if size < 128_000 else [size])
    assert pending.ready() is None
    with pytest.raises(AskError, match="there is no answer at s3://my-bucket/out/i after 0 s"):
        pending.wait(0)
    pending._pause = lambda _: aws.s3.put_object(Bucket="my-bucket", Key="out/i", Body=b"done")
    assert pending.wait().body == b"done"


def test_a_failed_asynchronous_request_is_an_error(client: NcfClient, aws: Aws) -> None:
    runtime = stub(client)
    answer = {"InferenceId": "i", "OutputLocation": "s3://my-bucket/out/i", "FailureLocation": "s3://my-bucket/bad/i"}
    runtime.add_response("invoke_endpoint_async", answer)
    pending = client.invoke_async(b"{}")
    aws.s3.put_object(Bucket="my-bucket", Key="bad/i", Body=b"the model failed")
    with pytest.raises(AskError, match="the model failed"):
        pending.wait()


def test_a_large_asynchronous_body_needs_a_prefix(aws: Aws) -> None:
    with pytest.raises(AskError, match="bodies above 128,000 bytes need requests_prefix"):
        NcfClient("food", region=aws.region).invoke_async(b"x" * 128_001)


def test_without_a_region_the_remedy_is_named(no_machine: None) -> None:
    with pytest.raises(AskError, match="Set AWS_REGION"):
        NcfClient("food")


def test_a_body_that_the_platform_refuses_is_not_sent(client: NcfClient) -> None:
    with pytest.raises(AskError, match=r"the body has 26,214,401 bytes and 26,214,400 are taken; send JSON Lines in"):
        client.invoke(bytes((25 << 20) + 1))
