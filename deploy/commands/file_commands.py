"""Commands that ask no AWS: `check` and `template`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from deploy.checked import checked
from deploy.commands.options import the_file
from deploy.errors import UserError
from deploy.template.function import function_policy
from deploy.template.role import policy as role_policy


@click.command()
@click.option(
    "-f", "--file", "paths", type=click.Path(path_type=Path), required=True, multiple=True, help="May be given again."
)
def check(paths: tuple[Path, ...]) -> None:
    """Say what AWS would refuse, with line, remedy and AWS's page; asks no AWS."""
    names: dict[str, Path] = {}
    mistakes = []
    for path in paths:
        try:
            one = checked(path)
        except UserError as error:
            mistakes.append(str(error))
            continue
        first = names.setdefault(one.file.name, path)
        if first != path:
            mistakes.append(f"{path} and {first} both name the endpoint {one.file.name}; rename one of them")
            continue
        kinds = [resource["Type"].removeprefix("AWS::") for resource in one.template["Resources"].values()]
        click.echo(f"{path}: {one.file.name} is well: {len(kinds)} resources ({', '.join(dict.fromkeys(kinds))})")
    if mistakes:
        raise UserError("\n".join(mistakes))


@click.command()
@the_file
@click.option(
    "--policy", is_flag=True, help="Print the policy of the containers' role instead, to make the role yourself."
)
def template(path: Path, policy: bool) -> None:
    """Print the CloudFormation template, for those who deploy by a pipeline of their own."""
    one = checked(path)
    document = one.template
    if policy:
        document = function_policy(one.file) if one.file.function else role_policy(one.file)
    click.echo(json.dumps(document, indent=2))
    for model, uri in one.uploads.items():
        click.echo(f"ncf-deploy: the template expects {model} at {uri}; `apply` uploads it", err=True)
