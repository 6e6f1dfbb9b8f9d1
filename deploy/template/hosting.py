"""Models, and the endpoint's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploy.file.endpoint import EndpointFile
from deploy.file.hosting import Container, Hosted, Shadow, Variant
from deploy.rules.instances import ami_for, has_local_storage
from deploy.template.values import given, identifier, tags, variables


def model(file: EndpointFile, hosted: Variant, uploads: Mapping[str, str]) -> dict[str, Any]:
    """A model has no name of its own, so that CloudFormation can make its successor before it deletes it."""
    containers = [_container(hosted, number, one, uploads) for number, one in enumerate(hosted.all_containers)]
    properties = given(
        ExecutionRoleArn=file.role or {"Fn::GetAtt": ["Role", "Arn"]},
        PrimaryContainer=containers[0] if hosted.container else None,
        Containers=containers if hosted.containers else None,
        InferenceExecutionConfig={"Mode": hosted.invocation.capitalize()} if hosted.invocation else None,
        EnableNetworkIsolation=file.network_isolation or None,
        VpcConfig=vpc_config(file),
        Tags=tags(file),
    )
    return {"Type": "AWS::SageMaker::Model", "Properties": properties}


def vpc_config(file: EndpointFile) -> dict[str, Any] | None:
    return {"Subnets": file.vpc.subnets, "SecurityGroupIds": file.vpc.security_groups} if file.vpc else None


def _container(hosted: Variant, number: int, container: Container, uploads: Mapping[str, str]) -> dict[str, Any]:
    package: Any = container.package
    if container.package_group:
        package = {"Ref": f"Package{identifier(hosted.name)}{number}"}
    return given(
        ContainerHostname=container.name,
        Image=container.image,
        Mode="MultiModel" if container.models else None,
        ModelDataUrl=container.models or uploads.get(container.model or "", container.model),
        MultiModelConfig=None if container.cache_models else {"ModelCacheSetting": "Disabled"},
        ModelPackageName=package,
        Environment=variables(container.environment),
    )


def endpoint_config(file: EndpointFile, topics: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration has no name of its own either: each change makes a new one, which the endpoint then takes."""
    # SageMaker encrypts local disks itself and refuses a key for them.
    disks = [hosted.instances for hosted in file.everything_hosted if hosted.instances]
    takes_key = bool(disks) and not any(has_local_storage(instances.type) for instances in disks)
    properties = given(
        ProductionVariants=[_variant(variant, variant.weight) for variant in file.all_variants],
        ShadowProductionVariants=[_variant(file.shadow, _shadow_weight(file.shadow))] if file.shadow else None,
        AsyncInferenceConfig=_asynchronous(file, topics),
        DataCaptureConfig=_capture(file),
        MetricsConfig=_metrics(file),
        KmsKeyId=file.kms_key if takes_key else None,
        Tags=tags(file),
    )
    return {"Type": "AWS::SageMaker::EndpointConfig", "Properties": properties}


def _shadow_weight(shadow: Shadow) -> float:
    """The share of requests to copy is the shadow's weight over that of the production variant, which is 1."""
    return shadow.percent / 100


def _variant(variant: Variant, weight: float) -> dict[str, Any]:
    common = {
        "VariantName": variant.name,
        "ModelName": {"Fn::GetAtt": [f"Model{identifier(variant.name)}", "ModelName"]},
        "InitialVariantWeight": weight,
    }
    if variant.serverless:
        capacity = variant.serverless
        return common | {
            "ServerlessConfig": given(
                MemorySizeInMB=capacity.memory_mb,
                MaxConcurrency=capacity.max_concurrency,
                ProvisionedConcurrency=capacity.provisioned_concurrency,
            )
        }
    assert variant.instances is not None  # Hosted.lacks
    instances = variant.instances
    return common | given(
        InstanceType=instances.type,
        InitialInstanceCount=instances.count,
        InferenceAmiVersion=instances.ami or _ami(variant, instances.type),
        VolumeSizeInGB=instances.volume_gb,
        ContainerStartupHealthCheckTimeoutInSeconds=instances.startup_timeout_seconds,
        ModelDataDownloadTimeoutInSeconds=instances.download_timeout_seconds,
        RoutingConfig={"RoutingStrategy": instances.routing.upper()} if instances.routing else None,
    )


def _ami(hosted: Hosted, instance_type: str) -> str | None:
    return ami_for(instance_type, max(container.cuda for container in hosted.all_containers))


def _asynchronous(file: EndpointFile, topics: Mapping[str, Any]) -> dict[str, Any] | None:
    wanted = file.asynchronous
    if wanted is None:
        return None
    names = {"SuccessTopic": wanted.success_topic, "ErrorTopic": wanted.error_topic}
    arns: dict[str, Any] = {name: {"Ref": name} if name in topics else arn for name, arn in names.items() if arn}
    if arns and wanted.answer_in_notification:
        kinds = {"SuccessTopic": "SUCCESS_NOTIFICATION_TOPIC", "ErrorTopic": "ERROR_NOTIFICATION_TOPIC"}
        arns["IncludeInferenceResponseIn"] = [kinds[name] for name in arns]
    output = given(
        S3OutputPath=wanted.output, S3FailurePath=wanted.failures, NotificationConfig=arns, KmsKeyId=file.kms_key
    )
    most = wanted.max_concurrent_per_instance
    return given(OutputConfig=output, ClientConfig=given(MaxConcurrentInvocationsPerInstance=most))


def _capture(file: EndpointFile) -> dict[str, Any] | None:
    wanted = file.capture
    if wanted is None:
        return None
    return given(
        EnableCapture=True,
        InitialSamplingPercentage=wanted.percent,
        DestinationS3Uri=wanted.to,
        CaptureOptions=[{"CaptureMode": what.capitalize()} for what in dict.fromkeys(wanted.what)],
        CaptureContentTypeHeader=given(JsonContentTypes=wanted.json_types, CsvContentTypes=wanted.csv_types),
        KmsKeyId=file.kms_key,
    )


def _metrics(file: EndpointFile) -> dict[str, Any] | None:
    wanted = file.metrics
    if wanted is None:
        return None
    return {
        "EnableDetailedObservability": wanted.detailed,
        "EnableEnhancedMetrics": wanted.enhanced,
        "MetricPublishFrequencyInSeconds": wanted.every_seconds,
    }
