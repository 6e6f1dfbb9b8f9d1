"""What several commands have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from deploy.aws.session import Aws
from deploy.checked import Checked, checked
from deploy.client import AskError
from deploy.errors import DeployError, UserError, WorldError
from deploy.file.endpoint import EndpointFile
from deploy.file.load import load_endpoint

Command = TypeVar("Command", bound=Callable[..., Any])
a_path = click.Path(path_type=Path)
the_file = click.option(
    "-f",
    "--file",
    "path",
    type=a_path,
    required=True,
    help="The endpoint's file; examples/deploy has one for each pattern.",
)
yes = click.option("-y", "--yes", is_flag=True, help="Do not ask before anything is changed.")


def say(text: str) -> None:
    """What goes on, on the error stream, so that the output of a command can be piped."""
    click.echo(text, err=True)


def confirm(question: str, is_confirmed: bool) -> None:
    """Ask a person; without one, `--yes` is needed. Raises UserError."""
    if is_confirmed:
        return
    if not sys.stdin.isatty():
        raise UserError("nobody is here to answer; add --yes")
    if not click.confirm(question, err=True):
        raise UserError("nothing was changed")


def checked_with_aws(path: Path) -> tuple[Checked, Aws]:
    """A checked file, and its account and region."""
    one = checked(path)
    return one, Aws(one.file.region)


def with_aws(path: Path) -> tuple[EndpointFile, Aws]:
    """A file, and its account and region, for commands to which its archives and AWS's limits are no matter."""
    file = load_endpoint(path).content
    return file, Aws(file.region)


def endpoint_only(file: EndpointFile) -> None:
    if file.function:
        raise UserError(f"{file.name} is a Lambda function, and this command is for endpoints; ask its URL instead")


def targets(command: Command) -> Command:
    """Adds the options that choose a part of an endpoint."""
    for option in (
        click.option("--variant", default="", help="The variant; by default the weights choose."),
        click.option("--container", default="", help="The container, on an endpoint with invocation direct."),
        click.option("--target-model", default="", help="The archive, on a multi-model endpoint."),
    ):
        command = option(command)
    return command


def body_of(data: str) -> bytes:
    """The body that `--data` names. Raises UserError."""
    if not data.startswith("@"):
        return data.encode()
    try:
        return sys.stdin.buffer.read() if data == "@-" else Path(data[1:]).read_bytes()
    except OSError as error:
        raise UserError(f"{data[1:]} cannot be read: {error.strerror}; --data @FILE takes a file") from error


def failure(error: AskError, before: str = "") -> DeployError:
    """A refusal of a request, as the user's mistake or the world's failure."""
    log = f"\n    log: {error.log}" if error.log else ""
    kind = UserError if 400 <= error.status < 500 and not error.is_passing else WorldError
    return kind(f"{before}{error}{log}")
