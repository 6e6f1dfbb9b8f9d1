"""An endpoint as SageMaker describes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from deploy.aws.session import Aws, code_of, in_words
from deploy.errors import UserError
from deploy.file.endpoint import EndpointFile


def describe(aws: Aws, name: str) -> dict[str, Any] | None:
    """SageMaker's description; None if there is no such endpoint."""
    try:
        with in_words():
            return dict(aws.sagemaker.describe_endpoint(EndpointName=name))
    except Exception as error:
        cause = error.__cause__
        if isinstance(cause, ClientError) and code_of(cause) == "ValidationException":
            return None
        raise


def in_lines(found: dict[str, Any]) -> Iterator[str]:
    """Status, reason of a failure, and each variant with its weight and instances."""
    yield f"endpoint {found['EndpointName']}: {found['EndpointStatus']}"
    if reason := found.get("FailureReason"):
        yield f"  reason: {reason}"
    for kind, key in (("variant", "ProductionVariants"), ("shadow", "ShadowProductionVariants")):
        for variant in found.get(key) or []:
            yield f"  {kind} {variant['VariantName']}: {_capacity(variant)}"


def _capacity(variant: dict[str, Any]) -> str:
    weight = f"weight {variant.get('CurrentWeight', 1):g}"
    if serverless := variant.get("CurrentServerlessConfig"):
        return (
            f"{weight}, serverless, {serverless['MemorySizeInMB']} MB, at most {serverless['MaxConcurrency']} at once"
        )
    now, wanted = variant.get("CurrentInstanceCount", 0), variant.get("DesiredInstanceCount", 0)
    return f"{weight}, {now} instances" + (f" of {wanted} wanted" if now != wanted else "")


BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")


def require_changeable(aws: Aws, file: EndpointFile) -> None:
    """Raises UserError with the remedy if SageMaker would refuse to change the endpoint now."""
    found = describe(aws, file.name)
    if found is None:
        return
    status = found["EndpointStatus"]
    if status in BUSY:
        raise UserError(f"the endpoint {file.name} is {status}; wait for it with `ncf-deploy status --wait`")
    if status in ("Failed", "UpdateRollbackFailed"):
        reason = found.get("FailureReason", "SageMaker gives no reason")
        raise UserError(
            f"the endpoint {file.name} is in {status}: {reason} It can only be deleted; "
            "run `ncf-deploy destroy` and apply again"
        )
    with in_words():
        config = aws.sagemaker.describe_endpoint_config(EndpointConfigName=found["EndpointConfigName"])
    now = {one["VariantName"]: one.get("InstanceType") for one in config["ProductionVariants"]}
    for variant in file.all_variants:
        has = now.get(variant.name)
        if variant.scaling and variant.instances and has and has != variant.instances.type:
            raise UserError(
                f"variant {variant.name} scales, and its instance type changes from {has} to {variant.instances.type}; "
                "SageMaker refuses that while it scales: apply without scaling, change the type, then add scaling again"
            )
