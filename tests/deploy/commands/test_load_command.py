"""load-test as a program: against a real `serve`, and against endpoints of a real `ncf-deploy local`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.aws.session import Aws
from deploy.commands.cli import cli
from deploy.errors import UserError
from deploy.file.load import load_endpoint
from tests.deploy.local.support import COMMAND, FILE, NOBODY, REGION, Local
from tests.deploy.support import IMAGE, SINGLE, written
from tests.support.eventually import eventually
from tests.support.serving import Server, free_port

# No step of it is over a limit, however slow this machine is.
SHORT = ["--seconds", "0.5", "--rate", "10", "--growth", "2", "--max-rate", "20", "--p99-ms", "60000"]
USER = '{"user_id": "user 1", "k": 1}'


def program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "load-test", *arguments], env={**os.environ, **NOBODY, **environment}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def url(one_model: Path) -> Iterator[str]:
    with Server(one_model) as running:
        running.wait_until_ready()
        yield f"http://127.0.0.1:{running.port}"


@pytest.mark.e2e
def test_a_url_is_asked_by_steps_and_the_block_is_printed(url: str, tmp_path: Path) -> None:
    users = tmp_path / "users.txt"
    users.write_text("user 1\nuser 2\n")
    plot = tmp_path / "load.png"
    ended = program("--url", url, "--users", str(users), *SHORT, "--plot", str(plot), "--requests-per-second", "1000")
    assert ended.returncode == 0, ended.stderr
    first, *steps, end = ended.stderr.splitlines()
    assert first == f"asks {url}, which counts as one instance"
    assert ["/s asked" in step and "no errors" in step for step in steps] == [True, True]
    assert end.startswith("--max-rate ended it before a limit was reached")
    path = written(tmp_path, SINGLE + ended.stdout)
    scaling = load_endpoint(path).content.scaling
    assert scaling is not None
    assert scaling.target is not None
    assert scaling.min == 1
    assert f"# 1,000 requests/s need {scaling.max} instances" in ended.stdout
    assert scaling.max * scaling.target.value >= 60_000
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.e2e
def test_json_has_the_steps(url: str) -> None:
    ended = program("--url", url, "--data", USER, *SHORT, "--json")
    found = json.loads(ended.stdout)
    assert [(step["asked_per_s"], step["requests"], step["errors"]) for step in found["steps"]] == [
        (10, 5, {}), (20, 10, {})
    ]  # fmt: skip
    assert found["scaling"]["target"]["value"] > 0


@pytest.mark.e2e
def test_a_body_that_is_refused_ends_it_at_once(url: str) -> None:
    ended = program("--url", url, "--data", '{"user_id": "user 1", "k": 0}', *SHORT)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == (
        "ncf-deploy: the first request failed, and no other was sent: k is 0; it must be a whole number of at least 1 "
        "(400 bad_request)"
    )


@pytest.mark.e2e
def test_ctrl_c_ends_it_with_what_was_measured(url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [COMMAND, "load-test", "--url", url, "--data", USER, "--growth", "1.01", "--seconds", "0.5"]
    with log.open("w") as errors:
        running = subprocess.Popen([*command, "--p99-ms", "60000"], stdout=subprocess.PIPE, stderr=errors, text=True)
    eventually(lambda: log.read_text().count("/s asked") > 1, 120, log.read_text)
    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted before a limit was reached" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert "target: {metric: invocations_per_instance, value: " in output


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """An endpoint of the stand-in, which answers as a body demands."""
    with Local(written(tmp_path_factory.mktemp("load"), FILE)) as running:
        yield running.ready()


def test_errors_of_an_endpoint_are_counted_and_not_tried_again(local: Local, tmp_path: Path) -> None:
    bodies = tmp_path / "bodies.jsonl"
    bodies.write_text('{"make": {}}\n{"make": {"status": 503}}\n')
    here = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{local.port}", "AWS_REGION": REGION}
    ended = program("--endpoint", "shop", "--bodies", str(bodies), *SHORT, "--seconds", "1", **here)
    assert ended.returncode == 1
    first, step, end, reason, last = ended.stderr.splitlines()
    assert first == (
        "sends real requests to endpoint shop in eu-central-1, variant AllTraffic: 1 instances, which are paid by the "
        "hour and not by the request"
    )
    assert "5 × 503" in step
    assert end == "the step of 10/s ended it: 50 % of the requests failed, and --errors-percent is 1"
    assert reason.startswith("  503: ")
    assert last.startswith("ncf-deploy: the first step was over a limit; begin lower")
    assert ended.stdout == ""


def test_the_endpoint_of_a_file_is_asked_until_its_answers_come_too_late(local: Local, tmp_path: Path) -> None:
    bodies = tmp_path / "bodies.jsonl"
    bodies.write_text("{}\n" * 10 + '{"make": {"seconds": 0.6}}\n' * 100)
    here = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{local.port}"}
    slow = ["--rate", "10", "--seconds", "1", "--growth", "1.1", "--p99-ms", "500"]
    ended = program("-f", str(written(tmp_path, FILE)), "--bodies", str(bodies), *slow, "--json", **here)
    found = json.loads(ended.stdout)
    assert found["steps"][-1]["p99_ms"] > 500
    assert found["steps"][-1]["over"]
    assert found["target"] == "shop"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--data", "{}"], "none of -f, --endpoint, --url given; give one of them"),
        (["--url", "http://x", "--endpoint", "food", "--data", "{}"], "--endpoint and --url of -f, --endpoint, --url"),
        (["--url", "http://x"], "none of --data, --bodies, --users given"),
        (["--url", "127.0.0.1:8080", "--data", "{}"], "--url is 127.0.0.1:8080; it begins with http:// or https://"),
        (["--url", "http://x", "--data", "@none.json"], "none.json cannot be read"),
        (["--url", "http://x", "--bodies", "none.jsonl"], "none.jsonl cannot be read"),
        (
            ["--url", "http://x", "--data", "{}", "--plot", "load.pdf"],
            "--plot is load.pdf; give a name that ends in .png",
        ),
        (["--url", "http://x", "--data", "{}", "--plot", "no/load.png"], "in a folder that exists"),
        (["--endpoint", "food", "--data", "{}"], "there is no endpoint food in eu-central-1"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    arguments: list[str], expected: str, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", aws.region)
    result = CliRunner().invoke(cli, ["load-test", *arguments])
    assert isinstance(result.exception, UserError)
    assert expected in str(result.exception)


def test_a_function_is_no_endpoint(no_machine: None, tmp_path: Path) -> None:
    file = written(tmp_path, f"name: food\nregion: eu-central-1\nlambda: {{image: {IMAGE}}}\n")
    result = CliRunner().invoke(cli, ["load-test", "-f", str(file), "--data", "{}"])
    assert "food is a Lambda function" in str(result.exception)


def test_a_url_without_an_answer_is_a_failure_outside() -> None:
    result = CliRunner().invoke(cli, ["load-test", "--url", f"http://127.0.0.1:{free_port()}", "--data", "{}"])
    assert "is `serve` running?" in str(result.exception)
    assert getattr(result.exception, "exit_code", None) == 1
