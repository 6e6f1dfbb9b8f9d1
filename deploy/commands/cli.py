"""The group of all commands."""

from __future__ import annotations

import click

from deploy.commands.ask_commands import invoke, logs
from deploy.commands.file_commands import check, template
from deploy.commands.job_commands import train_job, transform
from deploy.commands.load_command import load_test
from deploy.commands.local_command import local
from deploy.commands.models_commands import models, package_group
from deploy.commands.stack_commands import apply, destroy, plan, status

GROUPS = (models, package_group, train_job, transform)


@click.group(
    commands=[check, template, plan, apply, status, destroy, invoke, load_test, logs, local, *GROUPS],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="ncf-triton")
def cli() -> None:
    """Host models on SageMaker or Lambda from one declared file, by CloudFormation.

    \b
    Examples:
      ncf-deploy check -f endpoint.yaml
      ncf-deploy local -f endpoint.yaml
      ncf-deploy plan -f endpoint.yaml
      ncf-deploy apply -f endpoint.yaml
      ncf-deploy invoke -f endpoint.yaml --data '{"user_id": "u17"}'
      ncf-deploy load-test -f endpoint.yaml --users users.txt
      ncf-deploy destroy -f endpoint.yaml
    """
