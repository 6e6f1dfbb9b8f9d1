"""`local`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from deploy.commands.options import say
from deploy.local.objects import S3, Folder, Objects
from deploy.local.place import images
from deploy.local.rehearsal import rehearse


@click.command()
@click.option(
    "-f", "--file", "paths", type=click.Path(path_type=Path), required=True, multiple=True, help="May be given again."
)
@click.option("--port", type=click.IntRange(1, 65535), default=8090, show_default=True, help="Port on 127.0.0.1.")
@click.option(
    "--s3", "folder", type=click.Path(path_type=Path),
    help="A folder in place of S3, with a folder for each bucket; without it S3 is asked, or AWS_ENDPOINT_URL.",
)  # fmt: skip
@click.option(
    "--image", "images_given", multiple=True, metavar="IMAGE=COMMAND",
    help="A program that stands for an image; every other image is the `serve` of this environment.",
)  # fmt: skip
def local(paths: tuple[Path, ...], port: int, folder: Path | None, images_given: tuple[str, ...]) -> None:
    """Rehearse endpoints on this machine, for unmodified clients; Ctrl-C ends it with a summary.

    \b
    Examples:
      ncf-deploy local -f endpoint.yaml
      aws sagemaker-runtime invoke-endpoint --endpoint-url http://127.0.0.1:8090 --endpoint-name food \\
        --body '{"user_id": "u17"}' --cli-binary-format raw-in-base64-out /dev/stdout
    """

    def objects(region: str | None) -> Objects:
        return Folder(folder) if folder else S3(region)

    for line in asyncio.run(rehearse(list(paths), port, objects, images(images_given), say)):
        click.echo(line)
