"""The few operations of SageMaker itself that concern an endpoint which runs: what boto3's `sagemaker` client calls."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from deploy.errors import UserError
from deploy.local.endpoint import Endpoint
from deploy.local.hosted import Hosted
from deploy.local.refusals import ACCOUNT, Refusal
from deploy.local.runtime import body, refusing
from deploy.rules.service_model import compare
from deploy.template.values import given

MAX_BYTES = 1 << 20
TARGET = "SageMaker."


class Control:
    """POST / with an operation in X-Amz-Target."""

    def __init__(self, endpoints: dict[str, Endpoint]) -> None:
        self._endpoints = endpoints
        self._operations = {
            "DescribeEndpoint": self.describe,
            "ListEndpoints": self.list,
            "UpdateEndpointWeightsAndCapacities": self.shift,
        }

    def add_to(self, application: web.Application) -> None:
        application.router.add_post("/", refusing(self.answer))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        name = request.headers.get("X-Amz-Target", "").removeprefix(TARGET)
        if name not in self._operations:
            those = f"{', '.join(self._operations)} are"
            raise _invalid(f"{name or 'This'} is not rehearsed; {those}. To update, change the file and send SIGHUP.")
        try:
            wanted = json.loads(await body(request, MAX_BYTES) or b"{}")
        except ValueError:
            raise _invalid("The body is no JSON.") from None
        for wrong in compare(f"{name}Input", wanted):
            raise _invalid(f"Value '{wrong.value}' at '{wrong.where}' failed to satisfy constraint: {wrong.message}")
        try:
            answer = self._operations[name](wanted)
        except UserError as error:
            raise _invalid(str(error)) from error
        return web.json_response(answer, content_type="application/x-amz-json-1.1")

    def _endpoint(self, wanted: dict[str, Any]) -> Endpoint:
        name = str(wanted.get("EndpointName"))
        if name not in self._endpoints:
            raise _invalid(f'Could not find endpoint "{name}".')
        return self._endpoints[name]

    def describe(self, wanted: dict[str, Any]) -> dict[str, Any]:
        endpoint = self._endpoint(wanted)
        live = endpoint.live
        weight = live.file.shadow.percent / 100 if live.file.shadow else 0
        return _summary(endpoint) | given(
            EndpointConfigName=f"{endpoint.name}-{live.number}"[-63:].lstrip("-"),
            ProductionVariants=[_variant(one, live.weights[name]) for name, one in live.variants.items()],
            ShadowProductionVariants=[_variant(live.shadow, weight)] if live.shadow else None,
            FailureReason=endpoint.reason[:1024],
        )

    def list(self, wanted: dict[str, Any]) -> dict[str, Any]:
        return {"Endpoints": [_summary(endpoint) for endpoint in self._endpoints.values()]}

    def shift(self, wanted: dict[str, Any]) -> dict[str, Any]:
        endpoint = self._endpoint(wanted)
        weights = {}
        for one in wanted.get("DesiredWeightsAndCapacities", []):
            if set(one) - {"VariantName", "DesiredWeight"}:
                raise _invalid("Here a variant has one instance, so only DesiredWeight can be changed.")
            weights[str(one.get("VariantName"))] = float(one.get("DesiredWeight", 1))
        endpoint.shift(weights)
        return {"EndpointArn": _arn(endpoint)}


def _arn(endpoint: Endpoint) -> str:
    return f"arn:aws:sagemaker:{endpoint.place.region}:{ACCOUNT}:endpoint/{endpoint.name.lower()}"


def _summary(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "EndpointName": endpoint.name,
        "EndpointArn": _arn(endpoint),
        "EndpointStatus": endpoint.status,
        "CreationTime": endpoint.created,
        "LastModifiedTime": endpoint.changed,
    }


def _variant(hosted: Hosted, weight: float) -> dict[str, Any]:
    about = {"VariantName": hosted.variant.name, "CurrentWeight": weight, "DesiredWeight": weight}
    if serverless := hosted.variant.serverless:
        capacity = {"MemorySizeInMB": serverless.memory_mb, "MaxConcurrency": serverless.max_concurrency}
        return {**about, "CurrentServerlessConfig": capacity}
    return {**about, "CurrentInstanceCount": 1, "DesiredInstanceCount": 1}


def _invalid(message: str) -> Refusal:
    return Refusal(400, "ValidationException", message)
