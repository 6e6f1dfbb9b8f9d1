"""The `ncf-deploy` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; a mistake of the user ends it with exit code 2, a failure outside with 1."""
    try:
        import boto3  # noqa: F401  # the extra's other packages come with it
        import click

        from deploy.commands.cli import cli
    except ModuleNotFoundError as error:
        sys.exit(f"ncf-deploy: {error.name} is not installed here: pip install ncf-triton[deploy]")
    from deploy.errors import DeployError

    try:
        cli()
    except DeployError as error:
        click.echo(f"ncf-deploy: {error}", err=True)
        sys.exit(error.exit_code)
