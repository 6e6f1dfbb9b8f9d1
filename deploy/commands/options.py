"""What several commands have in common."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from deploy.aws.session import Aws
from deploy.checked import Checked, checked
from deploy.errors import UserError
from deploy.file.endpoint import EndpointFile
from deploy.file.load import load_endpoint

the_file = click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(path_type=Path),
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
