"""A CloudFormation stack: its state, change sets, and events as they come."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from deploy.aws.session import Aws, in_words
from deploy.errors import UserError, WorldError

MAX_TEMPLATE_BYTES = 51_200
POLL_SECONDS = 5.0
OWNER = "ncf-deploy:file"
WELL = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE", "IMPORT_COMPLETE")
BEGUN = ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS")
NO_CHANGES = ("didn't contain changes", "No updates are to be performed")


class Event(NamedTuple):
    resource: str  # its logical id
    kind: str  # AWS::SageMaker::Endpoint
    physical: str
    status: str
    reason: str

    @property
    def is_failure(self) -> bool:
        return self.status.endswith("FAILED")


class ChangeSet(NamedTuple):
    name: str
    changes: list[dict[str, Any]]
    made_stack: bool  # the stack exists for this change set only


class Stack:
    """The stack of one file. `pause` sleeps between two looks."""

    def __init__(self, aws: Aws, endpoint: str, pause: Callable[[float], None] = time.sleep) -> None:
        self.name = f"ncf-{endpoint}"
        self._client = aws.cloudformation
        self._pause = pause

    def describe(self) -> dict[str, Any] | None:
        """CloudFormation's description; None if there is no such stack."""
        try:
            with in_words():
                return dict(self._client.describe_stacks(StackName=self.name)["Stacks"][0])
        except WorldError as error:
            cause = error.__cause__
            if isinstance(cause, ClientError) and "does not exist" in str(cause):
                return None
            raise

    @property
    def status(self) -> str | None:
        found = self.describe()
        return str(found["StackStatus"]) if found else None

    def outputs(self) -> dict[str, str]:
        found = self.describe() or {}
        return {one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", [])}

    def require_changeable(self, owner: str, take_over: bool) -> None:
        """Raises UserError with the remedy if the stack cannot be changed now, or belongs to another file."""
        found = self.describe()
        if found is None or found["StackStatus"] == "REVIEW_IN_PROGRESS":
            return
        status = found["StackStatus"]
        if status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"):
            raise UserError(
                f"the stack {self.name} is in {status}: its creation failed, and CloudFormation can only delete it; "
                "run `ncf-deploy destroy` and apply again"
            )
        if status == "UPDATE_ROLLBACK_FAILED":
            raise UserError(
                f"the stack {self.name} is in {status}; mend what its events name, then run "
                f"`aws cloudformation continue-update-rollback --stack-name {self.name}`"
            )
        if status.endswith("IN_PROGRESS"):
            raise UserError(f"the stack {self.name} is in {status}; wait for it with `ncf-deploy status --wait`")
        if not take_over:
            self.require_owner(owner)

    def require_owner(self, owner: str) -> None:
        """Raises UserError if another file made the stack."""
        tags = {tag["Key"]: tag["Value"] for tag in (self.describe() or {}).get("Tags", [])}
        if (made_from := tags.get(OWNER, owner)) != owner:
            raise UserError(
                f"the stack {self.name} was made from {made_from}, and this is {owner}; two files must not name one "
                "endpoint: rename it, or apply with --take-over if the file was renamed"
            )

    def change_set(
        self, template: dict[str, Any], parameters: dict[str, str], tags: dict[str, str], owner: str
    ) -> ChangeSet | None:
        """A change set with what would change; None if nothing would. Raises UserError if AWS refuses the template."""
        body = json.dumps(template, separators=(",", ":"))
        if len(body) > MAX_TEMPLATE_BYTES:
            raise UserError(f"the template has {len(body):,} bytes, CloudFormation takes 51,200; shorten environments")
        exists = self.status not in (None, "REVIEW_IN_PROGRESS")
        name = f"ncf-deploy-{uuid.uuid4().hex[:12]}"
        with in_words():
            self._client.create_change_set(
                StackName=self.name,
                ChangeSetName=name,
                ChangeSetType="UPDATE" if exists else "CREATE",
                TemplateBody=body,
                Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
                Capabilities=["CAPABILITY_IAM"],
                Tags=[{"Key": key, "Value": value} for key, value in {**tags, OWNER: owner}.items()],
            )
        found = ChangeSet(name, [], not exists)
        while (described := self._describe(name))["Status"] in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
            self._pause(POLL_SECONDS / 2)
        if described["Status"] == "FAILED":
            self.forget(found)
            reason = str(described.get("StatusReason", "it gives no reason"))
            if any(words in reason for words in NO_CHANGES):
                return None
            raise UserError(f"CloudFormation refuses the change: {reason}")
        return found._replace(changes=[change["ResourceChange"] for change in described["Changes"]])

    def _describe(self, name: str) -> dict[str, Any]:
        described: dict[str, Any] = {}
        token: dict[str, str] = {}
        with in_words():
            while True:
                page = self._client.describe_change_set(StackName=self.name, ChangeSetName=name, **token)
                described = {**page, "Changes": described.get("Changes", []) + page.get("Changes", [])}
                if not page.get("NextToken"):
                    return described
                token = {"NextToken": page["NextToken"]}

    def forget(self, made: ChangeSet) -> None:
        """Delete a change set, and the empty stack that was made for it."""
        with in_words():
            self._client.delete_change_set(StackName=self.name, ChangeSetName=made.name)
            if made.made_stack:
                self._client.delete_stack(StackName=self.name)

    def execute(self, made: ChangeSet) -> Iterator[Event]:
        """Carry it out; events as they come, until the stack has come to rest."""
        seen = {event["EventId"] for event in self._events(self.name)}
        with in_words():
            self._client.execute_change_set(StackName=self.name, ChangeSetName=made.name)
        yield from self.follow(self.name, seen)

    def delete(self) -> Iterator[Event]:
        """Delete what the stack owns; events as they come."""
        found = self.describe()
        if found is None:
            return
        stack_id = found["StackId"]  # a deleted stack is found by its id alone
        seen = {event["EventId"] for event in self._events(stack_id)}
        with in_words():
            self._client.delete_stack(StackName=self.name)
        yield from self.follow(stack_id, seen)

    def follow(self, stack: str, seen: set[str]) -> Iterator[Event]:
        while True:
            with in_words():
                status = str(self._client.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"])
            new = [event for event in self._events(stack) if event["EventId"] not in seen]
            for event in reversed(new):  # CloudFormation's order is newest first
                seen.add(event["EventId"])
                yield Event(
                    event["LogicalResourceId"],
                    event["ResourceType"],
                    event.get("PhysicalResourceId", ""),
                    event.get("ResourceStatus", ""),
                    event.get("ResourceStatusReason", ""),
                )
            if not status.endswith("IN_PROGRESS"):
                return
            self._pause(POLL_SECONDS)

    def before_last_change(self) -> set[str]:
        """The ids of the events that came before what was begun last."""
        events = self._events(self.name)
        begun = (
            number
            for number, event in enumerate(events)  # newest first
            if event["LogicalResourceId"] == self.name and event["ResourceStatus"] in BEGUN
        )
        return {event["EventId"] for event in events[next(begun, len(events)) + 1 :]}

    def _events(self, stack: str) -> list[dict[str, Any]]:
        with in_words():
            pages = self._client.get_paginator("describe_stack_events").paginate(StackName=stack)
            return [event for page in pages for event in page["StackEvents"]]

    def resources(self) -> list[dict[str, Any]]:
        """What the stack owns."""
        with in_words():
            pages = self._client.get_paginator("list_stack_resources").paginate(StackName=self.name)
            return [one for page in pages for one in page["StackResourceSummaries"]]

    def drift(self) -> list[dict[str, Any]]:
        """What somebody changed by other means."""
        with in_words():
            detection = self._client.detect_stack_drift(StackName=self.name)["StackDriftDetectionId"]
            while True:
                found = self._client.describe_stack_drift_detection_status(StackDriftDetectionId=detection)
                if found["DetectionStatus"] != "DETECTION_IN_PROGRESS":
                    break
                self._pause(POLL_SECONDS)
            drifts = self._client.describe_stack_resource_drifts(
                StackName=self.name, StackResourceDriftStatusFilters=["MODIFIED", "DELETED"]
            )
        return list(drifts["StackResourceDrifts"])
