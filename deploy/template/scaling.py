"""Application Auto Scaling of a variant: by a target, by steps, by schedule, and from zero by the backlog."""

from __future__ import annotations

from typing import Any

from deploy.file.endpoint import EndpointFile
from deploy.file.hosting import Metric, Scaling, Step, Steps, Target, Variant
from deploy.template.update import alarm, dimensions
from deploy.template.values import given, identifier

PREDEFINED = {
    "invocations_per_instance": "SageMakerVariantInvocationsPerInstance",
    "concurrent_requests_per_model": "SageMakerVariantConcurrentRequestsPerModelHighResolution",
    "provisioned_concurrency_utilization": "SageMakerVariantProvisionedConcurrencyUtilization",
}
# Namespace, metric and statistic in CloudWatch.
MEASURED: dict[Metric, tuple[str, str, str]] = {
    "invocations_per_instance": ("AWS/SageMaker", "InvocationsPerInstance", "Sum"),
    "concurrent_requests_per_model": ("AWS/SageMaker", "ConcurrentRequestsPerModel", "Average"),
    "provisioned_concurrency_utilization": ("AWS/SageMaker", "ServerlessProvisionedConcurrencyUtilization", "Average"),
    "cpu_percent": ("/aws/sagemaker/Endpoints", "CPUUtilization", "Average"),
    "gpu_percent": ("/aws/sagemaker/Endpoints", "GPUUtilization", "Average"),
    "backlog_per_instance": ("AWS/SageMaker", "ApproximateBacklogSizePerInstance", "Average"),
}
OF_ENDPOINT = ("backlog_per_instance",)  # metrics without a variant's name
Resources = dict[str, dict[str, Any]]


def scaling_resources(file: EndpointFile, variant: Variant) -> Resources:
    scaling = variant.scaling
    if scaling is None:
        return {}
    name = identifier(variant.name)
    kind = "DesiredProvisionedConcurrency" if variant.serverless else "DesiredInstanceCount"
    actions = [
        given(
            ScheduledActionName=one.name,
            Schedule=one.when,
            Timezone=one.timezone,
            ScalableTargetAction={
                bound: value
                for bound, value in (("MinCapacity", one.min), ("MaxCapacity", one.max))
                if value is not None
            },
        )
        for one in scaling.schedule
    ]
    properties: dict[str, Any] = {
        "ServiceNamespace": "sagemaker",
        "ScalableDimension": f"sagemaker:variant:{kind}",
        "ResourceId": f"endpoint/{file.name}/variant/{variant.name}",
        "MinCapacity": scaling.min,
        "MaxCapacity": scaling.max,
    }
    if actions:
        properties["ScheduledActions"] = actions
    target = {"Type": "AWS::ApplicationAutoScaling::ScalableTarget", "DependsOn": "Endpoint", "Properties": properties}
    resources: Resources = {f"Capacity{name}": target}
    if scaling.target:
        resources[f"Track{name}"] = _policy(
            name, "TargetTracking", _tracking(file, variant, scaling, scaling.target), "track"
        )
    if scaling.step:
        resources |= _steps(file, variant, scaling, scaling.step)
    if scaling.min == 0:
        resources |= _from_zero(file, name)
    return resources


def _policy(name: str, kind: str, configuration: dict[str, Any], called: str) -> dict[str, Any]:
    properties = {
        "PolicyName": f"{name}-{called}",
        "PolicyType": f"{kind}Scaling",
        "ScalingTargetId": {"Ref": f"Capacity{name}"},
        f"{kind}ScalingPolicyConfiguration": configuration,
    }
    return {"Type": "AWS::ApplicationAutoScaling::ScalingPolicy", "Properties": properties}


def _tracking(file: EndpointFile, variant: Variant, scaling: Scaling, target: Target) -> dict[str, Any]:
    common = {
        "TargetValue": target.value,
        "ScaleOutCooldown": scaling.out_seconds,
        "ScaleInCooldown": scaling.in_seconds,
        "DisableScaleIn": not target.scale_in,
    }
    if target.metric in PREDEFINED:
        return common | {"PredefinedMetricSpecification": {"PredefinedMetricType": PREDEFINED[target.metric]}}
    namespace, metric, statistic = MEASURED[target.metric]
    return common | {
        "CustomizedMetricSpecification": {
            "Namespace": namespace,
            "MetricName": metric,
            "Dimensions": _about(file, variant, target.metric),
            "Statistic": statistic,
        }
    }


def _about(file: EndpointFile, variant: Variant, metric: Metric) -> list[dict[str, str]]:
    return dimensions(file.name, None if metric in OF_ENDPOINT else variant.name)


def _steps(file: EndpointFile, variant: Variant, scaling: Scaling, wanted: Steps) -> Resources:
    resources: Resources = {}
    name = identifier(variant.name)
    namespace, metric, statistic = MEASURED[wanted.metric]
    for side, cooldown in (("above", scaling.out_seconds), ("below", scaling.in_seconds)):
        steps = [step for step in wanted.steps if getattr(step, side) is not None]
        if not steps:
            continue
        label = side.capitalize()
        threshold, adjustments = _adjustments(steps, side)
        resources[f"Step{label}{name}"] = _policy(
            name,
            "Step",
            {"AdjustmentType": "ChangeInCapacity", "Cooldown": cooldown, "StepAdjustments": adjustments},
            side,
        )
        word = "Greater" if side == "above" else "Less"
        resources[f"Alarm{label}{name}"] = alarm(
            file,
            Namespace=namespace,
            MetricName=metric,
            Dimensions=_about(file, variant, wanted.metric),
            Statistic=statistic,
            Period=wanted.period_seconds,
            EvaluationPeriods=wanted.periods,
            ComparisonOperator=f"{word}ThanOrEqualToThreshold",
            Threshold=threshold,
            AlarmActions=[{"Ref": f"Step{label}{name}"}],
        )
    return resources


def _adjustments(steps: list[Step], side: str) -> tuple[float, list[dict[str, Any]]]:
    """The alarm's threshold, and the steps as intervals relative to it."""
    ordered = sorted(steps, key=lambda step: getattr(step, side), reverse=side == "below")
    threshold: float = getattr(ordered[0], side)
    near, far = ("Lower", "Upper") if side == "above" else ("Upper", "Lower")
    adjustments = []
    for step, following in zip(ordered, [*ordered[1:], None], strict=True):
        interval: dict[str, Any] = {f"MetricInterval{near}Bound": getattr(step, side) - threshold}
        if following is not None:
            interval[f"MetricInterval{far}Bound"] = getattr(following, side) - threshold
        adjustments.append(interval | {"ScalingAdjustment": step.add})
    return threshold, adjustments


def _from_zero(file: EndpointFile, name: str) -> Resources:
    """The first instance comes with the first waiting request; a backlog per instance does not exist without one."""
    step = {
        "AdjustmentType": "ChangeInCapacity",
        "Cooldown": 300,
        "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
    }
    return {
        f"FromZero{name}": _policy(name, "Step", step, "from-zero"),
        f"Backlog{name}": alarm(
            file,
            Namespace="AWS/SageMaker",
            MetricName="HasBacklogWithoutCapacity",
            Dimensions=dimensions(file.name),
            Statistic="Average",
            Period=60,
            EvaluationPeriods=2,
            TreatMissingData="missing",
            Threshold=1,
            AlarmActions=[{"Ref": f"FromZero{name}"}],
        ),
    }
