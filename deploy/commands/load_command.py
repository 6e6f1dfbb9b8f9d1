"""`load-test`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from deploy.aws.endpoint import Fleet, fleet
from deploy.aws.session import Aws
from deploy.client import AskError
from deploy.commands.options import a_path, body_of, endpoint_only, failure, say, targets, with_aws
from deploy.errors import UserError, WorldError
from deploy.load_test.advice import in_yaml
from deploy.load_test.bodies import from_lines, from_users
from deploy.load_test.figures import Limits
from deploy.load_test.generator import Aim, Generator, rates, timeout
from deploy.load_test.result import Result

positive = click.FloatRange(min=0, min_open=True)
LINES_HELP = "JSON Lines: a body a line, in turn. A line that is a JSON string is sent as its text."
GROWTH_HELP = "The rate of a step divided by that of the step before."
P99_HELP = "The test ends with the first step whose 99th percentile is longer."
ERRORS_HELP = "The test ends with the first step of which more requests fail."
SAFETY_HELP = "The share of what an instance sustained that becomes its target."


@click.command("load-test")
@click.option("-f", "--file", "path", type=a_path, help="Ask the endpoint of this file.")
@click.option("--endpoint", "name", help="Ask the endpoint of this name, in the region of AWS_REGION.")
@click.option("--url", help="Ask `serve` at this URL, which counts as one instance.")
@click.option("--data", help="The body of every request; @FILE reads it from a file.")
@click.option("--bodies", "lines", type=a_path, help=LINES_HELP)
@click.option("--users", type=a_path, help='A user id a line: {"user_id": …} is sent for each, in turn.')
@click.option("--content-type", default="application/json", show_default=True)
@targets
@click.option("--rate", type=positive, default=10, show_default=True, help="Requests/s of the first step.")
@click.option("--growth", type=click.FloatRange(1, min_open=True), default=1.25, show_default=True, help=GROWTH_HELP)
@click.option("--max-rate", type=positive, help="Requests/s of the last step; without it a limit ends the test.")
@click.option("--seconds", type=positive, default=10, show_default=True, help="Length of a step.")
@click.option("--p99-ms", type=positive, default=200, show_default=True, help=P99_HELP)
@click.option("--errors-percent", type=click.FloatRange(0, 100), default=1, show_default=True, help=ERRORS_HELP)
@click.option("--safety-factor", type=click.FloatRange(0, 1, True), default=0.5, show_default=True, help=SAFETY_HELP)
@click.option("--requests-per-second", "wanted", type=positive, help="The most that you expect: counts the instances.")
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON instead of the block.")
@click.option("--plot", type=a_path, help="Draw the latency by the rate into this .png.")
def load_test(
    path: Path | None,
    name: str | None,
    url: str | None,
    data: str | None,
    lines: Path | None,
    users: Path | None,
    content_type: str,
    target_model: str,
    container: str,
    variant: str,
    rate: float,
    growth: float,
    max_rate: float | None,
    seconds: float,
    p99_ms: float,
    errors_percent: float,
    safety_factor: float,
    wanted: float | None,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Find what one instance sustains, and print the scaling that follows.

    Requests are sent at random times of a rate that rises step by step, whether answers come or not (an open loop), and
    latencies count from the time at which a request was due. The first step over a limit is the last. Nothing is tried
    again. Ctrl-C ends it with what was measured so far.

    \b
    Examples:
      ncf-deploy load-test -f endpoint.yaml --users users.txt
      ncf-deploy load-test --endpoint food --bodies requests.jsonl --p99-ms 80 --requests-per-second 1000
      ncf-deploy load-test --url http://127.0.0.1:8080 --data '{"user_id": "u17"}' --seconds 3 --plot load.png
    """
    _require_one({"-f": path, "--endpoint": name, "--url": url})
    _require_one({"--data": data, "--bodies": lines, "--users": users})
    if plot and (plot.suffix.lower() != ".png" or not plot.parent.is_dir()):
        raise UserError(f"--plot is {plot}; give a name that ends in .png, in a folder that exists")
    bodies = from_lines(lines) if lines else from_users(users) if users else [body_of(data or "")]
    aws, target = _aimed(path, name, url)
    served = fleet(aws, target, variant) if aws else None
    limits = Limits(p99_ms, errors_percent)
    result = Result(target, served.instances if served else 1, limits, safety_factor, wanted)
    aim = Aim(target, aws.region if aws else None, content_type, target_model, container, variant)
    say(_hit(target, aws, served))
    try:
        aim.ask(timeout(limits))(bodies[0])
    except AskError as error:
        raise failure(error, "the first request failed, and no other was sent: ") from error
    ended: BaseException | None = None
    try:
        with Generator(aim, bodies, limits) as generator:
            for each in rates(rate, growth, max_rate):
                step = generator.step(each, seconds)
                result.steps.append(step)
                say(f"{step}   sent {step.late_ms:,.0f} ms late" if step.is_late(limits) else str(step))
                if step.over(limits):
                    break
    except (KeyboardInterrupt, WorldError) as error:
        result.is_interrupted, ended = True, error
    _show(result, as_json, plot)
    if isinstance(ended, WorldError):
        raise ended
    if ended:
        raise SystemExit(130)
    if result.sustained is None:
        raise WorldError("the first step was over a limit; begin lower (--rate), or allow more (--p99-ms)")
    if aws and served and (now := fleet(aws, target, variant).instances) != served.instances:
        say(
            f"the instances changed from {served.instances} to {now} during the test, so the figure of one is wrong; "
            "test again while nothing scales"
        )


def _require_one(given: dict[str, object]) -> None:
    found = [option for option, value in given.items() if value is not None]
    if len(found) != 1:
        raise UserError(f"{' and '.join(found) or 'none'} of {', '.join(given)} given; give one of them")


def _aimed(path: Path | None, name: str | None, url: str | None) -> tuple[Aws | None, str]:
    if url is not None:
        if not url.startswith(("http://", "https://")):
            raise UserError(f"--url is {url}; it begins with http:// or https://, and an endpoint's name is --endpoint")
        return None, url
    if path is None:
        return Aws(None), str(name)
    file, aws = with_aws(path)
    endpoint_only(file)
    return aws, file.name


def _hit(target: str, aws: Aws | None, served: Fleet | None) -> str:
    """What the requests reach and cost."""
    if aws is None or served is None:
        return f"asks {target}, which counts as one instance"
    on = "serverless capacity, where each request is paid"
    if served.instances:
        on = f"{served.instances} instances, which are paid by the hour and not by the request"
    besides = "".join(f"; {one}" for one in served.besides)
    return f"sends real requests to endpoint {target} in {aws.region}, variant {served.variant}: {on}{besides}"


def _show(result: Result, as_json: bool, plot: Path | None) -> None:
    for line in result.conclusion():
        say(line)
    if as_json:
        click.echo(json.dumps(result.document(), indent=2))
    elif found := result.advice:
        for line in in_yaml(found, result.safety_factor, result.wanted_per_s):
            click.echo(line)
    if plot and result.steps:
        from deploy.load_test.plot import write_plot  # matplotlib takes half a second to load

        write_plot(plot, result.steps, result.limits, result.target)
