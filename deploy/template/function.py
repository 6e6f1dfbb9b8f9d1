"""A Lambda function from the cpu image, with a URL."""

from __future__ import annotations

from typing import Any

from deploy.file.endpoint import EndpointFile, LambdaFunction
from deploy.template.hosting import vpc_config
from deploy.template.role import keys_and_network, logs, role
from deploy.template.values import given, tags, variables


def function_resources(file: EndpointFile, wanted: LambdaFunction) -> tuple[dict[str, Any], dict[str, Any]]:
    """Resources and outputs."""
    resources: dict[str, Any] = {}
    if not file.role:
        resources["Role"] = role("lambda.amazonaws.com", function_policy(file), file)
    properties = given(
        FunctionName=file.name,
        PackageType="Image",
        Architectures=["x86_64"],
        Code={"ImageUri": wanted.image},
        ImageConfig={"Command": ["lambda"]},
        Role=file.role or {"Fn::GetAtt": ["Role", "Arn"]},
        MemorySize=wanted.memory_mb,
        Timeout=wanted.timeout_seconds,
        EphemeralStorage={"Size": wanted.temporary_mb},
        Environment=given(Variables=variables(wanted.environment)),
        KmsKeyArn=file.kms_key,
        VpcConfig=_vpc(file),
        Tags=tags(file),
    )
    if wanted.reserved_concurrency is not None:
        properties["ReservedConcurrentExecutions"] = wanted.reserved_concurrency
    resources["Function"] = {"Type": "AWS::Lambda::Function", "Properties": properties}
    outputs: dict[str, Any] = {"FunctionName": {"Value": {"Ref": "Function"}}}
    if wanted.url != "none":
        resources["Url"] = {
            "Type": "AWS::Lambda::Url",
            "Properties": {
                "TargetFunctionArn": {"Fn::GetAtt": ["Function", "Arn"]},
                "AuthType": "NONE" if wanted.url == "public" else "AWS_IAM",
            },
        }
        outputs["Url"] = {"Value": {"Fn::GetAtt": ["Url", "FunctionUrl"]}}
    if wanted.url == "public":
        # A URL that was made since October 2025 needs both rights.
        resources["AnybodyMayAsk"] = _anybody("lambda:InvokeFunctionUrl", FunctionUrlAuthType="NONE")
        resources["AnybodyMayInvoke"] = _anybody("lambda:InvokeFunction", InvokedViaFunctionUrl=True)
    return resources, outputs


def function_policy(file: EndpointFile) -> dict[str, Any]:
    statements = logs(f"/aws/lambda/{file.name}") + keys_and_network(file)
    return {"Version": "2012-10-17", "Statement": statements}


def _anybody(action: str, **properties: Any) -> dict[str, Any]:
    function = {"Fn::GetAtt": ["Function", "Arn"]}
    return {
        "Type": "AWS::Lambda::Permission",
        "Properties": {"FunctionName": function, "Principal": "*", "Action": action, **properties},
    }


def _vpc(file: EndpointFile) -> dict[str, Any] | None:
    config = vpc_config(file)
    return {"SubnetIds": config["Subnets"], "SecurityGroupIds": config["SecurityGroupIds"]} if config else None
