"""`local`."""

from __future__ import annotations

import asyncio
import shlex
import shutil
from pathlib import Path

import click

from deploy.commands.job_commands import checked_job
from deploy.commands.options import say
from deploy.errors import UserError
from deploy.file.jobs import TrainJob, TransformJob
from deploy.file.source import read
from deploy.local.rehearsal import rehearse, rehearse_job
from deploy.rules import jobs as rules

IMAGE_HELP = """
    What stands for an image: a program, or with --docker the name of an image. Every other image is the `serve` of this
    environment, or with --docker itself.
"""


@click.command()
@click.option(
    "-f", "--file", "paths", type=click.Path(path_type=Path), required=True, multiple=True, help="May be given again."
)
@click.option("--port", type=click.IntRange(1, 65535), default=8090, show_default=True, help="Port on 127.0.0.1.")
@click.option("--image", "images", multiple=True, metavar="IMAGE=COMMAND", help=IMAGE_HELP)
@click.option("--docker", is_flag=True, help="Run the images in Docker.")
def local(paths: tuple[Path, ...], port: int, images: tuple[str, ...], docker: bool) -> None:
    """Rehearse endpoints on this machine, for unmodified clients, until Ctrl-C; or a job, to its end.

    \b
    Examples:
      ncf-deploy local -f endpoint.yaml
      ncf-deploy local -f train-job.yaml
      ncf-deploy local -f endpoint.yaml --docker --image ncf-triton:v1=ncf-triton:cpu
      aws sagemaker-runtime invoke-endpoint --endpoint-url http://127.0.0.1:8090 --endpoint-name food \\
        --body '{"user_id": "u17"}' --cli-binary-format raw-in-base64-out /dev/stdout
    """
    commands = _commands(images, docker)
    keys = read(paths[0]).document
    if len(paths) == 1 and "channels" in keys:
        work = rehearse_job(checked_job(paths[0], TrainJob, rules.train), commands, docker, say)
    elif len(paths) == 1 and "input" in keys:
        work = rehearse_job(checked_job(paths[0], TransformJob, rules.transform), commands, docker, say)
    else:
        work = rehearse(paths, port, commands, docker, say)
    for line in asyncio.run(work):
        click.echo(line)


def _commands(images: tuple[str, ...], docker: bool) -> dict[str, list[str]]:
    found = {}
    for one in images:
        image, _, command = one.partition("=")
        if not image or not command.strip():
            raise UserError(f"--image is {one}; it is IMAGE=COMMAND, such as my-preparation:v3='python prepare.py'")
        found[image] = shlex.split(command)
        if not docker and shutil.which(found[image][0]) is None:
            raise UserError(f"--image {image}: there is no program {found[image][0]}; give its path")
    return found
