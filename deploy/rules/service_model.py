"""Parameters compared with botocore's own service model.

botocore checks types and required members before it sends a request; enums, patterns, lengths and ranges are in the
model too, and there the service alone checks them. CloudFormation's properties of SageMaker and Lambda have the API's
names, but for those named below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import botocore.session
from botocore.model import ServiceModel, Shape

# The service, and the operation whose parameters a resource's properties are.
OPERATIONS = {
    "AWS::SageMaker::Model": ("sagemaker", "CreateModelInput"),
    "AWS::SageMaker::EndpointConfig": ("sagemaker", "CreateEndpointConfigInput"),
    "AWS::SageMaker::Endpoint": ("sagemaker", "CreateEndpointInput"),
    "AWS::Lambda::Function": ("lambda", "CreateFunctionRequest"),
}
# CloudFormation's own, or parameters of other operations.
NOT_OF_THE_API = {
    "AWS::SageMaker::Endpoint": ("RetainAllVariantProperties", "ExcludeRetainedVariantProperties"),
    "AWS::Lambda::Function": ("Tags", "KmsKeyArn", "ReservedConcurrentExecutions"),
}


class Mismatch(NamedTuple):
    where: str
    value: Any
    message: str


def mismatches(template: Mapping[str, Any]) -> Iterator[Mismatch]:
    """All values in a template's resources of SageMaker and Lambda that these services would refuse."""
    for resource in template["Resources"].values():
        kind = resource["Type"]
        if kind in OPERATIONS:
            service, operation = OPERATIONS[kind]
            others = NOT_OF_THE_API.get(kind, ())
            yield from compare(
                operation,
                {name: value for name, value in resource["Properties"].items() if name not in others},
                service,
            )


def compare(shape_name: str, parameters: Mapping[str, Any], service: str = "sagemaker") -> Iterator[Mismatch]:
    """All values in an operation's parameters that the service would refuse."""
    yield from _compare(_model(service).shape_for(shape_name), parameters, "")


@cache
def _model(service: str) -> ServiceModel:
    return botocore.session.get_session().get_service_model(service)


def _compare(shape: Shape, value: Any, where: str) -> Iterator[Mismatch]:
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)).startswith(("Ref", "Fn::")):
        return  # CloudFormation resolves it
    if shape.type_name == "structure":
        for name, inner in value.items():
            if name not in shape.members:
                yield Mismatch(f"{where}.{name}".lstrip("."), inner, f"{name} is no member of {shape.name}")
            else:
                yield from _compare(shape.members[name], inner, f"{where}.{name}".lstrip("."))
    elif shape.type_name == "list":
        yield from _size(shape, value, where, "entries")
        for place, inner in enumerate(value):
            yield from _compare(shape.member, inner, f"{where}[{place}]")
    elif shape.type_name == "map":
        yield from _size(shape, value, where, "entries")
        for name, inner in value.items():
            yield from _compare(shape.key, name, f"{where}.{name}")
            yield from _compare(shape.value, inner, f"{where}.{name}")
    elif shape.type_name == "string":
        yield from _text(shape, value, where)
    elif shape.type_name in ("integer", "long", "float", "double"):
        least, most = shape.metadata.get("min"), shape.metadata.get("max")
        if (least is not None and value < least) or (most is not None and value > most):
            yield Mismatch(where, value, f"it is {_range(least, most)}")


def _text(shape: Shape, value: str, where: str) -> Iterator[Mismatch]:
    if shape.enum and value not in shape.enum:
        yield Mismatch(where, value, f"it is one of {_few(shape.enum, value)}")
        return
    yield from _size(shape, value, where, "characters")
    pattern = shape.metadata.get("pattern")
    # Classes such as \p{L} are Java's; Python's re does not know them, and they allow nearly everything.
    if pattern and r"\p{" not in pattern and "resolve:" not in value and not re.search(rf"^(?:{pattern})$", value):
        yield Mismatch(where, value, f"it must match {pattern}")


def _size(shape: Shape, value: Any, where: str, unit: str) -> Iterator[Mismatch]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if (least is not None and len(value) < least) or (most is not None and len(value) > most):
        yield Mismatch(where, value, f"it has {len(value):,} {unit}, and {_range(least, most)} are taken")


def _range(least: int | None, most: int | None) -> str:
    if least is None or most is None:
        return f"at most {most:,}" if least is None else f"at least {least:,}"
    return f"{least:,} to {most:,}"


def _few(values: list[str], value: str) -> str:
    """All values, or of very many those that begin alike."""
    alike = [one for one in values if one.split(".")[:2] == str(value).split(".")[:2]]
    shown = (
        values if len(values) <= 12 else alike[:12] or sorted({one.rpartition(".")[0] + ".*" for one in values})[:80]
    )
    return ", ".join(shown)
