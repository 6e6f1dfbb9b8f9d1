"""How an update reaches the endpoint, and the alarms that take it back."""

from __future__ import annotations

from typing import Any

from deploy.file.endpoint import EndpointFile, Update
from deploy.template.values import given, identifier, tags


def deployment(update: Update, alarms: list[str]) -> dict[str, Any]:
    size = {"Type": "CAPACITY_PERCENT", "Value": update.percent}
    names: list[dict[str, Any]] = [{"AlarmName": {"Ref": alarm}} for alarm in alarms]
    names += [{"AlarmName": name} for name in (update.rollback.alarms if update.rollback else [])]
    back = {"Alarms": names} if names else None
    if update.strategy == "rolling":
        rolling = given(
            MaximumBatchSize=size,
            WaitIntervalInSeconds=update.wait_seconds,
            MaximumExecutionTimeoutInSeconds=update.timeout_seconds,
        )
        return given(RollingUpdatePolicy=rolling, AutoRollbackConfiguration=back)
    routing: dict[str, Any] = {"Type": update.strategy.upper(), "WaitIntervalInSeconds": update.wait_seconds}
    if update.strategy != "all_at_once":
        routing["CanarySize" if update.strategy == "canary" else "LinearStepSize"] = size
    blue_green = given(
        TrafficRoutingConfiguration=routing,
        TerminationWaitInSeconds=update.keep_old_seconds,
        MaximumExecutionTimeoutInSeconds=update.timeout_seconds,
    )
    return given(BlueGreenUpdatePolicy=blue_green, AutoRollbackConfiguration=back)


def rollback_alarms(file: EndpointFile) -> dict[str, dict[str, Any]]:
    """For each variant an alarm on the share of 5xx answers, and one on the 99th percentile of the model's latency."""
    rollback = file.update.rollback if file.update else None
    if rollback is None:
        return {}
    alarms = {}
    # An asynchronous endpoint has no Invocations, and an alarm without values would never ring.
    requests = "InvocationsProcessed" if file.asynchronous else "Invocations"
    for variant in file.all_variants:
        about = dimensions(file.name, variant.name)
        if rollback.errors_percent is not None:
            counts = [_sum("errors", "Invocation5XXErrors", about), _sum("invocations", requests, about)]
            share = {"Id": "share", "Expression": "100 * errors / invocations", "ReturnData": True}
            alarms[f"Errors{identifier(variant.name)}"] = alarm(
                file, Metrics=[share, *counts], Threshold=rollback.errors_percent
            )
        if rollback.latency_ms is not None:
            alarms[f"Latency{identifier(variant.name)}"] = alarm(
                file,
                Namespace="AWS/SageMaker",
                MetricName="ModelLatency",
                Dimensions=about,
                ExtendedStatistic="p99",
                Period=60,
                Threshold=rollback.latency_ms * 1000,  # the metric is in microseconds
            )
    return alarms


def dimensions(endpoint: str, variant: str | None = None) -> list[dict[str, str]]:
    named = [{"Name": "EndpointName", "Value": endpoint}]
    return named + ([{"Name": "VariantName", "Value": variant}] if variant else [])


def alarm(file: EndpointFile, **properties: Any) -> dict[str, Any]:
    defaults = {
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "EvaluationPeriods": 1,
        "TreatMissingData": "notBreaching",
    }
    if labels := tags(file):
        defaults["Tags"] = labels
    return {"Type": "AWS::CloudWatch::Alarm", "Properties": defaults | properties}


def _sum(name: str, metric: str, about: list[dict[str, str]]) -> dict[str, Any]:
    measured = {"Namespace": "AWS/SageMaker", "MetricName": metric, "Dimensions": about}
    return {"Id": name, "MetricStat": {"Metric": measured, "Period": 60, "Stat": "Sum"}, "ReturnData": False}
