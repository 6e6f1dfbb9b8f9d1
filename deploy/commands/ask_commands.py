"""`invoke` and `logs`."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import click

from deploy.aws.logs import endpoint_group, lines
from deploy.client import AskError, NcfClient
from deploy.client.transports import MAX_SERVERLESS_BYTES
from deploy.commands.options import body_of, endpoint_only, failure, targets, the_file, with_aws
from deploy.errors import UserError

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@click.command()
@the_file
@click.option("--data", required=True, help="The body; @FILE reads it from a file, @- from standard input.")
@click.option("--content-type", default="application/json", show_default=True)
@click.option("--accept", default="", help="The format of the answer.")
@targets
@click.option("--url", help="Ask `serve` at this URL instead of the endpoint.")
def invoke(
    path: Path,
    data: str,
    content_type: str,
    accept: str,
    target_model: str,
    container: str,
    variant: str,
    url: str | None,
) -> None:
    """Ask the endpoint and print its answer; an asynchronous one is waited for."""
    file, aws = with_aws(path) if url is None else (None, None)
    if file:
        endpoint_only(file)
    queued = file.asynchronous if file else None
    client = NcfClient(
        url or (file.name if file else ""),
        region=aws.region if aws else None,
        target_model=target_model,
        target_container=container,
        target_variant=variant,
        requests_prefix=queued.input if queued else None,
    )
    body = body_of(data)
    if file and any(variant.serverless for variant in file.all_variants) and len(body) > MAX_SERVERLESS_BYTES:
        raise UserError(f"the body has {len(body):,} bytes, and a serverless endpoint takes 4 MB; send it in parts")
    try:
        if queued:
            pending = client.invoke_async(body, content_type, accept=accept)
            click.echo(f"queued; the answer comes to {pending.output}", err=True)
            answer = pending.wait()
        else:
            answer = client.invoke(body, content_type, accept=accept)
    except AskError as error:
        raise failure(error) from error
    if answer.variant:
        click.echo(f"answered by variant {answer.variant}", err=True)
    sys.stdout.buffer.write(answer.body)
    if sys.stdout.isatty():
        click.echo()


@click.command()
@the_file
@click.option("--since", default="10m", show_default=True, help="How far back: 90s, 10m, 2h, 1d.")
@click.option("--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.option("--variant", default="", help="Of this variant only.")
def logs(path: Path, since: str, follow: bool, variant: str) -> None:
    """Print what the containers log."""
    match = re.fullmatch(r"(\d+)([smhd])", since)
    if not match:
        raise UserError(f"--since is {since}; it is a number with s, m, h or d, such as 10m")
    file, aws = with_aws(path)
    group = f"/aws/lambda/{file.name}" if file.function else endpoint_group(file.name)
    start = int((time.time() - int(match[1]) * UNITS[match[2]]) * 1000)
    try:
        for line in lines(aws, group, start, variant, follow):
            click.echo(f"{line.stream}  {line.text}")
    except KeyboardInterrupt:
        raise SystemExit(130) from None
