"""A change set in words. It names properties and never their values, which may be secrets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deploy.file.endpoint import EndpointFile, Update

NOUNS = {
    "AWS::SageMaker::Endpoint": "the endpoint",
    "AWS::SageMaker::EndpointConfig": "the endpoint's configuration",
    "AWS::SageMaker::Model": "a model",
    "AWS::IAM::Role": "the role of the containers",
    "AWS::SNS::Topic": "a topic",
    "AWS::CloudWatch::Alarm": "an alarm",
    "AWS::CloudWatch::Dashboard": "the dashboard",
    "AWS::ApplicationAutoScaling::ScalableTarget": "the range of scaling",
    "AWS::ApplicationAutoScaling::ScalingPolicy": "a scaling policy",
    "AWS::Lambda::Function": "the function",
    "AWS::Lambda::Url": "the function's URL",
    "AWS::Lambda::Permission": "the right to ask the URL",
}
REPLACED_AS_USUAL = ("AWS::SageMaker::EndpointConfig", "AWS::SageMaker::Model")


def in_words(changes: list[dict[str, Any]], file: EndpointFile) -> Iterator[str]:
    """A line for each change, what goes last."""
    order = {"Add": 0, "Modify": 1, "Remove": 2}
    for change in sorted(changes, key=lambda one: order.get(one["Action"], 1)):
        noun = f"{NOUNS.get(change['ResourceType'], change['ResourceType'])} ({change['LogicalResourceId']})"
        if change["Action"] == "Add":
            yield f"+ make {noun}"
        elif change["Action"] == "Remove":
            kept = change.get("PolicyAction") == "Retain"
            yield f"- leave {noun} to itself" if kept else f"- delete {noun}"
        else:
            yield f"~ {_modified(change, noun, file)}"


def _modified(change: dict[str, Any], noun: str, file: EndpointFile) -> str:
    names = {_property(detail.get("Target", {})) for detail in change.get("Details", [])} - {""}
    what = f": {', '.join(sorted(names))}" if names else ""
    if change["ResourceType"] in REPLACED_AS_USUAL and change.get("Replacement") in ("True", "Conditional"):
        return f"put another one in place of {noun}{what}"
    if change.get("Replacement") == "True":
        return f"REPLACE {noun}, which is gone meanwhile{what}"
    if change["ResourceType"] == "AWS::SageMaker::Endpoint":
        return f"update {noun} without downtime, {_strategy(file.update)}{what}"
    return f"change {noun}{what}"


def _property(target: dict[str, Any]) -> str:
    return str(target.get("Name") or target.get("Attribute") or "")


def _strategy(update: Update | None) -> str:
    if update is None or update.percent is None:
        return "all at once"
    back = ", taken back by alarms" if update.rollback else ""
    return f"{update.strategy}, {update.percent} % a step, {update.wait_seconds} s between steps{back}"
