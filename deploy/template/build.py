"""The template of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploy.file.endpoint import EndpointFile
from deploy.template.dashboard import dashboard
from deploy.template.function import function_resources
from deploy.template.hosting import endpoint_config, model
from deploy.template.role import sagemaker_role
from deploy.template.scaling import scaling_resources
from deploy.template.update import deployment, rollback_alarms
from deploy.template.values import given, identifier, tags

Resources = dict[str, dict[str, Any]]


def template(file: EndpointFile, uploads: Mapping[str, str]) -> dict[str, Any]:
    """The CloudFormation template; `uploads` has the S3 URI of each local archive."""
    if file.function:
        return _document(file, {}, *function_resources(file, file.function))
    parameters = {
        f"Package{identifier(hosted.name)}{number}": {
            "Type": "String",
            "Description": f"The approved model package of {container.package_group} for {hosted.name}, by its ARN",
        }
        for hosted in file.everything_hosted
        for number, container in enumerate(hosted.all_containers)
        if container.package_group
    }
    resources = {} if file.role else {"Role": sagemaker_role(file)}
    for hosted in file.everything_hosted:
        resources[f"Model{identifier(hosted.name)}"] = model(file, hosted, uploads)
    topics = _topics(file)
    alarms = rollback_alarms(file)
    resources |= topics | alarms
    resources["EndpointConfig"] = endpoint_config(file, topics)
    resources["Endpoint"] = _endpoint(file, list(alarms))
    resources |= dashboard(file, list(alarms))
    for variant in file.all_variants:
        resources |= scaling_resources(file, variant)
    outputs: dict[str, Any] = {"EndpointName": {"Value": file.name}}
    outputs |= {f"{topic}Arn": {"Value": {"Ref": topic}} for topic in topics}
    return _document(file, parameters, resources, outputs)


def _document(file: EndpointFile, parameters: Any, resources: Resources, outputs: Any) -> dict[str, Any]:
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"{file.name}: made by ncf-deploy from a declared file",
        **({"Parameters": parameters} if parameters else {}),
        "Resources": resources,
        "Outputs": outputs,
    }


def _endpoint(file: EndpointFile, alarms: list[str]) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "EndpointName": file.name,
        "EndpointConfigName": {"Fn::GetAtt": ["EndpointConfig", "EndpointConfigName"]},
        "Tags": tags(file),
    }
    if file.update:
        properties["DeploymentConfig"] = deployment(file.update, alarms)
    if any(variant.scaling for variant in file.all_variants):
        # What scaling has made of the number of instances stays at an update; weights and capture follow the file.
        properties["RetainAllVariantProperties"] = True
        properties["ExcludeRetainedVariantProperties"] = [
            {"VariantPropertyType": kind} for kind in ("DesiredWeight", "DataCaptureConfig")
        ]
    return {"Type": "AWS::SageMaker::Endpoint", "Properties": given(**properties)}


def _topics(file: EndpointFile) -> Resources:
    wanted = file.asynchronous
    if wanted is None:
        return {}
    named = {"SuccessTopic": wanted.success_topic, "ErrorTopic": wanted.error_topic}
    properties = given(KmsMasterKeyId=file.kms_key, Tags=tags(file))
    return {
        name: {"Type": "AWS::SNS::Topic", "Properties": properties}
        for name, topic in named.items()
        if topic == "create"
    }
