"""The role of the containers, with the rights that the file needs and no others."""

from __future__ import annotations

from typing import Any

from deploy.file.endpoint import EndpointFile
from deploy.file.images import ecr_image
from deploy.template.values import given, tags

Statement = dict[str, Any]
VPC_ACTIONS = [
    "ec2:CreateNetworkInterface",
    "ec2:CreateNetworkInterfacePermission",
    "ec2:DeleteNetworkInterface",
    "ec2:DeleteNetworkInterfacePermission",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
]


def sagemaker_role(file: EndpointFile) -> dict[str, Any]:
    return role("sagemaker.amazonaws.com", policy(file), file)


def role(service: str, document: dict[str, Any], file: EndpointFile) -> dict[str, Any]:
    """A role that a service takes on; without a name, so that two stacks cannot collide."""
    trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    properties = given(
        AssumeRolePolicyDocument={"Version": "2012-10-17", "Statement": [trust]},
        Policies=[{"PolicyName": "container", "PolicyDocument": document}],
        Tags=tags(file),
    )
    return {"Type": "AWS::IAM::Role", "Properties": properties}


def policy(file: EndpointFile) -> dict[str, Any]:
    """The policy document, for those whose roles somebody else makes."""
    containers = [one for hosted in file.everything_hosted for one in hosted.all_containers]
    statements = images([one.image for one in containers if one.image], any(one.from_registry for one in containers))
    objects = [one.model for one in containers if one.model and not one.local_model]
    prefixes = [one.models for one in containers if one.models]
    if file.uploads:
        # All of them, because the old model must stay readable while an update brings the new one.
        prefixes.append(file.uploads)
    if file.asynchronous:
        prefixes.append(file.asynchronous.input)
    readable = [_arn(uri) for uri in objects] + [_arn(prefix, within=True) for prefix in prefixes]
    statements += _allow("s3:GetObject", readable)
    buckets = sorted({f"s3://{uri.removeprefix('s3://').split('/')[0]}" for uri in (*objects, *prefixes)})
    statements += _allow("s3:ListBucket", [_arn(bucket) for bucket in buckets])
    written = [file.capture.to] if file.capture else []
    if file.asynchronous:
        written += [uri for uri in (file.asynchronous.output, file.asynchronous.failures) if uri]
    statements += _allow("s3:PutObject", [_arn(prefix, within=True) for prefix in written])
    statements += logs(f"/aws/sagemaker/Endpoints/{file.name}")
    statements += _allow("cloudwatch:PutMetricData", ["*"])
    if file.asynchronous:
        topics = (("SuccessTopic", file.asynchronous.success_topic), ("ErrorTopic", file.asynchronous.error_topic))
        arns = [{"Ref": name} if topic == "create" else topic for name, topic in topics if topic]
        statements += _allow("sns:Publish", arns)
    statements += keys_and_network(file)
    return {"Version": "2012-10-17", "Statement": statements}


def images(uris: list[str], all_of_account: bool = False) -> list[Statement]:
    repositories = ["arn:${AWS::Partition}:ecr:${AWS::Region}:${AWS::AccountId}:repository/*"] if all_of_account else []
    repositories += [
        f"arn:${{AWS::Partition}}:ecr:{image.region}:{image.account}:repository/{image.repository}"
        for image in map(ecr_image, uris)
        if image
    ]
    pull = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    arns = [{"Fn::Sub": arn} for arn in dict.fromkeys(repositories)]
    return _allow(pull, arns) + _allow("ecr:GetAuthorizationToken", ["*"])


def logs(group: str) -> list[Statement]:
    arn = {"Fn::Sub": f"arn:${{AWS::Partition}}:logs:${{AWS::Region}}:${{AWS::AccountId}}:log-group:{group}*"}
    actions = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    return _allow(actions, [arn])


def keys_and_network(file: EndpointFile) -> list[Statement]:
    statements: list[Statement] = []
    if file.kms_key:
        # Only of a key's ARN can the right be given for this key alone.
        keys = [file.kms_key] if file.kms_key.startswith("arn:") and ":key/" in file.kms_key else ["*"]
        statements += _allow(["kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"], keys)
    if file.vpc:
        statements += _allow(VPC_ACTIONS, ["*"])
    return statements


def _allow(actions: str | list[str], resources: list[Any]) -> list[Statement]:
    return [{"Effect": "Allow", "Action": actions, "Resource": resources}] if resources else []


def _arn(uri: str, within: bool = False) -> dict[str, str]:
    """The ARN of a bucket or an object, or of all objects under a prefix."""
    path = uri.removeprefix("s3://").rstrip("/" if within else "").replace("${", "${!")
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:s3:::{path}{'/*' if within else ''}"}
