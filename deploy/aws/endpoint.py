"""An endpoint as SageMaker describes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Fleet:
    """Who answers the requests to a variant. `instances` is 0 if it is serverless.

    `besides` says what else SageMaker does with each request.
    """

    variant: str
    instances: int
    besides: tuple[str, ...] = ()


def fleet(aws: Aws, name: str, variant: str = "") -> Fleet:
    """The instances of a variant, or of the only one. Raises UserError if it answers no requests at the moment."""
    found = describe(aws, name)
    if found is None:
        raise UserError(f"there is no endpoint {name} in {aws.region}; make it with `ncf-deploy apply`")
    if (status := found["EndpointStatus"]) != "InService":
        raise UserError(f"the endpoint {name} is {status}; wait until it is InService (`ncf-deploy status`)")
    if found.get("AsyncInferenceConfig"):
        raise UserError(
            f"the endpoint {name} is asynchronous: nobody waits for its answers, and it scales by its backlog"
        )
    variants = {one["VariantName"]: one for one in found.get("ProductionVariants", [])}
    chosen = variants.get(variant or next(iter(variants), ""))
    if chosen is None or (not variant and len(variants) > 1):
        raise UserError(f"{name} has the variants {', '.join(variants)}; choose one of them with --variant")
    count = chosen.get("CurrentInstanceCount", 0)
    if not count and not chosen.get("CurrentServerlessConfig"):
        raise UserError(f"variant {chosen['VariantName']} of {name} has no instance; wait until one is there")
    capture = found.get("DataCaptureConfig", {})
    besides = ["they are captured in S3"] if capture.get("EnableCapture") else []
    besides += ["the shadow gets copies"] if found.get("ShadowProductionVariants") else []
    return Fleet(chosen["VariantName"], 0 if chosen.get("CurrentServerlessConfig") else count, tuple(besides))
