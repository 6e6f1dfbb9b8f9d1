"""A CloudWatch dashboard of an endpoint, with graphs of what its way of hosting publishes and no others.

Namespaces, metrics and dimensions are those of AWS's pages on monitoring SageMaker (docs/deploy.md names them).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from deploy.file.endpoint import EndpointFile
from deploy.file.hosting import Variant
from deploy.rules.instances import has_gpu
from deploy.template.values import given, tags

COLUMNS, HEIGHT, HEADER_HEIGHT = 24, 6, 2
REQUESTS, INSTANCES = "AWS/SageMaker", "/aws/sagemaker/Endpoints"
# CloudWatch's shorthand: the same metric and dimensions as in the line before.
PERCENTILES: list[list[Any]] = [["...", {"stat": "p90"}], ["...", {"stat": "p99"}]]
Widget = tuple[str, dict[str, Any]]
Line = list[Any]


def dashboard(file: EndpointFile, alarms: list[str]) -> dict[str, dict[str, Any]]:
    """The resource if the file asks for it; `alarms` are the logical ids of the update's."""
    if not file.dashboard:
        return {}
    body = json.dumps({"widgets": list(_placed(_rows(file, alarms)))}, separators=(",", ":"))
    properties = given(
        # Dashboards belong to an account and not to a region, and endpoints of two regions may have one name.
        DashboardName={"Fn::Sub": f"{file.name}-${{AWS::Region}}"},
        DashboardBody={"Fn::Sub": body},
        Tags=tags(file),
    )
    return {"Dashboard": {"Type": "AWS::CloudWatch::Dashboard", "Properties": properties}}


def _placed(rows: Iterator[list[Widget]]) -> Iterator[dict[str, Any]]:
    y = 0
    for row in rows:
        width = COLUMNS // len(row)
        height = HEADER_HEIGHT if row[0][0] == "text" else HEIGHT
        for number, (kind, properties) in enumerate(row):
            place = {"x": number * width, "y": y, "width": width, "height": height}
            yield {"type": kind, **place, "properties": properties}
        y += height


def _rows(file: EndpointFile, alarms: list[str]) -> Iterator[list[Widget]]:
    warning = "Made by ncf-deploy from a declared file; what is changed here is lost at the next apply."
    yield [("text", {"markdown": f"# {file.name}\n{warning}"})]
    arns = [f"${{{alarm}.Arn}}" for alarm in alarms]
    named = file.update.rollback.alarms if file.update and file.update.rollback else []
    prefix = "arn:${AWS::Partition}:cloudwatch:${AWS::Region}:${AWS::AccountId}:alarm:"
    arns += [prefix + name.replace("${", "${!") for name in named]
    if arns:
        yield [("alarm", {"title": "Alarms that take an update back", "alarms": arns})]
    for variant in file.everything_hosted:
        yield from _Graphs(file, variant).rows()


class _Graphs:
    """The graphs of one variant, three or four in a row."""

    def __init__(self, file: EndpointFile, variant: Variant) -> None:
        self.file, self.variant = file, variant
        self.endpoint = ["EndpointName", file.name]
        self.about = [*self.endpoint, "VariantName", variant.name]
        self.seconds = file.metrics.every_seconds if file.metrics else 60  # between two values of an instance

    def rows(self) -> Iterator[list[Widget]]:
        errors = ["Invocation4XXErrors", "Invocation5XXErrors"]
        model = self.percentiles("ModelLatency")
        overhead = self.percentiles("OverheadLatency")
        if self.file.asynchronous:
            requests = ["InvocationsProcessed", "InvocationFailures", "ExpiredRequests", *errors]
            s3 = ["RequestDownloadFailures", "ResponseUploadFailures", "NotificationFailures"]
            yield [self.sums("requests", requests), model, self.sums("failures outside of the model", s3)]
            backlog = ["ApproximateBacklogSize", "ApproximateBacklogSizePerInstance"]
            oldest = lines(REQUESTS, ["ApproximateAgeOfOldestRequest"], self.endpoint)
            yield [
                self.graph("backlog", lines(REQUESTS, backlog, self.endpoint)),
                self.graph("age of the oldest request", oldest),
                self.graph("time in the backlog", lines(REQUESTS, ["TimeInBacklog"], self.about)),
            ]
            yield [self.utilization(), self.instances()]
        elif self.variant.serverless:
            used = ["ServerlessConcurrentExecutionsUtilization"]
            if self.variant.serverless.provisioned_concurrency:
                used.append("ServerlessProvisionedConcurrencyUtilization")
            yield [self.sums("requests", ["Invocations", *errors]), model, overhead]
            yield [
                self.graph("memory, %", lines(INSTANCES, ["MemoryUtilization"], self.about)),
                self.graph("concurrency in use, 0 to 1", lines(REQUESTS, used, self.about), "Maximum"),
                self.percentiles("ModelSetupTime"),
            ]
        else:
            yield [self.sums("requests", ["Invocations", *errors, "InvocationModelErrors"]), model, overhead]
            concurrent = lines(REQUESTS, ["ConcurrentRequestsPerModel"], self.about)
            yield [self.utilization(), self.instances(), self.graph("requests at once", concurrent, "Maximum")]
        if self.variant.is_multi_model:
            yield self.multi_model()
        if names := [container.name for container in self.variant.containers if container.name]:
            yield self.containers(names)

    def multi_model(self) -> list[Widget]:
        wait = [*lines(REQUESTS, ["ModelLoadingWaitTime"], self.about), ["...", {"stat": "Maximum"}]]
        times = ["ModelDownloadingTime", "ModelLoadingTime", "ModelUnloadingTime"]
        return [
            self.graph("wait for a model", wait),
            self.graph("loads and unloads", lines(REQUESTS, times, self.about)),
            self.graph("requests whose model was loaded, 0 to 1", lines(REQUESTS, ["ModelCacheHit"], self.about)),
            self.graph("models loaded on an instance", lines(INSTANCES, ["LoadedModelCount"], self.about)),
        ]

    def containers(self, names: list[str]) -> list[Widget]:
        """In a pipeline every container gets all requests, so their latencies alone say something."""

        def each(namespace: str, metric: str) -> list[Line]:
            return [[namespace, metric, *self.about, "ContainerName", name] for name in names]

        latency = self.graph("latency of each container", each(REQUESTS, "ContainerLatency"))
        if self.variant.invocation == "serial":
            return [latency]
        return [
            self.graph("requests of each container", each(REQUESTS, "Invocations"), "Sum"),
            latency,
            self.graph("processors of each container, %", each(INSTANCES, "CPUUtilization")),
            self.graph("memory of each container, %", each(INSTANCES, "MemoryUtilization")),
        ]

    def utilization(self) -> Widget:
        metrics = ["CPUUtilization", "MemoryUtilization", "DiskUtilization"]
        if self.variant.instances and has_gpu(self.variant.instances.type):
            metrics += ["GPUUtilization", "GPUMemoryUtilization"]
        return self.graph("utilization, % (100 for each processor and GPU)", lines(INSTANCES, metrics, self.about))

    def instances(self) -> Widget:
        """SageMaker publishes no number of instances, but each of them sends one value an interval."""
        number = {"expression": f"samples * {self.seconds} / PERIOD(samples)", "label": "instances"}
        samples = {"id": "samples", "stat": "SampleCount", "visible": False}
        return self.graph("instances", [[number], [INSTANCES, "CPUUtilization", *self.about, samples]])

    def percentiles(self, metric: str) -> Widget:
        return self.graph(metric, [[REQUESTS, metric, *self.about], *PERCENTILES], "p50")

    def sums(self, title: str, metrics: list[str]) -> Widget:
        return self.graph(title, lines(REQUESTS, metrics, self.about), "Sum")

    def graph(self, title: str, metrics: list[Line], stat: str = "Average") -> Widget:
        properties = {"region": "${AWS::Region}", "period": max(60, self.seconds), "stat": stat, "metrics": metrics}
        return "metric", {"title": f"{self.variant.name}: {title}", **properties}


def lines(namespace: str, metrics: list[str], about: list[str]) -> list[Line]:
    """A line of a graph for each metric; `.` is what is in the same place of the line before."""
    same = ["."] * len(about)
    return [[namespace, metrics[0], *about], *([".", metric, *same] for metric in metrics[1:])]
