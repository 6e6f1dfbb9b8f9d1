"""The model registry: versions of a group, and their approval."""

from __future__ import annotations

from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from deploy.aws.session import Aws, code_of, in_words
from deploy.errors import UserError
from deploy.file.endpoint import EndpointFile
from deploy.template.values import identifier

CONTENT = ["application/json", "application/jsonlines", "text/csv"]


class Package(NamedTuple):
    version: int
    arn: str
    approval: str
    status: str
    description: str


def add(aws: Aws, group: str, image: str, model: str, description: str, tags: dict[str, str]) -> str:
    """A new version, waiting for approval; the group is made if there is none. Returns its ARN."""
    try:
        with in_words():
            aws.sagemaker.describe_model_package_group(ModelPackageGroupName=group)
    except Exception as error:
        cause = error.__cause__
        if not (isinstance(cause, ClientError) and code_of(cause) == "ValidationException"):
            raise
        labels = [{"Key": key, "Value": value} for key, value in tags.items()]
        with in_words():
            aws.sagemaker.create_model_package_group(ModelPackageGroupName=group, Tags=labels)
    specification: dict[str, Any] = {
        "Containers": [{"Image": image, "ModelDataUrl": model}],
        "SupportedContentTypes": CONTENT,
        "SupportedResponseMIMETypes": CONTENT,
    }
    with in_words():
        made = aws.sagemaker.create_model_package(
            ModelPackageGroupName=group,
            ModelPackageDescription=description,
            InferenceSpecification=specification,
            ModelApprovalStatus="PendingManualApproval",
        )
    return str(made["ModelPackageArn"])


def listed(aws: Aws, group: str) -> list[Package]:
    """All versions, newest first. Raises UserError if there is no such group."""
    try:
        with in_words():
            pages = aws.sagemaker.get_paginator("list_model_packages").paginate(
                ModelPackageGroupName=group, SortBy="CreationTime", SortOrder="Descending"
            )
            found = [one for page in pages for one in page["ModelPackageSummaryList"]]
    except Exception as error:
        cause = error.__cause__
        if isinstance(cause, ClientError) and code_of(cause) == "ValidationException":
            raise UserError(f"there is no package group {group}; `ncf-deploy packages add` makes it") from None
        raise
    packages = [
        Package(
            int(one["ModelPackageVersion"]),
            one["ModelPackageArn"],
            one.get("ModelApprovalStatus", ""),
            one.get("ModelPackageStatus", ""),
            one.get("ModelPackageDescription", ""),
        )
        for one in found
    ]
    return sorted(packages, reverse=True)


def approve(aws: Aws, group: str, version: int, approved: bool) -> Package:
    """Approve or reject a version."""
    package = next((one for one in listed(aws, group) if one.version == version), None)
    if package is None:
        raise UserError(f"group {group} has no version {version}; see `ncf-deploy packages list`")
    status = "Approved" if approved else "Rejected"
    with in_words():
        aws.sagemaker.update_model_package(ModelPackageArn=package.arn, ModelApprovalStatus=status)
    return package._replace(approval=status)


def parameters(aws: Aws, file: EndpointFile) -> dict[str, str]:
    """The template's parameters: the newest approved version of each group."""
    found = {}
    for hosted in file.everything_hosted:
        for number, container in enumerate(hosted.all_containers):
            if container.package_group:
                versions = listed(aws, container.package_group)
                approved = next((one for one in versions if one.approval == "Approved"), None)
                if approved is None:
                    raise UserError(
                        f"group {container.package_group} has no approved version; approve one with "
                        f"`ncf-deploy packages approve` (there are {', '.join(str(one.version) for one in versions)})"
                    )
                found[f"Package{identifier(hosted.name)}{number}"] = approved.arn
    return found
