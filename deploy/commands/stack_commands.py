"""Commands that change or show what a file has made: `plan`, `apply`, `status` and `destroy`."""

from __future__ import annotations

from pathlib import Path

import click

from deploy.aws import endpoint, images, packages
from deploy.aws.logs import endpoint_group, last_lines
from deploy.aws.session import Aws
from deploy.aws.stack import WELL, ChangeSet, Event, Stack
from deploy.aws.uploads import require_models, size_of, upload
from deploy.aws.words import in_words
from deploy.checked import Checked
from deploy.commands.options import checked_with_aws, confirm, say, the_file, with_aws, yes
from deploy.errors import UserError, WorldError
from deploy.file.prices import cost, prices

take_over = click.option("--take-over", is_flag=True, help="Change the stack although a file of another name made it.")
FAILED_CONTAINER = ("AWS::SageMaker::Endpoint", "AWS::Lambda::Function")


@click.command()
@the_file
@click.option(
    "--prices", "price_file", type=click.Path(path_type=Path), help="YAML, such as ml.c6i.xlarge: 0.24 (an hour)."
)
@take_over
def plan(path: Path, price_file: Path | None, take_over: bool) -> None:
    """Say in words what `apply` would change; changes nothing."""
    one, aws = checked_with_aws(path)
    stack = Stack(aws, one.file.name)
    for model, uri in one.uploads.items():
        if size_of(aws, uri) is None:
            click.echo(f"+ upload {model} to {uri}")
    made = _change_set(one, aws, stack, take_over)
    if made is None:
        click.echo(f"nothing would change: {stack.name} is what {path.name} says")
    else:
        for line in in_words(made.changes, one.file):
            click.echo(line)
        stack.forget(made)
    if price_file:
        for line in cost(one.file, prices(price_file)):
            click.echo(line)


@click.command()
@the_file
@yes
@take_over
def apply(path: Path, yes: bool, take_over: bool) -> None:
    """Upload what is needed and make AWS's state what the file says; applied twice, it changes nothing."""
    one, aws = checked_with_aws(path)
    stack = Stack(aws, one.file.name)
    stack.require_changeable(path.name, take_over)
    images.check(aws, one.file)
    for model, uri in one.uploads.items():
        upload(aws, one.loaded.folder / model, uri, one.file.kms_key, say)
    made = _change_set(one, aws, stack, take_over)
    if made is None:
        say(f"nothing to change: {stack.name} is what {path.name} says")
    else:
        for line in in_words(made.changes, one.file):
            say(line)
        try:
            confirm(f"change {stack.name} in account {aws.account}, {aws.region}?", yes)
        except (UserError, click.Abort):
            stack.forget(made)
            raise
        _carry_out(one, aws, stack, made, path)
    for line in _to_paste(one, stack, path):
        click.echo(line)


def _change_set(one: Checked, aws: Aws, stack: Stack, take_over: bool) -> ChangeSet | None:
    owner = one.loaded.source.path.name
    stack.require_changeable(owner, take_over)
    if stack.status in (None, "REVIEW_IN_PROGRESS") and not one.file.function and endpoint.describe(aws, one.file.name):
        raise UserError(
            f"there is an endpoint {one.file.name} in {aws.region} that no stack {stack.name} made; rename yours, or "
            "delete that one"
        )
    if not one.file.function:
        endpoint.require_changeable(aws, one.file)
        require_models(aws, one.file)
    return stack.change_set(one.template, packages.parameters(aws, one.file), one.file.tags, owner)


def _carry_out(one: Checked, aws: Aws, stack: Stack, made: ChangeSet, path: Path) -> None:
    failures: list[Event] = []
    try:
        for event in stack.execute(made):
            _show(event)
            if event.is_failure and "cancelled" not in event.reason.lower():
                failures.append(event)
    except KeyboardInterrupt:
        cancel = f"aws cloudformation cancel-update-stack --region {aws.region} --stack-name {stack.name}"
        say(
            f"\nCloudFormation goes on with {stack.name} without this command.\n"
            f"  see how it stands:  ncf-deploy status -f {path} --wait\n"
            f"  stop an update:     {cancel}"
        )
        raise SystemExit(130) from None
    if stack.status not in WELL:
        raise WorldError(_why(one, aws, stack, failures))


def _show(event: Event) -> None:
    reason = f": {event.reason}" if event.reason and event.reason != "Resource creation Initiated" else ""
    say(f"  {event.status:<20} {event.kind.removeprefix('AWS::')} {event.resource}{reason}")


def _why(one: Checked, aws: Aws, stack: Stack, failures: list[Event]) -> str:
    """AWS's first reason, and what the container logged last."""
    first = next((event for event in failures if event.kind != "AWS::CloudFormation::Stack"), None)
    reason = f"{first.resource}: {first.reason}" if first else "CloudFormation names no reason"
    text = f"{stack.name} ended in {stack.status}; {reason}"
    if first is None or first.kind in FAILED_CONTAINER:
        group = f"/aws/lambda/{one.file.name}" if one.file.function else endpoint_group(one.file.name)
        if lines := last_lines(aws, group):
            text += f"\nthe container's last lines ({group}, {lines[0].stream}):"
            text += "".join(f"\n    {line.text}" for line in lines)
        else:
            text += f"\nthe container logged nothing to {group}: it did not start"
    if stack.status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED"):
        text += "\nnothing of it runs; mend it, run `ncf-deploy destroy`, and apply again"
    elif str(stack.status).startswith("UPDATE_ROLLBACK"):
        text += "\nthe endpoint is as it was before; mend it and apply again"
    return text


def _to_paste(one: Checked, stack: Stack, path: Path) -> list[str]:
    if one.file.function:
        url = stack.outputs().get("Url")
        return [f'curl {url}invocations -d \'{{"user_id": "u17"}}\'' if url else f"function {one.file.name} is ready"]
    more = " --target-model food.tar.gz" if any(v.is_multi_model for v in one.file.all_variants) else ""
    if any(variant.invocation == "direct" for variant in one.file.all_variants):
        more = f" --container {one.file.all_variants[0].containers[0].name}"
    return [
        f'ncf-deploy invoke -f {path}{more} --data \'{{"user_id": "u17", "k": 5}}\'',
        f'python -c \'from deploy.client import NcfClient; print(NcfClient("{one.file.name}").recommend("u17", k=5))\'',
    ]


@click.command()
@the_file
@click.option("--wait", is_flag=True, help="Show events until the stack has come to rest.")
@click.option("--drift", is_flag=True, help="Look for what was changed by other means; takes a minute.")
def status(path: Path, wait: bool, drift: bool) -> None:
    """Show how stack and endpoint stand."""
    file, aws = with_aws(path)
    stack = Stack(aws, file.name)
    found = stack.describe()
    if found is None:
        raise UserError(f"there is no stack {stack.name} in {aws.region}; make it with `ncf-deploy apply`")
    if wait:
        for event in stack.follow(found["StackId"], stack.before_last_change()):
            _show(event)
        found = stack.describe() or found
    click.echo(f"stack {stack.name}: {found['StackStatus']}")
    if reason := found.get("StackStatusReason"):
        click.echo(f"  reason: {reason}")
    for key, value in stack.outputs().items():
        click.echo(f"  {key}: {value}")
    if not file.function and (described := endpoint.describe(aws, file.name)):
        for line in endpoint.in_lines(described):
            click.echo(line)
    if drift:
        changed = stack.drift()
        for resource in changed:
            paths = ", ".join(one["PropertyPath"] for one in resource.get("PropertyDifferences", []))
            click.echo(f"  {resource['LogicalResourceId']} is {resource['StackResourceDriftStatus']}: {paths}")
        click.echo(
            "nothing was changed by other means" if not changed else "the next apply does not undo that by itself"
        )
    if found["StackStatus"] not in WELL and not found["StackStatus"].endswith("IN_PROGRESS"):
        raise WorldError(f"{stack.name} is in {found['StackStatus']}")


@click.command()
@the_file
@yes
def destroy(path: Path, yes: bool) -> None:
    """Delete what the stack owns, and nothing else; names it first."""
    file, aws = with_aws(path)
    stack = Stack(aws, file.name)
    if stack.describe() is None:
        say(f"there is no stack {stack.name} in {aws.region}; nothing to delete")
        return
    stack.require_owner(path.name)
    for resource in stack.resources():
        say(f"- delete {resource['ResourceType'].removeprefix('AWS::')} {resource.get('PhysicalResourceId', '')}")
    stays = [f"uploads under {file.uploads}"] if file.uploads else []
    stays += ["captured data"] if file.capture else []
    stays += ["requests and answers in S3"] if file.asynchronous else []
    say(f"what stays: {', '.join([*stays, 'the logs'])}")
    confirm(f"delete all of this in account {aws.account}, {aws.region}?", yes)
    try:
        for event in stack.delete():
            _show(event)
    except KeyboardInterrupt:
        say(f"\nCloudFormation goes on deleting {stack.name}; see it with: ncf-deploy status -f {path} --wait")
        raise SystemExit(130) from None
    if (left := stack.status) is not None:
        raise WorldError(f"{stack.name} could not be deleted and is in {left}; its events have the reason")
    say(f"{stack.name} is gone")
