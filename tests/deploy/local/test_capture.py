"""Captured requests and answers, in SageMaker's files."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

from tests.deploy.local.support import FILE, Local
from tests.deploy.support import written

NAME = r"kept/shop/AllTraffic/\d{4}/\d\d/\d\d/\d\d/\d\d-\d\d-\d{3}-[0-9a-f-]{36}\.jsonl"


def test_requests_and_answers_are_captured_in_sagemaker_s_form(tmp_path: Path, s3_url: str, s3: Any) -> None:
    path = written(tmp_path, FILE + "capture: {to: s3://my-bucket/kept}\n")
    with Local(path, AWS_ENDPOINT_URL=s3_url) as local:
        local.ready()
        for body, content_type in ((b"{}", "application/json"), (b"a,b", "text/csv"), (b"\xff", "image/png")):
            parameters = {"ContentType": content_type, "InferenceId": content_type}
            local.runtime.invoke_endpoint(EndpointName="shop", Body=body, **parameters)["Body"].read()
        assert "version 1: 3 requests captured" in local.stop()
    (found,) = s3.list_objects_v2(Bucket="my-bucket", Prefix="kept/")["Contents"]
    assert re.fullmatch(NAME, found["Key"])
    text = s3.get_object(Bucket="my-bucket", Key=found["Key"])["Body"].read()
    records = [json.loads(line) for line in text.splitlines()]
    data = [record["captureData"]["endpointInput"] for record in records]
    assert data[0] == {"observedContentType": "application/json", "mode": "INPUT", "data": "{}", "encoding": "JSON"}
    assert (data[1]["data"], data[1]["encoding"]) == ("a,b", "CSV")
    assert (base64.b64decode(data[2]["data"]), data[2]["encoding"]) == (b"\xff", "BASE64")
    output = records[0]["captureData"]["endpointOutput"]
    assert (output["mode"], output["encoding"], json.loads(output["data"])["body"]) == ("OUTPUT", "JSON", "{}")
    assert (records[0]["eventVersion"], records[0]["eventMetadata"]["inferenceId"]) == ("0", "application/json")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", records[0]["eventMetadata"]["inferenceTime"])


def test_a_bucket_that_is_not_there_loses_no_request(tmp_path: Path, s3_url: str) -> None:
    path = written(tmp_path, FILE + "capture: {to: s3://no-such-bucket/captured}\n")
    with Local(path, AWS_ENDPOINT_URL=s3_url) as local:
        local.ready()
        local.runtime.invoke_endpoint(EndpointName="shop", Body=b"{}")["Body"].read()
        local.stop()
        assert "1 captured requests are lost: the bucket no-such-bucket does not exist" in local.log.read_text()
