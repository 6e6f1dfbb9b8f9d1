"""`models …`: the archives of a multi-model endpoint. `packages …`: the versions in the model registry."""

from __future__ import annotations

from pathlib import Path

import click

from deploy.aws import archives, packages
from deploy.aws.uploads import upload
from deploy.commands.options import confirm, say, the_file, with_aws, yes
from deploy.errors import UserError
from deploy.file import archive
from deploy.file.endpoint import EndpointFile


@click.group()
def models() -> None:
    """Archives of a multi-model endpoint, which is not touched by this."""


def _prefix(file: EndpointFile) -> str:
    return _the_only(file, "models", "prefix of models", "models: s3://…")


def _the_only(file: EndpointFile, key: str, what: str, remedy: str) -> str:
    """The one value that a key of containers has in a file. Raises UserError if there is none, or several."""
    found = {getattr(c, key) for hosted in file.everything_hosted for c in hosted.all_containers} - {None, ""}
    if len(found) != 1:
        several = ", ".join(sorted(found)) or "none"
        raise UserError(f"{file.name} has not one {what} but {several}; write {remedy} in its container")
    return str(found.pop())


@models.command("add")
@the_file
@click.argument("archive_path", metavar="ARCHIVE", type=click.Path(path_type=Path))
@click.option("--name", help="Its name for callers (--target-model)  [default: the file's name]")
@click.option("--replace", is_flag=True, help="Take the place of an archive of this name.")
def add_model(path: Path, archive_path: Path, name: str | None, replace: bool) -> None:
    """Upload an archive; the endpoint loads it when it is asked for it."""
    file, aws = with_aws(path)
    name = name or archive_path.name
    archives.add(aws, _prefix(file), archive_path, name, replace, file.kms_key, say)
    click.echo(f'ncf-deploy invoke -f {path} --target-model {name} --data \'{{"user_id": "u17"}}\'')


@models.command("remove")
@the_file
@yes
@click.argument("name")
def remove_model(path: Path, name: str, yes: bool) -> None:
    """Delete an archive from S3; instances that have loaded it serve it until they unload it."""
    file, aws = with_aws(path)
    prefix = _prefix(file)
    confirm(f"delete {prefix}{name}?", yes)
    archives.remove(aws, prefix, name)
    say(f"deleted {prefix}{name}")


@models.command("list")
@the_file
def list_models(path: Path) -> None:
    """Print names, sizes and times."""
    file, aws = with_aws(path)
    for found in archives.listed(aws, _prefix(file)):
        click.echo(f"{found.name}  {found.size / 1e6:.1f} MB  {found.changed}")


@click.group("packages")
def package_group() -> None:
    """Versions of a model in SageMaker's registry; `package_group` in a file deploys the newest approved one."""


def _group(file: EndpointFile) -> str:
    return _the_only(file, "package_group", "package_group", "package_group")


@package_group.command("add")
@the_file
@click.argument("archive_path", metavar="ARCHIVE", type=click.Path(path_type=Path))
@click.option("--image", required=True, help="The image that serves it, in ECR.")
@click.option("--description", default="", help="What is new in it.")
def add_package(path: Path, archive_path: Path, image: str, description: str) -> None:
    """Upload an archive and register it as a new version, which waits for approval."""
    file, aws = with_aws(path)
    if not file.uploads:
        raise UserError(f"{path.name} has no uploads; write uploads: s3://BUCKET/PREFIX for the archive")
    archive.check(archive_path)
    (uri,) = archive.uploads_of([archive_path.name], archive_path.parent, file.uploads).values()
    upload(aws, archive_path, uri, file.kms_key, say)
    arn = packages.add(aws, _group(file), image, uri, description or archive_path.name, file.tags)
    click.echo(f"{arn}\nncf-deploy packages approve -f {path} {arn.rpartition('/')[2]}")


@package_group.command("approve")
@the_file
@click.argument("version", type=int)
@click.option("--reject", is_flag=True, help="Reject it instead.")
def approve_package(path: Path, version: int, reject: bool) -> None:
    """Approve a version; the next `apply` deploys the newest approved one."""
    file, aws = with_aws(path)
    package = packages.approve(aws, _group(file), version, not reject)
    click.echo(f"version {package.version} is {package.approval}")


@package_group.command("list")
@the_file
def list_packages(path: Path) -> None:
    """Print versions with their approval, newest first."""
    file, aws = with_aws(path)
    for package in packages.listed(aws, _group(file)):
        click.echo(f"{package.version}  {package.approval}  {package.description}")
